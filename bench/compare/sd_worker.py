"""One framework's side of sd.py: a process that opens one piece of work and runs it when told to.

    python sd_worker.py torch|openvino|convert --model DIR --folder DIR \
        --work unet|vae|backward|distill|generate [--variant V] [--threads N]

It reads a JSON object a line from stdin and answers with one on stdout:

    {"command": "open"}                 loads and compiles what the work needs, runs it once  -> {"seconds": s}
    {"command": "run", "count": n}      evaluations                                           -> {"seconds": [s, ...]}
    {"command": "generate", "output": "x.png"}  prompt to PNG, everything loaded anew         -> {"stages": {...}}
    {"command": "quit"}                                                                       -> {"peak_rss_bytes": b}

Variants of torch are f32, bf16 (the whole module) or autocast (f32 weights, bfloat16 autocast), then -nchw or
-channels_last; those of openvino f32 or bf16, its inference precision hint. `convert` writes OpenVINO's graphs of the
model and the sampler's numbers to --folder and reads no commands; `openvino` then needs no PyTorch, and is not charged
for it.

Packages: requirements.txt.
"""
import argparse
import json
import os
import sys
import time

import numpy as np

STEPS = 4
PARTS = ("text_encoder", "unet", "vae_decoder")


def load_json(*path):
    with open(os.path.join(*path)) as f:
        return json.load(f)


def latent_shape(model):
    unet = load_json(model, "unet", "config.json")
    return 1, unet["in_channels"], unet["sample_size"], unet["sample_size"]


def context_shape(model):
    text = load_json(model, "text_encoder", "config.json")
    return 1, text["max_position_embeddings"], text["hidden_size"]


def random_array(seed, shape):
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


def save_png(image, path):
    """image [1,3,H,W] in about [-1,1]."""
    from PIL import Image
    pixels = np.clip(image[0].transpose(1, 2, 0) * 127.5 + 127.5, 0, 255).round().astype(np.uint8)
    Image.fromarray(pixels).save(path)


class Stages:
    """Seconds by name, each from the end of the one before."""

    def __init__(self):
        self.seconds, self.began = {}, time.perf_counter()

    def end(self, name):
        now = time.perf_counter()
        self.seconds[name] = now - self.began
        self.began = now


# ---- PyTorch ----

class Torch:
    def __init__(self, model, work, variant, threads, prompt):
        import torch
        self.torch, self.model, self.work, self.prompt = torch, model, work, prompt
        self.kind, _, layout = variant.partition("-")
        self.layout = torch.channels_last if layout == "channels_last" else torch.contiguous_format
        self.dtype = torch.bfloat16 if self.kind == "bf16" else torch.float32
        torch.set_num_threads(threads)

    def network(self, part):
        from diffusers import AutoencoderKL, UNet2DConditionModel
        from transformers import CLIPTextModel
        kind = {"unet": UNet2DConditionModel, "vae": AutoencoderKL, "text_encoder": CLIPTextModel}[part]
        network = kind.from_pretrained(os.path.join(self.model, part), torch_dtype=self.dtype).eval()
        return network if part == "text_encoder" else network.to(memory_format=self.layout)

    def tensor(self, array):
        tensor = self.torch.from_numpy(array).to(self.dtype)
        return tensor.contiguous(memory_format=self.layout) if tensor.dim() == 4 else tensor

    def compute(self, function):
        with self.torch.inference_mode(), self.torch.autocast("cpu", self.torch.bfloat16,
                                                              enabled=self.kind == "autocast"):
            return function()

    def open(self):
        if self.work == "distill":
            self.run = self.distillation()
            return self.run()
        x = self.tensor(random_array(1, latent_shape(self.model)))
        if self.work in ("unet", "backward"):
            network, t = self.network("unet"), self.torch.tensor([501])
            context = self.tensor(random_array(2, context_shape(self.model)))
        if self.work == "backward":
            self.run = lambda: self.step(network, x, t, context)
        elif self.work == "unet":
            self.run = lambda: self.compute(lambda: network(x, t, context, return_dict=False)[0])
        else:
            network = self.network("vae")
            self.run = lambda: self.compute(lambda: network.decode(x, return_dict=False)[0])
        self.run()

    def step(self, network, x, t, context):
        """The gradients of the output's mean square; those of the step before are given back first, as in training."""
        network.zero_grad(set_to_none=True)
        with self.torch.autocast("cpu", self.torch.bfloat16, enabled=self.kind == "autocast"):
            loss = network(x, t, context, return_dict=False)[0].float().square().mean()
        loss.backward()

    def distillation(self):
        """A whole SPLAM step of batch 1."""
        from distill_torch import Step
        self.torch.manual_seed(0)
        size, tokens = latent_shape(self.model)[2], context_shape(self.model)[1]
        return Step(self.network("unet"), 1, size, tokens, self.kind == "autocast",
                    self.layout == self.torch.channels_last)

    def generate(self, output):
        from diffusers import LCMScheduler
        from transformers import CLIPTokenizer
        stages = Stages()
        tokenizer = CLIPTokenizer.from_pretrained(os.path.join(self.model, "tokenizer"))
        scheduler = LCMScheduler.from_config(load_json(self.model, "scheduler", "scheduler_config.json"))
        text, unet, vae = (self.network(part) for part in ("text_encoder", "unet", "vae"))
        stages.end("load")
        ids = tokenizer(self.prompt, padding="max_length", truncation=True, return_tensors="pt").input_ids
        context = self.compute(lambda: text(ids)[0])
        stages.end("text")
        scheduler.set_timesteps(STEPS)
        z = self.tensor(random_array(3, latent_shape(self.model)))
        for t in scheduler.timesteps:
            epsilon = self.compute(lambda: unet(z, t, context, return_dict=False)[0])
            z = scheduler.step(epsilon, t, z, return_dict=False)[0].to(self.dtype)
        stages.end("denoise")
        image = self.compute(lambda: vae.decode(z / vae.config.scaling_factor, return_dict=False)[0])
        image = image.float().numpy()
        stages.end("decode")
        save_png(image, output)
        stages.end("write")
        return stages.seconds


# ---- OpenVINO ----

class OpenVino:
    def __init__(self, model, work, variant, threads, folder):
        import openvino
        self.model, self.work, self.folder = model, work, folder
        self.core = openvino.Core()
        self.options = {"INFERENCE_PRECISION_HINT": variant, "PERFORMANCE_HINT": "LATENCY",
                        "INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1}

    def network(self, part):
        path = os.path.join(self.folder, f"{part}.xml")
        compiled = self.core.compile_model(self.core.read_model(path), "CPU", self.options)
        request = compiled.create_infer_request()
        return lambda *inputs: request.infer(list(inputs), share_inputs=True, share_outputs=True)[0]

    def open(self):
        x = random_array(1, latent_shape(self.model))
        if self.work == "unet":
            network, t, context = self.network("unet"), np.array([501]), random_array(2, context_shape(self.model))
            self.run = lambda: network(x, t, context)
        else:
            network = self.network("vae_decoder")
            self.run = lambda: network(x)
        self.run()

    def generate(self, output):
        stages = Stages()
        sampler = load_json(self.folder, "sampler.json")
        text, unet, decode = (self.network(part) for part in PARTS)
        stages.end("load")
        context = text(np.array([sampler["input_ids"]]))
        stages.end("text")
        z = random_array(3, latent_shape(self.model))
        for i, step in enumerate(sampler["steps"]):
            epsilon = unet(z, np.array([step["timestep"]]), context)
            z = step["sample"] * z + step["output"] * epsilon + step["noise"] * random_array(4 + i, z.shape)
            z = z.astype(np.float32)
        stages.end("denoise")
        image = decode(z / np.float32(sampler["scaling_factor"]))
        stages.end("decode")
        save_png(image, output)
        stages.end("write")
        return stages.seconds


def lcm_steps(model):
    """LCMScheduler's steps as what stands before sample, network's output and noise: its step is linear in them."""
    import torch
    from diffusers import LCMScheduler
    from diffusers.schedulers import scheduling_lcm
    steps = []
    for i in range(STEPS):
        numbers = {}
        for name in ("sample", "output", "noise"):
            scheduler = LCMScheduler.from_config(load_json(model, "scheduler", "scheduler_config.json"))
            scheduler.set_timesteps(STEPS)
            scheduler._init_step_index(scheduler.timesteps[i])
            one = {other: torch.full((1,), float(other == name), dtype=torch.float64)
                   for other in ("sample", "output", "noise")}
            scheduling_lcm.randn_tensor = lambda *_, **__: one["noise"]  # noqa: B023  used within this turn
            numbers[name] = float(scheduler.step(one["output"], scheduler.timesteps[i], one["sample"],
                                                 return_dict=False)[0])
        steps.append({"timestep": int(scheduler.timesteps[i]), **numbers})
    return steps


def convert(model, folder, prompt):
    """OpenVINO's graphs with weights in float16, as in the model's own files, and sampler.json."""
    import openvino
    import torch
    from transformers import CLIPTokenizer
    torch_side = Torch(model, "", "f32-nchw", os.cpu_count(), prompt)
    scaling_factor = load_json(model, "vae", "config.json").get("scaling_factor", 0.18215)

    class Adapter(torch.nn.Module):
        """A network whose forward takes and returns tensors alone."""

        def __init__(self, network, function):
            super().__init__()
            self.network, self.function = network, function

        def forward(self, *inputs):
            return self.function(self.network, *inputs)

    tokenizer = CLIPTokenizer.from_pretrained(os.path.join(model, "tokenizer"))
    ids = tokenizer(prompt, padding="max_length", truncation=True, return_tensors="pt").input_ids
    latent, context = torch.zeros(latent_shape(model)), torch.zeros(context_shape(model))
    graphs = {
        "text_encoder": ("text_encoder", lambda n, i: n(i)[0], (ids,)),
        "unet": ("unet", lambda n, x, t, c: n(x, t, c, return_dict=False)[0], (latent, torch.tensor([501]), context)),
        "vae_decoder": ("vae", lambda n, z: n.decode(z, return_dict=False)[0], (latent,)),
    }
    os.makedirs(folder, exist_ok=True)
    for name, (part, function, example) in graphs.items():
        path = os.path.join(folder, f"{name}.xml")
        if os.path.exists(path):
            continue
        network = Adapter(torch_side.network(part), function).eval()
        with torch.no_grad():
            graph = openvino.convert_model(network, example_input=example, input=[tuple(x.shape) for x in example])
        openvino.save_model(graph, os.path.join(folder, f"{name}.part.xml"), compress_to_fp16=True)
        del graph, network
        os.replace(os.path.join(folder, f"{name}.part.bin"), os.path.join(folder, f"{name}.bin"))
        os.replace(os.path.join(folder, f"{name}.part.xml"), path)
    with open(os.path.join(folder, "sampler.json"), "w") as f:
        json.dump({"input_ids": ids[0].tolist(), "scaling_factor": scaling_factor, "steps": lcm_steps(model)}, f)


# ---- commands ----

def peak_rss():
    with open("/proc/self/status") as f:
        return next(int(line.split()[1]) * 1024 for line in f if line.startswith("VmHWM"))


def timed(function):
    began = time.perf_counter()
    function()
    return time.perf_counter() - began


def answer(side, request):
    command = request["command"]
    if command == "open":
        return {"seconds": timed(side.open)}
    if command == "run":
        return {"seconds": [timed(side.run) for _ in range(request["count"])]}
    if command == "generate":
        return {"stages": side.generate(request["output"])}
    return {"peak_rss_bytes": peak_rss()}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("side", choices=("torch", "openvino", "convert"))
    parser.add_argument("--model", required=True, help="a diffusers folder")
    parser.add_argument("--folder", required=True, help="OpenVINO's graphs")
    parser.add_argument("--work", default="unet", choices=("unet", "vae", "backward", "distill", "generate"))
    parser.add_argument("--variant", default="")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--prompt", default="a lighthouse in a storm")
    a = parser.parse_args()
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is not an answer
    if a.side == "convert":
        return convert(a.model, a.folder, a.prompt)
    side = (Torch(a.model, a.work, a.variant, a.threads, a.prompt) if a.side == "torch" else
            OpenVino(a.model, a.work, a.variant, a.threads, a.folder))
    for line in sys.stdin:
        request = json.loads(line)
        print(json.dumps(answer(side, request)), file=answers, flush=True)
        if request["command"] == "quit":
            break


if __name__ == "__main__":
    main()
