#!/usr/bin/env python3
"""splam, OpenVINO and PyTorch side by side on one model: seconds, peak memory, and whether splam computes the same.

    python bench/compare/sd.py MODEL --folder WORK [--rounds 5] [--work unet,vae,generate] [--threads 2]
                               [--entries splam:bf16,openvino:bf16,torch:bf16,splam:f32,torch:f32] [--no-check]

MODEL is a whole diffusers folder of Stable Diffusion's size (tools/make_random_model.py makes one with random weights).
All frameworks read the same files, get the same shapes and the same number of threads, and take turns: a round runs
each entry, the next round begins with another one, so that a slow moment of the machine hits all alike. A process
waits idle while it is not its turn.

    unet      one evaluation at the model's own latent size, batch 1; several in each turn
    vae       latents to a picture
    backward  the UNet's evaluation and all gradients of its mean square, batch 1; not measured unless asked for. splam
              keeps weights and gradients in f32, PyTorch as its variant says; OpenVINO has no gradients
    distill   a whole SPLAM step of batch 1: two teacher passes, target, student forward and backward, clipping, AdamW,
              average; not measured unless asked for. splam keeps weights, average and gradients in f32 and 8-bit
              moments; PyTorch's bf16 module keeps all of them in bfloat16, because in f32 they do not fit in 24 GB
    generate  a prompt to a PNG in four LCM steps, once in each turn, in a new process that loads the weights from
              files that are in the page cache. splam's seconds are those of its whole process; of the others imports
              are left out, and OpenVINO gets the prompt's token ids ready-made. OpenVINO's load is reading its graphs
              and compiling them, which it must do for every process; converting the model to them is not counted.

PyTorch's bf16 entry is the fastest of four: the module in bfloat16 or under autocast, NCHW or channels-last; its f32
entry the faster layout. Which, is measured first and said. OpenVINO runs with a latency hint, static shapes and the
precision as inference precision hint. Peak memory is VmHWM of the process that ran.

Printed: a table, and with --check (the default) how far splam's latents after four steps from given noise are from
diffusers' in f32 (exit code 1 beyond 1e-3), and how its bf16 picture differs. WORK keeps OpenVINO's graphs (2 GB for SD
1.5), report.json and the workers' log. --csv appends a line per entry to bench/results.csv, or the file it names.

On a processor with more instructions, SPLAM_MAX_ISA=avx2 ONEDNN_MAX_CPU_ISA=AVX2 ATEN_CPU_CAPABILITY=avx2 keep all
three to AVX2; the CSV says so.

Packages: requirements.txt. Needs about 10 GB of memory, and for SD 1.5 on two cores about 20 minutes.
"""
import argparse
import csv
import datetime
import importlib.metadata
import json
import os
import re
import statistics
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.normpath(os.path.join(HERE, "..", ".."))
sys.path.insert(0, os.path.join(ROOT, "tools", "golden"))

WORK = ("unet", "vae", "generate", "backward", "distill")
PARTS = {"unet": "unet_forward", "vae": "vae_decode", "backward": "unet_forward_backward",
         "distill": "distill_step"}
TRAINING = ("backward", "distill")
TORCH_VARIANTS = {"f32": ("f32-nchw", "f32-channels_last"),
                  "bf16": ("bf16-nchw", "bf16-channels_last", "autocast-nchw", "autocast-channels_last")}
RUNS_A_TURN = {"unet": 3, "vae": 3, "backward": 2, "distill": 2}
STAGES = ("load", "text", "denoise", "decode", "write")
COLUMNS = ("date", "machine", "instruction_set", "threads", "model", "work", "framework", "version", "precision",
           "variant",
           "median_seconds", "min_seconds", "max_seconds", "runs", "peak_rss_bytes", "times_splam",
           *(f"{stage}_seconds" for stage in STAGES))
# What keeps splam, OpenVINO and PyTorch to the instructions of a smaller processor, and which those are.
CAPS = ("SPLAM_MAX_ISA", "ONEDNN_MAX_CPU_ISA", "ATEN_CPU_CAPABILITY")
KEPT = {"baseline": (), "avx2": ("avx2",), "avx512": ("avx2", "avx512f"),
        "avx512_bf16": ("avx2", "avx512f", "avx512_bf16")}
PROMPT = "a lighthouse in a storm"


# ---- the sides ----

class Splam:
    def __init__(self, a, precision, work, _variant):
        self.a, self.precision, self.work, self.peak = a, precision, work, 0

    def turn(self):
        """[(seconds, stages or None), ...]"""
        return self.generate() if self.work == "generate" else self.evaluate()

    def evaluate(self):
        part = PARTS[self.work]
        out = subprocess.run(
            [self.a.splam, "bench", "-m", self.a.model, "--only", "train" if self.work in TRAINING else "generate",
             "--part", part, "--precision", self.precision, "--optimizer", "adamw8bit", "--json", "-t",
             str(self.a.threads)],
            check=True, capture_output=True, text=True).stdout
        report = json.loads(out)
        if part not in report["runs"]:
            sys.exit(f"splam bench: {part} was not measured: {'; '.join(report['left_out'])}")
        self.peak = max(self.peak, report["peak_rss_bytes"][part])
        return [(seconds, None) for seconds in report["runs"][part]]

    def generate(self):
        out = os.path.join(self.a.folder, f"splam-{self.precision}")
        command = [self.a.splam, "generate", "-m", self.a.model, "-p", PROMPT, "--sampler", "lcm", "--steps", "4",
                   "--guidance", "1", "--precision", self.precision, "-t", str(self.a.threads), "--timing",
                   "-o", out + ".png"]
        began = time.perf_counter()
        with open(out + ".txt", "w+") as said:
            process = subprocess.Popen(command, stdout=said, stderr=self.a.log)
            _, status, usage = os.wait4(process.pid, 0)
            seconds = time.perf_counter() - began
            process.returncode = os.waitstatus_to_exitcode(status)
            if process.returncode:
                sys.exit(f"{' '.join(command)}: exit code {process.returncode}")
            said.seek(0)
            stages = {name: float(value) for name, value in re.findall(r"(\w+) ([0-9.]+)", said.read())}
        self.peak = max(self.peak, usage.ru_maxrss * 1024)
        return [(seconds, {stage: stages[stage] for stage in STAGES})]

    def close(self):
        pass


class Worker:
    """sd_worker.py as a process that is asked line by line."""

    def __init__(self, a, side, work, variant):
        self.process = subprocess.Popen(
            [sys.executable, os.path.join(HERE, "sd_worker.py"), side, "--model", a.model, "--folder", a.graphs,
             "--work", work, "--variant", variant, "--threads", str(a.threads), "--prompt", PROMPT],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=a.log, text=True)
        self.name = f"{side} {variant}"

    def ask(self, command, **more):
        print(json.dumps({"command": command, **more}), file=self.process.stdin, flush=True)
        line = self.process.stdout.readline()
        if not line:
            sys.exit(f"{self.name}: the worker ended; its log says why")
        return json.loads(line)

    def close(self):
        peak = self.ask("quit")["peak_rss_bytes"]
        self.process.wait()
        return peak


class Peer:
    def __init__(self, a, side, precision, work, variant):
        self.a, self.side, self.work, self.peak = a, side, work, 0
        self.variant, self.output = variant, os.path.join(a.folder, f"{side}-{precision}.png")
        self.worker = None

    def turn(self):
        if self.work == "generate":
            worker = Worker(self.a, self.side, self.work, self.variant)
            stages = worker.ask("generate", output=self.output)["stages"]
            self.peak = max(self.peak, worker.close())
            return [(sum(stages.values()), stages)]
        if not self.worker:
            self.worker = Worker(self.a, self.side, self.work, self.variant)
            self.worker.ask("open")
        results = [(seconds, None) for seconds in self.worker.ask("run", count=RUNS_A_TURN[self.work])["seconds"]]
        if self.work == "distill":
            self.close()  # two such steps do not fit in memory
        return results

    def close(self):
        if self.worker:
            self.peak = max(self.peak, self.worker.close())
        self.worker = None


def choose_variant(a, precision, work):
    """The fastest of PyTorch's ways, by the better of two runs each after the one that opens it."""
    seconds = {}
    for variant in TORCH_VARIANTS[precision]:
        if work == "distill" and variant.startswith("autocast"):
            continue  # f32 weights: they do not fit
        worker = Worker(a, "torch", work, variant)
        worker.ask("open")
        seconds[variant] = min(worker.ask("run", count=2)["seconds"])
        worker.close()
    print(f"torch {precision}, {work}: " + ", ".join(f"{v} {s:.2f} s" for v, s in seconds.items()), file=sys.stderr)
    return min(seconds, key=seconds.get)


# ---- the rounds ----

def make_entries(a, work, chosen):
    entries = []
    for name in a.entries:
        framework, precision = name.split(":")
        if work == "generate" and precision == "f32" and not a.generate_f32:
            continue
        if work in TRAINING and framework == "openvino":
            continue
        if work == "distill" and precision == "f32":
            continue  # PyTorch's does not fit
        variant = ""
        if framework == "torch":
            key = precision, "unet" if work == "generate" else work  # the UNet is most of a picture
            if key not in chosen:
                chosen[key] = choose_variant(a, *key)
            variant = chosen[key]
        side = (Splam(a, precision, work, variant) if framework == "splam" else
                Peer(a, framework, precision, work, variant or precision))
        entries.append({"framework": framework, "precision": precision, "variant": variant, "side": side, "turns": []})
    return entries


def measure(a, work, chosen):
    """Rows of one kind of work."""
    entries = make_entries(a, work, chosen)
    for turn in range(a.rounds):
        for i in range(len(entries)):
            entry = entries[(turn + i) % len(entries)]
            time.sleep(a.pause)  # threads of the one before that still spin
            results = entry["side"].turn()
            entry["turns"] += results
            print(f"{work} {turn + 1}/{a.rounds} {entry['framework']} {entry['precision']}: "
                  + ", ".join(f"{seconds:.2f}" for seconds, _ in results), file=sys.stderr, flush=True)
    for entry in entries:
        entry["side"].close()
    return [row_of(work, entry) for entry in entries]


def row_of(work, entry):
    seconds = [s for s, _ in entry["turns"]]
    row = {"work": work, "framework": entry["framework"], "precision": entry["precision"], "variant": entry["variant"],
           "median_seconds": statistics.median(seconds), "min_seconds": min(seconds), "max_seconds": max(seconds),
           "runs": len(seconds), "peak_rss_bytes": entry["side"].peak, "seconds": seconds}
    if work == "generate":
        for stage in STAGES:
            row[f"{stage}_seconds"] = statistics.median(stages[stage] for _, stages in entry["turns"])
    return row


def add_ratios(rows):
    """times_splam: seconds over those of splam in the same work and precision."""
    splam = {(r["work"], r["precision"]): r["median_seconds"] for r in rows if r["framework"] == "splam"}
    for row in rows:
        base = splam.get((row["work"], row["precision"]))
        row["times_splam"] = row["median_seconds"] / base if base else None


# ---- what is said ----

def machine():
    """(description, the instruction sets that matter here)"""
    with open("/proc/cpuinfo") as f:
        text = f.read()
    fields = dict(re.findall(r"^([^\t:]+)\t*: (.*)$", text, re.M))
    with open("/proc/meminfo") as f:
        memory = int(f.readline().split()[1]) / 2**20
    flags = fields.get("flags", "").split()
    known = [flag for flag in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if flag in flags]
    kept = [variable for variable in CAPS if os.environ.get(variable)]
    if kept and len(kept) < len(CAPS):
        sys.exit(f"{', '.join(kept)} is set: set all of {', '.join(CAPS)} to the same instructions, or none")
    limit = os.environ.get("SPLAM_MAX_ISA")
    if limit:
        known = [flag for flag in known if flag in KEPT[limit]]
    return (f"{fields.get('model name', 'unknown')}, family {fields.get('cpu family')}, model {fields.get('model')}, "
            f"{os.cpu_count()} processors, {memory:.0f} GB{', kept to ' + limit if limit else ''}"), " ".join(known)


def versions(a):
    splam = subprocess.run([a.splam, "--version"], check=True, capture_output=True, text=True).stdout.split()[1]
    commit = subprocess.run(["git", "-C", ROOT, "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    return {"splam": f"{splam} {commit.stdout.strip()}".strip(), "torch": importlib.metadata.version("torch"),
            "openvino": importlib.metadata.version("openvino")}


def print_table(rows):
    print("| work | framework | precision | median s | min - max | runs | peak RSS | times splam | "
          "load / text / denoise / decode / write |\n|---|---|---|---|---|---|---|---|---|")
    for r in rows:
        stages = " / ".join(f"{r[f'{stage}_seconds']:.2f}" for stage in STAGES) if "load_seconds" in r else ""
        times = f"{r['times_splam']:.2f}" if r["times_splam"] else ""
        print(f"| {r['work']} | {r['framework']} | {r['variant'] or r['precision']} | {r['median_seconds']:.2f} | "
              f"{r['min_seconds']:.2f} - {r['max_seconds']:.2f} | {r['runs']} | {r['peak_rss_bytes'] / 1e9:.2f} GB | "
              f"{times} | {stages} |")


def append_csv(path, rows, about):
    new = not os.path.exists(path)
    with open(path, "a", newline="") as f:
        writer = csv.DictWriter(f, COLUMNS, extrasaction="ignore", lineterminator="\n")
        if new:
            writer.writeheader()
        for row in rows:
            numbers = {key: f"{value:.4g}" for key, value in row.items() if isinstance(value, float)}
            writer.writerow({**about, **row, **numbers, "version": about["versions"][row["framework"]]})


def write_report(a, report):
    """report.json, whole after every kind of work."""
    add_ratios(report["rows"])
    path = os.path.join(a.folder, "report.json")
    with open(path + ".new", "w") as f:
        json.dump(report, f, indent=2)
    os.replace(path + ".new", path)


# ---- the whole ----

def prepare(a):
    """OpenVINO's graphs, and every file of the model in the page cache."""
    if any(name.startswith("openvino") for name in a.entries):
        names = ["sampler.json"] + [f"{part}.xml" for part in ("text_encoder", "unet", "vae_decoder")]
        if not all(os.path.exists(os.path.join(a.graphs, name)) for name in names):
            print("converting the model for OpenVINO, once", file=sys.stderr)
            subprocess.run([sys.executable, os.path.join(HERE, "sd_worker.py"), "convert", "--model", a.model,
                            "--folder", a.graphs, "--prompt", PROMPT], check=True, stderr=a.log)
    for top in (a.model, a.graphs):
        for folder, _, names in os.walk(top):
            for name in names:
                with open(os.path.join(folder, name), "rb") as f:
                    while f.read(1 << 24):
                        pass


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--folder", required=True, help="for graphs, pictures, logs and report.json")
    parser.add_argument("--splam", default=os.path.join(ROOT, "build", "splam"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--pause", type=float, default=1, help="seconds before each turn (%(default)s)")
    parser.add_argument("--work", default="unet,vae,generate", help="of " + ", ".join(WORK) + " (%(default)s)")
    parser.add_argument("--entries", default="splam:bf16,openvino:bf16,torch:bf16,splam:f32,torch:f32")
    parser.add_argument("--generate-f32", action="store_true", help="whole pictures in f32 too")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--check", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--csv", nargs="?", const=os.path.join(ROOT, "bench", "results.csv"))
    a = parser.parse_args()
    a.work, a.entries = a.work.split(","), a.entries.split(",")
    for work in a.work:
        if work not in WORK + ("",):
            parser.error(f'"{work}" is none of {", ".join(WORK)}')
    for name in a.entries:
        if not re.fullmatch("(splam|openvino|torch):(bf16|f32)", name):
            parser.error(f'"{name}" is none of splam, openvino, torch followed by :bf16 or :f32')
    a.model, a.folder, a.splam = (os.path.abspath(path) for path in (a.model, a.folder, a.splam))
    if not os.access(a.splam, os.X_OK):
        parser.error(f"{a.splam}: no such program; build it, or name it with --splam")
    a.graphs = os.path.join(a.folder, "openvino-" + os.path.basename(a.model))
    os.makedirs(a.folder, exist_ok=True)
    a.log = open(os.path.join(a.folder, "workers.log"), "a")
    return a


def main():
    a = parse()
    description, instructions = machine()
    about = {"date": datetime.date.today().isoformat(), "machine": description, "instruction_set": instructions,
             "threads": a.threads, "model": os.path.basename(a.model), "versions": versions(a)}
    load = os.getloadavg()[0]
    if load > 0.5:
        print(f"warning: the machine is busy (load {load:.1f}); these numbers will not be its best", file=sys.stderr)
    prepare(a)
    report, chosen = {**about, "load": load, "rows": []}, {}
    print(f"{description}, {a.threads} threads; " + ", ".join(f"{k} {v}" for k, v in about["versions"].items())
          + f"; load at the start {load:.1f}\n")
    for work in filter(None, a.work):
        report["rows"] += measure(a, work, chosen)
        write_report(a, report)
    if report["rows"]:
        print_table(report["rows"])
    if a.csv and report["rows"]:
        append_csv(a.csv, report["rows"], about)
    if not a.check:
        return 0
    import compare_latents
    report["parity"] = compare_latents.compare(a.model, os.path.join(a.folder, "latents"), a.splam, a.threads, ())
    write_report(a, report)
    print("\n" + compare_latents.HEADER + "\n" + compare_latents.line(report["parity"]))
    return 0 if report["parity"]["within"] else 1


if __name__ == "__main__":
    sys.exit(main())
