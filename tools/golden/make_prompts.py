#!/usr/bin/env python3
"""tests/golden/prompts: weighted prompts by sd_embed, and textual inversion by diffusers. See README.md.

sd_embed is on no package index; requirements.txt has its commit. What is changed of it for the while of this script,
and nothing else:
  - its weights are rounded to float16; here they are float64, as the text encoder is
  - it has the ids of begin and end written into it, of CLIP's vocabulary; they become those of the small one
  - it pads with the end token, whatever the tokenizer pads with; where that is another one what follows a chunk's first
    end becomes the padding, as in A1111's web interface and in diffusers
  - its chunks have 75 tokens; for the tiny Stable Diffusion XL of make_sdxl.py they have the 14 that its encoders take
"""
import itertools
import os
import re
import types

os.environ["HF_HUB_OFFLINE"] = "1"
import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline
from safetensors.torch import save_file
from sd_embed import embedding_funcs, prompt_parser
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from common import (ROOT, case_folder, double_of, generator, random_tensor, randomise, save_model, write_json,
                    write_tensors)
from make_tokenizer import BEGIN, CONFIG, END, MAP, learn

WIDTH = 8
LAYERS = 3
CAPTIONS = ["a red apple on a wooden table", "a green apple, a small house", "woman office worker", "a cat in the snow",
            "blurry, low quality, cartoon", "a lighthouse in a storm", "an oil painting of the sea"]

PARSED = [
    "", " ", "a cat", "an (important) word", "(unbalanced", "unbalanced)", "[down] [[more]] up", "((((a))))", "(a)(b)",
    "(a)[b](c:1.1)", r"\(literal\] \\ \[x\)", r"a\b (c\)d)", "trailing\\", "(a:1.3)", "(a:0)", "(a:-1.5)", "(a:+2)",
    "(a:.5)", "(a:2.)", "(a:1e3)", "(a:nan)", "(a:inf)", "(a:)", "(a:b)", ":1.3)", "a:1.3)", "(a [b:1.5) c]", "([a)b]",
    "(a:1.2:1.3)", "((a:1.5) b:0.5) c", "[a:1.5]", "[(a:2)]", "()", "[]", "(:1.5)", "ratio (16:9) and 3:4", "::",
    "a (((house:1.3)) [on] a (hill:0.5), sun, (((sky))).", "(\u00e9t\u00e9:1.2) \u65e5\u672c", "(a\nb:1.5)",
    "(" * 40 + "a", "[" * 40 + "a" + "]" * 39, "(a" * 20 + ")" * 20, "([" * 30 + "a", "(b:0.5)" * 3,
]

LONG = "a red apple, " * 30  # 120 tokens: two chunks
EXACT = "apple " * 75
WEIGHTED = [  # prompt, negative; a blank is sd_embed's way of saying nothing
    ("a red apple", " "),
    ("a (red:1.5) apple on a [wooden] table", "blurry"),
    ("((a cat:1.3) in [the (snow:1.4)]", "(low quality:1.4), [cartoon]"),
    ("(red:0) apple (house:-0.5)", " "),
    (LONG + "(lighthouse:1.5)", "blurry"),
    ("a cat", "(" + LONG + ":1.2) cartoon"),
    (EXACT, "blurry"),
    (EXACT + "(house:0.7)", " "),
    (LONG * 2, LONG),
]
WEIGHTED_XL = [("a (red:1.5) fox, jumping!", " "), ("a red fox", "((jumping)) [fox]"),
               ("a red fox, jumping, " * 3 + "(fox:0.6)", "red"), ("fox", "(red fox, " * 4)]
BREAKS = ["a red apple BREAK a (green:1.3) apple", "BREAK a cat", "a cat BREAK BREAK the sea BREAK",
          "(a cat BREAK the sea:1.3)", "BREAKfast BREAK_BREAK", "(a cat)BREAK(the sea)"]
# By hand: A1111's chunks, each a prompt of its own.
CHUNKS = [["a red apple", "a (green:1.3) apple"], [" ", "a cat"], ["a cat", " ", "the sea"],
          ["(a cat:1.3)", "(the sea:1.3)"], ["BREAKfast BREAK_BREAK"], ["(a cat)", "(the sea)"]]


class Torch:
    """torch, in which half precision is double."""

    def __getattr__(self, name):
        return torch.float64 if name == "float16" else getattr(torch, name)


def write_tokenizer(folder, pad):
    vocabulary, merges = learn(CAPTIONS, 560)
    os.makedirs(folder)
    write_json(os.path.join(folder, "vocab.json"), vocabulary)
    with open(os.path.join(folder, "merges.txt"), "w") as f:
        f.write("#version: 0.2\n" + "".join(" ".join(m) + "\n" for m in merges))
    write_json(os.path.join(folder, "tokenizer_config.json"), CONFIG)
    write_json(os.path.join(folder, "special_tokens_map.json"), {**MAP, "pad_token": pad})
    return CLIPTokenizer.from_pretrained(folder)


def write_model(folder):
    tokenizer = write_tokenizer(os.path.join(folder, "tokenizer"), END)
    write_tokenizer(os.path.join(folder, "tokenizer_zero"), "!")
    ids = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    model = randomise(CLIPTextModel(CLIPTextConfig(
        vocab_size=len(tokenizer), hidden_size=WIDTH, intermediate_size=2 * WIDTH, num_hidden_layers=LAYERS,
        num_attention_heads=2, max_position_embeddings=77, projection_dim=WIDTH, pad_token_id=ids["eos_token_id"],
        **ids)), 91)
    save_model(model, os.path.join(folder, "text_encoder"))
    os.makedirs(os.path.join(folder, "scheduler"))
    write_json(os.path.join(folder, "scheduler", "scheduler_config.json"),
               {"_class_name": "DDIMScheduler", "beta_schedule": "scaled_linear", "beta_start": 0.00085,
                "beta_end": 0.012})
    write_json(os.path.join(folder, "model_index.json"), {"_class_name": "StableDiffusionPipeline"})
    return model, tokenizer


# ---- weights ----

group = embedding_funcs.group_tokens_and_weights


def grouped(*tokenizers):
    """sd_embed's chunks in the ids, the padding and the length of these tokenizers, whose turns come round."""
    turns = itertools.cycle(tokenizers)
    code = group.__code__
    room = tokenizers[0].model_max_length - 2
    group_own = types.FunctionType(code.replace(co_consts=tuple(room if c == 75 else c for c in code.co_consts)),
                                   group.__globals__)

    def group_tokens_and_weights(ids, weights, pad_last_block):
        tokenizer = next(turns)
        own = {49406: tokenizer.bos_token_id, 49407: tokenizer.eos_token_id}
        groups, weights = group_own(ids, weights, pad_last_block)
        groups = [[own.get(i, i) for i in g] for g in groups]
        for g in groups:
            end = g.index(tokenizer.eos_token_id) + 1
            g[end:] = [tokenizer.pad_token_id] * (len(g) - end)
        return groups, weights
    return group_tokens_and_weights


def embed(model, tokenizer, prompt, negative):
    def encode(ids):
        return model(ids)
    encode.text_model = model  # where it has the layers, for a clip_skip that is not asked for
    pipe = types.SimpleNamespace(tokenizer=tokenizer, text_encoder=encode, device="cpu")
    embedding_funcs.group_tokens_and_weights = grouped(tokenizer)
    with torch.no_grad():
        return embedding_funcs.get_weighted_text_embeddings_sd15(pipe, prompt, negative, pad_last_block=True)


def weighted_goldens(model, folder, out):
    embedding_funcs.torch = Torch()
    cases = {"parse": [{"text": t, "parts": prompt_parser.parse_prompt_attention(t)} for t in PARSED], "weighted": []}
    for name, count in {"tokenizer": len(WEIGHTED), "tokenizer_zero": 3}.items():
        tokenizer = CLIPTokenizer.from_pretrained(os.path.join(folder, name))
        for prompt, negative in WEIGHTED[:count]:
            key = str(len(cases["weighted"]))
            states, negatives = embed(model, tokenizer, prompt, negative)
            out[key], out[key + ".negative"] = states.float(), negatives.float()
            cases["weighted"].append({"tokenizer": name, "prompt": prompt, "negative": negative})
        for prompt, chunks in list(zip(BREAKS, CHUNKS))[:count]:
            key = str(len(cases["weighted"]))
            # beside a word, for a blank alone has no chunk
            parts = [embed(model, tokenizer, chunk, "cat")[0] for chunk in chunks]
            out[key] = torch.cat(parts, 1).float()
            cases["weighted"].append({"tokenizer": name, "prompt": prompt})
    return cases


def weighted_xl_goldens(out):
    """Both encoders' states, and the pooled text where there is one chunk: sd_embed's is that of the last."""
    folder = os.path.join(ROOT, "sdxl")

    def part(cls, name):
        return cls.from_pretrained(os.path.join(folder, name))
    first, second = part(CLIPTokenizer, "tokenizer"), part(CLIPTokenizer, "tokenizer_2")
    pipe = types.SimpleNamespace(
        tokenizer=first, tokenizer_2=second, device="cpu", text_encoder=double_of(part(CLIPTextModel, "text_encoder")),
        text_encoder_2=double_of(part(CLIPTextModelWithProjection, "text_encoder_2")))
    cases = []
    for prompt, negative in WEIGHTED_XL:
        embedding_funcs.group_tokens_and_weights = grouped(first, first, second, second)
        with torch.no_grad():
            states, negatives, pooled, _ = embedding_funcs.get_weighted_text_embeddings_sdxl(
                pipe, prompt, negative, pad_last_block=True)
        key = f"xl.{len(cases)}"
        out[key], out[key + ".negative"] = states.float(), negatives.float()
        if states.shape[1] == first.model_max_length:
            out[key + ".pooled"] = pooled.float()
        cases.append({"prompt": prompt, "negative": negative})
    return cases


# ---- learned tokens ----

def embedding_files(folder):
    """{file: (tensor as diffusers gets it, token to name, its own name)}."""
    g = generator(92)
    vectors = {n: random_tensor(g, n, WIDTH) for n in (1, 2, 3, 4, 5, 6)}
    other = random_tensor(g, 3, 2 * WIDTH)
    os.makedirs(folder)

    def path(name):
        return os.path.join(folder, name)
    a1111 = {"string_to_token": {"*": 265}, "string_to_param": {"*": vectors[2]}, "name": "A1111-Style", "step": 400,
             "sd_checkpoint": "deadbeef", "sd_checkpoint_name": "tiny"}
    torch.save(a1111, path("a1111.pt"))
    torch.save({**a1111, "string_to_param": torch.nn.ParameterDict({"*": vectors[3]}), "name": "older"},
               path("older.pt"))
    torch.save({"<cat-toy>": vectors[1][0]}, path("learned_embeds.bin"))
    torch.save({"<many>": vectors[4].half()}, path("half.bin"))
    save_file({"emb_params": vectors[5]}, path("Easy.safetensors"))
    save_file({"<safe>": vectors[6][:1]}, path("learned_embeds.safetensors"))
    save_file({"clip_l": vectors[3] + 1, "clip_g": other}, path("two.safetensors"))
    save_file({"emb_params": other}, path("wide.safetensors"))
    for name in os.listdir(folder):
        os.chmod(path(name), 0o644)
    return {"a1111.pt": None, "older.pt": {"older": vectors[3]}, "learned_embeds.bin": None, "half.bin": None,
            "Easy.safetensors": {"Easy": vectors[5]}, "learned_embeds.safetensors": None}


# files, some under another name, and prompts
INVERTED = [
    (["a1111.pt"], ["a red apple, A1111-Style", "a1111-style, a cat, A1111-STYLE", "a cat"]),
    (["learned_embeds.bin", "a1111.pt:bag"], ["a <cat-toy> on a bag table", "bags"]),
    (["older.pt", "half.bin", "Easy.safetensors", "learned_embeds.safetensors"],
     ["<many> easy older <safe>", "older, " * 40]),
]


def spelled(prompt, tokenizer):
    """The prompt with tokens as they were named, and with the further ones of a name with capitals, which diffusers
    forgets: it looks for them under the name, and is told it in small letters."""
    added = [t for t in tokenizer.added_tokens_encoder if t not in (BEGIN, END)]
    for token in [t for t in added if "_" not in t]:
        more = [t for t in added if t.startswith(token + "_")] if token != token.lower() else []
        prompt = re.sub(re.escape(token), " ".join([token] + more), prompt, flags=re.IGNORECASE)
    return prompt


def inverted_goldens(model, folder, files, out):
    cases = []
    for names, prompts in INVERTED:
        tokenizer = CLIPTokenizer.from_pretrained(os.path.join(folder, "tokenizer"))
        pipe = StableDiffusionPipeline(
            vae=None, unet=None, text_encoder=double_of(model), tokenizer=tokenizer, scheduler=DDIMScheduler(),
            safety_checker=None, feature_extractor=None, requires_safety_checker=False)
        for name in names:
            file, _, token = name.partition(":")
            given = files[file] if files[file] is not None else os.path.join(folder, "embeddings", file)
            pipe.load_textual_inversion(given, **({"token": token} if token else {}))
        for prompt in prompts:
            with torch.no_grad():
                states = pipe.encode_prompt(spelled(prompt, tokenizer), "cpu", 1, False)[0]
            out[f"inverted.{len(cases)}"] = states.float()
            cases.append({"embeddings": names, "prompt": prompt})
    return cases


def main():
    folder = case_folder("prompts")
    model, _ = write_model(folder)
    out = {}
    cases = weighted_goldens(double_of(model), folder, out)
    cases["weighted_xl"] = weighted_xl_goldens(out)
    files = embedding_files(os.path.join(folder, "embeddings"))
    cases["inverted"] = inverted_goldens(model, folder, files, out)
    write_tensors(os.path.join(folder, "states.safetensors"), out)
    write_json(os.path.join(folder, "cases.json"), cases)


if __name__ == "__main__":
    main()
