#!/usr/bin/env python3
"""tests/golden/checkpoints: the same tensors as torch.save writes them in its several forms, and as safetensors."""
import collections
import os

import torch

import common


class Callback:
    """What PyTorch Lightning leaves in a checkpoint: objects of classes that a reader does not have."""


def tensors(g):
    base = common.random_tensor(g, 6, 5)
    return collections.OrderedDict(
        f32=base, f16=common.random_tensor(g, 3, 4).half(), bf16=common.random_tensor(g, 3, 4).bfloat16(),
        f64=common.random_tensor(g, 2).double(), i64=torch.arange(7), i32=torch.arange(5, dtype=torch.int32),
        u8=torch.arange(3, dtype=torch.uint8), bool=torch.tensor([True, False]), scalar=torch.tensor(2.5),
        empty=torch.zeros(0, 3), transposed=base.t(), rows=base[2:4], columns=base[:, 1:3],
        parameter=torch.nn.Parameter(common.random_tensor(g, 2, 2)))


def main():
    folder = common.case_folder("checkpoints")

    def path(name):
        return os.path.join(folder, name)
    weights = tensors(common.generator(71))
    whole = {"epoch": 1, "global_step": 875000, "state_dict": weights, "name": "tiny",
             "callbacks": {Callback: {"best": Callback()}}, "rates": [0.1, {"none": None, "large": 1 << 80}]}
    torch.save(whole, path("zip.ckpt"))
    torch.save(whole, path("legacy.ckpt"), _use_new_zipfile_serialization=False)
    torch.save(whole, path("protocol4.ckpt"), pickle_protocol=4)
    torch.save(weights, path("bare.bin"))
    common.write_tensors(path("tensors.safetensors"), {
        name: t.to(torch.uint8) if t.dtype == torch.bool else t for name, t in weights.items()})

    # Types without a storage class of their own, which the call that makes the tensor names: all codes of both.
    codes = torch.arange(256, dtype=torch.uint8).reshape(16, 16)
    eight = {"e4m3": codes.view(torch.float8_e4m3fn), "e5m2": codes.view(torch.float8_e5m2),
             "columns": codes.view(torch.float8_e5m2)[:, 1:3]}
    torch.save({"state_dict": eight}, path("float8.ckpt"))
    torch.save(eight, path("float8_legacy.ckpt"), _use_new_zipfile_serialization=False)
    common.write_tensors(path("float8.safetensors"), eight)


if __name__ == "__main__":
    main()
