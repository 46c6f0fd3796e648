"""The quality that a precision costs and the speed that it gives, measured against float32."""

import contextlib
import math
import platform
import statistics
import time
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from gpt.accounting.memory import weight_bytes
from gpt.checkpoints.reading import weights_file
from gpt.checkpoints.sources import STORYTELLER, load_model, path_of
from gpt.checkpoints.tensors import INDEX, read_json, sha256_of
from gpt.checkpoints.writing import write_json
from gpt.config import GPTConfig
from gpt.engine import PRECISIONS, FastModel
from gpt.engine.layers import kernel_of
from gpt.generate import generate
from gpt.sampling import SamplingOptions, perplexity_text

RECORD = STORYTELLER.parent / "precision.json"
LARGEST_KL_NATS = 0.01  # what the default of a model may cost
SPEED_TOKENS, SPEED_REPEATS = 64, 5
WINDOWS_AT_ONCE = 16
Figures = dict[str, float]  # of a precision, by the names that RECORD has for them


@torch.inference_mode()
def quality_of(reference: FastModel, other: FastModel, ids: torch.Tensor) -> Figures:
    """How `other` predicts `ids` (n,), compared with `reference`, in the windows of `evaluate`.

    The mean KL divergence of the reference's distribution from that of `other`; the share of
    positions with the same most probable token; the loss of `other`.
    Token by token over a KV cache, with the kernels that write a text. Several windows are rows
    of one decode step, which gives each row the same bits as alone.
    Raises ValueError if there are fewer than two tokens.
    """
    if len(ids) < 2:
        raise ValueError(f"the text has {len(ids)} tokens: give at least 2.")
    t, n = reference.cfg.context_length, len(ids) - 1
    windows = [ids[start : start + t + 1].tolist() for start in range(0, n, t)]
    divergence = agreed = loss = 0.0
    for start in range(0, len(windows), WINDOWS_AT_ONCE):
        some = windows[start : start + WINDOWS_AT_ONCE]
        caches = [[model.new_cache(t) for _ in some] for model in (reference, other)]
        for position in range(len(some[0]) - 1):
            rows = [window for window in some if position + 1 < len(window)]  # the last is short
            tokens = [window[position] for window in rows]
            wanted, found = (  # (rows, vocab), float64
                F.log_softmax(model.decode_rows(tokens, own[: len(rows)]).double(), dim=-1)
                for model, own in zip((reference, other), caches, strict=True)
            )
            targets = torch.tensor([window[position + 1] for window in rows])
            divergence += float((wanted.exp() * (wanted - found)).sum())
            agreed += float((wanted.argmax(dim=-1) == found.argmax(dim=-1)).sum())
            loss += float(F.nll_loss(found, targets, reduction="sum"))
    return {
        "mean_kl_nats": max(0.0, divergence / n),
        "top1_agreement": agreed / n,
        "nats_per_token": loss / n,
        "perplexity": math.exp(min(loss / n, 709.0)),  # e^709 is the most that a float holds
        "n_tokens": n,
    }


def measure_precisions(
    source: str, ids: torch.Tensor, cfg: GPTConfig | None = None
) -> dict[str, Figures]:
    """Quality on `ids` (n,), speed here and size of `source` in each precision, on the CPU.

    The speed is that of all tokens but the first: the median of greedy runs of one sequence.
    Raises ValueError if the model cannot be loaded, or the text is too short.
    """
    models = {name: load_model(source, precision=name, cfg=cfg) for name in PRECISIONS}
    reference = models["float32"]
    options = SamplingOptions(min(SPEED_TOKENS, reference.cfg.context_length), temperature=0)
    rates: dict[str, list[float]] = {name: [] for name in models}
    for turn in range(SPEED_REPEATS + 1):  # interleaved; the first warms up
        for name, model in models.items():
            steps = generate(model, ids[:1].tolist(), options)
            next(steps)
            started = time.perf_counter()
            made = sum(1 for _ in steps)
            if turn:
                rates[name].append(made / (time.perf_counter() - started))
    return {
        name: quality_of(reference, model, ids)
        | {
            "tokens_per_second": statistics.median(rates[name]),
            "weight_bytes": weight_bytes(model.cfg, name),
        }
        for name, model in models.items()
    }


def quickest_allowed(measured: Mapping[str, Figures]) -> str:
    """The fastest precision whose mean KL stays under LARGEST_KL_NATS; float32 is among them."""
    allowed = [name for name, m in measured.items() if m["mean_kl_nats"] < LARGEST_KL_NATS]
    return max(allowed, key=lambda name: measured[name]["tokens_per_second"], default="float32")


def table(measured: Mapping[str, Figures]) -> str:
    """The measurements as lines of text, a precision a line."""
    lines = [f"{'':10}{'mean KL':>12}{'same best':>11}{'perplexity':>12}{'tokens/s':>10}{'MiB':>9}"]
    for name, m in measured.items():
        perplexity, mib = perplexity_text(m["nats_per_token"]), m["weight_bytes"] / 2**20
        lines.append(
            f"{name:10}{m['mean_kl_nats']:>7.5f} nats{m['top1_agreement']:>10.2%} {perplexity:>12}"
            f"{m['tokens_per_second']:>10.1f}{mib:>9.1f}"
        )
    return "\n".join(lines)


def write_record(source: str, text: str, measured: Mapping[str, Figures]) -> None:
    """Adds the measurements of `source` on the file named `text` to RECORD."""
    known = _read_record()
    known[source] = {
        "weights": _weights_of(source),
        "text": text,
        "date": time.strftime("%Y-%m-%d"),
        "machine": f"{processor()}, {torch.get_num_threads()} threads",
        "kernels": {name: kernel_of(name) for name in measured},
        "torch": torch.__version__,
        "default": quickest_allowed(measured),
        "precisions": dict(measured),
    }
    write_json(RECORD, known)


def recorded(source: str) -> dict[str, Any] | None:
    """What RECORD says of these weights of `source`; None if nothing, or of others."""
    found = _read_record().get(source)
    return found if found and found["weights"] == _weights_of(source) else None


def _read_record() -> dict[str, Any]:
    return read_json(RECORD) if RECORD.exists() else {}


def default_precision(source: str, device: str = "cpu") -> str:
    """The precision to generate in: as measured; float32 if it was not; float16 on CUDA."""
    if device.startswith("cuda"):
        return "float16"
    found = recorded(source)
    return found["default"] if found and device == "cpu" else "float32"


def processor() -> str:
    """The processor's name as Linux tells it, else its architecture."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.machine()


def _weights_of(source: str) -> str:
    """The SHA-256 of the files that hold the weights; "" for a model whose name says it all."""
    if not path_of(source).exists():
        return ""
    weights = weights_file(path_of(source))
    files = {weights}
    if weights.name == INDEX:  # which lists the others
        files |= {weights.with_name(name) for name in read_json(weights)["weight_map"].values()}
    return "+".join(_sha256(f, f.stat().st_size, f.stat().st_mtime_ns) for f in sorted(files))


@lru_cache
def _sha256(file: Path, size: int, changed: int) -> str:
    """Of a file as it is now: the page asks at every event."""
    return sha256_of(file)
