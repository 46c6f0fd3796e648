"""The panel of a chosen token: the odds, the number that drew it, and another one in its place."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from gpt.generate import Step
from gpt.tokenizer import Tokenizer
from gpt.ui.parts.chips import display
from gpt.ui.parts.numbers import percent, significant
from gpt.ui.parts.sentences import say

LIKELIEST = "the likeliest"
HINT = say("Bluer: the model was surer. Choose a token to see what else could have come.", "hint")


def how_it_came(step: Step) -> str:
    """Why this token: chosen by the visitor, or as the likeliest, or drawn."""
    if step.rank is not None:
        return f"your choice; rank {step.rank:,} in the model's order"
    return LIKELIEST if step.uniform is None else f"drawn at u = {step.uniform:.4f}"


def panel_html(tokenizer: Tokenizer, step: Step, position: int, said: str = "") -> str:
    """The ten likeliest as bars, the token that came marked; the others can take its place."""
    name = f"“{display(tokenizer, step.token_id)}”"  # in quotes: it may be a comma
    how = how_it_came(step)
    why = " (temperature 0)" if how == LIKELIEST else ""
    heading = f"New token {position}: {name}, {percent(step.probability)}, {how}{why}"
    best = step.candidates[0].probability if step.candidates else 1.0
    zoom = 1.0 if best >= 0.02 else 1 / best
    shown = [(c.token_id, c.probability) for c in step.candidates]
    if step.token_id not in dict(shown):
        shown.append((step.token_id, step.probability))
    rows = "".join(_bar(tokenizer, *pair, pair[0] == step.token_id, zoom) for pair in shown)
    mass = max(0.0, 1 - sum(chance for _, chance in shown))
    count = step.kept - len(shown)
    tail = f"{count:,} other tokens: {percent(mass)}" if count > 0 else "No other token could come."
    if zoom > 1:
        tail += f". Bars are drawn {significant(zoom)} times as long: no token is likely here."
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
        f"has {step.below:.4f} to {end:.4f}, and u = {step.uniform:.4f} falls there."
    )
    return (
        f'<svg class="gen-draw" role="img" aria-label="{escape(said)}" viewBox="0 0 1000 14" '
        'preserveAspectRatio="none"><rect width="1000" height="14" class="rest"/>'
        f'<rect x="{1000 * step.below:.1f}" width="{max(2, 1000 * step.probability):.1f}" '
        f'height="14" class="part"/><rect x="{min(997, 1000 * step.uniform):.1f}" width="3" '
        f'height="14" class="dart"/></svg>{say(said, "hint")}'
    )


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
    left_out = ", left out by the filters" if probe.probability == 0 else ""
    result = "Right!" if probe.token_id == came.token_id else "The model's draw was another."
    return (
        f"Your guess “{display(tokenizer, ids[0])}”{part}: rank {probe.rank:,}, "
        f"{percent(probe.probability)}{left_out}. {result}"
    )
