"""T5, the third text encoder of Stable Diffusion 3, tiny: its model, a tokenizer with ids of awkward prompts, and final
latents of sd3/'s model with it. See README.md."""
import json
import os
import shutil
import tempfile

import sentencepiece
import torch
from diffusers import StableDiffusion3Pipeline
from transformers import T5Config, T5EncoderModel, T5Tokenizer
from transformers.models.t5.modeling_t5 import T5Attention

from common import ROOT, case_folder, generator, random_tensor, randomise, write_json, write_tensors
from make_sd3 import SIZE

WIDTH = 48  # what sd3/'s transformer takes
PROMPT = "a red fox, jumping!"
AWKWARD = [
    "", " ", "a red fox, jumping!", "  two  spaces   and more ", "line\nfeed\r\nand\ttab", "caf\u00e9 cafe\u0301 CAFE",
    "\uff26\uff55\uff4c\uff4c \uff57idth", "\ufb01sh \ufb02y", 
    "emoji \U0001f98a\U0001f468\u200d\U0001f469\u200d\U0001f467 fox",
    "\u72d0\u72f8 jumps", "zero\u200bwidth", "a</s>b", "<pad> fox", "x <extra_id_3> y", "<extra_id_99>", "<unk>", "</s",
    "\u2581already", "\u3000ideographic\u3000space", "no\u00a0break", "e\u0301\u0302 stack", "1234567890 %$#@!",
    "fox " * 200, "\ufffd bad", "a\u0301", "\u0301a", "fox</s></s>  fox", "\u1e9b\u0323", "nul",
    "supercalifragilistic expialidocious", "\u2028separators\u2029", "A\u030angstr\u00f6m \u212b", "\u00bd \u2167",
]
# From code points to code points: a few of NFKC's, blanks, what is left out, and one that begins as a longer one.
RULES = {
    "\n": " ", "\r": " ", "\t": " ", "\u00a0": " ", "\u3000": " ", "\u200b": " ", "\u2028": " ", "\u2029": " ",
    "e\u0301": "\u00e9", "a\u0301": "\u00e1", "A\u030a": "\u00c5", "\u212b": "\u00c5", "\ufb01": "fi", "\ufb02": "fl",
    "\u00bd": "1\u20442", "\u2167": "VIII", "\u1e9b\u0323": "\u1e69", "\u00ad": "", "\uff26": "F", "\uff55": "u",
    "\uff4c": "l", "\uff57": "w",
}


def points(text):
    return " ".join(f"{ord(c):X}" for c in text)


def tokenizer(folder):
    """A unigram model of a few hundred pieces, trained by sentencepiece, as transformers writes it."""
    with tempfile.TemporaryDirectory() as work:
        rules, corpus = os.path.join(work, "rules.tsv"), os.path.join(work, "corpus.txt")
        with open(rules, "w") as f:
            f.writelines(f"{points(a)}\t{points(b)}\n" for a, b in RULES.items())
        with open(corpus, "w") as f:
            f.writelines(f"{a} {b} {c}, the {b} {d}\n" for a in ("a red", "two blue", "the dull", "caf\u00e9 full")
                         for b in ("fox", "fish", "emoji", "super cat")
                         for c in ("jumps", "jumping!", "and", "width 12")
                         for d in ("flies", "in fog", "1234567890", "spaces"))
        sentencepiece.SentencePieceTrainer.train(
            input=corpus, model_prefix=os.path.join(work, "spiece"), vocab_size=120, hard_vocab_limit=False,
            normalization_rule_tsv=rules, pad_id=0, eos_id=1, unk_id=2, bos_id=-1, minloglevel=2, num_threads=1)
        made = T5Tokenizer.from_pretrained(work_folder(work))
    made.save_pretrained(folder)
    for name in os.listdir(folder):
        os.chmod(os.path.join(folder, name), 0o644)
    return made


def work_folder(work):
    folder = os.path.join(work, "folder")
    os.makedirs(folder)
    shutil.copy(os.path.join(work, "spiece.model"), os.path.join(folder, "spiece.model"))
    return folder


def ids_of(made, length):
    return [made(text, padding="max_length", max_length=length, truncation=True).input_ids for text in AWKWARD]


def trimmed(ids):
    while ids and ids[-1] == 0:
        ids = ids[:-1]
    return ids


@torch.no_grad()
def main():
    folder = case_folder("t5")
    made = tokenizer(os.path.join(folder, "tokenizer_3"))
    write_json(os.path.join(folder, "ids.json"),
               {"length": 256, "cases": [{"text": text, "ids": trimmed(ids)}
                                         for text, ids in zip(AWKWARD, ids_of(made, 256))],
                "short_length": 7, "short": [trimmed(ids) for ids in ids_of(made, 7)]})
    config = T5Config(vocab_size=len(made) + 5, d_model=WIDTH, d_kv=8, num_heads=3, d_ff=40, num_layers=3,
                      feed_forward_proj="gated-gelu", is_encoder_decoder=False, use_cache=False)
    model = randomise(T5EncoderModel(config), 61)
    model.save_pretrained(os.path.join(folder, "text_encoder_3"))
    model = model.to(torch.float64)
    ids = torch.randint(0, len(made), (2, 40), generator=generator(62))
    long = torch.tensor(ids_of(made, 256)[2:3])
    relative = torch.arange(-300, 301)
    write_tensors(os.path.join(folder, "states.safetensors"), {
        "ids": ids, "states": model(ids)[0].float(), "long_ids": long, "long_states": model(long)[0][:, ::16].float(),
        "buckets": T5Attention._relative_position_bucket(relative, True, 32, 128).to(torch.int32)})
    pipeline = StableDiffusion3Pipeline.from_pretrained(os.path.join(ROOT, "sd3"), text_encoder_3=model,
                                                        tokenizer_3=made).to(torch.float64)
    pipeline.set_progress_bar_config(disable=True)
    noise = random_tensor(generator(55), 1, 6, 8, 12)  # sd3/'s noise.0
    out = {name: pipeline(PROMPT, latents=noise.double(), output_type="latent", guidance_scale=4.0,
                          num_inference_steps=4, **more, **SIZE).images.float()
           for name, more in (("guided", {}), ("negative", {"negative_prompt": "dull fog"}))}
    write_tensors(os.path.join(folder, "latents.safetensors"), out)
    for place, _, names in os.walk(folder):
        for name in names:
            os.chmod(os.path.join(place, name), 0o644)
    for name, value in out.items():
        print(name, tuple(value.shape), f"rms {value.square().mean().sqrt():.4f}")


if __name__ == "__main__":
    main()
