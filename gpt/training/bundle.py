"""A trained model to take along: our folder, Hugging Face's, the texts, a program and a card."""

import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import torch

from gpt.accounting import count_parameters
from gpt.checkpoints import export_model
from gpt.checkpoints.writing import write_text
from gpt.training.choices import Text
from gpt.training.events import Evaluated, Stepped
from gpt.training.options import TrainOptions
from gpt.training.trainer import Run

NAME = "trained-gpt"  # of the folder in the zip
_KEPT = {"text", "validation", "vocabulary", "out", "steps", "device"}  # always in the program


def write_bundle(
    run: Run, text: Text, steps: Sequence[Stepped], evaluated: Evaluated, sample: str, folder: Path
) -> Path:
    """The zip in `folder`, beside the files that it holds; model/ has the model in float32.

    `steps` are all steps that were done, also those that a diverged run took back. `evaluated` and
    `sample` are of the model as it is now.
    Raises ValueError if something cannot be written.
    """
    run.write_model(folder / "model", "float32")
    export_model(run.whole_model(), folder / "huggingface", run.corpus.tokenizer)
    lines = [",".join(item.name for item in fields(Stepped))]
    kept = (stepped for stepped in steps if stepped.step <= run.step)
    lines += [",".join(map(str, asdict(stepped).values())) for stepped in kept]
    for name, content in (
        ("text.txt", text.text),
        ("held_out.txt", text.held_out),
        ("steps.csv", "\n".join([*lines, ""])),
        ("train.py", program(run)),
        ("README.md", card(run, text, evaluated, sample)),
    ):
        write_text(folder / name, content)
    archive = folder / f"{NAME}.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as file:
        for path in sorted(folder.rglob("*")):
            if path.is_file() and path != archive:
                file.write(path, Path(NAME) / path.relative_to(folder))
    return archive


def program(run: Run) -> str:
    """Python that trains the same model again, up to its step, from the two texts beside it."""
    plain = {"text": ("text.txt",), "validation": "held_out.txt", "out": "", "device": "cpu"}
    options = {**asdict(run.options), **plain}
    defaults = asdict(TrainOptions())
    options = {n: v for n, v in options.items() if n in _KEPT or v != defaults[n]}
    return (
        '"""Trains this model again: the same weights on the same kind of machine."""\n\n'
        "from gpt import GPTConfig\n"
        "from gpt.checkpoints import save_model\n"
        "from gpt.training.corpus import read_corpus\n"
        "from gpt.training.events import Stepped\n"
        "from gpt.training.options import TrainOptions\n"
        "from gpt.training.trainer import Run\n\n"
        f"cfg = GPTConfig(\n{_arguments(run.cfg)})\n"
        f"options = TrainOptions(\n{_arguments(options)})\n"
        "corpus = read_corpus(options.text, options.validation, options.vocabulary)\n"
        "run = Run(cfg, options, corpus)\n"
        f"for event in {'run.events()' if run.step else '()'}:\n"
        "    print(event)\n"
        f"    if isinstance(event, Stepped) and event.step == {run.step}:\n"
        "        break\n"
        'save_model(run.whole_model(), "trained", "float32")\n'
    )


def card(run: Run, text: Text, evaluated: Evaluated, sample: str) -> str:
    """A model card filled from the run."""
    floor = text.floor(run.corpus)
    quoted = "\n".join(f"    {line}" for line in sample.splitlines())
    sizes = "\n".join(f"* {name}: {value}" for name, value in run.cfg.items())
    return (
        f"# A small GPT, trained on {text.name}\n\n"
        f"{count_parameters(run.cfg).total:,} parameters, {run.step:,} of {run.options.steps:,} "
        f"steps, {run.seconds:.1f} s of training with torch {torch.__version__}.\n\n"
        f"Held-out loss: {evaluated.nats_per_token:.4f} nats a token over "
        f"{evaluated.n_targets:,} targets"
        f"{'' if floor is None else f'; no model beats {floor:.4f} but by chance'}.\n\n"
        f"{sizes}\n* vocabulary: {run.options.vocabulary}\n* seed: {run.options.seed}\n\n"
        f"A sample:\n\n{quoted}\n\n"
        "`model/` is for `gpt.load_model`, `huggingface/` for `transformers`; `steps.csv` has the "
        "losses, and `train.py` trains it again from `text.txt` and `held_out.txt` "
        "(`PYTHONPATH=<the repository> python train.py`).\n"
    )


def _arguments(values: Mapping[str, Any]) -> str:
    return "".join(f"    {name}={value!r},\n" for name, value in values.items())
