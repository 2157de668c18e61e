"""Stable Diffusion XL's UNet and VAE at 1024 by splam and by PyTorch, on the same shapes, taking turns.

    sdxl.py SPLAM MODEL.safetensors [--csv] [--threads 2]

MODEL is what tools/make_random_model.py sdxl --single-file writes; PyTorch has random weights of the same shapes, bf16,
which are as fast. Seconds are medians of the runs, PyTorch's after one that is not counted; peak memory of the process.
--csv: as bench/sdxl.csv has it. Needs requirements.txt, 8 GB of memory, and a machine that does nothing else.
"""
import argparse
import csv
import datetime
import json
import os
import resource
import statistics
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
PARTS = ("unet_forward", "vae_decode")
COLUMNS = ("date", "machine", "part", "framework", "version", "threads", "seconds", "peak_rss_bytes")


def fill(model):
    """Every parameter the same few million numbers: quick to write, and nothing that slows arithmetic."""
    import torch
    numbers = torch.randn(1 << 22).mul_(0.02).bfloat16()
    with torch.no_grad():
        for p in model.parameters():
            flat = p.data.view(-1)
            for i in range(0, flat.numel(), len(numbers)):
                flat[i:i + len(numbers)] = numbers[:min(len(numbers), flat.numel() - i)]
    return model


def torch_part(part, threads, runs=2):
    """In a process of its own: prints one JSON object."""
    import torch
    sys.path[:0] = [os.path.join(HERE, "..", "..", "tools"), os.path.join(HERE, "..", "..", "tools", "golden")]
    import make_random_model as full
    torch.set_num_threads(threads)
    with torch.device("meta"):
        model = full.new_model("sdxl", part.split("_")[0])
    model = fill(model.to(torch.bfloat16).to_empty(device="cpu").eval())
    z = torch.randn(1, 4, 128, 128).bfloat16()
    text, pooled = torch.randn(1, 77, 2048).bfloat16(), torch.randn(1, 1280).bfloat16()
    added = {"text_embeds": pooled, "time_ids": torch.tensor([[1024.0, 1024, 0, 0, 1024, 1024]])}
    seconds = []
    for _ in range(runs + 1):
        began = time.time()
        with torch.no_grad():
            if part == "vae_decode":
                model.decode(z)
            else:
                model(z, torch.tensor([501]), text, added_cond_kwargs=added)
        seconds.append(time.time() - began)
    print(json.dumps({"seconds": statistics.median(seconds[1:]), "version": torch.__version__,
                      "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}))


def splam_part(a, part):
    line = [a.splam, "bench", "-m", a.model, "--only", "generate", "--part", part, "--precision", "bf16", "--json",
            "-t", str(a.threads)]
    report = json.loads(subprocess.run(line, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout)
    version = subprocess.run([a.splam, "--version"], check=True, capture_output=True, text=True).stdout.split()[1]
    return {"seconds": report[f"{part}_seconds"], "peak": report["peak_rss_bytes"][part], "version": version}


def pytorch_part(a, part):
    line = [sys.executable, os.path.abspath(__file__), "--torch", part, "--threads", str(a.threads)]
    done = subprocess.run(line, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("splam", nargs="?")
    parser.add_argument("model", nargs="?")
    parser.add_argument("--csv", action="store_true")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--torch", choices=PARTS, help=argparse.SUPPRESS)
    a = parser.parse_args()
    if a.torch:
        return torch_part(a.torch, a.threads)
    if not a.model:
        parser.error("SPLAM and MODEL are needed")
    from sd import machine
    writer = csv.writer(sys.stdout, lineterminator="\n")
    if a.csv:
        writer.writerow(COLUMNS)
    for part in PARTS:
        for framework, measure in (("splam", splam_part), ("PyTorch", pytorch_part)):
            found = measure(a, part)
            if a.csv:
                writer.writerow([datetime.date.today(), machine()[0], part, framework, found["version"], a.threads,
                                 f"{found['seconds']:.2f}", found["peak"]])
            else:
                print(f"{part:14} {framework:8} {found['seconds']:6.2f} s  {found['peak'] / 1e9:.2f} GB", flush=True)


if __name__ == "__main__":
    main()
