"""What a visitor reads in the Architecture tab: sentences, cells and widths of bars."""

from __future__ import annotations

import re
from html import unescape

import pytest
from architecture_cases import NAMED, figures_of, values_of

from gpt import GPTConfig
from gpt.accounting import count_parameters, memory, operations
from gpt.accounting.machines import DEVICES
from gpt.accounting.timing import Measured
from gpt.config import PRESETS
from gpt.ui.architecture.controls import workload_of
from gpt.ui.architecture.costs import flop_text
from gpt.ui.architecture.measured import result_html
from gpt.ui.parts.bars import meter_html, stacked_bar_html
from gpt.ui.parts.numbers import mib_and_mb, percent, seconds, significant

BOOK = GPTConfig()


def rows(html: str, caption: str) -> dict[str, list[str]]:
    """The rows of the table with this caption: first cell -> the others."""
    (table,) = [t for t in html.split("<table>")[1:] if f"<caption>{caption}" in t]
    found = re.findall(r"<tr[^>]*>(.*?)</tr>", table)[1:]
    cells = [re.findall(r"<bdi>(.*?)</bdi>", unescape(row)) for row in found]
    return {first: rest for first, *rest in cells}


def bold(html: str) -> list[str]:
    return re.findall(r"<figcaption>(.*?)</figcaption>", html)


def test_the_book_s_model_in_sentences() -> None:
    found = figures_of(BOOK)
    assert "163 million; 621.8 MiB (652.0 MB) in float32." in found["total"]
    assert bold(found["plot"]) == ["Largest part: feed-forward, 34.8 % of the total."]
    assert bold(found["operations"]) == [
        "A forward pass over 1 × 1,024 tokens takes 291.6 GFLOP; the most goes into feed-forward, "
        "39.8 %."
    ]
    assert found["tied"].count('aria-current="true"') == 1
    assert '<div class="current" aria-current="true"><dt>separate output layer' in found["tied"]


def test_the_shares_of_the_parameters_are_those_of_the_count() -> None:
    count = count_parameters(BOOK)
    table = rows(figures_of(BOOK)["table"], "Every part")
    shown = {"Embeddings": "embeddings", "Block: attention": "attention", "Output head": "head"}
    for title, group in shown.items():
        n = count.subtotal(group)
        assert table[title][:2] == [f"{n:,}", percent(n / count.total)]
    assert table["Block: norms"][4] == "12 × 3,072"
    assert table["Total"][:2] == ["163,009,536", "100 %"]
    for part in count.rows:
        name = part.name.replace("trf_blocks.*.", "")
        assert table[name] == [
            f"{part.count:,}", percent(part.count / count.total), part.shape, part.formula,
            part.numbers, part.purpose,
        ]  # fmt: skip


def test_memory_says_where_it_fits() -> None:
    """On a GPU keys and values are as the weights; it counted them in float32, as on a CPU."""
    cfg = PRESETS["gpt2-xl"]
    found = figures_of(cfg)["memory"]
    run, on_gpu = (
        [
            memory.weights(cfg, "float16").value,
            memory.kv_cache(cfg, 1, 1024, "float16", is_gpu).value,
            memory.forward_activations(cfg, 1, 1024).value,
        ]
        for is_gpu in (False, True)
    )
    assert run[1] == 2 * on_gpu[1]
    to_run, to_train = bold(found)
    assert to_run == (
        f"To generate (batch 1, 1,024 tokens, float16): {mib_and_mb(sum(run))} on a CPU, "
        "fits 4 of 4 machines."
    )
    assert to_train.endswith("fits 1 of 4 machines.")
    assert found.count("<b>does not fit: ") == 3
    for each in DEVICES.values():
        used = sum(on_gpu if each.is_gpu else run) / each.memory_bytes
        assert f"{each.label}: {percent(used)} of its memory" in found
    table = rows(found, "Memory for batch 1, 1,024 tokens")
    assert table["float16"][0] == mib_and_mb(run[0])
    cache = memory.kv_cache(cfg, 1, 1024, "float16")
    assert table["KV cache"][:3] == [mib_and_mb(run[1]), cache.formula, cache.numbers]
    assert "4-bit (not implemented here)" in table
    for precision in ("float32", "bfloat16"):
        kept = memory.kept_by_training(cfg, 1, 1024, precision)
        assert table[kept.name][0] == mib_and_mb(kept.value)


def test_times_are_those_of_each_machine() -> None:
    found = figures_of(BOOK, device="t4")["times"]
    table = rows(found, "At best, in float16; training on 2.50 billion tokens at 40.0 %")
    for each in DEVICES.values():
        prompt = operations.roofline(BOOK, 1, 1024, 1024, "float16", each)
        step = operations.roofline(BOOK, 1, 1, 1024, "float16", each)
        peak, bandwidth = each.peak_flops["float16"], each.bandwidth_bytes
        assert table[each.label][:6] == [
            f"{flop_text(peak)}/s", f"{significant(bandwidth / 1e9)} GB/s",
            seconds(prompt.seconds), prompt.bound, significant(1 / step.seconds), step.bound,
        ]  # fmt: skip
    t4 = operations.roofline(BOOK, 1, 1, 1024, "float16", DEVICES["t4"])
    assert found.startswith('<p class="note">NVIDIA T4 (16 GB): the prompt takes at least ')
    assert f"then at most {significant(1 / t4.seconds)} tokens a second (bound by " in found
    huge = NAMED["gpt3-175b"][1]  # "350,000 MB read a step"
    step = operations.roofline(huge, 1, 1, 1024, "float16", DEVICES["t4"])
    times = figures_of(huge, device="t4")["times"]
    assert f", reading {mib_and_mb(step.traffic_bytes)} a step." in times
    assert '<tr class="marked"><td class="text"><bdi>NVIDIA T4' in found


def test_times_name_the_machines_that_cannot_hold_the_model() -> None:
    """Those of GPT-3 on a T4 stood there as if it could: 22.6 times its memory."""
    found = figures_of(NAMED["gpt3-175b"][1], device="t4", compare="gpt2-small")
    told = "Memory is left aside in these times: to generate, the model does not fit "
    assert f"{told}{', '.join(each.label for each in DEVICES.values())}." in found["times"]
    told = "NVIDIA T4 (16 GB) cannot hold this one: its tokens a second leave memory aside."
    assert told in found["compare"]
    found = figures_of(BOOK, device="t4", compare="gpt3-175b")
    assert "left aside" not in found["times"]
    assert "NVIDIA T4 (16 GB) cannot hold gpt3-175b: its tokens" in found["compare"]
    found = figures_of(BOOK, device="t4", compare="gpt2-medium")
    assert "cannot hold" not in found["compare"]


def test_rules_of_thumb_and_one_more_token_compare_with_the_count() -> None:
    found = figures_of(BOOK)["operations"]
    rules = rows(found, "For 1 × 1,024 tokens: 2 N and 6 N")
    for name, rule, counted in operations.rules_of_thumb(BOOK, 1, 1024):
        sign = "+" if rule > counted else "−"
        off = rules[name][2]
        assert off.startswith(sign)
        assert abs(float(off[1:-2]) - abs(100 * (rule / counted - 1))) < 0.06
    token = rows(found, "One more token after 1,023, batch 1")
    cached = operations.forward(BOOK, 1, 1, past_tokens=1023).total
    whole = operations.forward(BOOK, 1, 1024).total
    assert token["with a KV cache"][2] == "1.00 ×"
    assert token["without, as the book's loop"][2] == f"{significant(whole / cached)} ×"
    parts = rows(found, "Matrix products of one forward pass")
    assert parts["Forward"][0] == "291.6 GFLOP"
    assert parts["Backward"][0] == "583.3 GFLOP"
    assert parts["feed-forward"][:2] == ["116.0 GFLOP", "39.8 %"]


def test_two_side_by_side_give_this_over_that() -> None:
    found = figures_of(GPTConfig(n_layers=24), compare="gpt2-small")["compare"]
    assert "1 of 8 settings differ." in found
    table = rows(found, "This configuration beside gpt2-small")
    assert table["n_layers"] == ["24", "12", "≠", "2.00 ×"]
    assert table["emb_dim"] == ["768", "768", "", ""]
    assert table["KV cache"][2:] == ["≠", "2.00 ×"]
    rate = table["tokens/s at most, Laptop (Ryzen 7 7840U, 16 GB)"]
    assert float(rate[3].removesuffix(" ×")) < 1
    assert re.findall(r'<tr class="differs"><td class="text"><bdi>(\w+)', found)[0] == "n_layers"


def test_what_looks_the_same_side_by_side_is_not_marked_as_different() -> None:
    """Biases alone: "396 | 396 | ≠ | 1.00 ×" stood at the tokens a second."""
    found = figures_of(GPTConfig(qkv_bias=True), compare="gpt2-small")["compare"]
    table = rows(found, "This configuration beside gpt2-small")
    assert table["parameters"][2] == "≠"
    rate, that, *marks = table["tokens/s at most, Laptop (Ryzen 7 7840U, 16 GB)"]
    assert (rate == that) == (marks == ["", ""])
    assert rate == that


def test_the_parts_of_a_stacked_bar_are_as_wide_as_their_share() -> None:
    html = stacked_bar_html({"a": 3, "b": 0, "c": 1}, "m", "{} x".format)
    bars = re.findall(r'x="([\d.]+)%" y="0" width="([\d.]+)%"', html)
    assert [(float(x), float(w)) for x, w in bars] == [(0, 75), (75, 25)]
    assert "a <b>75.0 %</b> <small>3 x</small>" in html
    assert "b <b>0 %</b>" in html


@pytest.mark.parametrize(("capacity", "line", "over"), [(8, 100, False), (2, 50, True)])
def test_a_meter_fills_or_overflows(capacity: float, line: float, over: bool) -> None:
    html = meter_html({"a": 3, "c": 1}, capacity, "M", "t")
    (x1, x2) = re.search(r'class="limit" x1="([\d.]+)%" x2="([\d.]+)%"', html).groups()
    assert float(x1) == float(x2) == line
    widths = [float(w) for w in re.findall(r'y="0" width="([\d.]+)%"', html)]
    assert sum(widths) == pytest.approx(100 * min(1, 4 / capacity))
    assert ("arch-meter over" in html) is over


def test_what_was_measured_stands_beside_what_was_computed() -> None:
    tiny = GPTConfig(97, 48, 24, 3, 2)
    total = count_parameters(tiny).total
    cache = memory.kv_cache(tiny, 1, 40).value
    found = Measured(
        prefill_tokens=16, prefill_flops=1000, decode_flops=10, parameters=total,
        parameter_bytes=8 * total, cache_bytes=int(cache), build_seconds=0.5, prefill_seconds=0.25,
        decode_seconds=[0.01] * 24,
    )  # fmt: skip
    html = result_html(tiny, found, workload_of(values_of(tiny), tiny))
    table = rows(html, "Times are computed for: Laptop")
    assert table["parameters"] == [f"{total:,}", f"{total:,}", "equal ✓"]
    assert table["bytes of the parameters"][2] == "2.00 ×"
    assert table["KV cache, 40 tokens"][2] == "equal ✓"
    assert table["prompt of 16 tokens"][1] == "250 ms"
    assert table["a decode step"][1] == "10.0 ms"
    assert "built in 500 ms; the prompt ran at 4.000 kFLOP/s; then 100 tokens a second" in html
