"""Noise schedule, consistency boundary, embeddings of timestep and gamma, geometry of sub-paths. See README.md."""
import os

import torch
from diffusers import DDIMScheduler, LCMScheduler
from diffusers.models.embeddings import get_timestep_embedding

import distill
from common import case_folder, write_tensors

F64 = torch.float64


def schedules():
    result = {
        "scaled_linear.alphas_cumprod": distill.alphas_cumprod("scaled_linear", 0.00085, 0.012),
        "linear.alphas_cumprod": distill.alphas_cumprod("linear", 0.0001, 0.02),
    }
    for name, config in (("scaled_linear", dict(beta_start=0.00085, beta_end=0.012)),
                         ("linear", dict(beta_start=0.0001, beta_end=0.02))):
        theirs = DDIMScheduler(beta_schedule=name, **config).alphas_cumprod.double()
        ours = result[f"{name}.alphas_cumprod"]
        # diffusers works in float32; the same formula must lie within its rounding
        assert ((theirs - ours).abs() / ours).max() < 1e-4, name
    return result


def boundary():
    timestep = torch.tensor([0, 1, 19, 39, 259, 499, 979, 999])
    scheduler = LCMScheduler()
    pairs = [scheduler.get_scalings_for_boundary_condition_discrete(int(t)) for t in timestep]
    return {"boundary.timestep": timestep, "boundary.c_skip": torch.tensor([p[0] for p in pairs], dtype=F64),
            "boundary.c_out": torch.tensor([p[1] for p in pairs], dtype=F64)}


def embeddings():
    """Of timesteps as the UNet makes them (cosines first), of gamma as LatentConsistencyModelPipeline does (sines
    first); both in float32."""
    timestep = torch.tensor([0, 1, 19, 333.71875, 980.5, 999], dtype=torch.float32)
    gamma = torch.tensor([1, 0.999, 0.75, 0.5, 1 / 3, 0.1, 0], dtype=torch.float32)
    result = {"embedding.timestep": timestep, "embedding.gamma": gamma,
              "embedding.of_gamma": distill.gamma_embedding(gamma)}
    for dim in (16, 320):
        result[f"embedding.of_timestep.{dim}"] = get_timestep_embedding(
            timestep, dim, flip_sin_to_cos=True, downscale_freq_shift=0)
    return result


def sub_paths():
    """One row per (start, end, gamma): rho, both forms of sigma_g, and for each r = sqrt(a_s^2 + s_g^2) and t'."""
    abar = distill.alphas_cumprod("scaled_linear", 0.00085, 0.012)
    alpha, sigma = abar.sqrt(), (1 - abar).sqrt()
    rows = [(s, e, g) for s, e in ((999, 979), (999, 899), (499, 479), (259, 9), (39, 19), (19, 0))
            for g in (0.0, 0.125, 0.5, 0.9375, 1.0)]
    start, end = (torch.tensor([r[i] for r in rows]) for i in (0, 1))
    gamma = torch.tensor([r[2] for r in rows], dtype=F64)
    rho = alpha[start] / alpha[end]
    result = {"path.start": start, "path.end": end, "path.gamma": gamma, "path.rho": rho}
    for kind in ("quadratic", "linear"):
        sigma_g = distill.interpolated_sigma(kind, gamma, rho, sigma[start], sigma[end])
        result[f"path.{kind}.sigma"] = sigma_g
        result[f"path.{kind}.r"] = (alpha[start] ** 2 + sigma_g ** 2).sqrt()
        result[f"path.{kind}.timestep"] = distill.fractional_timestep(alpha, sigma, alpha[start], sigma_g)
    return result


def main():
    folder = case_folder("schedule")
    write_tensors(os.path.join(folder, "schedule.safetensors"),
                  {**schedules(), **boundary(), **embeddings(), **sub_paths()})
    print("schedule: written")


if __name__ == "__main__":
    main()
