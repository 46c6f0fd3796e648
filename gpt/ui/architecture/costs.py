"""Memory, operations and times as the tab shows them, with formulas, on four machines; of two."""

from collections.abc import Callable
from typing import Any

from gpt.accounting import count_parameters, memory, operations
from gpt.accounting.machines import DEVICES, Device
from gpt.config import GPTConfig
from gpt.ui.architecture.controls import LABELS, Workload
from gpt.ui.parts.bars import meter_html, stacked_bar_html
from gpt.ui.parts.numbers import mib_and_mb, percent, seconds, signed, significant
from gpt.ui.parts.sentences import say
from gpt.ui.parts.table import Column, code_column, shown, table_html

UNITS = (
    "MiB is 2²⁰ bytes and GiB 2³⁰; MB is 10⁶ and GB 10⁹. The book's “621.83 MB” for the 124M model "
    "is MiB. Machines are sold in GB."
)
MEMORY_LETTERS = (
    "P is the number of parameters: M in matrices that are multiplied (attention, feed-forward, "
    "head), which have R rows, E in the token embedding, N the rest; b is the batch, s the tokens "
    "seen, t the tokens of a pass, n the positions scored; d emb_dim, h n_heads."
)
MEMORY_COLUMNS = (
    "what", Column("size", mib_and_mb), code_column("formula in bytes"),
    code_column("with these numbers"), "note",
)  # fmt: skip
FLOP_LETTERS = (
    "One FLOP is one multiplication or one addition. Counted are the matrix products, exactly as "
    "torch.utils.flop_counter counts them; norms, softmax and GELU are small beside them. b is the "
    "batch, t the new tokens, s the tokens seen with them, n the positions scored; d emb_dim, h "
    "n_heads, e = d / h."
)
ROOFLINE = (
    "The least time a machine can need: the larger of operations / peak and bytes / bandwidth. "
    "Of a prompt, what follows the last block's keys and values is computed for its last token "
    "only. Real programs reach a part of it; “Measured here” shows how much."
)
ASIDE = "Memory is left aside in these times: to generate, the model does not fit"


def memory_html(cfg: GPTConfig, load: Workload) -> str:
    """Two stacked bars with the four machines under each, then the table of every amount."""
    passed = cfg, load.batch, load.tokens
    run, on_gpu = (_to_generate(cfg, load, is_gpu) for is_gpu in (False, True))
    states = [memory.training_state(cfg, each) for each in memory.TRAINING_STATES]
    kept = [
        memory.kept_in_bfloat16(*passed),
        memory.kept_in_bfloat16(*passed, recompute=True),
        memory.kept_by_training(*passed, "float32"),
        memory.kept_by_training(*passed, "bfloat16"),
    ]
    groups = {
        "Weights": [memory.weights(cfg, each) for each in memory.PRECISIONS],
        "While running": run[1:],
        "State of training": states,
        "Activations of training": kept,
    }
    train = {states[0].name: states[0].value, f"activations, {_named(kept[0])}": kept[0].value}
    what = f"batch {load.batch:,}, {load.tokens:,} tokens"
    return (
        say(load.cut, "note")
        + _against_machines(f"To generate ({what}, {load.precision})", *map(_sizes, (run, on_gpu)))
        + _against_machines(f"To train with AdamW in mixed precision ({what})", train, train)
        + say(UNITS, "hint")
        + _memory_table(groups, load.precision, f"Memory for {what}")
        + say(MEMORY_LETTERS, "hint")
    )


def _to_generate(cfg: GPTConfig, load: Workload, on_gpu: bool) -> list[memory.Amount]:
    """What generating needs: the weights first."""
    passed = cfg, load.batch, min(load.tokens, cfg.context_length)
    return [
        memory.weights(cfg, load.precision),
        memory.kv_cache(*passed, load.precision, on_gpu),
        memory.forward_activations(*passed),
    ]


def _sizes(parts: list[memory.Amount]) -> dict[str, float]:
    weights, *running = parts
    return {f"weights, {LABELS[weights.name]}": weights.value} | {
        _named(part): part.value for part in running
    }


def _without_room(cfg: GPTConfig, load: Workload) -> list[Device]:
    """The machines whose memory cannot hold what generating takes."""
    return [
        each
        for each in DEVICES.values()
        if sum(part.value for part in _to_generate(cfg, load, each.is_gpu)) > each.memory_bytes
    ]


def _named(part: memory.Amount) -> str:
    return part.name + " (estimate)" * part.estimate


def _against_machines(title: str, sizes: dict[str, float], on_gpu: dict[str, float]) -> str:
    """The bar of `sizes`, on a CPU, and how each of the machines is filled."""
    total, meters, fits = sum(sizes.values()), "", 0
    for each in DEVICES.values():
        own = on_gpu if each.is_gpu else sizes
        used = sum(own.values()) / each.memory_bytes
        fits += used <= 1
        text = f"{percent(used)} of its memory"
        if used > 1:
            text = f"does not fit: {significant(used)} × its memory"
        meters += meter_html(own, each.memory_bytes, each.label, text)
    cpu = " on a CPU" * (on_gpu != sizes)
    message = f"{title}: {mib_and_mb(total)}{cpu}, fits {fits} of {len(DEVICES)} machines."
    return stacked_bar_html(sizes, message, mib_and_mb) + meters


def _memory_table(groups: dict[str, list[memory.Amount]], precision: str, caption: str) -> str:
    rows: list[tuple[object, ...]] = []
    kinds = {}
    for title, parts in groups.items():
        kinds[len(rows)] = "group"
        rows.append((title, None, "", "", ""))
        for part in parts:
            if part.name == precision:
                kinds[len(rows)] = "marked"
            note = f"estimate: {part.note}" if part.estimate else part.note
            name = LABELS.get(part.name, part.name)
            rows.append((name, part.value, part.formula, part.numbers, note))
    return table_html(MEMORY_COLUMNS, rows, caption, kinds=kinds)


def flop_text(value: float) -> str:
    """Operations with four digits and a unit that fits: `291.6 GFLOP`."""
    for power, unit in zip(range(8, 0, -1), "YZEPTGMk", strict=True):
        if value >= 1000**power:
            return f"{significant(value / 1000**power, 4)} {unit}FLOP"
    return f"{significant(value, 4)} FLOP"


def operations_html(cfg: GPTConfig, load: Workload) -> str:
    """The bar and table of a forward pass, then tokens and rules."""
    forward = operations.forward(cfg, load.batch, load.tokens)
    sizes = {part.name: part.value for part in forward}
    largest = max(sizes, key=sizes.__getitem__)
    message = (
        f"A forward pass over {load.batch:,} × {load.tokens:,} tokens takes "
        f"{flop_text(forward.total)}; the most goes into {largest}, "
        f"{percent(sizes[largest] / forward.total)}."
    )
    return (
        say(load.cut, "note")
        + stacked_bar_html(sizes, message, flop_text)
        + say(FLOP_LETTERS, "hint")
        + _parts_table(forward)
        + _tokens_table(cfg, load)
        + _rules_table(cfg, load)
    )


def times_html(cfg: GPTConfig, load: Workload) -> str:
    """Expected times on the four machines, the chosen one first in a sentence."""
    columns = (
        "machine", Column("peak", lambda flops: f"{flop_text(flops)}/s"),
        Column("bandwidth", lambda n_bytes: f"{significant(n_bytes / 1e9)} GB/s"),
        Column("prompt", seconds), "limited by",
        Column("tokens/s"), "limit of tokens", Column("training", duration),
    )  # fmt: skip
    rows, tokens = [], load.tokens
    for each in DEVICES.values():
        prefill = operations.roofline(cfg, load.batch, tokens, tokens, load.precision, each)
        step = operations.roofline(cfg, load.batch, 1, tokens, load.precision, each)
        days = operations.training_days(cfg, load.train_tokens, load.utilisation, each)
        rate = load.batch / step.seconds
        peak = each.peak_flops[load.precision], each.bandwidth_bytes
        rows.append((each.label, *peak, prefill.seconds, prefill.bound, rate, step.bound, days))
        if each == load.device:
            chosen = len(rows) - 1
            sentence = (
                f"{each.label}: the prompt takes at least {seconds(prefill.seconds)} (bound by "
                f"{prefill.bound}), then at most {significant(rate)} tokens a second (bound by "
                f"{step.bound}), reading {mib_and_mb(step.traffic_bytes)} a step."
            )
    caption = (
        f"At best, in {load.precision}; training on {readable_count(load.train_tokens)} tokens at "
        f"{percent(load.utilisation)} of the peak in float16 or bfloat16, the higher one"
    )
    small = ", ".join(each.label for each in _without_room(cfg, load))
    told = f"{ASIDE} {small}." if small else ""
    sources = " · ".join(f"{each.label}: {each.source}" for each in DEVICES.values())
    return (
        say(sentence, "note")
        + say(told, "note")
        + table_html(columns, rows, caption, kinds={chosen: "marked"})
        + say(ROOFLINE, "hint")
        + say(f"Peaks from: {sources}. Collected in November 2026.", "hint")
    )


def side_by_side_html(here: GPTConfig, other: GPTConfig, name: str, load: Workload) -> str:
    """A table of `here` and `other`; rows that differ as shown carry ≠ and the ratio."""
    rows, others = [], _settings_and_costs(other, load)
    for what, (value, show) in _settings_and_costs(here, load).items():
        that, ratio = others[what][0], ""
        differs = show(value) != show(that)
        if differs and what not in ("drop_rate", "qkv_bias", "tie_weights"):
            ratio = f"{significant(value / that)} ×"
        rows.append((what, show(value), show(that), "≠" * differs, ratio))
    different = sum(here[field] != other[field] for field in here)
    message = f"{different} of 8 settings differ." if different else "The settings are the same."
    told = " ".join(
        f"{load.device.label} cannot hold {which}: its tokens a second leave memory aside."
        for cfg, which in ((here, "this one"), (other, name))
        if load.device in _without_room(cfg, load)
    )
    columns = (
        "setting or cost", Column("this one"), Column(name), "differs",
        Column("this / that"),
    )  # fmt: skip
    kinds = {index: "differs" for index, row in enumerate(rows) if row[3]}
    caption = f"This configuration beside {name}"
    table = table_html(columns, rows, caption, kinds=kinds)
    return say(message, "note") + say(told, "note") + table


def _settings_and_costs(cfg: GPTConfig, load: Workload) -> dict[str, tuple[Any, Callable]]:
    """By name: a value, and what writes it; costs are of the workload cut to the context."""
    batch, tokens = load.batch, min(load.tokens, cfg.context_length)
    step = operations.roofline(cfg, batch, 1, tokens, load.precision, load.device)
    count = count_parameters(cfg)
    cache = memory.kv_cache(cfg, batch, tokens, load.precision, load.device.is_gpu).value
    weights = memory.weights(cfg, load.precision).value
    return {
        **{field: (value, shown) for field, value in cfg.items()},
        "head_dim": (cfg.head_dim, shown),
        "parameters": (count.total, shown),
        "parameters of a block": (count.block, shown),
        f"weights in {load.precision}": (weights, mib_and_mb),
        "KV cache": (cache, mib_and_mb),
        "forward pass": (operations.forward(cfg, batch, tokens).total, flop_text),
        f"tokens/s at most, {load.device.label}": (batch / step.seconds, significant),
    }


def readable_count(count: float) -> str:
    """A number in words: 163 million, 2.50 billion, 1.01 trillion."""
    for size, word in ((10**12, "trillion"), (10**9, "billion"), (10**6, "million")):
        if count >= size:
            return f"{significant(count / size)} {word}"
    return f"{count:,.0f}"


def duration(days: float) -> str:
    """Days of training in a unit that fits: hours below two, years above 1,000."""
    if days < 2:
        return seconds(days * 86_400) if days < 1 / 24 else f"{significant(days * 24)} hours"
    return f"{significant(days)} days" if days <= 1_000 else f"{significant(days / 365.25)} years"


def _parts_table(forward: operations.Operations) -> str:
    total = forward.total
    rows = [(p.name, p.value, p.value / total, p.formula, p.numbers) for p in forward]
    kinds = {len(rows) + index: "total" for index in range(3)}
    rows += [
        ("Forward", total, None, "", "sum of the parts"),
        ("Backward", 2 * total, None, "", "2 × forward: each product has two gradients"),
        ("Forward and backward", 3 * total, None, "", "3 × forward"),
    ]
    columns = (
        "part", Column("operations", flop_text), Column("share of forward", percent),
        code_column("formula"), code_column("with these numbers"),
    )  # fmt: skip
    caption = "Matrix products of one forward pass, and of training"
    return table_html(columns, rows, caption, kinds=kinds)


def _tokens_table(cfg: GPTConfig, load: Workload) -> str:
    seen = load.tokens
    cached = operations.forward(cfg, 1, 1, past_tokens=seen - 1).total
    whole = operations.forward(cfg, 1, seen).total
    again = f"all {seen:,} tokens again, every position scored"
    rows = [
        ("with a KV cache", f"1 new token over {seen:,} seen", cached, 1),
        ("without, as the book's loop", again, whole, whole / cached),
    ]
    columns = (
        "the next token", "what is computed",
        Column("operations", flop_text), Column("compared", lambda x: f"{significant(x)} ×"),
    )  # fmt: skip
    return table_html(columns, rows, f"One more token after {seen - 1:,}, batch 1")


def _rules_table(cfg: GPTConfig, load: Workload) -> str:
    rows = [
        (name, rule, counted, rule / counted - 1)
        for name, rule, counted in operations.rules_of_thumb(cfg, load.batch, load.tokens)
    ]
    columns = (
        "rule of thumb", Column("rule", flop_text), Column("counted", flop_text),
        Column("off by", lambda share: f"{signed(100 * share)} %"),
    )  # fmt: skip
    caption = (
        f"For {load.batch:,} × {load.tokens:,} tokens: 2 N and 6 N miss attention's two products, "
        "and N counts tables that are only looked up"
    )
    return table_html(columns, rows, caption)
