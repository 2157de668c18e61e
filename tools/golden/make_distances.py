"""Distances of sets of features by numpy, scipy and the authors' programs: distances.safetensors, float64.

Features are not stored: both sides make them by common.rows. Where scipy's square root of a singular product is good
to few digits, singular values of the centred rows stand in its place, which is the same number.
"""
import os

import numpy as np
import scipy.linalg
from safetensors.numpy import save_file

import common
from common import numbers, rows


def gaussian(x):
    return x.astype(np.float64).mean(0), np.cov(x.astype(np.float64), rowvar=False)


def by_sqrtm(a, b):
    (mu_a, c_a), (mu_b, c_b) = gaussian(a), gaussian(b)
    root = scipy.linalg.sqrtm(c_a @ c_b)
    return (mu_a - mu_b) @ (mu_a - mu_b) + np.trace(c_a) + np.trace(c_b) - 2 * np.trace(root).real


def by_singular_values(a, b):
    a, b = a.astype(np.float64), b.astype(np.float64)
    apart = a.mean(0) - b.mean(0)
    x, y = ((f - f.mean(0)) / np.sqrt(len(f) - 1) for f in (a, b))
    return apart @ apart + (x * x).sum() + (y * y).sum() - 2 * scipy.linalg.svdvals(x @ y.T).sum()


def frechet(tensors):
    a, b = rows("a", 60, 12, 1.0), rows("b", 50, 12, 0.5)
    tensors["frechet.times"] = by_sqrtm(np.repeat(a, np.arange(60) % 3, 0), np.repeat(b, (np.arange(50) + 1) % 4, 0))
    tensors["frechet.mixed"] = by_singular_values(rows("a", 200, 24, 1.0), rows("b", 9, 24, 0.5))
    tensors["frechet.few"] = by_singular_values(rows("a", 9, 24, 1.0), rows("b", 14, 24, 0.5))
    for x in (a, b):
        x[:, 3] = 0.1
        x[:, 7] = 0
    tensors["frechet.constant"] = by_singular_values(a, b)
    for x in (a, b):
        x[:, 7] = x[:, 5]
    tensors["frechet.twice"] = by_singular_values(a, b)


def fd_infinity(a, b, distance):
    """dgm-eval's compute_FD_infinity, by a generator that has a seed."""
    n, random, distances = len(a), np.random.RandomState(2020), []
    sizes = np.linspace(min(5000, max(n // 10, 2)), n, 15).astype("int32")
    for size in sizes:
        distances.append(distance(a[random.permutation(n)[:size]], b))
    return np.polynomial.polynomial.polyfit(1 / sizes, distances, 1)[0]


def cmmd(a, b):
    """With a kernel as it is written, every pair with every other."""
    a, b = (x.astype(np.float64) / np.linalg.norm(x.astype(np.float64), axis=1, keepdims=True) for x in (a, b))

    def mean(x, y):
        square = (x * x).sum(1)[:, None] + (y * y).sum(1)[None] - 2 * x @ y.T
        return np.exp(-square / (2 * 10**2)).mean()

    return 1000 * (mean(a, a) + mean(b, b) - 2 * mean(a, b))


def prdc():
    from prdc import compute_prdc

    found = compute_prdc(real_features=rows("b", 1300, 7, 0.9), fake_features=rows("a", 600, 7, 1.0), nearest_k=5)
    return np.array([float(found[key]) for key in ("precision", "recall", "density", "coverage")])


def aesthetic():
    """Layer by layer, as the predictor does it."""
    x = rows("embeddings", 5, 768, 1.0).astype(np.float64)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    widths = [768, 1024, 128, 64, 16, 1]
    for i, layer in enumerate((0, 2, 4, 6, 7)):
        inputs, outputs = widths[i], widths[i + 1]
        weight = (4 * numbers(f"layers.{layer}.weight", outputs * inputs) / np.sqrt(inputs)).astype(np.float32)
        bias = numbers(f"layers.{layer}.bias", outputs).astype(np.float32)
        x = x @ weight.astype(np.float64).reshape(outputs, inputs).T + bias.astype(np.float64)
    return x[:, 0]


def cosines():
    x, y = (rows(name, 6, 40, 1.0).astype(np.float64) for name in ("images", "texts"))
    return (x * y).sum(1) / np.linalg.norm(x, axis=1) / np.linalg.norm(y, axis=1)


def main():
    tensors = {}
    frechet(tensors)
    tensors["fd_infinity.many"] = fd_infinity(rows("a", 300, 12, 1.0), rows("b", 200, 12, 0.5), by_sqrtm)
    tensors["fd_infinity.few"] = fd_infinity(rows("a", 80, 24, 1.0), rows("b", 20, 24, 0.5), by_singular_values)
    tensors["cmmd.small"] = cmmd(rows("a", 60, 12, 1.0), rows("b", 50, 12, 0.5))
    tensors["cmmd.blocks"] = cmmd(rows("a", 2600, 9, 1.0), rows("b", 530, 9, 0.9))
    tensors["prdc"] = prdc()
    tensors["aesthetic"] = aesthetic()
    tensors["cosines"] = cosines()
    path = os.path.join(common.ROOT, "distances.safetensors")
    save_file({k: np.atleast_1d(np.asarray(v, np.float64)) for k, v in tensors.items()}, path)
    os.chmod(path, 0o644)


if __name__ == "__main__":
    main()
