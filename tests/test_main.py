"""The command line: its streams, its exit, its numbers; hostile input is in tests/hostile/."""

import io
import json
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny_models import TINY, tiny_model

from gpt import count_parameters, generate_text_simple, load_model, tokenizer_of
from gpt.__main__ import main
from gpt.checkpoints import save_model
from gpt.checkpoints.sources import random_source

ROOT = Path(__file__).resolve().parent.parent
WORDS = replace(TINY, vocab_size=50257, emb_dim=8, n_heads=2)  # narrow, but it can speak
RANDOM = random_source(WORDS, 3)
COMMAND = [sys.executable, "-m", "gpt"]


# generate


def expected(prompt, n_tokens):
    tokenizer, model = tokenizer_of("gpt2"), load_model(RANDOM)
    ids = torch.tensor([tokenizer.encode(prompt)])
    return tokenizer.decode(generate_text_simple(model, ids, n_tokens, 32)[0].tolist())


def test_generate_writes_prompt_and_continuation_to_the_output_and_notes_to_the_error(capsys):
    arguments = ["Hello, I am", "--model", RANDOM, "--max-new-tokens", "6", "--temperature", "0"]
    assert main(["generate", *arguments]) == 0
    output = capsys.readouterr()
    assert output.out == expected("Hello, I am", 6) + "\n"
    assert "6 tokens" in output.err
    assert "seed" in output.err


def test_the_seed_that_was_told_gives_the_same_text_again(capsys):
    arguments = ["generate", "Once", "--model", RANDOM, "--max-new-tokens", "8"]
    main(arguments)
    first = capsys.readouterr()
    main([*arguments, "--seed", first.err.split()[-1]])
    assert capsys.readouterr().out == first.out


def test_a_long_prompt_is_told_to_be_cut_before_the_run(capsys):
    main(["generate", "word " * 40, "--model", RANDOM, "--max-new-tokens", "2"])
    assert "are left out" in capsys.readouterr().err


def test_the_prompt_may_come_from_the_standard_input(capsys, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("Grüße, 日本"))
    arguments = ["--model", RANDOM, "--temperature", "0", "--max-new-tokens", "3"]
    assert main(["generate", *arguments]) == 0
    assert capsys.readouterr().out == expected("Grüße, 日本", 3) + "\n"


LONG = [*COMMAND, "generate", "Hello", "--model", RANDOM, "--max-new-tokens", "1000000"]


def test_the_text_is_streamed_and_a_closed_pipe_ends_the_run_quietly():
    process = subprocess.Popen(LONG, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert len(process.stdout.read(200)) == 200  # of a run that would take hours
    process.stdout.close()
    error = process.stderr.read().decode()
    assert process.wait(timeout=60) == 141
    assert "Traceback" not in error
    assert "Exception" not in error


def test_ctrl_c_stops_the_run_and_keeps_what_was_written(monkeypatch):
    """A real SIGINT, sent once 200 characters are out; a started process costs two seconds more.

    A shell's background job ignores SIGINT and its children inherit that: undone here.
    """

    class Terminal(io.StringIO):
        sent = 0

        def write(self, text):
            written = super().write(text)
            if not self.sent and self.tell() >= 200:
                self.sent = self.tell()
                signal.raise_signal(signal.SIGINT)
            return written

    output, error = Terminal(), io.StringIO()
    monkeypatch.setattr(sys, "stdout", output)
    monkeypatch.setattr(sys, "stderr", error)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        assert main(LONG[len(COMMAND) :]) == 130
    except KeyboardInterrupt:
        pytest.fail("it reached the interpreter")
    finally:
        signal.signal(signal.SIGINT, before)
    text = output.getvalue()
    assert text.startswith("Hello")
    assert text.endswith("\n")
    assert 200 <= output.sent <= len(text) < 400  # of a run that would take hours
    assert "stopped" in error.getvalue()
    assert "seed" in error.getvalue()


@pytest.mark.parametrize("given", [None, "1"])
def test_every_command_takes_the_cores_that_are_its_own(given, monkeypatch, capsys):
    """`generate`, `train` and `export` started a thread for every core of a container's host."""
    threads = []
    monkeypatch.setattr("gpt.__main__.usable_cores", lambda: 3)
    monkeypatch.setattr(torch, "set_num_threads", threads.append)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if given:  # as torchrun does
        monkeypatch.setenv("OMP_NUM_THREADS", given)
    for command in (["params"], ["generate", ""], ["export", "nowhere", "x"]):
        main(command)
    assert threads == ([] if given else [3, 3, 3])


def test_min_p_of_one_leaves_the_most_probable_token(capsys):
    arguments = ["generate", "Hello", "--model", RANDOM, "--max-new-tokens", "5"]
    main([*arguments, "--min-p", "1"])
    sampled = capsys.readouterr().out
    main([*arguments, "--temperature", "0"])
    assert capsys.readouterr().out == sampled


@pytest.mark.parametrize("given", ["abc", "1:", "1:x", "-1:2", "1:2:3"])
def test_a_steering_that_is_none_is_one_line(capsys, given):
    """It said "invalid _steer value: 'abc'"."""
    with pytest.raises(SystemExit):
        main(["generate", "Hi", f"--steer={given}"])
    assert f"'{given}' is no POSITION:ID, such as 2:257" in capsys.readouterr().err


def test_a_steered_run_that_stops_at_a_text_is_written_by_the_command(capsys):
    arguments = ["generate", "Hello", "--model", RANDOM, "--max-new-tokens", "9", "--seed", "1"]
    main([*arguments, "--steer", "2:15496"])  # Hello
    whole = capsys.readouterr().out
    assert whole.count("Hello") == 2
    main([*arguments, "--steer", "2:15496", "--stop", "Hello"])
    assert capsys.readouterr().out == whole[: whole.rindex("Hello") + 5] + "\n"


# Mistakes


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["generate", "x", "--model", "nowhere"], "there is no file or folder nowhere"),
        (["generate", "", "--model", RANDOM], "the prompt is empty"),
        (["generate", "x", "--model", RANDOM, "--top-p", "2"], "top_p is 2.0"),
        (["generate", "x", "--model", RANDOM, "--device", "abacus"], "abacus"),
        (["generate", "x", "--model", RANDOM, "--precision", "int3"], "use float32"),
        (["generate", "hello", "--model", random_source(TINY, 0)], "outside the vocabulary"),
        (["params", "--emb-dim", "770"], "use 768 or 780"),
        (["params", "--drop-rate", "2"], "drop_rate is 2.0"),
        (["export", "nowhere", "somewhere"], "there is no file or folder nowhere"),
        (["train", "--text", "nowhere.txt"], "nowhere.txt"),
    ],
)
def test_a_mistake_is_one_line_and_status_2(arguments, reason, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.startswith("error: ")
    assert reason in output.err
    assert output.err.count("\n") == 1


def test_a_bug_is_not_dressed_up_as_a_mistake(monkeypatch):
    def broken(*_, **__):
        raise KeyError("a bug")

    monkeypatch.setattr("gpt.__main__.load_model", broken)
    with pytest.raises(KeyError):
        main(["generate", "x"])


@pytest.mark.parametrize("command", ["generate", "params", "train", "export"])
def test_help_has_examples_and_says_what_a_model_is(command, capsys):
    with pytest.raises(SystemExit) as caught:
        main([command, "--help"])
    text = capsys.readouterr().out
    assert caught.value.code == 0
    assert f"python -m gpt {command}" in text.split("examples:")[1]
    assert "storyteller" in text.split("models,")[1]


def test_without_a_command_the_commands_are_listed(capsys):
    with pytest.raises(SystemExit) as caught:
        main([])
    assert caught.value.code == 2
    assert "COMMAND" in capsys.readouterr().err


# params


def test_params_prints_the_accounting_of_the_books_model(capsys):
    assert main(["params"]) == 0
    text = capsys.readouterr().out
    assert "163,009,536 parameters, 621.83 MiB in float32" in text
    assert "vocab × d" in text


def test_params_takes_presets_models_and_changes(capsys, tmp_path):
    folder = save_model(tiny_model(), tmp_path)
    cases = {
        ("gpt2-xl",): 1_637_792_000,
        ("gpt2-small", "--tie-weights", "--qkv-bias"): 124_439_808,
        ("gpt2",): 124_439_808,
        (str(folder),): count_parameters(TINY).total,
        (str(folder), "--n-layers", "4"): count_parameters(replace(TINY, n_layers=4)).total,
    }
    for arguments, total in cases.items():
        assert main(["params", *arguments]) == 0
        assert f"{total:,} parameters" in capsys.readouterr().out


# export


def test_export_writes_a_folder_that_loads_again_and_lists_it(capsys, tmp_path):
    assert main(["export", RANDOM, str(tmp_path / "made"), "--precision", "float16"]) == 0
    listed = capsys.readouterr().out
    for name in ("config.json", "model.safetensors", "vocab.json", "merges.txt"):
        assert name in listed
    assert json.loads((tmp_path / "made/config.json").read_text())["model_type"] == "gpt2"
    back, ours = load_model(tmp_path / "made"), load_model(RANDOM, precision="float16")
    assert torch.equal(back.pos_emb.weight, ours.pos_emb.weight.half().float())
    assert torch.equal(back.out_head.weight, ours.out_head.weight.float())
