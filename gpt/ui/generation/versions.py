"""Versions side by side: one prompt, two to four runs, what they share and where they part."""

from collections.abc import Mapping
from dataclasses import replace
from html import escape
from itertools import takewhile
from typing import Any

from gpt.checkpoints.precision_record import default_precision
from gpt.checkpoints.sources import random_source
from gpt.engine import DTYPES
from gpt.sampling import MAX_SEED
from gpt.serving.registry import Registry
from gpt.ui.generation.runs import Writing
from gpt.ui.generation.wish import Wish, wish
from gpt.ui.parts.numbers import counted

BY = ("seed", "temperature", "precision", "training")
TEMPERATURES = {2: (0, 1.0), 3: (0, 0.8, 1.4), 4: (0, 0.5, 1.0, 1.5)}
UNTRAINED_SEED = 123  # the book's


def versions(registry: Registry, asked: Wish, by: str, count: int) -> dict[str, Wish]:
    """What each version asks for, by its name. Raises ValueError for another kind."""
    if by not in BY:
        raise ValueError(f"versions differ in {', '.join(BY)}, 2 to {max(TEMPERATURES)} of them.")
    seed = asked.options.seed
    if by == "seed":
        first = seed % 1_000 if asked.drawn else seed  # short ones are read easily
        seeds = [(first + i) % (MAX_SEED + 1) for i in range(count)]
        return {f"seed {seed}": asked.with_options(seed=seed) for seed in seeds}

    def version(**changed: Any) -> Wish:
        values = {**asked.settings, "seed": seed, **changed}
        return wish(registry, asked.prompt, values, asked.source)

    if by == "temperature":
        return {f"temperature {t:g}": version(temperature=t) for t in TEMPERATURES[count]}
    if by == "precision":
        # The exact one first, then what this page writes in by default.
        names = ("float32", "int8", *DTYPES) if asked.device == "cpu" else tuple(DTYPES)
        return {name: version(precision=name) for name in tuple(dict.fromkeys(names))[:count]}
    source = random_source(registry.config_of(asked.source), UNTRAINED_SEED)
    precision = default_precision(source, asked.device)
    settings = {name: value for name, value in asked.settings.items() if name != "precision"}
    untrained = replace(asked, source=source, precision=precision, settings=settings)
    return {"trained": asked, "untrained": untrained}


def columns_html(runs: Mapping[str, Writing]) -> str:
    """A column a run: what all share is grey, the first token that differs is marked.

    Chips and buttons come with the end: a click takes a version.
    """
    if not runs:
        return ""
    over = all(run.over for run in runs.values())
    rows = [[step.token_id for step in run.written.steps] for run in runs.values()]
    alike = takewhile(lambda column: len(set(column)) == 1, zip(*rows, strict=False))
    same = len([*alike])
    part = all(len(row) > same for row in rows)
    columns = []
    for i, (name, run) in enumerate(runs.items()):
        pieces = run.written.pieces
        mark = f"<mark>{escape(pieces[same])}</mark>" if part else ""
        rest = "".join(pieces[same + part :])
        told = escape(run.stage or counted(len(pieces), "token"))
        label = f'class="chips" role="group" tabindex="0" aria-label="Tokens of {escape(name)}"'
        chips = f"<div {label}>{run.written.chips}</div>" if over else ""
        take = f'<button type="button" aria-label="Take the version {escape(name)}">Take this one'
        take = f"{take}</button>" if over else ""
        columns.append(
            f'<section aria-label="{escape(name)}" data-column="{i}"><h3>{escape(name)} {take}</h3>'
            f'<p class="text"><span class="same">{escape("".join(pieces[:same]))}'
            f'</span>{mark}{escape(rest)}</p>{chips}<p class="stats">{told}</p></section>'
        )
    shared = f"Grey: what all begin with, {counted(same, 'token')}. " if same else ""
    legend = f'<p class="legend">{shared}Marked: the first that differs in any.</p>'
    return f'<div id="gen-columns">{"".join(columns)}</div>{legend}'
