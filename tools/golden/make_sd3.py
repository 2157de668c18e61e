"""StableDiffusion3Pipeline, tiny and without T5: a model folder, the final latents of several requests, one of them
with adapters, and what the autoencoder makes of one. See README.md."""
import os

import torch
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, StableDiffusion3Pipeline
from diffusers.training_utils import _collate_lora_metadata
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from safetensors.torch import load_file
from transformers import CLIPTextModelWithProjection

from common import case_folder, generator, random_tensor, randomise, write_tensors
from distill_flow import LORA_TARGETS
from make_mmdit import medium_like
from make_sdxl import END, PROMPT, text_config, tokenizer

SIZE = {"height": 64, "width": 96}


def calm(transformer):
    """Smaller velocities: guided steps of random networks else double every rounding several times."""
    with torch.no_grad():
        transformer.proj_out.weight.mul_(0.5)
    return transformer


def model(folder):
    first, vocabulary = tokenizer(os.path.join(folder, "tokenizer"), END)
    second, _ = tokenizer(os.path.join(folder, "tokenizer_2"), "!")
    vae = AutoencoderKL(block_out_channels=(4, 4, 4, 4), down_block_types=("DownEncoderBlock2D",) * 4,
                        up_block_types=("UpDecoderBlock2D",) * 4, norm_num_groups=2, latent_channels=6,
                        layers_per_block=1, scaling_factor=1.5305, shift_factor=0.0609, use_quant_conv=False,
                        use_post_quant_conv=False, sample_size=64)
    transformer = medium_like(in_channels=6, out_channels=6, joint_attention_dim=48, pooled_projection_dim=40)
    pipeline = StableDiffusion3Pipeline(
        vae=randomise(vae, 51), tokenizer=first, tokenizer_2=second, tokenizer_3=None, text_encoder_3=None,
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        text_encoder=randomise(
            CLIPTextModelWithProjection(text_config(vocabulary, 16, 2, "quick_gelu", vocabulary - 1)), 52),
        text_encoder_2=randomise(CLIPTextModelWithProjection(text_config(vocabulary, 24, 3, "gelu", 2)), 53),
        transformer=calm(randomise(transformer, 54)))
    pipeline.save_pretrained(folder)
    for name in ("tokenizer", "tokenizer_2"):  # as they were, and as files of this age have them
        tokens = os.path.join(folder, name, "tokenizer.json")
        if os.path.exists(tokens):
            os.remove(tokens)
    for place, _, names in os.walk(folder):
        for name in names:
            os.chmod(os.path.join(place, name), 0o644)
    return pipeline


def case(pipeline, noise, **request):
    out = pipeline(PROMPT, latents=noise.double(), output_type="latent", **request, **SIZE).images
    return out.float()


@torch.no_grad()
def write_lora(folder):
    """Adapters of PEFT's on diffusers' default layers, as StableDiffusion3Pipeline writes them, and what they make of
    the sd3 folder's model."""
    pipeline = StableDiffusion3Pipeline.from_pretrained(folder, text_encoder_3=None, tokenizer_3=None)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.transformer.add_adapter(LoraConfig(r=3, lora_alpha=5, target_modules=LORA_TARGETS["attention"]))
    g = generator(56)
    for name, parameter in pipeline.transformer.named_parameters():
        if "lora_" in name:
            parameter.copy_(0.3 * random_tensor(g, *parameter.shape))
    layers = get_peft_model_state_dict(pipeline.transformer)
    config = _collate_lora_metadata({"transformer": pipeline.transformer})
    StableDiffusion3Pipeline.save_lora_weights(folder, transformer_lora_layers=layers, weight_name="lora.safetensors",
                                               **config)
    os.chmod(os.path.join(folder, "lora.safetensors"), 0o644)
    pipeline = pipeline.to(torch.float64)
    noise = load_file(os.path.join(folder, "latents.safetensors"))["noise.0"]
    out = case(pipeline, noise, guidance_scale=4.0, num_inference_steps=4)
    write_tensors(os.path.join(folder, "lora-latents.safetensors"), {"lora": out})
    print("lora", tuple(out.shape), f"rms {out.square().mean().sqrt():.4f}")


@torch.no_grad()
def main():
    folder = case_folder("sd3")
    pipeline = model(folder).to(torch.float64)
    pipeline.set_progress_bar_config(disable=True)
    noise = random_tensor(generator(55), 1, 6, 8, 12)
    guided = {"guidance_scale": 4.0, "num_inference_steps": 4}
    tensors = {
        "noise.0": noise,
        "absent": case(pipeline, noise, **guided),
        "negative": case(pipeline, noise, negative_prompt="dull fog", **guided),
        "skipped": case(pipeline, noise, clip_skip=1, **guided),
        "absent77": case(pipeline, noise, negative_prompt="dull fog", max_sequence_length=77, **guided),
        "unguided": case(pipeline, noise, guidance_scale=1.0, num_inference_steps=7),
        "skip_layers": case(pipeline, noise, guidance_scale=4.0, num_inference_steps=7, skip_guidance_layers=[1, 2],
                            skip_layer_guidance_scale=1.5, skip_layer_guidance_stop=0.5),
        "student": case(pipeline, noise, guidance_scale=1.0, sigmas=[1.0, 0.75, 0.5, 0.25]),
    }
    z = tensors["unguided"].double() / pipeline.vae.config.scaling_factor + pipeline.vae.config.shift_factor
    tensors["picture"] = pipeline.vae.decode(z).sample.float()
    write_tensors(os.path.join(folder, "latents.safetensors"), tensors)
    for name, value in tensors.items():
        print(name, tuple(value.shape), f"rms {value.square().mean().sqrt():.4f}")
    write_lora(folder)


if __name__ == "__main__":
    main()
