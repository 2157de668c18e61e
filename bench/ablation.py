#!/usr/bin/env python3
"""What each choice of a distillation does to trajectory error, on the emoji teacher, over several seeds.

    python3 bench/ablation.py --folder WORK [--seeds 0,1,2] [--steps 150] [--only NAME,...] [--table]

Every run is `splam distill` with the settings of BASE but for one of them, then `splam eval --metrics trajectory-error`
of its averaged weights. A run's row goes to bench/ablation.csv when it is done, and a run that has a row is not made
again, so the script can be stopped at any time, and several may run side by side, each with seeds and a folder of its
own. Rows from before trajectory error have ode_error_N instead, the distance between ends of deterministic chains, and
do not count as done. Every run's metrics.jsonl stays in WORK/metrics, and with --keep its student in WORK/students.
--table prints the rows so far as Markdown: means over the seeds, and how far each seed lies from the first line's.
Nothing but Python's own library is needed. A run takes about a minute on two cores, and there are as many as
VARIANTS has lines, times the seeds.
"""
import argparse
import os
import re
import shutil
import statistics
import sys

import students
from students import EVALUATED, ROOT

TABLE = os.path.join(ROOT, "bench", "ablation.csv")

BASE = {"objective": "splam", "gamma-conditioning": "time", "sigma": "linear", "gamma-power": "0.3", "skip": "150",
        "num-ddim-timesteps": "50", "ema-decay": "0.95", "learning-rate": "1e-4", "guidance-scale-w": "2",
        "train-batch-size": "32"}
# What an objective other than splam does not take.
PLAIN = {"gamma-conditioning": None, "sigma": None, "gamma-power": None}
# (what is varied, name, the settings that differ; None: that flag is left out, True: it has no value)
VARIANTS = [
    ("base", "linear, u^.3", {}),
    ("sigma", "quadratic", {"sigma": "quadratic"}),
    ("sigma", "quadratic; uniform, 1 half the time", {"sigma": "quadratic", "gamma-power": "1",
                                                      "gamma-one-probability": "0.5"}),
    ("conditioning", "embedding, linear", {"gamma-conditioning": "embedding"}),
    ("conditioning", "embedding, quadratic", {"gamma-conditioning": "embedding", "sigma": "quadratic"}),
    ("gamma", "uniform", {"gamma-power": "1"}),
    ("gamma", "u^.1", {"gamma-power": "0.1"}),
    ("gamma", "uniform, 1 half the time", {"gamma-power": "1", "gamma-one-probability": "0.5"}),
    ("gamma", "a grid of 4", {"gamma-power": "1", "gamma-grid": "4"}),
    ("gamma", "always 1 (lcm)", {"objective": "lcm", **PLAIN}),
    ("ema", "0", {"ema-decay": "0"}),
    ("ema", ".9", {"ema-decay": "0.9"}),
    ("ema", ".99", {"ema-decay": "0.99"}),
    ("points", "M = 50, K = 20", {"skip": "20"}),
    ("points", "M = 20, K = 50", {"num-ddim-timesteps": "20", "skip": "50"}),
    ("points", "M = 10, K = 100", {"num-ddim-timesteps": "10", "skip": "100"}),
    ("points", "M = 5, K = 200", {"num-ddim-timesteps": "5", "skip": "200"}),
    ("points", "M = 200, K = 150", {"num-ddim-timesteps": "200"}),
    ("objective", "pcm, 4 phases", {"objective": "pcm", "phases": "4", **PLAIN}),
    ("objective", "tcd", {"objective": "tcd", **PLAIN}),
    ("objective", "progressive, 16 to 4 steps", {"objective": "progressive", "num-ddim-timesteps": "16", "rounds": "2",
                                                 "skip": None, **PLAIN}),
    ("training", "f32", {"mixed-precision": "no"}),
    ("training", "8-bit moments", {"optimizer": "adamw8bit"}),
    ("training", "LoRA of rank 32", {"lora-rank": "32", "lora-merged": True, "learning-rate": "1e-3"}),
]


# Error over the whole trajectory, and at the timesteps of n steps.
ERRORS = ("trajectory_error_mean", *(f"trajectory_error_{n}" for n in EVALUATED))


def columns():
    return ["varied", "name", "seed", "steps", *(f"ode_error_{n}" for n in EVALUATED), *ERRORS, "seconds", "version"]


def measured(rows):
    return [row for row in rows if row["trajectory_error_mean"]]


def run(a, varied, name, changes, seed):
    settings = {**BASE, **changes}
    short = "-".join(re.sub("[^a-z0-9.]+", "-", part.lower()).strip("-") for part in (varied, name, str(seed)))
    student = os.path.join(a.folder, "students", short) if a.keep else os.path.join(a.folder, "student")
    seconds = students.distil(a, a.teacher, student, settings, a.steps, seed)
    os.makedirs(os.path.join(a.folder, "metrics"), exist_ok=True)
    shutil.copy(os.path.join(student, "metrics.jsonl"), os.path.join(a.folder, "metrics", short + ".jsonl"))
    possible = [n for n in EVALUATED if n <= int(settings["num-ddim-timesteps"])]
    report = students.evaluate(a, [student], os.path.join(a.folder, f"report-{seed}"), "trajectory-error", possible,
                               seed, ["--teacher", a.teacher, "--unet", "unet_ema"])
    rows = [row for row in report["rows"] if row["model"] != "teacher"]
    errors = {f"trajectory_error_{row['steps']}": row["trajectory_error"] for row in rows}
    errors["trajectory_error_mean"] = rows[0]["trajectory_error_mean"]
    students.add_row(TABLE, columns(), {
        "varied": varied, "name": name, "seed": seed, "steps": a.steps, "seconds": f"{seconds:.3f}",
        "version": students.version(a.splam), **{key: f"{value:.5f}" for key, value in errors.items()}})


def print_table(rows):
    """Means over the seeds; the first line with their range, the others with that of the change from it, seed by
    seed."""
    of = {(row["varied"], row["name"], row["seed"]): row for row in measured(rows)}
    steps = " | ".join(f"{n} step{'s' * (n > 1)}" for n in EVALUATED)
    print(f"| varied | setting | mean | {steps} | seeds |")
    print("|---|---|" + "---|" * (len(ERRORS) + 1))
    for varied, name, changes in VARIANTS:
        seeds = [seed for v, n, seed in of if (v, n) == (varied, name)]
        if not seeds:
            continue
        cells = []
        for column in ERRORS:
            values = {seed: float(of[varied, name, seed][column]) for seed in seeds if of[varied, name, seed][column]}
            base = {seed: of.get((*VARIANTS[0][:2], seed)) for seed in values}
            off = [100 * (v / float(base[seed][column]) - 1) for seed, v in values.items() if base[seed]]
            spread = f"{min(off):+.0f} to {max(off):+.0f} %" if changes and off else ""
            if not changes and values:
                spread = f"{min(values.values()):.4f}-{max(values.values()):.4f}"
            cells.append(f"{statistics.mean(values.values()):.4f} ({spread})" if values else "")
        print(f"| {varied} | {name} | " + " | ".join(cells) + f" | {len(seeds)} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    students.add_arguments(parser)
    parser.add_argument("--teacher", default=os.path.join(ROOT, "assets", "teacher"))
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--only", help="what is varied, with commas")
    parser.add_argument("--keep", action="store_true", help="keep the students")
    parser.add_argument("--table", action="store_true", help="print the rows so far, run nothing")
    a = parser.parse_args()
    if a.table:
        return print_table(students.read_rows(TABLE))
    if not a.folder:
        parser.error("--folder is needed")
    os.makedirs(a.folder, exist_ok=True)
    for seed in map(int, a.seeds.split(",")):
        for varied, name, changes in VARIANTS:
            done = {(row["varied"], row["name"], int(row["seed"]), int(row["steps"]))
                    for row in measured(students.read_rows(TABLE))}
            if (varied, name, seed, a.steps) in done or a.only and varied not in a.only.split(","):
                continue
            print(f"== {varied}: {name}, seed {seed}", file=sys.stderr, flush=True)
            run(a, varied, name, changes, seed)
    print_table(students.read_rows(TABLE))


if __name__ == "__main__":
    main()
