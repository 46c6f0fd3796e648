"""What the tests of checkpoints share: a folder, and how a refusal is read."""

import json
from dataclasses import asdict

import pytest
import torch
from tiny_models import TINY

from gpt import load_model

SEVEN = {key: value for key, value in asdict(TINY).items() if key != "tie_weights"}


def book_state(model):
    """A state dict as the book's code saves it: every name, with the causal masks."""
    mask = torch.triu(torch.ones(TINY.context_length, TINY.context_length), diagonal=1)
    masks = {f"trf_blocks.{i}.att.mask": mask for i in range(model.cfg.n_layers)}
    return {**model.state_dict(), **masks}


def message(source, **options):
    """The one line with which loading `source` is refused."""
    with pytest.raises(ValueError, match=r".") as caught:
        load_model(source, **options)
    text = str(caught.value)
    assert "\n" not in text
    return text


def edit_json(path, **changes):
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
