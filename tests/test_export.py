"""Other programs agree: transformers and ctranslate2 on random small GPT-2s, in both directions."""

import os
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_models import TINY, VARIANTS, tiny_model

from gpt import export_model, generate_text_simple, load_model
from gpt.checkpoints import reading

os.environ["HF_HUB_OFFLINE"] = "1"  # before transformers is imported: nothing here needs a network

import transformers

TEXTS = [
    "Hello, I am",
    "It's 'll we'VE  they're   I'd\n\n \n\tif x:\r\n    return  ",
    "naïve café e\u0301 ﬁ Ǆ straße İstanbul",
    "日本語 中文 한국어 ไทย עברית العربية हिन्दी",
    "🙂👩‍👩‍👧‍👦🏳️‍🌈 ½ ² x³ 12345 ١٢٣ 3.14e-10",
    "\u00a0\u2003\u3000\u200b\ufeff\x00\x7f\x85\u2028|",
    "<|endoftext|>",
    "a<|endoftext|>  <|endoftext|>\nb",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaa"
    + " " * 33
    + "SolidGoldMagikarp rawdownloadcloneembedreportprint",
    "",
]


def their_model(tied=True, **changes):
    """A random GPT-2 of transformers, every parameter random, in eval mode."""
    config = transformers.GPT2Config(
        **{
            "vocab_size": 97, "n_positions": 32, "n_embd": 24, "n_layer": 2, "n_head": 3,
            "bos_token_id": 0, "eos_token_id": None, "tie_word_embeddings": tied, **changes,
        }
    )  # fmt: skip
    torch.manual_seed(0)
    model = transformers.GPT2LMHeadModel(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model


def some_ids(rows=3, length=32, vocab=97):
    return torch.randint(0, vocab, (rows, length), generator=torch.Generator().manual_seed(5))


def assert_same_function(ours, theirs):
    """Logits within 1e-4 everywhere, and the same greedy continuation."""
    ids = some_ids()
    with torch.no_grad():
        torch.testing.assert_close(ours(ids), theirs(ids).logits, rtol=0, atol=1e-4)
    continued = theirs.generate(ids[:1, :8], max_new_tokens=20, do_sample=False, pad_token_id=0)
    assert continued.tolist() == generate_text_simple(ours, ids[:1, :8], 20, 32).tolist()


# From transformers to us


@pytest.mark.parametrize("tied", [True, False])
def test_a_folder_of_transformers_loads_and_computes_the_same(tied, tmp_path):
    theirs = their_model(tied, resid_pdrop=0.25)
    theirs.save_pretrained(tmp_path)
    ours = load_model(tmp_path)
    assert ours.cfg == replace(TINY, qkv_bias=True, tie_weights=tied, drop_rate=0.25)
    assert_same_function(ours, theirs)


def published_tensors(theirs):
    """Tensors named as in OpenAI's published files: no prefix, no head, masks as buffers."""
    state = {name: t.clone() for name, t in theirs.transformer.state_dict().items()}
    mask = torch.ones(32, 32).tril()[None, None]
    state |= {f"h.{i}.attn.bias": mask.clone() for i in range(2)}
    return state | {f"h.{i}.attn.masked_bias": torch.tensor(-1e4) for i in range(2)}


def test_the_published_files_names_without_prefix_and_with_masks_load(tmp_path):
    theirs = their_model()
    theirs.config.save_pretrained(tmp_path)
    save_file(published_tensors(theirs), tmp_path / "model.safetensors")
    assert_same_function(load_model(tmp_path), theirs)


def test_a_published_file_alone_is_known_by_a_presets_shapes(tmp_path, monkeypatch):
    monkeypatch.setitem(reading.PRESETS, "tiny", TINY)
    theirs = their_model()
    save_file(published_tensors(theirs), tmp_path / "alone.safetensors")
    ours = load_model(tmp_path / "alone.safetensors")
    assert ours.cfg == replace(TINY, qkv_bias=True, tie_weights=True)
    assert_same_function(ours, theirs)


def test_a_folder_in_several_files_loads(tmp_path):
    theirs = their_model()
    theirs.save_pretrained(tmp_path, max_shard_size="20KB")
    assert not (tmp_path / "model.safetensors").exists()
    assert_same_function(load_model(tmp_path), theirs)


def test_a_missing_shard_is_named(tmp_path):
    their_model().save_pretrained(tmp_path, max_shard_size="20KB")
    lost = sorted(tmp_path.glob("model-*.safetensors"))[1]
    lost.unlink()
    with pytest.raises(ValueError, match=lost.name):
        load_model(tmp_path)


def test_a_head_stored_beside_a_tied_embedding_is_taken_as_one(tmp_path):
    theirs = their_model()
    theirs.config.save_pretrained(tmp_path)
    state = {name: t.clone() for name, t in theirs.state_dict().items()}
    assert "lm_head.weight" in state
    save_file(state, tmp_path / "model.safetensors")
    ours = load_model(tmp_path)
    assert ours.out_head.weight is ours.tok_emb.weight
    assert_same_function(ours, theirs)


def test_a_misshapen_fused_tensor_is_named_as_it_is_stored(tmp_path):
    their_model().save_pretrained(tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    state["transformer.h.1.attn.c_attn.weight"] = torch.zeros(24, 71)
    save_file(state, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match=r"h\.1\.attn\.c_attn\.weight"):
        load_model(tmp_path)


# From us to transformers


@pytest.mark.parametrize("cfg", VARIANTS, ids=str)
def test_transformers_loads_our_folder_and_computes_the_same(cfg, tmp_path):
    ours = tiny_model(cfg)
    theirs, report = transformers.AutoModelForCausalLM.from_pretrained(
        export_model(ours, tmp_path / "made"), output_loading_info=True
    )
    assert not any(report[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert theirs.config.resid_pdrop == cfg.drop_rate
    assert (theirs.lm_head.weight is theirs.transformer.wte.weight) == cfg.tie_weights
    assert_same_function(ours, theirs.eval())


@pytest.mark.parametrize("cfg", VARIANTS, ids=str)
def test_an_exported_model_comes_back_with_zeros_for_absent_biases(cfg, tmp_path):
    ours = tiny_model(cfg)
    back = load_model(export_model(ours, tmp_path))
    assert back.cfg == replace(cfg, qkv_bias=True)
    kept, found = dict(ours.named_parameters()), dict(back.named_parameters())
    assert all(torch.equal(found[name], value) for name, value in kept.items())
    assert not any(found[name].any() for name in found.keys() - kept.keys())


def test_a_model_in_half_precision_is_exported_in_it(tmp_path):
    export_model(tiny_model().half(), tmp_path)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, dtype="auto")
    assert theirs.dtype == torch.float16


def test_exporting_leaves_the_model_as_it_was(tmp_path):
    model = tiny_model()
    export_model(model, tmp_path)
    assert all(
        torch.equal(a, b)
        for a, b in zip(model.parameters(), tiny_model().parameters(), strict=True)
    )


# The tokenizer


@pytest.fixture(scope="module")
def with_tokenizer(tmp_path_factory):
    """A narrow model with GPT-2's whole vocabulary, and its exported folder."""
    model = tiny_model(replace(TINY, vocab_size=50257, emb_dim=8, n_heads=2))
    return model, export_model(model, tmp_path_factory.mktemp("exported"))


def test_the_exported_tokenizer_gives_our_ids_and_text(tokenizer, with_tokenizer):
    theirs = transformers.AutoTokenizer.from_pretrained(with_tokenizer[1])
    for text in TEXTS:
        ids = tokenizer.encode(text, allow_special=True)  # transformers always reads it as special
        assert theirs(text).input_ids == ids
        assert theirs.decode(ids) == text


def test_every_single_token_has_the_same_spelling_and_id(tokenizer, with_tokenizer):
    theirs, ours = transformers.AutoTokenizer.from_pretrained(with_tokenizer[1]), tokenizer
    assert len(theirs) == ours.vocab_size
    assert all(theirs.decode([i]) == ours.decode([i]) for i in range(ours.vocab_size))
    assert theirs.eos_token_id == theirs.bos_token_id == ours.end_of_text_id


def test_another_vocabulary_gets_no_tokenizer_files(tmp_path):
    files = {path.name for path in export_model(tiny_model(), tmp_path).iterdir()}
    assert files == {"config.json", "model.safetensors"}


# A second engine


@pytest.mark.parametrize("tied", [True, False])
def test_ctranslate2_converts_the_folder_and_writes_the_same(tied, tokenizer, tmp_path):
    ctranslate2 = pytest.importorskip("ctranslate2", reason="pip install ctranslate2 to run this")
    cfg = replace(TINY, vocab_size=50257, emb_dim=8, n_heads=2, tie_weights=tied)
    ours = tiny_model(cfg)
    converter = ctranslate2.converters.TransformersConverter(
        str(export_model(ours, tmp_path / "hf"))
    )
    converter.convert(str(tmp_path / "ct2"))
    engine = ctranslate2.Generator(str(tmp_path / "ct2"), compute_type="float32")
    ids = tokenizer.encode("Every effort moves you")
    spelled = transformers.AutoTokenizer.from_pretrained(tmp_path / "hf").convert_ids_to_tokens(ids)
    made = engine.generate_batch(
        [spelled], max_length=12, min_length=12, sampling_topk=1, include_prompt_in_result=False
    )
    expected = generate_text_simple(ours, torch.tensor([ids]), 12, 32)[0, len(ids) :]
    assert made[0].sequences_ids[0] == expected.tolist()
