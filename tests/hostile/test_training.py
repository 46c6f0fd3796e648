"""What `train` can be given and must refuse in one line, before it reads or computes for long."""

from __future__ import annotations

import re
import time

import pytest
import torch._dynamo  # noqa: F401 - the first optimizer imports it, for nearly a second

from gpt.__main__ import main


@pytest.fixture
def text(tmp_path, tokenizer):
    """A text, and the vocabulary read: that takes a second, once."""
    path = tmp_path / "text.txt"
    path.write_text("the king and the fox went to the old house by the sea\n" * 10)
    return str(path)


SHAPE = [
    "--context-length", "16", "--emb-dim", "24", "--n-heads", "2", "--n-layers", "2",
    "--steps", "1",
]  # fmt: skip


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--device", "tpu"], "device 'tpu' is unknown"),
        (["--device", "meta"], "there is no meta device here"),
        (["--out", "{taken}"], "taken cannot be made (File exists): use another --out"),
        (["--out", "{taken}/run"], "run cannot be made (Not a directory): use another --out"),
        (["--out", ""], "out is empty"),
        (["--validation", "{empty}"], "empty holds no text"),
        (["--emb-dim", "1000000"], "training needs"),
        (["--seed", "18446744073709551616"], "seed is 18446744073709551616"),
        (["--peak-rate", "nan"], "peak_rate is nan: use 0 to"),
        (["--steps", "0"], "steps is 0: use 1 to"),
        (["--clip", "-1"], "clip is -1.0: use more than 0"),
        (["--optimizer", "sgd"], "optimizer is 'sgd': use adamw or muon"),
        (["--vocabulary", "characters"], "no token for byte 0x4F: use another --prompt"),
        (["--batch-size", str(2**40)], "batch_size is 1099511627776: use 1 to 65,536"),
        (["--micro-batch", str(2**40)], "micro_batch is 1099511627776: use 1 to 65,536"),
        (["--vocabulary", "9" * 5000], "vocabulary is '9999"),
        (["--validation", "{blanks}"], "blanks holds no text"),
        (["--out", "~nosuchuser/x"], "no such user"),
        (["--n-heads", "5"], "emb_dim 24 is not divisible by 5 heads"),
        (["--text", "/dev/zero"], "/dev/zero is no file: name one."),
        (["--validation", "/dev/zero"], "/dev/zero is no file: name one."),
    ],
)
def test_what_cannot_be_trained_is_one_line(flags, message, text, tmp_path, capsys):
    """Devices, folders and sizes ended in a traceback; a seed in "Overflow when unpacking". A
    prompt that the vocabulary lacks was told at the first validation; a huge batch, and a text
    without an end, never ended.
    """
    (tmp_path / "taken").write_text("a file")
    (tmp_path / "empty").write_text("")
    (tmp_path / "blanks").write_text(" \n" * 9)
    places = {name: tmp_path / name for name in ("taken", "empty", "blanks")}
    given = [flag.format(**places) for flag in flags]
    started = time.process_time()
    assert main(["train", "--text", text, "--out", str(tmp_path / "run"), *SHAPE, *given]) == 2
    assert time.process_time() - started < 1
    assert message in the_one_line(capsys)


def test_a_process_of_several_without_its_gpu_is_one_line(text, tmp_path, capsys, monkeypatch):
    """By torchrun `--device cuda` was a traceback of torch, which is alone refused in one line."""
    monkeypatch.setenv("WORLD_SIZE", "100")
    monkeypatch.setenv("LOCAL_RANK", "99")
    given = ["train", "--text", text, "--out", str(tmp_path / "run"), *SHAPE]
    assert main([*given, "--device", "cuda"]) == 2
    assert re.search("there is no (cuda device|device cuda:99) here", the_one_line(capsys))


def the_one_line(capsys):
    *before, error = capsys.readouterr().err.strip().splitlines()
    assert before == []
    assert error.startswith("error: ")
    return error
