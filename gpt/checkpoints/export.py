"""A GPTModel -> a Hugging Face GPT-2 folder, with the tokenizer where the vocabulary is GPT-2's."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from gpt.checkpoints.free_memory import check_memory
from gpt.checkpoints.gpt2_names import config_to_gpt2, to_gpt2
from gpt.checkpoints.reading import CONFIG, WEIGHTS
from gpt.checkpoints.writing import write_json, write_tensors, write_text
from gpt.config import GPTConfig
from gpt.engine import named_weights, weight_bytes
from gpt.model import GPTModel
from gpt.tokenizer import END_OF_TEXT, Tokenizer


def export_model(model: GPTModel, folder: str | Path) -> Path:
    """The folder, holding `model` as `transformers` and others read GPT-2, in its own precision.

    config.json and model.safetensors; vocab.json, merges.txt and tokenizer_config.json too if
    the model has GPT-2's 50,257 tokens. A head of its own is kept (tie_word_embeddings false);
    biases that the model lacks are zeros, which changes no logit.
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
    precision = str(dtype).removeprefix("torch.")
    write_json(folder / CONFIG, config_to_gpt2(model.cfg, precision))
    tokenizer = Tokenizer()
    if model.cfg.vocab_size == tokenizer.vocab_size:
        _write_tokenizer(folder, tokenizer, model.cfg)
    return folder


def _write_tokenizer(folder: Path, tokenizer: Tokenizer, cfg: GPTConfig) -> None:
    raw = [tokenizer.token_bytes(i) for i in range(tokenizer.end_of_text_id)]
    letters = _byte_letters()

    def spelled(token: bytes) -> str:
        return "".join(letters[byte] for byte in token)

    vocab = {spelled(token): i for i, token in enumerate(raw)}
    vocab[END_OF_TEXT] = tokenizer.end_of_text_id
    merges = [f"{spelled(left)} {spelled(right)}" for left, right in merges_of(raw)]
    # No indentation: the readers in other languages expect what transformers writes.
    write_text(folder / "vocab.json", json.dumps(vocab, ensure_ascii=False))
    write_text(folder / "merges.txt", "\n".join(["#version: 0.2", *merges, ""]))
    write_json(folder / "tokenizer_config.json", _tokenizer_config(cfg))


def _tokenizer_config(cfg: GPTConfig) -> dict[str, Any]:
    return {
        "tokenizer_class": "GPT2Tokenizer",
        "model_max_length": cfg.context_length,
        "add_prefix_space": False,
        "clean_up_tokenization_spaces": False,
        "bos_token": END_OF_TEXT,
        "eos_token": END_OF_TEXT,
        "unk_token": END_OF_TEXT,
    }


def merges_of(tokens: Sequence[bytes]) -> list[tuple[bytes, bytes]]:
    """The merge that made each token of more than one byte, in order of rank.

    A token's parts are what the merges of lower rank leave of its bytes: always two, since
    the merge of its own rank is the one that joined them.
    """
    ranks = {token: rank for rank, token in enumerate(tokens)}
    merges = []
    for token in tokens:
        if len(token) > 1:
            left, right = _merged_below(token, ranks)
            merges.append((left, right))
    return merges


def _merged_below(token: bytes, ranks: dict[bytes, int]) -> list[bytes]:
    """The bytes of `token` after every merge of a lower rank than its own."""
    parts = [token[i : i + 1] for i in range(len(token))]
    own = ranks[token]
    while True:
        joined = [ranks.get(a + b, own) for a, b in itertools.pairwise(parts)]
        best = min(joined)
        if best >= own:
            return parts
        i = joined.index(best)
        parts[i : i + 2] = [parts[i] + parts[i + 1]]


def _byte_letters() -> dict[int, str]:
    """A printable character for each byte: itself, or from U+0100 on, in order of the byte.

    Source: Radford et al. 2019, the released encoder.py, bytes_to_unicode.
    """
    itself = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in itself]
    return {byte: chr(byte) for byte in itself} | {b: chr(256 + i) for i, b in enumerate(others)}
