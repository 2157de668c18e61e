#!/usr/bin/env python3
"""Which objective wins where: guidance, teacher, budget and length of the sub-paths, each objective at its own best.

    python3 bench/study.py --folder WORK --data emoji:kinds --teacher both=assets/teacher [--teacher epsilon=DIR]
        [--teacher flow=DIR] [--stage NAME,...]
    python3 bench/study.py --choices | --table

Stages, each of students of the emoji teacher at guidance w = 7 and 2, batches of 32 pictures:
  teachers  the teacher itself by DDIM and DPM-Solver++ at 1, 2, 4, 8 and 50 steps
  search    with the teacher and guidance of SEARCHED, for each objective, in SEARCH_STEPS steps, one axis of AXES after
            the other, the best value kept; with seed SEARCH_SEED, which chooses other captions and other noise than
            what is compared and shown. Best: the lowest mean trajectory error, and of dmd, which follows no trajectory,
            the lowest Frechet distance to the teacher's pictures in the mean over 1, 2 and 4 steps. (That to real
            pictures would choose students that have not yet learned to be guided: at w = 7 the teacher without guidance
            is nearer to them.) An axis whose best value is at its end is said. The others begin where lcm's search has
            ended, and have their own axes and the rate alone
  compare   every objective in BUDGETS steps, elsewhere in ELSEWHERE, at the best settings of its search, SEEDS
  lengths   splam and lcm at their best settings but for the length of the sub-path, LENGTH_STEPS steps, SEEDS

Where the teacher's sub-paths end is kept in WORK, so that students of the same sub-paths and seed have the teacher
once (splam distill --sub-paths): a quarter of a gigabyte for 2,000 steps of one seed.

A row of bench/study.csv is one student at 1, 2, 4 and 8 steps (of a teacher: one sampler). A row that is there is not
made again, so the script can be stopped at any time and goes on where it was; --guidance 7 on one machine and 2 on
another, or --objective or --seeds, share it out, and the rows are joined afterwards. Every student's metrics.jsonl
stays in WORK/metrics. --choices prints the search, --table the comparison, as Markdown. Python's own library is all it
needs. A step takes about .3 s on two cores with bf16, about 1 s on one with AVX2, and all of it some 40,000 steps: a
day or two.
"""
import argparse
import os
import shutil
import statistics
import sys

import students
from students import EVALUATED, ROOT

TABLE = os.path.join(ROOT, "bench", "study.csv")
STAGES = ("teachers", "search", "compare", "lengths")
GUIDANCE = ("7", "2")
SEARCHED = ("both", "7")
SEARCH_SEED, SEARCH_COUNT, SEEDS = 1000, 64, (0, 1, 2)  # SEARCH_COUNT: captions that a search is judged by
LENGTH_STEPS = 500

COMMON = {"learning-rate": "2e-4", "lr-scheduler": "cosine", "ema-decay": "0.95", "train-batch-size": "32"}
FOUND = {**COMMON, "ema-decay": "power:0.1"}  # by lcm's search, as its length is
# Where the search begins.
START = {
    "splam": {**COMMON, "skip": "100", "solver-steps": "1", "sigma": "quadratic", "gamma-conditioning": "time",
              "gamma-one-probability": "0.5", "gamma-power": "1"},
    "lcm": {**COMMON, "skip": "100", "solver-steps": "1"},
    "pcm": {**FOUND, "skip": "100", "solver-steps": "4", "phases": "4"},
    "tcd": {**FOUND, "skip": "400", "solver-steps": "4"},
    "progressive": {**FOUND, "num-ddim-timesteps": "16", "rounds": "2"},
    "dmd": {**FOUND, "learning-rate": "1e-4", "fake-score-steps": "2", "student-steps": "4"},
}
# With the teacher's steps inside a sub-path, which a longer one wants more of (bench/limits.py).
LENGTHS = [{"skip": length, "solver-steps": steps} for length, steps in
           (("100", "1"), ("200", "2"), ("200", "4"), ("400", "4"))]
AXES = [
    ("length", LENGTHS),
    ("conditioning", [{"gamma-conditioning": text} for text in ("time", "embedding")]),
    ("rate", [{"learning-rate": text} for text in ("1e-4", "2e-4", "4e-4")]),
    ("gamma", [{"gamma-power": "1", "gamma-one-probability": text} for text in ("0", "0.5")] +
     [{"gamma-power": text, "gamma-one-probability": "0"} for text in ("0.3", "0.1")]),
    ("sigma", [{"sigma": "quadratic"}, {"sigma": "linear"}]),
    ("fake score", [{"fake-score-steps": text} for text in ("1", "2", "5")]),
    ("average", [{"ema-decay": text} for text in ("0.95", "0.99", "power:0.1")]),
    ("conditioning again", [{"gamma-conditioning": text} for text in ("time", "embedding")]),  # with that gamma
]
ONLY = {"length": ("splam", "lcm"), "average": ("splam", "lcm"), "conditioning": ("splam",),
        "conditioning again": ("splam",), "gamma": ("splam",), "sigma": ("splam",), "fake score": ("dmd",)}
SEARCH_STEPS = {"splam": 500, "lcm": 500, "pcm": 200, "tcd": 200, "progressive": 200, "dmd": 200}
BUDGETS = {"splam": (200, 500, 2000), "lcm": (200, 500, 2000), "pcm": (200, 500), "tcd": (200, 500),
           "progressive": (200, 500), "dmd": (200, 500)}
ELSEWHERE = {"splam": (200, 500), "lcm": (200, 500), "pcm": (200,), "tcd": (200,), "progressive": (200,), "dmd": (200,)}

MEASURES = ("trajectory_error", "frechet", "frechet_teacher", "hit1", "hit1_heldout")
COLUMNS = ["stage", "teacher", "guidance_scale_w", "model", "settings", "seed", "train_steps", "trajectory_error_mean",
           *(f"{measure}_{n}" for measure in MEASURES for n in (*EVALUATED, 50)), "seconds", "version"]


def text_of(settings):
    return " ".join(f"{key}={value}" for key, value in sorted(settings.items()) if value is not None)


def key_of(row):
    return tuple(str(row[column]) for column in COLUMNS[:7])


def axes_of(objective):
    """Those that say something to the objective."""
    return [(name, values) for name, values in AXES if objective in ONLY.get(name, (objective,))]


def judged(row):
    """What a search wants least of."""
    if row["model"] == "dmd":
        return statistics.mean(float(row[f"frechet_teacher_{n}"]) for n in (1, 2, 4))
    return float(row["trajectory_error_mean"])


class Search:
    """The axes walked so far, from the rows that are there. `best`: the settings where the search ends, or None while
    it is not over; `missing`: the settings that the next axis still needs."""

    def __init__(self, rows, objective):
        self.best, self.missing, self.walk = None, [], []
        found = {row["settings"]: judged(row) for row in rows if row["stage"] == "search" and
                 (row["teacher"], row["guidance_scale_w"], row["model"]) == (*SEARCHED, objective) and
                 int(row["train_steps"]) == SEARCH_STEPS[objective]}
        best = dict(START[objective])
        for name, values in axes_of(objective):
            tried = [{**best, **value} for value in values]
            self.missing = [settings for settings in tried if text_of(settings) not in found]
            if self.missing:
                return
            scores = [found[text_of(settings)] for settings in tried]
            least = scores.index(min(scores))
            best = tried[least]
            self.walk.append((name, list(zip((text_of(value) for value in values), scores)), least))
        self.best = best


def run_of(stage, teacher, w, model, settings, seed, steps):
    return {"stage": stage, "teacher": teacher, "guidance_scale_w": w, "model": model, "settings": text_of(settings),
            "seed": seed, "train_steps": steps, "flags": settings}


def best_for(search, folder):
    """A flow has one sigma, its chord's."""
    flow = os.path.isdir(os.path.join(folder, "transformer"))
    return {key: value for key, value in search.best.items() if not (flow and key == "sigma")}


def wanted_of(a, search, teacher, w, objective):
    here = (teacher, w) == SEARCHED
    for settings in search.missing if here else []:
        yield run_of("search", teacher, w, objective, settings, SEARCH_SEED, SEARCH_STEPS[objective])
    if not search.best:
        return
    for seed in SEEDS:
        for steps in (BUDGETS if here else ELSEWHERE)[objective]:
            yield run_of("compare", teacher, w, objective, best_for(search, a.teachers[teacher]), seed, steps)
        for length in LENGTHS if here and objective in ONLY["length"] else []:
            yield run_of("lengths", teacher, w, objective, {**search.best, **length}, seed, LENGTH_STEPS)


def wanted(a, rows):
    """All runs that can be named now: what is compared waits for its search."""
    for teacher in a.teachers:
        for w in a.guidance.split(","):
            for seed in SEEDS:
                for sampler in ("ddim", "dpm++2m"):
                    yield run_of("teachers", teacher, w, sampler, {}, seed, 0)
            for objective in a.objective.split(","):
                yield from wanted_of(a, Search(rows, objective), teacher, w, objective)


def to_do(a, rows):
    """One teacher and guidance after the other, of these one stage after the other, and of a stage the shorter runs
    first, all objectives of a seed together."""
    done = {key_of(row) for row in rows}
    runs = [run for run in wanted(a, rows) if key_of(run) not in done and run["stage"] in a.stages and
            (run["seed"] == SEARCH_SEED or str(run["seed"]) in a.seeds.split(","))]
    parts = list(dict.fromkeys((run["teacher"], run["guidance_scale_w"]) for run in runs))
    return sorted(runs, key=lambda run: (parts.index((run["teacher"], run["guidance_scale_w"])),
                                         STAGES.index(run["stage"]), run["train_steps"], run["seed"]))


def measured(report, model, steps):
    out = {}
    for row in report["rows"]:
        if row["model"] != model or row["steps"] not in steps:
            continue
        for measure in MEASURES:
            if row.get(measure) is not None:
                out[f"{measure}_{row['steps']}"] = f"{row[measure]:.5f}"
        if row.get("trajectory_error_mean") is not None:
            out["trajectory_error_mean"] = f"{row['trajectory_error_mean']:.5f}"
    return out


def sub_paths(a, run):
    """The flag of those objectives that have some of one teacher: a file for each seed and length."""
    flags = run["flags"]
    if "skip" not in flags:
        return {}
    name = f"sub-paths-{run['teacher']}-{run['guidance_scale_w']}-{run['seed']}-{flags['skip']}-{flags['solver-steps']}"
    return {"sub-paths": os.path.join(a.folder, name)}


def perform(a, run):
    teacher, w, seed = a.teachers[run["teacher"]], run["guidance_scale_w"], run["seed"]
    report = os.path.join(a.folder, f"report-{run['teacher']}-{w}-{seed}")  # keeps the teacher's trajectories
    more = ["--guidance-scale-w", w]
    if run["stage"] == "teachers":
        steps, seconds = (*EVALUATED, 50), 0
        shown = students.evaluate(a, [teacher], report, "frechet,frechet-teacher,hit", steps, seed,
                                  [*more, "--teacher", teacher, "--sampler", run["model"]])
        model = next(row["model"] for row in shown["rows"] if row["steps"] == 1)
    else:
        steps, student = EVALUATED, os.path.join(a.folder, "student")
        flags = {"objective": run["model"], "guidance-scale-w": w, **run["flags"], **sub_paths(a, run)}
        seconds = students.distil(a, teacher, student, flags, run["train_steps"], seed)
        name = "-".join(key_of(run)).translate(str.maketrans(" =:/", "-_.-"))
        os.makedirs(os.path.join(a.folder, "metrics"), exist_ok=True)
        shutil.copy(os.path.join(student, "metrics.jsonl"), os.path.join(a.folder, "metrics", name + ".jsonl"))
        averaged = next(name for name in ("unet_ema", "transformer_ema") if os.path.isdir(os.path.join(student, name)))
        metrics = {"search": "trajectory-error"}.get(run["stage"], "trajectory-error,frechet,frechet-teacher,hit")
        if run["model"] == "dmd":
            metrics = "frechet,frechet-teacher,hit"
        shown = students.evaluate(a, [student], report, metrics, steps, seed,
                                  ["--unet", averaged, "--teacher", teacher],
                                  SEARCH_COUNT if run["stage"] == "search" else 128)
        model = next(row["model"] for row in shown["rows"] if row["model"] != "teacher")
    students.add_row(TABLE, COLUMNS, {**{column: run[column] for column in COLUMNS[:7]},
                                      **measured(shown, model, steps), "seconds": f"{seconds:.3f}",
                                      "version": students.version(a.splam)})


# ---- tables ----


def names(rows, column):
    return list(dict.fromkeys(row[column] for row in rows))


def print_choices(rows):
    for objective in START:
        for name, tried, best in Search(rows, objective).walk:
            shown = ", ".join(f"{'**' * (i == best)}{setting} {value:.4f}{'**' * (i == best)}"
                              for i, (setting, value) in enumerate(tried))
            end = " (at its end)" if len(tried) > 2 and best in (0, len(tried) - 1) else ""
            print(f"- {objective}, {name}: {shown}{end}")


def cell(rows, column, digits=3):
    values = [float(row[column]) for row in rows if row[column]]
    if not values:
        return ""
    spread = f" ({min(values):.{digits}f}-{max(values):.{digits}f})" if len(values) > 1 else ""
    return f"{statistics.mean(values):.{digits}f}{spread}"


def length_of(row):
    return next(text for text in row["settings"].split(" ") if text.startswith("skip="))


def is_superseded(rows, row):
    """Compared at settings that a search has left behind since."""
    best = Search(rows, row["model"]).best if row["stage"] == "compare" and row["model"] in START else None
    return bool(best) and row["settings"] not in (text_of(best), text_of({**best, "sigma": None}))


def print_table(rows):
    """Means over the seeds and their range."""
    columns = ["trajectory_error_mean", *(f"frechet_teacher_{n}" for n in EVALUATED),
               *(f"frechet_{n}" for n in (1, 4)), "hit1_1", "hit1_4"]
    for teacher in names(rows, "teacher"):
        for w in names(rows, "guidance_scale_w"):
            print(f"\nTeacher {teacher}, w = {w}\n")
            print("| stage | model | steps of training | " + " | ".join(columns) + " | Frechet 50 | seeds |")
            print("|---|---|---|" + "---|" * (len(columns) + 2))
            groups = {}
            for row in rows:
                if (row["teacher"], row["guidance_scale_w"]) == (teacher, w) and int(row["seed"]) in SEEDS and \
                        not is_superseded(rows, row):
                    name = row["model"] + (", " + length_of(row) if row["stage"] == "lengths" else "")
                    groups.setdefault((row["stage"], name, int(row["train_steps"])), []).append(row)
            for (stage, name, steps), of in groups.items():
                cells = [cell(of, column) for column in columns]
                print(f"| {stage} | {name} | {steps or ''} | " + " | ".join(cells) +
                      f" | {cell(of, 'frechet_50')} | {len(of)} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    students.add_arguments(parser)
    parser.add_argument("--teacher", action="append", metavar="NAME=DIR", help="may be given again")
    parser.add_argument("--stage", help=f"of {', '.join(STAGES)}, with commas; all")
    parser.add_argument("--guidance", default=",".join(GUIDANCE), help="with commas (%(default)s)")
    parser.add_argument("--objective", default=",".join(START), help="with commas (%(default)s)")
    parser.add_argument("--seeds", default=",".join(map(str, SEEDS)), help="of what is compared (%(default)s)")
    parser.add_argument("--list", action="store_true", help="print what would be run now")
    parser.add_argument("--choices", action="store_true", help="print the search so far, run nothing")
    parser.add_argument("--table", action="store_true", help="print the comparison so far, run nothing")
    a = parser.parse_args()
    a.stages = a.stage.split(",") if a.stage else STAGES
    a.teachers = dict(given.split("=", 1) for given in a.teacher or [])
    if a.choices:
        return print_choices(students.read_rows(TABLE))
    if a.table:
        return print_table(students.read_rows(TABLE))
    if not a.folder or not a.teachers:
        parser.error("--folder and --teacher are needed")
    if a.list:
        for run in to_do(a, students.read_rows(TABLE)):
            print(*key_of(run))
        return
    os.makedirs(a.folder, exist_ok=True)
    while runs := to_do(a, students.read_rows(TABLE)):
        print(f"== {' '.join(key_of(runs[0]))}; {len(runs)} runs are known", file=sys.stderr, flush=True)
        perform(a, runs[0])
    print_table(students.read_rows(TABLE))


if __name__ == "__main__":
    main()
