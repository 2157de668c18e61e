"""CLIP's towers and DINOv2 as open_clip and transformers compute them: towers.safetensors.

Weights and pictures are not stored: both sides make them by the formula of `numbers`, from the tensors' names. Needs
the packages that requirements.txt names for it beside what the other scripts need.

    make_towers.py                    writes the golden file
    make_towers.py openai FILE.pt     writes a CLIP with such weights as OpenAI's files are: TorchScript, F16
    make_towers.py hps FILE.pt        writes the weights of the case hps as HPSv2's files are
"""
import io
import json
import math
import os
import sys

import numpy as np
import torch
from PIL import Image
from safetensors.numpy import load_file, save_file
from torchvision import transforms

import common
from common import numbers, picture

MEAN, DEVIATION = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SIDE = 24
BICUBIC = transforms.InterpolationMode.BICUBIC


# ---- pictures ----


def clip_input(image, side):
    return transforms.Compose([transforms.Resize(side, interpolation=BICUBIC), transforms.CenterCrop(side),
                               transforms.ToTensor(), transforms.Normalize(MEAN, DEVIATION)])(image)


def cmmd_input(image, side):
    """cmmd-pytorch's _center_crop_and_resize, then its processor, which leaves a picture of that size as it is."""
    width, height = image.size
    least = min(width, height)
    top, left = (height - least) // 2, (width - least) // 2
    image = image.crop((left, top, left + least, top + least)).resize((side, side), resample=Image.BICUBIC)
    return transforms.Compose([transforms.ToTensor(), transforms.Normalize(MEAN, DEVIATION)])(image)


def dino_input(image, side):
    """dgm-eval's."""
    return transforms.Compose([transforms.Resize((side, side), BICUBIC), transforms.ToTensor(),
                               transforms.Normalize(*IMAGENET)])(image)


def pickscore_input(image, side):
    """PickScore's processor, as transformers of its day had it, on Pillow's pictures."""
    from transformers import CLIPImageProcessorPil

    processor = CLIPImageProcessorPil(size={"shortest_edge": side}, crop_size={"height": side, "width": side})
    return processor(images=image, return_tensors="pt")["pixel_values"][0]


def hps_input(image, side):
    """HPSv2's, which makes a tensor first."""
    return transforms.Compose([transforms.ToTensor(), transforms.Resize(side, interpolation=BICUBIC),
                               transforms.CenterCrop(side), transforms.Normalize(MEAN, DEVIATION)])(image)


INPUTS = {"clip": clip_input, "cmmd": cmmd_input, "dino": dino_input, "pickscore": pickscore_input, "hps": hps_input}


def of_kinds(names):
    """The files of those names, as inception.safetensors has them; Pillow's convert keeps a colour that is transparent
    beside the pixels, and today's transformers would lay it on white."""
    kinds = load_file(os.path.join(common.ROOT, "inception.safetensors"))
    rgb = {name: Image.open(io.BytesIO(kinds["file." + name].tobytes())).convert("RGB") for name in names}
    return {name: Image.fromarray(np.array(image)) for name, image in rgb.items()}


def inputs(tensors):
    images = {f"{w}x{h}": Image.fromarray(picture(w, h).astype(np.uint8)) for w, h in ((40, 45), (31, 24), (101, 57))}
    images |= of_kinds(("rgba.png", "la.png", "palette.png", "grey16.png", "grey.jpg", "turned.jpg", "cmyk.jpg"))
    for how, function in INPUTS.items():
        for name, image in images.items():
            tensors[f"input.{how}.{name}"] = function(image, SIDE).numpy().reshape(-1)[::11]


# ---- weights ----


def formula(name, shape):
    u = numbers(name, math.prod(shape)).reshape(shape)
    if len(shape) > 1:
        fan = math.prod(shape[1:]) if len(shape) == 4 else shape[-1]
        return 2 * u * math.sqrt(6 / fan)
    return 0.2 * u if name.endswith("bias") else 1 + 0.5 * u


def filled(shapes):
    return {name: torch.from_numpy(formula(name, shape).astype(np.float32)) for name, shape in shapes.items()}


def take_weights(model, skip=("logit_scale", "position_ids", "attn_mask", "mask_token")):
    """Gives the model weights by the formula of its own names; returns the shapes that a file of them has."""
    state = model.state_dict()
    shapes = {n: tuple(v.shape) for n, v in state.items() if not n.endswith(skip)}
    model.load_state_dict({**state, **filled(shapes)})
    return shapes


def listed(shapes):
    return np.frombuffer(json.dumps([[n, list(s)] for n, s in shapes.items()]).encode(), np.uint8)


def pixels(side):
    """Two pictures."""
    u = numbers("pixels", 2 * 3 * side * side).reshape(2, 3, side, side)
    return torch.from_numpy((4 * u).astype(np.float32))


# ---- towers ----


def transformers_clip(vision, text):
    from transformers import CLIPConfig, CLIPModel

    return CLIPModel(CLIPConfig(vision_config=vision, text_config=text, projection_dim=vision["projection_dim"])).eval()


def open_clip_model(custom, vision, text, quick):
    import open_clip.model as module

    model = module.CustomTextCLIP if custom else module.CLIP
    return model(embed_dim=24, vision_cfg=vision, text_cfg=text, quick_gelu=quick).eval()


def token_ids(vocabulary, length):
    """Three texts; their ends are the largest id, and anything may follow."""
    ids = (numbers("ids", 3 * length) + 0.5) * (vocabulary - 2)
    ids = ids.astype(np.int64).reshape(3, length)
    for row, end in enumerate((5, length - 1, 1)):
        ids[row, 0] = vocabulary - 2
        ids[row, end] = vocabulary - 1
    return torch.from_numpy(ids)


def case(tensors, name, config, shapes, image, text=None):
    tensors[f"{name}.names"] = listed(shapes)
    if config is not None:
        tensors[f"{name}.config"] = np.frombuffer(json.dumps(config).encode(), np.uint8)
    tensors[f"{name}.image"] = image.float().numpy()
    if text is not None:
        tensors[f"{name}.text"] = text.float().numpy()


def write_transformers(tensors, name, activation, width, heads, mlp):
    vision = dict(hidden_size=width, num_hidden_layers=2, num_attention_heads=heads, intermediate_size=mlp,
                  image_size=42, patch_size=14, hidden_act=activation, projection_dim=40)
    text = dict(hidden_size=128, num_hidden_layers=2, num_attention_heads=2, intermediate_size=256, vocab_size=600,
                max_position_embeddings=20, hidden_act=activation, bos_token_id=598, eos_token_id=599, pad_token_id=0,
                projection_dim=40)
    model = transformers_clip(vision, text).float()
    shapes = take_weights(model)
    model = model.double()
    with torch.no_grad():
        image = model.visual_projection(model.vision_model(pixels(42).double()).pooler_output)
        text_out = model.text_projection(model.text_model(token_ids(600, 20)).pooler_output)
    config = {"model_type": "clip", "vision_config": vision, "text_config": text}
    case(tensors, name, config, shapes, image, text_out)


def write_open_clip(tensors, name, custom, quick):
    """Heads of 88, as ViT-g/14."""
    vision = dict(image_size=28, layers=2, width=176, head_width=88, patch_size=14, mlp_ratio=4.3637)
    text = dict(context_length=20, vocab_size=600, width=128, heads=2, layers=2)
    model = open_clip_model(custom, vision, text, quick).float()
    shapes = take_weights(model)
    model = model.double()
    if hasattr(model, "attn_mask"):
        model.attn_mask = model.attn_mask.double()
    with torch.no_grad():
        image, text_out = model.encode_image(pixels(28).double()), model.encode_text(token_ids(600, 20))
    config = {"model_cfg": {"embed_dim": 24, "quick_gelu": quick, "vision_cfg": vision, "text_cfg": text}}
    case(tensors, name, config, shapes, image, text_out)


# The names of files by those of today's transformers, which it brings them to; and Meta's.
FILES = {"attention.q_proj.": "attention.attention.query.", "attention.k_proj.": "attention.attention.key.",
         "attention.v_proj.": "attention.attention.value.", "attention.o_proj.": "attention.output.dense."}
META = {"embeddings.cls_token": "cls_token", "embeddings.position_embeddings": "pos_embed", "layernorm.": "norm.",
        "embeddings.patch_embeddings.projection.": "patch_embed.proj.", "encoder.layer.": "blocks.",
        "attention.o_proj.": "attn.proj.", "layer_scale1.lambda1": "ls1.gamma", "layer_scale2.lambda1": "ls2.gamma"}


def renamed(name, pairs):
    for old, new in pairs.items():
        name = name.replace(old, new)
    return name


def dino_weights(shapes, meta):
    """Weights by the formula of a file's names, under transformers' names; and the shapes of that file."""
    file, state = {}, {}
    for name, shape in shapes.items():
        part = [f"attention.{x}_proj." in name for x in "qkv"]
        if meta and any(part):
            other, shape = renamed(name, META), (3 * shape[0],) + shape[1:]
            other = other.split("attention.")[0] + "attn.qkv." + other.split(".")[-1]
        else:
            other = renamed(name, META if meta else FILES)
        file[other] = shape
        tensor = filled({other: shape})[other]
        state[name] = tensor.chunk(3)[part.index(True)] if meta and any(part) else tensor
    return file, state


def with_positions_resized(model, image):
    """DINOv2's own resize of its positions, by a scale that is given, which transformers has given up."""
    positions = model.embeddings.position_embeddings
    grid, side = int(math.sqrt(positions.shape[1] - 1)), image.shape[-1] // 14
    patches = positions[:, 1:].reshape(1, grid, grid, -1).permute(0, 3, 1, 2)
    scale = (side + 0.1) / grid
    patches = torch.nn.functional.interpolate(patches.float(), mode="bicubic", scale_factor=(scale, scale))
    assert patches.shape[-1] == side
    patches = patches.permute(0, 2, 3, 1).reshape(1, side * side, -1)
    model.embeddings.position_embeddings = torch.nn.Parameter(torch.cat([positions[:, :1].float(), patches], 1))
    return model.double()(image.double()).pooler_output


def write_dino(tensors):
    from transformers import Dinov2Config, Dinov2Model

    config = dict(hidden_size=64, num_hidden_layers=2, num_attention_heads=1, mlp_ratio=4, image_size=37 * 14,
                  patch_size=14)
    for meta in (False, True):
        model = Dinov2Model(Dinov2Config(**config)).eval().float()
        shapes, state = dino_weights(take_weights(model), meta)
        model.load_state_dict({**model.state_dict(), **state})
        with torch.no_grad():
            found = with_positions_resized(model, pixels(224))
        case(tensors, "dino" if meta else "dino.transformers", None, shapes, found)


# ---- a score ----

CAPTIONS = ["A cat sits on a mat, and it isn't amused!", "  Two  RED buses & caf\u00e9s ",
            "many words " * 50 + "that nobody reads"]


def with_prefix(tokens, prefix):
    """As GigaGAN's evaluation puts one before tokens of captions."""
    import open_clip

    head = open_clip.tokenize([prefix])[0]
    count = int(head.argmax()) - 1
    rows = torch.cat([tokens[:, :1], head[1:1 + count].expand(len(tokens), -1), tokens[:, 1:]], 1)[:, :77].clone()
    rows[:, -1] = torch.where(rows[:, -1] > 0, tokens.max(), rows[:, -1])
    return rows


def write_score(tensors):
    import open_clip

    vision = dict(image_size=28, layers=1, width=64, head_width=64, patch_size=14)
    text = dict(context_length=77, vocab_size=49408, width=64, heads=1, layers=1)
    model = open_clip_model(False, vision, text, True).float()
    shapes = take_weights(model)
    model = model.double()
    model.attn_mask = model.attn_mask.double()
    images = [Image.fromarray(picture(w, h).astype(np.uint8)) for w, h in ((40, 45), (31, 24), (101, 57))]
    x = torch.stack([clip_input(image, 28) for image in images]).double()
    tokens = open_clip.tokenize(CAPTIONS)
    config = {"model_cfg": {"embed_dim": 24, "quick_gelu": True, "vision_cfg": vision, "text_cfg": text}}
    with torch.no_grad():
        found = model.encode_image(x)
        case(tensors, "score", config, shapes, found)
        for name, ids in (("cosines", tokens), ("prefixed", with_prefix(tokens, "A photo depicts "))):
            tensors[f"score.{name}"] = torch.nn.functional.cosine_similarity(found, model.encode_text(ids)).numpy()
    tensors["score.captions"] = np.frombuffer("".join(c + "\n" for c in CAPTIONS).encode(), np.uint8)


# ---- scores by what people prefer ----

PREFERRED = CAPTIONS + ["one more caption", "A grey photo"]
LOGIT_SCALE = 4.5
HEAD = [24, 32, 16, 8, 4, 1]


def five_pictures(function):
    images = [Image.fromarray(picture(w, h).astype(np.uint8)) for w, h in ((40, 45), (31, 24), (101, 57))]
    images += of_kinds(("rgba.png", "grey.jpg")).values()
    return torch.stack([function(image, 28) for image in images]).double()


def preferred(tensors, name, scale, shapes, image, text, config=None):
    """Of five pictures and their captions."""
    case(tensors, name, config, shapes, image)
    tensors[f"{name}.scores"] = (scale * torch.nn.functional.cosine_similarity(image, text)).numpy()


def write_pickscore(tensors):
    import open_clip

    vision = dict(hidden_size=128, num_hidden_layers=1, num_attention_heads=2, intermediate_size=256, image_size=28,
                  patch_size=14, hidden_act="gelu", projection_dim=24)
    text = dict(hidden_size=64, num_hidden_layers=1, num_attention_heads=1, intermediate_size=128, vocab_size=49408,
                max_position_embeddings=77, hidden_act="gelu", bos_token_id=49406, eos_token_id=49407, pad_token_id=0,
                projection_dim=24)
    model = transformers_clip(vision, text).float()
    shapes = take_weights(model)
    model = model.double()
    with torch.no_grad():
        model.logit_scale.fill_(LOGIT_SCALE)
        # its own pairs: scale times cosine
        found = model(input_ids=open_clip.tokenize(PREFERRED), pixel_values=five_pictures(pickscore_input))
    preferred(tensors, "pickscore", math.exp(LOGIT_SCALE), shapes, model_vectors(model, pickscore_input),
              found.text_embeds, {"model_type": "clip", "vision_config": vision, "text_config": text})
    assert np.allclose(np.diag(found.logits_per_image.numpy()), tensors["pickscore.scores"], rtol=1e-12)


def model_vectors(model, function):
    with torch.no_grad():
        return model.visual_projection(model.vision_model(five_pictures(function)).pooler_output)


def hps_model():
    vision = dict(image_size=28, layers=1, width=64, head_width=64, patch_size=14)
    text = dict(context_length=77, vocab_size=49408, width=64, heads=1, layers=1)
    model = open_clip_model(False, vision, text, False).float()
    return model, take_weights(model)


def write_hps(tensors):
    import open_clip

    model, shapes = hps_model()
    model = model.double()
    model.attn_mask = model.attn_mask.double()
    with torch.no_grad():
        image = model.encode_image(five_pictures(hps_input))
        preferred(tensors, "hps", 1, shapes, image, model.encode_text(open_clip.tokenize(PREFERRED)))
    tensors["hps.file"] = np.frombuffer(small_checkpoint(), np.uint8)


def small_checkpoint():
    """As HPSv2's are, of the smallest layout, F16; its tensors are beginnings of one storage."""
    vision = dict(image_size=4, layers=1, width=64, head_width=64, patch_size=2, mlp_ratio=0.25)
    text = dict(context_length=5, vocab_size=8, width=64, heads=1, layers=1, mlp_ratio=0.25)
    state = open_clip_model(False, vision, text, False).state_dict()
    shapes = {name: tuple(tensor.shape) for name, tensor in state.items() if name != "attn_mask"}
    storage = torch.from_numpy(numbers("storage", 3 * 64 * 64)).half()
    weights = {name: storage[:math.prod(shape)].view(shape) for name, shape in shapes.items()}
    file = io.BytesIO()
    torch.save({"epoch": 1, "state_dict": weights}, file)
    return file.getvalue()


def write_aesthetic(tensors):
    """By a head of small layers, of the vectors of the case score, layer by layer."""
    x = torch.from_numpy(tensors["score.image"]).double()
    x = x / x.norm(dim=1, keepdim=True)
    shapes = {}
    for i, layer in enumerate((0, 2, 4, 6, 7)):
        shapes[f"layers.{layer}.weight"], shapes[f"layers.{layer}.bias"] = (HEAD[i + 1], HEAD[i]), (HEAD[i + 1],)
    weights = filled(shapes)
    for layer in (0, 2, 4, 6, 7):
        x = x @ weights[f"layers.{layer}.weight"].double().T + weights[f"layers.{layer}.bias"].double()
    tensors["aesthetic.names"] = listed(shapes)
    tensors["aesthetic.scores"] = x[:, 0].numpy()


def hps(path):
    torch.save({"epoch": 1, "state_dict": hps_model()[0].state_dict()}, path)


# ---- a file as OpenAI's ----


class Node(torch.nn.Module):
    """A place in a tree of names, which TorchScript keeps."""

    def forward(self, x):
        return x


def openai(path):
    vision = dict(image_size=28, layers=2, width=128, head_width=64, patch_size=14)
    text = dict(context_length=20, vocab_size=600, width=128, heads=2, layers=2)
    model = open_clip_model(False, vision, text, True)
    take_weights(model)
    root = Node()
    for name, tensor in model.state_dict().items():
        at, (*folders, last) = root, name.split(".")
        for folder in folders:
            if not hasattr(at, folder):
                at.add_module(folder, Node())
            at = getattr(at, folder)
        at.register_buffer(last, tensor.half())
    for name, value in (("input_resolution", 28), ("context_length", 20), ("vocab_size", 600)):
        root.register_buffer(name, torch.tensor(value))
    torch.jit.save(torch.jit.script(root), path)
    model = model.half().double()
    with torch.no_grad():
        for row in model.encode_image(pixels(28).double()):
            print(*(f"{x:.7g}" for x in row))


def main():
    if sys.argv[1:2] == ["openai"]:
        return openai(sys.argv[2])
    if sys.argv[1:2] == ["hps"]:
        return hps(sys.argv[2])
    tensors = {}
    inputs(tensors)
    write_transformers(tensors, "transformers", "quick_gelu", 128, 2, 512)
    write_transformers(tensors, "transformers.104", "gelu", 208, 2, 1024)
    write_open_clip(tensors, "open_clip", False, False)
    write_open_clip(tensors, "open_clip.text", True, True)
    write_dino(tensors)
    write_score(tensors)
    write_pickscore(tensors)
    write_hps(tensors)
    write_aesthetic(tensors)
    tensors["preferred.captions"] = np.frombuffer("".join(c + "\n" for c in PREFERRED).encode(), np.uint8)
    path = os.path.join(common.ROOT, "towers.safetensors")
    save_file({k: np.ascontiguousarray(v) for k, v in tensors.items()}, path)
    os.chmod(path, 0o644)


main()
