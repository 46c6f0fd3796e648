"""One run's continuation as it is written: its text, its tokens as chips, its measurements."""

from __future__ import annotations

from html import escape

from gpt.generate import Step
from gpt.tokenizer import Tokenizer
from gpt.ui.generation.panel import how_it_came
from gpt.ui.generation.wish import Wish
from gpt.ui.parts.chips import Chip, chip_html, display
from gpt.ui.parts.numbers import counted, percent, seconds, significant
from gpt.ui.parts.sentences import say

N_OTHERS = 3  # of the candidates, in a chip's tooltip; the panel has ten
ENDED = {
    "max_new_tokens": "stopped at your limit of {limit:,} tokens",
    "stop_id": "the model wrote its end-of-text token",
    "stop": "ended at your stop text",
}


class Continuation:
    """What one run has written so far: text and chips of the same steps, both only ever longer.

    Of at most `most` steps: those beyond are `ahead`, known and not shown, and no limit is told.
    """

    def __init__(self, asked: Wish, most: int | None = None) -> None:
        self.steps: list[Step] = []
        self.ahead: list[Step] = []
        self.pieces: list[str] = []  # of the text, one a step
        self.text = ""
        self.stopped = False  # by the visitor
        self._asked, self._most = asked, most
        self._limit = asked.options.max_new_tokens if most is None else 0
        self._decoder = asked.tokenizer.stream()
        self._chips, self._n_chips = "", 0
        self._first_seconds = self._seconds = 0.0
        self._known = 0  # steps that were there before

    def add(self, seconds: float, step: Step) -> None:
        """One more step, which arrived so many seconds after the model began."""
        if len(self.steps) == self._most:
            self.ahead.append(step)
            return
        self.steps.append(step)
        piece = "" if step.stop == "stop_id" else self._decoder.push(step.token_id)
        self.pieces.append(piece)
        self.text += piece
        if step.stop is not None:
            self.text += self._decoder.finish()
        self._known += seconds == 0
        self._seconds = seconds
        self._first_seconds = self._first_seconds or seconds

    def stop(self, by_visitor: bool = True) -> None:
        """Ends it where it is; what still waits for the rest of a character is shown."""
        self.stopped = by_visitor
        self.text += self._decoder.finish()

    @property
    def chips(self) -> str:
        """A chip for each step, as HTML; those of earlier steps are not made again."""
        new = enumerate(self.steps[self._n_chips :], self._n_chips)
        chips = [chip_html(at, token_chip(self._asked.tokenizer, step, at)) for at, step in new]
        self._chips += "".join(chips)
        self._n_chips = len(self.steps)
        return self._chips

    @property
    def ended(self) -> bool:
        """Whether the last step is there."""
        last = (self.ahead or self.steps)[-1:]
        return bool(last) and last[0].stop is not None

    @property
    def tokens_per_second(self) -> float:
        """Rate after the first token, whose time is mostly the reading of the prompt."""
        later = self._seconds - self._first_seconds
        return (len(self.steps) - self._known - 1) / later if later > 0 else 0.0

    def statistics(self) -> str:
        """One line of measurements; empty before the first token."""
        if not self.steps:
            return ""
        last, count = self.steps[-1], len(self.steps)
        told = last.stop if self._limit or last.stop != "max_new_tokens" else None
        parts = [
            f"{count:,} of {self._limit:,} tokens" if self._limit else counted(count, "token"),
            f"{significant(self.tokens_per_second)} tokens/s" if self.tokens_per_second else "",
            f"first token after {seconds(self._first_seconds)}" if self._first_seconds else "",
            f"{last.context_tokens:,} tokens of context",
            f"seed {last.seed}",
            f"by {self._asked.writer} on {self._asked.where}",
            ENDED.get(told, "").format(limit=self._limit),
            f"stopped by you after {counted(count, 'token')}" if self.stopped else "",
        ]
        return " · ".join(part for part in parts if part)

    def told(self) -> str:
        """The statistics and a line for each note, as plain text."""
        return "\n".join([self.statistics(), *self._asked.notes])

    def told_html(self) -> str:
        """The statistics and a line for each note, as HTML."""
        line = self.statistics() or ("Stopped before the first token." if self.stopped else "")
        notes = "".join(say(note, "note") for note in self._asked.notes)
        return f'<p class="stats">{escape(line)}</p>{notes}'  # an empty line keeps its height


def token_chip(tokenizer: Tokenizer, step: Step, position: int) -> Chip:
    """A new token, shaded by its probability, with what else could have come."""
    known = step.token_id < tokenizer.vocab_size
    raw = tokenizer.token_bytes(step.token_id) if known else b""
    others = [c for c in step.candidates if c.token_id != step.token_id][:N_OTHERS]
    label = display(tokenizer, step.token_id)
    instead = (f"{display(tokenizer, c.token_id)} {percent(c.probability)}" for c in others)
    lines = (
        f"{label}  {percent(step.probability)}, {how_it_came(step)}",
        f"Instead: {', '.join(instead)}" if others else "Nothing else was possible.",
        f"new token {position}, id {step.token_id:,}, hexadecimal bytes {raw[:16].hex(' ')}",
    )
    return Chip(
        label=label,
        title="\n".join(lines),
        shade=step.probability,
        special=step.token_id == tokenizer.end_of_text_id,
    )
