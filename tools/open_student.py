#!/usr/bin/env python3
"""Opens what splam writes in diffusers and compares final latents with `splam generate` from the same noise.

    python open_student.py STUDENT --folder WORK [--steps 1,2,3,4]
    python open_student.py TEACHER --folder WORK --lora pytorch_lora_weights.safetensors kohya.safetensors[:WEIGHT]

STUDENT is a diffusers folder that `splam distill` wrote. It is opened
    as it is                   in LatentConsistencyModelPipeline at guidance_scale=1, or --guidance for a student of a
                               guidance range, if its UNet has cond_proj, else in StableDiffusionPipeline with
                               LCMScheduler
    folded                     `splam convert --fold-guidance`, in StableDiffusionPipeline with LCMScheduler
    as one file                `splam convert --single-file`, through from_single_file; of students with Stable
                               Diffusion's configuration and CLIP's tokenizer (others are refused, and said)
With --lora the teacher is opened in StableDiffusionPipeline with LCMScheduler, and each file is loaded with
load_lora_weights; splam gets it with --lora.

All in float32, from one noise file: the start, and the fresh noise of each later step, which is handed to LCMScheduler
in place of its generator's. One line for each form and number of steps: max|a-b| / max|b| of the latents, bound 1e-3.
Exit code 1 beyond it. WORK keeps converted models and latents.

Packages: golden/requirements.txt, and peft for --lora.
"""
import argparse
import json
import os
import subprocess
import sys

import numpy as np
import torch
from diffusers import LatentConsistencyModelPipeline, LCMScheduler, StableDiffusionPipeline
from diffusers.schedulers import scheduling_lcm
from diffusers.utils import logging
from safetensors.numpy import load_file, save_file

BOUND = 1e-3
PROMPT = "a red apple"

logging.set_verbosity_error()
logging.disable_progress_bar()


class Work:
    """The model, its noise, and splam's side."""

    def __init__(self, arguments):
        self.model, self.folder = os.path.abspath(arguments.model), os.path.abspath(arguments.folder)
        self.splam, self.threads = os.path.abspath(arguments.splam), arguments.threads
        self.steps = [int(steps) for steps in arguments.steps.split(",")]
        os.makedirs(self.folder, exist_ok=True)
        with open(os.path.join(self.model, "unet", "config.json")) as f:
            config = json.load(f)
        self.has_cond_proj = bool(config.get("time_cond_proj_dim"))
        self.guidance = arguments.guidance if config.get("_guidance_range") else 1.0
        side = arguments.side or config["sample_size"]
        random = np.random.default_rng(5)
        self.noise = {f"noise.{i}": random.standard_normal((1, config["in_channels"], side, side), dtype=np.float32)
                      for i in range(max(self.steps))}
        save_file(self.noise, self.path("noise.safetensors"))

    def path(self, name):
        return os.path.join(self.folder, name)

    def run(self, *words):
        return subprocess.run([self.splam, *words], capture_output=True, text=True)

    def generate(self, model, steps, loras=(), guidance=1.0):
        out = self.path("latents.safetensors")
        words = ["generate", "-m", model, "-p", PROMPT, "--sampler", "lcm", "--guidance", str(guidance),
                 "--steps", str(steps), "--precision", "f32", "--noise", self.path("noise.safetensors"),
                 "--save-latents", out, "-o", self.path("picture.png"), "-t", str(self.threads)]
        for lora in loras:
            words += ["--lora", lora]
        done = self.run(*words)
        if done.returncode:
            sys.exit(f"splam {' '.join(words)}: exit code {done.returncode}: {done.stderr.strip()}")
        return load_file(out)["latents"]

    def convert(self, name, *flags):
        """The path of a new form of the model; None, with the reason printed, if splam refuses."""
        out = self.path(name)
        if "--fold-guidance" in flags and self.guidance != 1:
            flags = (*flags, "--guidance", str(self.guidance))
        subprocess.run(["rm", "-rf", out], check=True)
        done = self.run("convert", "-m", self.model, "-o", out, *flags)
        if done.returncode:
            print(f"{name}: not written: {done.stderr.strip()}", flush=True)
            return None
        return out

    def diffusers(self, pipe, steps, guidance):
        """Final latents of a pipeline whose scheduler draws our noise."""
        fresh = [torch.from_numpy(self.noise[f"noise.{i}"]) for i in range(1, steps)]
        scheduling_lcm.randn_tensor = lambda *_, **__: fresh.pop(0)
        out = pipe(PROMPT, num_inference_steps=steps, guidance_scale=guidance, output_type="latent",
                   latents=torch.from_numpy(self.noise["noise.0"]))
        assert not fresh, "the scheduler did not draw as often as there are steps"
        return out.images.numpy()

    def compare(self, what, pipe, model, loras=(), guidance=1.0):
        pipe.set_progress_bar_config(disable=True)
        within = True
        for steps in self.steps:
            found, wanted = self.generate(model, steps, loras, guidance), self.diffusers(pipe, steps, guidance)
            error = float(np.abs(found - wanted).max() / np.abs(wanted).max())
            good = error <= BOUND  # not if it is NaN
            print(f"{what}, {steps} step{'s' if steps > 1 else ''}: {error:.1e}{'' if good else ', BEYOND ITS BOUND'}",
                  flush=True)
            within = within and good
        return within


def with_lcm(pipe):
    pipe.scheduler = LCMScheduler.from_config(pipe.scheduler.config)
    return pipe


def open_plain(folder):
    return with_lcm(StableDiffusionPipeline.from_pretrained(folder, torch_dtype=torch.float32))


def compare_student(work):
    within, plain = True, work.model
    if work.has_cond_proj:
        pipe = LatentConsistencyModelPipeline.from_pretrained(work.model, torch_dtype=torch.float32)
        within &= work.compare("LatentConsistencyModelPipeline", pipe, work.model, guidance=work.guidance)
        plain = work.convert("folded", "--fold-guidance")
    within &= work.compare("StableDiffusionPipeline, LCMScheduler" + (", folded" if work.has_cond_proj else ""),
                           open_plain(plain), plain)
    fold = ["--fold-guidance"] if work.has_cond_proj else []
    single = work.convert("single.safetensors", "--single-file", *fold)
    if single:
        pipe = StableDiffusionPipeline.from_single_file(single, config=plain, local_files_only=True,
                                                        torch_dtype=torch.float32)
        within &= work.compare("from_single_file, LCMScheduler", with_lcm(pipe), single)
    return within


def compare_loras(work, loras):
    within = True
    for text in loras:
        path, _, weight = text.partition(":")
        pipe = open_plain(work.model)
        pipe.load_lora_weights(os.path.dirname(os.path.abspath(path)), weight_name=os.path.basename(path),
                               adapter_name="lora")
        if weight:
            pipe.set_adapters(["lora"], [float(weight)])
        within &= work.compare(f"load_lora_weights {os.path.basename(path)}{':' + weight if weight else ''}", pipe,
                               work.model, [text])
    return within


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", metavar="MODEL")
    parser.add_argument("--folder", required=True)
    parser.add_argument("--lora", nargs="+", metavar="FILE[:WEIGHT]")
    parser.add_argument("--steps", default="1,2,3,4")
    parser.add_argument("--guidance", type=float, default=4.0, help="of a student of a guidance range")
    parser.add_argument("--side", type=int, help="of the latents; default: what the model was trained for")
    parser.add_argument("--splam", default=os.path.join(os.path.dirname(__file__), "..", "build", "splam"))
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    work = Work(arguments)
    within = compare_loras(work, arguments.lora) if arguments.lora else compare_student(work)
    sys.exit(0 if within else 1)


if __name__ == "__main__":
    main()
