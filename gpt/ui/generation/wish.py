"""What a run is asked for, checked before anything is loaded or a GPU is borrowed."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gpt.checkpoints import tokenizer_of
from gpt.checkpoints.precision_record import default_precision
from gpt.checkpoints.sources import RANDOM, TRAINED
from gpt.engine import check_precision
from gpt.engine.machine import available_devices
from gpt.generate import context_notes
from gpt.sampling import SamplingOptions
from gpt.serving.registry import Registry
from gpt.tokenizer import Tokenizer
from gpt.ui.generation.settings import AUTO, STANDARD, sampling_options
from gpt.ui.parts.numbers import counted
from gpt.ui.parts.prompt_ids import prompt_ids


def usable_device(wanted: str) -> tuple[str, str]:
    """The device to use for `wanted`, and one sentence if that is another one, else ''."""
    if wanted in available_devices():
        return wanted, ""
    return "cpu", f"This machine has no {wanted} device: the CPU is used instead."


@dataclass(frozen=True)
class Wish:
    """A prompt, a model and how to write, all of them possible; made by `wish`."""

    source: str
    device: str
    precision: str
    options: SamplingOptions  # with a seed
    prompt: str
    settings: Mapping[str, Any]  # as they were chosen, without those that are the default
    ids: tuple[int, ...]
    tokenizer: Tokenizer
    fits: tuple[str, ...] = ()  # what the visitor should know of device and context
    drawn: bool = False  # the seed, because none was asked for

    @property
    def writer(self) -> str:
        """The model in a word or two: a picker may show another one by now."""
        for prefix, name in ((TRAINED, "your trained model"), (RANDOM, "an untrained model")):
            if self.source.startswith(prefix):
                return name
        return Path(self.source).name

    @property
    def notes(self) -> tuple[str, ...]:
        """What the visitor should know before the first token."""
        if not self.options.steering:
            return self.fits
        chosen = counted(len(self.options.steering), "token")
        drawn = f"all others are drawn with seed {self.options.seed}."
        return (*self.fits, f"Steered: you chose {chosen}; {drawn}")

    def with_options(self, **changed: Any) -> "Wish":
        """The same run with other options."""
        return replace(self, options=replace(self.options, **changed))

    def steered(self, position: int, token_id: int) -> "Wish":
        """The same run with `token_id` at `position`, and what was chosen after it left out."""
        earlier = [pair for pair in self.options.steering if pair[0] < position]
        return self.with_options(
            steering=(*earlier, (position, token_id)),
            max_new_tokens=max(self.options.max_new_tokens, position + 1),
        )

    def same_text(self, other: "Wish") -> bool:
        """Whether `other` asks for the same text, however long, with this or with any seed."""
        seed = self.options.seed if other.drawn else other.options.seed
        alike = {"max_new_tokens": 1, "steering": ()}
        one, two = self.with_options(**alike), other.with_options(**alike, seed=seed)
        named = ("source", "device", "precision", "ids", "options")
        return all(getattr(one, name) == getattr(two, name) for name in named)


def wish(
    registry: Registry,
    prompt: str,
    values: Mapping[str, Any],
    source: str,
    steering: tuple[tuple[int, int], ...] = (),
) -> Wish:
    """The run that the controls' `values` mean; a setting that they leave out has its default.

    Raises ValueError if it cannot be had; a missing device is told in the notes instead.
    """
    values = {**STANDARD, **values}
    options = sampling_options(values, steering)
    cfg, tokenizer = registry.config_of(source), tokenizer_of(source)
    ids = prompt_ids(prompt, tokenizer, cfg.vocab_size)
    device, missing = usable_device(str(values["device"]))
    precision = values["precision"]
    if precision == AUTO:
        precision = default_precision(source, device)
    check_precision(precision, device)
    fits = [missing] if missing else []
    fits += context_notes(cfg, len(ids), options.max_new_tokens)
    settings = {k: v for k, v in values.items() if k != "seed" and v != STANDARD[k]}
    return Wish(
        source, device, precision, options.with_seed(), prompt, settings, tuple(ids), tokenizer,
        tuple(fits), options.seed is None,
    )  # fmt: skip
