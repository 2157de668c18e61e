"""Networks of Stable Diffusion XL's and 3.5's size by splam, OpenVINO and PyTorch, on the same shapes, in turns; and by
splam alone, prompt to PNG in 4 steps (loading included), steps of distilling adapters of rank 64 and a whole UNet.

    large.py SPLAM FOLDER [--only WORK] [--csv] [--threads 2]

FOLDER has sdxl.safetensors, ssd1b.safetensors and vega.safetensors (tools/make_random_model.py --single-file) and the
folders sd35m and sd35l, as that writes them, and receives OpenVINO's graphs, which are converted once; these and
PyTorch have random weights of the same shapes, which are as fast. All compute in bf16 (OpenVINO by its inference
precision, from weights in f16), and in f32 where the processor has no products of bf16, PyTorch with weights in f32
then. 3.5 Large is splam's alone, with weights of 8 bits. Stable Diffusion 3.5's text has 77
tokens of CLIP's and 256 of T5's, which is absent: splam computes those, equal ones, once. Seconds are medians of the
runs after one that is not counted (opening, compiling and packing are in that one); memory is the process's peak.
--csv: as bench/large.csv has it. Needs requirements.txt, 16 GB of memory, and a machine that does nothing else.
"""
import argparse
import csv
import datetime
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
# (family, part as splam bench calls it, pixels)
WORKS = (("sdxl", "unet_forward", 1024), ("sdxl", "unet_forward", 512), ("sdxl", "vae_decode", 1024),
         ("ssd1b", "unet_forward", 1024), ("sd35m", "transformer_forward", 1024), ("sd35m", "transformer_forward", 512),
         ("sdxl", "generate", 1024), ("sd35m", "generate", 1024), ("sd35l", "transformer_forward", 512),
         ("sdxl", "lora_step", 512), ("sdxl", "lora_step", 1024), ("sd35m", "lora_step", 512),
         ("vega", "whole_step", 512))
STEPS = {"lora_step": ("--lora-rank", "64"), "whole_step": ("--optimizer", "adamw8bit", "--gradient-checkpointing")}
ALONE = ("generate", *STEPS, "sd35l")  # parts and families of splam's alone
WEIGHTS = {"sd35l": "q8"}
COLUMNS = ("date", "machine", "family", "part", "pixels", "framework", "version", "threads", "seconds",
           "peak_rss_bytes")
FRAMEWORKS = ("splam", "OpenVINO", "PyTorch")


# ---- PyTorch ----

def fill(model):
    """A few million numbers for all parameters, which is quick to write; times another factor for each, since OpenVINO
    keeps equal weights once."""
    import torch
    start = torch.randn(1 << 22)
    with torch.no_grad():
        for k, p in enumerate(model.parameters()):
            flat, numbers = p.data.view(-1), start * (0.01 + k * 5e-6)
            for i in range(0, flat.numel(), len(numbers)):
                flat[i:i + len(numbers)] = numbers[:min(len(numbers), flat.numel() - i)]
    return model


def new_network(family, part, dtype):
    import torch
    sys.path[:0] = [os.path.join(HERE, "..", "..", "tools"), os.path.join(HERE, "..", "..", "tools", "golden")]
    import make_random_model as full
    with torch.device("meta"):
        model = full.new_model(family, part.split("_")[0])
    return fill(model.to(dtype).to_empty(device="cpu").eval())


def shapes_of(family, part, pixels):
    """Of the inputs by position: sample, and of a denoiser timestep, text, pooled text and, of XL's, sizes."""
    side = pixels // 8
    if part == "vae_decode":
        return [[1, 4, side, side]]
    if family.startswith("sd35"):  # 77 tokens of CLIP's and 256 of the absent T5's
        return [[1, 16, side, side], [1], [1, 333, 4096], [1, 2048]]
    return [[1, 4, side, side], [1], [1, 77, 2048], [1, 1280], [1, 6]]


def inputs(family, part, pixels):
    """Arrays in f32, the timestep a whole number."""
    import numpy as np
    generator = np.random.default_rng(1)
    given = [generator.standard_normal(shape, dtype=np.float32) for shape in shapes_of(family, part, pixels)]
    if len(given) > 1:
        given[1] = np.array([501])
    if len(given) > 4:
        given[4] = np.array([[pixels, pixels, 0, 0, pixels, pixels]], dtype=np.float32)
    return given


def tensors(family, part, pixels, dtype):
    import torch
    return tuple(torch.from_numpy(a).to(dtype if a.dtype.kind == "f" else torch.int64)
                 for a in inputs(family, part, pixels))


def adapter(network, part):
    """The network as a module that takes and returns tensors alone."""
    import torch

    class Adapter(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.network = network

        def forward(self, z, timestep=None, text=None, pooled=None, sizes=None):
            if part == "vae_decode":
                return self.network.decode(z, return_dict=False)[0]
            if part == "transformer_forward":
                return self.network(z, text, pooled, timestep, return_dict=False)[0]
            added = {"text_embeds": pooled, "time_ids": sizes}
            return self.network(z, timestep, text, added_cond_kwargs=added, return_dict=False)[0]

    return Adapter().eval()


def pytorch(family, part, pixels, threads, _):
    import torch
    torch.set_num_threads(threads)
    with open("/proc/cpuinfo") as f:
        dtype = torch.bfloat16 if "avx512_bf16" in f.read() else torch.float32
    network = adapter(new_network(family, part, dtype), part)
    given = tensors(family, part, pixels, dtype)

    def run():
        with torch.inference_mode():
            network(*given)
    return run, torch.__version__


# ---- OpenVINO ----

def graph_path(folder, family, part):
    return os.path.join(folder, f"openvino-{family}-{part}.xml")


def convert(folder, family, part):
    """A graph of any size, weights in f16."""
    import openvino
    import torch
    from openvino.frontend.pytorch.patch_model import __make_16bit_traceable as traceable
    network = adapter(new_network(family, part, torch.float16), part)
    traceable(network)
    example = tensors(family, part, 256, torch.float32)
    with torch.no_grad():
        graph = openvino.convert_model(network, example_input=example)
    path = graph_path(folder, family, part)
    beside = path.replace("openvino-", "part-")
    openvino.save_model(graph, beside, compress_to_fp16=True)
    os.replace(beside.replace(".xml", ".bin"), path.replace(".xml", ".bin"))
    os.replace(beside, path)


def open_vino(family, part, pixels, threads, folder):
    import openvino
    graph = openvino.Core().read_model(graph_path(folder, family, part))
    shapes = shapes_of(family, part, pixels)
    graph.reshape({i.any_name: shape for i, shape in zip(graph.inputs, shapes)})
    options = {"INFERENCE_PRECISION_HINT": "bf16", "PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads,
               "NUM_STREAMS": 1}
    request = openvino.Core().compile_model(graph, "CPU", options).create_infer_request()
    given = inputs(family, part, pixels)
    return lambda: request.infer(given, share_inputs=True, share_outputs=True), openvino.__version__.split("-")[0]


# ---- all ----

def peak_rss():
    with open("/proc/self/status") as f:
        return next(int(line.split()[1]) * 1024 for line in f if line.startswith("VmHWM"))


def side(framework, work, threads, folder, runs=2):
    """In a process of its own: prints one JSON object."""
    run, version = {"OpenVINO": open_vino, "PyTorch": pytorch}[framework](*work, threads, folder)
    seconds = []
    for _ in range(runs + 1):
        began = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - began)
    print(json.dumps({"seconds": statistics.median(seconds[1:]), "version": version, "peak": peak_rss()}))


def model_path(folder, family):
    return os.path.join(folder, family if family.startswith("sd35") else f"{family}.safetensors")


def distilling_step(a, family, part, pixels):
    """Median of a step's seconds, after one that is not counted; pictures are encoded beforehand."""
    import numpy as np
    from PIL import Image
    with tempfile.TemporaryDirectory() as folder:
        model, latents, output = (model_path(a.folder, family), os.path.join(folder, "latents"),
                                  os.path.join(folder, "student"))
        pictures = os.path.join(folder, "pictures")
        os.makedirs(pictures)
        for i in range(4):
            noise = np.random.default_rng(i).integers(0, 256, (pixels, pixels, 3), dtype=np.uint8)
            Image.fromarray(noise).save(os.path.join(pictures, f"{i}.png"))
            with open(os.path.join(pictures, f"{i}.txt"), "w") as f:
                f.write(f"noise number {i}")
        subprocess.run([a.splam, "data", f"folder:{pictures}", "--cache", latents, "--teacher", model, "--resolution",
                        str(pixels)], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        done = subprocess.Popen([a.splam, "distill", "--teacher", model, "--data", f"latents:{latents}", "--output",
                                 output, *STEPS[part], "--train-batch-size", "1", "--max-train-steps", str(a.steps),
                                 "--checkpointing-steps", "1000", "--threads", str(a.threads)],
                                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        _, status, usage = os.wait4(done.pid, 0)
        if status:
            sys.exit("splam distill failed")
        with open(os.path.join(output, "metrics.jsonl")) as f:
            seconds = [step["seconds"] for step in map(json.loads, f) if "seconds" in step]
    return {"seconds": statistics.median(seconds[1:]), "peak": usage.ru_maxrss * 1024}


def of_splam(a, family, part, pixels):
    version = subprocess.run([a.splam, "--version"], check=True, capture_output=True, text=True).stdout.split()[1]
    if part in STEPS:
        return {**distilling_step(a, family, part, pixels), "version": version}
    model = model_path(a.folder, family)
    line = [a.splam, "bench", "-m", model, "--only", "generate", "--part", part, "--precision", "bf16", "--json",
            "-W", str(pixels), "-H", str(pixels), "-t", str(a.threads),
            *(("--weights", WEIGHTS[family]) if family in WEIGHTS else ())]
    report = json.loads(subprocess.run(line, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout)
    return {"seconds": report[f"{part}_seconds"], "peak": report["peak_rss_bytes"][part], "version": version}


def of_other(a, framework, work):
    line = [sys.executable, os.path.abspath(__file__), a.splam, a.folder, "--side", framework, "--threads",
            str(a.threads), "--only", "-".join(map(str, work))]
    done = subprocess.run(line, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("splam")
    parser.add_argument("folder")
    parser.add_argument("--only", choices=["-".join(map(str, work)) for work in WORKS])
    parser.add_argument("--frameworks", nargs="+", choices=FRAMEWORKS, default=FRAMEWORKS)
    parser.add_argument("--csv", action="store_true")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, default=4, help="of distilling, the first of which is not counted")
    parser.add_argument("--side", choices=("convert",) + FRAMEWORKS, help=argparse.SUPPRESS)
    a = parser.parse_args()
    works = [work for work in WORKS if a.only in (None, "-".join(map(str, work)))]
    if a.side == "convert":
        return convert(a.folder, *works[0][:2])
    if a.side:
        return side(a.side, works[0], a.threads, a.folder)
    from sd import machine
    writer = csv.writer(sys.stdout, lineterminator="\n")
    if a.csv:
        writer.writerow(COLUMNS)
    for work in works:
        for framework in a.frameworks:
            if framework != "splam" and set(work) & set(ALONE):
                continue
            if framework == "OpenVINO" and not os.path.exists(graph_path(a.folder, *work[:2])):
                subprocess.run([sys.executable, os.path.abspath(__file__), a.splam, a.folder, "--side", "convert",
                                "--only", "-".join(map(str, work))], check=True, stdout=subprocess.DEVNULL)
            found = of_splam(a, *work) if framework == "splam" else of_other(a, framework, work)
            if a.csv:
                writer.writerow([datetime.date.today(), machine()[0], *work, framework, found["version"], a.threads,
                                 f"{found['seconds']:.2f}", found["peak"]])
                sys.stdout.flush()
            else:
                print(f"{'-'.join(map(str, work)):22} {framework:8} {found['seconds']:6.2f} s  "
                      f"{found['peak'] / 1e9:.2f} GB", flush=True)


if __name__ == "__main__":
    main()
