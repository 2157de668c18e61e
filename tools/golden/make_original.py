#!/usr/bin/env python3
"""tests/golden/original-sd1 and original-sd2: small checkpoints of one file under the names of the published ones, with
forward passes; and the names of the published ones at full size. See README.md."""
import os
import sys

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel

import common

sys.path.append(os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import make_random_model as full  # noqa: E402

# Heads as the published families have them: 8 (1.x), or 64 channels each (2.x and text encoders).
TEXT = dict(vocab_size=100, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=1,
            max_position_embeddings=77, hidden_act="quick_gelu", projection_dim=64)
SD1 = dict(
    unet=dict(sample_size=64, block_out_channels=(32, 32), layers_per_block=1, cross_attention_dim=64,
              down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"), attention_head_dim=8,
              up_block_types=("UpBlock2D", "CrossAttnUpBlock2D")),
    vae=dict(block_out_channels=(32, 64), layers_per_block=1, latent_channels=4, sample_size=512,
             down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2),
    text_encoder=TEXT)
SD2 = dict(
    unet=dict(sample_size=64, block_out_channels=(64,), layers_per_block=1, cross_attention_dim=64,
              down_block_types=("CrossAttnDownBlock2D",), up_block_types=("CrossAttnUpBlock2D",),
              attention_head_dim=1, use_linear_projection=True, upcast_attention=True),
    vae=dict(block_out_channels=(32,), layers_per_block=1, latent_channels=4, sample_size=512,
             down_block_types=("DownEncoderBlock2D",), up_block_types=("UpDecoderBlock2D",)),
    text_encoder={**TEXT, "hidden_act": "gelu"})


def models(configs, seed):
    """Weights that f16 holds exactly."""
    made = {"unet": UNet2DConditionModel(**configs["unet"]), "vae": AutoencoderKL(**configs["vae"]),
            "text_encoder": CLIPTextModel(CLIPTextConfig(**configs["text_encoder"]))}
    return {name: common.randomise(model, seed + i).half().float() for i, (name, model) in enumerate(made.items())}


def write_passes(folder, made, g):
    inputs = {"sample": common.random_tensor(g, 1, 4, 8, 8), "timestep": torch.tensor([501]),
              "encoder_hidden_states": common.random_tensor(g, 1, 7, 64)}
    latent = common.random_tensor(g, 1, 4, 5, 7)
    ids = torch.randint(0, 100, (1, 9), generator=g)
    with torch.no_grad():
        unet = common.double_of(made["unet"])
        common.write_tensors(os.path.join(folder, "inputs_unet.safetensors"), inputs)
        common.write_tensors(os.path.join(folder, "outputs_unet.safetensors"), {"sample": unet(
            **{name: t if t.dtype == torch.int64 else t.double() for name, t in inputs.items()}).sample.float()})
        common.write_tensors(os.path.join(folder, "inputs_vae-decoder.safetensors"), {"latent": latent})
        common.write_tensors(os.path.join(folder, "outputs_vae-decoder.safetensors"), {
            "image": common.double_of(made["vae"]).decode(latent.double()).sample.float()})
        common.write_tensors(os.path.join(folder, "inputs_text-encoder.safetensors"), {"input_ids": ids})
        common.write_tensors(os.path.join(folder, "outputs_text-encoder.safetensors"), {
            "last_hidden_state": common.double_of(made["text_encoder"])(ids).last_hidden_state.float()})


def small(name, configs, seed, file, steps):
    folder = common.case_folder(name)
    made = models(configs, seed)
    weights = {}
    for component, model in made.items():
        weights.update(full.original_weights(component, model.half(), seed))
        model.float()
    weights["model_ema.decay"] = torch.tensor(0.9999)
    weights["model_ema.diffusion_modelinput_blocks00weight"] = torch.zeros(3)
    full.write_single_file(os.path.join(folder, file), {**weights, **full.noise_buffers()}, steps)
    write_passes(folder, made, common.generator(seed + 9))


def names(name, family, file="names.txt", components=None):
    """Lines "component|diffusers name|original name|shape in the original|which third of it"."""
    lines = []
    xl = "text_encoder_2" in full.FAMILIES[family]
    for component in components or full.components_of(family):
        with torch.device("meta"):
            model = full.new_model(family, component)
        own = {n.removeprefix("text_model."): t for n, t in model.state_dict().items()
               if not n.endswith("position_ids")}
        for original, diffusers, third, shape in pairs(component, model, own, xl):
            lines.append("|".join([component, diffusers, original, ",".join(map(str, shape)), str(third)]))
    with open(os.path.join(common.ROOT, name, file), "w") as f:
        f.write("\n".join(sorted(lines)) + "\n")


def pairs(component, model, own, xl):
    """Numbers each tensor, and follows the numbers through the renaming."""
    numbers = {n: i for i, n in enumerate(own)}
    by_number = list(own)
    shapes = {n: tuple(t.shape) for n, t in full.original_weights(component, model, xl=xl).items()}
    real = model.state_dict
    # The same tensors as one element each, holding their number.
    stand_in = {n: torch.full([1] * t.dim(), float(numbers[n.removeprefix("text_model.")]))
                for n, t in real().items() if n.removeprefix("text_model.") in numbers}
    model.state_dict = lambda: stand_in
    original = full.original_weights(component, model, xl=xl)
    model.state_dict = real
    for name, t in original.items():
        unused = name.endswith(".text_projection") or ".resblocks.23." in name  # of 2.x
        if name.endswith(("position_ids", "logit_scale")) or (unused and not xl):
            continue
        for third, number in enumerate(t.flatten().tolist()):
            yield name, by_number[int(number)], third, shapes[name]


def main():
    small("original-sd1", SD1, 81, "model.safetensors", 0)
    small("original-sd2", SD2, 91, "model.ckpt", 875000)
    names("original-sd1", "sd15")
    names("original-sd2", "sd21")
    names("original-sdxl", "sdxl")
    names("original-sdxl", "ssd1b", "ssd1b.txt", ["unet"])


if __name__ == "__main__":
    main()
