"""StableDiffusionXLPipeline, tiny: a model folder and the final latents of several requests. See README.md."""
import copy
import json
import os

import torch
from diffusers import (AutoencoderKL, EulerAncestralDiscreteScheduler, EulerDiscreteScheduler,
                       StableDiffusionXLPipeline)
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from common import case_folder, generator, random_tensor, randomise, write_json, write_tensors
from make_unet import xl_like

BEGIN, END = "<|startoftext|>", "<|endoftext|>"
LENGTH = 16
PROMPT = "a red fox, jumping!"
ROUNDING = 2e-5  # a tenth of what the tests allow
NOISE_SEED = 158  # few are so calm: in guided steps a random network doubles every rounding several times


def byte_symbols():
    """The characters that stand for bytes in CLIP's vocabulary, "!" first."""
    shown = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [byte for byte in range(256) if byte not in shown]
    return [chr(byte) for byte in shown] + [chr(256 + i) for i in range(len(hidden))]


def tokenizer(folder, pad):
    """CLIP's, with the bytes and a few merges for a vocabulary. pad: the token that pads, as the two of a model differ
    in."""
    merges = ["r e", "re d</w>", "f o", "fo x</w>", "j u", "ju m"]
    symbols = byte_symbols()
    tokens = symbols + [s + "</w>" for s in symbols] + ["".join(m.split()) for m in merges] + [BEGIN, END]
    os.makedirs(folder)
    write_json(os.path.join(folder, "vocab.json"), {token: i for i, token in enumerate(tokens)})
    with open(os.path.join(folder, "merges.txt"), "w") as f:
        f.write("#version: 0.2\n" + "\n".join(merges) + "\n")
    special = {"bos_token": BEGIN, "eos_token": END, "unk_token": END, "pad_token": pad}
    write_json(os.path.join(folder, "special_tokens_map.json"), special)
    write_json(os.path.join(folder, "tokenizer_config.json"),
               {"tokenizer_class": "CLIPTokenizer", "model_max_length": LENGTH, "add_prefix_space": False, **special})
    return CLIPTokenizer.from_pretrained(folder), len(tokens)


def text_config(vocabulary, width, heads, activation, end):
    """end: what the configuration says, 2 in older files, which then stands for the largest id."""
    return CLIPTextConfig(vocab_size=vocabulary, hidden_size=width, intermediate_size=2 * width, num_hidden_layers=3,
                          num_attention_heads=heads, max_position_embeddings=LENGTH, hidden_act=activation,
                          projection_dim=20, bos_token_id=vocabulary - 2, eos_token_id=end, pad_token_id=1)


def calm(unet):
    """Smaller predictions: guided steps of random networks else double every rounding several times."""
    with torch.no_grad():
        unet.conv_out.weight.mul_(0.25)
    return unet


def model(folder):
    first, vocabulary = tokenizer(os.path.join(folder, "tokenizer"), END)
    second, _ = tokenizer(os.path.join(folder, "tokenizer_2"), "!")
    vae = AutoencoderKL(block_out_channels=(4, 4, 4, 4), down_block_types=("DownEncoderBlock2D",) * 4,
                        up_block_types=("UpDecoderBlock2D",) * 4, norm_num_groups=2, latent_channels=4,
                        layers_per_block=1, scaling_factor=0.13025, force_upcast=True, sample_size=64)
    scheduler = EulerDiscreteScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012,
                                       timestep_spacing="leading", steps_offset=1, interpolation_type="linear")
    pipeline = StableDiffusionXLPipeline(
        vae=randomise(vae, 31), tokenizer=first, tokenizer_2=second, scheduler=scheduler,
        text_encoder=randomise(CLIPTextModel(text_config(vocabulary, 16, 2, "quick_gelu", vocabulary - 1)), 32),
        text_encoder_2=randomise(CLIPTextModelWithProjection(text_config(vocabulary, 24, 3, "gelu", 2)), 33),
        unet=calm(randomise(xl_like(cross_attention_dim=40), 34)), add_watermarker=False)
    pipeline.save_pretrained(folder)
    for name in ("tokenizer", "tokenizer_2"):  # as they were, and as files of this age have them
        tokens = os.path.join(folder, name, "tokenizer.json")
        if os.path.exists(tokens):
            os.remove(tokens)
    for place, _, names in os.walk(folder):
        for name in names:
            os.chmod(os.path.join(place, name), 0o644)
    return pipeline


def case(pipelines, scheduler, noise, **request):
    """Final latents. pipelines: in f64, whose they are, and in f32, which has to be near, or else the test would ask of
    an implementation in f32 what PyTorch's own does not reach."""
    found = []
    for pipeline in pipelines:
        pipeline.scheduler = scheduler
        latents = noise.to(pipeline.unet.dtype)
        found.append(pipeline(PROMPT, latents=latents, output_type="latent", **request).images.double())
    exact, rounded = found
    error = ((exact - rounded).abs().max() / exact.abs().max()).item()
    assert error <= ROUNDING, f"{request}: PyTorch in f32 is {error:.1e} from f64; take another seed for the noise"
    return exact.float()


def main():
    folder = case_folder("sdxl")
    rounded = model(folder)
    exact = copy.deepcopy(rounded).to(torch.float64)
    pipelines = exact, rounded
    for pipeline in pipelines:
        pipeline.set_progress_bar_config(disable=True)
    own = exact.scheduler
    trailing = EulerDiscreteScheduler.from_config(own.config, timestep_spacing="trailing")
    ancestral = EulerAncestralDiscreteScheduler.from_config(own.config, timestep_spacing="trailing")
    clean = EulerDiscreteScheduler.from_config(own.config, timestep_spacing="trailing", prediction_type="sample")
    noise = random_tensor(generator(NOISE_SEED), 1, 4, 8, 12)
    size = {"height": 64, "width": 96}
    tensors = {
        "noise.0": noise,
        "absent": case(pipelines, own, noise, guidance_scale=5.0, num_inference_steps=4, **size),
        "empty": case(pipelines, own, noise, guidance_scale=5.0, num_inference_steps=4, negative_prompt="", **size),
        "negative": case(pipelines, own, noise, guidance_scale=5.0, num_inference_steps=4, negative_prompt="dull fog",
                         **size),
        "skipped": case(pipelines, own, noise, guidance_scale=5.0, num_inference_steps=4, clip_skip=1, **size),
        "trailing": case(pipelines, trailing, noise, guidance_scale=1.0, num_inference_steps=4, **size),
        "ancestral": case(pipelines, ancestral, noise, guidance_scale=1.0, num_inference_steps=1, **size),
        # as SDXL Lightning's model for one step is drawn, and the same in three (four double roundings)
        "clean_1": case(pipelines, clean, noise, guidance_scale=1.0, num_inference_steps=1, **size),
        "clean_3": case(pipelines, clean, noise, guidance_scale=1.0, num_inference_steps=3, **size),
    }
    write_tensors(os.path.join(folder, "latents.safetensors"), tensors)
    for name, value in tensors.items():
        print(name, tuple(value.shape), f"rms {value.square().mean().sqrt():.4f}")


if __name__ == "__main__":
    main()
