"""Draws the loss curves of metrics.jsonl files: plot_metrics.py OUT.png [LABEL=]FILE... (needs matplotlib).

Of several files the lower half shows how far the smoothed losses lie from the first one's."""
import json
import sys

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt


def smoothed(values, rate=0.98):
    """An exponential average that starts unbiased."""
    total, weight, out = 0.0, 0.0, []
    for value in values:
        total = rate * total + (1 - rate) * value
        weight = rate * weight + (1 - rate)
        out.append(total / weight)
    return out


def read(entry):
    label, _, path = entry.rpartition("=")
    with open(path) as lines:
        rows = [json.loads(line) for line in lines]
    return label or path, [row["step"] for row in rows], [row["loss"] for row in rows]


def main(out, files):
    curves = [read(entry) for entry in files]
    several = len(curves) > 1
    figure, axes = plt.subplots(1 + several, 1, sharex=True, squeeze=False, figsize=(7, 3.2 + 1.8 * several), dpi=120,
                                height_ratios=[3, 2][:1 + several])
    first = dict(zip(curves[0][1], smoothed(curves[0][2])))
    for label, steps, losses in curves:
        mean = smoothed(losses)
        line, = axes[0][0].plot(steps, mean, label=label)
        axes[0][0].plot(steps, losses, color=line.get_color(), alpha=0.15, linewidth=0.5)
        if several:
            off = [(step, 100 * (value / first[step] - 1)) for step, value in zip(steps, mean) if step in first]
            axes[1][0].plot(*zip(*off), color=line.get_color())
            axes[1][0].set_ylabel(f"% from {curves[0][0]}")
    axes[0][0].set_ylabel("loss")
    axes[0][0].set_yscale("log")
    axes[0][0].legend()
    axes[-1][0].set_xlabel("step")
    for row in axes:
        row[0].grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(out)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
