"""One reader for four ways of writing down a GPT-2's sizes."""

import json

import pytest
import transformers
from tiny_models import TINY

from gpt import GPTConfig, count_parameters
from gpt.checkpoints import read_config
from gpt.checkpoints.gpt2_names import read_configuration

SIX = {"n_layer": 6, "n_head": 6, "n_embd": 384}  # what three dialects write alike
OPENAI = {"n_vocab": 5000, "n_ctx": 512, **SIX}
NANOGPT = {"block_size": 256, "vocab_size": 65, "dropout": 0.2, **SIX}
ALIASES = {
    "hidden_size": 720,
    "num_attention_heads": 1,
    "num_hidden_layers": 1,
    "max_position_embeddings": 2048,
    "vocab_size": 2,
}
# Fields with which transformers' GPT-2 computes something else.
OTHER_MODELS = {
    "activation_function": "relu",
    "layer_norm_epsilon": 1e-6,
    "n_inner": 48,
    "scale_attn_weights": False,
    "scale_attn_by_inverse_layer_idx": True,
    "reorder_and_upcast_attn": True,
    "add_cross_attention": True,
    "quantization_config": {},
    "model_type": "gptj",
    "n_layer": "two",
}


@pytest.mark.parametrize(
    ("data", "total", "said"),
    [
        (ALIASES, 7_707_600, "Read a Hugging Face GPT-2 configuration."),
        ({"model_type": "gpt2", **ALIASES}, 7_707_600, "Read a Hugging Face GPT-2 configuration."),
        (OPENAI, 12_764_160, "Read OpenAI's hparams."),
        ({**NANOGPT, "bias": True}, 10_770_816, "Read nanoGPT's model_args."),
        (dict(TINY), count_parameters(TINY).total, "Read a configuration of this app."),
        ({}, 163_009_536, "the book's value for vocab_size, context_length"),
    ],
)
def test_each_dialect_gives_its_own_number_of_parameters(data, total, said):
    """The aliases were ignored (12 heads, 85,843,968 parameters) and the other two taken for
    transformers' (30,339,456 for OpenAI's)."""
    cfg, text = read_configuration(data)
    assert count_parameters(cfg).total == total
    assert said in text


def test_nanogpts_model_without_biases_is_told_from_the_one_that_is_built():
    """The book's modules always have these biases, so the model that is built has more."""
    cfg, said = read_configuration({**NANOGPT, "bias": False})
    assert "nanoGPT's has 10,745,088 parameters, and this model keeps 18,816 biases" in said
    assert count_parameters(cfg).total == 10_745_088 + 18_816


def test_missing_keys_have_the_values_of_their_own_project():
    assert read_configuration({"n_ctx": 512})[0] == GPTConfig(
        context_length=512, drop_rate=0.0, qkv_bias=True, tie_weights=True
    )
    assert read_configuration({"block_size": 512})[0].vocab_size == 50304
    assert read_configuration({"n_positions": 512, "n_ctx": 99})[0].context_length == 512
    assert read_configuration({"n_layers": 2})[0] == GPTConfig(n_layers=2)


@pytest.mark.parametrize(
    "data",
    [
        {"n_head": 12, "num_attention_heads": 6},
        {"num_attention_heads": 6, "n_head": 12},
        {"n_embd": 768, "hidden_size": 384, "n_inner": 1536},
        {"n_layer": 2, "num_hidden_layers": 3, "n_positions": 8, "max_position_embeddings": 9},
        {"n_ctx": 77, "n_positions": 88},
    ],
)
def test_of_two_keys_for_one_size_the_one_counts_that_counts_in_transformers(data):
    data = {"model_type": "gpt2", **data}
    cfg, theirs = read_configuration(data)[0], transformers.GPT2Config.from_dict(dict(data))
    assert (cfg.n_heads, cfg.emb_dim) == (theirs.n_head, theirs.n_embd)
    assert (cfg.n_layers, cfg.context_length) == (theirs.n_layer, theirs.n_positions)


def test_the_three_dropout_rates_of_transformers_that_differ_are_told():
    assert "three dropout rates differ" in read_configuration({**SIX, "attn_pdrop": 0.0})[1]


@pytest.mark.parametrize(
    ("data", "key"),
    [
        ({**SIX, "n_heads": 6}, "n_heads"),
        ({"emb_dim": 384, "n_head": 6}, "emb_dim"),
        ({**NANOGPT, "emb_dim": 384}, "emb_dim"),
        ({**NANOGPT, "n_kv_head": 2}, "n_kv_head"),
        ({**OPENAI, "n_positions": 9}, "n_positions"),
        ({**SIX, "block_sise": 3, "intermediate_size": 100}, "intermediate_size"),
        ({"model_type": "gpt2", "block_size": 256}, "block_size"),
        ({**ALIASES, "n_inner": 5}, "n_inner"),
        ({**ALIASES, "hidden_size": 721, "num_attention_heads": 2}, "hidden_size 721"),
        ({"width": 3}, "width"),
        *(({"model_type": "gpt2", field: value}, field) for field, value in OTHER_MODELS.items()),
    ],
)
def test_a_key_that_matters_and_is_not_understood_is_named(data, key):
    with pytest.raises(ValueError, match=key) as caught:
        read_configuration(data)
    assert "\n" not in str(caught.value)


def test_what_else_stands_in_a_configuration_of_transformers_does_not_matter(tmp_path):
    theirs = transformers.GPT2Config(num_labels=3, summary_type="mean", task_specific_params={})
    theirs.save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").touch()
    assert read_config(tmp_path) == GPTConfig(qkv_bias=True, tie_weights=True)
    assert json.loads((tmp_path / "config.json").read_text()).keys() > {"summary_type", "use_cache"}
