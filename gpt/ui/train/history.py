"""What is measured of a run while it goes on."""

from __future__ import annotations

from dataclasses import dataclass, field

from gpt.training.events import Evaluated, Sampled, Stepped


@dataclass(frozen=True)
class Peek:
    """One window of one step: ids (n,), the loss of each target, one weight before and after."""

    step: int
    ids: list[int]
    nats: list[float]
    before: float
    after: float
    learning_rate: float


@dataclass
class History:
    """What was measured so far; held-out losses with the seconds of training before them."""

    steps: list[Stepped] = field(default_factory=list)
    evaluated: list[tuple[float, Evaluated]] = field(default_factory=list)
    right: tuple[int, int] | None = None  # sums of those asked
    answers: list[tuple[str, str]] = field(default_factory=list)
    sample: Sampled | None = None
    line: list[float] = field(default_factory=list)  # probabilities of the held-out line's tokens
    peek: Peek | None = None
