"""What a run yields: a step, an evaluation, a sample."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Stepped:
    """Weights after an update; of the loss, nats a token on the windows just read."""

    step: int  # updates so far
    tokens: int  # read so far
    seconds: float  # in updates so far, validations and checkpoints left out
    loss: float
    average_loss: float  # exponential, over about 50 steps
    learning_rate: float
    gradient_norm: float  # before clipping


@dataclass(frozen=True)
class Evaluated:
    """Held-out loss, the mean in nats a token over `n_targets` targets, after a step of a run."""

    nats_per_token: float
    n_targets: int
    step: int = 0


@dataclass(frozen=True)
class Sampled:
    """What the model writes after a step, from the prompt and seed that all samples share.

    `ids` are the prompt's tokens and those that were drawn; a text with parts of characters may not
    be encoded to them.
    """

    step: int
    text: str
    ids: tuple[int, ...] = field(default=(), repr=False)


Event = Stepped | Evaluated | Sampled
