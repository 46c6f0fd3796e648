"""A GPTModel -> a Hugging Face GPT-2 folder, with its tokenizer."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from gpt.accounting.memory import weight_bytes
from gpt.checkpoints.free_memory import check_memory
from gpt.checkpoints.gpt2_names import config_to_gpt2, to_gpt2
from gpt.checkpoints.reading import CONFIG, WEIGHTS
from gpt.checkpoints.vocabulary import tokenizer_of
from gpt.checkpoints.writing import write_json, write_tensors, write_text
from gpt.engine import named_weights
from gpt.model import GPTModel
from gpt.tokenizer import Tokenizer


def export_model(model: GPTModel, folder: str | Path, tokenizer: Tokenizer | None = None) -> Path:
    """The folder, holding `model` as `transformers` and others read GPT-2, in its own precision.

    config.json and model.safetensors; vocab.json, merges.txt and tokenizer_config.json too: of
    `tokenizer` if the model has rows for its tokens, without one GPT-2's if it has 50,257.
    A head of its own is kept (tie_word_embeddings false); biases that the model lacks are zeros,
    which changes no logit.
    Raises ValueError if the folder cannot be written, memory for a second copy is missing, or
    the weights are int8, which the format does not have.
    """
    folder, dtype = Path(folder), model.tok_emb.weight.dtype
    weights = named_weights(model)
    n_bytes = weight_bytes(model.cfg, "float32") // torch.float32.itemsize * dtype.itemsize
    check_memory(n_bytes, "cpu", f"exporting to {folder}")
    tensors = {name: value.detach().to("cpu", dtype) for name, value in weights}
    for index in range(0 if model.cfg.qkv_bias else model.cfg.n_layers):
        for part in ("query", "key", "value"):
            bias = torch.zeros(model.cfg.emb_dim, dtype=dtype)
            tensors[f"trf_blocks.{index}.att.W_{part}.bias"] = bias
    write_tensors(folder / WEIGHTS, dict(to_gpt2(tensors, model.cfg.n_layers)))
    if tokenizer is None and model.cfg.vocab_size == (gpt2 := tokenizer_of("gpt2")).vocab_size:
        tokenizer = gpt2
    elif tokenizer is not None and model.cfg.vocab_size < tokenizer.vocab_size:
        tokenizer = None
    end = tokenizer.end_of_text_id if tokenizer is not None else None
    precision = str(dtype).removeprefix("torch.")
    write_json(folder / CONFIG, config_to_gpt2(model.cfg, precision, end))
    if tokenizer is not None:
        write_tokenizer(folder, tokenizer, model.cfg.context_length)
    return folder


def write_tokenizer(folder: Path, tokenizer: Tokenizer, context_length: int) -> None:
    """vocab.json, merges.txt and tokenizer_config.json, as Hugging Face reads GPT-2's kind.

    Raises ValueError if they cannot be written.
    """
    write_text(folder / "vocab.json", json.dumps(tokenizer.ids))
    write_text(folder / "merges.txt", "\n".join(["#version: 0.2", *tokenizer.merges, ""]))
    settings = {
        "tokenizer_class": "GPT2Tokenizer",
        "model_max_length": context_length,
        "add_prefix_space": False,
        "clean_up_tokenization_spaces": False,
        "bos_token": tokenizer.end_of_text,
        "eos_token": tokenizer.end_of_text,
        "unk_token": tokenizer.end_of_text,
    }
    write_json(folder / "tokenizer_config.json", settings)
