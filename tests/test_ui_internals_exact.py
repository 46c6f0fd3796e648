"""What the Internals tab lets out whole: CSV files in full floats; and what it leaves out."""

from __future__ import annotations

import base64
import csv
import io
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_models import TINY, TinyRegistry, tiny_model

from gpt.internals.distribution import rank_of
from gpt.tokenizer import Tokenizer
from gpt.ui.internals.attention import grid_html, head_views
from gpt.ui.internals.lab import Lab
from gpt.ui.internals.lens import CHANCE, MEASURES, RANK, lens_html

TEXTUAL = replace(TINY, vocab_size=50257, context_length=160)


@pytest.fixture(scope="module")
def lab():
    return Lab(TinyRegistry({"words": tiny_model(TEXTUAL)}), Tokenizer())


@pytest.fixture
def state(lab):
    return lab.read("words", "Hello, I am a little")


def csv_of(html):
    data = re.search(r"base64,([A-Za-z0-9+/=]+)\">Download CSV", html)[1]
    return list(csv.reader(io.StringIO(base64.b64decode(data).decode())))


@pytest.mark.parametrize("measure", [RANK, CHANCE])
def test_the_csv_of_the_lens_has_the_chosen_token_in_full(lab, state, measure):
    rows = csv_of(lens_html(lab, state, measure, " the"))
    last_row = dict(zip(rows[0], rows[-1], strict=True))
    logits = lab.run(state).logits[-1]
    chance = logits.softmax(-1)[262].item()
    assert last_row["chosen id"] == "262"
    assert last_row["rank of the chosen"] == str(rank_of(logits, 262))
    assert float(last_row["its probability"]) == pytest.approx(chance, rel=1e-5)
    best = logits.softmax(-1).max().item()
    assert float(last_row["probability"]) == pytest.approx(best, rel=1e-5)  # not rounded to 2e-05


def test_the_csv_of_the_lens_has_no_chosen_token_unless_asked(lab, state):
    assert csv_of(lens_html(lab, state, MEASURES[0], ""))[0][-1] == "KL to final"


def test_the_csv_of_a_head_holds_the_very_floats(lab, state):
    rows = csv_of(head_views(lab, state, 1, 2, "softmax", False)[1])[1:]
    shares = lab.run(state).layer(1, "att.attention")[2]
    assert [[float(x) for x in row[1:]] for row in rows] == shares.tolist()


def test_taking_out_the_first_token_leaves_the_same_out_of_every_view():
    """Where all look at the first token, grid, map, sentence and table name another one."""
    model = tiny_model(TEXTUAL)
    with torch.no_grad():  # equal scores: every share is 1 / (position + 1), the first one wins
        model.trf_blocks[0].att.W_query.weight.zero_()
    lab = Lab(TinyRegistry({"even": model}), Tokenizer())
    state = lab.read("even", "Hello, I am a little")
    count = len(state["ids"])
    figure, words = head_views(lab, state, 0, 0, "softmax", True)
    assert f"position {count - 1} ({lab.piece(state['ids'][-1])}) looks most at position 1" in words
    assert "(the first token aside)" in words.split("</p>")[0]
    picture = re.search(r"png;base64,([^\"]+)", grid_html(lab, state, 0, 0, True))[1]
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(picture))))
    assert pixels.shape == (count, count - 1, 3)
    assert figure.data[-1].z.shape == (count, count - 1)
    grey = (pixels == (0xA6, 0xAB, 0xB5)).all(-1)
    assert grey.tolist() == np.triu(np.ones((count, count - 1), bool)).tolist()
