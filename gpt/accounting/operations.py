"""Operations of a GPT per part, and the times that follow from a device's peaks.

A multiplication and an addition are two operations (FLOPs). Counted are the matrix products,
as `torch.utils.flop_counter` counts them; norms, softmax, GELU and sums are left out.
"""

from dataclasses import dataclass

from gpt.accounting.machines import Device
from gpt.accounting.memory import Amount, amount, kv_cache, read_per_pass
from gpt.accounting.parameters import count_parameters, letters_of
from gpt.config import GPTConfig

_PARTS: tuple[tuple[str, str, str], ...] = (
    ("queries, keys, values", "layers*3*2*b*t*d*d", "three d × d matrices"),
    ("scores Q Kᵀ", "{queries}*2*b*h*s*e", "every new token with every token seen"),
    ("attention × V", "{queries}*2*b*h*s*e", "the mixture of the values"),
    ("output projection", "{queries}*2*b*d*d", "one d × d matrix"),
    ("feed-forward", "{queries}*2*2*b*d*4*d", "d to 4 d and back"),
    ("output head", "2*b*n*d*vocab", "n positions scored against the vocabulary"),
)
DAY_SECONDS = 86_400


class Operations(tuple[Amount, ...]):
    """FLOPs of each part of a pass."""

    @property
    def total(self) -> int:
        return sum(int(part.value) for part in self)


def forward(
    cfg: GPTConfig, batch: int, new_tokens: int, past_tokens: int = 0, last_only: bool = False
) -> Operations:
    """FLOPs of one forward pass over `new_tokens`, after `past_tokens` that a cache holds.

    `last_only`: only the last position goes through the end of the last block and the head. Masked
    scores are counted as computed; kernels may skip some of them.
    """
    n, s = 1 if last_only else new_tokens, past_tokens + new_tokens
    letters = letters_of(cfg, b=batch, t=new_tokens, s=s, n=n)
    queries = "((layers - 1)*t + n)" if last_only else "layers*t"
    return Operations(
        amount(name, source.format(queries=queries), letters, note) for name, source, note in _PARTS
    )


def rules_of_thumb(cfg: GPTConfig, batch: int, tokens: int) -> list[tuple[str, int, int]]:
    """(name, FLOPs by a rule of thumb, counted FLOPs) of 2 N forward and 6 N for training.

    Per token, with N all parameters, and N those in the blocks' matrices.

    Source: Kaplan et al. 2020, section 2.1, whose N leaves the embeddings out.
    """
    count = count_parameters(cfg)
    n_all = count.total
    n_blocks = n_all - count.subtotal("embeddings") - count.subtotal("head")
    counted = forward(cfg, batch, tokens).total
    positions = batch * tokens
    return [
        ("forward, 2 N (all parameters)", 2 * n_all * positions, counted),
        ("forward, 2 N (without embeddings and head)", 2 * n_blocks * positions, counted),
        ("training, 6 N (all parameters)", 6 * n_all * positions, 3 * counted),
        ("training, 6 N (without embeddings and head)", 6 * n_blocks * positions, 3 * counted),
    ]


@dataclass(frozen=True)
class Roofline:
    """The least time a pass can take: the larger of its arithmetic and its traffic, in seconds."""

    flops: float
    traffic_bytes: float
    seconds: float
    bound: str  # arithmetic or bandwidth


def roofline(
    cfg: GPTConfig, batch: int, new_tokens: int, seen_tokens: int, precision: str, on: Device
) -> Roofline:
    """A prefill, where all tokens are new, or a decode step, where one is; one position is scored.

    Traffic is the weights, and the keys and values of all tokens, whether written or read.
    """
    flops = forward(cfg, batch, new_tokens, seen_tokens - new_tokens, last_only=True).total
    cache = kv_cache(cfg, batch, seen_tokens, precision, on.is_gpu)
    traffic_bytes = read_per_pass(cfg, precision) + cache.value
    found = {"arithmetic": flops / on.peak_flops[precision]}
    found["bandwidth"] = traffic_bytes / on.bandwidth_bytes
    bound = max(found, key=lambda name: found[name])  # of equals the first
    return Roofline(flops, traffic_bytes, found[bound], bound)


def training_days(cfg: GPTConfig, tokens: float, utilisation: float, on: Device) -> float:
    """Days to train on `tokens` at full context and a share `utilisation` of the 16-bit peak.

    The backward pass costs twice the forward pass: each product has two gradients.
    Raises ValueError if `utilisation` is not above 0 and at most 1.
    """
    if not 0 < utilisation <= 1:
        raise ValueError(f"utilisation is {utilisation}: use a share above 0 and at most 1.")
    per_token = 3 * forward(cfg, 1, cfg.context_length).total / cfg.context_length
    peak = max(on.peak_flops["float16"], on.peak_flops["bfloat16"])
    return per_token * tokens / (peak * utilisation) / DAY_SECONDS
