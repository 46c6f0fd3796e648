"""What the command line can be given, and must answer with one line and status 2."""

from __future__ import annotations

import io
import sys
import time
from dataclasses import replace

import pytest
import torch
from tiny_models import TINY, tiny_model

from gpt import GPTConfig
from gpt.__main__ import LONGEST_MESSAGE, main
from gpt.checkpoints import precision_record, save_model
from gpt.checkpoints.sources import random_source

RANDOM = random_source(replace(TINY, vocab_size=50257, emb_dim=8, n_heads=2), 3)
LONG_NAME = "x" * 300  # no file system takes more than 255 bytes
TEXT = "Es war einmal – “once” 日本 upon a time there was a king. "
TINY_RUN = """
    --steps 2 --validate-every 1 --checkpoint-every 1 --batch-size 1 --micro-batch 1
    --context-length 8 --emb-dim 8 --n-heads 2 --n-layers 1 --precision float32 --warmup-steps 1
"""


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text(TEXT * 8, encoding="utf-8")
    return str(path)


def refused(arguments, capsys):
    """The one line on the standard error, after exit status 2 and nothing on the output, within a
    second of processor time; the start of Python and torch before it takes two.
    """
    started = time.process_time()
    try:
        status = main(arguments)
    except SystemExit as parsed:
        status = parsed.code
    assert time.process_time() - started < 1
    output = capsys.readouterr()
    assert status == 2
    assert output.out == ""
    assert "Traceback" not in output.err
    line = output.err.splitlines()[-1]
    assert "error: " in line
    assert len(line) < LONGEST_MESSAGE + 100
    return line


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (
            ["generate", "x", "--seed", str(2**64)],
            "seed is 18,446,744,073,709,551,616: use at most",
        ),
        (["generate", "x", "--temperature", "1e39", "--top-k", "5"], "temperature is 1e+39: use"),
        (["generate", "x", "--temperature", "nan"], "temperature is nan: use"),
        (["generate", "x", "--max-new-tokens", "0"], "max_new_tokens is 0: use"),
        (["generate", "x", "--max-new-tokens", "9" * 5000], "invalid int value"),
        (["generate", "x", "--model", LONG_NAME], "there is no file or folder"),
        (["generate", "x", "--model", "~nosuchuser/model"], "no such user"),
        (["generate", "x", "--model", "x/" * 45_000], "x/x/"),
        (["generate", "x", "--model", "no\nwhere"], "there is no file or folder"),
        (["generate", "x", "--model", RANDOM, "--config", "~nosuchuser/c.json"], "no such user"),
        (["generate", "x", "--model", RANDOM, "--config", LONG_NAME], "name too long"),
        (["generate", "x", "--model", __file__, "--config", "/dev/zero"], "is no file"),
        (["generate", "x", "--model", RANDOM, "--config", "nowhere.json"], "nowhere.json"),
        (["generate", "x", "--model", RANDOM, "--emb-dim", "-3"], "emb_dim is -3: use"),
        (["generate", "x", "--precision", "x" * 90_000], "use float32"),
        (["params", LONG_NAME], "there is no file or folder"),
        (["params", "~nosuchuser"], "no such user"),
        (["params", "--vocab-size", "9" * 4000], "at most 10^18"),
        (["export", RANDOM, "~nosuchuser/out"], "no such user"),
        (["export", RANDOM, "/proc/nowhere"], "/proc/nowhere"),
        (["export", RANDOM, LONG_NAME], "name too long"),
        (["compare", RANDOM, "--text", "~nosuchuser/t.txt"], "no such user"),
        (["compare", RANDOM, "--text", LONG_NAME], "name too long"),
        (["compare", LONG_NAME, "--text", __file__], "there is no file or folder"),
        (
            ["compare", RANDOM, "--text", __file__, "--tokens", "-8"],
            "--tokens is -8: use at least 2",
        ),
        (["compare", RANDOM, "--text", __file__, "--tokens", "1"], "tokens is 1: use"),
        (["train", "--text", LONG_NAME], "name too long"),
        (["train", "--text", "~nosuchuser/t.txt"], "~nosuchuser"),
        (
            ["train", "--text", __file__, "--emb-dim", "1" + "0" * 400, "--n-heads", "1"],
            "use a whole number of at most 10^18",
        ),
        (["train", "--text", __file__, "--vocab-size", "1" + "0" * 14], "training needs"),
        (["train", "--evaluate", "~nosuchuser/m", "--text", __file__], "no such user"),
        (["nonsense" * 10_000], "invalid choice"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else "",
)
def test_an_impossible_request_is_one_line_and_status_2(arguments, reason, capsys, tmp_path):
    """`~nosuchuser` and long names were tracebacks; `--tokens -8` measured all but 8 tokens."""
    assert reason.lower() in refused(arguments, capsys).lower()


def test_a_text_to_compare_on_that_is_no_utf8_is_called_so(capsys, tmp_path):
    """ "It is damaged, fetch it again", it said of one's own text; `train` said where and what."""
    file = tmp_path / "latin.txt"
    file.write_bytes("caf\xe9".encode("latin-1"))
    line = refused(["compare", RANDOM, "--text", str(file)], capsys)
    assert "(byte 0xE9 at position 3): save it as UTF-8" in line


def test_a_standard_input_that_is_no_text_is_one_line(capsys, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"\xff\xfe\x00"), "utf-8"))
    assert "the standard input is no utf-8 text" in refused(["generate"], capsys)


def test_a_held_out_text_that_is_no_utf8_is_told_with_the_byte(tmp_path, capsys):
    """It was called damaged, to be fetched again, as a model's file is."""
    path = tmp_path / "latin-1.txt"
    path.write_bytes("café".encode("latin-1"))
    line = refused(["compare", RANDOM, "--text", str(path)], capsys)
    assert line.endswith("is no UTF-8 text (byte 0xE9 at position 3): save it as UTF-8.")


def test_a_long_message_keeps_its_beginning_and_what_to_do(capsys):
    line = refused(["generate", "x", "--precision", "y" * 90_000], capsys)
    assert " … " in line
    assert line.endswith("int8.")


@pytest.fixture
def short_comparison(monkeypatch):
    """`compare` in one precision; that it measures all is in tests/test_precision_record.py."""
    monkeypatch.setattr(precision_record, "PRECISIONS", ("float32",))
    monkeypatch.setattr(precision_record, "SPEED_REPEATS", 1)
    monkeypatch.setattr(precision_record, "SPEED_TOKENS", 4)


COMMANDS = ["generate", "params", "train", "evaluate", "compare", "export"]


@pytest.mark.parametrize(
    ("command", "encoding"),
    [*((name, "ascii") for name in COMMANDS), ("params", "cp437"), ("generate", "cp1252")],
)
def test_a_console_that_is_not_utf8_shows_what_it_can(
    command, encoding, text, short_comparison, tmp_path, monkeypatch
):
    """`train` died at its first validation, before the checkpoint; `params` and `export` too."""
    arguments = {
        "generate": ["generate", TEXT, "--model", RANDOM, "--max-new-tokens", "2"],
        "params": ["params"],
        "train": [
            "train",
            "--text",
            text,
            "--validation",
            text,
            "--out",
            str(tmp_path),
            *TINY_RUN.split(),
        ],
        "evaluate": ["train", "--evaluate", RANDOM, "--text", text],
        "compare": ["compare", RANDOM, "--text", text, "--tokens", "20"],
        "export": ["export", RANDOM, str(tmp_path / "日本 – ×")],
    }[command]
    streams = {name: io.TextIOWrapper(io.BytesIO(), encoding) for name in ("stdout", "stderr")}
    for name, stream in streams.items():
        monkeypatch.setattr(sys, name, stream)
    status = main([*arguments, *(TINY_RUN.split() if command == "train" else [])])
    sys.stdout.flush()
    assert status == 0
    assert streams["stdout"].buffer.getvalue()


CHAPTER_5 = GPTConfig(vocab_size=50257, context_length=16, emb_dim=8, n_heads=2, n_layers=1)
SIZES = "--context-length 16 --emb-dim 8 --n-heads 2 --n-layers 1"


@pytest.fixture
def checkpoint(tmp_path):
    """Weights as the book saves them, without a configuration beside them."""
    path = tmp_path / "model_and_nothing_else.pth"
    torch.save(tiny_model(CHAPTER_5).state_dict(), path)
    return str(path)


@pytest.mark.parametrize(
    ("command", "how"),
    [
        *((name, "file") for name in ("generate", "export", "params", "compare", "evaluate")),
        ("generate", "sizes"),
        ("params", "sizes"),
    ],
)
def test_a_checkpoint_without_configuration_is_read_with_one(
    command, how, checkpoint, text, short_comparison, tmp_path, capsys
):
    """A checkpoint of the book's chapter 5 (context 256) could be read from Python only."""
    save_model(tiny_model(CHAPTER_5), tmp_path / "other", "float32")
    file = ["--config", str(tmp_path / "other" / "config.json")]
    given = SIZES.split() if how == "sizes" else file
    arguments = {
        "generate": ["generate", "Once", "--model", checkpoint, "--max-new-tokens", "2"],
        "export": ["export", checkpoint, str(tmp_path / "made")],
        "params": ["params", "gpt2-small"],
        "compare": ["compare", checkpoint, "--text", text, "--tokens", "20"],
        "evaluate": ["train", "--evaluate", checkpoint, "--text", text],
    }[command]
    assert main([*arguments, *given]) == 0
    if command == "params":
        assert "context_length 16, emb_dim 8" in capsys.readouterr().out


def test_the_refusal_of_a_checkpoint_without_configuration_names_the_options(checkpoint, capsys):
    line = refused(["generate", "Once", "--model", checkpoint], capsys)
    assert "--config FILE" in line
    assert "--context-length 256" in line


def test_a_configuration_that_is_not_the_models_is_refused(capsys):
    line = refused(["generate", "Once", "--model", RANDOM, "--n-layers", "7"], capsys)
    assert "cfg differs" in line
