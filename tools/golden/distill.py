"""Sub-path linear approximation distillation (SPLAM) and latent consistency distillation (LCM) in plain PyTorch.

Written to be read beside the equations, not to be fast. All randomness comes in as recorded draws, so a run is a
function of (teacher, draws, settings). Letters: B batch, C latent channels, H, W latent size, L tokens, D context
width, M number of DDIM points, K length of a sub-path in timesteps. Coefficients that depend on the timestep alone are
computed in float64 and rounded once.

    python distill.py --case ../../tests/golden/distill-splam        runs a recorded case again and compares
"""
import argparse
import copy
import json
import os

import torch
from diffusers import DDIMScheduler, LatentConsistencyModelPipeline, UNet2DConditionModel
from diffusers.utils import logging
from safetensors.torch import load_file

logging.set_verbosity_error()

DEFAULTS = {
    "objective": "splam", "max-train-steps": 10, "train-batch-size": 3, "learning-rate": 8e-6, "loss-type": "huber",
    "huber-c": 1e-3, "ema-decay": 0.95, "guidance-scale-w": 8.0, "num-ddim-timesteps": 50, "skip": 20,
    "solver-steps": 1, "sigma": "quadratic", "gamma-conditioning": "embedding", "gradient-accumulation-steps": 1,
    "mixed-precision": "no",
}
GAMMA_EMBEDDING_DIM = 256
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


def boundary(timestep):
    """c_skip and c_out of the consistency function, float64."""
    scaled = 10 * timestep.double()
    return 0.25 / (scaled ** 2 + 0.25), scaled / (scaled ** 2 + 0.25).sqrt()


def interpolated_sigma(kind, gamma, rho, sigma_start, sigma_end):
    """The noise level s_g that goes with z_g = g z_s + (1-g) rho z_e."""
    if kind == "quadratic":
        return (rho ** 2 * sigma_end ** 2 + gamma ** 2 * (1 - rho ** 2)).sqrt()
    return gamma * sigma_start + (1 - gamma) * rho * sigma_end


def fractional_timestep(alpha_by_t, sigma_by_t, alpha, sigma):
    """The real t' with a_t'/s_t' = alpha/sigma, linear in the log ratio between whole timesteps, kept in [0, T-1]."""
    grid = (alpha_by_t / sigma_by_t).log()  # falls with t
    wanted = (alpha / sigma).log()
    low = (torch.searchsorted(-grid, -wanted, right=True) - 1).clamp(0, len(grid) - 2)
    fraction = (grid[low] - wanted) / (grid[low] - grid[low + 1])
    return (low + fraction).clamp(0, len(grid) - 1)


def sub_timesteps(start, skip, solver_steps):
    """The teacher's timesteps s = t_0 >= t_1 >= ... >= t_n = e, each [B]; t_j = max(s - round(j K / n), 0), halves
    rounded up."""
    return [(start - (2 * j * skip + solver_steps) // (2 * solver_steps)).clamp(min=0) for j in range(solver_steps + 1)]


# ---- parameterisation ----------------------------------------------------------------------------------------------

def clean_and_noise(prediction_type, output, z, alpha, sigma):
    """(x0, epsilon) from the network's output at z = alpha x0 + sigma epsilon; alpha^2 + sigma^2 need not be 1."""
    if prediction_type == "epsilon":
        return (z - sigma * output) / alpha, output
    r = (alpha ** 2 + sigma ** 2).sqrt()
    return alpha / r ** 2 * z - sigma / r * output, sigma / r ** 2 * z + alpha / r * output


def gamma_embedding(gamma):
    """[B] -> [B, 256]: diffusers' guidance embedding, which multiplies its argument by 1000, of v = 10 (1 - g)."""
    return LatentConsistencyModelPipeline.get_guidance_scale_embedding(
        None, 10 * (1 - gamma.float()), embedding_dim=GAMMA_EMBEDDING_DIM, dtype=torch.float32)


# ---- networks ------------------------------------------------------------------------------------------------------

def load_teacher(folder, dtype):
    unet = UNet2DConditionModel.from_pretrained(os.path.join(folder, "unet"), torch_dtype=dtype)
    scheduler = DDIMScheduler.from_pretrained(os.path.join(folder, "scheduler")).config
    return unet.eval().requires_grad_(False), scheduler


def make_student(teacher, gamma_conditioning):
    """The teacher; for `embedding` with cond_proj = 0 added, so that at the start it is the teacher."""
    if gamma_conditioning == "time":
        student = copy.deepcopy(teacher)
    else:
        # not from_config, which puts the default back for keys that the teacher's file did not mention
        config = {key: value for key, value in teacher.config.items() if not key.startswith("_")}
        student = UNet2DConditionModel(**{**config, "time_cond_proj_dim": GAMMA_EMBEDDING_DIM})
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


def adapters_of(network):
    """{LAYER.lora_A.weight: tensor}."""
    return {name.replace(".default", ""): p.detach() for name, p in network.named_parameters() if "lora_" in name}


# ---- one micro-batch -----------------------------------------------------------------------------------------------

class Schedule:
    """a_t and s_t for whole timesteps, float64, and their values as [B,1,1,1] of the working type."""

    def __init__(self, config, dtype):
        abar = alphas_cumprod(config.beta_schedule, config.beta_start, config.beta_end, config.num_train_timesteps)
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


def prediction_and_target(teacher, student, ema, schedule, prediction_type, settings, draw):
    """The student's estimate p of the clean latent (with gradient) and its target f (without), both [B,C,H,W].

    draw: latents, noise [B,C,H,W], context [B,L,D], uncond [1,L,D], index [B] in 0..M-1, gamma [B]."""
    skip = settings["skip"]
    embedding = settings["gamma-conditioning"] == "embedding"
    gamma = draw["gamma"].float()
    if settings["objective"] == "lcm":
        gamma = torch.ones_like(gamma)

    step = len(schedule.alpha) // settings["num-ddim-timesteps"]
    start = step * (draw["index"] + 1) - 1
    end = (start - skip).clamp(min=0)
    alpha_s, sigma_s = schedule.at(start)
    alpha_e, sigma_e = schedule.at(end)

    with torch.no_grad():
        # 1. the noisy latent at the start of the sub-path
        z_s = alpha_s * draw["latents"] + sigma_s * draw["noise"]

        # 2. the teacher solves the sub-path
        points = sub_timesteps(start, skip, settings["solver-steps"])
        uncond = draw["uncond"].expand_as(draw["context"])
        z_e = z_s
        for t, t_next in zip(points, points[1:]):
            z_e = teacher_step(teacher, schedule, prediction_type, z_e, t, t_next, draw["context"], uncond,
                               settings["guidance-scale-w"])

        # 3. the target, from the EMA network at gamma = 1
        cond = gamma_embedding(torch.ones_like(gamma)).to(z_e.dtype) if embedding else None
        output = ema(z_e, end, draw["context"], timestep_cond=cond).sample
        x0, _ = clean_and_noise(prediction_type, output, z_e, alpha_e, sigma_e)
        c_skip, c_out = boundary(end)
        target = schedule.column(c_skip) * z_e + schedule.column(c_out) * x0

        # 4. the point on the straight line between the ends, the far one rescaled to the start's signal level
        g = gamma.double()
        rho = schedule.alpha[start] / schedule.alpha[end]
        sigma_g = interpolated_sigma(settings["sigma"], g, rho, schedule.sigma[start], schedule.sigma[end])
        z_g = schedule.column(g) * z_s + schedule.column((1 - g) * rho) * z_e

    # 5. the student's estimate there
    if embedding:
        output = student(z_g, start, draw["context"], timestep_cond=gamma_embedding(gamma).to(z_g.dtype)).sample
    else:
        r = (schedule.alpha[start] ** 2 + sigma_g ** 2).sqrt()
        t = fractional_timestep(schedule.alpha, schedule.sigma, schedule.alpha[start], sigma_g)
        output = student(z_g / schedule.column(r), t.float(), draw["context"]).sample
    x0, _ = clean_and_noise(prediction_type, output, z_g, alpha_s, schedule.column(sigma_g))
    c_skip, c_out = boundary(start)
    return schedule.column(c_skip) * z_g + schedule.column(c_out) * x0, target


def loss_of(prediction, target, settings):
    difference = prediction - target
    if settings["loss-type"] == "l2":
        return (difference ** 2).mean()
    c = settings["huber-c"]
    return ((difference ** 2 + c ** 2).sqrt() - c).mean()


# ---- the loop ------------------------------------------------------------------------------------------------------

def train(folder, draws, flags, dtype=torch.float32, start=None):
    """start: an adapter's starting values, see add_adapters; None: the whole student is trained. Returns (trace, student, ema). trace: loss, grad_norm [steps]; prediction.K, target.K of each micro-batch."""
    settings = {**DEFAULTS, **flags}
    teacher, config = load_teacher(folder, dtype)
    student = make_student(teacher, settings["gamma-conditioning"])
    if start:
        student = add_adapters(student, settings, start)
    trained = [parameter for parameter in student.parameters() if parameter.requires_grad]
    ema = copy.deepcopy(student).eval().requires_grad_(False)
    schedule = Schedule(config, dtype)
    optimizer = torch.optim.AdamW(trained, lr=settings["learning-rate"], betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0)
    draws = {name: t.to(dtype) if t.is_floating_point() and "gamma" not in name else t for name, t in draws.items()}
    accumulation = settings["gradient-accumulation-steps"]
    trace, losses, norms = {}, [], []
    for step in range(settings["max-train-steps"]):
        optimizer.zero_grad()
        step_loss = 0.0
        for k in range(step * accumulation, (step + 1) * accumulation):
            draw = {name: draws[f"{name}.{k}"] for name in ("latents", "noise", "context", "index", "gamma")}
            prediction, target = prediction_and_target(teacher, student, ema, schedule, config.prediction_type,
                                                       settings, {**draw, "uncond": draws["uncond"]})
            loss = loss_of(prediction, target, settings) / accumulation
            loss.backward()
            step_loss += loss.item()
            trace[f"prediction.{k}"], trace[f"target.{k}"] = prediction.detach(), target
        norm = torch.nn.utils.clip_grad_norm_(trained, MAX_GRADIENT_NORM)
        optimizer.step()
        with torch.no_grad():
            for average, online in zip(ema.parameters(), student.parameters()):
                average.mul_(settings["ema-decay"]).add_(online, alpha=1 - settings["ema-decay"])
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
    draws = load_file(os.path.join(arguments.case, "draws.safetensors"))
    recorded = load_file(os.path.join(arguments.case, "trace.safetensors"))
    path = os.path.join(arguments.case, "start.safetensors")
    start = {name[len("unet."):]: tensor for name, tensor in load_file(path).items()} if os.path.exists(path) else None
    trace, _, _ = train(os.path.join(arguments.case, case["teacher"]), draws, case["flags"],
                        getattr(torch, arguments.dtype), start)
    for name in sorted(recorded):
        error = (trace[name] - recorded[name]).abs().max() / recorded[name].abs().max()
        print(f"{name:16} relative max error {error:.2e}")
    print("loss", " ".join(f"{x:.6g}" for x in trace["loss"].tolist()))


if __name__ == "__main__":
    main()
