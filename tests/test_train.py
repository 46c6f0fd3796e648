"""Training: events, a killed run, a run that diverges, two processes, the defined held-out loss."""

from __future__ import annotations

import json
import math
import re
import resource
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny_models import TINY, tiny_model

from gpt import GPTConfig
from gpt.__main__ import _parser, main
from gpt.checkpoints import load_checkpoint, save_model
from gpt.training import trainer
from gpt.training.command import train
from gpt.training.corpus import read_corpus
from gpt.training.evaluation import evaluate
from gpt.training.events import Evaluated, Sampled, Stepped
from gpt.training.options import TrainOptions
from gpt.training.trainer import Run

ROOT = Path(__file__).resolve().parent.parent
SMALL = GPTConfig(
    vocab_size=50257, context_length=16, emb_dim=24, n_heads=2, n_layers=2, tie_weights=True
)
SHAPE = [
    "--context-length", "16", "--emb-dim", "24", "--n-heads", "2", "--n-layers", "2",
    "--precision", "float32", "--warmup-steps", "2", "--batch-size", "4",
]  # fmt: skip
SENTENCE = "the king and the fox went to the old house by the sea and said to the queen come"
WORDS = SENTENCE.split()


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    """A file of 400 sentences that a tiny model can learn, in 4 texts."""
    generator = torch.Generator().manual_seed(0)
    sentences = [
        " ".join(WORDS[int(torch.randint(len(WORDS), (), generator=generator))] for _ in range(6))
        for _ in range(400)
    ]
    blocks = ["\n".join(sentences[i : i + 100]) for i in range(0, 400, 100)]
    path = tmp_path_factory.mktemp("text") / "tales.txt"
    path.write_text("\n<|endoftext|>\n".join(blocks))
    return str(path)


@pytest.fixture(scope="module")
def held_out(text, tmp_path_factory):
    path = tmp_path_factory.mktemp("text") / "held-out.txt"
    path.write_text(Path(text).read_text()[:600])
    return str(path)


def made(folder, text, out="run", cfg=SMALL, **changes):
    """A run on `text` in `out` below `folder`."""
    base = TrainOptions(
        text=(text,), out=out and str(folder / out), steps=12, batch_size=4, micro_batch=4,
        warmup_steps=3, precision="float32", report_every=1, checkpoint_every=5,
        validate_every=100, sample_tokens=5,
    )  # fmt: skip
    options = replace(base, **changes)
    return Run(cfg, options, read_corpus(options.text, options.validation))


@pytest.fixture
def begin(text, tmp_path):
    """Makes a run on `text` in the folder `out` of tmp_path."""

    def make(out="run", cfg=SMALL, text=text, **changes):
        return made(tmp_path, text, out, cfg, **changes)

    return make


@pytest.fixture(scope="module")
def two_steps(text, tmp_path_factory):
    """The checkpoint of a run of two steps."""
    return finished(made(tmp_path_factory.mktemp("two"), text, steps=2)).folder.checkpoint


def finished(run):
    list(run.events())
    return run


def metrics(run):
    return [json.loads(line) for line in run.folder.metrics.read_text().splitlines()]


def assert_same_weights(one, other):
    for (name, mine), theirs in zip(
        one.model.state_dict().items(), other.model.state_dict().values(), strict=True
    ):
        assert torch.equal(mine, theirs), name


def test_training_lowers_the_loss_and_leaves_a_model_that_loads(begin, held_out):
    run = begin(steps=30, peak_rate=1e-2, validation=held_out)
    events = list(run.events())
    held_out = [event for event in events if isinstance(event, Evaluated)]
    assert metrics(run)[0]["loss"] < math.log(50257)
    assert held_out[-1].nats_per_token < 5
    assert metrics(run)[-1]["validation"] == held_out[-1].nats_per_token
    model = load_checkpoint(run.folder.path / "model")
    assert model.cfg == SMALL
    assert model.tok_emb.weight is model.out_head.weight
    again = evaluate(model, run.corpus.held_out)
    assert again.nats_per_token == pytest.approx(held_out[-1].nats_per_token, abs=2e-2)
    assert again.n_targets == held_out[-1].n_targets


def test_the_held_out_loss_counts_tokens_that_the_text_lacks(begin, tmp_path):
    """It comes from the compact model, in which they share a row: as from the whole one."""
    path = tmp_path / "other.txt"
    path.write_text("A zebra played chess; the king and the fox went home. " * 3)
    run = begin(steps=3, validation=str(path))
    list(run.events())
    assert not set(run.corpus.held_out.tolist()) <= set(run.corpus.ids.tolist())
    whole = evaluate(run.whole_model(), run.corpus.held_out)
    assert run.evaluated().nats_per_token == pytest.approx(whole.nats_per_token, rel=1e-5)
    ids = run.corpus.held_out
    torch.testing.assert_close(run.nats(ids[:9]), run.nats(ids)[:8])  # shorter than a window


def test_events_are_steps_evaluations_and_samples(begin, held_out):
    run = begin(
        out="", steps=6, report_every=2, validate_every=3, validation=held_out, prompt="the",
        checkpoint_every=100,
    )  # fmt: skip
    events = list(run.events())
    assert [(type(event), event.step) for event in events] == [
        (Stepped, 2), (Stepped, 3), (Evaluated, 3), (Sampled, 3), (Stepped, 4),
        (Stepped, 6), (Evaluated, 6), (Sampled, 6),
    ]  # fmt: skip
    assert events[0].tokens == 2 * 4 * 16
    assert events[3].text.startswith("the ")
    assert run.folder is None
    assert not run.diverged


def test_the_memory_that_a_run_asks_for_has_the_logits_of_its_steps(begin, monkeypatch):
    """Of 49,374 tokens in windows of 512 they take 0.3 GB a window, beside 6 MB of weights."""
    asked = []
    monkeypatch.setattr(trainer, "check_memory", lambda n_bytes, *_: asked.append(n_bytes))
    for rows in (1, 4):
        run = begin(out="", micro_batch=rows)  # asks for its whole model, and for this
    assert asked[3] - asked[1] == 3 * 3 * 4 * SMALL.context_length * run.vocabulary.size


def test_a_validation_that_fails_leaves_the_checkpoint_of_its_step(begin, monkeypatch):
    """The checkpoint came after the sample: each rerun failed at the same place."""
    run = begin(validate_every=5)
    monkeypatch.setattr(run, "sampled", lambda: next(iter(())))
    with pytest.raises(RuntimeError, match="StopIteration"):
        list(run.events())
    assert run.saved_step == 5


def test_what_nobody_reads_after_the_last_step_is_not_computed(begin, held_out, monkeypatch):
    """The page's last step took as long as an evaluation and a sample that it does not ask for."""
    run = begin(steps=2, validation=held_out)
    monkeypatch.setattr(run, "evaluated", lambda: pytest.fail("was evaluated"))
    for event in run.events():
        if event.step == 2:
            break
    assert run.saved_step == 2


@pytest.mark.parametrize("steps", [2, 3])
def test_weights_that_an_update_has_spoilt_end_the_run_before_they_are_used(
    steps, begin, monkeypatch
):
    """Only steps with a checkpoint looked: "logits are not finite" at a validation or the end."""
    run = begin(steps=steps, validate_every=2, checkpoint_every=100)
    update = run._update

    def spoils(*given):
        stepped = update(*given)
        if run.step == 2:
            run.model.tok_emb.weight.data.fill_(math.nan)
        return stepped

    monkeypatch.setattr(run, "_update", spoils)
    with pytest.raises(ValueError, match=r"diverged, its .* at step 2: .*peak-rate"):
        train(run)


def test_two_runs_pulled_in_turns_are_the_two_runs_alone(begin):
    """Dropout comes from torch's one global generator, so that each step seeds it."""
    alone = finished(begin("alone"))
    one, other = begin("one"), begin("other", seed=7)
    for _ in zip(one.events(), other.events(), strict=True):
        torch.rand(3)  # and anybody else draws from it
    assert_same_weights(one, alone)


def test_a_step_leaves_the_global_generator_alone(begin):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    finished(begin(steps=2))
    assert torch.equal(torch.rand(3), expected)


def test_only_a_reported_step_reads_numbers_from_its_device(begin, monkeypatch):
    """Each reading waits for all that a GPU has still to do; the loss was read every step."""
    run, reads = begin(steps=12, report_every=12), []
    run.folder = None
    for name in ("__float__", "item", "tolist", "__bool__"):
        read = getattr(torch.Tensor, name)
        monkeypatch.setattr(
            torch.Tensor, name, lambda x, name=name, read=read: reads.append(name) or read(x)
        )
    batches = run._batches()
    for _ in range(4):  # checkpoints are every 5
        assert run._update(*next(batches)) is None
    assert set(reads) <= {"tolist"}  # of an epoch's order, which is on the CPU
    run._update(*next(batches))
    assert reads.count("__float__") == 3


def test_training_on_cuda_reads_no_ids_back():
    """The check of the ids' range waited for the GPU in every step; the run has made it once."""

    class OnCuda(torch.Tensor):
        is_cuda = True

        def min(self):
            pytest.fail("waits for the GPU")

    ids = torch.tensor([[5, 17, 3]])
    model = tiny_model(replace(TINY, drop_rate=0.0)).train()
    assert torch.equal(model(ids.as_subclass(OnCuda)), model(ids))


def test_a_run_keeps_no_graph_of_the_steps_before(begin):
    """An average of losses with their graphs would hold the activations of all steps."""
    run = begin(out="", steps=3)
    events = list(run.events())
    assert run.average.grad_fn is None
    values = [value for event in events for value in vars(event).values()]
    ids = [token for value in values if isinstance(value, tuple) for token in value]
    assert {type(value) for value in (*values, *ids)} <= {int, float, bool, str, tuple}


@pytest.mark.parametrize(
    ("precision", "kind"),
    [("auto", torch.float32), ("float32", torch.float32), ("bfloat16", torch.bfloat16)],
)
def test_a_run_on_a_cpu_is_in_float32_unless_told_otherwise(begin, precision, kind):
    """It was in bfloat16 autocast, which took longer on either kind of CPU that was at hand."""
    run, kinds = begin(out="", steps=1, precision=precision), []
    run.model.register_forward_hook(lambda *given: kinds.append(given[-1].dtype))
    batch = next(run._batches())
    run._update(*batch)
    assert kinds == [kind]


def test_the_default_precision_is_that_of_the_device_and_part_of_a_checkpoint(begin):
    """Devices may change when a run goes on, its arithmetic may not."""
    assert TrainOptions(device="cuda").with_precision().precision == "bfloat16"
    finished(begin(steps=1, precision="auto"))
    assert begin(steps=1, precision="float32").step == 1
    with pytest.raises(ValueError, match="was made with precision float32, not bfloat16"):
        begin(steps=1, precision="bfloat16")


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_a_killed_run_resumes_to_the_weights_of_an_uninterrupted_one(begin, optimizer, monkeypatch):
    whole = finished(begin("whole", optimizer=optimizer))
    gradients = Run._gradients

    def killed_after_seven(run, *args):
        if run.step == 7:
            raise RuntimeError("killed")
        return gradients(run, *args)

    monkeypatch.setattr(Run, "_gradients", killed_after_seven)
    with pytest.raises(RuntimeError, match="killed"):
        finished(begin("killed", optimizer=optimizer))
    monkeypatch.undo()
    resumed = begin("killed", optimizer=optimizer)
    assert resumed.step == 5
    assert_same_weights(finished(resumed), whole)
    assert torch.equal(resumed.average, whole.average)


def test_a_closed_run_keeps_its_last_step_and_goes_on_from_there(begin):
    whole, closed = finished(begin("whole")), begin("closed")
    events = closed.events()
    for _ in range(7):
        next(events)
    events.close()
    resumed = begin("closed")
    assert resumed.step == 7
    assert_same_weights(finished(resumed), whole)


def test_ctrl_c_within_a_step_keeps_the_step_before(begin, monkeypatch):
    """It lost what was done since the last checkpoint, up to 250 steps."""
    run, gradients = begin(), Run._gradients

    def interrupted(run, *args):
        loss = gradients(run, *args)
        if run.step == 7:
            raise KeyboardInterrupt
        return loss

    monkeypatch.setattr(Run, "_gradients", interrupted)
    with pytest.raises(KeyboardInterrupt):
        finished(run)
    assert begin().step == 7


def test_an_interrupt_in_a_step_that_has_shuffled_positions_saves_none_of_it(begin, monkeypatch):
    """The rows were saved as the step had shuffled them, and shuffled again when it went on."""
    whole, gradients = finished(begin("whole", positions=False)), Run._gradients

    def interrupted(run, *args):
        if run.step == 7:
            raise KeyboardInterrupt
        return gradients(run, *args)

    monkeypatch.setattr(Run, "_gradients", interrupted)
    with pytest.raises(KeyboardInterrupt):
        finished(begin("interrupted", positions=False))
    monkeypatch.undo()
    assert_same_weights(finished(begin("interrupted", positions=False)), whole)


def test_a_reader_that_fails_to_show_a_sample_finds_its_step_saved(begin):
    """On a console that is not UTF-8 each rerun died at its first sample, before the checkpoint."""
    run = begin(steps=10, validate_every=5)
    for event in run.events():
        if isinstance(event, Sampled):
            break
    assert begin(steps=10, validate_every=5).step == 5


def test_a_resumed_run_does_not_repeat_its_metrics(begin, monkeypatch):
    """metrics.jsonl had the steps 50, 100, 100, 120."""
    monkeypatch.setattr(trainer, "LOG_EVERY", 10)
    run = begin(checkpoint_every=6)
    for event in run.events():
        if event.step == 11:
            break
    run.folder.save({**torch.load(run.folder.checkpoint), "step": 6})  # killed before the 11th
    run.folder.metrics.open("a").write('{"step": 1')
    again = finished(begin(checkpoint_every=6))
    assert [line["step"] for line in metrics(again)] == [10, 12]


def test_a_run_that_diverges_ends_and_keeps_its_last_good_checkpoint(begin):
    """It went on, overwrote the checkpoint with NaN and reported success."""
    run = begin(peak_rate=1e6, weight_decay=1e5, checkpoint_every=1)
    assert finished(run).diverged
    assert 0 < run.saved_step < run.step < 12
    state = torch.load(run.folder.checkpoint)
    assert state["step"] == run.saved_step
    assert all(weights.isfinite().all() for weights in state["model"].values())
    assert not (run.folder.path / "model").exists()


def test_weights_that_the_last_update_spoilt_are_never_saved(begin):
    """The loss of that update is still finite: it was measured before."""

    def spoil_after(step):
        def hook(*_):
            if run.step == step - 1:
                run.model.pos_emb.weight.data[0, 0] = math.inf

        run.optimizers[0].register_step_post_hook(hook)

    run = begin("at a checkpoint")
    spoil_after(10)
    finished(run)
    assert (run.diverged, run.step, run.saved_step) == (True, 10, 5)
    run = begin("closed")
    spoil_after(7)
    for event in run.events():
        if event.step == 7:
            break
    assert begin("closed").step == 5


def test_the_command_says_that_a_run_diverged_and_fails(text, tmp_path, capsys):
    flags = ["--steps", "12", "--peak-rate", "1e6", "--weight-decay", "1e5"]
    assert main(["train", "--text", text, "--out", str(tmp_path / "run"), *SHAPE, *flags]) != 0
    error = capsys.readouterr().err.splitlines()[-1]
    assert "its loss is not finite at step 10: there is no checkpoint; use a lower" in error


def test_a_checkpoint_of_other_settings_is_refused(begin):
    finished(begin())
    with pytest.raises(ValueError, match=r"was made with peak_rate 0.001, not 0.1"):
        begin(peak_rate=0.1)


def test_a_checkpoint_of_another_text_is_refused(begin, text, tmp_path):
    finished(begin())
    other = tmp_path / "other.txt"
    other.write_text(Path(text).read_text().replace("king", "queen"))
    with pytest.raises(ValueError, match="was made with corpus"):
        begin(text=str(other))


def without_moments(state):
    """Of one weight alone: it began anew, and nobody was told."""
    del state["optimizers"][0]["state"][0]
    return state


def with_moments(state, change):
    for known in state["optimizers"][0]["state"].values():
        known["exp_avg"] = change(known["exp_avg"])
    return state


@pytest.mark.parametrize(
    "change",
    [
        lambda state: b"not a checkpoint",
        lambda state: [1, 2],
        lambda state: state["model"],
        lambda state: state["average"],
        lambda state: {**state, "options": {"steps": torch.zeros(2)}},
        lambda state: {**state, "optimizers": state["optimizers"][0]},
        lambda state: {**state, "model": {}},
        lambda state: {**state, "average": None},
        lambda state: {**state, "average": torch.zeros(3)},
        lambda state: {**state, "step": -5},
        lambda state: {**state, "step": 3},
        lambda state: with_moments(state, lambda moment: moment[:1]),
        lambda state: with_moments(state, lambda moment: None),
        without_moments,
        lambda state: {name: value for name, value in state.items() if name != "step"},
    ],
)
def test_a_checkpoint_that_is_not_ours_is_refused_in_one_line(begin, two_steps, tmp_path, change):
    """Another object was a KeyError, TypeError or IndexError with a traceback, as a tensor still
    was; a moment of another shape ended the process.
    """
    checkpoint = tmp_path / "run" / "checkpoint.pt"
    checkpoint.parent.mkdir()
    changed = change(torch.load(two_steps))
    if isinstance(changed, bytes):
        checkpoint.write_bytes(changed)
    else:
        torch.save(changed, checkpoint)
    with pytest.raises(ValueError, match=r"checkpoint.pt is .*: remove it or use another --out.$"):
        begin(steps=2)


@pytest.mark.filterwarnings("error")
def test_a_model_with_weights_beyond_float16_is_kept_in_float32(begin):
    """ "save in precision float32", said `train`, which has no such option, and wrote no model."""
    run = begin(steps=1)
    run.model.pos_emb.weight.data[0, 0] = 1e6
    finished(run)
    model = load_checkpoint(run.folder.path / "model")
    assert float(model.pos_emb.weight.detach()[0, 0]) == pytest.approx(1e6, rel=1e-3)


def test_a_vocabulary_too_small_for_the_text_is_refused(begin):
    with pytest.raises(ValueError, match="the text has token id 50,256 and vocab_size is 100"):
        begin(cfg=replace(SMALL, vocab_size=100))


def test_a_disk_that_fills_up_is_one_line_and_leaves_the_checkpoint_before(begin):
    """It was torch's "unexpected pos 64 vs 0", with a traceback and a file checkpoint.tmp."""
    run = begin()
    events = run.events()
    while run.saved_step == 0:
        next(events)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5_000, limits[1]))
    try:
        with pytest.raises(ValueError, match=r"checkpoint.pt cannot be written .File too large."):
            list(events)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert begin().step == 5
    assert sorted(path.name for path in run.folder.path.iterdir()) == ["checkpoint.pt"]


def test_accumulated_micro_batches_give_the_step_of_one_batch(begin):
    cfg = replace(SMALL, drop_rate=0.0)
    once = finished(begin("once", cfg, steps=3))
    parts = finished(begin("parts", cfg, steps=3, micro_batch=1))
    for mine, theirs in zip(once.model.parameters(), parts.model.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-5, rtol=0)


def test_two_processes_share_the_windows_of_each_step(begin):
    alone, shares = next(begin(out="")._batches()), []
    for rank in (0, 1):
        run = begin(out="")
        run.rank, run.world = rank, 2
        shares.append(next(run._batches()))
    for whole, *halves in zip(alone, *shares, strict=True):
        assert torch.equal(whole[0::2], halves[0])
        assert torch.equal(whole[1::2], halves[1])


TWO = """
import os, sys
import torch._dynamo  # DistributedDataParallel imports it, for two seconds
from torch.distributed import TCPStore
from gpt.__main__ import main

store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(store.port), WORLD_SIZE="2")
os.environ["TORCHELASTIC_USE_AGENT_STORE"] = "True"
children = []
for rank in ("0", "1"):
    child = os.fork()
    if child == 0:
        os.environ.update(RANK=rank, LOCAL_RANK=rank)
        os._exit(main(sys.argv[1:]))
    children.append(child)
sys.exit(any([os.waitpid(child, 0)[1] for child in children]))
"""


def test_two_processes_give_the_loss_of_one(begin, text, tmp_path):
    """With gloo on the CPU and what torchrun gives to each process; imports are made once for both.

    And its gradients, of which Adam's moments are an average: four steps of half of them have
    nearly the same loss. No dropout, since each process draws its own.
    """
    subprocess.run(
        [sys.executable, "-c", TWO, "train", "--text", text, "--steps", "4", *SHAPE,
         "--drop-rate", "0", "--out", str(tmp_path / "by2")],
        cwd=ROOT, check=True, capture_output=True, timeout=300,
    )  # fmt: skip
    one = finished(begin(cfg=replace(SMALL, drop_rate=0.0), steps=4, warmup_steps=2))
    two = json.loads((tmp_path / "by2" / "metrics.jsonl").read_text().splitlines()[-1])
    assert metrics(one)[-1]["loss"] == pytest.approx(two["loss"], abs=1e-3)
    states = (torch.load(tmp_path / run / "checkpoint.pt") for run in ("run", "by2"))
    for mine, theirs in zip(*(s["optimizers"][0]["state"].values() for s in states), strict=True):
        torch.testing.assert_close(mine["exp_avg"], theirs["exp_avg"], rtol=1e-3, atol=1e-5)


def test_every_option_has_a_flag_with_its_default():
    args = _parser().parse_args(
        ["train", "--text", "a.txt", "--no-attention-dropout", "--peak-rate", "0.5"]
    )
    assert args.text == ["a.txt"]
    assert args.peak_rate == 0.5
    assert args.precision == "auto"
    assert args.steps == TrainOptions().steps
    assert args.tie_weights is True


def test_evaluating_a_model_that_is_sure_and_wrong_prints_its_perplexity(
    held_out, tmp_path, capsys
):
    model = tiny_model(SMALL)
    with torch.no_grad():
        model.out_head.weight.mul_(2000)
    folder = save_model(model, tmp_path / "sure", "float32")
    assert main(["train", "--evaluate", str(folder), "--text", held_out]) == 0
    assert re.match(r"[\d.]+ nats a token, perplexity e\^[\d,.]+, over", capsys.readouterr().out)
