"""Pillow's resizing, diffusers' training transform, and files of every kind with their pixels: image.safetensors.

Every tensor is uint8; pictures are [height, width, 3], files are [bytes].
"""
import io
import os

import numpy as np
from PIL import Image, ImageOps
from safetensors.numpy import save_file
from torchvision import transforms

import common

rng = np.random.default_rng(7)
tensors = {}


def picture(width, height, noise=40):
    """Smooth colours with edges and noise, so that every filter tap matters."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    rgb = np.stack([128 + 120 * np.sin(x / 5), 128 + 120 * np.cos(y / 4), (x * 7 + y * 3) % 256], -1)
    rgb[height // 4:height // 2, width // 3:width // 2] = [255, 255, 255]
    rgb[height // 2:, : width // 4] = 0
    rgb += rng.normal(0, noise, rgb.shape)
    return np.clip(rgb, 0, 255).astype(np.uint8)


def resize_cases():
    source = picture(61, 47)
    tensors["resize.source"] = source
    image = Image.fromarray(source)
    for name, filter in (("lanczos", Image.LANCZOS), ("bilinear", Image.BILINEAR), ("bicubic", Image.BICUBIC)):
        for width, height in ((16, 16), (64, 64), (61, 20), (30, 47), (7, 90), (1, 1)):
            tensors[f"resize.{name}.{width}x{height}"] = np.array(image.resize((width, height), filter))


def training_crop(side):
    """The transforms of diffusers' train_text_to_image.py, but for ToTensor and Normalize."""
    image = Image.fromarray(tensors["resize.source"])
    resize = transforms.Resize(side, interpolation=transforms.InterpolationMode.BILINEAR)
    tensors[f"crop.{side}"] = np.array(transforms.CenterCrop(side)(resize(image)))
    tensors[f"flip.{side}"] = np.array(transforms.RandomHorizontalFlip(1)(transforms.CenterCrop(side)(resize(image))))
    upright = image.transpose(Image.Transpose.ROTATE_90)
    tensors[f"crop.upright.{side}"] = np.array(transforms.CenterCrop(side)(resize(upright)))


def add_file(name, image, decoded=None, **options):
    buffer = io.BytesIO()
    image.save(buffer, **options)
    tensors[f"file.{name}"] = np.frombuffer(buffer.getvalue(), np.uint8)
    if decoded is None:
        decoded = ImageOps.exif_transpose(Image.open(io.BytesIO(buffer.getvalue())))
        if decoded.mode in ("RGBA", "LA", "P"):
            rgba = np.array(decoded.convert("RGBA")).astype(np.int64)
            alpha = rgba[..., 3:]
            decoded = (rgba[..., :3] * alpha + 255 * (255 - alpha) + 127) // 255
        else:
            decoded = decoded.convert("RGB")
    tensors[f"pixels.{name}"] = np.array(decoded).astype(np.uint8)


def file_cases():
    rgb = picture(23, 17, noise=8)
    image = Image.fromarray(rgb)
    alpha = Image.fromarray(rng.integers(0, 256, (17, 23), dtype=np.uint8))
    rgba = image.copy()
    rgba.putalpha(alpha)
    grey_alpha = image.convert("LA")
    grey_alpha.putalpha(alpha)
    palette = image.quantize(13)
    sixteen = rng.integers(0, 65536, (17, 23), dtype=np.uint16)
    add_file("png_rgb", image, format="PNG")
    add_file("png_rgba", rgba, format="PNG")
    add_file("png_grey", image.convert("L"), format="PNG")
    add_file("png_grey_alpha", grey_alpha, format="PNG")
    add_file("png_one_bit", image.convert("1"), format="PNG")
    add_file("png_palette", palette, format="PNG")
    add_file("png_palette_transparent", palette, format="PNG", transparency=3)
    add_file("png_16_bit", Image.fromarray(sixteen), format="PNG",
             decoded=np.repeat((sixteen >> 8)[..., None], 3, -1))
    add_file("jpeg", image, format="JPEG", quality=90)
    add_file("jpeg_444_progressive", image, format="JPEG", quality=95, subsampling=0, progressive=True)
    add_file("jpeg_grey", image.convert("L"), format="JPEG", quality=90)
    add_file("jpeg_cmyk", image.convert("CMYK"), format="JPEG", quality=95)
    for orientation in range(2, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        add_file(f"jpeg_orientation_{orientation}", image, format="JPEG", quality=90, exif=exif)
    add_file("webp", image, format="WEBP", quality=80)
    add_file("webp_lossless_alpha", rgba, format="WEBP", lossless=True)


def main():
    resize_cases()
    for side in (16, 33, 64):
        training_crop(side)
    file_cases()
    path = os.path.join(common.ROOT, "image.safetensors")
    save_file(tensors, path, metadata={"pillow": Image.__version__})
    os.chmod(path, 0o644)


if __name__ == "__main__":
    main()
