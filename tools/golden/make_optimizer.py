"""AdamW with moments in 8 bits: bitsandbytes' maps, codes and one sequence of updates. See README.md.

Needs bitsandbytes 0.50.2. Its optimiser does not run on a CPU, so the update between decoding and coding is written out
here in float32. Codes are those of its portable implementation, the nearest ones, as in its CUDA kernel: its CPU kernel
rounds to 16 bits first and so makes 2e-5 of 0.
"""
import os

import torch
import bitsandbytes.functional as bnb

from common import ROOT, write_tensors

BLOCK, COUNT, STEPS = 256, 1000, 4  # the last block is short
LR, BETA1, BETA2, EPSILON, DECAY, EMA = 1e-2, 0.9, 0.999, 1e-8, 1e-2, 0.95


def quantize(moment, code):
    portable = torch._C.DispatchKeySet(torch._C.DispatchKey.CompositeExplicitAutograd)
    return torch.ops.bitsandbytes.quantize_blockwise.default.redispatch(portable, moment, code, BLOCK)


def main():
    torch.manual_seed(11)
    first_map, second_map = bnb.create_dynamic_map(signed=True), bnb.create_dynamic_map(signed=False)
    # Magnitudes over many decades, as gradients have them, and some that are zero.
    gradients = torch.randn(STEPS, COUNT) * 10 ** (torch.rand(COUNT) * 5 - 5)
    gradients[:, ::97] = 0
    weight = torch.randn(COUNT)
    tensors = {"first_map": first_map, "second_map": second_map, "gradients": gradients, "initial": weight}
    ema, m, v = weight.clone(), torch.zeros(COUNT), torch.zeros(COUNT)
    for step in range(STEPS):
        g = gradients[step]
        m = m + (1 - BETA1) * (g - m)
        v = BETA2 * v + (1 - BETA2) * g * g
        correction1, correction2 = 1 - BETA1 ** (step + 1), 1 - BETA2 ** (step + 1)
        weight = weight * (1 - LR * DECAY) - LR / correction1 * m / (v.sqrt() / correction2 ** 0.5 + EPSILON)
        ema = EMA * ema + (1 - EMA) * weight
        for name, moment, code in (("first", m, first_map), ("second", v, second_map)):
            codes, scales = quantize(moment, code)
            tensors[f"{name}_codes.{step}"], tensors[f"{name}_scales.{step}"] = codes, scales
            moment.copy_(bnb.dequantize_blockwise(codes, absmax=scales, code=code, blocksize=BLOCK))
        tensors[f"weight.{step}"], tensors[f"ema.{step}"] = weight.clone(), ema.clone()
    write_tensors(os.path.join(ROOT, "optimizer.safetensors"), tensors)


if __name__ == "__main__":
    main()
