#!/usr/bin/env python3
"""Writes tests/golden/tokenizer.json: texts and the ids that transformers' CLIPTokenizer gives them.

    make_tokenizer.py FOLDER [OUT]

FOLDER holds CLIP's vocab.json and merges.txt. The same texts go through several settings files; a small
vocabulary is learned by a plain implementation here, for the test of learning.
"""
import collections
import json
import os
import random
import sys
import tempfile

os.environ["HF_HUB_OFFLINE"] = "1"
from tokenizers.pre_tokenizers import ByteLevel
from transformers import CLIPTokenizer

BEGIN, END = "<|startoftext|>", "<|endoftext|>"
MAX_LENGTH = 77


def flags(content, normalized, **more):
    return {"content": content, "lstrip": False, "normalized": normalized, "rstrip": False, "single_word": False,
            **more}


def typed(content, normalized=True):
    return {"__type": "AddedToken", **flags(content, normalized)}


def listed(content, normalized, special):
    return flags(content, normalized, special=special)


CONFIG = {"model_max_length": MAX_LENGTH, "bos_token": typed(BEGIN), "eos_token": typed(END), "unk_token": typed(END),
          "pad_token": END, "tokenizer_class": "CLIPTokenizer", "do_lower_case": True, "errors": "replace"}
MAP = {"bos_token": flags(BEGIN, True), "eos_token": flags(END, True), "unk_token": flags(END, True), "pad_token": END}
PLAIN = {"bos_token": BEGIN, "eos_token": END, "unk_token": END, "pad_token": END}


def decoder(*tokens):
    return {str(i): listed(*token) for i, *token in tokens}


# name: (files, whether all texts go through it)
SETTINGS = {
    "sd1": ({"tokenizer_config.json": CONFIG, "special_tokens_map.json": MAP}, True),
    "sd2": ({"tokenizer_config.json": CONFIG, "special_tokens_map.json": {**MAP, "pad_token": "!"}}, True),
    "no config": ({}, False),
    "plain map": ({"tokenizer_config.json": {"model_max_length": MAX_LENGTH}, "special_tokens_map.json": PLAIN}, False),
    "config only": ({"tokenizer_config.json": CONFIG}, False),
    "end token as padding, typed": ({"tokenizer_config.json": CONFIG,
                                     "special_tokens_map.json": {**MAP, "pad_token": flags(END, False)}}, False),
    "normalized padding": ({"tokenizer_config.json": CONFIG,
                            "special_tokens_map.json": {**MAP, "pad_token": flags("!", True)}}, False),
    "new padding token": ({"tokenizer_config.json": CONFIG, "special_tokens_map.json": {"pad_token": "<PAD>"}}, False),
    "decoder": ({"tokenizer_config.json": {**CONFIG, **PLAIN, "pad_token": "!", "added_tokens_decoder": decoder(
        (0, "!", False, True), (49406, BEGIN, False, True), (49407, END, True, True))},
        "special_tokens_map.json": {"pad_token": END}}, False),
    "decoder with own token": ({"tokenizer_config.json": {**CONFIG, **PLAIN, "added_tokens_decoder": decoder(
        (49406, BEGIN, False, True), (49407, END, True, False), (49408, "<My-Cat>", True, False),
        (49409, "<my-cat>s", True, False))}}, False),
    "added tokens": ({"tokenizer_config.json": CONFIG, "special_tokens_map.json": {"pad_token": END},
                      "added_tokens.json": {"<my-cat>": 49408, "CAFÉ": 49409}}, False),
    "more special tokens": ({"tokenizer_config.json": {**CONFIG, "additional_special_tokens": ["<my-cat>", "<PAD>"]},
                             "special_tokens_map.json": {"pad_token": END}}, False),
    "other unknown token": ({"tokenizer_config.json": {**CONFIG, "unk_token": "!"}}, False),
    "short": ({"tokenizer_config.json": {**CONFIG, "model_max_length": 5}}, False),
    "shortest": ({"tokenizer_config.json": {**CONFIG, "model_max_length": 2}}, False),
}

SPECIAL = [
    BEGIN, END, "a<|startoftext|>b", "a <|endoftext|> b", "<|endoftext|><|endoftext|>", "<|ENDOFTEXT|>",
    "x<|StartOfText|>>>y", "!!<|ENDOFTEXT|>!", "<|endoftext|", "<|<|endoftext|>|>", "<|end of text|>", "!", "!!", "! !",
    "wow!", "!?!", "!!! <|endoftext|> !", "<PAD>", "<pad>x", "a <my-cat> on a mat", "two <my-cat>s", "<MY-CAT>",
    "caf\u00e9",
    "CAFE\u0301", "CAF\u00c9s", "a\u0301!\u0301",
]
PROMPTS = [
    "", " ", "   \t\n ", "a", "A", "a cat", "a photo of an astronaut riding a horse on mars",
    "A beautiful painting of a singular lighthouse, shining its light across a tumultuous sea of blood "
    "by greg rutkowski and thomas kinkade, trending on artstation",
    "masterpiece, best quality, 1girl, (detailed eyes:1.2), [blurry], {{sharp}}, 8k uhd, dslr, f/1.8",
    "woman office worker: medium skin tone", "flag: C\u00f4te d\u2019Ivoire", "keycap: *", "keycap: 10",
    "O button (blood type)",
    "don't can't I'm you're we've I'll he'd it's", "DON'T CAN'T I'M YOU'RE WE'VE I'LL HE'D IT'S",
    "rock 'n' roll 'twas 'S 's 't 'll'",
    "''s '''t x''", "o'clock o'reilly's", "don\u2019t it\u2019s", "1234567890", "3.14159 -42 1e-5 0x1F",
    "2nd 3rd 100% $5 \u20ac7 #1 @home",
    "a1b2c3", "v1.5", "\u00b2\u00bd\u2167 \u0663\u0664 \u0967\u0968", "...", "?!?!", "--- *** ___ ~~~", "a-b_c/d\\e|f",
    "a,b;c:d", "(((a)))", "\"quoted\" `code`",
    "https://example.com/a?b=c&d=e", "user@example.com", "C:\\Windows\\System32", "<html><b>bold</b></html>",
    "&lt;b&gt; &amp;", "</w>", "a</w>b",
    "CamelCase UPPER lower", "the quick brown fox jumps over the lazy dog", "supercalifragilisticexpialidocious",
    "antidisestablishmentarianism",
    "hello\tworld\nnew\r\nline\x0bvt\x0cff", "a  b   c", " leading and trailing ", "\u00a0nbsp\u00a0here",
    "em\u2003space thin\u2009space \u3000ideographic",
]
UNICODE = [
    "caf\u00e9", "cafe\u0301", "na\u00efve r\u00e9sum\u00e9", "nai\u0308ve re\u0301sume\u0301",
    "\u00c5ngstr\u00f6m A\u030angstro\u0308m \u212bngstrom", "Ti\u1ebfng Vi\u1ec7t",
    "Tie\u0302\u0301ng Vie\u0323\u0302t",
    "a\u0301\u0323 a\u0323\u0301 q\u0307\u0323 q\u0323\u0307", "\u0301alone", "\u1e9b\u0323",
    "\u0130stanbul I\u0307 \u0131", "\u0130\u0130\u0130", "stra\u00dfe STRA\u00dfE STRA\u1e9eE",
    "\u039f\u0394\u039f\u03a3 \u03a3\u03b1\u03c2 \u03c3", "\u01c5 \u01c8 \ufb01 \ufb03", "\u017f \u212a \u2126",
    "\u65e5\u672c\u8a9e\u306e\u30c6\u30ad\u30b9\u30c8", "\u304c\u304b\u3099", "\u30ab\u3099\u30fc\u3093",
    "\u4e2d\u6587\u6d4b\u8bd5 \u7e41\u9ad4", "\ud55c\uad6d\uc5b4", "\u1112\u1161\u11ab\u1100\u116e\u11a8",
    "\uac00\u11a8", "\u0e20\u0e32\u0e29\u0e32\u0e44\u0e17\u0e22", "\u0627\u0644\u0639\u0631\u0628\u064a\u0629",
    "\u0627\u0653 \u064e\u0651 \u0651\u064e",
    "\u05e2\u05d1\u05e8\u05d9\u05ea \u05e9\u05bc\u05c1", "\u0939\u093f\u0928\u094d\u0926\u0940",
    "\u0440\u0443\u0441\u0441\u043a\u0438\u0439 \u042f\u0417\u042b\u041a \u0419 \u0418\u0306",
    "\u0395\u03bb\u03bb\u03b7\u03bd\u03b9\u03ba\u03ac", "\u10a0\u10d0 \u1c90", "\u13a0 \uab70",
    "\U0001f600", "\U0001f600\U0001f601 smile", "\U0001f468\u200d\U0001f469\u200d\U0001f467\u200d\U0001f466",
    "\U0001f469\U0001f3fd\u200d\U0001f4bb working", "\u2764\ufe0f \u2764", "\U0001f1eb\U0001f1f7\U0001f1e9\U0001f1ea",
    "#\ufe0f\u20e3 1\ufe0f\u20e3", "\U0001f3f4\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f",
    "\u200b", "a\u200bb", "a\u200cb\u200dc", "\ufeffbom", "soft\u00adhyphen", "a\u2060b", "\u202eabc\u202c",
    "\u180e a\u180eb", "\x01\x02\x03", "a\x07b\x1bc\x7fd", "\x1c\x1d\x1e\x1f", "a\x85b", "line\u2028sep\u2029para",
    "\ue000\uf8ff", "\ufffd", "\uffff\ufdd0", "\U0010ffff\U000f0000", "\U0001d400\U0001d7ce", "\u2460 \u3251 \u2155",
    "\u216b", "\u3007\u3021", "\u0bf0", "\uff21\uff42\uff11\uff01", "\uf900 \ufa10 \u2f800",
    "\u1f82\u0345", "\u03b1\u0345\u0301", "\u0344", "\u2adc", "\u0958", "\U0001d15e", "\u0cc6\u0cc2\u0cd5",
    "\U00011099\U000110ba",
    "\ubb18\u11a7 \ubb18\u11a8", "a\u0301\u08d2\u0323\u0301", "a\U0001e08f\u0301", "\U00011935\U00011930 \U00011938",
    "a\u1df9\u0301",
    "a\u1c8ab a\ua7ccb a\U000116d0b a\U0001e5f1b a\U0002ee5db", "\U00010400\U0001e900", "\u1c89\u1c8a \ua7cb \ua7dc",
    "\U00010d50\U00010d40", "\U0002ebf0\U000323b0", "\U00016ea0\U00016ebb", "\U000105d2\u0307",
    "\u2018quotes\u2019 \u201cdouble\u201d \u2026 \u2013 \u2014", "\u00bfqu\u00e9? \u00a1s\u00ed!",
    "\u2122\u00ae\u00a9 \u00b0C \u00b5m \u03bcm", "\u2192 \u2211 \u221e \u2260", "x\u00b2 + y\u00b3",
    "\u2581\u2588 \u2500\u2502",
]
LONG = ["word " * 200, "a" * 1000, "!" * 300, "1" * 100, "\u00e9" * 200, "\U0001f600" * 60, "abcdefghij" * 80,
        "x<|endoftext|>" * 50,
        "the " * 75, "the " * 74 + "end", "the " * 76, "a\u0323\u0301" * 90, "a" + "\u0301\u0323" * 100]
ILL_FORMED = ["ff", "61ff62", "c3", "c328", "e282", "e28228", "f09f98", "f09f9861", "eda080", "c080", "e08080",
              "f4908080", "f8888080",
              "80", "61c3c3a9", "e2e282ac", "f0f09f9880", "ed9fbfee8080", "636166c3a920ff2063", "f0808080", "efbfbf"]


def random_texts(count):
    """Mixtures of awkward pieces, always the same."""
    draw = random.Random(1)
    pieces = ["a", "Cat", "the ", "'s", "'", "'LL", "!", "!!", " ", "  ", "\t", "7", "42", "\u00e9", "e\u0301",
              "\u0323", "\u0301", "\u200d", "\ufe0f", "\U0001f600", "\u65e5",
              "\u0130", "\u03a3", "\u00df", "\u2019s", "<|", "|>", "<|endoftext|>", "<|ENDOFTEXT|>", "<|startoftext|>",
              "_", "-", "\u0e01", "\ud55c", "\u1112", "\u1161", "\u11ab", "\u3099", "\u304b", "\u00a0"]
    return ["".join(draw.choice(pieces) for _ in range(draw.randint(2, 16))) for _ in range(count)]


def encode(tokenizer, text):
    limit = min(tokenizer.model_max_length, MAX_LENGTH)
    ids = tokenizer(text, padding="max_length", max_length=limit, truncation=True)
    used = sum(ids["attention_mask"])
    return ids["input_ids"][:used]


def open_with(folder, files):
    with tempfile.TemporaryDirectory() as temporary:
        for name in ("vocab.json", "merges.txt"):
            os.symlink(os.path.join(folder, name), os.path.join(temporary, name))
        for name, content in files.items():
            with open(os.path.join(temporary, name), "w") as out:
                json.dump(content, out)
        return CLIPTokenizer.from_pretrained(temporary)


def settings_golden(folder):
    everything = PROMPTS + UNICODE + SPECIAL + LONG + random_texts(150)
    out = []
    for name, (files, all_texts) in SETTINGS.items():
        tokenizer = open_with(folder, files)
        texts = everything if all_texts else SPECIAL + PROMPTS[:12] + LONG[:1]
        cases = [{"text": text, "ids": encode(tokenizer, text)} for text in texts]
        if all_texts:
            cases += [{"hex": h, "ids": encode(tokenizer, bytes.fromhex(h).decode(errors="replace"))}
                      for h in ILL_FORMED]
        out.append({"name": name, "files": files, "size": len(tokenizer), "pad": tokenizer.pad_token_id,
                    "max_length": min(tokenizer.model_max_length, MAX_LENGTH), "cases": cases})
    return out


CAPTIONS = [
    "grinning face", "grinning face with big eyes", "grinning cat with smiling eyes", "face with tears of joy",
    "woman: dark skin tone",
    "woman office worker: medium skin tone", "man office worker: medium skin tone", "man: medium-dark skin tone",
    "flag: C\u00f4te d\u2019Ivoire",
    "flag: S\u00e3o Tom\u00e9 & Pr\u00edncipe", "aaaa aaa aa a", "banana bandana bananas", "keycap: 10", "don't don't",
    "<|endoftext|> pinata pi\u00f1ata", "PIN\u0303ATA", "\U0001f600 !!!",
]


# Few letters: many repeats and ties.
SYLLABLES = [" ".join("".join(draw.choice("abc") for _ in range(draw.randint(2, 9))) for _ in range(6))
             for draw in [random.Random(7)] for _ in range(60)]


def learn(captions, size):
    """Byte-pair learning as in Sennrich et al.: the most frequent pair first; among equals the longest, then the one
    with the smaller ids."""
    symbols = ByteLevel.alphabet()
    printing = [c for c in map(chr, range(0x100)) if c in symbols]
    alphabet = printing + sorted(c for c in symbols if ord(c) >= 0x100)
    vocabulary = {t: i for i, t in enumerate(alphabet + [c + "</w>" for c in alphabet])}
    splitter = CLIPTokenizer(vocab={BEGIN: 0, END: 1}, merges=[]).backend_tokenizer
    words = collections.Counter()
    for caption in captions:
        for part in caption.split(END):
            normal = splitter.normalizer.normalize_str(part)
            words.update(word for word, _ in splitter.pre_tokenizer.pre_tokenize_str(normal))
    spelled = {word: list(word[:-1]) + [word[-1] + "</w>"] for word in words}
    merges = []
    while len(vocabulary) < size - 2:
        pairs = collections.Counter()
        for word, parts in spelled.items():
            for pair in zip(parts, parts[1:]):
                pairs[pair] += words[word]
        if not pairs:
            break
        best = min(pairs, key=lambda p: (-pairs[p], -len("".join(p).encode()), vocabulary[p[0]], vocabulary[p[1]]))
        vocabulary.setdefault("".join(best), len(vocabulary))
        merges.append(best)
        for word, parts in spelled.items():
            merged, i = [], 0
            while i < len(parts):
                found = tuple(parts[i:i + 2]) == best
                merged.append("".join(parts[i:i + 2]) if found else parts[i])
                i += 2 if found else 1
            spelled[word] = merged
    for token in (BEGIN, END):
        vocabulary[token] = len(vocabulary)
    return vocabulary, merges


def learned_golden(captions, size):
    vocabulary, merges = learn(captions, size)
    tokenizer = CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=24)
    texts = captions + PROMPTS + SPECIAL + UNICODE[:40]
    return {"captions": captions, "size": size, "max_length": 24, "merges": [" ".join(m) for m in merges],
            "tokens": len(vocabulary),
            "cases": [{"text": t, "ids": encode_short(tokenizer, t)} for t in texts]}


def encode_short(tokenizer, text):
    return tokenizer(text, truncation=True, max_length=tokenizer.model_max_length)["input_ids"]


def main():
    folder = os.path.abspath(sys.argv[1])
    here = os.path.dirname(os.path.abspath(__file__))
    out = sys.argv[2] if len(sys.argv) > 2 else os.path.join(here, "../../tests/golden/tokenizer.json")
    golden = {"settings": settings_golden(folder),
              "learned": [learned_golden(CAPTIONS, size) for size in (514, 560, 700, 4000)] + [learned_golden(SYLLABLES,
                  4000)]}
    with open(out, "w") as file:
        file.write("{\n")
        file.write(',\n'.join(f'"{key}": [\n' + ",\n".join(json.dumps(item) for item in value) + "\n]" for key,
                              value in golden.items()))
        file.write("\n}\n")


if __name__ == "__main__":
    main()
