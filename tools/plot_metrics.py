"""Draws the loss curves of metrics.jsonl files: plot_metrics.py OUT.png [LABEL=]FILE... (needs matplotlib)."""
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


def main(out, files):
    figure, axis = plt.subplots(figsize=(7, 3.2), dpi=120)
    for entry in files:
        label, _, path = entry.rpartition("=")
        with open(path) as lines:
            rows = [json.loads(line) for line in lines]
        steps = [row["step"] for row in rows]
        line, = axis.plot(steps, smoothed([row["loss"] for row in rows]), label=label or path)
        axis.plot(steps, [row["loss"] for row in rows], color=line.get_color(), alpha=0.15, linewidth=0.5)
    axis.set_xlabel("step")
    axis.set_ylabel("loss")
    axis.set_yscale("log")
    axis.grid(alpha=0.3)
    axis.legend()
    figure.tight_layout()
    figure.savefig(out)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
