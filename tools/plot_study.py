"""Draws the comparison of bench/study.csv: plot_study.py TEACHER W OUT.png (needs matplotlib).

Upper left: mean trajectory error against steps of training. Upper right: Frechet distance to the teacher's pictures
likewise, of four steps. Lower left: against the length of the sub-path. Lower right: Frechet distance to the teacher's
pictures against the number of steps, at the largest budget. Lines are means over the seeds, bands their range."""
import csv
import os
import statistics
import sys

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

TABLE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "bench", "study.csv")
COLOURS = {"splam": "#2563eb", "lcm": "#d97706", "pcm": "#059669", "tcd": "#9333ea", "progressive": "#6b7280",
           "dmd": "#dc2626", "ddim": "#111827", "dpm++2m": "#475569"}
TO_ITS_OWN_END = ("pcm", "tcd", "progressive")  # maps whose mean error cannot be held against that of splam and lcm


def curve(axis, rows, model, x_of, y_of):
    """One model's line and band; nothing if it has no rows."""
    points = {}
    for row in rows:
        if row["model"] == model and y_of(row):
            points.setdefault(x_of(row), []).append(float(y_of(row)))
    if not points:
        return
    x = sorted(points, key=lambda value: (isinstance(value, str), value))
    axis.plot(x, [statistics.mean(points[k]) for k in x], marker="o", markersize=3, label=model, color=COLOURS[model])
    axis.fill_between(x, [min(points[k]) for k in x], [max(points[k]) for k in x], alpha=0.15, color=COLOURS[model])


def length_of(row):
    return next(text[len("skip="):] for text in row["settings"].split(" ") if text.startswith("skip="))


def against_training(axis, rows, column, title, but=()):
    for model in COLOURS:
        if model not in but:
            curve(axis, [row for row in rows if row["stage"] == "compare"], model, lambda row: int(row["train_steps"]),
                  lambda row: row[column])
    axis.set(title=title, xlabel="steps of training", xscale="log")


def against_length(axis, rows):
    lengths = [row for row in rows if row["stage"] == "lengths"]
    order = sorted({length_of(row) for row in lengths}, key=lambda text: (":" in text, int(text.split(":")[-1])))
    for model in ("splam", "lcm"):
        curve(axis, lengths, model, lambda row: order.index(length_of(row)), lambda row: row["trajectory_error_mean"])
    axis.set(title="Mean trajectory error by length of the sub-path", xlabel="timesteps (from:to over the run)")
    axis.set_xticks(range(len(order)), order)


def against_steps(axis, rows):
    compared = [row for row in rows if row["stage"] == "compare"]
    most = max((int(row["train_steps"]) for row in compared), default=0)
    shown = [row for row in compared if int(row["train_steps"]) == most]
    shown += [row for row in rows if row["stage"] == "teachers"]
    spread = [{**row, "steps": n, "value": row[f"frechet_teacher_{n}"]} for row in shown for n in (1, 2, 4, 8)]
    for model in COLOURS:
        curve(axis, spread, model, lambda row: row["steps"], lambda row: row["value"])
    axis.set(title=f"Frechet distance to teacher by number of steps, {most} of training", xlabel="steps", xscale="log",
             yscale="log")
    axis.set_xticks((1, 2, 4, 8), ("1", "2", "4", "8"))


def main(teacher, w, out):
    with open(TABLE, newline="") as f:
        rows = [row for row in csv.DictReader(f) if (row["teacher"], row["guidance_scale_w"]) == (teacher, w) and
                int(row["seed"]) < 1000]
    figure, axes = plt.subplots(2, 2, figsize=(11, 8), dpi=110)
    against_training(axes[0][0], rows, "trajectory_error_mean", "Mean trajectory error", TO_ITS_OWN_END)
    against_training(axes[0][1], rows, "frechet_teacher_4", "Frechet distance to the teacher's pictures, 4 steps")
    against_length(axes[1][0], rows)
    against_steps(axes[1][1], rows)
    for axis in axes.flat:
        axis.grid(alpha=0.3)
        if axis.lines:
            axis.legend(frameon=False, fontsize=8)
    figure.suptitle(f"Teacher {teacher}, guidance w = {w}")
    figure.tight_layout()
    figure.savefig(out)


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    main(*sys.argv[1:])
