"""The GPT's forward pass, faster on a CPU: precisions, packed layers, the compiled decode step.

Imports the room accounting.
"""

from gpt.engine.fast_model import (
    DTYPES,
    PRECISIONS,
    FastModel,
    Progress,
    check_precision,
    named_weights,
)

__all__ = ["DTYPES", "PRECISIONS", "FastModel", "Progress", "check_precision", "named_weights"]
