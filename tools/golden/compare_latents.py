#!/usr/bin/env python3
"""Holds `splam generate` against diffusers from given noise, and against itself: threads, instruction sets, precisions.

    python compare_latents.py MODEL... --folder WORK [--splam build/splam] [--threads 2] [--isas avx2,avx512] [--json]

MODEL is a whole diffusers folder (Stable Diffusion 1.x or 2.x; tools/make_random_model.py makes them with random
weights). Four LCM steps without guidance on 64x64 latents, from noise in a file. One line for each model:

    f32 max error      relative max error of the final latents against diffusers in float32 (bound 1e-3)
    bf16, PyTorch bf16 PSNR of the picture in bf16 to the one in f32, and the same of diffusers with all parts in
                       bfloat16
    threads            whether latents and PNGs of one thread and of --threads are equal, bit for bit, f32 and bf16
    ISA                relative max error of the f32 latents under SPLAM_MAX_ISA=ISA against diffusers (bound 1e-3)

Exit code 1 beyond a bound, or if threads change a bit. WORK keeps noise, references and results.

Packages: requirements.txt. Needs 8 GB of memory, and for SD 1.5 on two cores about five minutes.
"""
import argparse
import json
import multiprocessing
import os
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor

import numpy as np
from safetensors.numpy import load_file, save_file

BOUND = 1e-3
STEPS = 4
SIDE = 64
PROMPT = "a lighthouse in a storm"


# ---- PyTorch's side, in processes of its own ----

def reference(model, noise_path, out, bf16):
    """Writes the latents and the picture [1,3,H,W] of diffusers to `out`."""
    import torch
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextModel, CLIPTokenizer

    import common
    import make_samplers
    dtype = torch.bfloat16 if bf16 else torch.float32
    torch.set_num_threads(os.cpu_count())

    def part(kind, name):
        return kind.from_pretrained(os.path.join(model, name), torch_dtype=dtype).eval()

    tokenizer = CLIPTokenizer.from_pretrained(os.path.join(model, "tokenizer"))
    ids = tokenizer(PROMPT, padding="max_length", truncation=True, return_tensors="pt").input_ids
    noise = [torch.from_numpy(tensor).to(dtype) for _, tensor in sorted(load_file(noise_path).items())]
    with torch.inference_mode():
        context = part(CLIPTextModel, "text_encoder")(ids)[0]
        scheduler, timesteps = make_samplers.make_scheduler("lcm", os.path.join(model, "scheduler"), STEPS)
        latents = make_samplers.sample(part(UNet2DConditionModel, "unet"), scheduler, timesteps, noise, context,
                                       context,
                                       1, None)
        vae = part(AutoencoderKL, "vae")
        image = vae.decode(latents.to(dtype) / vae.config.scaling_factor).sample
    common.write_tensors(out + ".new", {"latents": latents.float(), "image": image.float()})
    os.replace(out + ".new", out)


def make_noise(path, channels):
    random = np.random.default_rng(5)
    save_file({f"noise.{i}": random.standard_normal((1, channels, SIDE, SIDE), dtype=np.float32) for i in range(STEPS)},
              path)


def load_reference(model, folder, kind):
    """kind: f32 or bf16; computed once and kept."""
    path = os.path.join(folder, f"diffusers-{kind}.safetensors")
    if not os.path.exists(path):
        print(f"{os.path.basename(model)}: diffusers in {kind}", file=sys.stderr, flush=True)
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
            pool.submit(reference, model, os.path.join(folder, "noise.safetensors"), path, kind == "bf16").result()
    return load_file(path)


# ---- our side ----

class Result:
    """What one `splam generate` made."""

    def __init__(self, splam, model, folder, precision, threads, isa=None):
        base = os.path.join(folder, f"splam-{precision}-{threads}-{isa or 'best'}")
        command = [splam, "generate", "-m", model, "-p", PROMPT, "--sampler", "lcm", "--steps", str(STEPS),
                   "--guidance", "1",
                   "--noise", os.path.join(folder, "noise.safetensors"), "--precision", precision, "-t", str(threads),
                   "-o", base + ".png", "--save-latents", base + ".safetensors"]
        environment = dict(os.environ, SPLAM_MAX_ISA=isa) if isa else os.environ
        print(" ".join(command) + (f" (up to {isa})" if isa else ""), file=sys.stderr, flush=True)
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"{' '.join(command)}: exit code {done.returncode}: {done.stderr.strip()}")
        self.latents = load_file(base + ".safetensors")["latents"]
        with open(base + ".png", "rb") as f:
            self.png = f.read()
        self.path = base + ".png"

    def pixels(self):
        from PIL import Image
        return np.asarray(Image.open(self.path).convert("RGB")).astype(np.float64)

    def equals(self, other):
        return self.latents.tobytes() == other.latents.tobytes() and self.png == other.png


def max_error(found, wanted):
    error = float(np.abs(found - wanted).max() / np.abs(wanted).max()) if found.shape == wanted.shape else np.inf
    return np.inf if np.isnan(error) else error


def psnr(found, wanted):
    """Of pictures of 0..255."""
    square = np.mean((found - wanted) ** 2)
    return float(10 * np.log10(255**2 / square)) if square > 0 else float("inf")


def pixels_of(image):
    return np.clip(image[0].transpose(1, 2, 0).astype(np.float64) * 127.5 + 127.5, 0, 255).round()


def compare(model, folder, splam, threads, isas):
    """The row of one model. Threads are compared only if `isas` asks for the whole comparison."""
    model = os.path.abspath(model)
    folder = os.path.join(os.path.abspath(folder), os.path.basename(model))
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(model, "unet", "config.json")) as f:
        make_noise(os.path.join(folder, "noise.safetensors"), json.load(f)["in_channels"])
    wanted, torch_bf16 = (load_reference(model, folder, kind) for kind in ("f32", "bf16"))
    f32, bf16 = (Result(splam, model, folder, precision, threads) for precision in ("f32", "bf16"))
    row = {"model": os.path.basename(model), "f32_max_error": max_error(f32.latents, wanted["latents"]),
           "f32_psnr": psnr(f32.pixels(), pixels_of(wanted["image"])), "bf16_psnr": psnr(bf16.pixels(), f32.pixels()),
           "torch_bf16_psnr": psnr(pixels_of(torch_bf16["image"]), pixels_of(wanted["image"]))}
    row["within"] = row["f32_max_error"] <= BOUND
    if isas:
        other = 1 if threads > 1 else 2
        for precision, result in (("f32", f32), ("bf16", bf16)):
            row[f"{precision}_threads_equal"] = result.equals(Result(splam, model, folder, precision, other))
            row["within"] = row["within"] and row[f"{precision}_threads_equal"]
    for isa in isas:
        row[f"{isa}_max_error"] = max_error(Result(splam, model, folder, "f32", threads, isa).latents,
                                            wanted["latents"])
        row["within"] = row["within"] and row[f"{isa}_max_error"] <= BOUND
    return row


HEADER = ("| model | latents, f32 max error | picture, f32 to diffusers | bf16 to f32 | PyTorch bf16 to f32 | "
          "threads f32, bf16 | ISAs |\n|---|---|---|---|---|---|---|")


def line(row):
    equal = " / ".join({True: "equal", False: "DIFFER", None: ""}[row.get(f"{p}_threads_equal")]
                       for p in ("f32", "bf16"))
    isas = ", ".join(f"{key[:-len('_max_error')]} {value:.1e}" for key, value in row.items()
                     if key.endswith("_max_error") and key != "f32_max_error")
    return (f"| {row['model']}{'' if row['within'] else ', BEYOND ITS BOUND'} | {row['f32_max_error']:.1e} | "
            f"{row['f32_psnr']:.1f} dB | {row['bf16_psnr']:.1f} dB | {row['torch_bf16_psnr']:.1f} dB | "
            f"{equal if equal != ' / ' else ''} | {isas} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", metavar="MODEL")
    parser.add_argument("--folder", required=True)
    parser.add_argument("--splam", default=os.path.join(os.path.dirname(__file__), "..", "..", "build", "splam"))
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--isas", default="avx2,avx512", help="values of SPLAM_MAX_ISA (%(default)s)")
    parser.add_argument("--json", action="store_true", help="one JSON object a line instead of the table")
    a = parser.parse_args()
    splam = os.path.abspath(a.splam)
    if not os.access(splam, os.X_OK):
        parser.error(f"{splam}: no such program; build it, or name it with --splam")
    if not a.json:
        print(HEADER, flush=True)
    within = True
    for model in a.models:
        row = compare(model, a.folder, splam, a.threads, tuple(filter(None, a.isas.split(","))))
        within = within and row["within"]
        print(json.dumps(row) if a.json else line(row), flush=True)
    sys.exit(0 if within else 1)


if __name__ == "__main__":
    main()
