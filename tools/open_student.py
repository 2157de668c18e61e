#!/usr/bin/env python3
"""Opens what splam writes in diffusers and compares final latents and pictures with `splam generate` from the same
noise.

    python open_student.py STUDENT --folder WORK [--steps 1,2,3,4] [--csv FILE]
    python open_student.py TEACHER --folder WORK --lora pytorch_lora_weights.safetensors kohya.safetensors[:WEIGHT]

STUDENT is a diffusers folder that `splam distill` wrote, of Stable Diffusion 1.x, 2.x or XL as its model_index.json
says. It is opened
    as it is                   in StableDiffusionPipeline or StableDiffusionXLPipeline with LCMScheduler; one of 1.x or
                               2.x whose UNet has cond_proj in LatentConsistencyModelPipeline, at guidance_scale=1, or
                               --guidance for a student of a guidance range
    folded                     `splam convert --fold-guidance`, of a UNet with cond_proj
    as one file                `splam convert --single-file`, through from_single_file; of students with Stable
                               Diffusion's configuration and CLIP's tokenizer (others are refused, and said)
With --lora the teacher is opened with LCMScheduler, and each file is loaded with load_lora_weights; splam gets it with
--lora. What the teacher draws without it must be another thing, or nothing would be shown.

All in float32, from one noise file: the start, and the fresh noise of each later step, which is handed to LCMScheduler
in place of its generator's. One line for each form and number of steps: max|a-b| / max|b| of the latents and of what
the VAEs decode them to, bound 1e-3, and how many of 255 levels the PNG is from the picture that diffusers makes, bound
1. Exit code 1 beyond them, and if diffusers or transformers warn of anything while a model is opened, but that adapters
have nothing for text encoders. WORK keeps converted models and latents. --csv adds the lines to a file.

Packages: golden/requirements.txt, and peft for --lora.
"""
import argparse
import contextlib
import json
import logging
import os
import subprocess
import sys
import warnings

import diffusers
import numpy as np
import torch
from diffusers import (LatentConsistencyModelPipeline, LCMScheduler, StableDiffusionPipeline,
                       StableDiffusionXLPipeline)
from diffusers.schedulers import scheduling_lcm
from PIL import Image
from safetensors.numpy import load_file, save_file

BOUND = 1e-3  # of latents and pictures
DIFFERENT = 1e-2  # what adapters at least change
PROMPT = "a red apple"
# diffusers 0.42.1 says this, once for each text encoder, of all adapters of a UNet alone, LCM-LoRA's too
SAID_OF_ALL = "No LoRA keys associated to CLIPTextModel"

diffusers.utils.logging.disable_progress_bar()


class Heard(logging.Handler):
    """What libraries say at the level of warnings or above."""

    def __init__(self):
        super().__init__(logging.WARNING)
        self.lines = []

    def emit(self, record):
        self.lines.append(f"{record.name}: {record.getMessage()}")


@contextlib.contextmanager
def no_warnings(what):
    """Ends the program if diffusers, transformers, PEFT or Python's own module warn within."""
    heard = Heard()
    loggers = [logging.getLogger(name) for name in ("diffusers", "transformers", "peft")]
    for logger in loggers:
        logger.addHandler(heard)
    with warnings.catch_warnings(record=True) as raised:
        warnings.simplefilter("always")
        yield
    for logger in loggers:
        logger.removeHandler(heard)
    lines = [line for line in heard.lines if SAID_OF_ALL not in line]
    lines += [f"{w.category.__name__}: {w.message}" for w in raised]
    if lines:
        sys.exit(f"{what}: warnings while it was opened:\n" + "\n".join(lines))


def apart(found, wanted):
    return float(np.abs(found - wanted).max() / np.abs(wanted).max())


class Work:
    """The model, its noise, and splam's side."""

    def __init__(self, arguments):
        self.model, self.folder = os.path.abspath(arguments.model), os.path.abspath(arguments.folder)
        self.splam, self.threads, self.csv = os.path.abspath(arguments.splam), arguments.threads, arguments.csv
        self.steps = [int(steps) for steps in arguments.steps.split(",")]
        os.makedirs(self.folder, exist_ok=True)
        config, vae, index = (self.read(name) for name in ("unet/config.json", "vae/config.json", "model_index.json"))
        self.xl = index["_class_name"] == "StableDiffusionXLPipeline"
        self.pipeline = StableDiffusionXLPipeline if self.xl else StableDiffusionPipeline
        self.has_cond_proj = bool(config.get("time_cond_proj_dim"))
        self.guidance = arguments.guidance if config.get("_guidance_range") else 1.0
        side = arguments.side or config["sample_size"]
        self.pixels = side * 2 ** (len(vae["block_out_channels"]) - 1)
        random = np.random.default_rng(5)
        self.noise = {f"noise.{i}": random.standard_normal((1, config["in_channels"], side, side), dtype=np.float32)
                      for i in range(max(self.steps))}
        save_file(self.noise, self.path("noise.safetensors"))

    def read(self, name):
        with open(os.path.join(self.model, name)) as f:
            return json.load(f)

    def path(self, name):
        return os.path.join(self.folder, name)

    def run(self, *words):
        return subprocess.run([self.splam, *words], capture_output=True, text=True)

    def must_run(self, *words):
        done = self.run(*words)
        if done.returncode:
            sys.exit(f"splam {' '.join(words)}: exit code {done.returncode}: {done.stderr.strip()}")

    def generate(self, model, steps, loras=(), guidance=1.0):
        """Latents, what the VAE makes of them in [-1,1], and the PNG's levels."""
        out, inputs, image = (self.path(f"{name}.safetensors") for name in ("latents", "decode", "image"))
        words = ["generate", "-m", model, "-p", PROMPT, "--sampler", "lcm", "--guidance", str(guidance),
                 "--steps", str(steps), "--precision", "f32", "--noise", self.path("noise.safetensors"),
                 "--save-latents", out, "-o", self.path("picture.png"), "-t", str(self.threads)]
        for lora in loras:
            words += ["--lora", lora]
        self.must_run(*words)
        latents = load_file(out)["latents"]
        scale = self.read("vae/config.json").get("scaling_factor", 0.18215)
        save_file({"latent": latents / np.float32(scale)}, inputs)
        self.must_run("forward", "-m", model, "--component", "vae-decoder", "--inputs", inputs, "--outputs", image,
                      "--precision", "f32", "-t", str(self.threads))
        return latents, load_file(image)["image"], np.asarray(Image.open(self.path("picture.png")), np.int32)

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
        """The same three of a pipeline whose scheduler draws our noise."""
        fresh = [torch.from_numpy(self.noise[f"noise.{i}"]) for i in range(1, steps)]
        scheduling_lcm.randn_tensor = lambda *_, **__: fresh.pop(0)
        out = pipe(PROMPT, num_inference_steps=steps, guidance_scale=guidance, output_type="latent",
                   height=self.pixels, width=self.pixels, latents=torch.from_numpy(self.noise["noise.0"]))
        assert not fresh, "the scheduler did not draw as often as there are steps"
        with torch.no_grad():
            image = pipe.vae.decode(out.images / pipe.vae.config.scaling_factor, return_dict=False)[0]
        picture = pipe.image_processor.postprocess(image, output_type="pil")[0]
        return out.images.numpy(), image.numpy(), np.asarray(picture, np.int32)

    def compare(self, what, pipe, model, loras=(), guidance=1.0, without=None):
        """without: latents for each number of steps that must be others."""
        pipe.set_progress_bar_config(disable=True)
        within = True
        for steps in self.steps:
            found, wanted = self.generate(model, steps, loras, guidance), self.diffusers(pipe, steps, guidance)
            latents, picture = apart(found[0], wanted[0]), apart(found[1], wanted[1])
            levels = int(np.abs(found[2] - wanted[2]).max())
            changed = apart(without[steps], wanted[0]) if without else None
            good = latents <= BOUND and picture <= BOUND and levels <= 1  # not if one is NaN
            good = good and (changed is None or changed >= DIFFERENT)
            print(f"{what}, {steps} step{'s' if steps > 1 else ''}: latents {latents:.1e}, picture {picture:.1e}, PNG "
                  f"{levels} of 255 levels" + (f"; without it {changed:.1e}" if without else "")
                  + ("" if good else ", BEYOND ITS BOUND"), flush=True)
            self.record(what, steps, latents, picture, levels, changed)
            within = within and good
        return within

    def record(self, what, steps, latents, picture, levels, changed):
        if not self.csv:
            return
        new = not os.path.exists(self.csv)
        with open(self.csv, "a") as f:
            if new:
                f.write("version,pipeline,opened,steps,latents,picture,png_levels,without\n")
            f.write(f"diffusers {diffusers.__version__},{self.pipeline.__name__},\"{what}\",{steps},{latents:.1e},"
                    f"{picture:.1e},{levels},{'' if changed is None else f'{changed:.1e}'}\n")


def opened(pipeline, folder, **more):
    if pipeline is StableDiffusionXLPipeline:
        more["add_watermarker"] = False
    with no_warnings(folder):
        return pipeline.from_pretrained(folder, dtype=torch.float32, **more)


def with_lcm(pipe):
    with no_warnings("LCMScheduler"):
        pipe.scheduler = LCMScheduler.from_config(pipe.scheduler.config)
    return pipe


def compare_student(work):
    within, plain, name = True, work.model, work.pipeline.__name__
    if work.has_cond_proj and not work.xl:
        pipe = opened(LatentConsistencyModelPipeline, work.model)
        within &= work.compare("LatentConsistencyModelPipeline", pipe, work.model, guidance=work.guidance)
    if work.has_cond_proj and work.xl:
        pipe = with_lcm(opened(work.pipeline, work.model))
        within &= work.compare(f"{name}, LCMScheduler", pipe, work.model, guidance=work.guidance)
    if work.has_cond_proj:
        plain = work.convert("folded", "--fold-guidance")
    within &= work.compare(f"{name}, LCMScheduler" + (", folded" if work.has_cond_proj else ""),
                           with_lcm(opened(work.pipeline, plain)), plain)
    fold = ["--fold-guidance"] if work.has_cond_proj else []
    single = work.convert("single.safetensors", "--single-file", *fold)
    if single:
        with no_warnings(single):
            pipe = work.pipeline.from_single_file(single, config=plain, local_files_only=True,
                                                  dtype=torch.float32)
        within &= work.compare("from_single_file, LCMScheduler", with_lcm(pipe), single)
    return within


def compare_loras(work, loras):
    within = True
    bare = with_lcm(opened(work.pipeline, work.model))
    bare.set_progress_bar_config(disable=True)
    without = {steps: work.diffusers(bare, steps, 1.0)[0] for steps in work.steps}
    for text in loras:
        path, _, weight = text.partition(":")
        pipe = with_lcm(opened(work.pipeline, work.model))
        with no_warnings(path):
            pipe.load_lora_weights(os.path.dirname(os.path.abspath(path)), weight_name=os.path.basename(path),
                                   adapter_name="lora")
        if weight:
            pipe.set_adapters(["lora"], [float(weight)])
        within &= work.compare(f"load_lora_weights {os.path.basename(path)}{':' + weight if weight else ''}", pipe,
                               work.model, [text], without=without)
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
    parser.add_argument("--csv", metavar="FILE", help="adds a line for each comparison")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    work = Work(arguments)
    within = compare_loras(work, arguments.lora) if arguments.lora else compare_student(work)
    sys.exit(0 if within else 1)


if __name__ == "__main__":
    main()
