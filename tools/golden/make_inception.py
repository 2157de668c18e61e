"""Scores of pictures as the tools of the field compute them: inception.safetensors.

Weights, pictures and features are not stored: both sides make them by the formula of `numbers`. Needs
the packages that requirements.txt names for it beside what the other scripts need.

    make_inception.py                    writes the golden file
    make_inception.py weights FILE.pth   writes the weights alone, as pytorch-fid names them; FILE.safetensors, and as
                                         NVIDIA has them FILE.pt
"""
import io
import math
import os
import sys

import numpy as np
import torch
from PIL import Image
from safetensors.numpy import save_file

import common
from common import numbers, picture, rows


def network():
    """FID's Inception with weights by the formula, in pytorch-fid's names."""
    import pytorch_fid.inception as module
    import torchvision

    net = torchvision.models.inception_v3(num_classes=1008, aux_logits=False, init_weights=False)
    net.Mixed_5b = module.FIDInceptionA(192, pool_features=32)
    net.Mixed_5c = module.FIDInceptionA(256, pool_features=64)
    net.Mixed_5d = module.FIDInceptionA(288, pool_features=64)
    net.Mixed_6b = module.FIDInceptionC(768, channels_7x7=128)
    net.Mixed_6c = module.FIDInceptionC(768, channels_7x7=160)
    net.Mixed_6d = module.FIDInceptionC(768, channels_7x7=160)
    net.Mixed_6e = module.FIDInceptionC(768, channels_7x7=192)
    net.Mixed_7b = module.FIDInceptionE_1(1280)
    net.Mixed_7c = module.FIDInceptionE_2(2048)
    state = {}
    for name, old in net.state_dict().items():
        u = numbers(name, old.numel()).reshape(old.shape)
        if name.endswith("num_batches_tracked"):
            state[name] = old
            continue
        if old.dim() > 1:
            u = 2 * u * math.sqrt(6 / math.prod(old.shape[1:]))
        elif name.endswith("running_var"):
            u = 1 + u
        elif name.endswith("bn.weight"):
            u = 1 + 0.5 * u
        else:
            u = 0.2 * u
        state[name] = torch.from_numpy(u.astype(np.float32))
    net.load_state_dict(state)
    return net.eval(), state


def features(net, x):
    """Features and logits without the bias, in float64."""
    net = net.double()
    held = {}
    handle = net.avgpool.register_forward_hook(lambda m, i, o: held.update(f=o.flatten(1)))
    with torch.no_grad():
        logits = net(x.double())
    handle.remove()
    return held["f"], (logits - net.fc.bias).detach()


# ---- resizes, in 0..255, by the tools' own functions ----


def clean(rgb):
    from cleanfid.resize import make_resizer

    return make_resizer("PIL", False, "bicubic", (299, 299))(rgb.astype(np.uint8)).transpose(2, 0, 1)


def tensorflow(rgb):
    from torch_fidelity.interpolate_compat_tensorflow import interpolate_bilinear_2d_like_tensorflow1x as resize

    x = torch.from_numpy(rgb.transpose(2, 0, 1)[None].astype(np.float32))
    return resize(x, size=(299, 299), align_corners=False)[0].numpy()


def pytorch(rgb):
    x = torch.from_numpy(rgb.transpose(2, 0, 1)[None].astype(np.float32)) / 255
    return torch.nn.functional.interpolate(x, size=(299, 299), mode="bilinear", align_corners=False)[0].numpy() * 255


def torchmetrics(rgb):
    x = torch.from_numpy(rgb.transpose(2, 0, 1)[None].astype(np.float32))
    return torch.nn.functional.interpolate(
        x, size=(299, 299), mode="bilinear", align_corners=False, antialias=True)[0].numpy()


CONVENTIONS = {"clean": clean, "pytorch": pytorch, "tensorflow": tensorflow, "torchmetrics": torchmetrics}


def scaled(convention, x):
    return x / 127.5 - 1 if convention == "pytorch" else (x - 128) / 128


def files():
    """Files of kinds that readers differ on, and Pillow's RGB of them."""
    rgb = picture(13, 9).astype(np.uint8)
    alpha = (picture(13, 9)[:, :, :1] // 2).astype(np.uint8)
    deep = (picture(13, 9)[:, :, 0] * 5).astype(np.uint16)
    exif = Image.Exif()
    exif[0x112] = 6
    palette = Image.fromarray(rgb).quantize(8)
    kinds = {
        "rgba.png": (Image.fromarray(np.concatenate([rgb, alpha], -1)), {}),
        "la.png": (Image.fromarray(np.concatenate([rgb[:, :, :1], alpha], -1), "LA"), {}),
        "palette.png": (palette, {"transparency": 3}),
        "grey16.png": (Image.fromarray(deep), {}),
        "grey.jpg": (Image.fromarray(rgb[:, :, 0]), {}),
        "turned.jpg": (Image.fromarray(rgb), {"exif": exif}),
        "cmyk.jpg": (Image.fromarray(rgb).convert("CMYK"), {}),
    }
    for name, (image, options) in kinds.items():
        data = io.BytesIO()
        image.save(data, {"png": "PNG", "jpg": "JPEG"}[name[-3:]], **options)
        yield name, np.frombuffer(data.getvalue(), np.uint8), np.array(Image.open(data).convert("RGB"))


def distances(tensors):
    from pytorch_fid.fid_score import calculate_frechet_distance
    from prdc import compute_prdc
    from torch_fidelity.metric_isc import isc_features_to_metric
    from torch_fidelity.metric_kid import kid_features_to_metric

    def frechet(a, b):
        return calculate_frechet_distance(a.mean(0), np.cov(a, rowvar=False), b.mean(0), np.cov(b, rowvar=False))

    for name, na, nb, width in (("many", 60, 50, 12), ("few", 9, 14, 24)):
        a, b = rows("a", na, width, 1.0).astype(np.float64), rows("b", nb, width, 0.5).astype(np.float64)
        tensors["frechet." + name] = np.array([frechet(a, b)])
    a, b = rows("a", 60, 12, 1.0), rows("b", 50, 12, 0.5)
    kid = kid_features_to_metric(torch.from_numpy(a).double(), torch.from_numpy(b).double(), kid_subsets=7,
                                 kid_subset_size=20, rng_seed=2020, verbose=False, kid_kernel_poly_degree=3,
                                 kid_kernel_poly_gamma=None, kid_kernel_poly_coef0=1)
    tensors["kid"] = np.array([kid["kernel_inception_distance_mean"], kid["kernel_inception_distance_std"]])
    prdc = compute_prdc(real_features=b, fake_features=a, nearest_k=5)
    tensors["prdc"] = np.array([float(prdc[key]) for key in ("precision", "recall", "density", "coverage")])
    logits = torch.from_numpy(rows("logits", 47, 30, 4.0))
    isc = isc_features_to_metric(logits, splits=10, shuffle=True, rng_seed=2020)
    tensors["is"] = np.array([isc["inception_score_mean"], isc["inception_score_std"]])
    tensors["permutation"] = np.random.RandomState(2020).permutation(10).astype(np.int64)


class Node(torch.nn.Module):
    """A place in a tree of names, which TorchScript keeps."""

    def forward(self, x):
        return x


def scripted(state):
    """The same weights as NVIDIA's file has them: TorchScript, its own names, batch norms without scale."""
    inner = {
        "A": {"branch1x1": "conv", "branch5x5_": "tower.conv", "branch3x3dbl_": "tower_1.conv",
              "branch_pool": "tower_2.conv"},
        "B": {"branch3x3": "conv", "branch3x3dbl_": "tower.conv"},
        "C": {"branch1x1": "conv", "branch7x7_": "tower.conv", "branch7x7dbl_": "tower_1.conv",
              "branch_pool": "tower_2.conv"},
        "D": {"branch3x3_": "tower.conv", "branch7x7x3_": "tower_1.conv"},
        "E": {"branch1x1": "conv", "branch3x3_1": "tower_conv", "branch3x3_2a": "tower_mixed_conv",
              "branch3x3_2b": "tower_mixed_conv_1", "branch3x3dbl_1": "tower_1_conv",
              "branch3x3dbl_2": "tower_1_conv_1", "branch3x3dbl_3a": "tower_1_mixed_conv",
              "branch3x3dbl_3b": "tower_1_mixed_conv_1", "branch_pool": "tower_2_conv"},
    }
    stem = ["Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3", "Conv2d_3b_1x1", "Conv2d_4a_3x3"]
    mixed = dict(zip(("5b", "5c", "5d", "6a", "6b", "6c", "6d", "6e", "7a", "7b", "7c"), "AAABCCCCDEE"))

    def numbered(name, i):
        return f"{name}_{i}" if i else name

    def theirs(layer):
        if layer in stem:
            return numbered("conv", stem.index(layer))
        block, branch = layer.split(".")
        table, place = inner[mixed[block[-2:]]], list(mixed).index(block[-2:])
        if branch not in table:
            branch, number = branch[:-1], int(branch[-1]) - 1
            return f"{numbered('mixed', place)}.{numbered(table[branch], number)}"
        return f"{numbered('mixed', place)}.{table[branch]}"

    root = Node()

    def put(name, tensor):
        at, (*folders, last) = root, name.split(".")
        for folder in folders:
            if not hasattr(at, folder):
                at.add_module(folder, Node())
            at = getattr(at, folder)
        at.register_buffer(last, tensor)

    for name in (n[:-len(".conv.weight")] for n in state if n.endswith(".conv.weight")):
        scale = state[name + ".bn.weight"]
        put(f"layers.{theirs(name)}.weight", state[name + ".conv.weight"] * scale[:, None, None, None])
        for ours, part in (("bias", "beta"), ("running_mean", "mean"), ("running_var", "var")):
            value = state[f"{name}.bn.{ours}"]
            put(f"layers.{theirs(name)}.{part}", value * scale if part == "mean" else value)
    put("output.weight", state["fc.weight"])
    put("output.bias", state["fc.bias"])
    return torch.jit.script(root)


def small_script():
    """A TorchScript file of a few tensors in modules within modules."""
    root, inner = Node(), Node()
    inner.register_buffer("weight", torch.arange(6, dtype=torch.float32).reshape(2, 3))
    inner.register_buffer("odd", torch.arange(4, dtype=torch.float32).reshape(2, 2).t())
    root.add_module("layers", Node())
    root.layers.add_module("conv", inner)
    root.register_parameter("bias", torch.nn.Parameter(torch.tensor([1.5, -2.0])))
    data = io.BytesIO()
    torch.jit.save(torch.jit.script(root), data)
    return np.frombuffer(data.getvalue(), np.uint8)


def main():
    net, state = network()
    if sys.argv[1:2] == ["weights"]:
        path = sys.argv[2]
        torch.save(state, path, _use_new_zipfile_serialization=False)
        torch.jit.save(scripted(state), os.path.splitext(path)[0] + ".pt")
        save_file({k: v.numpy() for k, v in state.items() if not k.endswith("tracked")},
                  os.path.splitext(path)[0] + ".safetensors")
        return
    tensors = {}
    for width, height in ((41, 53), (640, 357), (299, 200)):
        rgb = picture(width, height)
        for name, resize in CONVENTIONS.items():
            tensors[f"resize.{name}.{width}x{height}"] = resize(rgb).reshape(-1)[::1009].astype(np.float32)
    x = torch.from_numpy(scaled("clean", clean(picture(41, 53))))[None]
    found, logits = features(net, x)
    tensors["features"] = found.numpy().astype(np.float32)
    tensors["logits"] = logits.numpy().astype(np.float32)[:, ::7]
    for name, data, rgb in files():
        tensors["file." + name] = data
        tensors["rgb." + name] = rgb
    tensors["script.pt"] = small_script()
    distances(tensors)
    tensors = {k: np.ascontiguousarray(v) for k, v in tensors.items()}
    path = os.path.join(common.ROOT, "inception.safetensors")
    save_file(tensors, path)
    os.chmod(path, 0o644)


main()
