"""Quantised blocks and a file of them, by llama.cpp's own Python package. See README.md.

gguf/blocks.safetensors   of each type random blocks as bytes, NAME, and what they stand for, NAME.values
gguf/file.gguf            tensors of several types and ranks, with entries of several types
gguf/file.safetensors     what they stand for"""
import os

import gguf
import numpy as np
import torch

from common import ROOT, write_tensors

TYPES = ["Q8_0", "Q5_1", "Q5_0", "Q4_1", "Q4_0", "Q4_K", "Q5_K", "Q6_K"]
HALVES = {"Q8_0": [0], "Q5_1": [0, 2], "Q5_0": [0], "Q4_1": [0, 2], "Q4_0": [0], "Q4_K": [0, 2], "Q5_K": [0, 2],
          "Q6_K": [208]}  # where f16 lie


def random_blocks(name, count, rng):
    elements, size = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[name]]
    blocks = rng.integers(0, 256, (count, size), dtype=np.uint8)
    for at in HALVES[name]:
        scales = (rng.standard_normal((count, 1)) * 0.01).astype(np.float16)
        blocks[:, at:at + 2] = scales.view(np.uint8)
    return blocks.reshape(1, -1)


def main():
    rng = np.random.default_rng(7)
    folder = os.path.join(ROOT, "gguf")
    os.makedirs(folder, exist_ok=True)
    blocks = {}
    for name in TYPES:
        data = random_blocks(name, 5, rng)
        values = gguf.quants.dequantize(data, gguf.GGMLQuantizationType[name]).astype(np.float32)
        blocks[name] = torch.from_numpy(data.reshape(-1).copy())
        blocks[name + ".values"] = torch.from_numpy(values.reshape(-1).copy())
    write_tensors(os.path.join(folder, "blocks.safetensors"), blocks)

    writer = gguf.GGUFWriter(os.path.join(folder, "file.gguf"), "sd")
    writer.add_string("model.title", "a test")
    writer.add_uint32("some.number", 7)
    writer.add_array("some.texts", ["one", "two"])
    writer.add_array("some.numbers", [1, 2, 3])
    writer.add_bool("some.flag", True)
    values = {}

    def add(name, array, kind):
        array = array.astype(np.float32)
        data = gguf.quants.quantize(array, kind) if kind.name[0] == "Q" or kind.name == "BF16" else \
            array.astype(np.float16 if kind.name == "F16" else np.float32)
        writer.add_tensor(name, data, raw_dtype=kind)
        values[name] = torch.from_numpy(gguf.quants.dequantize(data, kind).reshape(array.shape).astype(np.float32))

    of = gguf.GGMLQuantizationType
    add("bias", rng.standard_normal(5), of.F32)
    add("half.weight", rng.standard_normal((3, 7)), of.F16)
    add("brain.weight", rng.standard_normal((2, 32)), of.BF16)
    add("eight.weight", rng.standard_normal((3, 64)), of.Q8_0)
    add("four.weight", rng.standard_normal((2, 32)), of.Q4_0)
    add("convolution.weight", rng.standard_normal((4, 2, 3, 3)), of.F16)
    laid_out = rng.standard_normal((4, 2, 8, 8))  # as ComfyUI-GGUF writes what is no multiple of a block
    add("laid_out.weight", laid_out.reshape(2, 256), of.Q8_0)
    values["laid_out.weight"] = values["laid_out.weight"].reshape(4, 2, 8, 8)
    writer.add_array("comfy.gguf.orig_shape.laid_out.weight", [4, 2, 8, 8])
    add("pos_embed", rng.standard_normal((4, 8)), of.F32)
    values["pos_embed"] = values["pos_embed"][None]
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    write_tensors(os.path.join(folder, "file.safetensors"), values)


if __name__ == "__main__":
    main()
