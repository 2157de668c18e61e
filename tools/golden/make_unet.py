"""UNet2DConditionModel: forward passes and, for one model, the gradient of every parameter. See README.md."""
import os

import torch
from diffusers import UNet2DConditionModel

from common import case_folder, double_of, generator, random_tensor, randomise, save_model, write_tensors


def sd1_like():
    """All four block types around the middle block, two resnets per block, 1x1 convolutions around the attention."""
    return UNet2DConditionModel(
        sample_size=16, in_channels=4, out_channels=4, block_out_channels=(16, 32), layers_per_block=2,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        norm_num_groups=8, cross_attention_dim=24, attention_head_dim=4)


def sd2_like():
    """Linear projections, a head count per level, scores in float32."""
    return UNet2DConditionModel(
        sample_size=16, in_channels=4, out_channels=4, block_out_channels=(16, 32), layers_per_block=2,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        norm_num_groups=8, cross_attention_dim=32, attention_head_dim=(2, 4), use_linear_projection=True,
        upcast_attention=True)


def guided():
    """A student: time_cond_proj_dim, so cond_proj in the time embedding. One resnet per block."""
    return UNet2DConditionModel(
        sample_size=8, in_channels=4, out_channels=4, block_out_channels=(8, 16), layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        norm_num_groups=4, cross_attention_dim=24, attention_head_dim=2, time_cond_proj_dim=256)


def demo_like():
    """The shape of the emoji model, smaller: three levels, one resnet each, four heads."""
    return UNet2DConditionModel(
        sample_size=8, in_channels=4, out_channels=4, block_out_channels=(16, 24, 32), layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        norm_num_groups=8, cross_attention_dim=24, attention_head_dim=4)


def xl_like(**changes):
    """Stable Diffusion XL's: three levels, the first without attention, transformers of several blocks, the pooled
    text (20 wide) and six sizes (8 wide each) beside the time."""
    return UNet2DConditionModel(**{**dict(
        sample_size=16, in_channels=4, out_channels=4, block_out_channels=(8, 16, 16), layers_per_block=2,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        transformer_layers_per_block=(1, 1, 2), norm_num_groups=4, cross_attention_dim=24, attention_head_dim=(1, 2, 4),
        use_linear_projection=True, addition_embed_type="text_time", addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=20 + 6 * 8), **changes})


def ssd_like():
    """SSD-1B's: a depth for each transformer, the middle block one resnet alone."""
    return xl_like(transformer_layers_per_block=(0, (2, 2), (2, 3)),
                   reverse_transformer_layers_per_block=((3, 2, 1), (2, 1, 1), 1), mid_block_type="UNetMidBlock2D")


def vega_like():
    """Segmind-Vega's, as a student: the middle block one resnet alone, and cond_proj."""
    return xl_like(transformer_layers_per_block=(1, 1, 2), mid_block_type="UNetMidBlock2D", time_cond_proj_dim=256)


def demo_unet():
    """The model of unet-demo with its weights; samplers and training use it too."""
    return randomise(demo_like(), 4)


def inputs(seed, size, timesteps, tokens, dim, time_cond=False, text_time=False):
    """One set of inputs; timesteps are int64 if all are whole numbers, else float32."""
    g = generator(seed)
    n = len(timesteps)
    whole = all(float(t).is_integer() for t in timesteps)
    result = {
        "sample": random_tensor(g, n, 4, *size),
        "timestep": torch.tensor(timesteps, dtype=torch.int64 if whole else torch.float32),
        "encoder_hidden_states": random_tensor(g, n, tokens, dim),
    }
    if time_cond:
        result["timestep_cond"] = random_tensor(g, n, 256)
    if text_time:
        result["text_embeds"] = random_tensor(g, n, 20)
        result["time_ids"] = torch.randint(0, 1500, (n, 6), generator=g).float()
    return result


def forward(reference, given):
    """The prediction, in float64. The timestep embedding is float32 within diffusers, whatever the model is."""
    cond = given.get("timestep_cond")
    added = {name: given[name].double() for name in ("text_embeds", "time_ids") if name in given}
    return reference(given["sample"].double(), given["timestep"], given["encoder_hidden_states"].double(),
                     timestep_cond=None if cond is None else cond.double(), added_cond_kwargs=added).sample


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
    return folder


def write_gradients(folder, model, given, seed):
    """d loss / d parameter for loss = mean(sample * weight), all in float64, stored as float32."""
    reference = double_of(model)
    weight = random_tensor(generator(seed), *given["sample"].shape)
    sample = given["sample"].double().requires_grad_(True)
    context = given["encoder_hidden_states"].double().requires_grad_(True)
    loss = (reference(sample, given["timestep"], context).sample * weight.double()).mean()
    loss.backward()
    write_tensors(os.path.join(folder, "gradient_inputs.safetensors"), {**given, "weight": weight})
    write_tensors(os.path.join(folder, "gradient_outputs.safetensors"), {
        "loss": loss.float().reshape(1), "sample": sample.grad.float(),
        "encoder_hidden_states": context.grad.float()})
    write_tensors(os.path.join(folder, "gradients.safetensors"),
                  {name: p.grad.float() for name, p in reference.named_parameters()})


def main():
    write_case("unet-sd1", randomise(sd1_like(), 1), {
        "square": inputs(101, (16, 16), (981, 21), 7, 24),
        "odd": inputs(102, (9, 13), (499,), 5, 24),
        "wide": inputs(103, (16, 24), (759,), 7, 24),
        "batch3": inputs(104, (8, 12), (1, 501, 999), 7, 24),
        "fractional": inputs(105, (8, 8), (0.25, 333.71875, 980.5), 7, 24),
    })
    write_case("unet-sd2", randomise(sd2_like(), 2), {
        "square": inputs(201, (16, 16), (961, 0), 7, 32),
        "odd": inputs(202, (13, 9), (499, 19), 3, 32),
    })
    write_case("unet-guided", randomise(guided(), 3), {
        "with_cond": inputs(301, (8, 8), (999, 259), 7, 24, time_cond=True),
        "without_cond": inputs(301, (8, 8), (999, 259), 7, 24),
    })
    write_case("unet-xl", randomise(xl_like(), 5), {
        "square": inputs(501, (16, 16), (981, 21), 7, 24, text_time=True),
        "odd": inputs(502, (9, 13), (499,), 5, 24, text_time=True),
    })
    write_case("unet-ssd", randomise(ssd_like(), 6), {"wide": inputs(601, (8, 12), (751, 1), 7, 24, text_time=True)})
    write_case("unet-vega", randomise(vega_like(), 7), {
        "with_cond": inputs(701, (8, 8), (999, 259), 7, 24, time_cond=True, text_time=True)})
    demo = demo_unet()
    folder = write_case("unet-demo", demo, {
        "square": inputs(401, (16, 16), (999, 19), 7, 24),
        "odd": inputs(402, (11, 15), (499, 679, 3), 7, 24),
        "fractional": inputs(403, (8, 8), (18.375, 679.5), 1, 24),
    })
    write_gradients(folder, demo, inputs(404, (8, 8), (759, 139), 7, 24), 405)


if __name__ == "__main__":
    main()
