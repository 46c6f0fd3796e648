"""Links and programs: what they say is the visit, and what opens or runs them gets its text."""

import html
import json
import random
import re
import shlex
import subprocess
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

import gpt
from gpt.__main__ import main
from gpt.checkpoints.precision_record import default_precision
from gpt.checkpoints.sources import config_of, random_source
from gpt.generate import generate
from gpt.training.corpus import make_tokenizer
from gpt.ui.generation.settings import DEFAULTS
from gpt.ui.internals.lab import Focus
from gpt.ui.internals.section import Desk
from gpt.ui.links import (
    LONGEST,
    SIZES_AT_FIRST,
    Place,
    command_of,
    link_of,
    place_of,
    python_of,
)
from gpt.ui.page_bar import copied_code, copied_link, note_of
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


@cache
def storyteller(precision: str) -> gpt.GPTModel:
    return gpt.load_model("storyteller", precision=precision)


@cache
def ids_in(precision: str) -> list[int]:
    """The new ids of VISIT in a precision."""
    model = storyteller(precision)
    tokenizer = gpt.tokenizer_of("storyteller")
    options = gpt.SamplingOptions(
        max_new_tokens=9, temperature=1.1, top_p=0.9, seed=VISIT.seed, steering=VISIT.steering
    )
    ids = tokenizer.encode(VISIT.prompt)
    return [step.token_id for step in generate(model, ids, options, tokenizer.end_of_text_id)]


@pytest.fixture
def written() -> list[int]:
    return ids_in("int8")


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
    note = copied_link(PAGE, "internals", visitor, desk, *SIZES_AT_FIRST.values())
    address = html.unescape(re.search(r">(http[^<]*)</textarea>", note)[1])
    place, wrong = place_of(query_of(address), config_of)
    assert wrong == ()
    assert place == Place(VISIT, "internals", None, 3, ("tokens", "lens"))


def test_a_copy_says_what_it_cannot_hold() -> None:
    """A text typed in Internals led to Generation's; a trained model's program named a model that
    no other process has, and so did a link once the model was gone.
    """
    visitor, desk, sizes = Visitor(), Desk(open=set()), SIZES_AT_FIRST.values()
    visitor.visit = replace(VISIT, model="trained:0123")
    desk.focus = Focus("storyteller", (1, 2, 3), 1)
    note = copied_link(PAGE, "internals", visitor, desk, *sizes)
    assert "leaves out the text that was typed in Internals." in note
    assert "prompt=" not in note
    note = copied_link(PAGE, "generation", visitor, desk, *sizes)
    assert "leaves out the model, which lives on this page only" in note
    note = html.unescape(copied_code(visitor))
    assert "source = 'trained-gpt/model'" in note
    assert note.count("It needs trained-gpt/model, from “Take it along”.") == 2


def test_a_text_from_a_gpu_is_copied_with_its_device_or_says_that_it_is_left_out() -> None:
    """The program wrote on the CPU, in its precision, and so another text; no copy said so."""
    visitor, desk = Visitor(), Desk(open=set())
    visitor.visit = replace(VISIT, settings={"device": "cuda"})
    note = html.unescape(copied_code(visitor))
    program, command = note.split("The command,")
    assert "precision = default_precision(source, 'cuda')" in program
    assert "gpt.load_model(source, 'cuda', precision=precision)" in program
    assert "It writes on the CPU" in command
    note = copied_link(PAGE, "generation", visitor, desk, *SIZES_AT_FIRST.values())
    assert "leaves out the device, cuda." in note


def test_a_link_whose_prompt_the_model_cannot_read_is_left_to_its_run(monkeypatch) -> None:
    """The page did not open by it, with a traceback; the run says which byte has no token."""
    own = make_tokenizer("characters", ["abc"])
    monkeypatch.setattr("gpt.ui.page_bar.tokenizer_of", lambda _: own)
    for prompt, chip in (("abc", 2), ("漢", None)):
        note = note_of(Place(Visit("mine", prompt, seed=1, position=5)), ())
        asked = json.loads(html.unescape(re.search('data-linked="(.*?)"', note)[1]))
        assert asked == {"prompt": prompt, "chip": chip, "tab": "generation"}


def test_a_visit_without_new_tokens_is_no_text_to_write_again() -> None:
    """A link after Back to the beginning wrote 400 tokens."""
    query = query_of(link_of(Place(replace(VISIT, tokens=0, steering=())), PAGE)[0])
    assert {"seed", "tokens", "position"}.isdisjoint(query)


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
    """Many brackets were a traceback at once, a parameter "steering" one at Copy link, and then it
    was dropped without a word.
    """
    query = {
        "tab": "settings", "model": "gpt9", "prompt": "A fox", "temperature": "-1", "top_k": "x",
        "seed": "-3", "steer": "1:2,1", "layer": "two", "open": "lens,odd", "precision": "int2",
        "min_p": "[" * 5_000, "tokens": "7",
        "utm_source": "a program that adds its own", "__theme": "dark", "ref": "a newsletter",
        "steering": "5", "<b>": "",
    }  # fmt: skip
    place, wrong = place_of(query, config_of)
    assert place == Place(Visit(prompt="A fox", tokens=7))
    named = [
        "tab", "model", "temperature", "top_k", "seed", "steer", "layer", "open", "precision",
        "min_p", "A link cannot set 'steering' or '<b>'.",
    ]  # fmt: skip
    assert len(wrong) == len(named)
    assert all(name in line for name, line in zip(named, wrong, strict=True))
    assert all("\n" not in line for line in wrong)
    note = note_of(place, wrong)
    assert note.startswith('<p class="note">Left out of this link: tab: ')
    assert note.endswith("A link cannot set &#x27;steering&#x27; or &#x27;&lt;b&gt;&#x27;.</p>")


def test_the_line_ends_of_a_link_s_prompt_are_those_of_its_box() -> None:
    """The page waited for ever for a box that shows \\r\\n, and wrote nothing."""
    place, wrong = place_of({"prompt": "A fox\r\nand\ra crow\n"}, config_of)
    assert (place.visit.prompt, wrong) == ("A fox\nand\na crow\n", ())


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
    named = ["Text is 'tales'", "Learning rate is nan", "Width is '[['", "cannot set 'train-x'"]
    assert len(wrong) == len(named)
    assert all(name in line for name, line in zip(named, wrong, strict=True))


def test_a_link_of_endless_values_has_a_short_note() -> None:
    """5,000 nines for the device stood above the page."""
    place, wrong = place_of({"prompt": "a", "arch-device": "9" * 5000}, config_of)
    assert wrong
    assert len(note_of(place, wrong)) < 500


def test_a_link_from_architecture_carries_its_sizes_or_says_what_is_impossible() -> None:
    """The link was "copied", and led to the book's 124M."""
    sizes = {"n_heads": 11, "emb_dim": 770, "tie_weights": True, "precision": "int8", "batch": 4}
    place = Place(tab="architecture", sizes=sizes)
    address, missing = link_of(place, PAGE)
    query = query_of(address)
    assert missing == ""
    assert query["arch-n_heads"] == "11"
    assert place_of(query, config_of) == (place, ())
    for name, text, line in (
        ("emb_dim", "771", "emb_dim 771 is not divisible by 11 heads"),
        ("batch", "[[", "batch is '[['"),
        ("drop_rate", "NaN", "drop_rate"),
        ("device", "abacus", "abacus"),
    ):
        opened, wrong = place_of({**query, f"arch-{name}": text}, config_of)
        assert opened.sizes == {}
        assert len(wrong) == 1
        assert line in wrong[0]


def test_a_text_too_long_for_an_address_is_left_out_and_the_link_says_so() -> None:
    long = Visit(model="storyteller", prompt="é" * 1_000, seed=1, settings={"temperature": 1})
    address, missing = link_of(Place(long), PAGE)
    assert len(address) <= LONGEST
    assert "leaves out the text" in missing
    assert query_of(address) == {"model": "storyteller", "temperature": "1"}
    short = Visit(model="storyteller", prompt="é" * 600, seed=1)
    assert opened(Place(short)).visit == short


@pytest.mark.parametrize("precision", ["int8", "float32"])
def test_a_program_from_a_link_writes_the_same_ids_in_a_second_process(precision: str) -> None:
    """Each start chose its kernels by five noisy timings, so that a seed wrote another text."""
    written = ids_in(precision)
    visit = replace(VISIT, settings={**VISIT.settings, "precision": precision})
    program = python_of(opened(Place(visit)).visit)
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
    model = storyteller(default_precision("storyteller"))
    tokenizer = gpt.tokenizer_of("storyteller")
    options = gpt.SamplingOptions(4, DEFAULTS["temperature"], seed=3)
    ids = tokenizer.encode("The king")
    steps = generate(model, ids, options, tokenizer.end_of_text_id)
    exec(program, {})
    assert capsys.readouterr().out.splitlines()[0] == str([step.token_id for step in steps])
