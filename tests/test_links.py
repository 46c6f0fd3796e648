"""Links and programs: what they say is the visit, and what opens or runs them gets its text."""

from __future__ import annotations

import html
import json
import random
import re
import shlex
import subprocess
import sys
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

import gpt
from gpt.__main__ import main
from gpt.checkpoints.precision_record import default_precision
from gpt.checkpoints.sources import config_of, random_source
from gpt.generate import generate
from gpt.ui.generation.settings import DEFAULTS
from gpt.ui.internals.section import Desk
from gpt.ui.links import LONGEST, Place, command_of, link_of, place_of, python_of
from gpt.ui.page_bar import copied_link
from gpt.ui.visit import Visit, Visitor

PAGE = "http://localhost:7860/"
ROOT = Path(__file__).resolve().parent.parent
VISIT = Visit(
    model="storyteller",
    prompt='A "fox"\nand the crow',
    settings={"temperature": 1.1, "top_p": 0.9, "precision": "int8"},
    seed=9007199254740991,
    steering=((3, 257), (5, 11)),
    tokens=9,
    position=8,
)


def query_of(address: str) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(urlsplit(address).query).items()}


def opened(place: Place) -> Place:
    address, missing = link_of(place, PAGE)
    assert missing == ""
    found, wrong = place_of(query_of(address), config_of)
    assert wrong == ()
    return found


@pytest.fixture(scope="module")
def written() -> list[int]:
    """The new ids of VISIT."""
    model = gpt.load_model("storyteller", precision="int8")
    tokenizer = gpt.tokenizer_of("storyteller")
    options = gpt.SamplingOptions(
        max_new_tokens=9, temperature=1.1, top_p=0.9, seed=VISIT.seed, steering=VISIT.steering
    )
    ids = tokenizer.encode(VISIT.prompt)
    return [step.token_id for step in generate(model, ids, options, tokenizer.end_of_text_id)]


def test_a_link_leads_back_to_the_visit_the_tab_and_the_place() -> None:
    for keys in ((), ("tokens", "lens", "patch")):
        place = Place(VISIT, "internals", 2, 1, keys)
        assert opened(place) == place
    assert link_of(Place(), PAGE) == (PAGE + "?", "")


def test_a_copied_link_carries_the_head_that_was_chosen_and_the_sections_that_are_open() -> None:
    """They were read and written, and no button ever set them."""
    desk = Desk(open={"lens", "tokens"}, picked={"attention": {"layer": 0, "head": 3}})
    visitor = Visitor()
    visitor.visit = VISIT
    note = copied_link(json.dumps({"page": PAGE, "tab": "internals"}), visitor, desk)
    address = html.unescape(re.search(r">(http[^<]*)</textarea>", note)[1])
    place, wrong = place_of(query_of(address), config_of)
    assert wrong == ()
    assert place == Place(VISIT, "internals", None, 3, ("tokens", "lens"))


@pytest.mark.parametrize("seed", range(4))
def test_a_link_leads_back_to_any_visit(seed: int) -> None:
    draw = random.Random(seed)
    letters = "aé€😀 &=?#%+\n\"'<\\"
    cfg = gpt.GPTConfig(97, 48, 24, 3, draw.randint(1, 4))
    visit = Visit(
        model=draw.choice(["storyteller", random_source(cfg, draw.randint(0, 99))]),
        prompt="".join(draw.choices(letters, k=draw.randint(1, 40))),
        settings={"temperature": round(draw.random(), 2), "top_k": draw.randint(1, 50)},
        seed=draw.randint(0, 2**53 - 1),
        steering=tuple((at, draw.randint(0, 50_256)) for at in range(draw.randint(0, 5))),
        tokens=draw.randint(1, 500),
    )
    assert opened(Place(visit)) == Place(visit)


def test_a_link_names_what_is_impossible_and_keeps_the_rest() -> None:
    query = {
        "tab": "settings", "model": "gpt9", "prompt": "A fox", "temperature": "-1", "top_k": "x",
        "seed": "-3", "steer": "1:2,1", "layer": "two", "open": "lens,odd", "precision": "int2",
        "tokens": "7",
        "utm_source": "a program that adds its own",
    }  # fmt: skip
    place, wrong = place_of(query, config_of)
    assert place == Place(Visit(prompt="A fox", tokens=7))
    named = ["tab", "model", "temperature", "top_k", "seed", "steer", "layer", "open", "precision"]
    assert len(wrong) == len(named)
    assert all(name in line for name, line in zip(named, wrong, strict=True))
    assert all("\n" not in line for line in wrong)


def test_a_link_from_train_carries_the_training_and_names_what_it_cannot() -> None:
    training = {"text": "own", "pasted": "é" * 2_000, "steps": 70, "positions": False}
    address, missing = link_of(Place(VISIT, "train", training=training), PAGE)
    assert "leaves out the text" in missing
    query = {"tab": "train", "train-text": "own", "train-steps": "70", "train-positions": "false"}
    assert query_of(address) == query
    uploaded = link_of(Place(tab="train", training={"text": "own"}), PAGE)[1]
    assert "leaves out the file, which lives on this page only" in uploaded
    impossible = {"train-text": "tales", "train-rate": "NaN", "train-width": "[[", "train-x": "1"}
    place, wrong = place_of({**query, **impossible}, config_of)
    assert place.training == {"steps": 70, "positions": False}
    named = ["text is 'tales'", "rate is nan", "width is '[['"]
    assert len(wrong) == len(named)
    assert all(name in line for name, line in zip(named, wrong, strict=True))


def test_a_text_too_long_for_an_address_is_left_out_and_the_link_says_so() -> None:
    long = Visit(model="storyteller", prompt="é" * 1_000, seed=1, settings={"temperature": 1})
    address, missing = link_of(Place(long), PAGE)
    assert len(address) <= LONGEST
    assert "leaves out the text" in missing
    assert query_of(address) == {"model": "storyteller", "temperature": "1"}
    short = Visit(model="storyteller", prompt="é" * 600, seed=1)
    assert opened(Place(short)).visit == short


def test_a_program_from_a_link_writes_the_same_ids_in_a_second_process(written: list[int]) -> None:
    """Each start chose its kernels by five noisy timings, so that a seed wrote another text."""
    program = python_of(opened(Place(VISIT)).visit)
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    text = gpt.tokenizer_of("storyteller").decode(written)
    assert done.stdout == f"{written}\n{text}\n", done.stderr


def test_the_command_as_it_is_printed_writes_the_same_text(written: list[int], capsys) -> None:
    python, m, package, *words = shlex.split(command_of(VISIT))
    assert [python, m, package] == ["python", "-m", "gpt"]
    assert main(words) == 0
    text = gpt.tokenizer_of("storyteller").decode(written)
    assert capsys.readouterr().out == VISIT.prompt + text + "\n"


def test_a_program_in_the_automatic_precision_takes_the_measured_one(capsys) -> None:
    visit = Visit(model="storyteller", prompt="The king", seed=3, tokens=4)
    program = python_of(visit)
    assert "default_precision(source)" in program
    model = gpt.load_model("storyteller", precision=default_precision("storyteller"))
    tokenizer = gpt.tokenizer_of("storyteller")
    options = gpt.SamplingOptions(4, DEFAULTS["temperature"], seed=3)
    ids = tokenizer.encode("The king")
    steps = generate(model, ids, options, tokenizer.end_of_text_id)
    exec(program, {})
    assert capsys.readouterr().out.splitlines()[0] == str([step.token_id for step in steps])
