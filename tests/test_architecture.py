"""The Architecture tab without a page: what it shows, what it refuses, what it takes along."""

from __future__ import annotations

import re
import threading
from dataclasses import asdict
from types import SimpleNamespace
from typing import Any

import gradio as gr
import pytest
import torch
from architecture_cases import NAMED, TINY, NoRegistry, figures_of, values_of
from gradio.state_holder import SessionState
from own_loop import run_async
from random_configs import any_size
from torch.utils._python_dispatch import TorchDispatchMode

from gpt import GPTConfig, count_parameters
from gpt.accounting.timing import LIMIT_BYTES
from gpt.checkpoints.sources import load_model, random_source
from gpt.config import PRESETS
from gpt.model import GPTModel
from gpt.ui.architecture import measured
from gpt.ui.architecture.controls import (
    SLIDERS,
    configuration,
    control,
    field_updates,
    suggestions,
    width_step,
    workload_of,
)
from gpt.ui.architecture.costs import readable_count
from gpt.ui.architecture.exchange import to_json
from gpt.ui.architecture.layout import Layout
from gpt.ui.architecture.parameter_table import check_html
from gpt.ui.architecture.presets import CUSTOM, TRILLION, name_of, presets
from gpt.ui.architecture.tab import add_to
from gpt.ui.tabs import Page


class NothingAllocated(TorchDispatchMode):
    """Fails on any tensor operation, so also on any allocation of weights."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        raise AssertionError(f"{func} was called")


@pytest.mark.parametrize("seed", range(4))
def test_every_figure_follows_from_any_configuration_without_a_tensor(seed: int) -> None:
    cfg = any_size(seed)
    formulas = ["", "numbers", "memory", "operations", "compare", "work"]  # "code" runs a pass
    with NothingAllocated():
        found = figures_of(cfg, formulas, compare=[*NAMED][seed])
    total = f"{count_parameters(cfg).total:,}"
    assert total in found["total"]
    assert total in found["table"]
    assert total in found["compare"]
    assert not re.search(r"\bnan\b|not finite", " ".join(found.values()))


def test_only_open_sections_are_computed() -> None:
    """Each tick of a slider computed and sent all of them: 51 kB, 41 of them for closed ones."""
    shown = figures_of(GPTConfig(), [""])
    assert set(shown) == {"total", "map", "part"}
    assert set(figures_of(GPTConfig(), ["", "memory"])) == {*shown, "memory"}
    sent = sum(len(text.encode()) for text in shown.values())
    assert sent < 8_000


def test_the_check_builds_the_real_module_and_says_equal() -> None:
    assert f"{count_parameters(TINY).total:,} parameters — equal ✓" in check_html(TINY)
    assert "left out" in check_html(GPTConfig(n_layers=500))


def test_the_check_is_left_out_where_torch_cannot_count_the_bytes() -> None:
    """A width of 999,999,996 was an error of the server: the check of another model stood there."""
    assert "more bytes than torch can count" in check_html(GPTConfig(emb_dim=999_999_996))


def test_sections_that_were_opened_at_once_all_follow_the_controls() -> None:
    """Of three sections opened in a row one alone followed: each event had read which were open
    before the others had written it.
    """
    with gr.Blocks() as demo:
        page = add_to(Page(NoRegistry(), "book-124M"))
    expand, refresh = (
        next(fn.fn for fn in demo.fns.values() if fn.fn.__name__ == name)
        for name in ("expand", "refresh")
    )
    values = {box: box.value for box in (*page.inputs.values(), page.opened)}
    before = dict(values)  # what each event is given
    for accordion, key in page.sections.items():
        if key in ("memory", "operations"):
            expand(before, SimpleNamespace(target=accordion))
    shown = refresh({**values, page.inputs["n_layers"]: 7})
    for name in ("total", "memory", "operations", "times"):
        assert page.views[name] in shown
    for name in ("code", "table"):
        assert page.views[name] not in shown


def test_a_fault_of_the_figures_is_no_mistake_of_the_visitor(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It was told beside the controls, as if something impossible was typed, and in no log."""
    with gr.Blocks() as demo:
        page = add_to(Page(NoRegistry(), "book-124M"))
    refresh = next(fn.fn for fn in demo.fns.values() if fn.fn.__name__ == "refresh")
    fault = lambda *_: [*zip("a", "", strict=True)]  # noqa: E731
    monkeypatch.setattr("gpt.ui.architecture.tab.name_of", fault)
    with pytest.raises(ValueError, match="zip"):
        refresh({box: box.value for box in (*page.inputs.values(), page.opened)})


def test_an_impossible_workload_leaves_the_figures_and_says_so() -> None:
    """They stayed as they were, beside a line that no longer told it."""
    with gr.Blocks() as demo:
        page = add_to(Page(NoRegistry(), "book-124M"))
    refresh = next(fn.fn for fn in demo.fns.values() if fn.fn.__name__ == "refresh")
    values = {box: box.value for box in (*page.inputs.values(), page.opened)}
    shown = refresh({**values, page.inputs["batch"]: 0})
    assert "still show the last possible configuration" in shown[page.problem]
    assert shown[page.wrong_load] == shown[page.problem]
    assert not shown.keys() & {*page.views.values()}


def test_an_impossible_size_of_more_settings_is_told_beside_its_box_too() -> None:
    """The line stood above the boxes and the picture's part, on a phone off the screen."""
    with gr.Blocks() as demo:
        page = add_to(Page(NoRegistry(), "book-124M"))
    refresh = next(fn.fn for fn in demo.fns.values() if fn.fn.__name__ == "refresh")
    values = {box: box.value for box in (*page.inputs.values(), page.opened)}
    for name in ("vocab_size", "context_length", "drop_rate"):
        assert f"{name} is -1" in refresh({**values, page.inputs[name]: -1})[page.wrong_size]
    shown = refresh({**values, page.inputs["n_layers"]: 0})
    assert "n_layers is 0" in shown[page.problem]
    assert shown[page.wrong_size] == ""


def test_what_was_said_of_a_configuration_goes_with_it() -> None:
    """A failed import's line stood beside a preset, and "equal ✓" beside an impossible size."""
    with gr.Blocks() as demo:
        page = add_to(Page(NoRegistry(), "book-124M"))
    [preset] = [fn.fn for fn in demo.fns.values() if fn.targets == [(page.preset._id, "input")]]
    [reset] = [fn.fn for fn in demo.fns.values() if fn.targets == [(page.reset._id, "click")]]
    assert preset("gpt2-xl")[page.imported] == reset()[page.imported] == ""
    check = next(fn.fn for fn in demo.fns.values() if fn.fn.__name__ == "check")
    possible = {page.inputs[name]: value for name, value in GPTConfig().items()}
    assert "equal ✓" in check(possible)
    assert check({**possible, page.inputs["vocab_size"]: 0}) == ""


def test_presets_name_themselves_and_one_changed_field_is_custom() -> None:
    for key, (_, cfg) in NAMED.items():
        assert name_of(cfg, NAMED) == key
    assert name_of(GPTConfig(n_layers=11), NAMED) == CUSTOM


def test_the_storyteller_is_a_preset_where_it_exists_only() -> None:
    class WithStoryteller:
        def config_of(self, source: str) -> GPTConfig:
            assert source == "storyteller"
            return TINY

    assert "storyteller" not in NAMED
    assert presets(WithStoryteller())["storyteller"][1] == TINY


def test_gpt3_sizes_have_the_parameters_that_the_paper_rounds() -> None:
    totals = {
        key: readable_count(count_parameters(cfg).total)
        for key, (_, cfg) in NAMED.items()
        if "gpt3" in key
    }
    assert totals == {
        "gpt3-125m": "125 million",
        "gpt3-350m": "356 million",
        "gpt3-760m": "760 million",
        "gpt3-2.7b": "2.65 billion",
        "gpt3-6.7b": "6.66 billion",
        "gpt3-175b": "175 billion",
    }


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"emb_dim": 770}, "emb_dim 770 is not divisible by 12 heads: use 768 or 780."),
        ({"n_layers": 0}, "n_layers is 0: use a whole number from 1 to 1,000,000,000."),
        ({"n_layers": 1.5}, "n_layers is 1.5: use a whole number from 1 to"),
        ({"vocab_size": None}, "vocab_size is empty: use a whole number from 1"),
        ({"vocab_size": float("nan")}, "vocab_size is nan: use a whole number from 1"),
        ({"emb_dim": True}, "emb_dim is True: use a whole number from 1"),
        (
            {"emb_dim": 10**12},
            "emb_dim is 1000000000000: use a whole number from 1 to 1,000,000,000.",
        ),
        ({"drop_rate": "x"}, "drop_rate is 'x': use a number from 0 to 1."),
        ({"drop_rate": 2}, "drop_rate is 2: use a number from 0 to 1."),
        ({"qkv_bias": 1}, "qkv_bias is 1: use True or False."),
        ({"batch": 0}, "batch is 0: use a whole number from 1 to 65,536."),
        ({"batch": 1.5}, "batch is 1.5: use a whole number from 1 to 65,536."),
        ({"tokens": None}, "tokens is empty: use a whole number from 1 to 1,000,000,000."),
        ({"precision": "int3"}, "precision is 'int3': use float32"),
        ({"device": "abacus"}, "no device is called 'abacus': use laptop"),
        ({"utilisation": 0}, "utilisation is 0: use a number from 0.01 to 1."),
    ],
)
def test_an_impossible_value_is_refused_in_one_line(changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        figures_of(GPTConfig(), **changes)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("width", "heads"), [(770, 12), (2048, 30), (2039, 32), (5, 9), (7, 3)])
def test_suggestions_are_possible_and_the_nearest(width: int, heads: int) -> None:
    found = suggestions(width, heads)
    assert suggestions(width * heads, heads) == ()
    for field, value in found:
        changed = {"emb_dim": width, "n_heads": heads, field: value}
        assert changed["emb_dim"] % changed["n_heads"] == 0
    widths = [w for w in range(1, width + heads + 1) if w % heads == 0]
    divisors = [h for h in range(1, width + 1) if width % h == 0]
    nearest_width = min(widths, key=lambda w: abs(w - width))
    nearest_heads = min(divisors, key=lambda h: abs(h - heads))
    assert ("emb_dim", nearest_width) in found
    assert any(
        field == "n_heads" and abs(value - heads) == abs(nearest_heads - heads)
        for field, value in found
    )


def test_suggestions_for_a_prime_width_of_nine_digits_come_at_once() -> None:
    """Every number up to the width was tried, a minute in a handler that has no queue."""
    found = suggestions(999_999_937, 12)
    assert found == (
        ("emb_dim", 999_999_936),
        ("emb_dim", 999_999_948),
        ("n_heads", 1),
        ("n_heads", 999_999_937),
    )


def test_tokens_beyond_the_context_are_cut_and_that_is_told() -> None:
    load = workload_of(values_of(TINY), TINY)
    assert load.tokens == 48
    assert load.cut == "1,024 tokens exceed the context of 48: computed for 48."


def test_sliders_reach_the_sizes_of_every_preset() -> None:
    for name in SLIDERS:
        assert control(name).maximum >= max(cfg[name] for _, cfg in NAMED.values())


def test_the_width_s_slider_steps_over_possible_widths() -> None:
    shown = field_updates(PRESETS["gpt2-medium"])
    assert shown["emb_dim"] == gr.update(value=1024, step=16)
    assert shown["n_layers"] == 24
    assert width_step(0) == width_step(None) == {"step": 1}


def test_the_pinned_configuration_is_what_is_compared_with() -> None:
    pinned = to_json(GPTConfig(n_layers=6))
    found = figures_of(GPTConfig(), compare=pinned)["compare"]
    assert "This configuration beside the pinned one" in found
    assert "1 of 8 settings differ." in found
    assert "2.00 ×" in found


def test_each_pinned_configuration_is_a_choice_of_its_own_and_an_impossible_one_is_none() -> None:
    """The box to compare with kept its value at a second pin: gradio saw no change of the box, and
    the table stayed that of the first. An impossible configuration's line stood beside every later
    one, and no figure moved any more.
    """
    with gr.Blocks() as demo:
        page = add_to(Page(NoRegistry(), "book-124M"))
    [pin] = [fn.fn for fn in demo.fns.values() if fn.targets == [(page.pin._id, "click")]]
    possible = {page.inputs[name]: value for name, value in GPTConfig().items()}
    assert pin({**possible, page.inputs["emb_dim"]: 770}) == gr.skip()
    first, second = (pin({**possible, page.inputs["n_layers"]: n})["value"] for n in (12, 7))
    assert first != second
    found = figures_of(GPTConfig(), compare=first)["compare"]
    assert "The settings are the same." in found


def test_a_pinned_configuration_outlives_a_restart() -> None:
    """gradio refused it as no choice, at every control, until another one was compared with."""
    with gr.Blocks() as demo:
        page = add_to(Page(NoRegistry(), "book-124M"))
    refresh = next(fn for fn in demo.fns.values() if fn.name == "refresh")
    pinned, compare = to_json(TINY), page.inputs["compare"]
    given = [pinned if box is compare else box.value for box in refresh.inputs]
    read = run_async(demo.preprocess_data(refresh, given, SessionState(demo)))
    assert read[refresh.inputs.index(compare)] == pinned


def test_too_little_free_memory_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measured, "free_bytes", lambda: 1_000)
    with pytest.raises(ValueError, match="are free on this machine now"):
        next(measured.measured_html(TINY, workload_of(values_of(TINY), TINY)))


@pytest.mark.parametrize("large", [PRESETS["gpt2-large"], TRILLION])
def test_gpt2_medium_is_within_the_stated_limit_and_large_is_not(large: GPTConfig) -> None:
    assert 4 * count_parameters(PRESETS["gpt2-medium"]).total < LIMIT_BYTES
    with pytest.raises(ValueError, match="are allowed here"):
        next(measured.measured_html(large, workload_of(values_of(large), large)))


def test_the_measurement_ends_in_a_table_whose_counts_are_equal() -> None:
    pages = list(measured.measured_html(TINY, workload_of(values_of(TINY), TINY)))
    assert all("<progress" in page for page in pages[:-1])
    assert pages[-1].count("equal ✓") == 5


def test_a_measurement_leaves_the_weights_that_are_drawn_meanwhile_as_they_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Both drew from torch's one generator: every visitor got a book's model with wrong weights."""
    source, load = random_source(TINY, 5), workload_of(values_of(TINY), TINY)
    right = load_model(source).state_dict()
    [*measured.measured_html(TINY, load)]  # the first loads modules, which takes long
    pages: list[str] = []
    other = threading.Thread(target=lambda: pages.extend(measured.measured_html(TINY, load)))

    def draw_slowly(cfg: GPTConfig) -> GPTModel:
        other.start()
        other.join(timeout=1)
        return GPTModel(cfg)

    monkeypatch.setattr("gpt.checkpoints.sources.GPTModel", draw_slowly)
    found = load_model(source).state_dict()
    other.join()
    assert pages[-1].count("equal ✓") == 5
    for name, weight in right.items():
        assert torch.equal(found[name], weight)


def test_a_cancelled_measurement_makes_room_for_the_next_which_waits_until_then() -> None:
    """After a cancel the next run was dropped, or two models were built beside each other."""
    load = workload_of(values_of(TINY), TINY)
    first, second = measured.measured_html(TINY, load), measured.measured_html(TINY, load)
    assert "waiting for the machine" in next(first)
    next(first)
    next(second)
    assert "waiting for another measurement" in next(second)
    first.close()
    assert [*second][-1].count("equal ✓") == 5


def test_a_result_names_the_configuration_that_was_measured() -> None:
    """After Reset the table of another configuration stood there without its name."""
    page = [*measured.measured_html(TINY, workload_of(values_of(TINY), TINY))][-1]
    assert "2 layers of width 24 with 3 heads, vocabulary 97, context 48: built in" in page


@pytest.fixture
def measuring() -> SimpleNamespace:
    """The handlers of “Build and measure” and Cancel, and what the first is given for TINY."""
    with gr.Blocks() as demo:
        page = add_to(Page(NoRegistry(), "book-124M"))
    fns = {fn.name: fn for fn in demo.fns.values()}
    (failed,) = [fn.fn for fn in demo.fns.values() if fn.trigger_after == fns["run"]._id]
    flag: set[str] = set()
    given = {page.inputs[name]: value for name, value in values_of(TINY).items()}
    return SimpleNamespace(
        page=page, flag=flag, given={**given, page.cancelled: flag}, failed=failed,
        run=fns["run"].fn, cancel=fns["cancel"].fn,
    )  # fmt: skip


def told(page: Layout, update: dict[Any, Any]) -> tuple[str, bool]:
    """The text of an update, and whether the button can be pressed: it or Cancel is seen."""
    pressed = update[page.measure] == gr.update(visible=True)
    cancel = {"visible": "hidden"} if pressed else {"visible": True, "value": "Cancel"}
    assert update[page.cancel] == gr.update(**cancel)
    return update[page.measured], pressed


def test_what_cancel_says_never_stands_over_what_the_run_says_last() -> None:
    """ "Cancelling …" stayed for good where the answer to Cancel came after the run's end."""
    with gr.Blocks() as demo:
        page = add_to(Page(NoRegistry(), "book-124M"))
    [cancel] = [fn for fn in demo.fns.values() if fn.targets == [(page.cancel._id, "click")]]
    assert cancel.outputs == [page.cancel]


def test_a_measurement_that_fails_gives_the_button_back(
    measuring: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cancel stayed on the page, and Build and measure away, for anything but a ValueError."""

    def broken(cfg: GPTConfig, load: Any) -> Any:
        yield "building"
        raise RuntimeError("a bug of ours")

    monkeypatch.setattr(measured, "measured_html", broken)
    page, steps = measuring.page, measuring.run(measuring.given)
    assert told(page, next(steps)) == ("building", False)
    with pytest.raises(RuntimeError):
        next(steps)
    assert told(page, measuring.failed()) == ("", True)
    (last,) = measuring.run({**measuring.given, page.inputs["n_layers"]: 0})
    refused, pressed = told(page, last)
    assert "n_layers is 0: use a whole number from 1 to 1,000,000,000." in refused
    assert pressed


def test_cancel_ends_a_measurement_before_its_next_stage_and_not_the_next_one(
    measuring: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its generator is closed: the model goes with it."""
    closed: list[bool] = []

    def stages(cfg: GPTConfig, load: Any) -> Any:
        try:
            yield from ("building", "decoding", "the result")
        finally:
            closed.append(True)

    monkeypatch.setattr(measured, "measured_html", stages)
    page, steps = measuring.page, measuring.run(measuring.given)
    assert told(page, next(steps)) == ("building", False)
    measuring.cancel(measuring.flag)
    last, pressed = told(page, next(steps))
    assert "Cancelled; nothing was kept." in last
    assert pressed
    assert closed == [True]
    texts = [told(page, update) for update in measuring.run(measuring.given)]
    assert texts == [
        ("building", False), ("decoding", False), ("the result", False), ("the result", True)
    ]  # fmt: skip


def test_building_for_a_measurement_leaves_room_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """The model was drawn in one go, for seconds, on a thread beside the one with all cores."""
    pieces: list[str] = []

    def on_all_cores(work: Any, *args: Any) -> Any:
        pieces.append(work.__name__)
        return work(*args)

    monkeypatch.setattr(measured, "on_all_cores", on_all_cores)
    [*measured.measured_html(TINY, workload_of(values_of(TINY), TINY))]
    assert pieces.count("uniform_") == len(list(GPTModel(TINY).parameters()))


def test_the_note_on_124_million_stands_beside_its_own_sizes_only() -> None:
    released = GPTConfig(qkv_bias=True, tie_weights=True)
    assert "which OpenAI rounds to 124M" in figures_of(released)["tied"]
    assert "124M" not in figures_of(TRILLION, ["numbers"])["tied"]


def test_configuration_reads_whole_numbers_that_arrive_as_floats() -> None:
    assert configuration({**asdict(TINY), "emb_dim": 24.0, "drop_rate": 0}) == GPTConfig(
        97, 48, 24, 3, 2, 0.0
    )
