"""Ten training steps of objectives with the flow teacher of make_sd3.py, from recorded draws: draws and trace. See
README.md."""
import json
import os
import sys

import torch
from safetensors.torch import save_file

import distill_flow
from common import ROOT, case_folder, generator, random_tensor, write_json, write_tensors
from make_distill import rounding, write_trace

TEACHER = "../sd3"
CHANNELS, SIDE, TOKENS, CONTEXT, POOLED = 6, 8, 5, 48, 40

# name: (batch, flags that are not distill.DEFAULTS)
CASES = {
    "splam": (3, {"learning-rate": 1e-4, "guidance-scale-w": 2.0}),
    "splam-skip100-solver2-l2": (2, {
        "learning-rate": 1e-4, "guidance-scale-w": 2.0, "skip": 100, "solver-steps": 2, "num-ddim-timesteps": 10,
        "loss-type": "l2", "gradient-accumulation-steps": 2}),
    "splam-logit-normal": (3, {
        "learning-rate": 1e-4, "guidance-scale-w": 1.0, "skip": 50, "timestep-sampling": "logit-normal"}),
    "lcm": (3, {"objective": "lcm", "learning-rate": 1e-4, "guidance-scale-w": 2.0}),
    # phases of 333 1/3 ticks, and sub-paths of 150 that end at their edges
    "pcm-skip150-solver2": (2, {
        "objective": "pcm", "learning-rate": 1e-4, "guidance-scale-w": 2.0, "phases": 3, "num-ddim-timesteps": 10,
        "skip": 150, "solver-steps": 2}),
    "tcd": (2, {"objective": "tcd", "learning-rate": 1e-4, "guidance-scale-w": 2.0}),
    # 8 steps to 4, then to 2
    "progressive": (2, {
        "objective": "progressive", "learning-rate": 1e-4, "guidance-scale-w": 2.0, "num-ddim-timesteps": 8,
        "rounds": 2}),
    "lora-attention": (2, {
        "learning-rate": 1e-3, "guidance-scale-w": 2.0, "lora-rank": 3, "lora-alpha": 4, "lora-targets": "attention"}),
    "lora": (2, {
        "objective": "lcm", "learning-rate": 1e-3, "guidance-scale-w": 2.0, "lora-rank": 2, "lora-alpha": 2,
        "lora-targets": "all"}),
    "dmd": (2, {
        "objective": "dmd", "learning-rate": 1e-5, "guidance-scale-w": 2.0, "fake-score-steps": 2}),
}


def make_draws(seed, batch, settings):
    """The ends of every range occur: t = 1, where there is no signal, at the smallest and the largest gamma."""
    g, flow = generator(seed), distill_flow.Flow({"num_train_timesteps": 1000, "shift": 3.0}, torch.float64)
    draws = {"negative.encoder_hidden_states": random_tensor(g, 1, TOKENS, CONTEXT),
             "negative.pooled_projections": random_tensor(g, 1, POOLED)}
    accumulation = settings["gradient-accumulation-steps"]
    for k in range(settings["max-train-steps"] * accumulation):
        _, now = distill_flow.distill.round_settings(settings, k // accumulation)
        points = now["num-ddim-timesteps"]
        draws[f"latents.{k}"] = random_tensor(g, batch, CHANNELS, SIDE, SIDE)
        draws[f"noise.{k}"] = random_tensor(g, batch, CHANNELS, SIDE, SIDE)
        draws[f"conditioning.encoder_hidden_states.{k}"] = random_tensor(g, batch, TOKENS, CONTEXT)
        draws[f"conditioning.pooled_projections.{k}"] = random_tensor(g, batch, POOLED)
        draws[f"index.{k}"] = torch.randint(0, points, (batch,), generator=g)
        if settings.get("timestep-sampling") == "logit-normal":
            points = flow.count
            draws[f"index.{k}"] = points - 1 - (points * torch.sigmoid(random_tensor(g, batch))).long()
        draws[f"gamma.{k}"] = torch.rand(batch, generator=g).clamp(min=0.25)
        if k in (1, 2):
            draws[f"index.{k}"][0], draws[f"index.{k}"][1] = points - 1, 0
            draws[f"gamma.{k}"][0] = 1.0 if k == 1 else 0.25
        if settings["objective"] == "tcd":
            end = (distill_flow.starts(settings, flow, {"index": draws[f"index.{k}"]}) - settings["skip"]).clamp(min=0)
            draws[f"end.{k}"] = (torch.rand(batch, generator=g) * (end + 1)).floor().long().clamp(max=end)
        if settings["objective"] != "splam":
            del draws[f"gamma.{k}"]
    return draws


def make_matching_draws(seed, batch, settings):
    """As make_distill's: every step of the student occurs, and both ends of the ranges."""
    g, n = generator(seed), settings["student-steps"]
    draws = {"negative.encoder_hidden_states": random_tensor(g, 1, TOKENS, CONTEXT),
             "negative.pooled_projections": random_tensor(g, 1, POOLED)}
    for k in range(settings["max-train-steps"]):
        low, high = (20, 980) if distill_flow.distill.is_students_turn(settings, k) else (1, 1000)
        draws[f"noise.{k}"] = random_tensor(g, batch, CHANNELS, SIDE, SIDE)
        draws[f"step_noise.{k}"] = random_tensor(g, batch, CHANNELS * n, SIDE, SIDE)
        draws[f"conditioning.encoder_hidden_states.{k}"] = random_tensor(g, batch, TOKENS, CONTEXT)
        draws[f"conditioning.pooled_projections.{k}"] = random_tensor(g, batch, POOLED)
        draws[f"index.{k}"] = torch.full((batch,), (5 * k + k // 2) % n)
        draws[f"timestep.{k}"] = torch.randint(low, high + 1, (batch,), generator=g)
        if k < 4:
            draws[f"timestep.{k}"][:2] = torch.tensor([low, high])
    return draws


def make_start(teacher, settings, seed):
    """Starting values for adapters over the teacher: {LAYER.lora_A.weight: tensor}."""
    transformer, _ = distill_flow.load_teacher(teacher, torch.float32)
    targets = tuple("." + target for target in distill_flow.LORA_TARGETS[settings["lora-targets"]])
    g, rank, start = generator(seed), settings["lora-rank"], {}
    for name, module in transformer.named_modules():
        if name.endswith(targets):
            rows, columns = module.weight.shape
            start[name + ".lora_A.weight"] = random_tensor(g, rank, columns) / columns ** 0.5
            start[name + ".lora_B.weight"] = 0.05 * random_tensor(g, rows, rank)
    return start


def write_start(path, start, settings):
    """As diffusers writes it: alpha is in the metadata."""
    metadata = {"transformer.r": settings["lora-rank"], "transformer.lora_alpha": settings["lora-alpha"]}
    save_file({"transformer." + name: tensor for name, tensor in start.items()}, path,
              {"format": "pt", "lora_adapter_metadata": json.dumps(metadata)})


def write_case(name, seed, batch, flags):
    folder = case_folder(f"distill-flow-{name}")
    settings = distill_flow.complete({"train-batch-size": batch, **flags})
    teacher = os.path.join(folder, TEACHER)
    draws = (make_matching_draws if settings["objective"] == "dmd" else make_draws)(seed, batch, settings)
    write_tensors(os.path.join(folder, "draws.safetensors"), draws)
    start = None
    if "lora-rank" in settings:
        start = make_start(teacher, settings, seed + 1000)
        write_start(os.path.join(folder, "start.safetensors"), start, settings)
    trace, _, _ = distill_flow.train(teacher, draws, settings, start=start)
    write_trace(folder, trace, settings["max-train-steps"] * settings["gradient-accumulation-steps"])
    exact, _, _ = distill_flow.train(teacher, draws, settings, torch.float64, start)
    write_json(os.path.join(folder, "case.json"), {
        "teacher": TEACHER, "flags": settings, "float32_against_float64": rounding(f"flow {name}", trace, exact)})


def main():
    """All, or the cases named on the command line."""
    wanted = sys.argv[1:]
    for i, (name, (batch, flags)) in enumerate(CASES.items()):
        if not wanted or name in wanted:
            write_case(name, 900 + i, batch, flags)


if __name__ == "__main__":
    main()
