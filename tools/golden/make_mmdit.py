"""SD3Transformer2DModel: forward passes and, for one model, the gradient of every parameter. See README.md."""
import os

import torch
from diffusers import SD3Transformer2DModel

from common import case_folder, double_of, generator, random_tensor, randomise, save_model, write_tensors

CONTEXT, POOLED = 24, 20


def medium_like(**changes):
    """Stable Diffusion 3.5 Medium's: normalised queries and keys, blocks whose picture looks at itself once more."""
    return SD3Transformer2DModel(**{**dict(
        sample_size=8, patch_size=2, in_channels=4, out_channels=4, num_layers=3, attention_head_dim=8,
        num_attention_heads=4, joint_attention_dim=CONTEXT, caption_projection_dim=32, pooled_projection_dim=POOLED,
        pos_embed_max_size=12, dual_attention_layers=(0, 1), qk_norm="rms_norm"), **changes})


def first_like():
    """Stable Diffusion 3's: neither."""
    return medium_like(dual_attention_layers=(), qk_norm=None)


def inputs(seed, size, timesteps, tokens):
    """One set of inputs; timesteps are float32, sigma times 1000."""
    g = generator(seed)
    n = len(timesteps)
    return {
        "sample": random_tensor(g, n, 4, *size),
        "timestep": torch.tensor(timesteps, dtype=torch.float32),
        "encoder_hidden_states": random_tensor(g, n, tokens, CONTEXT),
        "pooled_projections": random_tensor(g, n, POOLED),
    }


def forward(reference, given):
    """The velocity, in float64. The timestep embedding is float32 within diffusers, whatever the model is."""
    return reference(given["sample"].double(), given["encoder_hidden_states"].double(),
                     given["pooled_projections"].double(), given["timestep"]).sample


def write_case(name, model, cases):
    folder = case_folder(name)
    save_model(model, folder)
    reference = double_of(model)
    for case, given in cases.items():
        with torch.no_grad():
            out = forward(reference, given)
        write_tensors(os.path.join(folder, f"inputs_{case}.safetensors"), given)
        write_tensors(os.path.join(folder, f"outputs_{case}.safetensors"), {"sample": out.float()})
        print(f"{name} {case}: {tuple(out.shape)} rms {out.square().mean().sqrt():.3f}")
    return folder, reference


def write_gradients(folder, reference, given, seed):
    """d loss / d parameter for loss = mean(sample * weight), all in float64, stored as float32."""
    weight = random_tensor(generator(seed), *given["sample"].shape)
    names = ("sample", "encoder_hidden_states", "pooled_projections")
    leaves = {name: given[name].double().requires_grad_(True) for name in names}
    loss = (reference(leaves["sample"], leaves["encoder_hidden_states"], leaves["pooled_projections"],
                      given["timestep"]).sample * weight.double()).mean()
    loss.backward()
    write_tensors(os.path.join(folder, "gradient_inputs.safetensors"), {**given, "weight": weight})
    write_tensors(os.path.join(folder, "gradient_outputs.safetensors"),
                  {"loss": loss.float().reshape(1), **{name: leaf.grad.float() for name, leaf in leaves.items()}})
    write_tensors(os.path.join(folder, "gradients.safetensors"),
                  {name: p.grad.float() for name, p in reference.named_parameters()})


def main():
    folder, reference = write_case("transformer-sd35", randomise(medium_like(), 11), {
        "square": inputs(1101, (8, 8), (1000, 0), 7),
        "odd": inputs(1102, (10, 6), (893.784,), 5),  # 5 and 3 patches of 12: neither side has a middle
        "largest": inputs(1103, (24, 8), (1.5, 500, 666.667), 13),
        # CLIP's tokens alone, with ComfyUI's zeros for T5 behind them, and with diffusers'
        **{f"tokens{count}": inputs(1110 + count, (10, 6), (857.692,), count) for count in (77, 154, 333)},
    })
    write_gradients(folder, reference, inputs(1104, (6, 10), (750, 250), 5), 1105)
    write_case("transformer-sd3", randomise(first_like(), 12), {"square": inputs(1201, (8, 8), (602.151, 8.9286), 9)})


if __name__ == "__main__":
    main()
