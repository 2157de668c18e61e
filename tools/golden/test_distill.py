"""Checks of distill.py against diffusers' own schedulers and against itself; run it before trusting its traces.

    python test_distill.py
"""
import os

import torch
from diffusers import DDIMScheduler, LCMScheduler, TCDScheduler
from safetensors.torch import load_file

import distill
from common import ROOT

F64 = torch.float64


def case(name):
    return load_file(os.path.join(ROOT, f"distill-{name}", "draws.safetensors"))


def teacher_folder(prediction_type):
    return os.path.join(ROOT, f"teacher-{prediction_type}")


def with_gamma_one(draws):
    return {name: torch.ones_like(t) if name.startswith("gamma") else t for name, t in draws.items()}


def check_gamma_one_is_lcm():
    draws = with_gamma_one(case("splam"))
    for prediction_type in ("epsilon", "v_prediction"):
        flags = {"learning-rate": 1e-5, "max-train-steps": 4}
        lcm, _, _ = distill.train(teacher_folder(prediction_type), draws, {**flags, "objective": "lcm"})
        splam, _, _ = distill.train(teacher_folder(prediction_type), draws, {**flags, "gamma-conditioning": "time"})
        # t' is found again by interpolation, and so is s but for rounding
        assert all(torch.allclose(splam[name], lcm[name], rtol=1e-4, atol=1e-5) for name in splam), prediction_type
        # the embedding's layer is 0 in the first step
        splam, _, _ = distill.train(teacher_folder(prediction_type), draws, flags)
        assert torch.equal(splam["prediction.0"], lcm["prediction.0"]), prediction_type
    # the linear sigma is another formula for the same number
    flags = {"sigma": "linear", "learning-rate": 1e-5, "max-train-steps": 4, "gamma-conditioning": "time"}
    a, _, _ = distill.train(teacher_folder("epsilon"), draws, flags, F64)
    b, _, _ = distill.train(teacher_folder("epsilon"), draws, {"learning-rate": 1e-5, "max-train-steps": 4,
                                                              "objective": "lcm"}, F64)
    assert torch.allclose(a["loss"], b["loss"], rtol=1e-10, atol=0)
    print("gamma = 1 is lcm: ok")


def scheduler_of(kind, folder):
    """diffusers' scheduler with the schedule in float64."""
    scheduler = kind.from_pretrained(os.path.join(folder, "scheduler"))
    config = scheduler.config
    scheduler.alphas_cumprod = distill.alphas_cumprod(config.beta_schedule, config.beta_start, config.beta_end)
    scheduler.final_alpha_cumprod = scheduler.alphas_cumprod[0]
    scheduler.set_timesteps(50)
    return scheduler


def check_lcm_against_schedulers():
    """The step put together from DDIMScheduler (noising, teacher's step) and LCMScheduler (consistency function)."""
    for prediction_type in ("epsilon", "v_prediction"):
        folder = teacher_folder(prediction_type)
        unet, config = distill.load_teacher(folder, F64)
        ddim, lcm = scheduler_of(DDIMScheduler, folder), scheduler_of(LCMScheduler, folder)
        draws = case("splam")
        trace, _, _ = distill.train(folder, draws, {"objective": "lcm", "gamma-conditioning": "time",
                                                    "learning-rate": 0.0, "guidance-scale-w": 6.5}, F64)

        def consistency(z, t, context):
            lcm._step_index = None
            return lcm.step(unet(z, t, context).sample, int(t), z).denoised

        for k in range(10):
            for row in range(3):
                start = 20 * (draws[f"index.{k}"][row] + 1) - 1
                pick = {n: draws[f"{n}.{k}"][row:row + 1].to(F64) for n in ("latents", "noise", "context")}
                z = ddim.add_noise(pick["latents"], pick["noise"], start[None])
                cond = unet(z, start, pick["context"]).sample
                uncond = unet(z, start, draws["uncond"].to(F64)).sample
                z_e = ddim.step(uncond + 7.5 * (cond - uncond), int(start), z).prev_sample
                target = consistency(z_e, start - 20, pick["context"]) if start > 19 else z_e
                prediction = consistency(z, start, pick["context"])
                for name, value in (("prediction", prediction), ("target", target)):
                    error = (trace[f"{name}.{k}"][row] - value[0]).abs().max() / value.abs().max()
                    # the schedulers' own coefficients are float64 here, so only summation order differs
                    assert error < 1e-9, (prediction_type, name, k, row, float(error))
    print("lcm step equals diffusers' schedulers: ok")


def check_jumps_against_schedulers():
    """f(z, t -> u) is TCDScheduler's step without noise, and DDIMScheduler's with trailing timesteps along the
    phases."""
    for prediction_type in ("epsilon", "v_prediction"):
        folder = teacher_folder(prediction_type)
        unet, config = distill.load_teacher(folder, F64)
        schedule = distill.Schedule(config, F64)
        g = torch.Generator().manual_seed(2)
        z, context = torch.randn(1, 4, 8, 8, dtype=F64, generator=g), torch.randn(1, 7, 24, dtype=F64, generator=g)
        abar = distill.alphas_cumprod(config.beta_schedule, config.beta_start, config.beta_end)
        for kind, steps in ((TCDScheduler, 4), (DDIMScheduler, 4), (DDIMScheduler, 2)):
            scheduler = kind.from_config(config, timestep_spacing="trailing")
            scheduler.alphas_cumprod, scheduler.final_alpha_cumprod = abar, abar[0]
            scheduler.set_timesteps(steps)
            edges = distill.phase_edges(steps).tolist()[::-1]
            ours = theirs = z
            for i, t in enumerate(scheduler.timesteps.tolist()):
                u = edges[i] if kind is DDIMScheduler else ([*scheduler.timesteps.tolist(), 0])[i + 1]
                more = {"eta": 0.0}
                theirs = scheduler.step(unet(theirs, t, context).sample, t, theirs, **more).prev_sample
                ours = distill.ddim_jump(unet, schedule, prediction_type, ours, torch.tensor([t]), torch.tensor([u]),
                                         context)
                assert torch.allclose(ours, theirs, rtol=1e-9, atol=1e-9), (kind, prediction_type, t)
    print("jumps equal diffusers' schedulers: ok")


def check_tcd_to_zero_is_pcm():
    draws = case("tcd")
    draws = {name: torch.zeros_like(t) if name.startswith("end") else t for name, t in draws.items()}
    flags = {"learning-rate": 1e-5, "max-train-steps": 4}
    a, _, _ = distill.train(teacher_folder("epsilon"), draws, {**flags, "objective": "tcd"})
    b, _, _ = distill.train(teacher_folder("epsilon"), draws, {**flags, "objective": "pcm", "phases": 1})
    assert all(torch.equal(a[name], b[name]) for name in a)
    print("tcd to 0 is pcm with one phase: ok")


def check_progressive():
    """One DDIM step with the target's clean latent ends where the teacher's steps end."""
    draws = case("progressive-v-solver3")
    folder = teacher_folder("v_prediction")
    unet, config = distill.load_teacher(folder, F64)
    schedule = distill.Schedule(config, F64)
    settings = distill.complete({"objective": "progressive", "num-ddim-timesteps": 3, "solver-steps": 3})
    draw = {n: draws[f"{n}.1"].to(F64) if n != "index" else draws["index.1"]
            for n in ("latents", "noise", "context", "index")}
    draw["uncond"] = draws["uncond"].to(F64)
    _, target = distill.progressive(unet, unet, None, schedule, "v_prediction", settings, draw)
    for row, (start, points) in enumerate(((332, [332, 221, 110, 0]), (999, [999, 888, 777, 666]))):
        z = schedule.alpha[start] * draw["latents"][row:row + 1] + schedule.sigma[start] * draw["noise"][row:row + 1]
        z_e = distill.solve(unet, schedule, "v_prediction", settings,
                            {"context": draw["context"][row:row + 1], "uncond": draw["uncond"]}, z,
                            [torch.tensor([p]) for p in points])
        x = target[row:row + 1] / torch.clamp(schedule.alpha[start] / schedule.sigma[start], min=1)
        eps = (z - schedule.alpha[start] * x) / schedule.sigma[start]
        assert torch.allclose(schedule.alpha[points[-1]] * x + schedule.sigma[points[-1]] * eps, z_e, atol=1e-9)
    print("progressive target: ok")


def check_sub_path():
    """With a constant noise estimate the linear sigma is exact on a DDIM sub-path: z_g = a_s x0 + s_g eps."""
    abar = distill.alphas_cumprod("scaled_linear", 0.00085, 0.012)
    alpha, sigma = abar.sqrt(), (1 - abar).sqrt()
    for t, value in ((0, .99915), (19, .98224399), (259, .65897553), (499, .27766965), (999, .0046601)):
        assert abs(float(abar[t]) - value) < 1e-8, t
    x0, eps = torch.randn(2, 50, dtype=F64, generator=torch.Generator().manual_seed(1))
    for s, e in ((999, 979), (19, 0), (499, 399)):
        rho = alpha[s] / alpha[e]
        for g in torch.tensor([0.0, 0.3, 1.0], dtype=F64):
            z_g = g * (alpha[s] * x0 + sigma[s] * eps) + (1 - g) * rho * (alpha[e] * x0 + sigma[e] * eps)
            s_g = distill.interpolated_sigma("linear", g, rho, sigma[s], sigma[e])
            assert torch.allclose(z_g, alpha[s] * x0 + s_g * eps, rtol=0, atol=1e-12)
            t = distill.fractional_timestep(alpha, sigma, alpha[s:s + 1], s_g[None])
            assert e - 1e-9 <= float(t) <= s + 1e-9
            if g == 1:
                assert abs(float(t) - s) < 1e-9
            if g == 0:
                assert abs(float(t) - e) < 1e-9
        q = distill.interpolated_sigma("quadratic", torch.ones((), dtype=F64), rho, sigma[s], sigma[e])
        assert abs(float(q - sigma[s])) < 1e-12
    points = distill.sub_timesteps(torch.tensor([999, 19]), 50, 4)
    assert [p.tolist() for p in points] == [[999, 19], [986, 6], [974, 0], [961, 0], [949, 0]]
    print("sub-path: ok")


def check_traces_bite():
    """Small mistakes in a run move a loss by at least five times the tolerance that a test has, 1e-4."""
    base = {"learning-rate": 1e-5, "guidance-scale-w": 2.0}
    draws = case("splam-fast")
    loss = distill.train(teacher_folder("epsilon"), draws, base)[0]["loss"]
    for wrong in ({"ema-decay": 0.9}, {"learning-rate": 1.1e-5}, {"sigma": "linear"}, {"huber-c": 2e-3},
                  {"guidance-scale-w": 1.99}, {"gamma-conditioning": "time"}, {"solver-steps": 2}):
        other = distill.train(teacher_folder("epsilon"), draws, {**base, **wrong})[0]["loss"]
        moved = float(((other - loss).abs() / loss).max())
        print(f"  {wrong}: {moved:.1e}")
        assert moved > 5e-4, wrong
    base = {"learning-rate": 1e-5, "guidance-scale-w": 2.0}
    for name, objective, wrongs in (
            ("pcm", {"objective": "pcm"}, ({"phases": 5}, {"ema-decay": 0.9}, {"skip": 19})),
            ("tcd", {"objective": "tcd"}, ({"skip": 19}, {"guidance-scale-w": 1.99})),
            ("progressive", {"objective": "progressive", "num-ddim-timesteps": 8, "rounds": 2},
             ({"loss-type": "huber"}, {"learning-rate": 1.1e-5}, {"guidance-scale-w": 1.99}))):
        prediction_type, draws = "epsilon", case(name)
        loss = distill.train(teacher_folder(prediction_type), draws, {**base, **objective})[0]["loss"]
        for wrong in wrongs:
            other = distill.train(teacher_folder(prediction_type), draws, {**base, **objective, **wrong})[0]["loss"]
            moved = float(((other - loss).abs() / loss).max())
            print(f"  {name} {wrong}: {moved:.1e}")
            assert moved > 5e-4, (name, wrong)
    print("traces bite: ok")


if __name__ == "__main__":
    torch.set_num_threads(1)
    check_sub_path()
    check_lcm_against_schedulers()
    check_gamma_one_is_lcm()
    check_jumps_against_schedulers()
    check_tcd_to_zero_is_pcm()
    check_progressive()
    check_traces_bite()
