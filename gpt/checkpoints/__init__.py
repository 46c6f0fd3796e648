"""Files, formats and the Hub <-> a GPTModel; names of models -> where they come from.

Imports the rooms accounting and engine.
"""

from gpt.checkpoints.free_memory import check_device, check_memory, free_bytes
from gpt.checkpoints.hub import HUB_MODELS, download, is_cached
from gpt.checkpoints.reading import Progress, load_checkpoint, read_config
from gpt.checkpoints.vocabulary import tokenizer_of
from gpt.checkpoints.writing import export_model, save_model

__all__ = [
    "HUB_MODELS",
    "Progress",
    "check_device",
    "check_memory",
    "download",
    "export_model",
    "free_bytes",
    "is_cached",
    "load_checkpoint",
    "read_config",
    "save_model",
    "tokenizer_of",
]
