"""What a part of the picture made at the position that Internals looks at, as one strip."""

from __future__ import annotations

import numpy as np

from gpt.ui.architecture.model_map import SPOTS
from gpt.ui.internals.lab import Lab, Visit
from gpt.ui.internals.vector_figures import strips
from gpt.ui.parts.errors import mistake
from gpt.ui.parts.numbers import four
from gpt.ui.parts.sentences import say

NO_TEXT = (
    "No text was read yet: press “Show in Internals”, or write one in Generation and look inside "
    "it there. Then this part's own numbers stand here."
)


def strip_html(lab: Lab, visit: Visit | None, key: str) -> str:
    """The part's numbers at the visit's position: shape, least, mean and most, and the strip."""
    if visit is None:
        return say(NO_TEXT, "hint")
    try:
        lab = lab.using(visit.source)
        run = lab.run(visit)
    except ValueError as error:  # a trained model may be gone
        return say(str(mistake(error)), "hint")
    if key == "ids":
        made = run.batch()
        here = made[:, visit.position]
    else:
        made = run.trace[SPOTS[key].recorded]
        here = made[..., visit.position, :]
    if key == "scores":  # behind its own position a token looks at nothing
        here = here[..., : visit.position + 1]
    values = here.flatten().double().cpu().numpy()
    place = lab.place(visit) + (", block 0" if "trf_blocks" in SPOTS[key].recorded else "")
    shape = " × ".join(f"{size:,}" for size in made.shape)
    said = f"In the pass of Internals ({visit.source}, {place}): {len(values):,} of "
    said += f"({shape}) numbers; least {four(values.min())}, mean {four(values.mean())}, "
    said += f"most {four(values.max())}."
    legend = "red: negative, blue: positive; the colour is the rank of a number's size among them."
    return say(said) + strips(ranked(values)[None], [""], "the numbers as a strip", legend)


def ranked(values: np.ndarray) -> np.ndarray:
    """Each number's sign times its rank by size, from 1/n for the least to 1 for the most."""
    ranks = np.empty(len(values))
    ranks[np.argsort(np.abs(values), kind="stable")] = np.arange(1, len(values) + 1) / len(values)
    return np.sign(values) * ranks
