"""Learning rates over a run as diffusers.optimization.get_scheduler has them. See README.md."""
import os

import torch
from diffusers.optimization import get_scheduler

from common import ROOT, write_json

RATE = 8e-4
# (scheduler, steps of warm-up, steps of the run)
RUNS = [("constant", 0, 4), ("constant_with_warmup", 3, 6), ("constant_with_warmup", 0, 2), ("linear", 0, 7),
        ("linear", 4, 11), ("linear", 1, 2), ("cosine", 0, 7), ("cosine", 4, 11), ("cosine", 3, 13), ("cosine", 1, 2)]


def rates(name, warmup, steps):
    optimizer = torch.optim.AdamW([torch.zeros(1, requires_grad=True)], lr=RATE)
    scheduler = get_scheduler(name, optimizer, num_warmup_steps=warmup, num_training_steps=steps)
    found = []
    for _ in range(steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return found


def main():
    write_json(os.path.join(ROOT, "lr_schedule.json"), {
        "learning-rate": RATE,
        "runs": [{"lr-scheduler": name, "lr-warmup-steps": warmup, "rates": rates(name, warmup, steps)}
                 for name, warmup, steps in RUNS]})


if __name__ == "__main__":
    main()
