"""Text to tokens: the prompt's chips, coloured by how surprised the model was by each."""

from __future__ import annotations

import math

from gpt.internals.run import Run
from gpt.internals.surprise import foreseen, loss
from gpt.ui.internals.lab import Lab, State
from gpt.ui.internals.sections import KEEP_FOCUS_JS
from gpt.ui.internals.tables import say
from gpt.ui.parts.chips import Chip, chips_html, token_title
from gpt.ui.parts.numbers import percent, significant

CHIP_JS = """
element.addEventListener('click', (event) => {
  const chip = event.target.closest('[data-position]');
  if (chip) trigger('select', {position: Number(chip.dataset.position)});
});
""" + KEEP_FOCUS_JS.replace("KEY", "data-position")


def prompt_chips(lab: Lab, state: State) -> str:
    """The prompt's tokens as buttons, shaded by surprisal, the chosen position pressed; HTML."""
    run = lab.run(state)
    seen = {entry.position: entry for entry in foreseen(run.logits, run.ids)}
    worst = math.log(run.cfg.vocab_size)  # the surprisal of a token under a uniform guess
    chips = []
    for at, token_id in enumerate(run.ids):
        entry = seen.get(at)
        extra, shade = "the first token: nothing came before it", None
        if entry is not None:
            extra = (
                f"probability {percent(entry.probability)}, rank {entry.rank:,}, "
                f"surprisal {significant(entry.surprisal)} nats"
            )
            shade = entry.surprisal / worst if worst > 0 else 0.0
        title = token_title(at, token_id, lab.raw(token_id), extra)
        chips.append(Chip(lab.piece(token_id), title, shade, lab.is_special(token_id)))
    row = chips_html(chips, "tokens of the prompt", selected=state["position"])
    return row + _legend(run, worst)


def prompt_message(lab: Lab, state: State) -> str:
    """One sentence: how many tokens, which model, loss and perplexity of the prompt; HTML."""
    run = lab.run(state)
    mean = loss(foreseen(run.logits, run.ids))
    count = len(run.ids)
    text = f"{count} {'token' if count == 1 else 'tokens'}, float32, eval mode. "
    if mean is None:
        return say(text + "A single token has no loss: nothing came before it to foresee it.")
    return say(
        text + f"The model's loss on this prompt is {significant(mean)} nats a token, perplexity "
        f"e^{significant(mean)} = {significant(math.exp(min(mean, 700)))}; an even guess over "
        f"{run.cfg.vocab_size:,} tokens would have {significant(math.log(run.cfg.vocab_size))}."
    )


def _legend(run: Run, worst: float) -> str:
    if len(run.ids) < 2:
        return ""
    return (
        '<p class="legend"><span class="ramp"></span> surprisal of each token: white 0, full '
        f"colour {significant(worst)} nats or more (an even guess). Click a token to look at the "
        "prediction made there.</p>"
    )
