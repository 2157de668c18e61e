"""Layers with adapters of every kind that LyCORIS and PEFT write, and what they make of the weights.

tests/golden/lycoris/lycoris.safetensors has the weights (NAME.weight, NAME.bias), the adapters under kohya's names
(lora_te_NAME.PART) and, in float64 from those float32 numbers and rounded, NAME.changed: the weight that the layer's
forward pass has in LyCORIS; bias_changed likewise. PEFT's are in tests/golden/lycoris/peft, as PEFT saves them, with
their configuration, and peft.safetensors has weights and results.
"""
import json
import os

import torch
from torch import nn

import common
from lycoris.functional.general import weight_decompose
from lycoris.modules.full import FullModule
from lycoris.modules.locon import LoConModule
from lycoris.modules.loha import LohaModule
from lycoris.modules.lokr import LokrModule
from lycoris.modules.norms import NormModule

RANK, ALPHA = 3, 2


def linear():
    return nn.Linear(12, 20)


def square():
    return nn.Linear(12, 12)


def kernel():
    return nn.Conv2d(8, 12, 3, padding=1)


def point():
    return nn.Conv2d(8, 12, 1)


# name: (layer, module, its options)
CASES = {
    "lora_linear": (linear, LoConModule, {}),
    "lora_kernel": (kernel, LoConModule, {}),
    "lora_point": (point, LoConModule, {}),
    "lora_tucker": (kernel, LoConModule, {"use_tucker": True}),
    "dora_rows": (square, LoConModule, {"weight_decompose": True}),
    "dora_columns": (square, LoConModule, {"weight_decompose": True, "wd_on_out": False}),
    "dora_kernel": (kernel, LoConModule, {"weight_decompose": True}),
    "dora_kernel_columns": (kernel, LoConModule, {"weight_decompose": True, "wd_on_out": False}),
    "dora_tucker": (kernel, LoConModule, {"use_tucker": True, "weight_decompose": True}),
    "loha_linear": (linear, LohaModule, {}),
    "loha_kernel": (kernel, LohaModule, {}),
    "loha_tucker": (kernel, LohaModule, {"use_tucker": True}),
    "loha_dora": (linear, LohaModule, {"weight_decompose": True}),
    "lokr_linear": (linear, LokrModule, {"lora_dim": 1}),
    "lokr_both": (lambda: nn.Linear(64, 64), LokrModule, {"lora_dim": 2, "decompose_both": True}),
    "lokr_whole": (linear, LokrModule, {"full_matrix": True}),
    "lokr_kernel": (lambda: nn.Conv2d(16, 32, 3), LokrModule, {"lora_dim": 2, "factor": 4}),
    "lokr_tucker": (lambda: nn.Conv2d(16, 32, 3), LokrModule, {"lora_dim": 2, "factor": 4, "use_tucker": True}),
    "lokr_whole_kernel": (kernel, LokrModule, {"full_matrix": True}),
    "lokr_dora": (linear, LokrModule, {"lora_dim": 1, "weight_decompose": True}),
}


def added(module):
    """What the forward pass adds to the weight. LyCORIS' get_diff_weight of LoHa and LoKr has alpha/r twice."""
    if isinstance(module, LoConModule):
        return module.make_weight() * module.scale
    return module.get_weight(module.shape)


def case(name, make, kind, options, generator, out):
    options = dict({"lora_dim": RANK, "alpha": ALPHA}, **options)
    layer = make()
    for parameter in layer.parameters():
        parameter.data = common.random_tensor(generator, *parameter.shape)
    module = kind(f"lora_te_{name}", layer, 1.0, **options)
    for key, parameter in module.named_parameters():
        if not key.startswith("org_module"):
            scale = 1 if key == "dora_scale" else 0.5
            parameter.data = scale * common.random_tensor(generator, *parameter.shape)
    if options.get("weight_decompose"):
        module.dora_scale.data = module.dora_scale.data.abs() + 0.5
    for key, tensor in module.custom_state_dict().items():
        out[f"lora_te_{name}.{key}"] = tensor.detach().float()
    for key, tensor in layer.named_parameters():
        out[f"{name}.{key}"] = tensor.detach()
    module = module.double()
    weight = layer.weight.detach().double()
    changed = weight + added(module).reshape(weight.shape)
    if options.get("weight_decompose"):
        changed = weight_decompose(changed, module.dora_scale, 1, options.get("wd_on_out", True), backend="torch")
    out[f"{name}.changed"] = changed.float()


def differences(generator, out):
    layer, norm = kernel(), nn.GroupNorm(4, 12)
    for name, module, parts in (("full", layer, ("diff", "diff_b")), ("norm", norm, ("w_norm", "b_norm"))):
        for key, part in zip(("weight", "bias"), parts):
            parameter = getattr(module, key)
            parameter.data = common.random_tensor(generator, *parameter.shape)
            difference = common.random_tensor(generator, *parameter.shape)
            out[f"{name}.{key}"] = parameter.detach()
            out[f"lora_te_{name}.{part}"] = difference
            out[f"{name}.{'changed' if key == 'weight' else 'bias_changed'}"] = (
                parameter.detach().double() + difference.double()).float()
    assert FullModule.weight_list == ["diff", "diff_b"] and NormModule.weight_list == ["w_norm", "b_norm"]


def peft_layers(folder, generator):
    import peft
    model = nn.ModuleDict({"conv_in": kernel(), "conv_out": linear()})
    for parameter in model.parameters():
        parameter.data = common.random_tensor(generator, *parameter.shape)
    out = {key: tensor.detach().clone() for key, tensor in model.named_parameters()}
    config = peft.LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=["conv_in", "conv_out"], use_dora=True,
                             use_rslora=True, init_lora_weights=False)
    wrapped = peft.PeftModel(model, config)
    for key, parameter in wrapped.named_parameters():
        if "lora_" in key:
            parameter.data = common.random_tensor(generator, *parameter.shape)
            if "magnitude" in key:
                parameter.data = parameter.data.abs() + 0.5
    wrapped.save_pretrained(folder)
    path = os.path.join(folder, "adapter_config.json")
    with open(path) as f:
        told = json.load(f)
    keys = ("peft_type", "r", "lora_alpha", "use_dora", "use_rslora")
    common.write_json(path, {key: told[key] for key in keys})
    os.remove(os.path.join(folder, "README.md"))
    os.chmod(os.path.join(folder, "adapter_model.safetensors"), 0o644)
    merged = wrapped.double().merge_and_unload()
    for key in ("conv_in", "conv_out"):
        out[f"{key}.changed"] = merged[key].weight.detach().float()
    return out


def main():
    folder = common.case_folder("lycoris")
    generator, out = common.generator(31), {}
    torch.manual_seed(31)
    for name, (make, kind, options) in CASES.items():
        case(name, make, kind, options, generator, out)
    differences(generator, out)
    common.write_tensors(os.path.join(folder, "lycoris.safetensors"), out)
    common.write_tensors(os.path.join(folder, "peft.safetensors"), peft_layers(os.path.join(folder, "peft"), generator))


if __name__ == "__main__":
    main()
