"""One visitor's continuation as it is written: its text, its tokens, its measurements."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from html import escape

from gpt.generate import Step, generate, plan
from gpt.model import GPTModel
from gpt.sampling import SamplingOptions
from gpt.tokenizer import Tokenizer
from gpt.ui.parts.chips import Chip, chips_html, token_title
from gpt.ui.parts.numbers import percent, seconds, significant

MAX_PROMPT_CHARACTERS = 50_000
STOPPED = {
    "max_new_tokens": "reached the number of tokens asked for",
    "stop_id": "the model wrote its end-of-text token",
}


@dataclass
class Continuation:
    """What one run has written so far, and what it measured; times are of the engine alone."""

    plan_notes: list[str]
    device: str
    steps: list[Step] = field(default_factory=list)
    text: str = ""
    engine_seconds: float = 0.0
    first_token_seconds: float = 0.0

    @property
    def tokens_per_second(self) -> float:
        """Rate after the first token, whose time is mostly the reading of the prompt."""
        later = self.engine_seconds - self.first_token_seconds
        return (len(self.steps) - 1) / later if later > 0 else 0.0


def continue_text(
    model: GPTModel, tokenizer: Tokenizer, prompt: str, options: SamplingOptions, device: str
) -> Iterator[Continuation]:
    """The same growing Continuation before the first token and after each one.

    Raises ValueError if the prompt is empty, too long to read, or outside the vocabulary.
    """
    ids = tokenizer.encode(checked_prompt(prompt))
    options = options.with_seed()
    run = Continuation(plan(model.cfg, len(ids), options.max_new_tokens).notes(), device)
    steps = generate(model, ids, options, stop_id=tokenizer.end_of_text_id)
    yield run
    decoder = tokenizer.stream()
    while True:
        started = time.perf_counter()
        step = next(steps, None)
        took = time.perf_counter() - started
        if step is None:
            break
        run.steps.append(step)
        run.engine_seconds += took
        run.first_token_seconds = run.first_token_seconds or took
        if step.stop != "stop_id":
            run.text += decoder.push(step.token_id)
        if step.stop is not None:
            run.text += decoder.finish()
        yield run


def checked_prompt(prompt: str) -> str:
    """`prompt` itself. Raises ValueError if it is empty or longer than the page accepts."""
    if not prompt:
        raise ValueError("The prompt is empty: write at least one character.")
    if len(prompt) > MAX_PROMPT_CHARACTERS:
        raise ValueError(
            f"The prompt has {len(prompt):,} characters: "
            f"use at most {MAX_PROMPT_CHARACTERS:,}, of which the newest tokens are read."
        )
    return prompt


def token_chips(steps: Sequence[Step], tokenizer: Tokenizer) -> str:
    """The new tokens as chips shaded by probability, each with what else could have come."""
    chips = []
    for position, step in enumerate(steps):
        known = step.token_id < tokenizer.vocab_size
        raw = tokenizer.token_bytes(step.token_id) if known else b""
        others = ", ".join(
            f"{_display(tokenizer, c.token_id)} {percent(c.probability)}"
            for c in step.candidates[:5]
        )
        drawn = "greedy" if step.uniform is None else f"drawn at {step.uniform:.4f}"
        extra = f"probability {percent(step.probability)}, {drawn}; best: {others}"
        chips.append(
            Chip(
                label=_display(tokenizer, step.token_id),
                title=token_title(position, step.token_id, raw, extra),
                shade=step.probability,
                special=step.token_id == tokenizer.end_of_text_id,
            )
        )
    if not chips:
        return ""
    hint = "Each new token, darker the more probable it was; hover or focus one for the others."
    return f'<p class="hint">{hint}</p>{chips_html(chips, label="New tokens")}'


def _display(tokenizer: Tokenizer, token_id: int) -> str:
    if token_id >= tokenizer.vocab_size:
        return f"⟨{token_id}⟩"
    return tokenizer.piece(token_id).display


def stats_html(run: Continuation, total_tokens: int) -> str:
    """One line of measurements, and a note for each thing that a visitor should know."""
    parts = []
    if run.steps:
        last = run.steps[-1]
        rate = f"{significant(run.tokens_per_second)} tokens/s" if len(run.steps) > 1 else ""
        parts = [
            f"{len(run.steps):,} of {total_tokens:,} tokens",
            rate,
            f"first token after {seconds(run.first_token_seconds)}",
            f"{last.context_tokens:,} tokens of context",
            f"seed {last.seed}",
            f"on {run.device}",
            f"ended: {STOPPED[last.stop]}" if last.stop else "",
        ]
    line = " · ".join(escape(part) for part in parts if part)
    notes = "".join(f'<p class="note">{escape(note)}</p>' for note in run.plan_notes)
    return f'<p class="stats">{line}</p>{notes}'
