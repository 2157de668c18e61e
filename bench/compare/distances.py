#!/usr/bin/env python3
"""Distances of sets of features at the size that papers report, by splam and by the tools of the field, in one run.

    distances.py SPLAM [--count 30000] [--only fid,kid,prdc,cmmd,fd_infinity] [--threads 2] [--no-tools] [--csv FILE]

Makes features like Inception's (2,048 numbers that are not negative, of a falling spectrum) and embeddings of 768 in
files, and gives each side the same files and as many threads. Seconds are of the arithmetic, by the clock and of the
processor, which are what counts with one thread on a machine that has other work: of splam the whole process, of the
tools what follows imports and reading the file. Peak memory is the process's, features and all.
    fid          pytorch-fid's: numpy's covariances and scipy's square root of their product (clean-fid's is the same)
    kid          torch-fidelity's, 100 subsets of 1,000
    prdc         its authors', of 10,000 rows each
    cmmd         the formula of the PyTorch port, in f32, of 10,000 rows each: it holds every pair in memory
    fd_infinity  15 Frechet distances; dgm-eval's takes 15 times pytorch-fid's time, and is not run
--csv appends a line for each to a file, bench/distances.csv if it says nothing. Needs numpy, scipy 1.17, pytorch-fid
0.3.0, torch-fidelity 0.4.0 and prdc 0.2.
"""
import argparse
import csv
import datetime
import importlib.metadata
import json
import os
import subprocess
import sys
import tempfile
import time

import numpy as np

HERE = os.path.dirname(os.path.abspath(__file__))
COLUMNS = ("date", "machine", "threads", "score", "count", "width", "framework", "version", "seconds",
           "processor_seconds", "peak_rss_bytes", "value")
KEYS = {"fid": "fid", "kid": "kid_mean", "prdc": "coverage", "cmmd": "cmmd", "fd_infinity": "fd_infinity"}
LIBRARIES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
ROWS = {"prdc": 10000}
TOOL_ROWS = {"cmmd": 10000}
TOOLS = {"fid": "pytorch-fid", "kid": "torch-fidelity", "prdc": "prdc", "cmmd": "torch"}


def make(path, count, width, seed):
    """Half of a mixture is turned by one matrix for both sets, which differ in scale and place."""
    rng, shared = np.random.default_rng(seed), np.random.default_rng(0)
    turn = shared.normal(size=(width, width)).astype(np.float32) / np.sqrt(width).astype(np.float32)
    scale = np.geomspace(1, 0.03, width).astype(np.float32) * (1 + 0.1 * seed)
    x = np.empty((count, width), np.float32)
    for first in range(0, count, 5000):
        z = rng.standard_normal((min(5000, count - first), width), np.float32) * scale
        x[first:first + 5000] = np.maximum(z @ turn + 0.05 * seed, 0)
    np.savez(path, feats=x)


# ---- the tools ----

def fid(a, b):
    from pytorch_fid.fid_score import calculate_frechet_distance

    a, b = a.astype(np.float64), b.astype(np.float64)
    return calculate_frechet_distance(a.mean(0), np.cov(a, rowvar=False), b.mean(0), np.cov(b, rowvar=False))


def kid(a, b):
    import torch
    from torch_fidelity.metric_kid import kid_features_to_metric

    found = kid_features_to_metric(torch.from_numpy(a), torch.from_numpy(b), kid_subsets=100, kid_subset_size=1000,
                                   rng_seed=2020, verbose=False, kid_kernel_poly_degree=3,
                                   kid_kernel_poly_gamma=None, kid_kernel_poly_coef0=1)
    return found["kernel_inception_distance_mean"]


def prdc(a, b):
    from prdc import compute_prdc

    return float(compute_prdc(real_features=b, fake_features=a, nearest_k=5)["coverage"])


def cmmd(a, b):
    import torch

    x, y = (torch.nn.functional.normalize(torch.from_numpy(f), dim=1) for f in (a, b))

    def mean(u, v):
        square = (u * u).sum(1)[:, None] + (v * v).sum(1)[None] - 2 * u @ v.T
        return torch.exp(-square / 200).mean()

    return float(1000 * (mean(x, x) + mean(y, y) - 2 * mean(x, y)))


def run_tool(name, a, b):
    import torch
    import torch_fidelity.metric_kid  # noqa: F401

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    sets = [np.load(path)["feats"] for path in (a, b)]
    if name != "kid":
        globals()[name](*(s[:64, :16] for s in sets))  # imports, and what is made at first use
    began, worked = time.time(), time.process_time()
    value = globals()[name](*sets)
    print(json.dumps({"value": float(value), "seconds": time.time() - began,
                      "processor_seconds": time.process_time() - worked}))


# ---- both sides ----

def run(line):
    """(what it printed, seconds, those of the processor, peak memory)"""
    began = time.time()
    with tempfile.TemporaryFile() as out:
        process = subprocess.Popen(line, stdout=out, stderr=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.time() - began
        if status:
            sys.exit(f"{line}: status {status}")
        out.seek(0)
        return out.read().decode(), seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024


def by_splam(a, score, paths):
    text, seconds, worked, peak = run([a.splam, "score", *paths, "--metrics", score, "--json", "-t", str(a.threads)])
    return {"framework": "splam", "seconds": seconds, "processor_seconds": worked, "peak_rss_bytes": peak,
            "value": json.loads(text)[KEYS[score]]}


def by_tool(score, paths):
    text, _, _, peak = run([sys.executable, __file__, "tool", score, *paths])
    return {"framework": TOOLS[score], "peak_rss_bytes": peak, **json.loads(text.splitlines()[-1])}


def versions(a):
    splam = subprocess.run([a.splam, "--version"], check=True, capture_output=True, text=True).stdout.split()[1]
    commit = subprocess.run(["git", "-C", HERE, "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    scipy = "scipy " + importlib.metadata.version("scipy")
    found = {name: importlib.metadata.version(name) for name in TOOLS.values()}
    return {**found, "splam": f"{splam} {commit.stdout.strip()}", "pytorch-fid": f"{found['pytorch-fid']}, {scipy}"}


def measure(a, folder):
    for score in a.only.split(","):
        width = 768 if score == "cmmd" else 2048
        for rows in sorted({ROWS.get(score, a.count), TOOL_ROWS.get(score, ROWS.get(score, a.count))}):
            paths = [os.path.join(folder, f"{name}.npz") for name in "ab"]
            for seed, path in enumerate(paths, 1):
                make(path, rows, width, seed)
            yield {"score": score, "count": rows, "width": width, **by_splam(a, score, paths)}
            if a.tools and score in TOOLS and rows == TOOL_ROWS.get(score, rows):
                yield {"score": score, "count": rows, "width": width, **by_tool(score, paths)}


def main():
    if sys.argv[1:2] == ["tool"]:
        return run_tool(*sys.argv[2:])
    from sd import machine

    parser = argparse.ArgumentParser()
    parser.add_argument("splam")
    parser.add_argument("--count", type=int, default=30000)
    parser.add_argument("--only", default=",".join(KEYS))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--no-tools", dest="tools", action="store_false")
    parser.add_argument("--csv", nargs="?", const=os.path.join(HERE, "..", "distances.csv"))
    a = parser.parse_args()
    a.splam = os.path.abspath(a.splam)
    os.environ.update({name: str(a.threads) for name in LIBRARIES})
    about = {"date": datetime.date.today().isoformat(), "machine": machine()[0], "threads": a.threads}
    known, new = versions(a), a.csv and not os.path.exists(a.csv)
    with tempfile.TemporaryDirectory() as folder, open(a.csv or os.devnull, "a", newline="") as f:
        writer = csv.DictWriter(f, COLUMNS, lineterminator="\n")
        if new:
            writer.writeheader()
        for row in measure(a, folder):
            print(f"{row['score']:12} {row['count']} x {row['width']}  {row['framework']:14} {row['seconds']:8.2f} s  "
                  f"{row['processor_seconds']:8.2f} s of the processor  "
                  f"{row['peak_rss_bytes'] / 1e9:.2f} GB  {row['value']:.12g}", flush=True)
            writer.writerow({**about, **row, "version": known[row["framework"]], "seconds": f"{row['seconds']:.4g}",
                             "processor_seconds": f"{row['processor_seconds']:.4g}",
                             "value": f"{row['value']:.12g}"})
            f.flush()


if __name__ == "__main__":
    main()
