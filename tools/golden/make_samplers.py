"""Final latents of diffusers' schedulers from recorded noise, with unet-demo as the model. See README.md."""
import json
import os

import torch
from diffusers import (DDIMScheduler, DPMSolverMultistepScheduler, EulerDiscreteScheduler, LCMScheduler,
                       UNet2DConditionModel)
from diffusers.schedulers import scheduling_lcm

import distill
from common import ROOT, case_folder, generator, random_tensor, write_json, write_tensors

KINDS = {"lcm": LCMScheduler, "ddim": DDIMScheduler, "dpm++2m": DPMSolverMultistepScheduler,
         "euler": EulerDiscreteScheduler}

# the scheduler files of SD1.5 and SD2.1
SD1 = {
    "_class_name": "PNDMScheduler", "_diffusers_version": "0.6.0", "beta_end": 0.012, "beta_schedule": "scaled_linear",
    "beta_start": 0.00085, "num_train_timesteps": 1000, "set_alpha_to_one": False, "skip_prk_steps": True,
    "steps_offset": 1, "trained_betas": None, "clip_sample": False,
}
SD2 = {
    "_class_name": "DDIMScheduler", "_diffusers_version": "0.8.0", "beta_end": 0.012, "beta_schedule": "scaled_linear",
    "beta_start": 0.00085, "clip_sample": False, "num_train_timesteps": 1000, "prediction_type": "v_prediction",
    "set_alpha_to_one": False, "skip_prk_steps": True, "steps_offset": 1, "trained_betas": None,
}

# folder: (sampler, scheduler_config.json, [(steps, guidance)])
# The v-prediction runs are guided by 2 at most: under more guidance this random network is chaotic and rounding grows
# to 1e-3 of the result.
CASES = {
    "sampler-lcm": ("lcm", SD1, [(1, 1.0), (2, 1.0), (4, 1.0), (8, 1.0), (4, 7.5)]),
    "sampler-lcm-v": ("lcm", SD2, [(1, 1.0), (4, 1.0)]),
    "sampler-ddim": ("ddim", SD1, [(4, 7.5), (10, 7.5), (10, 1.0), (50, 7.5), (7, 1.0)]),
    "sampler-ddim-trailing": ("ddim", {**SD1, "timestep_spacing": "trailing"}, [(4, 7.5), (7, 1.0), (50, 1.0)]),
    "sampler-ddim-linspace": ("ddim", {**SD1, "timestep_spacing": "linspace"}, [(4, 7.5), (10, 1.0)]),
    "sampler-ddim-to-one": ("ddim", {**SD1, "set_alpha_to_one": True, "steps_offset": 0}, [(4, 7.5), (10, 1.0)]),
    "sampler-ddim-v": ("ddim", SD2, [(4, 2.0), (10, 2.0), (50, 1.0)]),
    "sampler-dpm": ("dpm++2m", SD1, [(1, 1.0), (4, 7.5), (10, 7.5), (10, 1.0), (20, 7.5)]),
    "sampler-dpm-leading": ("dpm++2m", {**SD1, "timestep_spacing": "leading"}, [(4, 7.5), (10, 1.0)]),
    "sampler-dpm-trailing": ("dpm++2m", {**SD1, "timestep_spacing": "trailing"}, [(4, 7.5), (10, 1.0)]),
    "sampler-dpm-v": ("dpm++2m", SD2, [(4, 2.0), (10, 2.0), (10, 1.0)]),
    "sampler-euler": ("euler", SD1, [(1, 1.0), (4, 7.5), (10, 7.5), (10, 1.0)]),
    "sampler-euler-leading": ("euler", {**SD1, "timestep_spacing": "leading"}, [(4, 7.5), (10, 1.0)]),
    "sampler-euler-trailing": ("euler", {**SD1, "timestep_spacing": "trailing"}, [(4, 7.5), (7, 1.0)]),
    "sampler-euler-v": ("euler", SD2, [(4, 2.0), (10, 2.0), (10, 1.0)]),
}


def make_scheduler(kind, folder, steps):
    """from_config on the folder's file, with the noise schedule in float64 in place of diffusers' float32."""
    with open(os.path.join(folder, "scheduler_config.json")) as f:
        config = json.load(f)
    scheduler = KINDS[kind].from_config(config)
    abar = distill.alphas_cumprod(config["beta_schedule"], config["beta_start"], config["beta_end"])
    scheduler.alphas_cumprod = abar
    if kind in ("ddim", "lcm") and not scheduler.config.set_alpha_to_one:
        scheduler.final_alpha_cumprod = abar[0]
    scheduler.set_timesteps(steps)
    return scheduler


@torch.no_grad()
def sample(unet, scheduler, noise, context, uncond, guidance):
    """The loop of StableDiffusionPipeline; noise[1:] are what LCMScheduler adds after each step but the last."""
    fresh = iter(noise[1:])
    scheduling_lcm.randn_tensor = lambda *args, **kwargs: next(fresh)
    uncond = uncond.expand_as(context)
    z = noise[0] * scheduler.init_noise_sigma
    for t in scheduler.timesteps:
        z_in = scheduler.scale_model_input(z, t)
        output = unet(z_in, t, context).sample
        if guidance != 1:
            output_uncond = unet(z_in, t, uncond).sample
            output = output_uncond + guidance * (output - output_uncond)
        # LCMScheduler computes coefficients from t, in float64 if it is a plain number; Euler wants a tensor
        z = scheduler.step(output, int(t) if isinstance(scheduler, LCMScheduler) else t, z, return_dict=False)[0]
    return z


def write_case(name, seed, kind, config, runs, unets):
    folder = case_folder(name)
    write_json(os.path.join(folder, "scheduler_config.json"), config)
    case = {"sampler": kind, "unet": "../unet-demo", "runs": []}
    for i, (steps, guidance) in enumerate(runs):
        g = generator(seed + i)
        context, uncond = random_tensor(g, 2, 7, 24), random_tensor(g, 1, 7, 24)
        noise = [random_tensor(g, 2, 4, 8, 8) for _ in range(steps if kind == "lcm" else 1)]
        result = {}
        for dtype, unet in unets.items():
            scheduler = make_scheduler(kind, folder, steps)
            result[dtype] = sample(unet, scheduler, [n.to(dtype) for n in noise], context.to(dtype), uncond.to(dtype),
                                   guidance)
        exact = result[torch.float64]
        rounding = float((result[torch.float32] - exact).abs().max() / exact.abs().max())
        file = f"steps{steps}_guidance{guidance:g}.safetensors"
        write_tensors(os.path.join(folder, file), {
            **{f"noise.{j}": n for j, n in enumerate(noise)}, "context": context, "uncond": uncond,
            "timesteps": scheduler.timesteps, "latents": exact.float()})
        case["runs"].append({"file": file, "steps": steps, "guidance": guidance,
                             "float32_against_float64": float(f"{rounding:.1e}")})
        shown = scheduler.timesteps.tolist()
        print(f"{name} {steps} {guidance:g}: rms {exact.square().mean().sqrt():.3f} rounding {rounding:.1e}"
              f" timesteps {shown[:4]}..{shown[-1]}")
    write_json(os.path.join(folder, "case.json"), case)


def main():
    path = os.path.join(ROOT, "unet-demo")
    unets = {dtype: UNet2DConditionModel.from_pretrained(path, torch_dtype=dtype).eval()
             for dtype in (torch.float32, torch.float64)}
    for i, (name, (kind, config, runs)) in enumerate(CASES.items()):
        write_case(name, 600 + 10 * i, kind, config, runs, unets)


if __name__ == "__main__":
    main()
