"""What the page shows of a run: each view a plain function of it, as HTML."""

import itertools
import math
from html import escape

from gpt.accounting import count_parameters, memory
from gpt.tokenizer import Tokenizer
from gpt.ui.parts.chips import Chip, chips_html, token_title
from gpt.ui.parts.numbers import mib_and_mb, percent, seconds, significant
from gpt.ui.parts.sentences import say
from gpt.ui.parts.table import Column, code_column, table_html
from gpt.ui.train.curve import Points, curve, thinned
from gpt.ui.train.plans import NEVER, Plan
from gpt.ui.train.settings import MARKS
from gpt.ui.train.trainings import Training

SPLIT_TOKENS, MOST_SUMS = 160, 8
RATE_STEPS = 20  # over which tokens a second are counted
EMPTY = say(
    "Press Train: the loss falls below the baselines, and the sample turns from noise into words.",
    "hint",
)

NO_STEP = say("Press Step: one step, and what happened in it.", "hint")


def promise_view(plan: Plan) -> str:
    """What the curve of a run will be compared with, before there is one."""
    even, frequency, *floor = map(significant, plan.baselines.values())
    said = f"A model that knows nothing begins at {even} nats a token; one that knows how often "
    said += f"each token occurs, and no order, has {frequency}."
    said += f" No model gets below {floor[0]} but by chance." if floor else ""
    budget = float(plan.values["budget"])
    return curve({}, plan.baselines, "seconds of training", budget, said) + say(said)


def loss_view(training: Training) -> str:
    """The curve, its legend, and the same in a sentence."""
    plan, history = training.plan, training.history
    if not history.evaluated:
        return ""
    by_tokens = training.axis == "tokens"

    def held_out(of: Training) -> Points:
        found, a_step = of.history.evaluated, of.plan.step_tokens
        return [(e.step * a_step if by_tokens else at, e.nats_per_token) for at, e in found]

    newest = history.steps[-1] if history.steps else None
    until = plan.options.steps * plan.step_tokens if by_tokens else float(plan.values["budget"])
    if newest and not by_tokens:
        left = plan.options.steps / newest.step * newest.seconds if newest.step > 20 else 0
        until = max(newest.seconds, min(max(left, 1), 2 * until))
    lines = {}
    if training.former:
        lines["before"] = [point for point in held_out(training.former) if point[0] <= until]
    lines["train"] = [(s.tokens if by_tokens else s.seconds, s.loss) for s in history.steps]
    lines["held-out"] = held_out(training)
    said = loss_sentence(training)
    axis = "tokens read" if by_tokens else "seconds of training"
    names = {"train": "training loss", "held-out": "held-out loss", "before": "the run before"}
    legend = "".join(f'<span class="{key}">{names[key]}</span>' for key in names if key in lines)
    return (
        f'<p class="train-legend">{legend}<span>nats a token, log scale</span></p>'
        + curve(lines, plan.baselines, axis, until, said)
        + say(said)
    )


def loss_sentence(training: Training) -> str:
    """Where the held-out loss is, and how the same settings' run before differs from this one."""
    found, former = training.history.evaluated, training.former
    at, newest = found[-1]
    loss, (_, frequency, *floor) = newest.nats_per_token, training.plan.baselines.values()
    below = next((at for at, e in found if e.nats_per_token < frequency), None)
    since = f"since {seconds(below)}" if below else "from the start"
    guess = f"the guess by frequency alone ({significant(frequency)})"
    text = f"Held-out loss {significant(loss)} nats a token after {seconds(at)} of training"
    text += f", above {guess}." if loss >= frequency else f"; below {guess} {since}."
    text += f" No model gets below {significant(floor[0])} but by chance." if floor else ""
    if former is None or former.values != training.values:
        return text
    pairs = list(zip(training.history.steps, former.history.steps, strict=False))
    most = max((abs(a.loss - b.loss) for a, b in pairs), default=0.0)
    return (
        f"{text} Over {len(pairs):,} steps its training loss differs from the run before by "
        f"{most:.3g} at most."
    )


def progress_view(training: Training) -> str:
    """What it does, how far it is, and the newest numbers."""
    plan, steps, one = training.plan, training.history.steps, training.experiment
    look_for = say(f"{one.label}. Look for this: {one.look_for}", "note") if one else ""
    state = training.stage
    if not state:
        finished = steps and steps[-1].step == plan.options.steps
        ended = "Finished." if finished else "Stopped; the model is kept."
        state = ended if training.over else "Paused." if training.rests else "Training …"
    if not steps:
        return look_for + say(training.history.note or state, "hint")
    newest, total = steps[-1], plan.options.steps
    done = newest.step / total
    told = [
        f"step {newest.step:,} of {total:,}",
        f"{seconds(newest.seconds)}",
        f"{significant(tokens_per_second(training))} tokens/s",
        f"{significant(newest.tokens / len(plan.corpus.ids), 2)} times through the text",
        f"loss {significant(newest.loss)}",
        f"learning rate {significant(newest.learning_rate)}",
        f"gradient norm {significant(newest.gradient_norm)}",
    ]
    return (
        f"{look_for}{say(training.history.note, 'note')}"
        f'<progress max="1" value="{done:.4f}" aria-label="Steps done"></progress>'
        f'<p class="stats"><b>{escape(state)}</b> {escape(" · ".join(told))}</p>'
    )


def tokens_per_second(training: Training) -> float:
    """Of the newest steps' training alone."""
    steps = training.history.steps[-RATE_STEPS - 1 :]
    if len(steps) < 2:
        return steps[0].tokens / steps[0].seconds
    return (steps[-1].tokens - steps[0].tokens) / (steps[-1].seconds - steps[0].seconds)


def sample_view(training: Training) -> str:
    """What it writes from the one prompt and seed; of additions the sums that it was asked."""
    history = training.history
    if history.sample is None:
        return ""
    if not history.answers:
        prompt = training.plan.options.prompt
        rest = history.sample.text[len(prompt) :]
        return f"<p class='train-text'><b>{escape(prompt)}</b>{escape(rest)}</p>"
    asked = len(history.answers)
    right = sum(is_right(*pair) for pair in history.answers)
    lines = "".join(
        f"<li><b>{escape(q)}</b>{escape(a)} {'✓' if is_right(q, a) else '✗'}</li>"
        for q, a in history.answers[:: -(-asked // MOST_SUMS)]
    )
    return (
        say(f"{right} of {asked} sums that it has never read are right ({percent(right / asked)}).")
        + f'<ul class="train-text">{lines}</ul>'
    )


def is_right(question: str, answer: str) -> bool:
    """Whether `27+48=` is answered by its sum."""
    return str(sum(map(int, question.rstrip("=").split("+")))) == answer


def line_view(training: Training) -> str:
    """The first held-out tokens as chips, bluer the more probable each was to the model."""
    plan, line = training.plan, training.history.line
    if not line:
        return ""
    tokenizer, ids = plan.corpus.tokenizer, plan.corpus.held_out[: len(line) + 1].tolist()
    chips = [_chip(tokenizer, 0, ids[0], "nothing is before it", None)]
    for position, (token, share) in enumerate(zip(ids[1:], line, strict=True), start=1):
        chips.append(_chip(tokenizer, position, token, f"probability {percent(share)}", share))
    mean = math.exp(sum(math.log(max(p, 1e-30)) for p in line) / len(line))
    said = f"Geometric mean of the true tokens' probabilities: {percent(mean)}."
    row = chips_html(chips, "Held-out text, by the probability of each token", roving=True)
    return row + say(said, "hint")


def _chip(tokenizer: Tokenizer, at: int, token: int, extra: str, shade: float | None) -> Chip:
    title = token_title(at, token, tokenizer.token_bytes(token), extra)
    end = token == tokenizer.end_of_text_id
    return Chip(tokenizer.piece(token), title, shade, end)


def step_view(training: Training) -> str:
    """One window of the newest single step: inputs, targets, losses, and what a weight did."""
    peek, plan = training.history.peek, training.plan
    if peek is None:
        return NO_STEP
    pieces = plan.corpus.tokenizer.pieces(peek.ids)
    rows = [
        (at, pieces[at], pieces[at + 1], nats, percent(math.exp(-nats)))
        for at, nats in enumerate(peek.nats)
    ]
    columns = [
        Column("position"), code_column("it reads"), code_column("it should say"),
        Column("loss, nats"), Column("probability"),
    ]  # fmt: skip
    change = peek.after - peek.before
    return (
        say(
            f"Step {peek.done.step:,}: the beginning of the first of {plan.options.batch_size} "
            "windows before the step. The targets are the inputs, shifted by one."
        )
        + table_html(columns, rows, "One window before the step")
        + say(
            f"The gradient of the mean loss moves each of {count_parameters(plan.cfg).total:,} "
            f"weights. One of them, the first of the first feed-forward, was {peek.before:+.6f}, "
            f"is now {peek.after:+.6f} and so moved by {change:+.2e}, at a learning rate of "
            f"{peek.done.learning_rate:.2e}."
        )
    )


def numbers_view(training: Training) -> str:
    """The curve's numbers as a table, thinned; the CSV is in the zip."""
    if not training.history.evaluated:
        return ""
    rows = [(e.step, significant(at), e.nats_per_token) for at, e in training.history.evaluated]
    columns = [Column("step"), Column("seconds"), Column("held-out loss, nats a token")]
    return table_html(columns, thinned(rows)[-40:], "Held-out loss so far", csv_name="held-out")


def estimate_view(plan: Plan) -> str:
    """Parameters and memory, and what the budget buys: as a bar, and in sentences."""
    options, each, a_step = plan.options, plan.seconds, plan.step_tokens
    state = memory.training_state(plan.compact, "adamw-float32").value
    steps = options.steps if options.steps < NEVER else plan.values["budget"] / each
    read = MARKS.get(plan.values["size"], MARKS["small"])
    total, *marks = (each * n for n in (steps, *(tokens / a_step for tokens in read)))
    ends = [0.0, *(min(mark, total) for mark in marks), total]
    widths = (f"flex-grow:{b - a:.3f}" for a, b in itertools.pairwise(ends))
    bar = "".join(f'<span style="{width}"></span>' for width in widths)
    when = f"from about {significant(marks[1], 2)} s on" if marks[1] < total else "not in this time"
    return (
        say(
            f"{count_parameters(plan.cfg).total:,} parameters; {mib_and_mb(state)} for weights, "
            f"gradients and two moments of each; {mib_and_mb(plan.logit_bytes)} for the logits of "
            f"a step and what is computed from them. A step takes about {seconds(each)} here, so "
            f"{seconds(total)} are about {significant(steps, 2)} steps: "
            f"{significant(steps * a_step, 2)} tokens, "
            f"{significant(steps * a_step / len(plan.corpus.ids), 2)} times through the text.",
            "hint",
        )
        + f'<div class="train-budget" aria-hidden="true">{bar}</div>'
        + say(
            f"As stories in characters went: below the guess by frequency after about "
            f"{significant(marks[0], 1)} s, words {when}.",
            "hint",
        )
    )


def split_view(plan: Plan) -> str:
    """The first lines as chips, a token each, and how many tokens there are."""
    tokenizer, ids = plan.corpus.tokenizer, plan.corpus.ids
    first = ids[:SPLIT_TOKENS].tolist()
    chips = [_chip(tokenizer, at, token, "", None) for at, token in enumerate(first)]
    said = (
        f"{len(ids):,} tokens to learn from, {len(plan.corpus.held_out):,} held out; a vocabulary "
        f"of {tokenizer.vocab_size:,} tokens, of which the text uses {len(ids.unique()):,}."
    )
    return say(said) + chips_html(chips, "The first lines, split into tokens", roving=True)


# Of a run, for each component that is drawn while it goes on; "" leaves it as it is.
STREAMED = progress_view, loss_view, sample_view, line_view, step_view, numbers_view
