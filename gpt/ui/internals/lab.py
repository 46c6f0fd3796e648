"""What every section reads from: runs kept for a while, and tokens as a visitor sees them."""

import copy
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any
from weakref import WeakValueDictionary

import torch

from gpt.accounting.memory import pass_bytes
from gpt.checkpoints import tokenizer_of
from gpt.config import GPTConfig
from gpt.internals.distribution import Foreseen, foreseen
from gpt.internals.traced_pass import TracedPass, last_logits, read_prompt, resolve_position
from gpt.serving.all_cores import each_on_all_cores, give_way, on_all_cores
from gpt.ui.parts.chips import display
from gpt.ui.parts.prompt_ids import prompt_ids
from gpt.ui.parts.sentences import quoted

MAX_TOKENS = 128  # an attention view has tokens x tokens cells a head
MAX_TOKEN_CHARACTERS = 200  # of a box that names one token
KEPT_BYTES = 384 * 2**20  # a trace of 128 tokens of GPT-2 small takes about 140 MiB
MOST_BYTES = 3 * 2**29  # of one pass; one of 128 tokens of GPT-2 XL takes about 1.1 GiB
KEPT_MEMOS = 64


@dataclass(frozen=True)
class Focus:
    """What a visitor looks at: the prompt's ids, the model's source, and one position."""

    source: str
    ids: tuple[int, ...]
    position: int
    before: int = 0  # tokens of its text that stand before these and are not read

    @property
    def key(self) -> tuple[str, tuple[int, ...]]:
        return self.source, self.ids

    def at(self, position: int) -> "Focus":
        """The same pass looked at from another position; beyond the prompt it is the last one."""
        return replace(self, position=min(max(position, 0), len(self.ids) - 1))


class Results:
    """Results by key, the least recently used dropped first; shared by all visitors.

    A result is read by many and changed by nobody. The newest is kept whatever its size.
    """

    def __init__(self, most: float, size: Callable[[Any], float] = lambda _: 1) -> None:
        self.most, self.size = most, size
        self._kept: OrderedDict[Any, Any] = OrderedDict()
        self._lock = threading.Lock()
        self._making: WeakValueDictionary[Any, Any] = WeakValueDictionary()  # a lock a key

    def get(self, key: Any) -> Any:
        """What was put under `key`, or None."""
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
            return self._kept.get(key)

    def put(self, key: Any, result: Any) -> None:
        with self._lock:
            self._kept[key] = result
            self._kept.move_to_end(key)
            while len(self._kept) > 1 and sum(map(self.size, self._kept.values())) > self.most:
                self._kept.popitem(last=False)

    def made(self, key: Any, make: Callable[[], Any]) -> Any:
        """`make()`, of which there is one at a time for a key: others wait for the first."""
        with self._lock:
            making = self._making.setdefault(key, threading.Lock())
        with making:
            if (result := self.get(key)) is None:
                result = make()
                self.put(key, result)
            return result


class Lab:
    """The registry, the runs and a tokenizer, as the sections of the tab use them."""

    def __init__(self, registry: Any) -> None:
        self.registry = registry
        self.tokenizer = tokenizer_of("gpt2")
        self.runs = Results(KEPT_BYTES, lambda run: run.n_bytes)
        self.memos = Results(KEPT_MEMOS)

    def using(self, source: str) -> "Lab":
        """The same lab, whose tokenizer is that of `source`. Raises ValueError if it has none."""
        self.registry.config_of(source)
        lab = copy.copy(self)
        lab.tokenizer = tokenizer_of(source)
        return lab

    def read(self, source: str, prompt: str, position: int = -1) -> Focus:
        """The focus of `prompt` at a position, for the model of `source`; no pass is made.

        Raises ValueError if the prompt is empty, too long or not in the model's vocabulary, or
        if it has no such position.
        """
        ids = self.encode(source, prompt)
        return Focus(source, tuple(ids), resolve_position(position, len(ids)))

    def given_by(self, source: str, ids: Sequence[int], chosen: int | None) -> Focus:
        """The focus of a text that was written: at the place that predicted its token `chosen`.

        The text up to that token; if that is too long, the newest tokens before it, so that as many
        as can be are read for it. Without a chosen one the first that can be read. Ids, since a
        text may have others than were written.
        """
        limit = most_tokens(self.registry.config_of(source))
        chosen = min(limit, len(ids)) if chosen is None else min(chosen, len(ids) - 1)
        before = max(chosen - limit, 0)
        kept = tuple(ids[before : chosen + (chosen < limit)])
        return Focus(source, kept, max(chosen - before - 1, 0), before)

    def text(self, ids: Sequence[int]) -> str:
        """The text of `ids`, as Generation shows it: those beyond the tokenizer's as ⟨id⟩."""
        stream = self.tokenizer.stream()
        return "".join(map(stream.push, ids)) + stream.finish()

    def encode(self, source: str, prompt: str) -> list[int]:
        """The prompt's ids, checked against the model's sizes before any weight is loaded."""
        cfg = self.registry.config_of(source)
        ids = prompt_ids(prompt, tokenizer_of(source), cfg.vocab_size)
        limit = most_tokens(cfg)
        if len(ids) > limit:
            raise ValueError(
                f"the prompt has {len(ids):,} tokens and this tab reads at most {limit:,} with "
                "this model: shorten the text."
            )
        return ids

    def run(self, focus: Focus, progress: Any = None) -> TracedPass:
        """The run of this focus, kept or computed again."""
        read = partial(self.by_model, focus, read_prompt, focus.ids, give_way, progress=progress)
        return self.runs.made(focus.key, read)

    def logits(self, focus: Focus, precision: str = "float32") -> torch.Tensor:
        """Logits (vocab,) of the prediction made at the focus's position, in `precision`.

        Raises ValueError if the model cannot compute in it.
        """
        if precision == "float32":
            return self.run(focus).logits[focus.position].cpu()
        ids = focus.ids[: focus.position + 1]
        read = partial(self.by_model, focus, last_logits, ids, give_way, precision=precision)
        return self.memo(focus, "logits", read, precision, focus.position)

    def foreseen(self, focus: Focus) -> list[Foreseen]:
        """How each token of the prompt was predicted."""
        return self.memo(focus, "foreseen", lambda: foreseen(self.run(focus).logits, focus.ids))

    def memo(self, focus: Focus, name: str, make: Callable[[], Any], *settings: Any) -> Any:
        """`make()` of this pass and these settings, remembered; for small results only."""
        return self.memos.made((*focus.key, name, *settings), make)

    def computed(self, focus: Focus, read: Callable[..., Any], *settings: Any) -> Any:
        """`read(model, run, *settings)` of this pass, remembered; for small results only."""
        return self.memo(
            focus, read.__name__, lambda: self.by_model(focus, read, self.run(focus), *settings),
            *settings,
        )  # fmt: skip

    def by_model(self, focus: Focus, read: Callable[..., Any], *given: Any, **borrowed: Any) -> Any:
        """`read(model, *given)` on all cores; `borrowed` goes to the registry's `borrow`."""
        with self.registry.borrow(focus.source, **borrowed) as model:
            return on_all_cores(read, model, *given)

    def each_by_model(
        self, focus: Focus, read: Callable[..., Iterator[Any]], *given: Any
    ) -> Iterator[Any]:
        """What `read(model, *given)` yields; others compute between two steps."""
        with self.registry.borrow(focus.source) as model:
            yield from each_on_all_cores(read(model, *given))

    def named_ids(self, focus: Focus, query: str) -> list[int]:
        """The ids that a box names: the tokens of its text as typed, or a number.

        Raises ValueError if the text is long or the model has no such id.
        """
        check_length(query)
        vocab = self.registry.config_of(focus.source).vocab_size
        number = query.strip()
        ids = [int(number[:12])] if number.isdecimal() else self.tokenizer.encode(query)
        for token_id in ids:
            if token_id >= vocab:
                raise ValueError(f"token id {token_id:,} does not exist: use 0 to {vocab - 1:,}.")
        return ids

    def token_id(self, focus: Focus, query: str | None) -> int:
        """The id that a box names; that of the best token if the box is empty.

        Raises ValueError as `named_ids` does, or if the text is several tokens.
        """
        if not query:
            return int(self.logits(focus).argmax())
        ids = self.named_ids(focus, query)
        if len(ids) != 1:
            pieces = " ".join(map(self.quoted, ids[:6]))
            raise ValueError(f"that text is {len(ids)} tokens ({pieces}): type one token or an id.")
        return ids[0]

    def piece(self, token_id: int) -> str:
        """A token as text, or its number where the tokenizer has no text for it."""
        return display(self.tokenizer, token_id)

    def quoted(self, token_id: int) -> str:
        """`piece` within a sentence."""
        return quoted(self.piece(token_id))

    def short(self, token_id: int, limit: int = 10) -> str:
        """`piece`, cut where it would not fit on an axis."""
        text = self.piece(token_id)
        return text if len(text) <= limit else text[: limit - 1] + "…"

    def places(self, ids: Sequence[int]) -> list[str]:
        """Each token after its position: `7 ·little`."""
        return [f"{at} {self.piece(i)}" for at, i in enumerate(ids)]

    def raw(self, token_id: int) -> bytes:
        """A token's bytes, none where the tokenizer has no text for it."""
        if 0 <= token_id < self.tokenizer.vocab_size:
            return self.tokenizer.token_bytes(token_id)
        return b""

    def place(self, focus: Focus) -> str:
        """A position in words: `position 7 (“·little”)`."""
        return f"position {focus.position} ({self.quoted(focus.ids[focus.position])})"


def most_tokens(cfg: GPTConfig) -> int:
    """How many tokens are read: the tensors of their pass are kept."""
    limit = min(MAX_TOKENS, cfg.context_length)
    while limit > 2 and pass_bytes(cfg, limit) > MOST_BYTES:
        limit //= 2
    return limit


def check_length(typed: str) -> None:
    """Raises ValueError if what was typed as a word or token is too long for one."""
    if len(typed) > MAX_TOKEN_CHARACTERS:
        raise ValueError(
            f"that text has {len(typed):,} characters: type at most {MAX_TOKEN_CHARACTERS}."
        )


def at_most(index: Any, count: int) -> int:
    """`index` as a whole number, or the last of `count` if there are not so many."""
    return min(max(int(index or 0), 0), count - 1)
