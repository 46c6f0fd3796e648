"""Operations and times as the tab shows them: parts, tokens, rules of thumb, machines."""

from __future__ import annotations

from gpt.accounting import operations as compute
from gpt.accounting.machines import DEVICES, Device
from gpt.config import GPTConfig
from gpt.ui.architecture.job import Job
from gpt.ui.architecture.tables import (
    Cell,
    Row,
    Share,
    note_html,
    stacked_bar_html,
    table_html,
)
from gpt.ui.parts.numbers import percent, seconds, significant

COUNTED = (
    "One FLOP is one multiplication or one addition. Counted are the matrix products, exactly as "
    "torch.utils.flop_counter counts them; norms, softmax and GELU are small beside them."
)
LETTERS = (
    "b is the batch, t the new tokens, s the tokens seen with them, n the positions scored; "
    "d emb_dim, h n_heads, e = d / h."
)
ROOFLINE = (
    "The least time a machine can need: the larger of operations / peak and bytes / bandwidth. "
    "Real programs reach a part of it; “Measured here” shows how much."
)
_SCALES = ((10**24, "YFLOP"), (10**21, "ZFLOP"), (10**18, "EFLOP"), (10**15, "PFLOP"))
_SMALL_SCALES = ((10**12, "TFLOP"), (10**9, "GFLOP"), (10**6, "MFLOP"), (10**3, "kFLOP"))


def flop_text(value: float) -> str:
    """Operations with four digits and a unit that fits: `291.6 GFLOP`."""
    for size, unit in (*_SCALES, *_SMALL_SCALES):
        if value >= size:
            return f"{significant(value / size, 4)} {unit}"
    return f"{significant(value, 4)} FLOP"


def compute_html(cfg: GPTConfig, job: Job) -> str:
    """The bar and table of a forward pass, then tokens, rules and machines."""
    forward = compute.forward(cfg, job.batch, job.tokens)
    shares = [Share(part.name, part.value, flop_text(part.value)) for part in forward.parts]
    largest = max(shares, key=lambda share: share.value)
    message = (
        f"A forward pass over {job.batch:,} × {job.tokens:,} tokens takes "
        f"{flop_text(forward.total)}; the most goes into {largest.name}, "
        f"{percent(largest.value / forward.total)}."
    )
    return "".join(
        (
            note_html(job.cut, "note") if job.cut else "",
            stacked_bar_html(shares, message),
            note_html(f"{COUNTED} {LETTERS}"),
            _parts_table(forward, cfg, job),
            _tokens_table(cfg, job),
            _rules_table(cfg, job),
        )
    )


def times_html(cfg: GPTConfig, job: Job) -> str:
    """Expected times on the four machines, the chosen one first in a sentence."""
    prefill = compute.prefill(cfg, job.batch, job.tokens, job.precision, job.device)
    step = compute.decode_step(cfg, job.batch, job.tokens, job.precision, job.device)
    sentence = (
        f"{job.device.label}: the prompt takes at least {seconds(prefill.seconds)} (bound by "
        f"{prefill.bound}), then at most {significant(job.batch / step.seconds)} tokens a second "
        f"(bound by {step.bound}: {significant(step.traffic_bytes / 1e6)} MB read a step)."
    )
    rows = [_machine_row(cfg, job, each) for each in DEVICES]
    headers = ("machine", "prompt", "limited by", "tokens/s", "limit of tokens", "training")
    caption = (
        f"At best, in {job.precision}; training on {readable_tokens(job.train_tokens)} tokens at "
        f"{percent(job.utilisation)} of the 16-bit peak"
    )
    sources = " · ".join(f"{each.label}: {each.source}" for each in DEVICES)
    return (
        note_html(sentence, "note")
        + table_html(headers, rows, caption)
        + note_html(ROOFLINE)
        + note_html(f"Peaks from: {sources}. Collected in November 2026.")
    )


def readable_tokens(tokens: float) -> str:
    """A number of tokens in words: 2.50 billion."""
    for size, word in ((10**12, "trillion"), (10**9, "billion"), (10**6, "million")):
        if tokens >= size:
            return f"{significant(tokens / size)} {word}"
    return f"{tokens:,.0f}"


def duration(days: float) -> str:
    """Days of training in a unit that fits: hours below two, years above 1,000."""
    if days < 2:
        return seconds(days * 86_400) if days < 1 / 24 else f"{significant(days * 24)} hours"
    return f"{significant(days)} days" if days <= 1_000 else f"{significant(days / 365.25)} years"


def _parts_table(forward: compute.Operations, cfg: GPTConfig, job: Job) -> str:
    rows = [
        Row(
            (
                Cell(part.name),
                Cell(part.formula, "code"),
                Cell(part.numbers, "code"),
                Cell(flop_text(part.value), "number"),
                Cell(percent(part.value / forward.total), "number"),
            )
        )
        for part in forward.parts
    ]
    backward = compute.backward_flops(cfg, job.batch, job.tokens)
    for name, formula, value in (
        ("Forward", "sum of the parts", forward.total),
        ("Backward", "2 × forward: each product has two gradients", backward),
        ("Forward and backward", "3 × forward", forward.total + backward),
    ):
        cells = (Cell(name), Cell(formula), Cell(""), Cell(flop_text(value), "number"), Cell(""))
        rows.append(Row(cells, "total"))
    headers = ("part", "formula", "with these numbers", "operations", "share of forward")
    return table_html(headers, rows, "Matrix products of one forward pass, and of training")


def _tokens_table(cfg: GPTConfig, job: Job) -> str:
    seen = job.tokens
    cached = compute.forward(cfg, 1, 1, past_tokens=seen - 1).total
    whole = compute.forward(cfg, 1, seen).total
    rows = [
        _plain("with a cache", f"1 new token over {seen:,} seen", flop_text(cached), "1 ×"),
        _plain(
            "without a cache, as the book's loop",
            f"all {seen:,} tokens again, every position scored",
            flop_text(whole),
            f"{significant(whole / cached)} ×",
        ),
    ]
    headers = ("the next token", "what is computed", "operations", "compared")
    return table_html(headers, rows, f"One more token after {seen - 1:,}, batch 1")


def _rules_table(cfg: GPTConfig, job: Job) -> str:
    rows = []
    for rule in compute.rules_of_thumb(cfg, job.batch, job.tokens):
        off = significant(100 * (rule.ratio - 1))
        sign = "" if off.startswith("−") or off == "0" else "+"
        rows.append(
            _plain(rule.name, flop_text(rule.rule), flop_text(rule.counted), f"{sign}{off} %")
        )
    headers = ("rule of thumb", "rule", "counted", "off by")
    caption = (
        f"For {job.batch:,} × {job.tokens:,} tokens: 2 N and 6 N miss attention's two products, "
        "and N counts tables that are only looked up"
    )
    return table_html(headers, rows, caption)


def _machine_row(cfg: GPTConfig, job: Job, each: Device) -> Row:
    prefill = compute.prefill(cfg, job.batch, job.tokens, job.precision, each)
    step = compute.decode_step(cfg, job.batch, job.tokens, job.precision, each)
    days = compute.training_days(cfg, job.train_tokens, job.utilisation, each)
    return Row(
        (
            Cell(each.label, "strong" if each == job.device else ""),
            Cell(seconds(prefill.seconds), "number"),
            Cell(prefill.bound),
            Cell(significant(job.batch / step.seconds), "number"),
            Cell(step.bound),
            Cell(duration(days), "number"),
        )
    )


def _plain(name: str, what: str, number: str, compared: str) -> Row:
    return Row((Cell(name), Cell(what), Cell(number, "number"), Cell(compared, "number")))
