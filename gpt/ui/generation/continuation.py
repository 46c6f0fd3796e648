"""A text while it is written, and each state that is kept of it; the panel of a chosen token."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from html import escape

from gpt.generate import Step
from gpt.tokenizer import Tokenizer
from gpt.ui.generation.settings import MAX_NEW_TOKENS
from gpt.ui.generation.wish import Wish
from gpt.ui.parts.bars import cumulative_bar
from gpt.ui.parts.chips import Chip, chip_html, display
from gpt.ui.parts.numbers import counted, percent, seconds, significant
from gpt.ui.parts.sentences import quoted, say
from gpt.ui.visit import Visit

AHEAD = 10  # tokens that a single step writes beyond what it shows: the next ones come at once
HINT = say(
    "Bluer: the model was surer. Choose a token to see what else could have come. With “Guess "
    "first”, “Next token” asks you before it tells.",
    "hint",
)
N_OTHERS = 3  # of the candidates, in a chip's tooltip; the panel has ten
ENDED = {
    "max_new_tokens": "stopped at your limit of {limit:,} tokens",
    "stop_id": "the model wrote its end-of-text token",
    "stop": "ended at your stop text",
}


class Continuation:
    """What one run has written so far: text and chips of the same steps, both only ever longer.

    It begins with the steps of a draft. Where that says how many are shown, those beyond are
    `ahead`, known and not shown, and no limit is told.
    """

    def __init__(self, begins: "Draft") -> None:
        self.steps: list[Step] = []
        self.ahead: list[Step] = []
        self.pieces: list[str] = []  # of the text, one a step
        self.text = ""
        self.stopped = False  # by the visitor
        self._asked, self._most = begins.asked, begins.shown
        self._limit = begins.asked.options.max_new_tokens if begins.shown is None else 0
        self._decoder = begins.asked.tokenizer.stream()
        self._chips: list[str] = []
        self._first_seconds = self._seconds = 0.0
        for step in begins.steps:
            self.add(0.0, step)
        self._known = len(self.steps)

    def add(self, seconds: float, step: Step) -> None:
        """One more step, which arrived so many seconds after the model began."""
        over = step.stop is not None
        if step.stop == "max_new_tokens":  # a longer run goes on there
            step = replace(step, stop=None)
        if len(self.steps) == self._most:
            self.ahead.append(step)
            return
        self.steps.append(step)
        piece = "" if step.stop == "stop_id" else self._decoder.push(step.token_id)
        self.pieces.append(piece)
        self.text += piece
        if over:
            self.finish()
        self._seconds = seconds
        self._first_seconds = self._first_seconds or seconds

    def finish(self) -> None:
        """It ends where it is: what still waits for the rest of a character is shown."""
        self.text += self._decoder.finish()

    @property
    def chips(self) -> str:
        """A chip for each step, as HTML; those of earlier steps are not made again."""
        for at in range(len(self._chips), len(self.steps)):
            self._chips.append(chip_html(at, token_chip(self._asked.tokenizer, self.steps[at], at)))
        return "".join(self._chips)

    def statistics(self) -> str:
        """One line of measurements; empty before the first token."""
        if not self.steps:
            return ""
        asked, last, count = self._asked, self.steps[-1], len(self.steps)
        told = last.stop or ("max_new_tokens" if count == self._limit else None)
        # After the first token, whose time is mostly the reading of the prompt.
        later = self._seconds - self._first_seconds
        rate = (len(self.steps) - self._known - 1) / later if later > 0 else 0.0
        parts = [
            f"{count:,} of {self._limit:,} tokens" if self._limit else counted(count, "token"),
            f"{significant(rate)} tokens/s" if rate else "",
            f"first token after {seconds(self._first_seconds)}" if self._first_seconds else "",
            f"{last.context_tokens:,} tokens of context",
            f"seed {last.seed}",
            f"by {asked.writer} on {asked.device}, {asked.precision}",
            ENDED.get(told, "").format(limit=self._limit),
            f"stopped by you after {counted(count, 'token')}" if self.stopped else "",
        ]
        return " · ".join(part for part in parts if part)

    def told_html(self) -> str:
        """The statistics and a line for each note, as HTML."""
        line = self.statistics() or ("Stopped before the first token." if self.stopped else "")
        notes = "".join(say(note, "note") for note in self._asked.notes)
        return f'<p class="stats">{escape(line)}</p>{notes}'  # an empty line keeps its height


@dataclass(frozen=True)
class Draft:
    """One state of a text: what was asked for, the steps that are known, and how many are shown.

    A run begins with one too: with `shown` None it shows all that comes. With `guess` the step
    after those that are shown must be known.
    """

    asked: Wish
    steps: tuple[Step, ...] = ()
    shown: int | None = None
    guess: bool = False
    told: str = ""  # the measurements of the run that wrote it, as HTML

    @property
    def done(self) -> bool:
        """Whether no run is needed: all that is to be shown is known."""
        return self.shown is not None and len(self.steps) >= self.shown + self.guess

    def going_on(self, limit: int, ahead: int = 0, guess: bool = False) -> "Draft":
        """More of the same text, to so many new tokens; `ahead` more are known, and not shown."""
        if self.shown and self.steps[self.shown - 1].stop is not None:
            raise ValueError("the text has ended here: use another token in its place, or Back.")
        if limit > MAX_NEW_TOKENS:
            raise ValueError(f"the text would have {limit:,} tokens: use at most {MAX_NEW_TOKENS}.")
        asked = self.asked.with_options(max_new_tokens=limit)
        shown = limit - guess if ahead else None
        return Draft(asked, self.steps[: limit + ahead], shown, guess)

    def guess_ids(self, text: str) -> list[int]:
        """The tokens of a guess, as a new word where the text does not end with a space.

        Raises ValueError if it has none.
        """
        before = self.asked.prompt + self.written().text
        text = text if before[-1:].isspace() or text[:1].isspace() else f" {text}"
        if not text.strip():
            raise ValueError("the guess is empty: type a word.")
        return self.asked.tokenizer.encode(text[:60])

    def written(self) -> Continuation:
        """What the page shows of it."""
        written = Continuation(self)
        written.finish()
        return written

    def visit(self, position: int | None = None) -> Visit:
        """What all tabs know of it; `position` is that of a new token, if one was chosen."""
        asked, new = self.asked, [step.token_id for step in self.steps[: self.shown]]
        return Visit(
            model=asked.source,
            prompt=asked.prompt,
            settings=asked.settings,
            seed=asked.options.seed,
            steering=tuple(pair for pair in asked.options.steering if pair[0] < len(new)),
            tokens=len(new),
            position=None if position is None else len(asked.ids) + position,
            ids=(*asked.ids, *new),
        )


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
    special = step.token_id == tokenizer.end_of_text_id
    return Chip(label, "\n".join(lines), shade=step.probability, special=special)


def how_it_came(step: Step) -> str:
    """Why this token: chosen by the visitor, or as the likeliest, or drawn."""
    if step.rank is not None:
        return f"your choice; rank {step.rank:,} in the model's order"
    return "the likeliest" if step.uniform is None else f"drawn at random, u = {step.uniform:.4f}"


def panel_html(tokenizer: Tokenizer, step: Step, position: int, said: str = "") -> str:
    """The ten likeliest as bars, the token that came marked; the others can take its place."""
    name = quoted(display(tokenizer, step.token_id))
    why = " (temperature 0)" if step.rank is None and step.uniform is None else ""
    heading = (
        f"New token {position}, counted from 0: {name}, {percent(step.probability)}, "
        f"{how_it_came(step)}{why}"
    )
    best = step.candidates[0].probability if step.candidates else 1.0
    zoom = 1.0 if best >= 0.02 else 1 / best
    shown = [(c.token_id, c.probability) for c in step.candidates]
    if step.token_id not in dict(shown):
        shown.append((step.token_id, step.probability))
    rows = "".join(_bar(tokenizer, *pair, pair[0] == step.token_id, zoom) for pair in shown)
    mass = max(0.0, 1 - sum(chance for _, chance in shown))
    count = step.kept - len(shown)
    tail = f"{count:,} other tokens: {percent(mass)}." if count > 0 else "No other token was left."
    filters = "after Temperature, Top-k, Top-p and Min-p"
    tail += f" Odds {'of the model itself' if step.uniform is None else filters}."
    if zoom > 1:
        tail += f" Bars are drawn {significant(zoom)} times as long: no token is likely here."
    return (
        f'{say(said, "note")}<p class="head" data-at="{position}"><b>{escape(heading)}</b> '
        '<button type="button" id="gen-why">Why this word?</button></p>'
        f'<div id="gen-use">{rows}</div>{say(tail, "hint")}{_draw(step, name)}'
    )


def _bar(tokenizer: Tokenizer, token_id: int, chance: float, here: bool, zoom: float) -> str:
    name = escape(display(tokenizer, token_id))
    inside = (
        f'<bdi>{name}</bdi><i style="--p:{min(1, zoom * chance):.4f}"></i>'
        f"<span>{percent(chance)}</span>"
    )
    if here:
        return f'<div class="gen-bar here">{inside}<em>came</em></div>'
    return (
        f'<button type="button" class="gen-bar gen-use" data-token="{token_id}" '
        f'aria-label="Use {name}, {percent(chance)}, instead" title="Use this instead">{inside}'
        "<em>use this</em></button>"
    )


def _draw(step: Step, name: str) -> str:
    """The number on the line of all tokens, in the order of their ids, as the code draws."""
    if step.below is None or step.uniform is None:
        return ""
    end = step.below + step.probability
    said = (
        f"All tokens side by side in the order of their ids, each as wide as it is likely: {name} "
        f"has {step.below:.4f} to {end:.4f}, and the random number u = {step.uniform:.4f} falls "
        "there."
    )
    places = ("lower ids", step.below, "many"), (name, step.probability, "one")
    bar = cumulative_bar([*places, ("higher ids", 1 - end, "many")], step.uniform)
    return bar + say(said, "hint")


def guess_html(tokenizer: Tokenizer, step: Step) -> str:
    """What could come, without its odds, and a box for the visitor's own guess."""
    names = sorted((display(tokenizer, c.token_id), c.token_id) for c in step.candidates)
    picks = "".join(
        f'<button type="button" data-guess="{token_id}"><bdi>{escape(name)}</bdi></button>'
        for name, token_id in names
    )
    return (
        '<form id="gen-guess-form"><label><b>What comes next?</b> Type a word, or pick one: '
        '<input name="guess" maxlength="60" autocomplete="off" required></label>'
        f'<button>Guess</button></form><div id="gen-picks">{picks}</div>'
    )


def guessed(tokenizer: Tokenizer, ids: Sequence[int], probe: Step, came: Step) -> str:
    """A guess beside what came; `probe` is the step in which the guess was put in."""
    part = " (its first token)" if len(ids) > 1 else ""
    left_out = ", left out by Top-k, Top-p or Min-p" if probe.probability == 0 else ""
    result = "Right!" if probe.token_id == came.token_id else "The model's draw was another."
    return (
        f"Your guess {quoted(display(tokenizer, ids[0]))}{part}: rank {probe.rank:,}, "
        f"{percent(probe.probability)}{left_out}. {result}"
    )
