"""Bytes of a GPT: weights, keys and values, activations, training state, each with its formula."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gpt.accounting.parameters import count_parameters, letters_of, typeset, value_of
from gpt.config import GPTConfig, as_config

# The P parameters are the matrices M of attention, feed-forward and head, which have R rows in all;
# the token embedding E, beside the head even where the two are tied, since a packed head cannot be
# indexed; and N others: positions, and B norms and biases, always float32 on a CPU.
# By precision: bytes of all, bytes that a pass reads (of the embeddings only some rows), a note.
# Source for 4-bit: ggml's block_q4_0, 18 bytes for 32 numbers.
_SIXTEEN_BITS = "matrices and token embedding in 16 bits, the rest in float32"
_WEIGHTS: dict[str, tuple[str, str, str]] = {
    "float32": ("4*P", "4*(M + B)", ""),
    "float16": ("2*(M + E) + 4*N", "2*M + 4*B", _SIXTEEN_BITS),
    "bfloat16": ("2*(M + E) + 4*N", "2*M + 4*B", _SIXTEEN_BITS),
    "int8": (
        "M + E + 4*(R + vocab + N)",
        "M + 4*(R + B)",
        "matrices and token embedding in 8 bits with a float32 scale a row; the rest in float32",
    ),
    "4-bit": (
        "M*18/32 + 2*(P - M)",
        "M*18/32 + 2*B",
        "not implemented here; a float16 scale per 32, rest float16",
    ),
}
PRECISIONS = tuple(_WEIGHTS)

# Rajbhandari et al. 2020 (ZeRO), section 3.1: weights and gradients in 16 bits, then the
# float32 copy and Adam's two moments. The others keep everything in float32.
_TRAINING: dict[str, tuple[str, str, str]] = {
    "adamw-mixed": (
        "AdamW, mixed precision",
        "(2 + 2 + 4 + 4 + 4)*P",
        "16-bit weights and gradients; a float32 copy and two moments",
    ),
    "adamw-float32": (
        "AdamW, float32 (the book's)",
        "(4 + 4 + 4 + 4)*P",
        "weights, gradients and two moments",
    ),
    "sgd-float32": ("SGD, float32", "(4 + 4)*P", "weights and gradients, no momentum"),
}
TRAINING_STATES = tuple(_TRAINING)
# Of `python -m gpt train`: a name, bytes of a number that is not the stream's, what else, a note.
_TRAIN: dict[str, tuple[str, int, str, str]] = {
    "float32": ("float32", 4, "", "its default on a CPU; no attention matrix"),
    "bfloat16": (
        "bfloat16 autocast",
        2,
        " + 2*M",
        "its default elsewhere; float32 stream, bfloat16 products and copies of the matrices; no "
        "attention matrix",
    ),
}


@dataclass(frozen=True)
class Amount:
    """A number of bytes (or operations) with its formula, the same with numbers, and a note."""

    name: str
    value: float
    formula: str
    numbers: str
    note: str = ""
    estimate: bool = False


def amount(
    name: str, source: str, letters: Mapping[str, int], note: str = "", estimate: bool = False
) -> Amount:
    """The formula `source` evaluated for `letters`, with its text."""
    value, numbers = value_of(source, letters), typeset(source, letters)
    return Amount(name, value, typeset(source), numbers, note, estimate)


def weights(cfg: GPTConfig, precision: str = "float32") -> Amount:
    """Bytes of all parameters as stored in `precision`, one of PRECISIONS."""
    source, _, note = _row(_WEIGHTS, "precision", precision)
    return amount(precision, source, _weight_letters(cfg), note)


def weight_bytes(cfg: GPTConfig | Mapping[str, Any], precision: str) -> int:
    """`weights` as a whole number, for budgets."""
    return int(weights(as_config(cfg), precision).value)


def size_text(n_bytes: float) -> str:
    """Bytes in the unit that fits: `622 MiB`, and from a GiB on `6.10 GiB`."""
    return f"{n_bytes / 2**30:,.2f} GiB" if n_bytes >= 2**30 else f"{n_bytes / 2**20:,.0f} MiB"


def read_per_pass(cfg: GPTConfig, precision: str) -> float:
    """Bytes of weights that a pass reads: all but the embedding rows that are only looked up."""
    _, source, _ = _row(_WEIGHTS, "precision", precision)
    return value_of(source, _weight_letters(cfg))


def kv_cache(
    cfg: GPTConfig, batch: int, seen_tokens: int, precision: str = "float32", on_gpu: bool = False
) -> Amount:
    """Bytes of the keys and values of `seen_tokens` positions in all layers."""
    _row(_WEIGHTS, "precision", precision)
    letters = letters_of(cfg, b=batch, s=seen_tokens)
    note = "" if precision == "float32" else "float32 on a CPU; half on a GPU in 16 bits"
    width = 2 if on_gpu and precision in ("float16", "bfloat16") else 4
    return amount("KV cache", f"2*layers*b*s*d*{width}", letters, note)


def forward_activations(cfg: GPTConfig, batch: int, new_tokens: int) -> Amount:
    """Most bytes of tensors alive at once in a forward pass without gradients, an estimate.

    The larger of a feed-forward (hidden, activation and result are 9 d a position, six of the
    stream's tensors wait) and the head's scores. Exact for the tensors of `gpt/model.py`, which
    are float32 in every precision of the weights on a CPU; what a kernel needs for itself comes on
    top. The last position alone is scored: a single block has no other in its feed-forward.
    """
    letters = letters_of(cfg, b=batch, t=new_tokens, n=1)
    at_once = {
        "15*b*t*d": "in a feed-forward",
        "b*t*d + 2*b*n*d + b*n*vocab": "at the head, n = 1 scored",
    }
    if cfg.n_layers == 1:
        del at_once["15*b*t*d"]
        at_once["6*b*t*d + 2*b*n*d"] = "in the attention"
        at_once["3*b*t*d + 12*b*n*d"] = "in the feed-forward"
    largest = max(at_once, key=lambda numbers: value_of(numbers, letters))
    note = f"the peak is {at_once[largest]}; attention's t × t matrix is never whole"
    source = f"4*({largest} + t*d) + 8*t"
    return amount("activations", source, letters, note, estimate=True)


def training_state(cfg: GPTConfig, optimiser: str = "adamw-mixed") -> Amount:
    """Bytes of weights, gradients and optimiser state; `optimiser` one of TRAINING_STATES."""
    name, source, note = _row(_TRAINING, "optimiser", optimiser)
    return amount(name, source, _weight_letters(cfg), note)


def kept_in_bfloat16(
    cfg: GPTConfig, batch: int, new_tokens: int, recompute: bool = False
) -> Amount:
    """Bytes kept where everything is bfloat16 and attention has dropout, an estimate.

    This package's model, run so, keeps a tenth more. `recompute`: only the input of each block
    is kept, and one block's activations at a time.
    Source: Korthikanti et al. 2022, equation 1, section 4.3 and section 5.
    """
    layer = "34*b*t*d + 5*b*h*t*t"
    name, layers = "all in bfloat16", f"layers*({layer})"
    note = "attention matrices and dropout masks kept, logits in float32"
    if recompute:
        name, layers = f"{name}, recomputed", f"layers*2*b*t*d + {layer}"
        note = "each block's input, one block at a time, logits in float32"
    letters = letters_of(cfg, b=batch, t=new_tokens)
    return amount(name, f"{layers} + 5*b*t*d + 4*b*t*vocab", letters, note, estimate=True)


def kept_by_training(
    cfg: GPTConfig, batch: int, new_tokens: int, precision: str = "float32"
) -> Amount:
    """Bytes that a step of `python -m gpt train` keeps for its backward pass.

    Of each of the b t d numbers a layer keeps 16 bytes in both precisions: the float32 stream
    before its two norms, and what four linear layers read (the norms' results in float32, or four
    bfloat16 copies). And 12 numbers in `precision`: queries, keys, values, heads, the hidden layer
    before and after GELU; 14 with two dropout masks. No attention matrix: it has no dropout here.
    Around the layers: the stream, its norm, a mask; the logits, which their gradient overwrites;
    the matrices M in bfloat16. Exact for the tensors that autograd saves on a CPU in torch 2.13;
    `batch` is the micro-batch, and `vocab` the tokens that occur in the text, at most.
    """
    name, size, copies, note = _row(_TRAIN, "precision", precision)
    letters = letters_of(cfg, b=batch, t=new_tokens, M=_weight_letters(cfg)["M"])
    layer, around = 16 + 12 * size, 4 + size
    if cfg.drop_rate:
        layer, around = layer + 2 * size, around + 4
    source = (
        f"layers*({layer}*b*t*d + 4*b*h*t + 16*b*t) + {around}*b*t*d + 16*b*t + 8*t"
        f" + {size}*b*t*vocab{copies}"
    )
    return amount(f"{name} (python -m gpt train)", source, letters, note)


def logit_bytes(cfg: GPTConfig, rows: int) -> int:
    """Bytes of the logits of `rows` windows, their sums with log counts, and log probabilities.

    All three are float32. A validation takes this much; a training step takes a third of it, the
    logits, which their gradient overwrites.
    """
    return 12 * rows * cfg.context_length * cfg.vocab_size


def pass_bytes(cfg: GPTConfig, new_tokens: int) -> int:
    """Bytes of the tensors that a traced pass over one text keeps, in float32, nearly.

    For each token its logits, and for each layer the scores of its heads at three stages and some
    20 tensors of the stream's width.
    """
    in_layers = cfg.n_layers * (4 * cfg.n_heads * new_tokens + 20 * cfg.emb_dim)
    return 4 * new_tokens * (cfg.vocab_size + in_layers)


def _weight_letters(cfg: GPTConfig) -> dict[str, int]:
    d, layers, vocab = cfg.emb_dim, cfg.n_layers, cfg.vocab_size
    total, matrices = count_parameters(cfg).total, layers * 12 * d * d + vocab * d
    others = total - matrices - (0 if cfg.tie_weights else vocab * d)
    return {
        "P": total,
        "M": matrices,
        "R": layers * 9 * d + vocab,
        "E": vocab * d,
        "N": others,
        "B": others - cfg.context_length * d,
        "vocab": vocab,
    }


def _row(table: Mapping[str, Any], name: str, key: str) -> Any:
    """`table[key]`. Raises ValueError, with what there is of that `name`, if there is none."""
    if key not in table:
        raise ValueError(f"{name} is {key!r}: use {', '.join(table)}.")
    return table[key]
