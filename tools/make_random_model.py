#!/usr/bin/env python3
"""Writes a model of the exact shapes of Stable Diffusion 1.5, 2.1, XL, 3.5 Medium or 3.5 Large (without T5), of SSD-1B
or Segmind-Vega with seeded random weights.

    python make_random_model.py sd15|sd21|sdxl|ssd1b|vega|sd35m|sd35l FOLDER --tokenizer DIR [--dtype f16|bf16|f32]
        [--sharded] [--seed S]
    python make_random_model.py sd15|sd21|sdxl|ssd1b|vega|sd35m|sd35l --single-file OUT.safetensors|OUT.ckpt
        [--dtype ...] [--seed S]

FOLDER is a diffusers folder, complete: UNet, VAE, text encoder, tokenizer (vocab.json and merges.txt from DIR), and the
scheduler's configuration as the published model has it. A single file holds the same weights (equal seeds) under the
names that the published checkpoints have, the averaged weights of training left out. Weights keep the variance of their
inputs, so activations stay bounded, and pictures are noise but finite.

Packages: golden/requirements.txt. Needs 6 GB of memory for sd15 in f32, 4.5 GB otherwise; of sdxl 7 GB in 16 bits, of
sd35l as a sharded folder 19 GB.
"""
import argparse
import gc
import os
import re
import shutil
import sys

import torch

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "golden"))
import common  # noqa: E402

DTYPES = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}

SD15_UNET = dict(
    sample_size=64, in_channels=4, out_channels=4, block_out_channels=(320, 640, 1280, 1280), layers_per_block=2,
    down_block_types=("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
    up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3, cross_attention_dim=768, attention_head_dim=8,
    norm_num_groups=32)
SD21_UNET = {**SD15_UNET, "cross_attention_dim": 1024, "attention_head_dim": (5, 10, 20, 20),
             "use_linear_projection": True, "upcast_attention": True, "sample_size": 96}
SD15_VAE = dict(
    sample_size=512, in_channels=3, out_channels=3, latent_channels=4, block_out_channels=(128, 256, 512, 512),
    down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4, layers_per_block=2,
    norm_num_groups=32, scaling_factor=0.18215)
SD21_VAE = {**SD15_VAE, "sample_size": 768}
SD15_TEXT = dict(
    vocab_size=49408, hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12,
    max_position_embeddings=77, hidden_act="quick_gelu", projection_dim=768, bos_token_id=49406, eos_token_id=49407,
    pad_token_id=49407)
SD21_TEXT = {**SD15_TEXT, "hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 23,
             "num_attention_heads": 16, "hidden_act": "gelu", "projection_dim": 512}

SDXL_UNET = dict(
    sample_size=128, in_channels=4, out_channels=4, block_out_channels=(320, 640, 1280), layers_per_block=2,
    down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"), cross_attention_dim=2048,
    attention_head_dim=(5, 10, 20), transformer_layers_per_block=(1, 2, 10), use_linear_projection=True,
    addition_embed_type="text_time", addition_time_embed_dim=256, projection_class_embeddings_input_dim=2816,
    norm_num_groups=32)
SSD1B_UNET = {**SDXL_UNET, "transformer_layers_per_block": (0, (2, 2), (4, 4)), "mid_block_type": "UNetMidBlock2D",
              "reverse_transformer_layers_per_block": ((4, 4, 10), (2, 1, 1), 1)}
VEGA_UNET = {**SDXL_UNET, "transformer_layers_per_block": (1, 1, 2), "mid_block_type": "UNetMidBlock2D"}
SDXL_VAE = {**SD15_VAE, "sample_size": 1024, "scaling_factor": 0.13025, "force_upcast": True}
SDXL_TEXT = {**SD15_TEXT, "eos_token_id": 2, "bos_token_id": 0, "pad_token_id": 1}
SDXL_TEXT_2 = {**SDXL_TEXT, "hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32,
               "num_attention_heads": 20, "hidden_act": "gelu", "projection_dim": 1280}

NOISE_SCHEDULE = dict(beta_end=0.012, beta_schedule="scaled_linear", beta_start=0.00085, clip_sample=False,
                      num_train_timesteps=1000, set_alpha_to_one=False, skip_prk_steps=True, steps_offset=1,
                      trained_betas=None)
SD15_SCHEDULER = {"_class_name": "PNDMScheduler", "_diffusers_version": "0.6.0", **NOISE_SCHEDULE}
SD21_SCHEDULER = {"_class_name": "DDIMScheduler", "_diffusers_version": "0.8.0", **NOISE_SCHEDULE,
                  "prediction_type": "v_prediction"}

SDXL_SCHEDULER = {"_class_name": "EulerDiscreteScheduler", "_diffusers_version": "0.19.0", **NOISE_SCHEDULE,
                  "interpolation_type": "linear", "prediction_type": "epsilon", "sample_max_value": 1.0,
                  "timestep_spacing": "leading", "use_karras_sigmas": False}

SD35M_TRANSFORMER = dict(
    sample_size=128, patch_size=2, in_channels=16, out_channels=16, num_layers=24, attention_head_dim=64,
    num_attention_heads=24, joint_attention_dim=4096, caption_projection_dim=1536, pooled_projection_dim=2048,
    pos_embed_max_size=384, dual_attention_layers=tuple(range(13)), qk_norm="rms_norm")
SD35L_TRANSFORMER = {**SD35M_TRANSFORMER, "num_layers": 38, "num_attention_heads": 38, "caption_projection_dim": 2432,
                     "pos_embed_max_size": 192, "dual_attention_layers": ()}
SD35M_VAE = {**SD15_VAE, "sample_size": 1024, "latent_channels": 16, "scaling_factor": 1.5305, "shift_factor": 0.0609,
             "use_quant_conv": False, "use_post_quant_conv": False}
SD35M_SCHEDULER = {"_class_name": "FlowMatchEulerDiscreteScheduler", "_diffusers_version": "0.29.0",
                   "num_train_timesteps": 1000, "shift": 3.0}

# "pad": what a prompt is filled up with. "steps": the training steps that the published checkpoint says it had.
FAMILIES = {
    "sd15": dict(unet=SD15_UNET, vae=SD15_VAE, text_encoder=SD15_TEXT, scheduler=SD15_SCHEDULER, pad="<|endoftext|>",
                 steps=840000),
    "sd21": dict(unet=SD21_UNET, vae=SD21_VAE, text_encoder=SD21_TEXT, scheduler=SD21_SCHEDULER, pad="!",
                 steps=110000),
    **{name: dict(unet=unet, vae=SDXL_VAE, text_encoder=SDXL_TEXT, text_encoder_2=SDXL_TEXT_2, scheduler=SDXL_SCHEDULER,
                  pad="<|endoftext|>", steps=0)
       for name, unet in (("sdxl", SDXL_UNET), ("ssd1b", SSD1B_UNET), ("vega", VEGA_UNET))},
    **{name: dict(transformer=transformer, vae=SD35M_VAE, text_encoder=SDXL_TEXT, text_encoder_2=SDXL_TEXT_2,
                  scheduler=SD35M_SCHEDULER, pad="<|endoftext|>", steps=0)
       for name, transformer in (("sd35m", SD35M_TRANSFORMER), ("sd35l", SD35L_TRANSFORMER))},
}
COMPONENTS = ("unet", "vae", "text_encoder", "text_encoder_2", "transformer")


def components_of(family):
    return [component for component in COMPONENTS if component in FAMILIES[family]]


# ---- models ----

def new_model(family, component):
    """The component without its final weights."""
    from diffusers import AutoencoderKL, SD3Transformer2DModel, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection
    config = FAMILIES[family][component]
    if component == "unet":
        return UNet2DConditionModel(**config)
    if component == "vae":
        return AutoencoderKL(**config)
    if component == "transformer":
        return SD3Transformer2DModel(**config)
    projects = component == "text_encoder_2" or "transformer" in FAMILIES[family]
    return (CLIPTextModelWithProjection if projects else CLIPTextModel)(CLIPTextConfig(**config))


def random_model(family, component, seed, dtype=torch.float32):
    torch.set_default_dtype(dtype)  # the largest in 32 bits would not be, for a moment, in 16 GB
    model = new_model(family, component)
    torch.set_default_dtype(torch.float32)
    return common.randomise(model, 10 * seed + COMPONENTS.index(component)).to(dtype)


# ---- the names of published checkpoints ----
# Each list is tried from top to bottom on a diffusers name, every pattern once: prefixes first, then what is inside.

UNET_INSIDE = [(r"\.norm1\.", ".in_layers.0."), (r"\.conv1\.", ".in_layers.2."), (r"\.norm2\.", ".out_layers.0."),
               (r"\.conv2\.", ".out_layers.3."), (r"\.time_emb_proj\.", ".emb_layers.1."),
               (r"\.conv_shortcut\.", ".skip_connection.")]
UNET_OUTSIDE = [(r"^add_embedding\.linear_1\.", "label_emb.0.0."), (r"^add_embedding\.linear_2\.", "label_emb.0.2."),
                (r"^time_embedding\.linear_1\.", "time_embed.0."), (r"^time_embedding\.linear_2\.", "time_embed.2."),
                (r"^conv_in\.", "input_blocks.0.0."), (r"^conv_norm_out\.", "out.0."), (r"^conv_out\.", "out.2."),
                (r"^mid_block\.resnets\.0\.", "middle_block.0."), (r"^mid_block\.attentions\.0\.", "middle_block.1."),
                (r"^mid_block\.resnets\.1\.", "middle_block.2.")]


def original_unet_name(name, layers, attends):
    """`layers`: resnets of a block on the way down; one more on the way up. `attends`: of each block on the way up."""
    block = re.match(r"(down|up)_blocks\.(\d+)\.(resnets|attentions|downsamplers|upsamplers)\.(\d+)\.(.*)", name)
    if block:
        way, level, part, index, rest = block[1], int(block[2]), block[3], int(block[4]), block[5]
        if part == "downsamplers":
            return f"input_blocks.{(layers + 1) * (level + 1)}.0.op.{rest.removeprefix('conv.')}"
        if part == "upsamplers":  # behind the attention, where there is one
            return f"output_blocks.{(layers + 1) * level + layers}.{1 + attends[level]}.{rest}"
        place = (layers + 1) * level + index + (way == "down")
        name = f"{'input' if way == 'down' else 'output'}_blocks.{place}.{int(part == 'attentions')}.{rest}"
        if part == "attentions":
            return name
    for pattern, replacement in UNET_OUTSIDE:
        name = re.sub(pattern, replacement, name)
    if "resnets" in block[3] if block else name.startswith(("middle_block.0", "middle_block.2")):
        for pattern, replacement in UNET_INSIDE:
            name = re.sub(pattern, replacement, name)
    return name


def original_vae_name(name, levels):
    def up(match):
        return f"decoder.up.{levels - 1 - int(match[1])}."
    name = re.sub(r"^decoder\.up_blocks\.(\d+)\.", up, name)
    for pattern, replacement in [
            (r"^encoder\.down_blocks\.", "encoder.down."), (r"\.resnets\.", ".block."),
            (r"\.mid_block\.block\.0\.", ".mid.block_1."), (r"\.mid_block\.block\.1\.", ".mid.block_2."),
            (r"\.mid_block\.attentions\.0\.", ".mid.attn_1."), (r"\.downsamplers\.0\.", ".downsample."),
            (r"\.upsamplers\.0\.", ".upsample."), (r"\.conv_shortcut\.", ".nin_shortcut."),
            (r"\.conv_norm_out\.", ".norm_out."), (r"\.to_([qkv])\.", r".\1."), (r"\.to_out\.0\.", ".proj_out."),
            (r"\.group_norm\.", ".norm.")]:
        name = re.sub(pattern, replacement, name)
    return name


# Of a block, diffusers' and Stability's; {} is q, k and v, which Stability has in one tensor.
MMDIT_INSIDE = [("norm1.linear", "x_block.adaLN_modulation.1"),
                ("norm1_context.linear", "context_block.adaLN_modulation.1"), ("attn.to_{}", "x_block.attn.qkv"),
                ("attn.add_{}_proj", "context_block.attn.qkv"), ("attn2.to_{}", "x_block.attn2.qkv"),
                ("attn.norm_q", "x_block.attn.ln_q"), ("attn.norm_k", "x_block.attn.ln_k"),
                ("attn.norm_added_q", "context_block.attn.ln_q"),
                ("attn.norm_added_k", "context_block.attn.ln_k"), ("attn2.norm_q", "x_block.attn2.ln_q"),
                ("attn2.norm_k", "x_block.attn2.ln_k"), ("attn.to_out.0", "x_block.attn.proj"),
                ("attn.to_add_out", "context_block.attn.proj"), ("attn2.to_out.0", "x_block.attn2.proj"),
                ("ff.net.0.proj", "x_block.mlp.fc1"), ("ff.net.2", "x_block.mlp.fc2"),
                ("ff_context.net.0.proj", "context_block.mlp.fc1"), ("ff_context.net.2", "context_block.mlp.fc2")]
MMDIT_OUTSIDE = [("pos_embed.proj", "x_embedder.proj"), ("context_embedder", "context_embedder"),
                 ("time_text_embed.timestep_embedder.linear_1", "t_embedder.mlp.0"),
                 ("time_text_embed.timestep_embedder.linear_2", "t_embedder.mlp.2"),
                 ("time_text_embed.text_embedder.linear_1", "y_embedder.mlp.0"),
                 ("time_text_embed.text_embedder.linear_2", "y_embedder.mlp.2"), ("proj_out", "final_layer.linear"),
                 ("norm_out.linear", "final_layer.adaLN_modulation.1")]


def original_mmdit(weights):
    """Stability's names and forms: shift before scale in the two norms that have no gate."""
    blocks = 1 + max(int(name.split(".")[1]) for name in weights if name.startswith("transformer_blocks."))
    out = {"pos_embed": weights["pos_embed.pos_embed"]}
    pairs = list(MMDIT_OUTSIDE) + [(f"transformer_blocks.{i}.{own}", f"joint_blocks.{i}.{original}")
                                   for i in range(blocks) for own, original in MMDIT_INSIDE]
    last = f"transformer_blocks.{blocks - 1}.norm1_context.linear"
    for own, original in pairs:
        for kind in ("weight", "bias"):
            parts = [f"{own.format(part)}.{kind}" for part in ("qkv" if "{}" in own else "q")]
            found = [weights[name] for name in parts if name in weights]
            if found and own in (last, "norm_out.linear"):
                found = [found[0].chunk(2)[1], found[0].chunk(2)[0]]
            if found:
                out[f"{original}.{kind}"] = torch.cat(found) if len(found) > 1 else found[0]
    return out


def original_text(weights, layers, seed, projection=None):
    """OpenCLIP's layout: queries, keys and values in one matrix, and a last layer that Stable Diffusion 2 does not
    use. With a projection it is the second one of XL, which uses all."""
    out = {}
    short = {"layer_norm1": "ln_1", "layer_norm2": "ln_2", "mlp.fc1": "mlp.c_fc", "mlp.fc2": "mlp.c_proj",
             "self_attn.out_proj": "attn.out_proj"}
    for layer in range(layers):
        def part(name, layer=layer):
            return weights[f"encoder.layers.{layer}.{name}"]
        block = f"transformer.resblocks.{layer}."
        for theirs, ours in short.items():
            for kind in ("weight", "bias"):
                out[f"{block}{ours}.{kind}"] = part(f"{theirs}.{kind}")
        for kind in ("weight", "bias"):
            out[f"{block}attn.in_proj_{kind}"] = torch.cat([part(f"self_attn.{x}_proj.{kind}") for x in "qkv"])
    if projection is None:
        add_unused_layer(out, layers, seed)
    out["token_embedding.weight"] = weights["embeddings.token_embedding.weight"]
    out["positional_embedding"] = weights["embeddings.position_embedding.weight"]
    for kind in ("weight", "bias"):
        out[f"ln_final.{kind}"] = weights[f"final_layer_norm.{kind}"]
    width = weights["final_layer_norm.weight"].shape[0]
    unused = torch.zeros(width, width, dtype=weights["final_layer_norm.weight"].dtype)
    out["text_projection"] = unused if projection is None else projection.T
    out["logit_scale"] = torch.tensor(4.6052)
    return out


def add_unused_layer(out, layers, seed):
    g = common.generator(seed)
    last = f"transformer.resblocks.{layers - 1}."
    for name in [n for n in out if n.startswith(last)]:
        out[name.replace(last, f"transformer.resblocks.{layers}.")] = torch.randn(
            out[name].shape, generator=g).to(out[name].dtype)


def text_weights(model):
    return {name.removeprefix("text_model."): t for name, t in model.state_dict().items()
            if not name.endswith("position_ids")}


def original_weights(component, model, seed=0, xl=False, sd3=False):
    """The component's weights under the names, and in the forms, of a published checkpoint."""
    weights = {name: t.detach() for name, t in model.state_dict().items()}
    if component == "transformer":
        return {"model.diffusion_model." + name: t for name, t in original_mmdit(weights).items()}
    if sd3 and component != "vae":
        prefix = "text_encoders.clip_" + ("g" if component == "text_encoder_2" else "l") + ".transformer."
        return {prefix + ("" if name.startswith("text_projection") else "text_model.") + name: t
                for name, t in text_weights(model).items()
                if component == "text_encoder_2" or not name.startswith("text_projection")}
    if component == "unet":
        attends = ["CrossAttn" in kind for kind in model.config.up_block_types]
        return {"model.diffusion_model." + original_unet_name(name, model.config.layers_per_block, attends): t
                for name, t in weights.items()}
    if component == "vae":
        out = {}
        for name, t in weights.items():
            name = original_vae_name(name, len(model.config.block_out_channels))
            if re.search(r"attn_1\.(q|k|v|proj_out)\.weight$", name):
                t = t[:, :, None, None]
            out["first_stage_model." + name] = t
        return out
    weights = text_weights(model)
    if component == "text_encoder_2":
        parts = original_text(weights, model.config.num_hidden_layers, seed, weights["text_projection.weight"])
        return {"conditioner.embedders.1.model." + name: t for name, t in parts.items()}
    if model.config.hidden_act == "quick_gelu":
        prefix = ("conditioner.embedders.0." if xl else "cond_stage_model.") + "transformer.text_model."
        out = {prefix + name: t for name, t in weights.items()}
        length = model.config.max_position_embeddings
        out[prefix + "embeddings.position_ids"] = torch.arange(length)[None]
        return out
    return {"cond_stage_model.model." + name: t
            for name, t in original_text(weights, model.config.num_hidden_layers, seed).items()}


def noise_buffers():
    """What a published checkpoint keeps of its noise schedule: one of a dozen such."""
    betas = torch.linspace(0.00085 ** 0.5, 0.012 ** 0.5, 1000, dtype=torch.float64) ** 2
    return {"betas": betas.float(), "alphas_cumprod": torch.cumprod(1 - betas, 0).float()}


def write_single_file(path, weights, steps):
    weights = {name: t.contiguous() for name, t in weights.items()}
    if path.endswith(".ckpt"):
        torch.save({"epoch": 1, "global_step": steps, "pytorch-lightning_version": "1.4.2", "state_dict": weights},
                   path)
    else:
        common.save_file(weights, path)
        os.chmod(path, 0o644)


# ---- folders ----

def write_tokenizer(folder, source, pad):
    """transformers' files for CLIP's vocabulary, as the published models have them."""
    def token(text):
        return {"content": text, "lstrip": False, "normalized": True, "rstrip": False, "single_word": False}
    os.makedirs(folder, exist_ok=True)
    for name in ("vocab.json", "merges.txt"):
        shutil.copyfile(os.path.join(source, name), os.path.join(folder, name))
    start, end = token("<|startoftext|>"), token("<|endoftext|>")
    common.write_json(os.path.join(folder, "special_tokens_map.json"),
                      {"bos_token": start, "eos_token": end, "pad_token": pad, "unk_token": end})
    common.write_json(os.path.join(folder, "tokenizer_config.json"), {
        "add_prefix_space": False, "bos_token": {"__type": "AddedToken", **start}, "do_lower_case": True,
        "eos_token": {"__type": "AddedToken", **end}, "errors": "replace", "model_max_length": 77,
        "pad_token": "<|endoftext|>", "tokenizer_class": "CLIPTokenizer",
        "unk_token": {"__type": "AddedToken", **end}})


CLASSES = {"unet": "UNet2DConditionModel", "transformer": "SD3Transformer2DModel", "vae": "AutoencoderKL"}


def write_index(folder, family):
    parts = FAMILIES[family]
    xl, sd3 = "text_encoder_2" in parts, "transformer" in parts
    pipeline = "StableDiffusion" + ("3" if sd3 else "XL" if xl else "") + "Pipeline"
    index = {"_class_name": pipeline, "_diffusers_version": "0.6.0", "feature_extractor": [None, None],
             "scheduler": ["diffusers", parts["scheduler"]["_class_name"]]}
    for component in components_of(family):
        projects = component == "text_encoder_2" or sd3
        text = "CLIPTextModelWithProjection" if projects else "CLIPTextModel"
        index[component] = ["diffusers", CLASSES[component]] if component in CLASSES else ["transformers", text]
    for name in ("tokenizer", "tokenizer_2")[:1 + xl]:
        index[name] = ["transformers", "CLIPTokenizer"]
    absent = ("image_encoder", "text_encoder_3", "tokenizer_3") if sd3 else ("image_encoder",) if xl else (
        "safety_checker",)
    index.update({name: [None, None] for name in absent})
    if xl and not sd3:
        index["force_zeros_for_empty_prompt"] = True
    common.write_json(os.path.join(folder, "model_index.json"), index)


def write_folder(family, folder, tokenizer, dtype, sharded, seed):
    parts = FAMILIES[family]
    for component in components_of(family):
        model = random_model(family, component, seed, dtype)
        model.save_pretrained(os.path.join(folder, component), **({"max_shard_size": "400MB"} if sharded else {}))
        del model
        gc.collect()
    write_tokenizer(os.path.join(folder, "tokenizer"), tokenizer, parts["pad"])
    xl = "text_encoder_2" in parts
    if xl:
        write_tokenizer(os.path.join(folder, "tokenizer_2"), tokenizer, "!")
    os.makedirs(os.path.join(folder, "scheduler"), exist_ok=True)
    common.write_json(os.path.join(folder, "scheduler", "scheduler_config.json"), parts["scheduler"])
    write_index(folder, family)


def write_checkpoint(family, path, dtype, seed):
    sd3 = "transformer" in FAMILIES[family]
    weights = {} if sd3 else noise_buffers()
    xl = "text_encoder_2" in FAMILIES[family]
    for component in components_of(family):
        weights.update(original_weights(component, random_model(family, component, seed, dtype), seed, xl, sd3))
        gc.collect()
    write_single_file(path, weights, FAMILIES[family]["steps"])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("family", choices=FAMILIES)
    parser.add_argument("folder", nargs="?", help="the diffusers folder to make")
    parser.add_argument("--tokenizer", help="where vocab.json and merges.txt are")
    parser.add_argument("--dtype", choices=DTYPES, default="f16")
    parser.add_argument("--sharded", action="store_true", help="weights in files of at most 400 MB with an index")
    parser.add_argument("--single-file", metavar="OUT", help="a checkpoint instead of a folder: .safetensors or .ckpt")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    if bool(arguments.folder) == bool(arguments.single_file):
        parser.error("either a FOLDER or --single-file OUT")
    dtype = DTYPES[arguments.dtype]
    if arguments.single_file:
        if not arguments.single_file.endswith((".safetensors", ".ckpt")):
            parser.error("--single-file OUT must end in .safetensors or .ckpt")
        if arguments.sharded or arguments.tokenizer:
            parser.error("--sharded and --tokenizer are for a FOLDER")
        return write_checkpoint(arguments.family, arguments.single_file, dtype, arguments.seed)
    if not arguments.tokenizer:
        parser.error("a FOLDER needs --tokenizer DIR")
    write_folder(arguments.family, arguments.folder, arguments.tokenizer, dtype, arguments.sharded, arguments.seed)


if __name__ == "__main__":
    main()
