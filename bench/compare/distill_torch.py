"""One SPLAM distillation step in PyTorch, timed: the peer of `splam bench --only train`. sd.py takes Step from here.

The step is what `splam distill` does per optimiser step with cached latents and conditioning: guided teacher DDIM step
(conditional and unconditional in one batch), EMA target, student forward and backward, clipping, AdamW, EMA. It is
measured in every combination of float32 or bfloat16 autocast and NCHW or channels-last, interleaved so that a slow
moment of the machine hits all alike. Prints one JSON object; `best` is the fastest median.

    python bench/compare/distill_torch.py [--unet FOLDER] [--batch 32] [--size 16] [--repeats 7] [--threads 2]

Packages: tools/golden/requirements.txt.
"""
import argparse
import copy
import json
import os
import statistics
import sys
import time

import torch
from diffusers import UNet2DConditionModel

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "tools", "golden"))
import distill  # noqa: E402  the plain implementation holds the mathematics

DEMO = dict(
    sample_size=16, in_channels=4, out_channels=4, block_out_channels=(64, 128, 192), layers_per_block=1,
    down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"), attention_head_dim=4,
    cross_attention_dim=128, norm_num_groups=32)
LEARNING_RATE, EMA_DECAY, GUIDANCE_W, SKIP, DDIM_POINTS = 2e-4, 0.95, 2.0, 20, 50


class Step:
    """The state of a run in one precision and memory layout; calling it takes one optimiser step, returns the loss.

    The teacher becomes the step's own. Weights, moments and gradients have its dtype; autocast says whether products of
    float32 weights are made in bfloat16."""

    def __init__(self, teacher, batch, size, tokens, autocast, channels_last):
        self.autocast, self.dtype = autocast, teacher.dtype
        self.layout = torch.channels_last if channels_last else torch.contiguous_format
        self.teacher = teacher.eval().requires_grad_(False).to(memory_format=self.layout)
        self.student = distill.make_student(teacher, True).to(memory_format=self.layout)
        self.ema = copy.deepcopy(self.student).eval().requires_grad_(False)
        self.parameters = list(self.student.parameters())
        self.optimizer = torch.optim.AdamW(self.parameters, lr=LEARNING_RATE, betas=(0.9, 0.999), eps=1e-8,
                                           weight_decay=0.0)
        abar = distill.alphas_cumprod("scaled_linear", 0.00085, 0.012)
        self.alpha, self.sigma = abar.sqrt(), (1 - abar).sqrt()
        self.generator = torch.Generator().manual_seed(1)
        self.batch, self.shape = batch, (batch, teacher.config.in_channels, size, size)
        self.context_shape = (batch, tokens, teacher.config.cross_attention_dim)

    def random(self, shape):
        return torch.randn(shape, generator=self.generator)

    def network(self, unet, z, timestep, context, gamma=None):
        cond = None if gamma is None else distill.gamma_embedding(gamma)
        z, context = z.to(self.dtype), context.to(self.dtype)
        cond = cond if cond is None else cond.to(self.dtype)
        with torch.autocast("cpu", torch.bfloat16, enabled=self.autocast):
            out = unet(z.contiguous(memory_format=self.layout), timestep, context, timestep_cond=cond).sample
        return out.float()

    def column(self, values):
        return values.float()[:, None, None, None]

    def __call__(self):
        latents, noise = self.random(self.shape), self.random(self.shape)
        context, uncond = self.random(self.context_shape), self.random(self.context_shape)
        start = 20 * (torch.randint(0, DDIM_POINTS, (self.batch,), generator=self.generator) + 1) - 1
        end = (start - SKIP).clamp(min=0)
        gamma = torch.rand(self.batch, generator=self.generator)
        alpha_s, sigma_s = self.column(self.alpha[start]), self.column(self.sigma[start])
        alpha_e, sigma_e = self.column(self.alpha[end]), self.column(self.sigma[end])
        with torch.no_grad():
            z_s = alpha_s * latents + sigma_s * noise
            both = self.network(self.teacher, torch.cat([z_s, z_s]), torch.cat([start, start]),
                                torch.cat([context, uncond]))
            eps_c, eps_u = both.chunk(2)
            eps = eps_c + GUIDANCE_W * (eps_c - eps_u)
            z_e = alpha_e * (z_s - sigma_s * eps) / alpha_s + sigma_e * eps
            eps = self.network(self.ema, z_e, end, context, torch.ones_like(gamma))
            c_skip, c_out = (self.column(c) for c in distill.boundary(end))
            target = c_skip * z_e + c_out * (z_e - sigma_e * eps) / alpha_e
            rho = self.alpha[start] / self.alpha[end]
            g = gamma.double()
            sigma_g = distill.interpolated_sigma("quadratic", g, rho, self.sigma[start], self.sigma[end])
            z_g = self.column(g) * z_s + self.column((1 - g) * rho) * z_e
        eps = self.network(self.student, z_g, start, context, gamma)
        c_skip, c_out = (self.column(c) for c in distill.boundary(start))
        prediction = c_skip * z_g + c_out * (z_g - self.column(sigma_g) * eps) / alpha_s
        loss = (((prediction - target) ** 2 + 1e-6).sqrt() - 1e-3).mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        with torch.no_grad():
            torch._foreach_lerp_(list(self.ema.parameters()), self.parameters, 1 - EMA_DECAY)
        return loss.item()


def measure(steps, repeats):
    """{name: seconds of each repeat}; one warm-up each, then the variants take turns. What this processor cannot run is
    said and left out: on AVX2 alone PyTorch refuses some products of bf16."""
    for name, step in list(steps.items()):
        try:
            step()
        except RuntimeError as error:
            print(f"{name} left out: {str(error).splitlines()[0]}", file=sys.stderr)
            del steps[name]
    if not steps:
        raise SystemExit("no variant runs on this processor")
    seconds = {name: [] for name in steps}
    for _ in range(repeats):
        for name, step in steps.items():
            began = time.perf_counter()
            step()
            seconds[name].append(time.perf_counter() - began)
    return seconds


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--unet", help="a diffusers UNet folder (config.json, weights); default: the demo's shape")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--size", type=int, default=16, help="latent height and width")
    parser.add_argument("--tokens", type=int, default=16, help="context length")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", help="one variant, e.g. bf16_channels_last")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    if arguments.unet:
        teacher = UNet2DConditionModel.from_pretrained(arguments.unet, torch_dtype=torch.float32)
    else:
        teacher = UNet2DConditionModel(**DEMO)
    variants = {f"{'bf16' if bf16 else 'fp32'}_{'channels_last' if last else 'nchw'}": (bf16, last)
                for bf16 in (True, False) for last in (True, False)}
    steps = {name: Step(copy.deepcopy(teacher), arguments.batch, arguments.size, arguments.tokens, *variant)
             for name, variant in variants.items() if arguments.only in (None, name)}
    if not steps:
        parser.error(f"--only {arguments.only}: not one of {', '.join(variants)}")
    seconds = measure(steps, arguments.repeats)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    best = min(medians, key=medians.get)
    print(json.dumps({
        "torch": torch.__version__, "threads": arguments.threads, "batch": arguments.batch, "size": arguments.size,
        "parameters": sum(p.numel() for p in teacher.parameters()), "repeats": arguments.repeats,
        "distill_step_seconds": medians, "best": best, "best_seconds": medians[best],
        "samples": {name: [round(x, 4) for x in values] for name, values in seconds.items()}}, indent=2))


if __name__ == "__main__":
    main()
