"""AutoencoderKL: encoder (image -> mean, logvar of the latent) and decoder (latent -> image); AutoencoderTiny: the
same, but for logvar. See README.md."""
import os
import shutil

import torch
from diffusers import AutoencoderKL, AutoencoderTiny
from safetensors.torch import load_file, save_file

from common import case_folder, double_of, generator, random_tensor, randomise, save_model, write_json, write_tensors

WEIGHTS = "diffusion_pytorch_model.safetensors"


def autoencoder(channels, layers, mid_attention, quant_conv, post_quant_conv, latent_channels=4):
    return AutoencoderKL(
        sample_size=32, in_channels=3, out_channels=3, latent_channels=latent_channels, block_out_channels=channels,
        down_block_types=["DownEncoderBlock2D"] * len(channels), up_block_types=["UpDecoderBlock2D"] * len(channels),
        layers_per_block=layers, norm_num_groups=8, mid_block_add_attention=mid_attention,
        use_quant_conv=quant_conv, use_post_quant_conv=post_quant_conv)


def tiny_autoencoder(channels, encoder_blocks, decoder_blocks, **options):
    return AutoencoderTiny(
        encoder_block_out_channels=[channels] * len(encoder_blocks), num_encoder_blocks=encoder_blocks,
        decoder_block_out_channels=[channels] * len(decoder_blocks), num_decoder_blocks=decoder_blocks, **options)


def encode(model, image):
    """The encoder's outputs under the names of `splam forward`."""
    output = model.encode(image)
    if isinstance(model, AutoencoderTiny):
        return {"mean": output.latents}
    return {"mean": output.latent_dist.mean, "logvar": output.latent_dist.logvar}


def write_case(name, model, seed, images, latents):
    """images and latents: {case: (batch, height, width)}; latents are in latent pixels."""
    folder = case_folder(name)
    save_model(model, folder)
    reference = double_of(model)
    g = generator(seed)
    for case, (n, height, width) in images.items():
        image = random_tensor(g, n, 3, height, width)
        with torch.no_grad():
            outputs = encode(reference, image.double())
        write_tensors(os.path.join(folder, f"inputs_encode_{case}.safetensors"), {"image": image})
        write_tensors(os.path.join(folder, f"outputs_encode_{case}.safetensors"),
                      {key: value.float() for key, value in outputs.items()})
        mean = outputs["mean"]
        print(f"{name} encode {case}: {tuple(mean.shape)} rms {mean.square().mean().sqrt():.3f}")
    for case, (n, height, width) in latents.items():
        latent = random_tensor(g, n, model.config.latent_channels, height, width)
        with torch.no_grad():
            image = reference.decode(latent.double()).sample
        write_tensors(os.path.join(folder, f"inputs_decode_{case}.safetensors"), {"latent": latent})
        write_tensors(os.path.join(folder, f"outputs_decode_{case}.safetensors"), {"image": image.float()})
        print(f"{name} decode {case}: {tuple(image.shape)} rms {image.square().mean().sqrt():.3f}")
    return folder


def legacy_name(name):
    for new, old in ((".to_q.", ".query."), (".to_k.", ".key."), (".to_v.", ".value."), (".to_out.0.", ".proj_attn.")):
        name = name.replace(new, old)
    return name


def write_legacy(name, source):
    """The same model under the attention names of 2022. Both shapes of that time occur: plain matrices in the
    encoder, 1x1 convolution kernels [C,C,1,1] in the decoder."""
    folder = case_folder(name)
    for file in os.listdir(source):
        if file != WEIGHTS:
            shutil.copy(os.path.join(source, file), folder)
    weights = {}
    for key, value in load_file(os.path.join(source, WEIGHTS)).items():
        old = legacy_name(key)
        if old != key and key.startswith("decoder.") and value.dim() == 2:
            value = value[:, :, None, None]
        weights[old] = value.contiguous()
    path = os.path.join(folder, WEIGHTS)
    save_file(weights, path, metadata={"format": "pt"})
    os.chmod(path, 0o644)


def set_tile(model, side, factor):
    """Tiles of `side` pixels. diffusers takes it from the config, and 8 for the factor of every AutoencoderTiny."""
    model.tile_sample_min_size = side
    model.tile_latent_min_size = side // factor
    if isinstance(model, AutoencoderTiny):
        model.spatial_scale_factor = factor
    model.enable_tiling()


def write_tiles(name, model_folder, model, side, seed, height, width):
    """A picture and its latents in tiles: `latent` (divided by the scaling factor) -> `tiled_image`, and `image` ->
    `tiled_mean`, `tiled_logvar`."""
    factor = 2 ** (len(model.config.block_out_channels) - 1)
    folder = case_folder(name)
    reference = double_of(model)
    g = generator(seed)
    latent = random_tensor(g, 1, model.config.latent_channels, height // factor, width // factor)
    image = random_tensor(g, 1, 3, height, width)
    with torch.no_grad():
        whole = reference.decode(latent.double()).sample
        set_tile(reference, side, factor)
        tiled = reference.decode(latent.double()).sample
        outputs = encode(reference, image.double())
    write_tensors(os.path.join(folder, "tiles.safetensors"), {
        "latent": latent, "image": image, "tiled_image": tiled.float(),
        **{f"tiled_{key}": value.float() for key, value in outputs.items()}})
    write_json(os.path.join(folder, "case.json"), {"vae": f"../{model_folder}", "side": side})
    print(f"{name}: tiles differ from the whole by {(tiled - whole).abs().max() / whole.abs().max():.3f}")


def main():
    sd = randomise(autoencoder((8, 16), 2, True, True, True), 11)
    folder = write_case("vae-sd", sd, 111, {"square": (2, 16, 16), "odd": (1, 13, 22)},
                        {"square": (2, 8, 8), "odd": (1, 5, 11)})
    write_legacy("vae-legacy", folder)
    demo = randomise(autoencoder((8, 16, 24), 1, False, True, True), 12)
    write_case("vae-demo", demo, 121,
               {"square": (2, 16, 16), "odd": (1, 18, 23)}, {"square": (2, 4, 4), "wide": (1, 3, 7)})
    write_case("vae-no-quant", randomise(autoencoder((8, 16), 1, True, False, False, latent_channels=8), 13), 131,
               {"square": (1, 12, 12)}, {"square": (1, 6, 6)})
    tiny = randomise(tiny_autoencoder(12, [1, 2, 1], [2, 1, 1]), 14)
    write_case("vae-tiny", tiny, 141,
               {"square": (2, 16, 16), "odd": (1, 18, 23)}, {"square": (2, 4, 4), "odd": (1, 3, 7)})
    write_case("vae-tiny-other", randomise(tiny_autoencoder(
        8, [1, 0, 2], [1, 2], upsampling_scaling_factor=4, act_fn="silu", latent_channels=6, scaling_factor=0.5), 15),
        151,
               {"square": (1, 12, 12)}, {"square": (1, 5, 4)})

    write_tiles("tiles-kl", "vae-demo", demo, 32, 161, 60, 80)
    write_tiles("tiles-tiny", "vae-tiny", tiny, 64, 162, 76, 120)


if __name__ == "__main__":
    main()
