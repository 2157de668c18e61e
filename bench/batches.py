#!/usr/bin/env python3
"""What a picture costs in a batch: where the server draws requests together, and where not.

    python3 bench/batches.py SPLAM [--model assets/teacher] [--steps 4] [--repeats 7] [--csv]

Has a server draw 1, 2, 4 and 8 pictures at once, in several sizes, in turns, and takes the least seconds of each that
the server says the drawing took: other programs only add. Python's own library.
"""
import argparse
import csv
import datetime
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tests", "clients"))
from serving import TEACHER, free_port, wait_for  # noqa: E402

SIZES, COUNTS = (64, 128, 256), (1, 2, 4, 8)
COLUMNS = ("date", "machine", "model", "pixels", "steps", "pictures", "seconds", "seconds_each")


def ask(url, path, body=None, method=None):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url + path, data, {"Content-Type": "application/json"}, method=method)
    with urllib.request.urlopen(request, timeout=600) as answer:
        return json.load(answer)


def drawn(url, pixels, count, steps):
    job = "/v1/jobs/" + ask(url, "/v1/jobs", {"prompt": "red apple", "steps": steps, "count": count, "seed": 1,
                                              "width": pixels, "height": pixels})["id"]
    while (state := ask(url, job))["state"] in ("queued", "running"):
        time.sleep(.01)
    assert state["state"] == "done", state
    ask(url, job, method="DELETE")
    return state["seconds"]


def machine():
    with open("/proc/cpuinfo") as file:
        said = dict(line.split(":", 1) for line in file.read().split("\n\n")[0].replace("\t", "").splitlines())
    name, family, model = (said.get(key, "").strip() for key in ("model name", "cpu family", "model"))
    return f"{name}, family {family}, model {model}, {os.cpu_count()} processors"


def measure(url, o):
    rows = []
    for pixels in SIZES:
        best = {count: drawn(url, pixels, count, o.steps) for count in COUNTS}  # plans, too
        for _ in range(o.repeats):
            for count in COUNTS:
                best[count] = min(best[count], drawn(url, pixels, count, o.steps))
        for count in COUNTS:
            rows.append((datetime.date.today(), machine(), os.path.basename(os.path.normpath(o.model)), pixels,
                         o.steps, count, f"{best[count]:.3f}", f"{best[count] / count:.3f}"))
            print(f"{pixels} pixels, {count} at once: {best[count]:.3f} s, {best[count] / count:.3f} s each",
                  flush=True)
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("splam")
    parser.add_argument("--model", default=TEACHER)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--csv", action="store_true", help="write bench/batches.csv")
    o = parser.parse_args()
    port = free_port()
    server = subprocess.Popen([o.splam, "serve", "-m", o.model, "--listen", f"127.0.0.1:{port}"],
                              stderr=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"
    try:
        wait_for("the server", lambda: is_up(url), 120)
        rows = measure(url, o)
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(60)
    if o.csv:
        with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "batches.csv"), "w", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows([COLUMNS, *rows])


def is_up(url):
    try:
        return ask(url, "/health")["status"] == "ok"
    except OSError:
        return False


if __name__ == "__main__":
    main()
