"""A configuration as text for elsewhere, and back: JSON, Python, CSV; Hugging Face's JSON too."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from gpt.accounting import count_parameters
from gpt.checkpoints.gpt2_names import read_configuration
from gpt.config import GPTConfig
from gpt.ui.architecture.controls import configuration
from gpt.ui.parts.table import csv_text

LONGEST_JSON = 100_000
MOST_DIGITS = 30  # of a whole number: enough for any size, and a message stays one line
FORMATS = {"JSON": "json", "Python": "python", "CSV of the table": None}  # gr.Code's languages


def export(cfg: GPTConfig, form: str) -> str:
    """`cfg` in one of FORMATS. Raises ValueError if there is no such format."""
    writers = dict(zip(FORMATS, (to_json, to_python, to_csv), strict=True))
    if form not in writers:
        raise ValueError(f"format is {form!r}: use {', '.join(FORMATS)}.")
    return writers[form](cfg)


def to_json(cfg: GPTConfig) -> str:
    """The eight fields as a JSON object, which `from_json` reads back."""
    return json.dumps(asdict(cfg), indent=2) + "\n"


def to_python(cfg: GPTConfig) -> str:
    """A program that builds the model with `gpt` and says how many parameters it has."""
    fields = "".join(f"    {name}={value!r},\n" for name, value in asdict(cfg).items())
    return (
        "import torch\n\n"
        "from gpt import GPTConfig, GPTModel\n\n"
        f"cfg = GPTConfig(\n{fields})\n"
        "torch.manual_seed(123)\n"
        "model = GPTModel(cfg).eval()\n"
        f"assert sum(p.numel() for p in model.parameters()) == {count_parameters(cfg).total}\n"
    )


def to_csv(cfg: GPTConfig) -> str:
    """The per-part table, a line a part, with a header; counts are plain digits."""
    count = count_parameters(cfg)
    headers = ("part", "group", "copies", "shape", "formula", "parameters", "purpose")
    rows = [(r.name, r.group, r.copies, r.shape, r.formula, r.count, r.purpose) for r in count.rows]
    return csv_text(headers, [*rows, ("total", "", "", "", "", count.total, "")])


def from_json(text: str | bytes) -> tuple[GPTConfig, str]:
    """The configuration in a JSON text, in one of four dialects, and what was read.

    Raises ValueError, in one line, if it is no JSON object or no model that `gpt` can build.
    """
    cfg, said = read_configuration(_object(text))
    return configuration(asdict(cfg)), said


def _object(text: str | bytes) -> dict[str, Any]:
    if isinstance(text, bytes):
        try:
            text = text.decode()
        except UnicodeDecodeError as error:
            raise ValueError("this file is no UTF-8 text: use a JSON file.") from error
    text = (text or "").removeprefix("\ufeff")  # a byte order mark, as Windows editors write it
    if not text.strip():
        raise ValueError("there is nothing to read: paste a JSON object such as the one exported.")
    if len(text) > LONGEST_JSON:
        raise ValueError(f"the text has {len(text):,} characters: use at most {LONGEST_JSON:,}.")
    try:
        data = json.loads(text, parse_int=_whole)
    except (json.JSONDecodeError, RecursionError) as error:
        where = f"line {error.lineno}" if isinstance(error, json.JSONDecodeError) else "its depth"
        raise ValueError(f"this is no valid JSON ({where}): paste a JSON object.") from error
    if not isinstance(data, dict):
        raise ValueError(f"the JSON is a {type(data).__name__}: use an object with named sizes.")
    return data


def _whole(digits: str) -> int:
    if len(digits) > MOST_DIGITS:
        raise ValueError(f"a number has {len(digits):,} digits: use at most {MOST_DIGITS}.")
    return int(digits)
