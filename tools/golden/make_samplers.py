"""Final latents of diffusers' schedulers from recorded noise, with unet-demo as the model. See README.md."""
import json
import os
from types import SimpleNamespace

import torch
from diffusers import (DDIMScheduler, DPMSolverMultistepScheduler, EulerAncestralDiscreteScheduler,
                       EulerDiscreteScheduler, FlowMatchEulerDiscreteScheduler, FlowMatchHeunDiscreteScheduler,
                       FlowMatchLCMScheduler, HeunDiscreteScheduler, LCMScheduler, StableDiffusion3Img2ImgPipeline,
                       StableDiffusionImg2ImgPipeline, TCDScheduler, UNet2DConditionModel, UniPCMultistepScheduler)
from diffusers.schedulers import (scheduling_ddim, scheduling_dpmsolver_multistep, scheduling_euler_ancestral_discrete,
                                  scheduling_flow_match_lcm, scheduling_lcm, scheduling_tcd)

import distill
from common import ROOT, case_folder, generator, random_tensor, write_json, write_tensors

KINDS = {"lcm": LCMScheduler, "ddim": DDIMScheduler, "dpm++2m": DPMSolverMultistepScheduler,
         "dpm++2m-sde": DPMSolverMultistepScheduler, "unipc": UniPCMultistepScheduler, "euler": EulerDiscreteScheduler,
         "euler-a": EulerAncestralDiscreteScheduler, "heun": HeunDiscreteScheduler, "tcd": TCDScheduler}
DRAWING = ("lcm", "tcd", "euler-a", "dpm++2m-sde")  # add noise after each step but the last
DRAWING_MODULES = (scheduling_lcm, scheduling_tcd, scheduling_euler_ancestral_discrete, scheduling_dpmsolver_multistep,
                   scheduling_flow_match_lcm, scheduling_ddim)
FLOW_KINDS = {"euler": FlowMatchEulerDiscreteScheduler, "heun": FlowMatchHeunDiscreteScheduler,
              "lcm": FlowMatchLCMScheduler}

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


# Image to image, from a picture's clean latents. folder: (sampler, scheduler_config.json,
# [(steps, guidance, strength)])
# dpm++2m of 20 steps: none is of first order for being among the last few; 10 * .58 is 5.8 and 50 * .58 is 28.999...
IMAGE_CASES = {
    "sampler-image-lcm": ("lcm", SD1, [(4, 1.0, 0.8), (2, 7.5, 0.3), (4, 1.0, 1.0)]),
    "sampler-image-ddim": ("ddim", SD1, [(10, 7.5, 0.8), (50, 1.0, 0.58), (4, 1.0, 1.0)]),
    "sampler-image-dpm": ("dpm++2m", SD1, [(10, 7.5, 0.8), (20, 1.0, 0.5), (10, 1.0, 0.1), (4, 1.0, 1.0)]),
    "sampler-image-dpm-leading": ("dpm++2m", {**SD1, "timestep_spacing": "leading"}, [(10, 2.0, 0.6)]),
    "sampler-image-euler": ("euler", SD1, [(10, 7.5, 0.8), (20, 1.0, 0.33), (4, 1.0, 1.0)]),
    "sampler-image-euler-leading": ("euler", {**SD1, "timestep_spacing": "leading"}, [(10, 2.0, 0.6), (4, 1.0, 1.0)]),
    "sampler-image-v": ("ddim", SD2, [(10, 2.0, 0.8)]),
}

# Strategic stochastic sampling. folder: (sampler, scheduler_config.json, [(steps, guidance, strength or None, eta)])
TCD_CASES = {
    "sampler-tcd": ("tcd", SD1, [(1, 1.0, None, 0.3), (4, 1.0, None, 0.3), (8, 1.0, None, 0.7), (4, 1.0, None, 0.0),
                                 (3, 7.5, None, 1.0), (5, 1.0, 0.6, 0.3)]),
    "sampler-tcd-v": ("tcd", SD2, [(4, 1.0, None, 0.3)]),
}

# DDIM with fresh noise in every step, the last one included where that does not end at alpha 1. folder: as TCD_CASES
ETA_CASES = {
    "sampler-ddim-eta": ("ddim", SD1, [(4, 1.0, None, 1.0), (1, 1.0, None, 1.0), (10, 2.0, None, 0.5),
                                       (10, 1.0, 0.6, 1.0)]),
    "sampler-ddim-eta-to-one": ("ddim", {**SD1, "set_alpha_to_one": True, "steps_offset": 0}, [(5, 1.0, None, 1.0)]),
    "sampler-ddim-eta-zero-snr": ("ddim", {**SD2, "rescale_betas_zero_snr": True, "timestep_spacing": "trailing"},
                                  [(4, 1.0, None, 1.0)]),
}

KARRAS, EXPONENTIAL = {"use_karras_sigmas": True}, {"use_exponential_sigmas": True}
SIGMA_MIN = {"final_sigmas_type": "sigma_min"}

# The rest of what people use. folder: (sampler, scheduler_config.json, [(steps, guidance[, strength])])
MORE_CASES = {
    "sampler-euler-a": ("euler-a", SD1, [(1, 1.0), (2, 1.0), (4, 7.5), (20, 1.0), (10, 1.0, 0.6)]),
    "sampler-euler-a-v": ("euler-a", SD2, [(2, 1.0), (4, 2.0), (5, 1.0, 0.8)]),
    "sampler-euler-a-leading": ("euler-a", {**SD1, "timestep_spacing": "leading"}, [(4, 1.0), (5, 1.0, 0.6)]),
    "sampler-heun": ("heun", SD1, [(1, 1.0), (2, 1.0), (4, 7.5), (20, 1.0), (10, 1.0, 0.6)]),
    "sampler-heun-v": ("heun", SD2, [(2, 1.0), (4, 1.0), (20, 1.0), (5, 1.0, 0.8)]),
    "sampler-heun-trailing": ("heun", {**SD1, "timestep_spacing": "trailing"}, [(4, 1.0), (5, 1.0, 0.6)]),
    "sampler-unipc": ("unipc", SD1, [(1, 1.0), (2, 1.0), (3, 1.0), (4, 7.5), (20, 1.0), (10, 1.0, 0.6)]),
    "sampler-unipc-v": ("unipc", SD2, [(2, 1.0), (4, 2.0), (20, 1.0), (5, 1.0, 0.8)]),
    "sampler-unipc-leading": ("unipc", {**SD1, "timestep_spacing": "leading"}, [(4, 1.0), (5, 1.0, 0.6)]),
    "sampler-unipc-3": ("unipc", {**SD1, "solver_order": 3}, [(2, 1.0), (4, 1.0), (10, 1.0), (10, 1.0, 0.6)]),
    # bh1 of diffusers ends in NaN where the last sigma is 0
    "sampler-unipc-bh1": ("unipc", {**SD1, **SIGMA_MIN, "solver_order": 3, "solver_type": "bh1"},
                          [(4, 1.0), (10, 1.0)]),
    "sampler-unipc-1": ("unipc", {**SD1, "solver_order": 1}, [(4, 1.0)]),
    "sampler-unipc-full": ("unipc", {**SD1, **SIGMA_MIN, "lower_order_final": False}, [(4, 1.0), (10, 1.0)]),
    "sampler-sde": ("dpm++2m-sde", SD1, [(1, 1.0), (2, 1.0), (4, 7.5), (20, 1.0), (10, 1.0, 0.6)]),
    "sampler-sde-v": ("dpm++2m-sde", SD2, [(2, 1.0), (4, 1.0), (5, 1.0, 0.8)]),
    "sampler-sde-heun": ("dpm++2m-sde", {**SD1, **SIGMA_MIN, "solver_type": "heun"}, [(4, 1.0), (16, 1.0)]),
    "sampler-dpm-3": ("dpm++2m", {**SD1, "solver_order": 3}, [(2, 1.0), (3, 1.0), (4, 7.5), (20, 1.0), (10, 1.0, 0.6)]),
    "sampler-dpm-3-full": ("dpm++2m", {**SD2, **SIGMA_MIN, "solver_order": 3, "lower_order_final": False},
                           [(4, 1.0), (10, 1.0)]),
    "sampler-dpm-1": ("dpm++2m", {**SD1, "solver_order": 1}, [(4, 1.0)]),
    "sampler-dpm-heun": ("dpm++2m", {**SD1, **SIGMA_MIN, "solver_type": "heun", "euler_at_final": True},
                         [(4, 1.0), (16, 1.0)]),
    "sampler-euler-karras": ("euler", {**SD1, **KARRAS}, [(1, 1.0), (2, 1.0), (4, 7.5), (20, 1.0), (10, 1.0, 0.6)]),
    "sampler-euler-karras-v": ("euler", {**SD2, **KARRAS, **SIGMA_MIN}, [(4, 2.0), (20, 1.0)]),
    "sampler-euler-karras-leading": ("euler", {**SD1, **KARRAS, "timestep_spacing": "leading"},
                                     [(4, 1.0), (5, 1.0, 0.6)]),
    "sampler-euler-exponential": ("euler", {**SD1, **EXPONENTIAL}, [(1, 1.0), (4, 7.5), (20, 1.0), (10, 1.0, 0.6)]),
    "sampler-heun-karras": ("heun", {**SD1, **KARRAS}, [(2, 1.0), (4, 7.5), (20, 1.0), (10, 1.0, 0.6)]),
    "sampler-heun-exponential": ("heun", {**SD2, **EXPONENTIAL}, [(4, 1.0), (10, 1.0)]),
    "sampler-dpm-karras": ("dpm++2m", {**SD1, **KARRAS}, [(1, 1.0), (2, 1.0), (4, 7.5), (20, 1.0), (10, 1.0, 0.6)]),
    "sampler-dpm-karras-v": ("dpm++2m", {**SD2, **KARRAS}, [(4, 1.0), (20, 1.0)]),
    "sampler-dpm-exponential": ("dpm++2m", {**SD1, **EXPONENTIAL}, [(1, 1.0), (4, 7.5), (20, 1.0), (10, 1.0, 0.6)]),
    "sampler-sde-karras": ("dpm++2m-sde", {**SD1, **KARRAS}, [(2, 1.0), (8, 1.0), (10, 1.0, 0.6)]),
    "sampler-sde-exponential": ("dpm++2m-sde", {**SD2, **EXPONENTIAL}, [(8, 1.0)]),
    "sampler-unipc-karras": ("unipc", {**SD1, **KARRAS}, [(2, 1.0), (4, 7.5), (20, 1.0), (10, 1.0, 0.6)]),
    "sampler-unipc-exponential": ("unipc", {**SD2, **EXPONENTIAL}, [(4, 1.0), (10, 1.0)]),
}

# SDXL's scheduler file, and SDXL Turbo's, whose one step begins at the last timestep and adds no noise.
SDXL = {
    "_class_name": "EulerDiscreteScheduler", "_diffusers_version": "0.19.0.dev0", "beta_end": 0.012,
    "beta_schedule": "scaled_linear", "beta_start": 0.00085, "clip_sample": False, "interpolation_type": "linear",
    "num_train_timesteps": 1000, "prediction_type": "epsilon", "sample_max_value": 1.0, "set_alpha_to_one": False,
    "skip_prk_steps": True, "steps_offset": 1, "timestep_spacing": "leading", "trained_betas": None,
    "use_karras_sigmas": False,
}
TURBO = {**SDXL, "_class_name": "EulerAncestralDiscreteScheduler", "timestep_spacing": "trailing"}
SDXL_CASES = {
    "sampler-sdxl": ("euler", SDXL, [(4, 5.0), (30, 1.0)]),
    "sampler-sdxl-turbo": ("euler-a", TURBO, [(1, 1.0), (4, 1.0)]),
}

# All noise from PyTorch's generators, one of each sample, with seeds 11 and 12.
SEED = 11
SEED_CASES = {
    "sampler-seed-lcm": ("lcm", SD1, [(4, 1.0)]),
    "sampler-seed-euler-a": ("euler-a", SD1, [(4, 1.0), (5, 1.0, 0.6)]),
    "sampler-seed-sde": ("dpm++2m-sde", {**SD1, **KARRAS}, [(4, 1.0), (5, 1.0, 0.6)]),
}

# Zero terminal SNR: LCM, TCD and DDIM have abar = 0 at the end, the others 2^-24.
ZERO = {**SD2, "rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
ZERO_SNR_CASES = {
    "sampler-zero-snr-ddim": ("ddim", ZERO, [(4, 1.0), (10, 2.0)]),
    "sampler-zero-snr-euler": ("euler", ZERO, [(4, 1.0), (10, 2.0)]),
    "sampler-zero-snr-linspace": ("euler", {**ZERO, "timestep_spacing": "linspace"}, [(7, 1.0)]),
    "sampler-zero-snr-karras": ("euler", {**ZERO, **KARRAS}, [(5, 1.0)]),
    "sampler-zero-snr-euler-a": ("euler-a", ZERO, [(4, 1.0)]),
    "sampler-zero-snr-dpm": ("dpm++2m", ZERO, [(4, 1.0), (10, 1.0)]),
    "sampler-zero-snr-dpm-karras": ("dpm++2m", {**ZERO, **KARRAS}, [(5, 1.0)]),
    "sampler-zero-snr-sde": ("dpm++2m-sde", ZERO, [(4, 1.0)]),
    "sampler-zero-snr-unipc": ("unipc", ZERO, [(4, 1.0)]),
    "sampler-zero-snr-lcm": ("lcm", ZERO, [(4, 1.0)]),
    "sampler-zero-snr-tcd": ("tcd", ZERO, [(4, 1.0, None, 0.3)]),
    "sampler-zero-snr-image": ("ddim", ZERO, [(5, 1.0, 0.8), (5, 1.0, 1.0)]),
}

# Models that predict the clean latent: SDXL Lightning's for one step with the file that its authors make, and every
# class that does it. Euler ancestral's does not.
X0 = {**SD1, "prediction_type": "sample"}
LIGHTNING = {**SDXL, "prediction_type": "sample", "timestep_spacing": "trailing"}
X0_CASES = {
    "sampler-x0-lightning": ("euler", LIGHTNING, [(1, 1.0), (4, 1.0), (5, 2.0, 0.6)]),
    "sampler-x0-euler-karras": ("euler", {**X0, **KARRAS, **SIGMA_MIN}, [(4, 1.0)]),
    "sampler-x0-ddim": ("ddim", X0, [(4, 2.0), (10, 1.0), (10, 1.0, 0.6)]),
    "sampler-x0-dpm": ("dpm++2m", X0, [(1, 1.0), (4, 1.0), (6, 1.0)]),
    "sampler-x0-sde": ("dpm++2m-sde", X0, [(4, 1.0)]),
    "sampler-x0-unipc": ("unipc", X0, [(4, 1.0)]),
    "sampler-x0-heun": ("heun", X0, [(2, 1.0)]),
    "sampler-x0-lcm": ("lcm", X0, [(1, 1.0), (4, 1.0)]),
    "sampler-x0-tcd": ("tcd", X0, [(4, 1.0, None, 0.3), (4, 1.0, None, 0.0)]),
    "sampler-x0-zero-snr": ("ddim", {**ZERO, "prediction_type": "sample"}, [(4, 1.0)]),
    "sampler-x0-zero-snr-euler": ("euler", {**ZERO, "prediction_type": "sample"}, [(4, 1.0)]),
}

# Stable Diffusion 3's scheduler file: the network's output is a velocity.
SD3 = {"_class_name": "FlowMatchEulerDiscreteScheduler", "_diffusers_version": "0.29.0", "num_train_timesteps": 1000,
       "shift": 3.0}
SD35 = {**SD3, "base_image_seq_len": 256, "base_shift": 0.5, "invert_sigmas": False, "max_image_seq_len": 4096,
        "max_shift": 1.15, "shift_terminal": None, "stochastic_sampling": False, "time_shift_type": "exponential",
        "use_beta_sigmas": False, "use_dynamic_shifting": False, "use_exponential_sigmas": False,
        "use_karras_sigmas": False}
FLOW_CASES = {
    "sampler-flow": ("euler", SD3, [(1, 1.0), (4, 2.0), (28, 1.0), (10, 1.0, 0.58), (4, 1.0, 1.0)]),
    "sampler-flow-unshifted": ("euler", {**SD35, "shift": 1.0}, [(5, 1.0)]),
    "sampler-flow-heun": ("heun", {**SD3, "_class_name": "FlowMatchHeunDiscreteScheduler"}, [(2, 1.0), (10, 1.0)]),
    # students' even steps, of which each is shifted once
    "sampler-flow-lcm": ("lcm", {**SD35, "_class_name": "FlowMatchLCMScheduler", "scale_factors": None,
                                 "upscale_mode": "bicubic"}, [(1, 1.0), (2, 1.0), (4, 2.0)]),
}

# Latents that are odd at every level of the UNet, and not square.
ODD_CASES = {"sampler-odd": ("dpm++2m", SD1, [(4, 2.0), (4, 1.0, 0.5)])}


def make_flow_scheduler(kind, config, steps, strength):
    scheduler = FLOW_KINDS[kind].from_config(config)
    if kind == "lcm":
        scheduler.set_timesteps(sigmas=[(steps - i) / steps for i in range(steps)])
    else:
        scheduler.set_timesteps(steps)
    if strength is None:
        return scheduler, scheduler.timesteps
    pipeline = SimpleNamespace(scheduler=scheduler)
    return scheduler, StableDiffusion3Img2ImgPipeline.get_timesteps(pipeline, steps, strength, None)[0]


def make_scheduler(kind, folder, steps, strength=None):
    """from_config on the folder's file, with the noise schedule in float64 in place of diffusers' float32. Also the
    timesteps that are gone through."""
    with open(os.path.join(folder, "scheduler_config.json")) as f:
        config = json.load(f)
    if config["_class_name"].startswith("FlowMatch"):
        return make_flow_scheduler(kind, config, steps, strength)
    more = {"algorithm_type": "sde-dpmsolver++"} if kind == "dpm++2m-sde" else {}
    scheduler = KINDS[kind].from_config(config, **more)
    abar = distill.alphas_cumprod(config["beta_schedule"], config["beta_start"], config["beta_end"])
    if config.get("rescale_betas_zero_snr"):
        root = abar.sqrt()
        abar = ((root - root[-1]) * root[0] / (root[0] - root[-1])).square()
        if kind not in ("ddim", "lcm", "tcd"):
            abar[-1] = 2**-24
    scheduler.alphas_cumprod = abar
    if kind in ("ddim", "lcm") and not scheduler.config.set_alpha_to_one:
        scheduler.final_alpha_cumprod = abar[0]
    if strength is None:
        scheduler.set_timesteps(steps)
    elif kind == "lcm":
        scheduler.set_timesteps(steps, strength=strength)
    else:
        scheduler.set_timesteps(steps)
        pipeline = SimpleNamespace(scheduler=scheduler)
        return scheduler, StableDiffusionImg2ImgPipeline.get_timesteps(pipeline, steps, strength, None)[0]
    return scheduler, scheduler.timesteps


def generators(count):
    return [torch.Generator().manual_seed(SEED + i) for i in range(count)]


def draw(shape, generator):
    """What diffusers draws for a model in float32."""
    return torch.cat([torch.randn((1, *shape[1:]), generator=g) for g in generator])


@torch.no_grad()
def sample(unet, scheduler, timesteps, noise, context, uncond, guidance, image, eta):
    """The loop of StableDiffusionPipeline; noise[1:] are what schedulers of DRAWING add after each step but the last,
    which has the factor 0 where it ends without noise.
    image: clean latents to start from, or None. eta: TCDScheduler's or DDIMScheduler's, or None."""
    fresh = iter(noise[1:])
    for module in DRAWING_MODULES:
        module.randn_tensor = lambda *args, **kwargs: next(fresh, torch.zeros_like(noise[0]))
    more = {} if eta is None else {"eta": eta}
    uncond = uncond.expand_as(context)
    flow = isinstance(scheduler, tuple(FLOW_KINDS.values()))
    if image is None:
        z = noise[0] * (1 if flow else scheduler.init_noise_sigma)
    elif flow:
        z = scheduler.scale_noise(image, timesteps[:1].repeat(len(image)), noise[0])
    else:
        z = scheduler.add_noise(image, noise[0], timesteps[:1].repeat(len(image)))
    for t in timesteps:
        z_in = z if flow else scheduler.scale_model_input(z, t)
        output = unet(z_in, t, context).sample
        if guidance != 1:
            output_uncond = unet(z_in, t, uncond).sample
            output = output_uncond + guidance * (output - output_uncond)
        # LCMScheduler computes coefficients from t, in float64 if it is a plain number; Euler wants a tensor
        z = scheduler.step(output, int(t) if isinstance(scheduler, LCMScheduler) else t, z, **more,
                           return_dict=False)[0]
    return z


def write_case(name, seed, kind, config, runs, unets, size=(8, 8), seeded=False):
    folder = case_folder(name)
    write_json(os.path.join(folder, "scheduler_config.json"), config)
    case = {"sampler": kind, "unet": "../unet-demo", "runs": []}
    for i, (steps, guidance, *rest) in enumerate(runs):
        strength, eta = [s for s in rest[:1] if s is not None], rest[1] if len(rest) > 1 else None
        g = generator(seed + i)
        context, uncond = random_tensor(g, 2, 7, 24), random_tensor(g, 1, 7, 24)
        torch_generators = generators(2) if seeded else None
        draws = steps + (config.get("final_sigmas_type") == "sigma_min") if kind in DRAWING else steps + 1 if eta else 1
        noise = [draw((2, 4, *size), torch_generators) if seeded else random_tensor(g, 2, 4, *size)
                 for _ in range(draws)]
        image = random_tensor(g, 2, 4, *size) if strength else None
        result = {}
        for dtype, unet in unets.items():
            scheduler, timesteps = make_scheduler(kind, folder, steps, *strength)
            result[dtype] = sample(unet, scheduler, timesteps, [n.to(dtype) for n in noise], context.to(dtype),
                                   uncond.to(dtype), guidance, image.to(dtype) if strength else None, eta)
        exact = result[torch.float64]
        rounding = float((result[torch.float32] - exact).abs().max() / exact.abs().max())
        file = f"steps{steps}_guidance{guidance:g}{''.join(f'_strength{s:g}' for s in strength)}"
        file += ".safetensors" if eta is None else f"_eta{eta:g}.safetensors"
        write_tensors(os.path.join(folder, file), {
            **({} if seeded else {f"noise.{j}": n for j, n in enumerate(noise)}), "context": context, "uncond": uncond,
            **({"image": image} if strength else {}), "timesteps": timesteps, "latents": exact.float()})
        case["runs"].append({"file": file, "steps": steps, "guidance": guidance,
                             **({"strength": strength[0]} if strength else {}),
                             **({} if eta is None else {"eta": eta}), **({"seed": SEED} if seeded else {}),
                             "float32_against_float64": float(f"{rounding:.1e}")})
        shown = timesteps.tolist()
        print(f"{name} {steps} {guidance:g}: rms {exact.square().mean().sqrt():.3f} rounding {rounding:.1e}"
              f" timesteps {shown[:4]}..{shown[-1]}")
    write_json(os.path.join(folder, "case.json"), case)


def main():
    path = os.path.join(ROOT, "unet-demo")
    unets = {dtype: UNet2DConditionModel.from_pretrained(path, torch_dtype=dtype).eval()
             for dtype in (torch.float32, torch.float64)}
    for i, (name, (kind, config, runs)) in enumerate({**CASES, **IMAGE_CASES}.items()):
        write_case(name, 600 + 10 * i, kind, config, runs, unets)
    for i, (name, (kind, config, runs)) in enumerate(TCD_CASES.items()):
        write_case(name, 1000 + 10 * i, kind, config, runs, unets)
    for i, (name, (kind, config, runs)) in enumerate(ETA_CASES.items()):
        write_case(name, 1100 + 10 * i, kind, config, runs, unets)
    for i, (name, (kind, config, runs)) in enumerate(MORE_CASES.items()):
        write_case(name, 2000 + 10 * i, kind, config, runs, unets)
    for i, (name, (kind, config, runs)) in enumerate(SEED_CASES.items()):
        write_case(name, 3000 + 10 * i, kind, config, runs, unets, seeded=True)
    for i, (name, (kind, config, runs)) in enumerate(ZERO_SNR_CASES.items()):
        write_case(name, 4000 + 10 * i, kind, config, runs, unets)
    for i, (name, (kind, config, runs)) in enumerate(SDXL_CASES.items()):
        write_case(name, 5000 + 10 * i, kind, config, runs, unets)
    for i, (name, (kind, config, runs)) in enumerate(X0_CASES.items()):
        write_case(name, 6000 + 10 * i, kind, config, runs, unets)
    for i, (name, (kind, config, runs)) in enumerate(FLOW_CASES.items()):
        write_case(name, 6000 + 10 * i, kind, config, runs, unets)
    for i, (name, (kind, config, runs)) in enumerate(ODD_CASES.items()):
        write_case(name, 900 + 10 * i, kind, config, runs, unets, (9, 13))


if __name__ == "__main__":
    main()
