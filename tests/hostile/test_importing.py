"""What the Architecture tab can be given to read or to offer, and must refuse in one line."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Iterator

import pytest
from architecture_cases import TINY

from gpt.ui.architecture import exchange
from gpt.ui.architecture.exchange import offered
from gpt.ui.architecture.presets import TRILLION


@contextlib.contextmanager
def within_a_second() -> Iterator[None]:
    started = time.process_time()
    yield
    assert time.process_time() - started < 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "there is nothing to read"),
        ("{", 'line 1 is not valid JSON: paste an object such as {"emb_dim": 768, …}.'),
        ('{\n"n_layers": }', "line 2 is not valid JSON"),
        ("[" * 50_000, "the JSON is nested too deep: paste an object"),
        ("[]", "the JSON is a list: use an object with named sizes."),
        ('{"width": 3}', "unknown configuration key 'width'"),
        ('{"n_layers": "12"}', "n_layers is '12': use a whole number"),
        ('{"emb_dim": 770}', "emb_dim 770 is not divisible by 12 heads"),
        ('{"model_type": "llama"}', "model_type is 'llama': only gpt2 is read"),
        ('{"model_type": "gpt2", "n_inner": 5}', "n_inner is 5"),
        ('{"n_embd": "wide"}', "n_embd is 'wide': use a whole number"),
        ('{"n_embd": 12, "resid_pdrop": []}', "resid_pdrop is []: use a number from 0 to 1."),
        (" " * 100_001 + "{}", "use at most 100,000"),
        ('{"n_layers": 1' + "0" * 20 + "}", "n_layers is beyond 10^18: use a whole"),
        ('{"n_layer": 1' + "0" * 20 + "}", "n_layer is beyond 10^18: use a whole"),
        ('{"n_layers": ' + "9" * 5_000 + "}", "a number has 5,000 digits: use at most 30."),
        ('{"format": "other/2"}', "format is 'other/2': this version reads gpt-from-scratch/1."),
        (
            '{"hidden_size": 384, "num_attention_heads": 6, "num_key_value_heads": 2}',
            "unknown configuration key 'num_key_value_heads' in a Hugging Face GPT-2",
        ),
        ('{"n_embd": 384, "rope_theta": 1e4}', "unknown configuration key 'rope_theta' in"),
        ('{"hidden_size": 384, "num_layers": 3}', "unknown configuration key 'num_layers' in"),
        ('{"n_embd": 384, "architectures": ["LlamaForCausalLM"]}', "architectures is ['Llama"),
        ('{"n_embd": 384, "architectures": "GPT2"}', "architectures is 'GPT2'"),
    ],
)
def test_what_is_no_configuration_is_refused_in_one_line(text: str, message: str) -> None:
    """A Llama without its model_type was read as a GPT-2, without a word."""
    with within_a_second(), pytest.raises(ValueError, match=re.escape(message)):
        exchange.from_json(text)


@pytest.mark.parametrize(
    ("cfg", "seed", "message"),
    [
        (TRILLION, 1, "make it smaller to use it"),
        (TINY, None, "seed is empty: use a whole number"),
        (TINY, 1.5, "seed is 1.5: use a whole number"),
        (TINY, -1, "seed is -1: use a whole number"),
    ],
)
def test_what_cannot_be_offered_is_refused_in_one_line(cfg, seed, message: str) -> None:
    with within_a_second(), pytest.raises(ValueError, match=re.escape(message)):
        offered(cfg, seed)
