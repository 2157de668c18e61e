#!/usr/bin/env python3
"""Scores of two folders of pictures by splam and by the tools of the field, with the same random weights.

    score.py SPLAM figures [--count 1000] [--only TOOL,...] [--work FOLDER] [--csv FILE]
    score.py SPLAM speed [--count 200] [--only TOOL,...] [--work FOLDER] [--csv FILE]

A and B are --count pictures each of the emoji data set, 256 to 640 pixels in eight steps, A as PNG and B as JPEG, made
by splam (bench/pictures beside it); weights are by the formula of tools/golden/make_inception.py. Of the kinds of file
that readers differ on (grey, transparency, CMYK, 16 bits, EXIF) tests/test_score.c has goldens.

figures   what each tool prints beside what splam prints by its convention; and beside the distance of the tool's own
          features without a matrix square root, which is good to few digits where there are fewer pictures than
          features (docs/decisions.md)
speed     seconds: of splam the whole process, distance and weights and all; of a tool the pictures' features alone,
          without imports, weights and distance. Each tool runs in a process of its own, right before splam by the same
          convention; peak memory is the largest process's. A tool gets batches and workers (below) as it is fastest
          with on two cores; files of a size follow each other, for tools that cannot mix sizes in a batch.

--csv appends a line for each to a file, bench/score.csv if it says nothing. --work keeps pictures and weights for the
next call. Needs pytorch-fid 0.3.0, clean-fid 0.1.35, torch-fidelity 0.4.0, torchmetrics 1.9.0 and scipy 1.17.
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

from distances import run

HERE = os.path.dirname(os.path.abspath(__file__))
SIZES = 8
COLUMNS = ("date", "machine", "threads", "tool", "version", "convention", "pictures", "score", "tool_value", "value",
           "exact_value", "tool_seconds", "seconds", "tool_peak_rss_bytes", "peak_rss_bytes")
# (convention, package, workers that read files, the largest batch; 0: all of a size)
TOOLS = {
    "pytorch-fid": ("pytorch", "pytorch-fid", 2, 50),
    "clean-fid legacy_pytorch": ("pytorch", "clean-fid", 2, 50),
    "clean-fid clean": ("clean", "clean-fid", 2, 50),
    "torch-fidelity": ("tensorflow", "torch-fidelity", 0, 50),
    "torchmetrics": ("torchmetrics", "torchmetrics", 0, 1),
}
SCORES = {"torch-fidelity": {"fid": "fid", "kid": "kid_mean", "is": "is_mean"}}


# ---- the tools, each in a process of its own ----

def files(folder):
    return sorted(os.path.join(folder, name) for name in os.listdir(folder))


def batch_of(name, folder):
    """The largest that is no more than the tool's and divides the pictures of a size."""
    each, batch = len(os.listdir(folder)) // SIZES, TOOLS[name][3]
    return max(n for n in range(1, batch + 1) if each % n == 0)


def network(weights):
    import torch
    from pytorch_fid import inception

    inception.load_state_dict_from_url = lambda *a, **k: torch.load(weights)
    return inception.InceptionV3([3]).eval()


def pytorch_fid(name, weights):
    from pytorch_fid.fid_score import get_activations

    model = network(weights)
    return lambda folder: get_activations(files(folder), model, batch_of(name, folder), 2048, "cpu", TOOLS[name][2])


def clean_fid(name, weights):
    """Its own reading and resizing, and the network of the same layout."""
    import torch
    from cleanfid import fid

    model, mode = network(weights), name.split()[1]
    model.resize_input, model.normalize_input = False, mode != "clean"

    def run(x):
        return model((x - 128) / 128 if mode == "clean" else x / 255)[0].flatten(1)

    return lambda folder: fid.get_folder_features(folder, run, TOOLS[name][2], batch_size=batch_of(name, folder),
                                                  device=torch.device("cpu"), mode=mode, verbose=False)


def torch_fidelity(name, weights):
    """What it prints, which it makes of two folders at once."""
    import torch_fidelity as tool

    def run(a, b=None, **scores):
        return tool.calculate_metrics(input1=a, input2=b, cuda=False, batch_size=batch_of(name, a), verbose=False,
                                      cache=False, feature_extractor_weights_path=weights, **scores)

    return run


def torchmetrics(name, weights):
    import torch
    from PIL import Image
    from torchmetrics.image.fid import FrechetInceptionDistance

    metric = FrechetInceptionDistance(feature=2048, feature_extractor_weights_path=weights)

    def features(folder):
        rows = []
        for path in files(folder):
            rgb = torch.from_numpy(np.array(Image.open(path).convert("RGB")).transpose(2, 0, 1)[None].copy())
            with torch.no_grad():
                rows.append(metric.inception(rgb).numpy())
        return np.concatenate(rows)

    return features


def features_of(name, weights):
    maker = {"pytorch-fid": pytorch_fid, "clean-fid": clean_fid, "torch-fidelity": torch_fidelity,
             "torchmetrics": torchmetrics}[TOOLS[name][1]]
    return maker(name, weights)


def exact(a, b):
    """The distance of these features without a matrix square root."""
    centred = [(f - f.mean(0)) / np.sqrt(len(f) - 1) for f in (a.astype(np.float64), b.astype(np.float64))]
    apart = a.astype(np.float64).mean(0) - b.astype(np.float64).mean(0)
    root = np.linalg.svd(centred[0] @ centred[1].T, compute_uv=False).sum()
    return apart @ apart + sum((f * f).sum() for f in centred) - 2 * root


def tools_distance(name, a, b):
    if name == "torchmetrics":
        from torchmetrics.image.fid import _compute_fid
        import torch

        moments = [torch.from_numpy(m) for f in (a.astype(np.float64), b.astype(np.float64))
                   for m in (f.mean(0), np.cov(f, rowvar=False))]
        return float(_compute_fid(*moments))
    if name == "pytorch-fid":
        from pytorch_fid.fid_score import calculate_frechet_distance

        moments = [m for f in (a, b) for m in (np.mean(f, axis=0), np.cov(f, rowvar=False))]
        return calculate_frechet_distance(*moments)
    from cleanfid import fid

    return fid.fid_from_feats(a, b)


def fidelity_figures(run, a, b):
    found = run(a, b, fid=True, kid=True, isc=True, kid_subset_size=len(os.listdir(a)) // 2)
    return {"fid": found["frechet_inception_distance"], "kid_mean": found["kernel_inception_distance_mean"],
            "is_mean": found["inception_score_mean"]}


def run_tool(name, what, a, b, weights):
    import torch

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    torch.set_grad_enabled(False)
    features, began = features_of(name, weights), time.time()
    if what == "speed":
        for folder in (a, b):
            features(folder, **({"isc": True} if name == "torch-fidelity" else {}))
        return print(json.dumps({"seconds": time.time() - began}))
    if name == "torch-fidelity":
        return print(json.dumps(fidelity_figures(features, a, b)))
    rows = [features(folder) for folder in (a, b)]
    print(json.dumps({"fid": float(tools_distance(name, *rows)), "exact": float(exact(*rows))}))


# ---- both sides ----


def by_tool(name, what, paths):
    text, _, _, peak = run([sys.executable, __file__, "tool", name, what, *paths])
    return json.loads(text.splitlines()[-1]), peak


def by_splam(a, name, metrics, paths):
    text, seconds, _, peak = run([a.splam, "score", *paths[:2], "--inception", paths[2], "--convention", TOOLS[name][0],
                               "--metrics", metrics, "--kid-subset-size", str(a.count // 2), "--json",
                               "-t", str(a.threads)])
    return json.loads(text), seconds, peak


def figures(a, name, paths):
    keys = SCORES.get(name, {"fid": "fid"})
    ours, _, _ = by_splam(a, name, ",".join(keys), paths)
    theirs, _ = by_tool(name, "figures", paths)
    for score, key in keys.items():
        yield {"score": score, "value": ours[key], "tool_value": theirs[key],
               "exact_value": theirs.get("exact") if score == "fid" else None}


def speed(a, name, paths):
    theirs, tool_peak = by_tool(name, "speed", paths)
    _, seconds, peak = by_splam(a, name, "fid", paths)
    yield {"score": "speed", "tool_seconds": theirs["seconds"], "seconds": seconds, "tool_peak_rss_bytes": tool_peak,
           "peak_rss_bytes": peak}


def prepare(a, folder):
    """Paths of A, B and the weights, made where they are not there yet."""
    maker = os.path.join(os.path.dirname(a.splam), "..", "bench", "pictures")
    paths = [os.path.join(folder, name) for name in (f"a{a.count}", f"b{a.count}", "pt_inception.pth")]
    for i, (path, kind) in enumerate(zip(paths, ("png", "jpg"))):
        if not os.path.exists(path):
            subprocess.run([maker, path, str(a.count), str(i * 1800), kind], check=True)
    if not os.path.exists(paths[2]):
        script = os.path.join(HERE, "..", "..", "tools", "golden", "make_inception.py")
        subprocess.run([sys.executable, script, "weights", paths[2]], check=True)
    return paths


def version(name):
    package = TOOLS[name][1]
    torch = importlib.metadata.version("torch")
    return f"{importlib.metadata.version(package)}, torch {torch}, scipy {importlib.metadata.version('scipy')}"


def say(row):
    if row["score"] == "speed":
        each = [2 * row["pictures"] / row[key] for key in ("tool_seconds", "seconds")]
        print(f"{row['tool']:26} {each[0]:6.2f} pictures/s, splam {each[1]:6.2f}, {each[1] / each[0]:.2f} x; "
              f"{row['tool_peak_rss_bytes'] / 1e9:.2f} GB, splam {row['peak_rss_bytes'] / 1e9:.2f}", flush=True)
        return
    own, more = row["exact_value"], ""
    if own:
        more = f"; of its features {own:.10g}, apart {abs(row['value'] / own - 1):.1e}"
    print(f"{row['tool']:26} {row['score']:4} {row['tool_value']:.10g}, splam {row['value']:.10g}, apart "
          f"{abs(row['value'] / row['tool_value'] - 1):.1e}{more}", flush=True)


def main():
    if sys.argv[1:2] == ["tool"]:
        return run_tool(*sys.argv[2:])
    from sd import machine

    parser = argparse.ArgumentParser()
    parser.add_argument("splam")
    parser.add_argument("what", choices=("figures", "speed"))
    parser.add_argument("--count", type=int)
    parser.add_argument("--only", default=",".join(TOOLS))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--work")
    parser.add_argument("--csv", nargs="?", const=os.path.join(HERE, "..", "score.csv"))
    a = parser.parse_args()
    a.splam, a.count = os.path.abspath(a.splam), a.count or (1000 if a.what == "figures" else 200)
    os.environ["OMP_NUM_THREADS"] = str(a.threads)
    about = {"date": datetime.date.today().isoformat(), "machine": machine()[0], "threads": a.threads}
    new = a.csv and not os.path.exists(a.csv)
    with tempfile.TemporaryDirectory() as folder, open(a.csv or os.devnull, "a", newline="") as f:
        paths = prepare(a, a.work or folder)
        writer = csv.DictWriter(f, COLUMNS, lineterminator="\n")
        if new:
            writer.writeheader()
        for name in a.only.split(","):
            for row in {"figures": figures, "speed": speed}[a.what](a, name, paths):
                row.update(about, tool=name, version=version(name), convention=TOOLS[name][0], pictures=a.count)
                say(row)
                writer.writerow({key: f"{value:.12g}" if isinstance(value, float) else value
                                 for key, value in row.items()})
                f.flush()


if __name__ == "__main__":
    main()
