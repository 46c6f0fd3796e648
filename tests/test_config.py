"""The configuration object and its refusals."""

import pickle
import re

import pytest

from gpt import GPT_CONFIG_124M, PRESETS, GPTConfig
from gpt.config import as_config


def test_every_field_defaults_to_the_books_configuration():
    assert GPTConfig() == GPTConfig(**GPT_CONFIG_124M)
    assert {**GPTConfig()} == {**GPT_CONFIG_124M, "tie_weights": False}


def test_the_books_configuration_is_a_plain_dict_of_seven_keys():
    assert type(GPT_CONFIG_124M) is dict
    assert list(GPT_CONFIG_124M) == [
        "vocab_size", "context_length", "emb_dim", "n_heads", "n_layers", "drop_rate", "qkv_bias",
    ]  # fmt: skip


def test_a_config_reads_like_the_books_dict():
    """`"emb_dim" in cfg` and `for key in cfg` raised KeyError: 0."""
    cfg, book = GPTConfig(), {**GPT_CONFIG_124M, "tie_weights": False}
    assert cfg["emb_dim"] == 768
    assert "emb_dim" in cfg
    assert "width" not in cfg
    assert list(cfg) == list(book)
    assert len(cfg) == 8
    assert dict(cfg) == book
    assert dict(cfg.items()) == book
    assert (cfg.get("n_heads"), cfg.get("width"), cfg.get("width", 5)) == (12, None, 5)
    with pytest.raises(KeyError):
        cfg["width"]


def test_configs_compare_hash_and_copy_by_their_fields():
    small = GPTConfig(n_layers=1)
    assert small == GPTConfig(n_layers=1)
    assert small != GPTConfig()
    assert len({small, GPTConfig(n_layers=1), GPTConfig()}) == 2
    assert pickle.loads(pickle.dumps(small)) == small


def test_the_presets_have_the_sizes_of_the_golden_file(book):
    assert list(PRESETS) == list(book["presets"])
    for name, sizes in book["presets"].items():
        for key in ("emb_dim", "n_layers", "n_heads"):
            assert PRESETS[name][key] == sizes[key]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"emb_dim": 770}, "emb_dim 770 is not divisible by 12 heads: use 768 or 780."),
        ({"n_layers": 0}, "n_layers is 0: use a whole number of at least 1."),
        (
            {"n_layers": 10**18 + 1},
            "n_layers is beyond 10^18: use a whole number of at most 10^18.",
        ),
        ({"emb_dim": 10**5000}, "emb_dim is beyond 10^18: use a whole number of at most 10^18."),
        ({"drop_rate": 1.5}, "drop_rate is 1.5: use a number from 0 to 1."),
        ({"emb_dim": 5}, "emb_dim 5 is not divisible by 12 heads: use 12."),
    ],
)
def test_an_impossible_size_says_what_is_possible(changes, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        GPTConfig(**changes)


@pytest.mark.parametrize(
    "changes", [{"n_layers": 2.0}, {"n_heads": True}, {"qkv_bias": 1}, {"drop_rate": "0.1"}]
)
def test_a_wrong_type_names_the_field(changes):
    with pytest.raises(TypeError, match=next(iter(changes))):
        GPTConfig(**changes)


def test_an_unknown_key_is_named_with_the_known_ones():
    with pytest.raises(ValueError, match=r"unknown configuration key 'n_embd': use vocab_size,"):
        as_config({"n_embd": 768})
    with pytest.raises(TypeError, match="n_embd"):
        GPTConfig(n_embd=768)
