"""Few-step distillation in plain PyTorch: sub-path linear approximation (splam), latent consistency (lcm), phased
consistency (pcm), trajectory consistency (tcd), progressive distillation and distribution matching (dmd).

Written to be read beside the equations, not to be fast. All randomness comes in as recorded draws, so a run is a
function of (teacher, draws, settings). Letters: B batch, C latent channels, H, W latent size, L tokens, D context
width, M number of DDIM points, K length of a sub-path in timesteps. Coefficients that depend on the timestep alone are
computed in float64 and rounded once.

    python distill.py --case ../../tests/golden/distill-splam        runs a recorded case again and compares
"""
import argparse
import copy
import json
import math
import os

import numpy as np
import torch
from diffusers import DDIMScheduler, LatentConsistencyModelPipeline, UNet2DConditionModel
from diffusers.optimization import get_scheduler
from diffusers.schedulers.scheduling_ddim import rescale_zero_terminal_snr
from diffusers.utils import logging
from safetensors.torch import load_file

logging.set_verbosity_error()

DEFAULTS = {
    "max-train-steps": 10, "train-batch-size": 3, "learning-rate": 8e-6, "loss-type": "huber",
    "huber-c": 1e-3, "ema-decay": 0.95, "guidance-scale-w": 8.0, "num-ddim-timesteps": 50, "skip": 20,
    "solver-steps": 1, "gradient-accumulation-steps": 1, "mixed-precision": "no",
}  # lr-scheduler is constant where it is not given
OBJECTIVE_DEFAULTS = {
    "splam": {"sigma": "quadratic", "gamma-conditioning": "embedding"},
    "lcm": {},
    "pcm": {"phases": 4},
    "tcd": {},
    "progressive": {"num-ddim-timesteps": 64, "solver-steps": 2, "rounds": 4, "loss-type": "l2", "skip": 0},
    "dmd": {"student-steps": 4, "fake-score-steps": 5},  # gan-weight is 0 where it is not given
}
SUBPATH_FLAGS = ("loss-type", "huber-c", "num-ddim-timesteps", "skip", "solver-steps")


def complete(flags):
    """The settings of a run from the flags that were given."""
    objective = flags.get("objective", "splam")
    settings = {**DEFAULTS, **OBJECTIVE_DEFAULTS[objective], **flags, "objective": objective}
    if "guidance-range" in settings:  # LOW:HIGH of w + 1, which is drawn in place of one for all
        del settings["guidance-scale-w"]
    return {name: value for name, value in settings.items() if objective != "dmd" or name not in SUBPATH_FLAGS}


COND_PROJ_DIM = 256
MAX_GRADIENT_NORM = 1.0


# ---- noise schedule ------------------------------------------------------------------------------------------------

def alphas_cumprod(beta_schedule, beta_start, beta_end, count=1000):
    """abar_t in float64 [count]; diffusers computes the same in float32."""
    if beta_schedule == "scaled_linear":
        betas = torch.linspace(beta_start ** 0.5, beta_end ** 0.5, count, dtype=torch.float64) ** 2
    elif beta_schedule == "linear":
        betas = torch.linspace(beta_start, beta_end, count, dtype=torch.float64)
    else:
        raise ValueError(f"unknown beta schedule {beta_schedule}")
    return torch.cumprod(1 - betas, dim=0)


def path_of(config):
    """abar_t of a scheduler's config, float64."""
    abar = alphas_cumprod(config.beta_schedule, config.beta_start, config.beta_end, config.num_train_timesteps)
    if not config.rescale_betas_zero_snr:
        return abar
    betas = 1 - torch.cat([abar[:1], abar[1:] / abar[:-1]])
    return torch.cumprod(1 - rescale_zero_terminal_snr(betas), dim=0)


def boundary(timestep):
    """c_skip and c_out of the consistency function, float64."""
    scaled = 10 * timestep.double()
    return 0.25 / (scaled ** 2 + 0.25), scaled / (scaled ** 2 + 0.25).sqrt()


def interpolated_sigma(kind, gamma, rho, sigma_start, sigma_end):
    """The noise level s_g that goes with z_g = g z_s + (1-g) rho z_e."""
    if kind == "quadratic":
        return (rho ** 2 * sigma_end ** 2 + gamma ** 2 * (1 - rho ** 2)).sqrt()
    return gamma * sigma_start + (1 - gamma) * rho * sigma_end


def position(kind, gamma, start, end):
    """(share of z_s, share of z_e, (a_g, s_g)) of the point z_g, which has a_g of signal and s_g of noise. start, end:
    (a, s) of the sub-path's ends. chord: z_g and its pair are mixed alike; otherwise the far end is rescaled to the
    start's signal level."""
    (alpha_s, sigma_s), (alpha_e, sigma_e) = start, end
    if kind == "chord":
        return gamma, 1 - gamma, (gamma * alpha_s + (1 - gamma) * alpha_e, gamma * sigma_s + (1 - gamma) * sigma_e)
    rho = alpha_s / alpha_e
    return gamma, (1 - gamma) * rho, (alpha_s, interpolated_sigma(kind, gamma, rho, sigma_s, sigma_e))


def fractional_timestep(alpha_by_t, sigma_by_t, alpha, sigma):
    """The real t' with a_t'/s_t' = alpha/sigma, linear in the log ratio between whole timesteps, kept in [0, T-1].
    Below a timestep without signal, whose log ratio is infinite, it is linear in s/(a + s)."""
    grid = (alpha_by_t / sigma_by_t).log()  # falls with t
    wanted = (alpha / sigma).log()
    low = (torch.searchsorted(-grid, -wanted, right=True) - 1).clamp(0, len(grid) - 2)
    fraction = (grid[low] - wanted) / (grid[low] - grid[low + 1])
    noise_by_t, noise = sigma_by_t / (alpha_by_t + sigma_by_t), sigma / (alpha + sigma)
    last = (noise - noise_by_t[low]) / (noise_by_t[low + 1] - noise_by_t[low])
    return (low + torch.where(alpha_by_t[low + 1] > 0, fraction, last)).clamp(0, len(grid) - 1)


def sub_timesteps(start, skip, solver_steps):
    """The teacher's timesteps s = t_0 >= t_1 >= ... >= t_n = e, each [B]; t_j = max(s - round(j K / n), 0), halves
    rounded up."""
    return [(start - (2 * j * skip + solver_steps) // (2 * solver_steps)).clamp(min=0) for j in range(solver_steps + 1)]


# ---- parameterisation ----------------------------------------------------------------------------------------------

def clean_and_noise(prediction_type, output, z, alpha, sigma):
    """(x0, epsilon) from the network's output at z = alpha x0 + sigma epsilon; alpha^2 + sigma^2 need not be 1."""
    if prediction_type == "epsilon":
        return (z - sigma * output) / alpha, output
    if prediction_type == "sample":
        return output, (z - alpha * output) / sigma
    r = (alpha ** 2 + sigma ** 2).sqrt()
    return alpha / r ** 2 * z - sigma / r * output, sigma / r ** 2 * z + alpha / r * output


def guidance_embedding(w):
    """[B] -> [B, 256], as diffusers has it: of 1000 w."""
    return LatentConsistencyModelPipeline.get_guidance_scale_embedding(
        None, w.float(), embedding_dim=COND_PROJ_DIM, dtype=torch.float32)


def gamma_embedding(gamma):
    """The same of v = 10 (1 - g)."""
    return guidance_embedding(10 * (1 - gamma.float()))


def told(settings, draw, gamma, dtype):
    """What cond_proj takes, [B, 256]: w, where it is drawn, or gamma; None for a student without one."""
    if "guidance-range" in settings:
        return guidance_embedding(draw["guidance_scale_w"]).to(dtype)
    return gamma_embedding(gamma).to(dtype) if settings.get("gamma-conditioning") == "embedding" else None


# ---- networks ------------------------------------------------------------------------------------------------------

SIZES = 6


class PooledUNet(UNet2DConditionModel):
    """Stable Diffusion XL's. Its context is what `pack` makes of hidden states [B,L,D], pooled text [B,P] and sizes
    [B,6], so that a context is one tensor everywhere."""

    def forward(self, sample, timestep, context, **more):
        pooled = self.config.projection_class_embeddings_input_dim - SIZES * self.config.addition_time_embed_dim
        states = context[:, :-pooled - SIZES].unflatten(1, (-1, self.config.cross_attention_dim))
        added = {"text_embeds": context[:, -pooled - SIZES:-SIZES], "time_ids": context[:, -SIZES:]}
        return super().forward(sample, timestep, states, added_cond_kwargs=added, **more)


def pack(draws):
    """The draws with each set of conditioning as one tensor, under the names that others have for hidden states."""
    if "conditioning.text_embeds.0" not in draws:
        return draws
    names = ("encoder_hidden_states", "text_embeds", "time_ids")

    def packed(prefix, suffix):
        return torch.cat([draws[f"{prefix}.{name}{suffix}"].flatten(1) for name in names], 1)
    out = {name: t for name, t in draws.items() if not name.startswith(("conditioning.", "negative."))}
    steps = [name.rpartition(".")[2] for name in draws if name.startswith("conditioning.text_embeds.")]
    return {**out, "uncond": packed("negative", ""), **{f"context.{k}": packed("conditioning", f".{k}") for k in steps}}


def without_prompt(network, draw):
    """The negative context of every sample, with that sample's own sizes."""
    uncond = draw["uncond"].expand_as(draw["context"])
    if not isinstance(network, PooledUNet):
        return uncond
    return torch.cat([uncond[:, :-SIZES], draw["context"][:, -SIZES:]], 1)


def load_teacher(folder, dtype, prediction_type=None):
    """The UNet and its scheduler's configuration; prediction_type: in place of what that says."""
    with open(os.path.join(folder, "unet", "config.json")) as f:
        kind = PooledUNet if json.load(f).get("addition_embed_type") else UNet2DConditionModel
    unet = kind.from_pretrained(os.path.join(folder, "unet"), torch_dtype=dtype)
    known = {"prediction_type": prediction_type} if prediction_type else {}
    scheduler = DDIMScheduler.from_pretrained(os.path.join(folder, "scheduler"), **known).config
    return unet.eval().requires_grad_(False), scheduler


def make_student(teacher, has_cond_proj):
    """The teacher, or with cond_proj = 0 added, so that at the start it is the teacher."""
    if not has_cond_proj:
        student = copy.deepcopy(teacher)
    else:
        # not from_config, which puts the default back for keys that the teacher's file did not mention
        config = {key: value for key, value in teacher.config.items() if not key.startswith("_")}
        student = UNet2DConditionModel(**{**config, "time_cond_proj_dim": COND_PROJ_DIM})
        missing, unexpected = student.load_state_dict(teacher.state_dict(), strict=False)
        assert missing == ["time_embedding.cond_proj.weight"] and not unexpected
        torch.nn.init.zeros_(student.time_embedding.cond_proj.weight)
    return student.to(teacher.dtype).train().requires_grad_(True)


ATTENTION_TARGETS = ["to_q", "to_k", "to_v", "to_out.0"]
LORA_TARGETS = {
    "attention": ATTENTION_TARGETS,
    # those of diffusers' train_lcm_distill_lora_sd_wds.py
    "all": ATTENTION_TARGETS + ["proj_in", "proj_out", "ff.net.0.proj", "ff.net.2", "conv1", "conv2", "conv_shortcut",
                                "downsamplers.0.conv", "upsamplers.0.conv", "time_emb_proj"],
}


def add_adapters(student, settings, start):
    """PEFT's LoRA over the student, with starting values from `start`: {LAYER.lora_A.weight: tensor}, as diffusers
    names them. Adapters and cond_proj are trained, nothing else."""
    from peft import LoraConfig
    student.requires_grad_(False)
    student.add_adapter(LoraConfig(r=settings["lora-rank"], lora_alpha=settings["lora-alpha"], lora_dropout=0.0,
                                   target_modules=LORA_TARGETS[settings["lora-targets"]]))
    for name, parameter in student.named_parameters():
        if "lora_" in name:
            parameter.data.copy_(start[name.replace(".default", "")])
        parameter.requires_grad_("lora_" in name or "cond_proj" in name)
    return student


def load_start(folder):
    """An adapter's starting values that a case recorded; None: it trains the whole student."""
    path = os.path.join(folder, "start.safetensors")
    return {name[len("unet."):]: tensor for name, tensor in load_file(path).items()} if os.path.exists(path) else None


def adapters_of(network):
    """{LAYER.lora_A.weight: tensor}."""
    return {name.replace(".default", ""): p.detach() for name, p in network.named_parameters() if "lora_" in name}


# ---- one micro-batch -----------------------------------------------------------------------------------------------

class Schedule:
    """a_t and s_t for whole timesteps, float64, and their values as [B,1,1,1] of the working type."""

    def __init__(self, config, dtype):
        abar = path_of(config)
        self.alpha, self.sigma, self.dtype = abar.sqrt(), (1 - abar).sqrt(), dtype

    def column(self, coefficient):
        return coefficient.to(self.dtype)[:, None, None, None]

    def at(self, timestep):
        return self.column(self.alpha[timestep]), self.column(self.sigma[timestep])


def teacher_step(teacher, schedule, prediction_type, z, start, end, context, uncond, w):
    """One guided DDIM step, per sample from timestep start to timestep end; [B,C,H,W]."""
    alpha, sigma = schedule.at(start)
    x0_c, eps_c = clean_and_noise(prediction_type, teacher(z, start, context).sample, z, alpha, sigma)
    x0_u, eps_u = clean_and_noise(prediction_type, teacher(z, start, uncond).sample, z, alpha, sigma)
    alpha, sigma = schedule.at(end)
    return alpha * (x0_c + w * (x0_c - x0_u)) + sigma * (eps_c + w * (eps_c - eps_u))


def starts(settings, count, draw):
    """s of each sample, [B], of a schedule of `count` timesteps."""
    step = count // settings["num-ddim-timesteps"]
    return step * (draw["index"] + 1) - 1


def solve(teacher, schedule, prediction_type, settings, draw, z, points):
    """The teacher's guided DDIM steps through the timesteps `points`, each [B]."""
    uncond = without_prompt(teacher, draw)
    w = draw["guidance_scale_w"] if "guidance-range" in settings else None
    w = settings["guidance-scale-w"] if w is None else schedule.column(w)
    for t, t_next in zip(points, points[1:]):
        z = teacher_step(teacher, schedule, prediction_type, z, t, t_next, draw["context"], uncond, w)
    return z


def noised(schedule, draw, start):
    alpha, sigma = schedule.at(start)
    return alpha * draw["latents"] + sigma * draw["noise"]


def splam(teacher, student, ema, schedule, prediction_type, settings, draw):
    """The student's estimate p of the clean latent (with gradient) and its target f (without), both [B,C,H,W]. lcm is
    this with gamma = 1 and a student that is not told.

    draw: latents, noise [B,C,H,W], context [B,L,D], uncond [1,L,D], index [B] in 0..M-1, gamma [B], and with a
    guidance-range guidance_scale_w [B]."""
    conditioning = settings.get("gamma-conditioning", "none")
    gamma = draw["gamma"].float()
    if settings["objective"] == "lcm":
        gamma = torch.ones_like(gamma)
    start = starts(settings, len(schedule.alpha), draw)
    end = (start - settings["skip"]).clamp(min=0)
    alpha_e, sigma_e = schedule.at(end)

    with torch.no_grad():
        # 1. the noisy latent at the start of the sub-path
        z_s = noised(schedule, draw, start)

        # 2. the teacher solves the sub-path
        z_e = solve(teacher, schedule, prediction_type, settings, draw, z_s,
                    sub_timesteps(start, settings["skip"], settings["solver-steps"]))

        # 3. the target, from the EMA network at gamma = 1
        cond = told(settings, draw, torch.ones_like(gamma), z_e.dtype)
        output = ema(z_e, end, draw["context"], timestep_cond=cond).sample
        x0, _ = clean_and_noise(prediction_type, output, z_e, alpha_e, sigma_e)
        c_skip, c_out = boundary(end)
        target = schedule.column(c_skip) * z_e + schedule.column(c_out) * x0

        # 4. the point on the straight line between the ends
        kind = settings.get("sigma", "quadratic")
        share_s, share_e, (alpha_g, sigma_g) = position(
            kind, gamma.double(), (schedule.alpha[start], schedule.sigma[start]),
            (schedule.alpha[end], schedule.sigma[end]))
        z_g = schedule.column(share_s) * z_s + schedule.column(share_e) * z_e

    # 5. the student's estimate there
    t, z_t = start, z_g
    if conditioning == "time":
        z_t = z_g / schedule.column((alpha_g ** 2 + sigma_g ** 2).sqrt())
        t = fractional_timestep(schedule.alpha, schedule.sigma, alpha_g, sigma_g)
    cond = told(settings, draw, gamma, z_g.dtype)
    output = student(z_t, t.float(), draw["context"], timestep_cond=cond).sample
    x0, _ = clean_and_noise(prediction_type, output, z_g, schedule.column(alpha_g), schedule.column(sigma_g))

    # 6. made consistent: the chord's point is an ordinary latent of its own timestep, the paper's belongs to the start
    c_skip, c_out = boundary(t if kind == "chord" else start)
    return schedule.column(c_skip) * (z_t if kind == "chord" else z_g) + schedule.column(c_out) * x0, target


def ddim_jump(network, schedule, prediction_type, z, t, u, context):
    """f(z, t -> u): one DDIM step of the network, per sample from timestep t to timestep u."""
    x0, eps = clean_and_noise(prediction_type, network(z, t, context).sample, z, *schedule.at(t))
    alpha, sigma = schedule.at(u)
    return alpha * x0 + sigma * eps


def phase_edges(phases, count=1000):
    """The lower edges of equal phases, rising: the timesteps that DDIM with trailing spacing takes in as many steps,
    without the first, and 0."""
    trailing = np.round(np.arange(count, 0, -count / phases)).astype(np.int64) - 1
    return torch.tensor([0] + sorted(trailing.tolist())[:-1])


def pcm(teacher, student, ema, schedule, prediction_type, settings, draw):
    """Both f to the lower edge of the start's phase, of s and of e, which is never below that edge."""
    start = starts(settings, len(schedule.alpha), draw)
    edges = phase_edges(settings["phases"], len(schedule.alpha))
    u = torch.stack([edges[edges < s].max() if s > 0 else edges[0] for s in start])
    return jumps(teacher, student, ema, schedule, prediction_type, settings, draw, start, u, u)


def tcd(teacher, student, ema, schedule, prediction_type, settings, draw):
    """Both f to the timestep draw["end"] [B], in 0..e."""
    start = starts(settings, len(schedule.alpha), draw)
    return jumps(teacher, student, ema, schedule, prediction_type, settings, draw, start, torch.zeros_like(start),
                 draw["end"])


def jumps(teacher, student, ema, schedule, prediction_type, settings, draw, start, lowest, u):
    points = [torch.maximum(p, lowest) for p in sub_timesteps(start, settings["skip"], settings["solver-steps"])]
    with torch.no_grad():
        z_s = noised(schedule, draw, start)
        z_e = solve(teacher, schedule, prediction_type, settings, draw, z_s, points)
        target = ddim_jump(ema, schedule, prediction_type, z_e, points[-1], u, draw["context"])
    return ddim_jump(student, schedule, prediction_type, z_s, start, u, draw["context"]), target


def grid_timestep(i, parts, count):
    """Point i, [B], of a grid of so many steps: rint(i T / parts) - 1, and 0 for i = 0."""
    return (torch.round(i.double() * count / parts) - 1).clamp(min=0).long()


def progressive(teacher, student, ema, schedule, prediction_type, settings, draw):
    """The student's clean estimate and that with which one DDIM step ends where the teacher's n end, each times
    sqrt(max(SNR, 1)). settings: those of the round."""
    n, steps, count = settings["solver-steps"], settings["num-ddim-timesteps"], len(schedule.alpha)
    fine = n * (draw["index"] + 1)
    points = [grid_timestep(fine - j, n * steps, count) for j in range(n + 1)]
    start, end = points[0], points[-1]
    alpha_s, sigma_s = schedule.at(start)
    with torch.no_grad():
        z_s = noised(schedule, draw, start)
        z_e = solve(teacher, schedule, prediction_type, settings, draw, z_s, points)
        ratio = schedule.sigma[end] / schedule.sigma[start]
        target = (z_e - schedule.column(ratio) * z_s) / schedule.column(
            schedule.alpha[end] - ratio * schedule.alpha[start])
    x0, _ = clean_and_noise(prediction_type, student(z_s, start, draw["context"]).sample, z_s, alpha_s, sigma_s)
    weight = schedule.column(((schedule.alpha[start] / schedule.sigma[start]) ** 2).clamp(min=1).sqrt())
    return weight * x0, weight * target


OBJECTIVES = {"splam": splam, "lcm": splam, "pcm": pcm, "tcd": tcd, "progressive": progressive}


def skip_at(settings, step):
    if not isinstance(settings["skip"], str):
        return settings["skip"]
    first, last = map(int, settings["skip"].split(":"))
    return math.floor(first * (last / first) ** (step / (settings["max-train-steps"] - 1)) + 0.5)


def round_settings(settings, step):
    """(round, settings of the step) of a training step: progressive halves (or divides by n) the number of steps in
    each round, and after the first its teacher has the guidance in it; a skip "FROM:TO" moves geometrically."""
    if settings["objective"] != "progressive":
        return 0, {**settings, "skip": skip_at(settings, step)}
    index = step * settings["rounds"] // settings["max-train-steps"]
    return index, {**settings, "guidance-scale-w": settings["guidance-scale-w"] if index == 0 else 0.0,
                   "num-ddim-timesteps": settings["num-ddim-timesteps"] // settings["solver-steps"] ** (index + 1)}


def loss_weight(schedule, settings, draw):
    """[B], float64: min-snr as for x0, which is what is compared; or the inverse length of the sub-path, 1 in the mean
    over all starts."""
    weighting, count, skip = settings.get("loss-weighting", "none"), len(schedule.alpha), settings["skip"]
    if weighting == "none":
        return torch.ones(len(draw["index"]), dtype=torch.float64)
    if weighting == "min-snr":
        start = starts(settings, count, draw)
        end = (start - skip).clamp(min=0)
        gamma = draw["gamma"].double() if settings["objective"] == "splam" else torch.ones(len(start)).double()
        _, _, (alpha, sigma) = position(settings.get("sigma", "quadratic"), gamma, (
            schedule.alpha[start], schedule.sigma[start]), (schedule.alpha[end], schedule.sigma[end]))
        return (alpha / sigma).square().clamp(max=settings.get("snr-gamma", 5.0))
    start = starts(settings, count, {"index": torch.arange(settings["num-ddim-timesteps"])})
    lowest = torch.zeros_like(start)
    if settings["objective"] == "pcm":
        edges = phase_edges(settings["phases"], count)
        lowest = torch.stack([edges[edges < s].max() if s > 0 else edges[0] for s in start])
    inverse = 1 / (start - torch.maximum(start - skip, lowest)).clamp(min=1).double()
    return (inverse / inverse.mean())[draw["index"]]


def loss_of(prediction, target, settings, weight):
    difference, c = prediction - target, settings["huber-c"]
    loss = difference ** 2 if settings["loss-type"] == "l2" else (difference ** 2 + c ** 2).sqrt() - c
    return (weight * loss).mean()


# ---- distribution matching -----------------------------------------------------------------------------------------

def is_students_turn(settings, step):
    """Of every N + 1 steps N are the fake score's, the last is the student's."""
    return step % (settings["fake-score-steps"] + 1) == settings["fake-score-steps"]


def student_timesteps(settings, count=1000):
    """tau_j, the timesteps that LCMScheduler takes in as many steps of as many original ones."""
    n = settings["student-steps"]
    return [count // n * (n - j) - 1 for j in range(n)]


def simulate(student, schedule, prediction_type, settings, draw):
    """(z_j, tau_j): what the student itself makes of noise in its first j steps, with fresh noise after each."""
    taus, j = student_timesteps(settings, len(schedule.alpha)), int(draw["index"][0])
    noises = draw["step_noise"].chunk(len(taus), dim=1)
    z = noises[0]
    for k in range(j):
        tau = torch.full_like(draw["index"], taus[k])
        x, _ = clean_and_noise(prediction_type, student(z, tau, draw["context"]).sample, z, *schedule.at(tau))
        alpha, sigma = schedule.at(torch.full_like(tau, taus[k + 1]))
        z = alpha * x + sigma * noises[k + 1]
    return z, torch.full_like(draw["index"], taus[j])


class Discriminator(torch.nn.Module):
    """DMD2's classification branch on features [B,C,h,w] of the middle block, for any h and w: -> [B]. While the
    shorter side is more than 4, it is halved; then one layer over all that is left, with inputs in the order h, w,
    C."""

    def __init__(self, channels, height, width, groups):
        super().__init__()
        groups = max(g for g in range(1, groups + 1) if channels % g == 0 and (g == 1 or channels // g >= 4))
        layers = []
        while min(height, width) > 4:
            layers += [torch.nn.Conv2d(channels, channels, 4, stride=2, padding=1),
                       torch.nn.GroupNorm(groups, channels), torch.nn.SiLU()]
            height, width = height // 2, width // 2
        layers += [torch.nn.Linear(height * width * channels, channels), torch.nn.GroupNorm(groups, channels),
                   torch.nn.SiLU(), torch.nn.Linear(channels, 1)]
        self.layers = torch.nn.ModuleList(layers)

    def forward(self, x):
        for layer in self.layers:
            if isinstance(layer, torch.nn.Linear) and x.dim() == 4:
                x = x.permute(0, 2, 3, 1).flatten(1)
            x = layer(x)
        return x[:, 0]


def middle_features(unet, z, t, context):
    """[B,C,h,w]: what the middle block gives."""
    found = []
    handle = unet.mid_block.register_forward_hook(lambda module, given, output: found.append(output))
    unet(z, t, context)
    handle.remove()
    return found[0]


def logits(fake_score, discriminator, schedule, latents, noise, t, context):
    alpha, sigma = schedule.at(t)
    return discriminator(middle_features(fake_score, alpha * latents + sigma * noise, t, context))


def gan_loss(fake_score, discriminator, schedule, settings, draw, x, students):
    """The term that a discriminator adds to either loss, with its weight."""
    softplus, context = torch.nn.functional.softplus, draw["context"]
    if students:
        d = logits(fake_score, discriminator, schedule, x, draw["gan_noise"], draw["gan_timestep"], context)
        return settings["gan-weight"] * softplus(-d).mean()
    fake = logits(fake_score, discriminator, schedule, x.detach(), draw["gan_noise"], draw["gan_timestep"], context)
    real = logits(fake_score, discriminator, schedule, draw["latents"], draw["data_noise"], draw["data_timestep"],
                  context)
    return settings["gan-fake-score-weight"] * (softplus(fake).mean() + softplus(-real).mean())


def load_discriminator(draws, unet, settings, dtype):
    """As recorded before the first step; None without one."""
    if not settings.get("gan-weight"):
        return None
    side = draws["noise.0"].shape[-1]
    for _ in unet.config.block_out_channels[1:]:
        side = (side + 1) // 2
    head = Discriminator(unet.config.block_out_channels[-1], side, side, unet.config.norm_num_groups)
    head.layers.load_state_dict({name[len("discriminator."):]: t for name, t in draws.items()
                                 if name.startswith("discriminator.")})
    return head.to(dtype)


def matching_step(teacher, student, fake_score, schedule, prediction_type, settings, draw, students):
    """(loss, prediction, target, x) of the student's step, x and x - g, or of the fake score's, m and m*.

    draw: noise [B,C,H,W], step_noise [B,nC,H,W], context [B,L,D], uncond [1,L,D], index, timestep [B]."""
    w, t, context = settings["guidance-scale-w"], draw["timestep"], draw["context"]
    alpha, sigma = schedule.at(t)
    with torch.no_grad():
        z, tau = simulate(student, schedule, prediction_type, settings, draw)
    with torch.set_grad_enabled(students):
        x, _ = clean_and_noise(prediction_type, student(z, tau, context).sample, z, *schedule.at(tau))
    z_t = (alpha * x + sigma * draw["noise"]).detach()
    if not students:
        m = fake_score(z_t, t, context).sample
        wanted = {"epsilon": draw["noise"], "sample": x, "v_prediction": alpha * draw["noise"] - sigma * x}
        wanted = wanted[prediction_type]
        return ((m - wanted) ** 2).mean(), m, wanted, x
    with torch.no_grad():
        x_c, _ = clean_and_noise(prediction_type, teacher(z_t, t, context).sample, z_t, alpha, sigma)
        x_u, _ = clean_and_noise(prediction_type, teacher(z_t, t, draw["uncond"].expand_as(context)).sample, z_t, alpha,
                                 sigma)
        real = x_c + w * (x_c - x_u)
        fake, _ = clean_and_noise(prediction_type, fake_score(z_t, t, context).sample, z_t, alpha, sigma)
        g = (fake - real) / (x - real).abs().mean(dim=(1, 2, 3), keepdim=True)
        target = x - g
    return 0.5 * ((x - target) ** 2).mean(), x, target, x


MATCHING_DRAWS = ("noise", "step_noise", "context", "index", "timestep", "gan_noise", "gan_timestep", "latents",
                  "data_noise", "data_timestep")


def train_matching(folder, draws, flags, dtype=torch.float32):
    """As train, of two networks in turn."""
    settings = complete(flags)
    teacher, config = load_teacher(folder, dtype, settings.get("prediction-type"))
    networks = [make_student(teacher, False) for _ in range(2)]
    fake_score, student = networks
    ema, schedule = copy.deepcopy(student).eval().requires_grad_(False), Schedule(config, dtype)
    discriminator = load_discriminator(draws, teacher, settings, dtype)
    trained = [[*fake_score.parameters(), *(discriminator.parameters() if discriminator else ())],
               [*student.parameters()]]
    optimizers = [torch.optim.AdamW(parameters, lr=settings["learning-rate"], betas=(0.9, 0.999), eps=1e-8,
                                    weight_decay=0.0) for parameters in trained]
    draws = {name: t.to(dtype) if t.is_floating_point() else t for name, t in draws.items()}
    trace, losses, norms, accumulation = {}, [], [], settings["gradient-accumulation-steps"]
    for step in range(settings["max-train-steps"]):
        students = is_students_turn(settings, step)
        optimizers[students].zero_grad()
        step_loss = 0.0
        for k in range(step * accumulation, (step + 1) * accumulation):
            draw = {name: draws[f"{name}.{k}"] for name in MATCHING_DRAWS if f"{name}.{k}" in draws}
            loss, prediction, wanted, x = matching_step(teacher, student, fake_score, schedule, config.prediction_type,
                                                        settings, {**draw, "uncond": draws["uncond"]}, students)
            if discriminator:
                loss = loss + gan_loss(fake_score, discriminator, schedule, settings, draw, x, students)
            (loss / accumulation).backward()
            step_loss += loss.item() / accumulation
            trace[f"prediction.{k}"], trace[f"target.{k}"] = prediction.detach(), wanted
        norms.append(torch.nn.utils.clip_grad_norm_(trained[students], MAX_GRADIENT_NORM).item())
        optimizers[students].step()
        if students:
            move_average(ema, student, settings["ema-decay"])
        losses.append(step_loss)
    trace["loss"], trace["grad_norm"] = torch.tensor(losses), torch.tensor(norms)
    return trace, student, ema


# ---- averages ------------------------------------------------------------------------------------------------------

def average_rate(decay, updates, samples):
    """What an average keeps of itself after so many updates of so many samples: a number; "power:SIGMA_REL" (EDM2's
    power_function_beta); "half-life:SAMPLES" (EDM's training loop, ema_rampup_ratio 0.05)."""
    if not isinstance(decay, str):
        return decay
    form, value = decay.split(":")
    if form == "power":
        t = float(value) ** -2
        return (1 - 1 / (updates + 1)) ** (np.roots([1, 7, 16 - t, 12 - t]).real.max() + 1)
    return 0.5 ** (samples / max(min(float(value), updates * samples * 0.05), 1e-8))


def move_average(average, student, rate):
    with torch.no_grad():
        for mean, online in zip(average.parameters(), student.parameters()):
            mean.mul_(rate).add_(online, alpha=1 - rate)


# ---- the loop ------------------------------------------------------------------------------------------------------

def train(folder, draws, flags, dtype=torch.float32, start=None):
    """start: an adapter's starting values, see add_adapters; None: the whole student is trained.

    Returns (trace, student, ema). trace: loss, grad_norm [steps]; prediction.K, target.K of each micro-batch."""
    settings = complete(flags)
    if settings["objective"] == "dmd":
        return train_matching(folder, draws, flags, dtype)
    teacher, config = load_teacher(folder, dtype, settings.get("prediction-type"))
    student = make_student(teacher, settings.get("gamma-conditioning") == "embedding" or "guidance-range" in settings)
    if start:
        student = add_adapters(student, settings, start)
    trained = [parameter for parameter in student.parameters() if parameter.requires_grad]
    ema = copy.deepcopy(student).eval().requires_grad_(False)
    # what the target asks: the same average, unless it is told apart
    target = copy.deepcopy(ema) if "target-ema-decay" in settings else ema
    schedule = Schedule(config, dtype)
    optimizer = torch.optim.AdamW(trained, lr=settings["learning-rate"], betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0)
    rates = get_scheduler(settings.get("lr-scheduler", "constant"), optimizer,
                          num_warmup_steps=settings.get("lr-warmup-steps", 0),
                          num_training_steps=settings["max-train-steps"])
    kept = ("gamma", "guidance")  # float32, as they are recorded
    draws = {name: t.to(dtype) if t.is_floating_point() and not name.startswith(kept) else t
             for name, t in draws.items()}
    accumulation = settings["gradient-accumulation-steps"]
    draws = pack(draws)
    trace, losses, norms, round_index = {}, [], [], 0
    for step in range(settings["max-train-steps"]):
        index, now = round_settings(settings, step)
        if index != round_index:
            round_index, teacher = index, copy.deepcopy(student).eval().requires_grad_(False)
        optimizer.zero_grad()
        step_loss = 0.0
        for k in range(step * accumulation, (step + 1) * accumulation):
            draw = {name: draws[f"{name}.{k}"] for name in ("latents", "noise", "context", "index", "gamma", "end",
                                                            "guidance_scale_w") if f"{name}.{k}" in draws}
            prediction, wanted = OBJECTIVES[settings["objective"]](
                teacher, student, target, schedule, config.prediction_type, now, {**draw, "uncond": draws["uncond"]})
            weight = schedule.column(loss_weight(schedule, now, draw))
            loss = loss_of(prediction, wanted, settings, weight) / accumulation
            loss.backward()
            step_loss += loss.item()
            trace[f"prediction.{k}"], trace[f"target.{k}"] = prediction.detach(), wanted
        norm = torch.nn.utils.clip_grad_norm_(trained, MAX_GRADIENT_NORM)
        optimizer.step()
        rates.step()
        samples = settings["train-batch-size"] * accumulation
        move_average(ema, student, average_rate(settings["ema-decay"], step, samples))
        if target is not ema:
            move_average(target, student, average_rate(settings["target-ema-decay"], step, samples))
        losses.append(step_loss)
        norms.append(norm.item())
    trace["loss"], trace["grad_norm"] = torch.tensor(losses), torch.tensor(norms)
    return trace, student, ema


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", required=True, help="a folder tests/golden/distill-*")
    parser.add_argument("--dtype", choices=("float32", "float64"), default="float32")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with open(os.path.join(arguments.case, "case.json")) as f:
        case = json.load(f)
    draws = load_file(os.path.join(arguments.case, case.get("draws", "."), "draws.safetensors"))
    recorded = load_file(os.path.join(arguments.case, "trace.safetensors"))
    start = load_start(os.path.join(arguments.case, case.get("draws", ".")))
    trace, _, _ = train(os.path.join(arguments.case, case["teacher"]), draws, case["flags"],
                        getattr(torch, arguments.dtype), start)
    for name in sorted(recorded):
        error = (trace[name] - recorded[name]).abs().max() / recorded[name].abs().max()
        print(f"{name:16} relative max error {error:.2e}")
    print("loss", " ".join(f"{x:.6g}" for x in trace["loss"].tolist()))


if __name__ == "__main__":
    main()
