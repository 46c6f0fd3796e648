"""A configuration for elsewhere: as text and back, for API clients, as a model of other tabs."""

import json
from typing import Any

from gpt.accounting import count_parameters
from gpt.accounting.memory import weight_bytes
from gpt.accounting.timing import LIMIT_BYTES, build_bytes
from gpt.checkpoints.gpt2_names import read_configuration
from gpt.checkpoints.sources import random_source
from gpt.checkpoints.tensors import text_of
from gpt.config import GPTConfig
from gpt.sampling import MAX_SEED
from gpt.ui.architecture.controls import configuration
from gpt.ui.architecture.costs import readable_count
from gpt.ui.parts.numbers import mib_and_mb, whole
from gpt.ui.parts.table import csv_text

EXAMPLE = '{"emb_dim": 768, …}'
LONGEST_JSON = 100_000
MOST_DIGITS = 30  # of a whole number: enough for any size, and a message stays one line


def to_json(cfg: GPTConfig) -> str:
    """The eight fields as a JSON object, which `from_json` reads back."""
    return json.dumps(dict(cfg), indent=2) + "\n"


def to_python(cfg: GPTConfig) -> str:
    """A program that builds the model with `gpt` and says how many parameters it has."""
    fields = "".join(f"    {name}={value!r},\n" for name, value in cfg.items())
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


# What writes each format, and the language that gr.Code shows it in.
FORMATS = {
    "JSON": (to_json, "json"), "Python": (to_python, "python"), "CSV of the table": (to_csv, None),
}  # fmt: skip


def from_json(text: str | bytes) -> tuple[GPTConfig, str]:
    """The configuration in a JSON text, in one of four dialects, and what was read.

    Raises ValueError, in one line, if it is no JSON object or no model that `gpt` can build.
    """
    text = text_of(text, "this file") if isinstance(text, bytes) else text or ""
    text = text.removeprefix("\ufeff")  # a byte order mark, as Windows editors write it
    if not text.strip():
        raise ValueError("there is nothing to read: paste a JSON object such as the one exported.")
    if len(text) > LONGEST_JSON:
        raise ValueError(f"the text has {len(text):,} characters: use at most {LONGEST_JSON:,}.")
    try:
        data = json.loads(text, parse_int=_whole)
    except (json.JSONDecodeError, RecursionError) as error:
        wrong = "the JSON is nested too deep"
        if isinstance(error, json.JSONDecodeError):
            wrong = f"line {error.lineno} is not valid JSON"
        raise ValueError(f"{wrong}: paste an object such as {EXAMPLE}.") from error
    if not isinstance(data, dict):
        raise ValueError(f"the JSON is a {type(data).__name__}: use an object with named sizes.")
    cfg, said = read_configuration(data)
    return configuration(cfg), said


def architecture(
    vocab_size: int = 50257,
    context_length: int = 1024,
    emb_dim: int = 768,
    n_heads: int = 12,
    n_layers: int = 12,
    drop_rate: float = 0.1,
    qkv_bias: bool = False,
    tie_weights: bool = False,
) -> list[str | dict[str, Any]]:
    """A sentence with the total, the table (headers, data), and the numbers as JSON.

    Every parameter defaults to the book's 124M configuration. A whole number above 2**53, which
    JSON readers round or refuse, is rounded to a float, and stands in full under "exact".
    """
    cfg = configuration(locals())
    count = count_parameters(cfg)
    headers = ["part", "shape", "formula", "with these numbers", "parameters", "what for"]
    data = [
        [row.name, row.shape, row.formula, row.numbers, _for_json(row.count), row.purpose]
        for row in count.rows
    ]
    exact = {"total": count.total, "block": count.block}
    exact["float32_bytes"] = weight_bytes(cfg, "float32")
    numbers: dict[str, Any] = {name: _for_json(value) for name, value in exact.items()}
    numbers["exact"] = {name: str(value) for name, value in exact.items()}
    numbers["config"] = dict(cfg)
    # gr.api sends a list as one result, as clients know it, and would make three of a tuple.
    return [f"{count.total:,} parameters", {"headers": headers, "data": data}, numbers]


def offered(cfg: GPTConfig, seed: Any) -> tuple[str, str]:
    """Label and source of a random model; only these are remembered, never weights.

    Raises ValueError if drawing its float32 weights exceeds the limit or the seed is no whole
    number.
    """
    seed = whole("seed", seed, 0, MAX_SEED)
    needed = build_bytes(cfg)
    if needed > LIMIT_BYTES:
        raise ValueError(
            f"drawing the weights of this model takes {mib_and_mb(needed)} and "
            f"{mib_and_mb(LIMIT_BYTES)} are allowed here: make it smaller to use it."
        )
    total = readable_count(count_parameters(cfg).total)
    label = f"Yours, untrained: {total} parameters, {cfg.n_layers} × {cfg.emb_dim}, seed {seed}"
    return label, random_source(cfg, seed)


def _whole(digits: str) -> int:
    if len(digits) > MOST_DIGITS:
        raise ValueError(f"a number has {len(digits):,} digits: use at most {MOST_DIGITS}.")
    return int(digits)


def _for_json(value: int) -> int | float:
    """`value`, or the nearest float where a browser would round it anyway."""
    return value if value <= 2**53 else float(value)
