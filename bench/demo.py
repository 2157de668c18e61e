#!/usr/bin/env python3
"""Runs the demo with several seeds and writes bench/demo.csv: python3 bench/demo.py --folder WORK [--seeds 0,1,2]

A seed draws data order, noise, sub-paths, captions and what is drawn from. A seed whose WORK/SEED/report.json is there
is not run again. Python's own library is all it needs.
"""
import argparse
import csv
import json
import os
import statistics
import subprocess

import students
from students import ROOT

TABLE = os.path.join(ROOT, "bench", "demo.csv")
# Of a row of report.json: the key, the heading, digits, and by what it is multiplied.
METRICS = [("trajectory_error", "trajectory error", 4, 1), ("trajectory_error_mean", "its mean", 4, 1),
           ("frechet_teacher", "Frechet: teacher", 3, 1), ("frechet", "Frechet: real", 3, 1),
           ("hit1", "hit@1 %", 0, 100), ("hit5", "hit@5 %", 0, 100)]
COLUMNS = ["date", "machine", "threads", "row", "metric", "mean", "low", "high", "seeds"]


def report_of(a, seed):
    folder = os.path.join(a.folder, seed)
    path = os.path.join(folder, "report.json")
    if not os.path.exists(path):
        subprocess.run([a.splam, "demo", "--output", folder, "--seed", seed, *students.threads(a)], check=True)
    with open(path) as f:
        return json.load(f)


def name_of(row):
    return f"{row['model']}, {row['sampler']} {row['steps']}" if row["model"] == "teacher" else \
        f"{row['model']}, {row['steps']} step{'s' * (row['steps'] > 1)}"


def cells(rows, key, digits, scale):
    """Mean and range over the seeds; empty where nothing was measured."""
    values = [scale * row[key] for row in rows if row.get(key) is not None]
    if not values:
        return ["", "", ""]
    return [f"{value:.{digits}f}" for value in (statistics.mean(values), min(values), max(values))]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    students.add_arguments(parser)
    parser.add_argument("--seeds", default="0,1,2", help="with commas (%(default)s)")
    parser.add_argument("--date", required=True, help="of the measurement, as it is to stand in the table")
    parser.add_argument("--machine", required=True, help="likewise")
    a = parser.parse_args()
    if not a.folder:
        parser.error("--folder is needed")
    seeds = a.seeds.split(",")
    of_seeds = list(zip(*(report_of(a, seed)["rows"] for seed in seeds)))
    with open(TABLE, "w", newline="") as f:
        writer = csv.writer(f, lineterminator="\n")
        writer.writerow(COLUMNS)
        for rows in of_seeds:
            for key, heading, digits, scale in METRICS:
                writer.writerow([a.date, a.machine, a.threads or os.cpu_count(), name_of(rows[0]), heading,
                                 *cells(rows, key, digits, scale), len(seeds)])


if __name__ == "__main__":
    main()
