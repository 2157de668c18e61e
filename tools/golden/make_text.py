"""CLIPTextModel: last hidden state (after the final norm), and the gradient of every parameter; and
CLIPTextModelWithProjection: text_embeds too. See README.md."""
import os
import shutil

import torch
from safetensors.torch import load_file, save_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from common import case_folder, double_of, generator, random_tensor, randomise, save_model, write_tensors

WEIGHTS = "model.safetensors"
VOCABULARY = 64
LENGTH = 16


def text_model(activation, width, heads, layers, projection=None):
    return CLIPTextModel(CLIPTextConfig(
        vocab_size=VOCABULARY, hidden_size=width, intermediate_size=2 * width, num_hidden_layers=layers,
        num_attention_heads=heads, max_position_embeddings=LENGTH, hidden_act=activation,
        projection_dim=projection or width,
        bos_token_id=VOCABULARY - 2, eos_token_id=VOCABULARY - 1, pad_token_id=VOCABULARY - 1))


def token_ids(g, batch, length):
    """Begin, words, end, padding, as a tokenizer gives them; a different number of words in each row."""
    ids = torch.full((batch, length), VOCABULARY - 1, dtype=torch.int64)
    for row in range(batch):
        words = max(1, length - 3 - 4 * row)
        ids[row, 0] = VOCABULARY - 2
        ids[row, 1:1 + words] = torch.randint(0, VOCABULARY - 2, (words,), generator=g)
    return ids


def write_case(name, model, seed):
    folder = case_folder(name)
    save_model(model, folder)
    reference = double_of(model)
    g = generator(seed)
    for case, (batch, length) in {"full": (3, LENGTH), "short": (1, 5)}.items():
        ids = token_ids(g, batch, length)
        with torch.no_grad():
            out = reference(input_ids=ids).last_hidden_state
        write_tensors(os.path.join(folder, f"inputs_{case}.safetensors"), {"input_ids": ids})
        write_tensors(os.path.join(folder, f"outputs_{case}.safetensors"), {"last_hidden_state": out.float()})
        print(f"{name} {case}: {tuple(out.shape)} rms {out.square().mean().sqrt():.3f}")
    write_gradients(folder, reference, token_ids(g, 2, LENGTH), g)
    return folder


def write_gradients(folder, reference, ids, g):
    weight = random_tensor(g, *ids.shape, reference.config.hidden_size)
    loss = (reference(input_ids=ids).last_hidden_state * weight.double()).mean()
    loss.backward()
    write_tensors(os.path.join(folder, "gradient_inputs.safetensors"), {"input_ids": ids, "weight": weight})
    write_tensors(os.path.join(folder, "gradient_outputs.safetensors"), {"loss": loss.float().reshape(1)})
    write_tensors(os.path.join(folder, "gradients.safetensors"),
                  {name: p.grad.float() for name, p in reference.named_parameters()})


def write_prefixed(name, source):
    """The same model as older versions of transformers saved it: a prefix, and position_ids as a tensor."""
    folder = case_folder(name)
    for file in os.listdir(source):
        if file != WEIGHTS and not file.startswith("gradient"):
            shutil.copy(os.path.join(source, file), folder)
    weights = {"text_model." + key: value for key, value in load_file(os.path.join(source, WEIGHTS)).items()}
    weights["text_model.embeddings.position_ids"] = torch.arange(LENGTH, dtype=torch.int64)[None]
    path = os.path.join(folder, WEIGHTS)
    save_file(weights, path, metadata={"format": "pt"})
    os.chmod(path, 0o644)


def add_unused_layer(folder, donor):
    """One layer more in the file than the config says, as in checkpoints cut to the penultimate layer by their
    config alone: it must be ignored."""
    path = os.path.join(folder, WEIGHTS)
    weights = load_file(path)
    for key, value in donor.state_dict().items():
        if key.startswith("encoder.layers.2."):
            weights[key] = value.contiguous()
    save_file(weights, path, metadata={"format": "pt"})
    os.chmod(path, 0o644)


def write_projection(name, seed):
    """end_rows are what splam asks for: the places of the first end tokens, counted through all rows."""
    model = randomise(CLIPTextModelWithProjection(text_model("gelu", 24, 3, 2, 20).config), seed)
    folder = case_folder(name)
    save_model(model, folder)
    ids = token_ids(generator(seed + 1), 3, LENGTH)
    with torch.no_grad():
        out = double_of(model)(input_ids=ids)
    ends = (ids == VOCABULARY - 1).int().argmax(-1) + LENGTH * torch.arange(len(ids))
    write_tensors(os.path.join(folder, "inputs_full.safetensors"), {"input_ids": ids, "end_rows": ends})
    write_tensors(os.path.join(folder, "outputs_full.safetensors"),
                  {"last_hidden_state": out.last_hidden_state.float(), "text_embeds": out.text_embeds.float()})


def main():
    folder = write_case("text-sd1", randomise(text_model("quick_gelu", 32, 4, 2), 21), 211)
    write_prefixed("text-sd1-prefixed", folder)
    folder = write_case("text-sd2", randomise(text_model("gelu", 24, 3, 2), 22), 221)
    add_unused_layer(folder, randomise(text_model("gelu", 24, 3, 3), 23))
    write_projection("text-projection", 24)


if __name__ == "__main__":
    main()
