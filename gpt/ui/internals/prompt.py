"""Text to tokens: the prompt's chips, darker the more probable the model found each."""

from __future__ import annotations

import math

from gpt.internals.surprise import foreseen, loss
from gpt.ui.internals.lab import Lab, Visit
from gpt.ui.parts.chips import Chip, chips_html, token_title
from gpt.ui.parts.numbers import counted, percent, significant
from gpt.ui.parts.sentences import say

LEGEND = (
    '<p class="legend"><span class="ramp"></span> probability of each token, 0 to 100 %, given the '
    "text before it. Click a token to look at the prediction made there.</p>"
)


def prompt_chips(lab: Lab, visit: Visit) -> str:
    """The prompt's tokens as buttons, shaded by probability, the chosen position pressed; HTML."""
    run = lab.run(visit)
    seen = {entry.position: entry for entry in foreseen(run.logits, run.ids)}
    chips = []
    for at, token_id in enumerate(run.ids):
        extra, shade = "the first token: nothing came before it", None
        if entry := seen.get(at):
            shade = entry.probability
            extra = (
                f"probability {percent(entry.probability)}, rank {entry.rank:,}, "
                f"surprisal {significant(entry.surprisal)} nats"
            )
        title = token_title(at, token_id, lab.raw(token_id), extra)
        chips.append(Chip(lab.piece(token_id), title, shade, lab.is_special(token_id)))
    return chips_html(chips, "tokens of the prompt", selected=visit.position)


def prompt_message(lab: Lab, visit: Visit) -> str:
    """How many tokens, loss and perplexity of the prompt; what the chips' shade means; HTML."""
    run = lab.run(visit)
    mean = loss(foreseen(run.logits, run.ids))
    text = f"{counted(len(run.ids), 'token')}, float32, eval mode. "
    if mean is None:
        return say(text + "A single token has no loss: nothing came before it.") + LEGEND
    said = say(
        text + f"The model's loss on this prompt is {significant(mean)} nats a token, perplexity "
        f"{perplexity(mean)}; a blind guess among {run.cfg.vocab_size:,} tokens would score "
        f"{significant(math.log(run.cfg.vocab_size))} nats."
    )
    return said + LEGEND


def perplexity(nats: float) -> str:
    """e^nats, as a power where a float cannot hold it."""
    power = f"e^{significant(nats)}"
    return power if nats > 700 else f"{power} = {significant(math.exp(nats))}"
