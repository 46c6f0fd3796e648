"""Files and formats <-> a GPTModel: reading, writing, GPT-2's names, the Hub, free memory."""

from gpt.checkpoints.export import export_model
from gpt.checkpoints.hub import HUB_MODELS, download, is_cached
from gpt.checkpoints.memory import check_device, check_memory, free_bytes
from gpt.checkpoints.reading import Progress, load_checkpoint, read_config
from gpt.checkpoints.writing import save_model

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
]
