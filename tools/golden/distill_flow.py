"""Few-step distillation of flow matching teachers in plain PyTorch: the chord form of sub-path linear approximation
(splam), latent consistency (lcm), phased consistency (pcm), trajectory consistency (tcd), progressive distillation,
distribution matching (dmd).

On a flow z_t = (1 - t) x0 + t noise, and the network gives the velocity v = noise - x0. So a step is z + (t' - t) v,
the clean estimate z - t v, and nothing divides. A point on the teacher's straight segment between z_s and z_e is the
latent g z_s + (1 - g) z_e of the timestep g s + (1 - g) e: it is shown to the student as that. At t = 0 the estimate is
z itself, so there are no c_skip and c_out. All randomness comes in as recorded draws; see distill.py, whose loss,
average and rounds these are. Timesteps are laid in ticks, of which u = tick/T is shifted: t = shift u / (1 + (shift -
1) u).
"""
import copy
import json
import os

import torch
from diffusers import SD3Transformer2DModel

import distill

JOINT = [f"attn.{name}" for name in ("to_q", "to_k", "to_v", "to_out.0", "add_q_proj", "add_k_proj", "add_v_proj",
                                     "to_add_out")]
LORA_TARGETS = {
    "attention": JOINT,  # those of diffusers' train_dreambooth_lora_sd3.py
    "all": JOINT + [f"attn2.{name}" for name in ("to_q", "to_k", "to_v", "to_out.0")] +
           [f"{ff}.net.{layer}" for ff in ("ff", "ff_context") for layer in ("0.proj", "2")],
}
MAX_GRADIENT_NORM = 1.0


def load_teacher(folder, dtype):
    transformer = SD3Transformer2DModel.from_pretrained(os.path.join(folder, "transformer"), torch_dtype=dtype)
    with open(os.path.join(folder, "scheduler", "scheduler_config.json")) as f:
        config = json.load(f)
    return transformer.eval().requires_grad_(False), config


def complete(flags):
    settings = distill.complete(flags)
    settings.pop("sigma", None)  # the chord alone, which tells its student the time
    settings.pop("gamma-conditioning", None)
    return settings


class Flow:
    """t of ticks, float64, and numbers as [B,1,1,1] of the working type."""

    def __init__(self, config, dtype):
        self.count, self.shift, self.dtype = config["num_train_timesteps"], config["shift"], dtype

    def time(self, tick):
        u = tick.double() / self.count
        return self.shift * u / (1 + (self.shift - 1) * u)

    def column(self, number):
        return number.to(self.dtype)[:, None, None, None]

    def velocity(self, network, z, t, prompt):
        """Of latents z at the times t, [B] float64."""
        return network(z, encoder_hidden_states=prompt["encoder_hidden_states"],
                       pooled_projections=prompt["pooled_projections"], timestep=(self.count * t).float()).sample

    def step(self, z, v, t, to):
        return z + self.column(to - t) * v


def solve(teacher, flow, settings, draw, z, times):
    """The teacher's guided Euler steps through `times`, each [B]."""
    w = settings["guidance-scale-w"]
    for t, to in zip(times, times[1:]):
        cond = flow.velocity(teacher, z, t, draw["prompt"])
        uncond = flow.velocity(teacher, z, t, draw["negative"])
        z = flow.step(z, cond + w * (cond - uncond), t, to)
    return z


def starts(settings, flow, draw):
    points = flow.count if settings.get("timestep-sampling") == "logit-normal" else settings["num-ddim-timesteps"]
    return flow.count // points * (draw["index"] + 1)


def subpath(settings, flow, start, lowest):
    """The ticks s = p_0 >= ... >= p_n = e of the teacher's steps, none below `lowest`."""
    skip, n = settings["skip"], settings["solver-steps"]
    end = torch.maximum(start - skip, lowest)
    points = [torch.maximum(start - (2 * j * skip + n) // (2 * n), end) for j in range(n)]
    return [*points, end]


def noised(flow, draw, t):
    return flow.column(1 - t) * draw["latents"] + flow.column(t) * draw["noise"]


def ends(teacher, flow, settings, draw, ticks):
    """(z_s, z_e, s, e)."""
    times = [flow.time(tick) for tick in ticks]
    z_s = noised(flow, draw, times[0])
    return z_s, solve(teacher, flow, settings, draw, z_s, times), times[0], times[-1]


def splam(teacher, student, ema, flow, settings, draw):
    """The student's clean estimate at a point of the chord, and the average's at the sub-path's end. lcm: g = 1."""
    start = starts(settings, flow, draw)
    g = draw["gamma"].double() if settings["objective"] == "splam" else torch.ones(len(start), dtype=torch.float64)
    with torch.no_grad():
        z_s, z_e, s, e = ends(teacher, flow, settings, draw, subpath(settings, flow, start, torch.zeros_like(start)))
        target = flow.step(z_e, flow.velocity(ema, z_e, e, draw["prompt"]), e, torch.zeros_like(e))
        z, t = flow.column(g) * z_s + flow.column(1 - g) * z_e, g * s + (1 - g) * e
    return flow.step(z, flow.velocity(student, z, t, draw["prompt"]), t, torch.zeros_like(t)), target


def jumps(teacher, student, ema, flow, settings, draw, start, lowest, u):
    """Both taken to the tick u."""
    with torch.no_grad():
        z_s, z_e, s, e = ends(teacher, flow, settings, draw, subpath(settings, flow, start, lowest))
        target = flow.step(z_e, flow.velocity(ema, z_e, e, draw["prompt"]), e, flow.time(u))
    return flow.step(z_s, flow.velocity(student, z_s, s, draw["prompt"]), s, flow.time(u)), target


def pcm(teacher, student, ema, flow, settings, draw):
    """u is the highest edge below the start, of P equal phases."""
    start, phases = starts(settings, flow, draw), settings["phases"]
    edges = torch.round(torch.arange(phases).double() * flow.count / phases).long()
    u = torch.stack([edges[edges < s].max() for s in start])
    return jumps(teacher, student, ema, flow, settings, draw, start, u, u)


def tcd(teacher, student, ema, flow, settings, draw):
    start = starts(settings, flow, draw)
    return jumps(teacher, student, ema, flow, settings, draw, start, torch.zeros_like(start), draw["end"])


def progressive(teacher, student, ema, flow, settings, draw):
    """The clean estimate of the student's velocity, and of the one velocity that leads where the teacher's n steps do,
    each times sqrt(max(SNR, 1)). settings: those of the round."""
    n, steps = settings["solver-steps"], settings["num-ddim-timesteps"]
    fine = n * (draw["index"] + 1)
    ticks = [torch.round((fine - j).double() * flow.count / (n * steps)).long() for j in range(n + 1)]
    with torch.no_grad():
        z_s, z_e, s, e = ends(teacher, flow, settings, draw, ticks)
        v = (z_s - z_e) / flow.column(s - e)
        target = flow.step(z_s, v, s, torch.zeros_like(s))
    weight = flow.column((((1 - s) / s) ** 2).clamp(min=1).sqrt())
    x0 = flow.step(z_s, flow.velocity(student, z_s, s, draw["prompt"]), s, torch.zeros_like(s))
    return weight * x0, weight * target


# ---- distribution matching ----

def made(flow, network, z, t, prompt):
    return flow.step(z, flow.velocity(network, z, t, prompt), t, torch.zeros_like(t))


def student_ticks(flow, settings):
    n = settings["student-steps"]
    return [flow.count // n * (n - j) for j in range(n)]


def simulate(student, flow, settings, draw):
    """(z_j, t_j): see distill.simulate."""
    ticks, noises, batch = student_ticks(flow, settings), draw["step_noise"].chunk(settings["student-steps"], dim=1), \
        len(draw["index"])
    times = [flow.time(torch.full((batch,), tick)) for tick in ticks]
    z, j = noises[0], int(draw["index"][0])
    for k in range(j):
        x, to = made(flow, student, z, times[k], draw["prompt"]), times[k + 1]
        z = flow.column(1 - to) * x + flow.column(to) * noises[k + 1]
    return z, times[j]


def matching_step(teacher, student, fake_score, flow, settings, draw, students):
    """As distill.matching_step: (loss, prediction, target)."""
    w, t = settings["guidance-scale-w"], flow.time(draw["timestep"])
    with torch.no_grad():
        z, tau = simulate(student, flow, settings, draw)
    with torch.set_grad_enabled(students):
        x = made(flow, student, z, tau, draw["prompt"])
    z_t = (flow.column(1 - t) * x + flow.column(t) * draw["noise"]).detach()
    if not students:
        v, wanted = flow.velocity(fake_score, z_t, t, draw["prompt"]), draw["noise"] - x
        return ((v - wanted) ** 2).mean(), v, wanted
    with torch.no_grad():
        cond, uncond = (made(flow, teacher, z_t, t, draw[which]) for which in ("prompt", "negative"))
        real, fake = cond + w * (cond - uncond), made(flow, fake_score, z_t, t, draw["prompt"])
        target = x - (fake - real) / (x - real).abs().mean(dim=(1, 2, 3), keepdim=True)
    return 0.5 * ((x - target) ** 2).mean(), x, target


def train_matching(folder, draws, flags, dtype=torch.float32):
    """As train, of two networks in turn."""
    settings = complete(flags)
    teacher, config = load_teacher(folder, dtype)
    networks = [copy.deepcopy(teacher).train().requires_grad_(True) for _ in range(2)]  # fake score, student
    flow = Flow(config, dtype)
    optimizers = [torch.optim.AdamW(network.parameters(), lr=settings["learning-rate"], betas=(0.9, 0.999), eps=1e-8,
                                    weight_decay=0.0) for network in networks]
    draws = {name: t.to(dtype) if t.is_floating_point() else t for name, t in draws.items()}
    trace, losses, norms = {}, [], []
    for step in range(settings["max-train-steps"]):
        students = distill.is_students_turn(settings, step)
        optimizers[students].zero_grad()
        loss, prediction, wanted = matching_step(teacher, networks[1], networks[0], flow, settings,
                                                 draw_of(draws, step, settings["train-batch-size"]), students)
        loss.backward()
        trace[f"prediction.{step}"], trace[f"target.{step}"] = prediction.detach(), wanted
        norms.append(torch.nn.utils.clip_grad_norm_(networks[students].parameters(), MAX_GRADIENT_NORM).item())
        optimizers[students].step()
        losses.append(loss.item())
    trace["loss"], trace["grad_norm"] = torch.tensor(losses), torch.tensor(norms)
    return trace, networks[1], None


OBJECTIVES = {"splam": splam, "lcm": splam, "pcm": pcm, "tcd": tcd, "progressive": progressive}


def add_adapters(student, settings, start):
    """PEFT's LoRA over the student, with starting values from `start`: {LAYER.lora_A.weight: tensor}."""
    from peft import LoraConfig
    student.requires_grad_(False)
    student.add_adapter(LoraConfig(r=settings["lora-rank"], lora_alpha=settings["lora-alpha"], lora_dropout=0.0,
                                   target_modules=LORA_TARGETS[settings["lora-targets"]]))
    for name, parameter in student.named_parameters():
        if "lora_" in name:
            parameter.data.copy_(start[name.replace(".default", "")])
        parameter.requires_grad_("lora_" in name)
    return student


def draw_of(draws, k, batch):
    """A micro-batch's: numbers of the sub-path, latents, and the conditioning with and without the prompt."""
    names = ("encoder_hidden_states", "pooled_projections")
    numbers = ("latents", "noise", "step_noise", "index", "timestep", "gamma", "end")
    draw = {name: draws[f"{name}.{k}"] for name in numbers if f"{name}.{k}" in draws}
    draw["prompt"] = {name: draws[f"conditioning.{name}.{k}"] for name in names}
    draw["negative"] = {name: draws[f"negative.{name}"].expand(batch, *draws[f"negative.{name}"].shape[1:])
                        for name in names}
    return draw


def train(folder, draws, flags, dtype=torch.float32, start=None):
    """As distill.train: (trace, student, ema)."""
    settings = complete(flags)
    if settings["objective"] == "dmd":
        return train_matching(folder, draws, flags, dtype)
    teacher, config = load_teacher(folder, dtype)
    student = copy.deepcopy(teacher).train().requires_grad_(True)
    if start:
        student = add_adapters(student, settings, start)
    trained = [parameter for parameter in student.parameters() if parameter.requires_grad]
    ema, flow = copy.deepcopy(student).eval().requires_grad_(False), Flow(config, dtype)
    optimizer = torch.optim.AdamW(trained, lr=settings["learning-rate"], betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0)
    draws = {name: t.to(dtype) if t.is_floating_point() and not name.startswith("gamma") else t
             for name, t in draws.items()}
    accumulation, batch = settings["gradient-accumulation-steps"], settings["train-batch-size"]
    trace, losses, norms, round_index = {}, [], [], 0
    for step in range(settings["max-train-steps"]):
        index, now = distill.round_settings(settings, step)
        if index != round_index:
            round_index, teacher = index, copy.deepcopy(student).eval().requires_grad_(False)
        optimizer.zero_grad()
        step_loss = 0.0
        for k in range(step * accumulation, (step + 1) * accumulation):
            prediction, wanted = OBJECTIVES[settings["objective"]](teacher, student, ema, flow, now,
                                                                   draw_of(draws, k, batch))
            loss = distill.loss_of(prediction, wanted, settings, flow.column(torch.ones(batch))) / accumulation
            loss.backward()
            step_loss += loss.item()
            trace[f"prediction.{k}"], trace[f"target.{k}"] = prediction.detach(), wanted
        norms.append(torch.nn.utils.clip_grad_norm_(trained, MAX_GRADIENT_NORM).item())
        optimizer.step()
        distill.move_average(ema, student, settings["ema-decay"])
        losses.append(step_loss)
    trace["loss"], trace["grad_norm"] = torch.tensor(losses), torch.tensor(norms)
    return trace, student, ema
