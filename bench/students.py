"""Students of the emoji teacher, distilled and measured by splam: what ablation.py and study.py share."""
import csv
import json
import os
import shutil
import statistics
import subprocess

ROOT = os.path.normpath(os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
EVALUATED = (1, 2, 4, 8)


def add_arguments(parser):
    parser.add_argument("--folder", help="for students and reports; needed to run anything")
    parser.add_argument("--splam", default=os.path.join(ROOT, "build", "splam"))
    parser.add_argument("--data", default="emoji:", help="pictures and captions, emoji: or emoji:kinds (%(default)s)")
    parser.add_argument("--latents", metavar="DIR", help="its cache, of splam data DATA --cache DIR --cache-dtype f32: "
                        "trained on instead, which gives the same bits and spares encoding")
    parser.add_argument("--threads", type=int)


def read_rows(table):
    if not os.path.exists(table):
        return []
    with open(table, newline="") as f:
        return list(csv.DictReader(f))


def add_row(table, columns, row):
    new = not os.path.exists(table)
    with open(table, "a", newline="") as f:
        writer = csv.DictWriter(f, columns, lineterminator="\n")
        if new:
            writer.writeheader()
        writer.writerow(row)


def version(splam):
    said = subprocess.run([splam, "--version"], check=True, capture_output=True, text=True).stdout.split()[1]
    commit = subprocess.run(["git", "-C", ROOT, "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    return f"{said} {commit.stdout.strip()}".strip()


def threads(a):
    return [] if a.threads is None else ["-t", str(a.threads)]


def distil(a, teacher, student, settings, steps, seed):
    """A new student in the folder `student`; seconds of a step, the median. settings: flags and their values; None:
    that flag is left out, True: it has no value. One that was interrupted goes on where the same is asked for."""
    given = {key: value for key, value in settings.items() if value is not None}
    flags = [text for key, value in given.items() for text in (f"--{key}", value) if text is not True]
    data = f"latents:{a.latents}" if a.latents else a.data
    command = [a.splam, "distill", "--teacher", teacher, "--data", data, "--output", student, "--seed", str(seed),
               "--max-train-steps", str(steps), "--checkpointing-steps", "100", "--checkpoints-total-limit", "1",
               *flags, *threads(a)]
    asked = os.path.join(student, "asked")
    same = os.path.exists(asked) and open(asked).read() == "\n".join(command)
    if not same:
        shutil.rmtree(student, ignore_errors=True)
        os.makedirs(student)
        with open(asked, "w") as f:
            f.write("\n".join(command))
    begun = same and any(name.startswith("checkpoint-") for name in os.listdir(student))
    subprocess.run([*command, *(["--resume", "latest"] if begun else [])], check=True)
    with open(os.path.join(student, "metrics.jsonl")) as f:
        return statistics.median(step["seconds"] for step in map(json.loads, f) if "loss" in step)


def evaluate(a, models, report, metrics, steps, seed, more=(), count=128):
    """Rows of report.json. The folder `report` keeps the teacher's trajectories; the pictures that are kept there are
    of another student of the same name."""
    shutil.rmtree(os.path.join(report, "pictures"), ignore_errors=True)
    subprocess.run([a.splam, "eval", "-m", *models, "--data", a.data, "--metrics", metrics, "--steps",
                    ",".join(map(str, steps)), "--count", str(count), "--seed", str(seed), "--output", report, *more,
                    *threads(a)], check=True)
    with open(os.path.join(report, "report.json")) as f:
        return json.load(f)
