#!/usr/bin/env python3
"""What LCM and SPLAM converge to, and how fast, where both can be computed: in one dimension.

The data is a mixture of Gaussians, so that the teacher is known exactly, and guided as in distillation: towards two
outer modes of four. A student is a table over z at the starts of sub-paths, t = 19, 39, ..., 999. What it converges to
is computed from the lowest start upwards: its value is that of its target, at the other end of the sub-path. LCM has
one target for each start. SPLAM has those of all sub-paths that the start lies inside, told by time, with the linear
sigma, each as likely as gamma, drawn uniformly, and the noised data make it; a network that is told the latent and its
timestep learns their mean. (Guided sub-paths of neighbouring latents cross, so that the mean is also over latents of
one start.) How fast it gets there is shown by rounds in each of which every value goes a fifth of the way to its
target, from the teacher's own estimate without guidance, as students begin. The error is the trajectory error: against
the end of the teacher's guided chain of 50 DDIM steps, at the 50 starts, over 2,000 chains.

    python3 bench/limits.py            writes bench/limits.csv (ten minutes on one core; needs numpy)
"""
import csv
import os

import numpy as np

TABLE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "limits.csv")
T, SPACING, RATE, ROUNDS = 1000, 20, .2, (10, 30)
ABAR = np.cumprod(1 - np.linspace(.00085 ** .5, .012 ** .5, T) ** 2)
ALPHA, SIGMA = np.sqrt(ABAR), np.sqrt(1 - ABAR)
STARTS = np.arange(SPACING - 1, T, SPACING)
CELL = .005
Z = np.arange(-7, 7 + CELL / 2, CELL)
ALL, CONDITIONAL, DEVIATION = np.array([-1.5, -.5, .5, 1.5]), np.array([-1.5, 1.5]), .15


def noise_of(z, t, means):
    """E[noise | z] where the data is a mixture of equal Gaussians."""
    variance = (ALPHA[t] * DEVIATION) ** 2 + SIGMA[t] ** 2
    d = z[..., None] - ALPHA[t] * means
    log_weight = -.5 * d * d / variance
    weight = np.exp(log_weight - log_weight.max(-1, keepdims=True))
    return (weight * d).sum(-1) / weight.sum(-1) * SIGMA[t] / variance


class Teacher:
    def __init__(self, guidance_w):
        self.w = guidance_w

    def noise(self, z, t):
        conditional = noise_of(z, t, CONDITIONAL)
        return conditional + self.w * (conditional - noise_of(z, t, ALL)) if self.w else conditional

    def clean(self, z, t):
        return (z - SIGMA[t] * self.noise(z, t)) / ALPHA[t]

    def step(self, z, s, e):
        noise = self.noise(z, s)
        return ALPHA[e] * (z - SIGMA[s] * noise) / ALPHA[s] + SIGMA[e] * noise

    def solve(self, z, s, e, steps):
        points = [s - (s - e) * j // steps for j in range(steps)] + [e]
        for a, b in zip(points, points[1:]):
            z = self.step(z, a, b)
        return z


def density_of(z, t):
    """Of noised data with the caption, to a factor; never 0, so that every latent teaches a little."""
    variance = (ALPHA[t] * DEVIATION) ** 2 + SIGMA[t] ** 2
    return np.exp(-.5 * (z[:, None] - ALPHA[t] * CONDITIONAL) ** 2 / variance).sum(1) + 1e-6


class SubPath:
    """Of the sub-path s..e at t inside it: the points that z_s on Z lead to, how likely each is there, and z_e."""

    def __init__(self, teacher, t, s, e, steps):
        self.e, self.end = e, teacher.solve(Z, s, e, steps)
        drift = ALPHA[s] / ALPHA[e]
        gamma = (SIGMA[t] / ALPHA[t] * ALPHA[s] - drift * SIGMA[e]) / (SIGMA[s] - drift * SIGMA[e])
        z = gamma * Z + (1 - gamma) * drift * self.end
        z /= np.hypot(ALPHA[s], gamma * SIGMA[s] + (1 - gamma) * drift * SIGMA[e])
        place = np.clip((z - Z[0]) / CELL, 0, len(Z) - 1.001)
        self.cell = place.astype(int)
        self.share = place - self.cell  # of the next cell
        self.weight = density_of(Z, s) * ALPHA[s] / (SIGMA[s] - drift * SIGMA[e])  # times that of gamma near t

    def value(self, student):
        """A latent at timestep 0 is a picture but for its scale."""
        return self.end / ALPHA[0] if self.e == 0 else np.interp(self.end, Z, student[self.e // SPACING])

    def spread(self, values):
        """Sums by cell of Z."""
        near, far = self.weight * (1 - self.share) * values, self.weight * self.share * values
        return np.bincount(self.cell, near, len(Z)) + np.bincount(self.cell + 1, far, len(Z))


class Rule:
    """What the student at the start t is taught."""

    def __init__(self, teacher, objective, t, length, steps):
        starts = [t] if objective == "lcm" else range(t, min(t + length, T), SPACING)
        self.paths = [SubPath(teacher, t, s, max(s - length, 0), steps) for s in starts if max(s - length, 0) < t]
        self.total = sum(path.spread(1) for path in self.paths)
        self.taught = self.total > 0

    def value(self, student):
        if len(self.paths) == 1:  # that which begins here, and no latent moves
            return self.paths[0].value(student)
        sums = sum(path.spread(path.value(student)) for path in self.paths)
        return np.interp(Z, Z[self.taught], sums[self.taught] / self.total[self.taught])


def limit(rules):
    student = []
    for rule in rules:
        student.append(rule.value(student))
    return student


def learning(rules, student):
    while True:
        student = [(1 - RATE) * value + RATE * rule.value(student) for value, rule in zip(student, rules)]
        yield student


def chains(teacher, count=2000):
    z, points = np.random.default_rng(0).standard_normal(count), []
    for t in STARTS[::-1]:
        points.append(z)
        z = teacher.step(z, t, t - SPACING) if t > STARTS[0] else teacher.clean(z, t)
    return points[::-1], z


def error(student, reference):
    points, end = reference
    return np.mean([np.mean((np.interp(z, Z, table) - end) ** 2) for table, z in zip(student, points)])


def main():
    with open(TABLE, "w", newline="") as f:
        out = csv.writer(f, lineterminator="\n")
        out.writerow(["guidance_scale_w", "solver_steps", "length", "objective",
                      *(f"round_{n}" for n in (0,) + ROUNDS), "limit"])
        for w in (0, 2, 7):
            teacher = Teacher(w)
            reference, start = chains(teacher), [Teacher(0).clean(Z, t) for t in STARTS]
            for steps in (1, 2, 4):
                for length in (20, 40, 100, 200, 400):
                    for objective in ("lcm", "splam"):
                        rules = [Rule(teacher, objective, t, length, steps) for t in STARTS]
                        run = learning(rules, start)
                        errors = [error(s, reference) for n, s in zip(range(1, ROUNDS[-1] + 1), run) if n in ROUNDS]
                        row = [error(start, reference), *errors, error(limit(rules), reference)]
                        out.writerow([w, steps, length, objective, *(f"{x:.5f}" for x in row)])
                        print(w, steps, length, objective, *(f"{x:.5f}" for x in row), flush=True)


if __name__ == "__main__":
    main()
