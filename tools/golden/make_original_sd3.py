#!/usr/bin/env python3
"""tests/golden/original-sd3: what Stable Diffusion 3.5's transformer is called in a checkpoint of one file, and sums
over the tensors that the small one of transformer-sd35 has there. See README.md."""
import os
import sys

import torch
from diffusers import SD3Transformer2DModel
from diffusers.loaders.single_file_utils import convert_sd3_transformer_checkpoint_to_diffusers
from safetensors.torch import load_file

import common

sys.path.append(os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import make_random_model as full  # noqa: E402

SWAPPED = -1  # in place of a third: the halves are exchanged


def fnv(data):
    """64-bit FNV-1a."""
    value = 0xCBF29CE484222325
    for byte in data:
        value = (value ^ byte) * 0x100000001B3 % 2**64
    return value


def check_converter(weights):
    """diffusers makes the same of them again."""
    again = convert_sd3_transformer_checkpoint_to_diffusers(dict(full.original_mmdit(weights)))
    assert again.keys() == weights.keys()
    assert all(torch.equal(again[name], weights[name]) for name in weights)


def third_of(original, value):
    if torch.equal(original, value):
        return 0
    return next((i for i in range(3) if torch.equal(original.chunk(3)[i], value)), SWAPPED)


def names(folder):
    """Lines "component|diffusers name|original name|shape in the original|which third of it, or -1"."""
    with torch.device("meta"):
        model = full.new_model("sd35m", "transformer")
    shapes = {name: tuple(t.shape) for name, t in full.original_mmdit(model.state_dict()).items()}
    # The same tensors, small: six rows that differ by a number.
    stand_in = {name: torch.arange(6.0) + 10 * i for i, name in enumerate(model.state_dict())}
    original = full.original_mmdit(stand_in)
    check_converter(stand_in)
    lines = []
    for name, value in stand_in.items():
        where = next(o for o, t in original.items() if set(value.tolist()) <= set(t.tolist()))
        third = third_of(original[where], value)
        lines.append("|".join(["transformer", name, "model.diffusion_model." + where,
                               ",".join(map(str, shapes[where])), str(third)]))
    with open(os.path.join(folder, "names.txt"), "w") as f:
        f.write("\n".join(sorted(lines)) + "\n")


def sums(folder):
    """Lines "original name|shape|sum over the bytes in f32"."""
    weights = load_file(os.path.join(common.ROOT, "transformer-sd35", "diffusion_pytorch_model.safetensors"))
    assert weights.keys() == SD3Transformer2DModel.from_pretrained(
        os.path.join(common.ROOT, "transformer-sd35")).state_dict().keys()
    check_converter(weights)
    with open(os.path.join(folder, "sums.txt"), "w") as f:
        for name, t in sorted(full.original_mmdit(weights).items()):
            shape = ",".join(map(str, t.shape))
            f.write(f"model.diffusion_model.{name}|{shape}|{fnv(t.contiguous().numpy().tobytes()):016x}\n")


def main():
    folder = common.case_folder("original-sd3")
    names(folder)
    sums(folder)


if __name__ == "__main__":
    main()
