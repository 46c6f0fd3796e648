"""The tour's answers are computed, and its cards speak of what is on the page."""

import json
import re
from html import unescape

import pytest

from gpt import load_model
from gpt.ui.generation.settings import DEFAULTS
from gpt.ui.tour import CARDS, QUESTIONS, marked, tour_html


def test_the_answers_are_of_the_real_tokenizer_sampling_and_model():
    model = load_model("storyteller")
    share = model.tok_emb.weight.numel() / sum(p.numel() for p in model.parameters())
    tokens, odds, percent = (answer()[0] for answer in QUESTIONS.values())
    assert (tokens, odds) == (8, pytest.approx(4))
    assert percent == pytest.approx(100 * share)


def test_a_right_guess_is_told_from_a_wrong_one_and_from_none():
    told = marked(["8", "5", "<b>x"])
    assert [re.match(r"<b>(.*?):", line)[1] for line in told] == ["Right", "Not quite", "No guess"]
    assert "<b>x" not in "".join(told)


def test_every_card_goes_to_a_tab_and_a_place_of_the_page(built):
    ids = {getattr(block, "elem_id", None) for block in built.blocks.values()}
    tabs = {block.id for block in built.blocks.values() if type(block).__name__ == "Tab"}
    for card in CARDS:
        assert card["tab"] in tabs
        for place in {card["at"], *card.get("sets", {})}:
            assert place.split()[0].removeprefix("#") in ids


def test_a_card_carries_what_its_script_reads():
    goes = [json.loads(unescape(text)) for text in re.findall(r'data-goes="(.*?)"', tour_html())]
    assert [g.get("at") for g in goes] == [*(card["at"] for card in CARDS), None]


def test_the_last_card_that_sets_the_temperature_gives_it_its_default():
    *_, last = (card["sets"] for card in CARDS if "sets" in card)
    assert list(last.values()) == [DEFAULTS["temperature"]]
