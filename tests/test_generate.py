"""The decoding loop: the book's ids, seeds, stops, two runs at once."""

from dataclasses import replace

import pytest
import torch
from tiny_models import TINY, VARIANTS, tiny_model

from gpt import GPTModel, SamplingOptions, generate_text_simple
from gpt.cache import KVCache
from gpt.generate import context_notes, generate
from gpt.sampling import draw, probabilities, uniforms

GREEDY = SamplingOptions(max_new_tokens=20, temperature=0)


def ids_of(steps):
    return [step.token_id for step in steps]


@pytest.mark.parametrize("prompt_length", [1, 5, 31, 32, 33, 70])
def test_greedy_equals_the_books_loop_within_at_and_past_the_context(prompt_length):
    model = tiny_model()
    prompt = torch.randint(97, (1, prompt_length))
    simple = generate_text_simple(model, prompt, 20, context_size=TINY.context_length)
    assert ids_of(generate(model, prompt, GREEDY)) == simple[0, prompt_length:].tolist()


@pytest.mark.parametrize("seed", range(4))
def test_greedy_batches_and_chunks_through_the_cache_equal_the_books_loop(seed):
    """Prompts of several rows, read in chunks of any size, then decoded together."""
    torch.manual_seed(seed)
    cfg = VARIANTS[seed % len(VARIANTS)]
    model = tiny_model(cfg, seed)
    rows, length = int(torch.randint(1, 5, ())), int(torch.randint(1, 26, ()))
    ids = torch.randint(cfg.vocab_size, (rows, length))
    expected = generate_text_simple(model, ids, 6, context_size=cfg.context_length)
    cache = KVCache(cfg.n_layers, length + 5)
    with torch.inference_mode():
        unread = ids
        while unread.shape[1]:
            chunk = int(torch.randint(1, unread.shape[1] + 1, ()))
            logits = model(unread[:, :chunk], cache=cache, last_only=True)
            unread = unread[:, chunk:]
        for _ in range(6):
            new = logits[:, -1].argmax(dim=-1, keepdim=True)
            ids = torch.cat((ids, new), dim=1)
            if ids.shape[1] < expected.shape[1]:
                logits = model(new, cache=cache, last_only=True)
    assert ids.tolist() == expected.tolist()


def test_the_books_loop_is_right_for_any_batch():
    model = tiny_model()
    prompts = torch.randint(97, (4, 30))
    together = generate_text_simple(model, prompts, 6, context_size=32)
    alone = [generate_text_simple(model, row[None], 6, context_size=32)[0] for row in prompts]
    assert together.tolist() == [row.tolist() for row in alone]
    assert not together.requires_grad


def test_a_list_a_vector_and_a_row_are_the_same_prompt():
    model = tiny_model()
    forms = [[1, 2, 3], torch.tensor([1, 2, 3]), torch.tensor([[1, 2, 3]])]
    assert len({tuple(ids_of(generate(model, form, GREEDY))) for form in forms}) == 1


def test_the_same_seed_gives_the_same_ids_and_another_gives_others():
    model = tiny_model()
    options = SamplingOptions(max_new_tokens=20, temperature=1.5, seed=11)
    first = list(generate(model, [1, 2], options))
    assert ids_of(first) == ids_of(generate(model, [1, 2], options))
    assert ids_of(first) != ids_of(generate(model, [1, 2], replace(options, seed=12)))
    assert {step.seed for step in first} == {11}


def test_a_run_without_a_seed_reports_one_that_repeats_it():
    model = tiny_model()
    first = list(generate(model, [1, 2], SamplingOptions(max_new_tokens=10)))
    again = SamplingOptions(max_new_tokens=10, seed=first[0].seed)
    assert ids_of(first) == ids_of(generate(model, [1, 2], again))


def test_a_stop_token_is_the_last_step():
    model = tiny_model()
    steps = list(generate(model, [1, 2], GREEDY))
    assert [step.stop for step in steps] == [None] * 19 + ["max_new_tokens"]
    stop_id = steps[4].token_id
    first = ids_of(steps).index(stop_id)
    stopped = list(generate(model, [1, 2], GREEDY, stop_id=stop_id))
    assert ids_of(stopped) == ids_of(steps)[: first + 1]
    assert stopped[-1].stop == "stop_id"


def test_a_steered_run_is_the_loop_by_hand_with_the_tokens_put_in():
    """Every other token is drawn by the number that its place has in the run without steering."""
    model, prompt = tiny_model(), [5, 17, 3]
    options = SamplingOptions(max_new_tokens=40, temperature=1.3, top_k=50, seed=4)
    steered = replace(options, steering=((9, 20), (2, 11), (38, 5)))
    generator, ids = torch.Generator().manual_seed(4), list(prompt)
    for position in range(40):
        with torch.no_grad():
            logits = model(torch.tensor([ids[-TINY.context_length :]]))[0, -1]
        number = uniforms(generator)
        drawn = int(draw(probabilities(logits, options)[None], number))
        ids.append(dict(steered.steering).get(position, drawn))
    steps = list(generate(model, prompt, steered))
    assert ids_of(steps) == ids[3:]
    plain = list(generate(model, prompt, options))
    assert ids_of(steps)[:2] == ids_of(plain)[:2]
    assert [s.uniform for s in steps] == [s.uniform for s in plain]
    assert [i for i, step in enumerate(steps) if step.rank is not None] == [2, 9, 38]


@pytest.mark.parametrize("temperature", [0, 0.9])
def test_a_steered_token_has_its_rank_and_probability(temperature):
    model = tiny_model()
    options = SamplingOptions(max_new_tokens=1, temperature=temperature, top_k=97, seed=1)
    logits = next(iter(model(torch.tensor([[5]])).detach()))[-1]
    token = int(logits.argsort(descending=True)[3])
    shares = logits.double().div(temperature or 1).softmax(-1)
    (step,) = generate(model, [5], replace(options, steering=((0, token),)))
    assert (step.token_id, step.rank, step.below) == (token, 4, None)
    assert step.probability == pytest.approx(float(shares[token]), rel=1e-4)


def test_of_equal_logits_a_steered_token_of_a_lower_id_ranks_first():
    """Each was the first, where Internals counts the lower ids too."""
    model = tiny_model()
    torch.nn.init.zeros_(model.out_head.weight)
    options = SamplingOptions(max_new_tokens=2, seed=1, steering=((0, 40), (1, 0)))
    assert [step.rank for step in generate(model, [5], options)] == [41, 1]


def test_a_steered_token_that_a_filter_left_out_has_probability_0():
    model = tiny_model()
    worst = int(model(torch.tensor([[5]]))[0, -1].argmin())
    options = SamplingOptions(max_new_tokens=1, top_k=3, seed=1, steering=((0, worst),))
    (step,) = generate(model, [5], options)
    assert (step.token_id, step.probability, step.rank) == (worst, 0.0, 97)


def test_the_number_lies_in_the_part_of_the_token_that_it_drew():
    options = SamplingOptions(max_new_tokens=20, top_p=0.9, seed=2)
    for step in generate(tiny_model(), [5], options):
        assert step.below <= step.uniform < step.below + step.probability + 1e-12


def test_a_text_ends_the_run_wherever_its_tokens_part():
    """The text may lie across tokens, or in the middle of one."""
    text_of = {token: f"<{token}>" for token in range(97)}.get
    options = SamplingOptions(max_new_tokens=30, seed=3)
    ids = ids_of(generate(tiny_model(), [5], options))
    stop = f"{ids[6]}><{ids[7]}"
    steps = list(generate(tiny_model(), [5], replace(options, stop=stop), text_of=text_of))
    assert ids_of(steps) == ids[:8]
    assert [step.stop for step in steps] == [None] * 7 + ["stop"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"stop": "a"}, "a text to stop at needs text_of"),
        ({"steering": ((0, 97),)}, "token id 97 is outside the vocabulary"),
    ],
)
def test_what_a_model_cannot_be_steered_to_is_refused_at_the_call(changes, message):
    with pytest.raises(ValueError, match=message):
        generate(tiny_model(), [5], SamplingOptions(**changes))


def test_the_probability_of_a_step_is_that_of_its_token():
    model = tiny_model()
    options = SamplingOptions(max_new_tokens=5, temperature=0.7, top_k=3, seed=1)
    for step in generate(model, [1, 2], options):
        assert step.uniform is not None
        chances = {c.token_id: c.probability for c in step.candidates}
        assert chances[step.token_id] == step.probability
        assert sum(p > 0 for p in chances.values()) <= 3


def test_candidates_are_tokens_that_could_have_been_drawn():
    """With top-k at 3 there were ten of them, seven with a probability of 0."""
    options = SamplingOptions(max_new_tokens=4, top_k=3, seed=1)
    steps = list(generate(tiny_model(), [1, 2], options))
    assert [len(step.candidates) for step in steps] == [3] * 4
    chances = [[c.probability for c in step.candidates] for step in steps]
    assert all(row == sorted(row, reverse=True) and row[-1] > 0 for row in chances)


@pytest.mark.parametrize("temperature", [0, 0.8])
def test_without_candidates_the_tokens_are_the_same(temperature):
    options = SamplingOptions(max_new_tokens=12, temperature=temperature, seed=3)
    whole = list(generate(tiny_model(), [1, 2], options))
    bare = list(generate(tiny_model(), [1, 2], options, n_candidates=0))
    assert bare == [replace(step, candidates=()) for step in whole]
    assert len(next(generate(tiny_model(), [1, 2], options, n_candidates=10**6)).candidates) > 10
    with pytest.raises(ValueError, match=r"n_candidates is -1: use 0 \(none\) or more"):
        generate(tiny_model(), [1, 2], options, n_candidates=-1)


def test_two_generations_interleaved_on_one_model_do_not_touch_each_other():
    model = tiny_model()
    options = SamplingOptions(max_new_tokens=20, seed=5)
    alone = [ids_of(generate(model, prompt, options)) for prompt in ([1, 2, 3], [9])]
    runs = [generate(model, prompt, options) for prompt in ([1, 2, 3], [9])]
    together = list(zip(*runs, strict=True))
    assert [ids_of(steps) for steps in zip(*together, strict=True)] == alone
    assert list(model.buffers()) == []


def test_a_run_may_go_on_outside_the_inference_mode_that_it_began_in():
    """One tensor for all new ids was an inference tensor if the first step came inside."""
    run = generate(tiny_model(), [1, 2], GREEDY)
    with torch.inference_mode():
        first = next(run)
    assert ids_of([first, *run]) == ids_of(generate(tiny_model(), [1, 2], GREEDY))


def test_no_forward_pass_is_made_whose_result_is_not_used():
    class Counting(GPTModel):
        passes = 0

        def forward(self, *args, **kwargs):
            Counting.passes += 1
            return super().forward(*args, **kwargs)

    model = Counting(TINY).eval()
    list(generate(model, [1, 2], GREEDY))
    assert Counting.passes == 20
    run = generate(model, [1, 2], GREEDY)
    next(run)
    run.close()
    assert Counting.passes == 21


def test_a_long_prompt_is_told_before_the_run():
    assert context_notes(TINY, 10, 5) == []
    assert context_notes(TINY, 28, 5) == []
    assert "exceed the 32 tokens" in context_notes(TINY, 28, 6)[0]
    assert "the first 8 are left out" in context_notes(TINY, 40, 1)[0]


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ([], "no tokens to continue"),
        ([1, 97], "token id 97 is outside the vocabulary: use 0 to 96."),
        ([-1], "token id -1 is outside the vocabulary"),
        (torch.zeros(2, 3, dtype=torch.long), r"use \(tokens,\) or \(1, tokens\)"),
        # These were torch's RuntimeError, or a TypeError of a comparison.
        ([1, 2.0], "ids hold '2.0': use whole numbers"),
        ([True], "ids hold 'True'"),
        ("Once", "ids hold 'O'"),
        (torch.tensor([1.0, 2.0]), "ids hold '1.0'"),
    ],
)
def test_an_impossible_prompt_is_refused_at_the_call(ids, message):
    with pytest.raises(ValueError, match=message):
        generate(tiny_model(), ids, GREEDY)


def test_active_dropout_is_refused_rather_than_called_greedy():
    with pytest.raises(ValueError, match=r"call model.eval\(\)"):
        generate(tiny_model().train(), [1], GREEDY)


def test_the_books_loop_refuses_nothing_to_continue():
    with pytest.raises(ValueError, match="not empty"):
        generate_text_simple(tiny_model(), torch.zeros(1, 0, dtype=torch.long), 3, 16)
    with pytest.raises(ValueError, match="context_size is 0"):
        generate_text_simple(tiny_model(), torch.tensor([[1]]), 3, 0)
