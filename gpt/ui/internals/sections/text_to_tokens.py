"""Tokens: the prompt's chips, the merges of a word's bytes, and how each token was predicted."""

import math

from gpt.internals.distribution import loss
from gpt.internals.merges import merge_steps, word_of_token, words
from gpt.tokenizer import display_form
from gpt.ui.internals.lab import Focus, Lab, check_length
from gpt.ui.internals.section import Code, numbers, section, text_box
from gpt.ui.parts.chips import Chip, chips_html, token_title
from gpt.ui.parts.numbers import counted, percent, significant
from gpt.ui.parts.sentences import formula, quoted, say
from gpt.ui.parts.table import Column, table_html

MERGES = (Column("step"), Column("rank"), "pair", "became", "the word then")
COLUMNS = (
    Column("position"), "token", Column("probability", percent), Column("rank"),
    Column("surprisal (nats)"),
)  # fmt: skip
NO_LOSS = "A single token has no loss: nothing came before it."
LEGEND = (
    '<p class="legend"><span class="ramp"></span> probability of each token, 0 to 100 %, given the '
    "text before it. Click a token to look at the prediction made there.</p>"
)


def prompt_chips(lab: Lab, focus: Focus) -> str:
    """The prompt's tokens as buttons, shaded by probability, the chosen position pressed; HTML."""
    chips = []
    for at, entry in enumerate([None, *lab.foreseen(focus)]):
        token_id, shade = focus.ids[at], None
        extra = "the first token: nothing came before it"
        if entry:
            shade = entry.probability
            extra = (
                f"probability {percent(entry.probability)}, rank {entry.rank:,}, "
                f"surprisal {significant(entry.surprisal)} nats"
            )
        title = token_title(at, token_id, lab.raw(token_id), extra)
        special = token_id == lab.tokenizer.end_of_text_id
        chips.append(Chip(lab.piece(token_id), title, shade, special))
    return chips_html(chips, "tokens of the prompt", selected=focus.position)


def prompt_message(lab: Lab, focus: Focus) -> str:
    """How many tokens, loss and perplexity of the prompt; what the chips' shade means; HTML."""
    mean, cfg = loss(lab.foreseen(focus)), lab.registry.config_of(focus.source)
    text = f"{counted(len(focus.ids), 'token')}, float32, eval mode. "
    if focus.before:
        whole = len(focus.ids) == cfg.context_length
        why = "the context is full, as it was in Generation" if whole else "this tab reads no more"
        text += f"Left out {'is' if focus.before == 1 else 'are'} {counted(focus.before, 'token')} "
        text += f"before them: {why}"
        text += ". " if whole else ", and the odds are not quite those of Generation. "
    told = NO_LOSS
    if mean is not None:
        told = (
            f"The model's loss on this prompt is {significant(mean)} nats a token (1 nat: the "
            f"surprise at a chance of 1 in 2.72), perplexity {perplexity(mean)}; a blind guess "
            f"among {cfg.vocab_size:,} tokens would score "
            f"{significant(math.log(cfg.vocab_size))} nats."
        )
    return say(text + told) + LEGEND


def perplexity(nats: float) -> str:
    """e^nats, as a power where a float cannot hold it."""
    power = f"e^{significant(nats, 5)}"
    return power if nats > 700 else f"{power} = {significant(math.exp(nats))}"


@section(
    "tokens",
    title="Tokens: from text to numbers",
    intro="The model reads numbers. GPT-2's byte pair encoding joins the bytes of a word, the most "
    "common pair first, until no known pair is left; what remains are its tokens. A vocabulary of "
    "characters joins nothing. Click a word above, or type one.",
    code=(Code(merge_steps),),
    controls={
        "typed": text_box(
            "int-word",
            "A word of your own",
            info="Merged while you type. Empty: the word of the chosen token.",
        ),
    },
    output="int-merges",
    opened=True,
)
def tokens_html(lab: Lab, focus: Focus, typed: str) -> str:
    """The merges of the words typed, or of the one that the token is of; the prompt's table."""
    typed = typed or ""
    check_length(typed)
    cut = [word.encode("utf-8", "replace") for word in words(typed)]
    cut = cut or [word_of_token([lab.raw(i) for i in focus.ids], focus.position)]
    merges = [merge_steps(lab.tokenizer, word) for word in cut]
    pieces: list[bytes] = []
    for word, steps in zip(cut, merges, strict=True):
        pieces += steps[-1].pieces if steps else [bytes([byte]) for byte in word]
    whole, size = quoted(display_form(b"".join(cut))), counted(sum(map(len, cut)), "byte")
    made, known = sum(map(len, merges)), len(lab.tokenizer.ranks) - 256
    text = f"{whole} is {size}, each a token: this vocabulary has no merges."
    if known:
        text = (
            f"{whole} is {size}. {counted(made, 'merge')} "
            f"{'leaves' if made == 1 else 'leave'} {counted(len(pieces), 'token')}. Of all "
            f"neighbours the pair with the lowest rank is merged first, rank 1 of {known:,} being "
            "the pair that was the most frequent when the vocabulary was made."
        )
    rows = [
        (at, step.rank, f"{display_form(step.left)} + {display_form(step.right)}",
         display_form(step.left + step.right), " | ".join(map(display_form, step.pieces)))
        for at, step in enumerate((step for steps in merges for step in steps), start=1)
    ]  # fmt: skip
    chips = [Chip(display_form(piece), f"{len(piece)} bytes") for piece in pieces]
    shown = say(text) + chips_html(chips, "the tokens of the word")
    if rows:
        shown += table_html(MERGES, rows, f"The merges of {whole}", csv_name="merges")
    return shown + numbers(_prompt_table(lab, focus))


def _prompt_table(lab: Lab, focus: Focus) -> str:
    """Every token of the prompt with its probability, rank and surprisal, and their mean; HTML."""
    entries = lab.foreseen(focus)
    mean = loss(entries)
    if mean is None:
        return say(NO_LOSS)
    rows = [
        (e.position, lab.piece(e.token_id), e.probability, e.rank, e.surprisal) for e in entries
    ]
    caption = "How well the model predicted each token"
    marked = {focus.position: "marked"}  # predicted there: the first token has no row
    summands = " + ".join(significant(e.surprisal) for e in entries[:3])
    more = " + …" if len(entries) > 3 else ""
    return formula(
        "loss = mean of −ln(probability) over the tokens after the first; perplexity = e^loss",
        f"{significant(mean)} = ({summands}{more}) ÷ {len(entries)}; perplexity {perplexity(mean)}",
    ) + table_html(COLUMNS, rows, caption, csv_name="prompt-surprisal", kinds=marked)
