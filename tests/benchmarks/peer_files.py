"""The model in the formats of the peers, written to a temporary folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

THEIR_NAMES = {
    "norm1": "attn_norm",
    "norm2": "ffn_norm",
    "att.out_proj": "attn_output",
    "ff.layers.0": "ffn_up",
    "ff.layers.2": "ffn_down",
}


def write_ours(source: str, folder: Path) -> None:
    """`source` in float32 as our folder and as a Hugging Face folder."""
    from gpt import GPTConfig, GPTModel, export_model, load_model
    from gpt.checkpoints import save_model

    if source == "gpt2-small-shape":
        model = GPTModel(GPTConfig(qkv_bias=True, tie_weights=True)).eval()
    else:
        model = load_model(source)
    save_model(model, folder / "ours", "float32")
    export_model(model, folder / "hf")


def write_ctranslate2(folder: Path, setting: str) -> None:
    from ctranslate2.converters import TransformersConverter

    TransformersConverter(str(folder / "hf")).convert(
        str(folder / f"ct2-{setting}"), quantization=setting
    )


def write_gguf(folder: Path, setting: str) -> None:
    """A GGUF file for llama.cpp: matrices in `setting` (float16 or q8_0), the rest float32."""
    import gguf
    import torch

    from gpt import load_model

    model = load_model(folder / "ours")
    cfg = model.cfg
    kinds = gguf.GGMLQuantizationType
    kind = {"float16": kinds.F16, "q8_0": kinds.Q8_0}[setting]
    writer = gguf.GGUFWriter(folder / f"{setting}.gguf", "gpt2")
    writer.add_block_count(cfg.n_layers)
    writer.add_context_length(cfg.context_length)
    writer.add_embedding_length(cfg.emb_dim)
    writer.add_feed_forward_length(4 * cfg.emb_dim)
    writer.add_head_count(cfg.n_heads)
    writer.add_layer_norm_eps(1e-5)
    _add_tokenizer(writer, folder / "hf")

    def add(name: str, value: torch.Tensor) -> None:
        data = value.detach().float().contiguous().numpy()
        if name.endswith("weight") and data.ndim == 2 and name != "position_embd.weight":
            writer.add_tensor(name, gguf.quants.quantize(data, kind), raw_dtype=kind)
        else:
            writer.add_tensor(name, data)

    add("token_embd.weight", model.tok_emb.weight)
    add("position_embd.weight", model.pos_emb.weight)
    add("output_norm.weight", model.final_norm.scale)
    add("output_norm.bias", model.final_norm.shift)
    for i, block in enumerate(model.trf_blocks):
        qkv = [block.att.W_query, block.att.W_key, block.att.W_value]
        zeros = torch.zeros(cfg.emb_dim)
        add(f"blk.{i}.attn_qkv.weight", torch.cat([part.weight for part in qkv]))
        biases = [zeros if part.bias is None else part.bias for part in qkv]
        add(f"blk.{i}.attn_qkv.bias", torch.cat(biases))
        for ours, theirs in THEIR_NAMES.items():
            part = block.get_submodule(ours)
            norm = ours.startswith("norm")
            add(f"blk.{i}.{theirs}.weight", part.scale if norm else part.weight)
            add(f"blk.{i}.{theirs}.bias", part.shift if norm else part.bias)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _add_tokenizer(writer: Any, hf: Path) -> None:
    import gguf

    vocab = json.loads((hf / "vocab.json").read_text(encoding="utf-8"))
    tokens = sorted(vocab, key=vocab.__getitem__)
    merges = (hf / "merges.txt").read_text(encoding="utf-8").splitlines()[1:]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types([gguf.TokenType.NORMAL] * (len(tokens) - 1) + [gguf.TokenType.CONTROL])
    writer.add_token_merges([line for line in merges if line])
    writer.add_bos_token_id(len(tokens) - 1)
    writer.add_eos_token_id(len(tokens) - 1)
