"""Scores of two folders of pictures by splam and by the tools of the field, with the same random weights.

    score.py SPLAM [COUNT]

Makes COUNT pictures a folder (24) of 48 to 640 pixels, PNG and JPEG, grey and with transparency among them, and
weights by the formula of tools/golden/make_inception.py, and prints each tool's numbers beside splam's. Needs
pytorch-fid 0.3.0, clean-fid 0.1.35, torch-fidelity 0.4.0, torchmetrics 1.9.0 and scipy 1.17.
"""
import json
import os
import subprocess
import sys
import tempfile
import time

import numpy as np
import torch
from PIL import Image

HERE = os.path.dirname(os.path.abspath(__file__))
SPLAM, COUNT = os.path.abspath(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 24
torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "2")))


def make_folder(folder, seed, kinds):
    rng = np.random.default_rng(seed)
    os.makedirs(folder)
    for i in range(COUNT):
        width, height = rng.integers(48, 641, 2)
        y, x = np.mgrid[0:height, 0:width]
        a, b, c = rng.uniform(3, 60, 3)
        rgb = np.stack([128 + 120 * np.sin(x / a + seed), 128 + 120 * np.cos(y / b), (x * c / 9 + y) % 256], -1)
        rgb = np.clip(rgb + rng.normal(0, 20 + 10 * seed, rgb.shape), 0, 255).astype(np.uint8)
        image = Image.fromarray(rgb)
        if kinds and i % 6 == 3:
            image = image.convert("L")
        if kinds and i % 6 == 5:
            image.putalpha(Image.fromarray(rgb[:, :, 2]))
        suffix = "jpg" if i % 2 == 0 else "png"
        image.save(os.path.join(folder, f"{i:04}.{suffix}"), **({"quality": 90} if suffix == "jpg" else {}))


def splam(a, b, convention, weights, *more):
    began = time.time()
    line = [SPLAM, "score", a, b, "--inception", weights, "--convention", convention, "--json", *more]
    result = json.loads(subprocess.run(line, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout)
    result["seconds"] = time.time() - began
    return result


def network(weights):
    sys.argv = ["", "none"]
    from pytorch_fid import inception

    inception.load_state_dict_from_url = lambda *a, **k: torch.load(weights)
    return inception.InceptionV3([3]).eval()


def exact(a, b):
    """The distance of the tool's own features without a matrix square root, which is good to few digits where there are
    fewer pictures than features."""
    centred = [(f - f.mean(0)) / np.sqrt(len(f) - 1) for f in (a.astype(np.float64), b.astype(np.float64))]
    apart = a.astype(np.float64).mean(0) - b.astype(np.float64).mean(0)
    root = np.linalg.svd(centred[0] @ centred[1].T, compute_uv=False).sum()
    return apart @ apart + sum((f * f).sum() for f in centred) - 2 * root


def pytorch_fid(a, b, weights):
    from pytorch_fid import fid_score

    model, found = network(weights), []
    for folder in (a, b):
        files = sorted(os.path.join(folder, name) for name in os.listdir(folder))
        found.append(fid_score.get_activations(files, model, 1, 2048, "cpu", 0))
    moments = [m for f in found for m in (np.mean(f, axis=0), np.cov(f, rowvar=False))]
    return {"fid": fid_score.calculate_frechet_distance(*moments), "fid exact": exact(*found)}


def clean_fid(a, b, weights):
    from cleanfid import fid

    model = network(weights)
    model.resize_input = model.normalize_input = False

    def features(x):
        with torch.no_grad():
            return model((x - 128) / 128)[0].flatten(1)

    found = [fid.get_folder_features(f, features, num_workers=0, batch_size=1, device=torch.device("cpu"), mode="clean",
                                     verbose=False) for f in (a, b)]
    moments = [m for f in found for m in (np.mean(f, axis=0), np.cov(f, rowvar=False))]
    return {"fid": fid.frechet_distance(*moments), "fid exact": exact(*found)}


def torch_fidelity(a, b, weights):
    import torch_fidelity as tool

    found = tool.calculate_metrics(input1=a, input2=b, cuda=False, isc=True, fid=True, kid=True, batch_size=1,
                                   kid_subset_size=COUNT // 2, feature_extractor_weights_path=weights, verbose=False,
                                   cache=False)
    return {"fid": found["frechet_inception_distance"], "kid_mean": found["kernel_inception_distance_mean"],
            "kid_std": found["kernel_inception_distance_std"], "is_mean": found["inception_score_mean"],
            "is_std": found["inception_score_std"]}


def torchmetrics(a, b, weights):
    from torchmetrics.image.fid import FrechetInceptionDistance

    metric = FrechetInceptionDistance(feature=2048, feature_extractor_weights_path=weights).set_dtype(torch.float64)
    for real, folder in ((False, a), (True, b)):
        for name in sorted(os.listdir(folder)):
            rgb = np.array(Image.open(os.path.join(folder, name)).convert("RGB"))
            metric.update(torch.from_numpy(rgb.transpose(2, 0, 1)[None].copy()), real=real)
    return {"fid": float(metric.compute())}


def main():
    with tempfile.TemporaryDirectory() as work:
        a, b, weights = (os.path.join(work, name) for name in ("a", "b", "pt_inception.pth"))
        make_folder(a, 1, True)
        make_folder(b, 2, False)
        maker = os.path.join(HERE, "..", "..", "tools", "golden", "make_inception.py")
        subprocess.run([sys.executable, maker, "weights", weights], check=True)
        more = {"tensorflow": ["--metrics", "fid,kid,is", "--kid-subset-size", str(COUNT // 2)]}
        for convention, tool in (("pytorch", pytorch_fid), ("clean", clean_fid), ("tensorflow", torch_fidelity),
                                 ("torchmetrics", torchmetrics)):
            ours = splam(a, b, convention, weights, *more.get(convention, []))
            began = time.time()
            try:
                theirs = tool(a, b, weights)
            except Exception as error:  # a tool that does not run here is said, and the others go on
                print(f"{tool.__name__}: {type(error).__name__}: {error}")
                continue
            print(f"{tool.__name__}: {time.time() - began:.1f} s, splam {ours['seconds']:.1f} s")
            for key, value in theirs.items():
                own = ours[key.split()[0]]
                print(f"  {key:9} {value:.12g}, splam {own:.12g}, relative {abs(own / value - 1):.1e}, "
                      f"absolute {abs(own - value):.1e}")


main()
