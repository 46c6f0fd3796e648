"""The GPT of *Build a Large Language Model (From Scratch)*, chapter 4.

The GPT itself is five files; read them in this order: config, model, attention, cache, generate.
"""

from gpt.accounting import count_parameters
from gpt.attention import MultiHeadAttention
from gpt.checkpoints import export_model, tokenizer_of
from gpt.checkpoints.sources import load_model
from gpt.config import GPT_CONFIG_124M, PRESETS, GPTConfig
from gpt.generate import generate_text_simple
from gpt.model import (
    GELU,
    FeedForward,
    GPTModel,
    LayerNorm,
    TransformerBlock,
)
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
