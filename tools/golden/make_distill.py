"""Ten training steps of every objective from recorded draws: draws, trace, final weights. See README.md."""
import json
import os
import sys

import torch
from safetensors.torch import load_file, save_file

import distill
from common import ROOT, case_folder, generator, random_tensor, randomise, save_model, write_json, write_tensors
from make_unet import demo_unet, xl_like

# what SD1.5 and SD2.1 say about their schedule, as a DDIMScheduler
SCHEDULER = {
    "_class_name": "DDIMScheduler", "_diffusers_version": "0.42.1", "beta_start": 0.00085, "beta_end": 0.012,
    "beta_schedule": "scaled_linear", "num_train_timesteps": 1000, "clip_sample": False, "set_alpha_to_one": False,
    "steps_offset": 1,
}

# teacher: (prediction type, what its schedule has beside SCHEDULER)
TEACHERS = {
    "epsilon": ("epsilon", {}), "v_prediction": ("v_prediction", {}),
    "sdxl": ("epsilon", {}),
    "zero-snr": ("v_prediction", {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}),
}

# name: (teacher, batch, flags that are not distill.DEFAULTS)
CASES = {
    # a learning rate of 1e-5 moves the loss by a per cent or more and keeps the effect of rounding near 1e-5 of it
    "splam": ("epsilon", 3, {}),
    "splam-fast": ("epsilon", 3, {"learning-rate": 1e-5, "guidance-scale-w": 2.0}),
    "splam-linear-time": ("epsilon", 3, {
        "learning-rate": 1e-5, "guidance-scale-w": 2.0, "sigma": "linear", "gamma-conditioning": "time"}),
    "splam-quadratic-time-l2": ("epsilon", 3, {
        "learning-rate": 1e-5, "gamma-conditioning": "time", "loss-type": "l2"}),
    "splam-skip100-solver2": ("epsilon", 3, {
        "learning-rate": 1e-5, "guidance-scale-w": 2.0, "sigma": "linear", "gamma-conditioning": "time",
        "skip": 100, "solver-steps": 2, "num-ddim-timesteps": 10}),
    # the sub-path is longer than the spacing, and its quarters are not whole timesteps
    "splam-skip50-solver4": ("epsilon", 3, {
        "learning-rate": 1e-5, "guidance-scale-w": 2.0, "skip": 50, "solver-steps": 4, "num-ddim-timesteps": 25}),
    "splam-accumulate": ("epsilon", 2, {
        "learning-rate": 1e-5, "guidance-scale-w": 2.0, "sigma": "linear", "gradient-accumulation-steps": 2,
        "huber-c": 1e-2, "ema-decay": 0.9}),
    "splam-v": ("v_prediction", 3, {"learning-rate": 1e-5, "guidance-scale-w": 2.0}),
    "splam-v-linear-time-l2": ("v_prediction", 3, {
        "learning-rate": 1e-5, "guidance-scale-w": 2.0, "sigma": "linear", "gamma-conditioning": "time",
        "loss-type": "l2"}),
    "lcm": ("epsilon", 3, {"objective": "lcm", "learning-rate": 1e-5}),
    "lcm-l2": ("epsilon", 3, {
        "objective": "lcm", "learning-rate": 1e-5, "guidance-scale-w": 2.0, "loss-type": "l2"}),
    "lcm-v": ("v_prediction", 3, {"objective": "lcm", "learning-rate": 1e-5, "guidance-scale-w": 2.0}),
    "pcm": ("epsilon", 2, {"objective": "pcm", "learning-rate": 1e-5, "guidance-scale-w": 2.0}),
    # phases of 333 1/3 timesteps, and sub-paths of 150 that end at their edges
    "pcm-v-skip150-solver2": ("v_prediction", 2, {
        "objective": "pcm", "learning-rate": 1e-5, "guidance-scale-w": 2.0, "phases": 3, "num-ddim-timesteps": 10,
        "skip": 150, "solver-steps": 2, "loss-type": "l2"}),
    "tcd": ("epsilon", 2, {"objective": "tcd", "learning-rate": 1e-5, "guidance-scale-w": 2.0}),
    "tcd-v-skip100-solver2": ("v_prediction", 2, {
        "objective": "tcd", "learning-rate": 1e-5, "guidance-scale-w": 2.0, "num-ddim-timesteps": 10, "skip": 100,
        "solver-steps": 2}),
    # 8 steps to 4, then to 2
    "progressive": ("epsilon", 2, {
        "objective": "progressive", "learning-rate": 1e-5, "guidance-scale-w": 2.0, "num-ddim-timesteps": 8,
        "rounds": 2}),
    # 9 steps to 3, then to 1; 1000/9 is no whole number
    "progressive-v-solver3": ("v_prediction", 2, {
        "objective": "progressive", "learning-rate": 1e-5, "guidance-scale-w": 2.0, "num-ddim-timesteps": 9,
        "solver-steps": 3, "rounds": 2, "loss-type": "huber"}),
    # adapters over the teacher's weights, both halves not zero at the start, so that both have gradients
    "lora": ("epsilon", 3, {
        "learning-rate": 1e-4, "guidance-scale-w": 2.0, "lora-rank": 2, "lora-alpha": 4.0, "lora-targets": "all"}),
    "lora-attention-time-v": ("v_prediction", 3, {
        "learning-rate": 1e-4, "guidance-scale-w": 2.0, "sigma": "linear", "gamma-conditioning": "time",
        "lora-rank": 3, "lora-alpha": 3.0, "lora-targets": "attention"}),
    "splam-chord": ("epsilon", 3, {
        "learning-rate": 1e-5, "guidance-scale-w": 2.0, "sigma": "chord", "gamma-conditioning": "time"}),
    "splam-chord-zero-snr-skip100-solver2": ("zero-snr", 3, {
        "learning-rate": 1e-5, "guidance-scale-w": 2.0, "sigma": "chord", "gamma-conditioning": "time",
        "skip": 100, "solver-steps": 2, "num-ddim-timesteps": 10}),
    # two networks in turn
    "dmd": ("epsilon", 2, {
        "objective": "dmd", "learning-rate": 1e-5, "guidance-scale-w": 2.0, "fake-score-steps": 2}),
    "dmd-v-accumulate": ("v_prediction", 2, {
        "objective": "dmd", "learning-rate": 1e-5, "guidance-scale-w": 2.0, "fake-score-steps": 1, "student-steps": 3,
        "gradient-accumulation-steps": 2}),
    # with a discriminator, whose weights are large so that each of its terms shows; of 2x2 and of 5x5 features, which
    # it halves
    "dmd-gan": ("epsilon", 2, {
        "objective": "dmd", "learning-rate": 1e-5, "guidance-scale-w": 2.0, "fake-score-steps": 2, "gan-weight": 0.3,
        "gan-fake-score-weight": 0.5}),
    "dmd-gan-v-accumulate": ("v_prediction", 1, {
        "objective": "dmd", "learning-rate": 1e-5, "guidance-scale-w": 2.0, "fake-score-steps": 1, "student-steps": 2,
        "gradient-accumulation-steps": 2, "gan-weight": 0.5, "gan-fake-score-weight": 0.3}),
    # w drawn for each sample and told to the student
    "lcm-guidance": ("epsilon", 3, {"objective": "lcm", "learning-rate": 1e-5, "guidance-range": "1:4"}),
    "splam-guidance-v-accumulate": ("v_prediction", 2, {
        "learning-rate": 1e-5, "sigma": "linear", "gamma-conditioning": "time", "guidance-range": "2.5:6",
        "gradient-accumulation-steps": 2, "loss-type": "l2"}),
    # Stable Diffusion XL's: the pass without the prompt has the sample's own sizes
    "sdxl": ("sdxl", 2, {
        "learning-rate": 1e-5, "guidance-scale-w": 2.0, "sigma": "linear", "gamma-conditioning": "time"}),
}
LATENT_SIDE = {"dmd-gan-v-accumulate": 20}  # of the others 8

# Settings of training, on the draws of another case: {name: (that case, flags beside its own)}
ON_DRAWS_OF = {
    "lcm-cosine": ("lcm", {"lr-scheduler": "cosine", "lr-warmup-steps": 3, "learning-rate": 1e-4}),
    "lcm-power": ("lcm-l2", {"ema-decay": "power:0.2", "learning-rate": 5e-5}),
    "splam-half-life": ("splam", {"ema-decay": "half-life:20", "learning-rate": 5e-5, "guidance-scale-w": 2.0}),
    "lcm-target": ("lcm-l2", {"target-ema-decay": 0.6, "learning-rate": 5e-5}),
    "lora-target-online": ("lora", {"target-ema-decay": 0}),
    "splam-min-snr": ("splam", {"loss-weighting": "min-snr", "snr-gamma": 0.7, "guidance-scale-w": 2.0}),
    "pcm-inverse-length": ("pcm", {"loss-weighting": "inverse-length", "skip": 150}),
    "splam-skip-range": ("splam", {"skip": "120:9", "solver-steps": 2, "learning-rate": 1e-5, "guidance-scale-w": 2.0}),
    # a teacher whose output is the clean latent, whatever its scheduler says
    "splam-x0": ("splam-skip100-solver2", {"prediction-type": "sample"}),
    "tcd-x0": ("tcd", {"prediction-type": "sample"}),
    "dmd-x0": ("dmd", {"prediction-type": "sample"}),
}

# small parameters from both ends of the network and its middle, kept after the last step
KEPT = ("conv_in.weight", "time_embedding.linear_1.bias", "time_embedding.cond_proj.weight",
        "mid_block.attentions.0.transformer_blocks.0.attn2.to_k.weight", "conv_out.weight")
KEPT_ADAPTER = "mid_block.attentions.0.transformer_blocks.0.attn2.to_k"


def write_teacher(name):
    """unet-demo's weights, rounded to float16, as a diffusers folder with unet and scheduler alone."""
    prediction_type, schedule = TEACHERS[name]
    folder = case_folder(f"teacher-{name}")
    unet = randomise(xl_like(), 36) if name == "sdxl" else demo_unet()
    save_model(unet.half(), os.path.join(folder, "unet"))
    os.makedirs(os.path.join(folder, "scheduler"))
    write_json(os.path.join(folder, "scheduler", "scheduler_config.json"),
               {**SCHEDULER, "prediction_type": prediction_type, **schedule})
    write_json(os.path.join(folder, "model_index.json"), {
        "_class_name": "StableDiffusionPipeline", "_diffusers_version": "0.42.1",
        "scheduler": ["diffusers", "DDIMScheduler"], "unet": ["diffusers", "UNet2DConditionModel"]})


def add_own_draws(draws, g, settings, batch, micro_batches):
    """What the later objectives draw: an index of the round's grid; tcd's end; no gamma."""
    for k in range(micro_batches):
        _, now = distill.round_settings(settings, k // settings["gradient-accumulation-steps"])
        points = now["num-ddim-timesteps"]
        draws[f"index.{k}"] = torch.randint(0, points, (batch,), generator=g)
        if k == 1:
            draws["index.1"][0], draws["index.1"][1] = 0, points - 1
        if settings["objective"] == "tcd":
            end = (distill.starts(settings, 1000, {"index": draws[f"index.{k}"]}) - settings["skip"]).clamp(min=0)
            draws[f"end.{k}"] = (torch.rand(batch, generator=g) * (end + 1)).floor().long().clamp(max=end)
            if k == 2:  # the ends of the range
                draws["end.2"][0], draws["end.2"][1] = 0, end[1]
        del draws[f"gamma.{k}"]


def make_draws(seed, batch, micro_batches, ddim_points, smallest_gamma, settings):
    """With gamma 0 and `time` the student's estimate is the EMA network's own: the difference is rounding alone and
    its Huber gradient noise, so there the smallest gamma is larger."""
    g = generator(seed)
    draws = {"uncond": random_tensor(g, 1, 7, 24)}
    for k in range(micro_batches):
        draws[f"latents.{k}"] = random_tensor(g, batch, 4, 8, 8)
        draws[f"noise.{k}"] = random_tensor(g, batch, 4, 8, 8)
        draws[f"context.{k}"] = random_tensor(g, batch, 7, 24)
        draws[f"index.{k}"] = torch.randint(0, ddim_points, (batch,), generator=g)
        draws[f"gamma.{k}"] = torch.rand(batch, generator=g).clamp(min=smallest_gamma)
    # the ends of every range occur
    draws["index.1"][0], draws["index.1"][1] = 0, ddim_points - 1
    draws["gamma.1"][0], draws["gamma.1"][1] = 0.25, smallest_gamma
    draws["gamma.2"][0], draws["gamma.2"][1] = 1.0, smallest_gamma
    if settings.get("sigma") == "chord":  # gamma = 1 where there may be no signal
        draws["index.2"][0] = ddim_points - 1
    if settings["objective"] not in ("splam", "lcm"):
        add_own_draws(draws, g, settings, batch, micro_batches)
    if "guidance-range" in settings:
        low, high = (float(guidance) - 1 for guidance in settings["guidance-range"].split(":"))
        for k in range(micro_batches):  # as diffusers' scripts draw it
            draws[f"guidance_scale_w.{k}"] = (high - low) * torch.rand(batch, generator=g) + low
        draws["guidance_scale_w.1"][0], draws["guidance_scale_w.1"][1] = low, high  # both ends
    return draws


def add_discriminator_draws(draws, g, teacher, settings, batch, side):
    """What it is shown, both ends of the timesteps' range among it, the data's latents where it learns; and its weights
    at the start."""
    for k in range(settings["max-train-steps"] * settings["gradient-accumulation-steps"]):
        learns = not distill.is_students_turn(settings, k // settings["gradient-accumulation-steps"])
        draws[f"gan_noise.{k}"] = random_tensor(g, batch, 4, side, side)
        draws[f"gan_timestep.{k}"] = torch.randint(0, 1000, (batch,), generator=g)
        if learns:
            draws[f"latents.{k}"] = random_tensor(g, batch, 4, side, side)
            draws[f"data_noise.{k}"] = random_tensor(g, batch, 4, side, side)
            draws[f"data_timestep.{k}"] = torch.randint(0, 1000, (batch,), generator=g)
        for name, end in (("gan_timestep.2", 0), ("gan_timestep.3", 999), ("data_timestep.0", 999),
                          ("data_timestep.1", 0)):
            if name in draws and name.endswith(f".{k}"):
                draws[name][-1] = end
    unet, _ = distill.load_teacher(teacher, torch.float32)
    for _ in unet.config.block_out_channels[1:]:
        side = (side + 1) // 2
    head = distill.Discriminator(unet.config.block_out_channels[-1], side, side, unet.config.norm_num_groups)
    for name, parameter in head.layers.named_parameters():
        scale = parameter[0].numel() ** -0.5 if parameter.dim() > 1 else 0.3
        one = parameter.dim() == 1 and name.endswith("weight")
        draws[f"discriminator.{name}"] = scale * random_tensor(g, *parameter.shape) + float(one)


def make_matching_draws(seed, batch, settings, teacher, side):
    """Every step of the student occurs, and both ends of the timesteps' ranges."""
    g, n, accumulation = generator(seed), settings["student-steps"], settings["gradient-accumulation-steps"]
    draws = {"uncond": random_tensor(g, 1, 7, 24)}
    for k in range(settings["max-train-steps"] * accumulation):
        step = k // accumulation
        low, high = (20, 980) if distill.is_students_turn(settings, step) else (0, 999)
        draws[f"noise.{k}"] = random_tensor(g, batch, 4, side, side)
        draws[f"step_noise.{k}"] = random_tensor(g, batch, 4 * n, side, side)
        draws[f"context.{k}"] = random_tensor(g, batch, 7, 24)
        draws[f"index.{k}"] = torch.full((batch,), (5 * step + step // 2) % n)
        draws[f"timestep.{k}"] = torch.randint(low, high + 1, (batch,), generator=g)
        if k < 4 * accumulation:
            draws[f"timestep.{k}"][:2] = torch.tensor([low, high])[:batch]
    if settings.get("gan-weight"):
        add_discriminator_draws(draws, g, teacher, settings, batch, side)
    return draws


def make_start(teacher, settings, seed):
    """Starting values for adapters over the teacher: {LAYER.lora_A.weight: tensor}."""
    unet, _ = distill.load_teacher(teacher, torch.float32)
    targets = tuple("." + target for target in distill.LORA_TARGETS[settings["lora-targets"]])
    g, rank, start = generator(seed), settings["lora-rank"], {}
    for name, module in unet.named_modules():
        if name.endswith(targets):
            weight = module.weight
            up = (weight.shape[0], rank) + (1,) * (weight.dim() - 2)
            start[name + ".lora_A.weight"] = random_tensor(g, rank, *weight.shape[1:]) / weight[0].numel() ** 0.5
            start[name + ".lora_B.weight"] = 0.05 * random_tensor(g, *up)
    return start


def write_start(path, start, settings):
    """As diffusers writes it: alpha is in the metadata."""
    metadata = {"unet.r": settings["lora-rank"], "unet.lora_alpha": settings["lora-alpha"]}
    save_file({"unet." + name: tensor for name, tensor in start.items()}, path,
              {"format": "pt", "lora_adapter_metadata": json.dumps(metadata)})


def write_trace(folder, trace, micro_batches):
    traced = ["loss", "grad_norm"] + [f"{t}.{k}" for t in ("prediction", "target") for k in (0, micro_batches - 1)]
    write_tensors(os.path.join(folder, "trace.safetensors"), {key: trace[key] for key in traced})


def rounding(name, trace, exact):
    """For case.json."""
    floor = {key: float(((trace[key] - exact[key]).abs() / exact[key].abs()).max()) for key in ("loss", "grad_norm")}
    print(f"{name}: loss {trace['loss'][0]:.4f} -> {trace['loss'][-1]:.4f}, grad_norm {trace['grad_norm'][0]:.3f},"
          f" rounding {floor['loss']:.1e} {floor['grad_norm']:.1e}")
    return {key: float(f"{value:.1e}") for key, value in floor.items()}


def with_pooled_text(draws, seed):
    """The draws of Stable Diffusion XL: a pooled text and sizes beside the hidden states; no prompt has zeros."""
    g, out = generator(seed), {}
    for name, t in draws.items():
        if name == "uncond":
            out.update({"negative.encoder_hidden_states": torch.zeros_like(t),
                        "negative.text_embeds": torch.zeros(1, 20), "negative.time_ids": torch.zeros(1, 6)})
        elif name.startswith("context."):
            k = name.rpartition(".")[2]
            out.update({f"conditioning.encoder_hidden_states.{k}": t,
                        f"conditioning.text_embeds.{k}": random_tensor(g, len(t), 20),
                        f"conditioning.time_ids.{k}": torch.randint(0, 1500, (len(t), 6), generator=g).float()})
        else:
            out[name] = t
    return out


def write_case(name, seed, teacher_name, batch, flags):
    folder = case_folder(f"distill-{name}")
    settings = distill.complete({"train-batch-size": batch, **flags})
    micro_batches = settings["max-train-steps"] * settings["gradient-accumulation-steps"]
    smallest_gamma = 0.0 if settings.get("gamma-conditioning") == "embedding" else 0.25
    teacher = os.path.join(ROOT, f"teacher-{teacher_name}")
    if teacher_name == "sdxl":
        draws = with_pooled_text(make_draws(seed, batch, micro_batches, settings["num-ddim-timesteps"], smallest_gamma,
                                            settings), seed + 2000)
    elif settings["objective"] == "dmd":
        draws = make_matching_draws(seed, batch, settings, teacher, LATENT_SIDE.get(name, 8))
    else:
        draws = make_draws(seed, batch, micro_batches, settings["num-ddim-timesteps"], smallest_gamma, settings)
    write_tensors(os.path.join(folder, "draws.safetensors"), draws)
    start = None
    if "lora-rank" in settings:
        start = make_start(teacher, settings, seed + 1000)
        write_start(os.path.join(folder, "start.safetensors"), start, settings)
    trace, student, ema = distill.train(teacher, draws, settings, start=start)
    write_trace(folder, trace, micro_batches)
    final = {}
    for prefix, network in (("unet.", student), ("unet_ema.", ema)):
        parameters = {key.replace(".default", ""): value for key, value in network.named_parameters()}
        kept = KEPT + tuple(f"{KEPT_ADAPTER}.lora_{half}.weight" for half in "AB")
        final.update({prefix + key: parameters[key] for key in kept if key in parameters})
    write_tensors(os.path.join(folder, "final.safetensors"), final)
    # how far float32 rounding alone moves the losses: the noise floor of a comparison
    exact, _, _ = distill.train(teacher, draws, settings, torch.float64, start)
    write_json(os.path.join(folder, "case.json"), {
        "teacher": f"../teacher-{teacher_name}", "prediction_type": TEACHERS[teacher_name][0], "flags": settings,
        "float32_against_float64": rounding(name, trace, exact)})


def write_case_on_draws(name, other, flags):
    """The same teacher and draws as another case's, which it names; a trace alone."""
    with open(os.path.join(ROOT, f"distill-{other}", "case.json")) as f:
        case = json.load(f)
    folder = case_folder(f"distill-{name}")
    draws = load_file(os.path.join(ROOT, f"distill-{other}", "draws.safetensors"))
    settings = {**case["flags"], **flags}
    teacher = os.path.join(folder, case["teacher"])
    start = None
    if "lora-rank" in settings:
        start = distill.load_start(os.path.join(ROOT, f"distill-{other}"))
    trace, _, _ = distill.train(teacher, draws, settings, start=start)
    exact, _, _ = distill.train(teacher, draws, settings, torch.float64, start)
    write_trace(folder, trace, settings["max-train-steps"] * settings["gradient-accumulation-steps"])
    write_json(os.path.join(folder, "case.json"), {
        **case, "prediction_type": settings.get("prediction-type", case["prediction_type"]),
        "draws": f"../distill-{other}", "flags": settings,
        "float32_against_float64": rounding(name, trace, exact)})


def main():
    """All, or the cases named on the command line."""
    wanted = sys.argv[1:]
    if not wanted:
        for name in TEACHERS:
            write_teacher(name)
    for i, (name, (teacher_name, batch, flags)) in enumerate(CASES.items()):
        if not wanted or name in wanted:
            write_case(name, 700 + i, teacher_name, batch, flags)
    for name, (other, flags) in ON_DRAWS_OF.items():
        if not wanted or name in wanted:
            write_case_on_draws(name, other, flags)


if __name__ == "__main__":
    main()
