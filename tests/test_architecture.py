"""The Architecture tab without a page: what it shows, what it refuses, what it takes along."""

from __future__ import annotations

import random
import re
import statistics
import threading
import time
from dataclasses import asdict
from typing import Any

import pytest
import torch
from architecture_cases import NAMED, TINY
from random_configs import any_size
from torch.utils._python_dispatch import TorchDispatchMode

from gpt import GPTConfig, count_parameters
from gpt.accounting.timing import LIMIT_BYTES
from gpt.checkpoints.sources import load_model, random_source
from gpt.model import GPTModel
from gpt.ui.architecture import measured
from gpt.ui.architecture.controls import (
    RANGES,
    configuration,
    reach_for,
    suggestions,
    width_steps,
)
from gpt.ui.architecture.job import job_of
from gpt.ui.architecture.parameters import check_html, readable
from gpt.ui.architecture.presets import CUSTOM, TRILLION, name_of, not_expressible, presets
from gpt.ui.architecture.tab import _take
from gpt.ui.architecture.views import PINNED, figures

JOB = {
    "batch": 1,
    "tokens": 1024,
    "precision": "float16",
    "device": "laptop",
    "train_tokens": 2.5e9,
    "utilisation": 0.4,
    "compare": None,
    "pinned": None,
    "format": "JSON",
}


def values_of(cfg: GPTConfig, **changes: Any) -> dict[str, Any]:
    return {**asdict(cfg), **JOB, **changes}


class NothingAllocated(TorchDispatchMode):
    """Fails on any tensor operation, so also on any allocation of weights."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        raise AssertionError(f"{func} was called")


@pytest.mark.parametrize("seed", range(40))
def test_every_figure_follows_from_any_configuration_without_a_tensor(seed: int) -> None:
    cfg = any_size(seed)
    with NothingAllocated():
        found = figures(values_of(cfg, compare=NAMED[seed % len(NAMED)].key), NAMED)
    total = f"{count_parameters(cfg).total:,}"
    assert total in found["total"]
    assert total in found["table"]
    assert total in found["compare"]
    assert not re.search(r"\bnan\b|not finite", " ".join(found.values()))


def test_a_slider_step_costs_less_than_50_ms_of_handler_time() -> None:
    taken = []
    for layers in range(1, 12):
        start = time.perf_counter()
        figures(values_of(GPTConfig(n_layers=layers), compare="gpt2-xl"), NAMED)
        taken.append(time.perf_counter() - start)
    assert statistics.median(taken) < 0.05


def test_the_check_builds_the_real_module_and_says_equal() -> None:
    assert f"{count_parameters(TINY).total:,} parameters — equal ✓" in check_html(TINY)
    assert "left out" in check_html(GPTConfig(n_layers=500))


def test_presets_name_themselves_and_one_changed_field_is_custom() -> None:
    assert len({preset.key for preset in NAMED}) == len(NAMED)
    for preset in NAMED:
        assert name_of(preset.cfg, NAMED) == preset.key
    assert name_of(GPTConfig(n_layers=11), NAMED) == CUSTOM


def test_the_storyteller_is_a_preset_where_it_exists_only() -> None:
    class WithStoryteller:
        def config_of(self, source: str) -> GPTConfig:
            assert source == "storyteller"
            return TINY

    assert "storyteller" not in [preset.key for preset in NAMED]
    found = {preset.key: preset.cfg for preset in presets(WithStoryteller())}
    assert found["storyteller"] == TINY


def test_gpt3_sizes_whose_heads_do_not_divide_the_width_are_listed_with_the_reason() -> None:
    refused = dict(not_expressible())
    assert list(refused) == ["XL, 1.3B", "13B"]
    assert refused["XL, 1.3B"] == "24 heads of 128 make 3,072, the width is 2,048"
    assert refused["13B"] == "40 heads of 128 make 5,120, the width is 5,140"
    totals = {p.key: readable(count_parameters(p.cfg).total) for p in NAMED if "gpt3" in p.key}
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
        ({"n_layers": 0}, "n_layers is 0: use a whole number of at least 1."),
        ({"n_layers": 1.5}, "n_layers is 1.5: use a whole number of at least 1."),
        ({"vocab_size": None}, "vocab_size is None: use a whole number of at least 1."),
        ({"vocab_size": float("nan")}, "vocab_size is nan: use a whole number of at least 1."),
        ({"emb_dim": True}, "emb_dim is True: use a whole number of at least 1."),
        ({"emb_dim": 10**12}, "emb_dim is 1,000,000,000,000: use at most 1,000,000,000."),
        ({"drop_rate": "x"}, "drop_rate is 'x': use a number from 0 to 1."),
        ({"drop_rate": 2}, "drop_rate is 2.0: use a number from 0 to 1."),
        ({"qkv_bias": 1}, "qkv_bias is 1: use true or false."),
        ({"batch": 0}, "batch is 0: use a whole number from 1 to 65,536."),
        ({"batch": 1.5}, "batch is 1.5: use a whole number from 1 to 65,536."),
        ({"tokens": None}, "tokens is None: use a whole number from 1 to 1,000,000,000."),
        ({"precision": "int3"}, "precision is 'int3': use float32"),
        ({"device": "abacus"}, "no device is called 'abacus': use laptop"),
        ({"utilisation": 0}, "utilisation is 0: use a number above 0, at most 1."),
        ({"format": "XML"}, "format is 'XML': use JSON"),
    ],
)
def test_an_impossible_value_is_refused_in_one_line(changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        figures(values_of(GPTConfig(), **changes), NAMED)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("seed", range(100))
def test_suggestions_are_possible_and_the_nearest(seed: int) -> None:
    draw = random.Random(seed)
    width, heads = draw.randint(1, 3_000), draw.randint(1, 60)
    found = suggestions(width, heads)
    if width % heads == 0:
        assert found == ()
        return
    for each in found:
        changed = {"emb_dim": width, "n_heads": heads, each.field: each.value}
        assert changed["emb_dim"] % changed["n_heads"] == 0
    widths = [w for w in range(1, width + heads + 1) if w % heads == 0]
    divisors = [h for h in range(1, width + 1) if width % h == 0]
    nearest_width = min(widths, key=lambda w: abs(w - width))
    nearest_heads = min(divisors, key=lambda h: abs(h - heads))
    values = {(each.field, each.value) for each in found}
    assert ("emb_dim", nearest_width) in values
    assert any(
        field == "n_heads" and abs(value - heads) == abs(nearest_heads - heads)
        for field, value in values
    )


def test_suggestions_for_a_prime_width_of_nine_digits_come_at_once() -> None:
    """Every number up to the width was tried, a minute in a handler that has no queue."""
    start = time.perf_counter()
    found = suggestions(999_999_937, 12)
    assert time.perf_counter() - start < 0.5
    assert [(each.field, each.value) for each in found] == [
        ("emb_dim", 999_999_936),
        ("emb_dim", 999_999_948),
        ("n_heads", 1),
        ("n_heads", 999_999_937),
    ]


@pytest.mark.parametrize(("width", "heads"), [(2048, 30), (2039, 32), (770, 12)])
def test_a_suggestion_takes_its_slider_along_to_where_it_is(width: int, heads: int) -> None:
    """The slider ended at 2,048, so the page clipped the suggested width of 2,070 to that."""
    found = suggestions(width, heads)
    for index, each in enumerate(found):
        updates = dict(zip(("emb_dim", "n_heads"), _take(found, index, 0), strict=True))
        taken = updates.pop(each.field)
        assert taken["value"] == each.value
        assert taken["maximum"] >= max(each.value, RANGES[each.field].maxima[0])
        assert not any("value" in other for other in updates.values())


def test_tokens_beyond_the_context_are_cut_and_that_is_told() -> None:
    job = job_of(values_of(TINY), TINY)
    assert job.tokens == 48
    assert job.cut == "1,024 tokens exceed the context of 48: computed for 48."


def test_sliders_reach_as_far_as_a_configuration_needs() -> None:
    assert reach_for(GPTConfig()) == 0
    assert reach_for(GPTConfig(emb_dim=12_288, n_heads=96, n_layers=96)) == 1
    assert reach_for(TRILLION) == 2


@pytest.mark.parametrize(("width", "heads"), [(768, 12), (770, 12), (24, 3), (5, 9), (1, 1)])
def test_the_width_s_slider_steps_over_possible_widths_and_reaches_the_present_one(
    width: int, heads: int
) -> None:
    steps = width_steps(width, heads)
    assert steps["minimum"] <= width
    assert steps["step"] == steps["minimum"]
    assert steps["step"] in (1, heads)
    assert width_steps(None, heads) == {}


def test_the_pinned_configuration_is_what_is_compared_with() -> None:
    pinned = asdict(GPTConfig(n_layers=6))
    found = figures(values_of(GPTConfig(), compare=PINNED, pinned=pinned), NAMED)["compare"]
    assert "1 of 8 settings differ." in found
    assert "2.00 ×" in found


def test_a_trillion_is_refused_to_be_built_and_small_fits() -> None:
    assert "are allowed here" in measured.refusal(TRILLION)
    assert measured.refusal(TINY) == ""
    with pytest.raises(ValueError, match="are allowed here"):
        next(measured.measured_html(TRILLION, job_of(values_of(TRILLION), TRILLION)))


def test_too_little_free_memory_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measured, "free_bytes", lambda: 1_000)
    assert "are free on this machine now" in measured.refusal(TINY)


def test_gpt2_medium_is_within_the_stated_limit_and_large_is_not() -> None:
    by_key = {preset.key: preset.cfg for preset in NAMED}
    assert 4 * count_parameters(by_key["gpt2-medium"]).total < LIMIT_BYTES
    assert "are allowed here" in measured.refusal(by_key["gpt2-large"])


def test_the_measurement_ends_in_a_table_whose_counts_are_equal() -> None:
    pages = list(measured.measured_html(TINY, job_of(values_of(TINY), TINY)))
    assert all("<progress" in page for page in pages[:-1])
    assert pages[-1].count("equal ✓") == 5


def test_a_measurement_leaves_the_weights_that_are_drawn_meanwhile_as_they_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Both drew from torch's one generator: every visitor got a book's model with wrong weights."""
    source, job = random_source(TINY, 5), job_of(values_of(TINY), TINY)
    right = load_model(source).state_dict()
    [*measured.measured_html(TINY, job)]  # the first loads modules, which takes long
    pages: list[str] = []
    other = threading.Thread(target=lambda: pages.extend(measured.measured_html(TINY, job)))

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
    job = job_of(values_of(TINY), TINY)
    first, second = measured.measured_html(TINY, job), measured.measured_html(TINY, job)
    next(first)
    assert "waiting for another measurement" in next(second)
    first.close()
    assert [*second][-1].count("equal ✓") == 5


def test_configuration_reads_whole_numbers_that_arrive_as_floats() -> None:
    assert configuration({**asdict(TINY), "emb_dim": 24.0, "drop_rate": 0}) == GPTConfig(
        97, 48, 24, 3, 2, 0.0
    )
