"""The book's 124M model, built once: its logits, its greedy text, its last position.

That the page's `book-124M` is this model is in tests/test_app.py.
"""

import pytest
import torch
from torch import nn

from gpt import GPT_CONFIG_124M, GPTModel, SamplingOptions, generate_text_simple
from gpt.generate import generate


@pytest.fixture(scope="module")
def drawn():
    """The model at seed 123, and the state of the generator after it."""
    torch.manual_seed(123)
    return GPTModel(GPT_CONFIG_124M).eval(), torch.get_rng_state()


@pytest.fixture
def book_model(drawn):
    return drawn[0]


def ends(logits):
    """The first 3 and the last 3 logits of each position, as the golden file keeps them."""
    return torch.cat([logits[..., :3], logits[..., -3:]], dim=-1)


def test_eval_mode_logits_are_the_books(book, book_model):
    golden = book["eval_mode_logits"]
    with torch.no_grad():
        logits = book_model(torch.tensor(book["batch"]["ids"]))
    assert list(logits.shape) == golden["shape"]
    torch.testing.assert_close(
        ends(logits), torch.tensor(golden["first3_last3"]), atol=1e-4, rtol=0
    )
    assert logits.argmax(-1).tolist() == golden["argmax"]
    assert logits.mean().item() == pytest.approx(golden["mean"], abs=1e-5)
    assert logits.std().item() == pytest.approx(golden["std"], abs=1e-5)


def test_train_mode_logits_are_the_books_where_dropout_draws_the_same(book, drawn):
    golden, (model, state) = book["train_mode_logits"], drawn
    torch.manual_seed(123)
    probe = nn.Dropout(0.5)(torch.ones(6, 6))
    if probe.tolist() != golden["dropout_probe"]:
        pytest.skip("dropout draws other numbers on this machine than in the golden file")
    torch.set_rng_state(state)
    with torch.no_grad():
        logits = model.train()(torch.tensor(book["batch"]["ids"]))
    model.eval()
    torch.testing.assert_close(
        ends(logits), torch.tensor(golden["first3_last3"]), atol=1e-4, rtol=0
    )


def test_the_books_greedy_continuation_comes_out(book, book_model, tokenizer):
    golden = book["greedy"]
    ids = tokenizer.encode(golden["prompt"])
    assert ids == golden["prompt_ids"]
    simple = generate_text_simple(book_model, torch.tensor([ids]), 10, context_size=1024)
    assert simple[0].tolist() == golden["ids_after_10"]
    assert tokenizer.decode(simple[0, :10].tolist()) == golden["text_after_6"]
    steps = list(generate(book_model, ids, SamplingOptions(max_new_tokens=10, temperature=0)))
    assert ids + [step.token_id for step in steps] == golden["ids_after_10"]


def test_the_last_position_is_the_books(book, book_model):
    golden = book["last_position"]
    ids = book["greedy"]["prompt_ids"]
    step = next(generate(book_model, ids, SamplingOptions(max_new_tokens=1, temperature=0)))
    assert [c.token_id for c in step.candidates[:5]] == golden["top5_ids"]
    assert [c.probability for c in step.candidates[:5]] == pytest.approx(
        golden["top5_probabilities"], rel=1e-4
    )
    with torch.no_grad():
        logits = book_model(torch.tensor([ids]))[0, -1]
    assert logits.topk(5).values.tolist() == pytest.approx(golden["top5_logits"], abs=1e-4)
    entropy = torch.distributions.Categorical(logits=logits).entropy().item()
    assert entropy == pytest.approx(golden["entropy_nats"], abs=1e-3)
