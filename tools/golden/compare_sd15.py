#!/usr/bin/env python3
"""Holds `splam forward` against PyTorch and diffusers at the size of Stable Diffusion, with random weights.

    python compare_sd15.py FOLDER [--splam build/splam] [--threads 2] [--only unet,vae-decoder] [--json]

Makes in FOLDER what is not there yet (9 GB: SD 1.5's UNet, VAE and text encoder, SD 2.1's UNet and text encoder, their
inputs, and the outputs of diffusers in float32, under bfloat16 autocast and wholly in bfloat16), runs the same through
splam in both precisions and prints one line for each component. Everything is seeded. Exit code 1 beyond a bound:
relative max error 1e-3 in f32; in bf16 a relative RMS error of 1.5 times PyTorch's, of its two ways the better one.

Seconds and peak resident memory are of the whole process `splam forward`: opening, packing of weights, one pass,
writing. Seconds are processor time, so that other work on the machine counts little; with --json `elapsed` is there
too.

compare_latents.py does the same for whole pictures.

Packages: requirements.txt. Needs 10 GB of memory.
"""
import argparse
import json
import multiprocessing
import os
import shutil
import sys
import time
from concurrent.futures import ProcessPoolExecutor

import numpy as np
from safetensors.numpy import load_file

# make_random_model.py, which has the shapes, lies one folder up; the processes of PyTorch's side find it there too
sys.path.append(os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))

F32_BOUND = 1e-3
BF16_BOUND = 1.5

# name in the table: (folder of the model, component as `splam forward` calls it, seed of weights, of inputs)
CASES = {
    "unet": ("sd15/unet", "unet", 1, 11),
    "unet-sd21": ("sd21/unet", "unet", 2, 12),
    "vae-decoder": ("sd15/vae", "vae-decoder", 3, 13),
    "vae-encoder": ("sd15/vae", "vae-encoder", 3, 14),
    "text-encoder": ("sd15/text_encoder", "text-encoder", 4, 15),
    "text-encoder-sd21": ("sd21/text_encoder", "text-encoder", 5, 16),
}


# ---- PyTorch's side: in processes of its own, so that this one stays small and gives memory back ----

def new_model(name):
    import make_random_model
    family, component = CASES[name][0].split("/")
    return make_random_model.new_model(family, component)


def open_model(name, folder):
    """The model in FOLDER; made there first if need be, complete or not at all."""
    import common
    model = new_model(name)
    if not os.path.isdir(folder):
        common.randomise(model, CASES[name][2])
        shutil.rmtree(folder + ".new", ignore_errors=True)
        model.save_pretrained(folder + ".new")
        os.rename(folder + ".new", folder)
    return type(model).from_pretrained(folder).eval()


def make_inputs(name):
    import torch
    import common
    import make_random_model
    g = common.generator(CASES[name][3])
    if name.startswith("unet"):
        width = make_random_model.FAMILIES[CASES[name][0].split("/")[0]]["unet"]["cross_attention_dim"]
        return {"sample": common.random_tensor(g, 1, 4, 64, 64), "timestep": torch.tensor([501]),
                "encoder_hidden_states": common.random_tensor(g, 1, 77, width)}
    if name == "vae-decoder":
        return {"latent": common.random_tensor(g, 1, 4, 64, 64)}
    if name == "vae-encoder":
        return {"image": torch.tanh(common.random_tensor(g, 1, 3, 256, 256))}
    ids = torch.full((1, 77), 49407)
    ids[0, 0] = 49406
    ids[0, 1:30] = torch.randint(0, 49406, (29,), generator=g)
    return {"input_ids": ids}


def outputs_of(name, model, inputs):
    if name.startswith("unet"):
        return {"sample": model(**inputs).sample}
    if name == "vae-decoder":
        return {"image": model.decode(inputs["latent"]).sample}
    if name == "vae-encoder":
        moments = model.encode(inputs["image"]).latent_dist
        return {"mean": moments.mean, "logvar": moments.logvar}
    return {"last_hidden_state": model(**inputs).last_hidden_state}


def make_reference(name, root, threads):
    """Writes ROOT/NAME.inputs.safetensors and .f32, .autocast, .bf16 beside it."""
    import torch
    import common
    torch.set_num_threads(threads)
    model = open_model(name, os.path.join(root, CASES[name][0]))
    inputs = make_inputs(name)
    common.write_tensors(tensors_path(root, name, "inputs"), inputs)

    def write(kind, outputs):
        common.write_tensors(tensors_path(root, name, kind), {key: t.float() for key, t in outputs.items()})

    with torch.no_grad():
        write("f32", outputs_of(name, model, inputs))
        with torch.autocast("cpu", torch.bfloat16):
            write("autocast", outputs_of(name, model, inputs))
        model.to(torch.bfloat16)
        write("bf16", outputs_of(name, model, {key: t.bfloat16() if t.is_floating_point() else t
                                               for key, t in inputs.items()}))


def make_missing(name, root, threads):
    kinds = ("inputs", "f32", "autocast", "bf16")
    folder = os.path.join(root, CASES[name][0])
    if os.path.isdir(folder) and all(os.path.exists(tensors_path(root, name, kind)) for kind in kinds):
        return
    print(f"{name}: PyTorch", file=sys.stderr, flush=True)
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        pool.submit(make_reference, name, root, threads).result()


# ---- our side, and the comparison ----

def tensors_path(root, name, kind):
    return os.path.join(root, f"{name}.{kind}.safetensors")


def run_splam(splam, name, root, precision, threads):
    """One `splam forward`: (outputs, its measurements by name)."""
    out = tensors_path(root, name, f"splam-{precision}")
    command = [splam, "forward", "-m", os.path.join(root, CASES[name][0]), "--component", CASES[name][1],
               "--inputs", tensors_path(root, name, "inputs"), "--outputs", out, "--precision", precision,
               "-t", str(threads)]
    print(" ".join(command), file=sys.stderr, flush=True)
    started = time.monotonic()
    pid = os.posix_spawn(splam, command, os.environ)
    _, status, usage = os.wait4(pid, 0)
    if status:
        sys.exit(f"{' '.join(command)}: exit code {os.waitstatus_to_exitcode(status)}")
    return load_file(out), {f"{precision}_seconds": usage.ru_utime + usage.ru_stime,
                            f"{precision}_elapsed": time.monotonic() - started,
                            f"{precision}_rss": usage.ru_maxrss * 1024}


def relative_max_error(found, wanted):
    return float(np.abs(found - wanted).max() / np.abs(wanted).max())


def relative_rms_error(found, wanted):
    difference, wanted = found.astype(np.float64) - wanted, wanted.astype(np.float64)
    return float(np.sqrt(np.square(difference).sum() / np.square(wanted).sum()))


def worst(measure, found, wanted):
    """Over all outputs. A shape that differs or a NaN is an infinite error."""
    errors = [measure(found[key], t) if key in found and found[key].shape == t.shape else np.inf
              for key, t in wanted.items()]
    return max(np.inf if np.isnan(e) else e for e in errors)


def compare(name, root, splam, threads):
    reference = {kind: load_file(tensors_path(root, name, kind)) for kind in ("f32", "autocast", "bf16")}
    f32, f32_cost = run_splam(splam, name, root, "f32", threads)
    bf16, bf16_cost = run_splam(splam, name, root, "bf16", threads)
    row = {"component": name, "f32_max_error": worst(relative_max_error, f32, reference["f32"]),
           "bf16_rms_error": worst(relative_rms_error, bf16, reference["f32"]),
           "torch_autocast_rms_error": worst(relative_rms_error, reference["autocast"], reference["f32"]),
           "torch_bf16_rms_error": worst(relative_rms_error, reference["bf16"], reference["f32"]),
           **f32_cost, **bf16_cost}
    row["bf16_ratio"] = row["bf16_rms_error"] / min(row["torch_autocast_rms_error"], row["torch_bf16_rms_error"])
    row["within"] = row["f32_max_error"] <= F32_BOUND and row["bf16_ratio"] <= BF16_BOUND
    return row


HEADER = """| component | f32 max error | bf16 RMS error | PyTorch autocast | PyTorch bf16 | ratio | f32 | bf16 |
|---|---|---|---|---|---|---|---|"""


def line(row):
    return ("| {component}{note} | {f32_max_error:.1e} | {bf16_rms_error:.2e} | {torch_autocast_rms_error:.2e} | "
            "{torch_bf16_rms_error:.2e} | {bf16_ratio:.2f} | {f32_seconds:.1f} s, {f32_gb:.2f} GB | "
            "{bf16_seconds:.1f} s, {bf16_gb:.2f} GB |").format(
                f32_gb=row["f32_rss"] / 1e9, bf16_gb=row["bf16_rss"] / 1e9,
                note="" if row["within"] else ", BEYOND ITS BOUND", **row)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", help="where models, inputs and outputs are, or will be")
    parser.add_argument("--splam", default=os.path.join(os.path.dirname(__file__), "..", "..", "build", "splam"))
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--only", default=",".join(CASES), help="components, separated by commas (%(default)s)")
    parser.add_argument("--json", action="store_true", help="one JSON object a line instead of the table")
    arguments = parser.parse_args()
    names = arguments.only.split(",")
    for name in names:
        if name not in CASES:
            parser.error(f'"{name}" is no component: {", ".join(CASES)} are')
    root, splam = os.path.abspath(arguments.folder), os.path.abspath(arguments.splam)
    if not os.access(splam, os.X_OK):
        parser.error(f"{splam}: no such program; build it, or name it with --splam")
    os.makedirs(root, exist_ok=True)
    if not arguments.json:
        print(HEADER, flush=True)
    within = True
    for name in names:
        make_missing(name, root, arguments.threads)
        row = compare(name, root, splam, arguments.threads)
        within = within and row["within"]
        print(json.dumps(row) if arguments.json else line(row), flush=True)
    sys.exit(0 if within else 1)


if __name__ == "__main__":
    main()
