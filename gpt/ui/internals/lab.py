"""What every section reads from: runs kept for a while, and tokens as a visitor sees them."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from gpt.internals.run import Run, read_prompt, resolve_position
from gpt.serving.all_cores import on_all_cores
from gpt.tokenizer import Tokenizer

MAX_TOKENS = 128  # an attention view has tokens x tokens cells a head
KEPT_BYTES = 384 * 2**20  # a trace of 128 tokens of GPT-2 small takes about 140 MiB
KEPT_MEMOS = 64

# {"source": str, "ids": [int, ...], "position": int}: plain, so a visitor's state stays small.
State = dict[str, Any]
Progress = Callable[[float, str], Any]


class RunStore:
    """Runs by (source, ids), the least recently used dropped first; shared by all visitors.

    A run is read by many and changed by nobody. The newest is kept whatever its size.
    """

    def __init__(self, max_bytes: int = KEPT_BYTES) -> None:
        self.max_bytes = max_bytes
        self._runs: OrderedDict[tuple[str, tuple[int, ...]], Run] = OrderedDict()
        self._lock = threading.Lock()
        self._computing: dict[tuple[str, tuple[int, ...]], threading.Lock] = {}

    def get(self, key: tuple[str, tuple[int, ...]]) -> Run | None:
        with self._lock:
            if key in self._runs:
                self._runs.move_to_end(key)
            return self._runs.get(key)

    def put(self, key: tuple[str, tuple[int, ...]], run: Run) -> None:
        with self._lock:
            self._runs[key] = run
            self._runs.move_to_end(key)
            while len(self._runs) > 1 and self._n_bytes() > self.max_bytes:
                self._runs.popitem(last=False)

    @contextmanager
    def computing(self, key: tuple[str, tuple[int, ...]]) -> Iterator[None]:
        """One computation of a key at a time: sections that miss together wait for the first."""
        with self._lock:
            lock = self._computing.setdefault(key, threading.Lock())
        try:
            with lock:
                yield
        finally:
            with self._lock:
                self._computing.pop(key, None)

    def _n_bytes(self) -> int:
        return sum(run.n_bytes for run in self._runs.values())


class Lab:
    """The registry, the tokenizer and the runs, as the sections of the tab use them."""

    def __init__(self, registry: Any, tokenizer: Tokenizer, store: RunStore | None = None) -> None:
        self.registry = registry
        self.tokenizer = tokenizer
        self.store = store or RunStore()
        self._memos: OrderedDict[tuple[Any, ...], Any] = OrderedDict()
        self._memos_lock = threading.Lock()

    def read(
        self, source: str, prompt: str, position: int = -1, progress: Progress | None = None
    ) -> State:
        """The state of a visit after the traced pass over `prompt` with the model of `source`.

        Raises ValueError if the prompt is empty, too long or not in the model's vocabulary, or
        if it has no such position.
        """
        ids = self.encode(source, prompt)
        state = {"source": source, "ids": ids, "position": resolve_position(position, len(ids))}
        self.run(state, progress)
        return state

    def encode(self, source: str, prompt: str) -> list[int]:
        """The prompt's ids, checked against the model's sizes before any weight is loaded."""
        if not prompt:
            raise ValueError("the prompt is empty: type some text, a single word is enough.")
        ids = self.tokenizer.encode(prompt)
        cfg = self.registry.config_of(source)
        limit = min(MAX_TOKENS, cfg.context_length)
        if len(ids) > limit:
            raise ValueError(
                f"the prompt has {len(ids):,} tokens and this tab reads at most {limit:,}: "
                "shorten the text."
            )
        for position, token_id in enumerate(ids):
            if token_id >= cfg.vocab_size:
                raise ValueError(
                    f"token {position} ({self.piece(token_id)}) has id {token_id:,} and this model "
                    f"knows ids 0 to {cfg.vocab_size - 1:,}: choose a model with a vocabulary of "
                    f"{self.tokenizer.vocab_size:,}."
                )
        return ids

    def run(self, state: State, progress: Progress | None = None) -> Run:
        """The run of this state, from the store or computed again."""
        key = (state["source"], tuple(state["ids"]))
        run = self.store.get(key)
        if run is not None:
            return run
        with self.store.computing(key):
            run = self.store.get(key)
            if run is None:
                with self.borrow(state, progress) as model:
                    run = on_all_cores(read_prompt, model, state["ids"])
                self.store.put(key, run)
        return run

    def memo(self, state: State, name: str, make: Callable[[], Any], *settings: Any) -> Any:
        """`make()` of this state and these settings, remembered; for small results only."""
        key = (state["source"], tuple(state["ids"]), name, *settings)
        result = self.recall(key)
        if result is None:
            result = make()
            self.remember(key, result)
        return result

    def recall(self, key: tuple[Any, ...]) -> Any:
        """What was remembered under `key`, or None."""
        with self._memos_lock:
            if key in self._memos:
                self._memos.move_to_end(key)
            return self._memos.get(key)

    def remember(self, key: tuple[Any, ...], result: Any) -> None:
        """Keep a small result; the least recently used of `KEPT_MEMOS` goes."""
        with self._memos_lock:
            self._memos[key] = result
            while len(self._memos) > KEPT_MEMOS:
                self._memos.popitem(last=False)

    def token_id(self, state: State, query: str, default: int) -> int:
        """The id that a box names by text or number; `default` if the box is empty.

        Raises ValueError if the text is several tokens or the id is outside the vocabulary.
        """
        vocab = self.registry.config_of(state["source"]).vocab_size
        if not query:
            return default
        if query.strip().isdecimal():
            ids = [int(query.strip()[:12])]
        else:
            ids = self.tokenizer.encode(query)
        if len(ids) != 1:
            pieces = " ".join(self.pieces(ids[:6]))
            raise ValueError(f"that text is {len(ids)} tokens ({pieces}): type one token or an id.")
        if ids[0] >= vocab:
            raise ValueError(f"token id {ids[0]:,} does not exist: use 0 to {vocab - 1:,}.")
        return ids[0]

    def borrow(self, state: State, progress: Progress | None = None) -> Any:
        """The state's model in float32 and eval mode, for the length of a `with`."""
        return self.registry.borrow(state["source"], precision="float32", progress=progress)

    def piece(self, token_id: int) -> str:
        """A token as text, or its number where the tokenizer has no text for it."""
        if 0 <= token_id < self.tokenizer.vocab_size:
            return self.tokenizer.piece(token_id).display
        return f"#{token_id}"

    def is_special(self, token_id: int) -> bool:
        return token_id == self.tokenizer.end_of_text_id

    def pieces(self, ids: Sequence[int]) -> list[str]:
        return [self.piece(i) for i in ids]

    def raw(self, token_id: int) -> bytes:
        """A token's bytes, none where the tokenizer has no text for it."""
        if 0 <= token_id < self.tokenizer.vocab_size:
            return self.tokenizer.token_bytes(token_id)
        return b""
