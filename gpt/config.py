"""The one configuration object: the book's seven keys and whether the head is tied."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class GPTConfig(Mapping[str, Any]):
    """The shape of a GPT; every field defaults to the book's 124M configuration.

    `tie_weights` makes the output head and the token embedding one tensor, as GPT-2
    does and the book does not. It is a read-only dict as well, as in the book:
    `cfg["emb_dim"]`, `"emb_dim" in cfg`, `for key in cfg`, `cfg.get("emb_dim")`, `{**cfg}`.

    Raises ValueError if a size is impossible, TypeError if a field has the wrong type.
    """

    vocab_size: int = 50257
    context_length: int = 1024
    emb_dim: int = 768
    n_heads: int = 12
    n_layers: int = 12
    drop_rate: float = 0.1
    qkv_bias: bool = False
    tie_weights: bool = False

    def __post_init__(self) -> None:
        for name in ("vocab_size", "context_length", "emb_dim", "n_heads", "n_layers"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int):
                raise TypeError(f"{name} is {value!r}: use a whole number of at least 1.")
            if value < 1:
                raise ValueError(f"{name} is {value:,}: use a whole number of at least 1.")
            if value > 10**18:  # so that bytes and operations are numbers that a float holds
                raise ValueError(f"{name} is beyond 10^18: use a whole number of at most 10^18.")
        for name in ("qkv_bias", "tie_weights"):
            if not isinstance(getattr(self, name), bool):
                raise TypeError(f"{name} is {getattr(self, name)!r}: use True or False.")
        if isinstance(self.drop_rate, bool) or not isinstance(self.drop_rate, (int, float)):
            raise TypeError(f"drop_rate is {self.drop_rate!r}: use a number from 0 to 1.")
        if not 0 <= self.drop_rate <= 1:
            raise ValueError(f"drop_rate is {self.drop_rate}: use a number from 0 to 1.")
        check_heads(self.emb_dim, self.n_heads)

    @property
    def head_dim(self) -> int:
        """Width of one attention head, emb_dim / n_heads."""
        return self.emb_dim // self.n_heads

    def __getitem__(self, name: str) -> Any:
        return vars(self)[name]

    def __iter__(self) -> Iterator[str]:
        return iter(vars(self))

    def __len__(self) -> int:
        return len(vars(self))


def as_config(cfg: GPTConfig | Mapping[str, Any]) -> GPTConfig:
    """`cfg` itself, or the GPTConfig of a dict with the book's keys.

    Raises ValueError if a key is unknown, and what GPTConfig raises.
    """
    if isinstance(cfg, GPTConfig):
        return cfg
    if not isinstance(cfg, Mapping):
        raise TypeError(f"cfg is a {type(cfg).__name__}: use a GPTConfig or a dict of its fields.")
    for key in cfg:
        if key not in GPTConfig():
            raise ValueError(f"unknown configuration key {key!r}: use {', '.join(GPTConfig())}.")
    return GPTConfig(**cfg)


def nearest_divisible(emb_dim: int, n_heads: int) -> list[int]:
    """The closest widths below and above `emb_dim` that `n_heads` divides, ascending."""
    below = emb_dim // n_heads * n_heads
    return [width for width in (below, below + n_heads) if width > 0]


def check_heads(emb_dim: int, n_heads: int) -> None:
    """Raises ValueError, naming the nearest widths, if `n_heads` does not divide `emb_dim`."""
    if n_heads < 1 or emb_dim % n_heads:
        choices = " or ".join(f"{width:,}" for width in nearest_divisible(emb_dim, max(n_heads, 1)))
        raise ValueError(f"emb_dim {emb_dim} is not divisible by {n_heads} heads: use {choices}.")


def check_context(tokens: int, context_length: int) -> None:
    """Raises ValueError if `tokens` positions are more than the context."""
    if tokens > context_length:
        limit = f"{context_length:,}"
        raise ValueError(
            f"{tokens:,} tokens exceed the context of {limit}: use at most the newest {limit}."
        )


def check_token(token_id: int, vocab_size: int) -> None:
    """Raises ValueError if no token of the vocabulary has that id."""
    if not 0 <= token_id < vocab_size:
        highest = vocab_size - 1
        raise ValueError(f"token id {token_id:,} is outside the vocabulary: use 0 to {highest:,}.")


# The book's dict: the seven keys that it has.
GPT_CONFIG_124M: dict[str, Any] = {
    key: value for key, value in GPTConfig().items() if key != "tie_weights"
}
# Radford et al. 2019, table 2; the book's chapter 4 gives the same sizes (exercise 4.2).
PRESETS: dict[str, GPTConfig] = {
    "gpt2-small": GPTConfig(emb_dim=768, n_layers=12, n_heads=12),
    "gpt2-medium": GPTConfig(emb_dim=1024, n_layers=24, n_heads=16),
    "gpt2-large": GPTConfig(emb_dim=1280, n_layers=36, n_heads=20),
    "gpt2-xl": GPTConfig(emb_dim=1600, n_layers=48, n_heads=25),
}
