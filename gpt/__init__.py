"""The GPT of *Build a Large Language Model (From Scratch)*, chapter 4.

The GPT itself is five files; read them in this order: config, model, attention, cache, generate.
"""

import os

if "OMP_WAIT_POLICY" not in os.environ:
    # Threads of GNU's OpenMP (torch's on Linux) spin while they wait for each other: 10,000 turns
    # of a loop, not 300,000, before they sleep. Beside a program that keeps one of two cores busy
    # (AMD EPYC) a token took up to 171 times as long as alone, now 12 times
    # (assets/benchmarks/neighbour.txt). Read when torch is imported.
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")

from gpt.accounting import count_parameters
from gpt.attention import MultiHeadAttention
from gpt.checkpoints import export_model, tokenizer_of
from gpt.checkpoints.sources import load_model
from gpt.config import GPT_CONFIG_124M, PRESETS, GPTConfig
from gpt.generate import generate_text_simple
from gpt.model import GELU, FeedForward, GPTModel, LayerNorm, TransformerBlock
from gpt.sampling import SamplingOptions
from gpt.tokenizer import Tokenizer

__all__ = [
    "GELU",
    "GPT_CONFIG_124M",
    "PRESETS",
    "FeedForward",
    "GPTConfig",
    "GPTModel",
    "LayerNorm",
    "MultiHeadAttention",
    "SamplingOptions",
    "Tokenizer",
    "TransformerBlock",
    "count_parameters",
    "export_model",
    "generate_text_simple",
    "load_model",
    "tokenizer_of",
]
