"""What all golden scripts share: where files go, how models get their random weights, how tensors are written.

Every script is seeded and single-threaded, so running it again gives the same files up to the last bit of a few
floating-point sums. References are computed in float64 from the float32 weights in the file and stored as float32:
the result then carries no rounding of PyTorch's own, and a test's tolerance is about the program under test alone.
"""
import copy
import json
import math
import os
import shutil

import numpy as np
import torch
from safetensors.torch import save_file

torch.set_num_threads(1)
torch.use_deterministic_algorithms(True)

ROOT = os.path.normpath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "tests", "golden"))


def case_folder(name):
    """An empty folder tests/golden/NAME; what an earlier run left there is removed."""
    path = os.path.join(ROOT, name)
    shutil.rmtree(path, ignore_errors=True)
    os.makedirs(path)
    return path


def write_tensors(path, tensors):
    """Writes a dict of tensors; float64 is kept, so convert first where float32 is meant."""
    save_file({name: t.detach().contiguous().clone() for name, t in tensors.items()}, path)
    os.chmod(path, 0o644)


def save_model(model, folder):
    """config.json and the weights as save_pretrained writes them, readable by all."""
    model.save_pretrained(folder)
    for name in os.listdir(folder):
        os.chmod(os.path.join(folder, name), 0o644)


def write_json(path, value):
    with open(path, "w") as f:
        json.dump(value, f, indent=2)
        f.write("\n")


def random_tensor(generator, *shape):
    return torch.randn(*shape, generator=generator, dtype=torch.float32)


def generator(seed):
    return torch.Generator().manual_seed(seed)


def randomise(model, seed):
    """Gives every parameter a random value, those that are usually 0 or 1 too (biases, norm weights), so that a
    forgotten bias or a norm without its weight shows. Matrices and kernels keep the variance of their input."""
    g = generator(seed)
    with torch.no_grad():
        for name, p in sorted(model.named_parameters()):
            if name.endswith("bias"):
                p.copy_(0.2 * random_tensor(g, *p.shape))
            elif "embedding" in name and p.dim() == 2 and "time_embedding" not in name and "add_emb" not in name:
                p.copy_(0.7 * random_tensor(g, *p.shape))
            elif p.dim() == 1:
                p.copy_(1 + 0.2 * random_tensor(g, *p.shape))
            else:
                # queries and keys twice as large: a softmax that is far from uniform
                gain = 2 if any(key in name for key in ("to_q", "to_k", "q_proj", "k_proj")) else 1
                p.copy_(gain * random_tensor(g, *p.shape) / math.sqrt(p[0].numel()))
    return model.eval()


def double_of(model):
    """The same model in float64, for references."""
    return copy.deepcopy(model).double()


def numbers(name, count):
    """`count` numbers in [-1/2, 1/2), 24 bits each, that follow from a name."""
    seed = 2166136261
    for byte in name.encode():
        seed = (seed ^ byte) * 16777619 % 2**32
    with np.errstate(over="ignore"):
        h = np.arange(count, dtype=np.uint32) * np.uint32(2654435761) + np.uint32(seed)
        h ^= h >> np.uint32(16)
        h *= np.uint32(0x85EBCA6B)
        h ^= h >> np.uint32(13)
        h *= np.uint32(0xC2B2AE35)
        h ^= h >> np.uint32(16)
    return (h >> np.uint32(8)).astype(np.float64) / 2**24 - 0.5


def rows(name, count, width, factor):
    """factor u + v^2 of the numbers of NAME and NAME', float32 [count,width]."""
    return (factor * numbers(name, count * width) + numbers(name + "'", count * width) ** 2).astype(
        np.float32).reshape(count, width)


def picture(width, height):
    """[height,width,3] of 0..255 by a formula."""
    y, x = np.mgrid[0:height, 0:width]
    return np.stack([(x * 7 + y * 13 + c * 50) ^ (x * y) for c in range(3)], -1).astype(np.int64) % 256
