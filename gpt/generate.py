"""The decoding loop: token ids in, one `Step` for each new token out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch

from gpt.cache import KVCache
from gpt.config import GPTConfig, check_token
from gpt.model import GPTModel
from gpt.sampling import Candidate, SamplingOptions, Scores, choose, scores_of, uniforms

N_CANDIDATES = 10


@dataclass(frozen=True)
class Step:
    """One new token, and what is known about how it was chosen."""

    token_id: int
    probability: float  # as drawn; when greedy, in the softmax of the logits
    candidates: tuple[Candidate, ...]  # the most probable ones, best first
    uniform: float | None  # the number drawn in [0, 1); None when greedy
    seed: int
    context_tokens: int  # how many tokens the model saw
    stop: str | None = None  # on the last step: "max_new_tokens", "stop_id" or "stop"
    below: float | None = None  # the share of lower ids; None unless it was drawn
    kept: int = 0  # tokens that no filter left out
    rank: int | None = None  # of a token of `options.steering`: 1 is the likeliest


def context_notes(cfg: GPTConfig, prompt_tokens: int, max_new_tokens: int) -> list[str]:
    """What will be cut or re-read when a prompt is continued, a sentence each, before the run."""
    context, notes = cfg.context_length, []
    if prompt_tokens > context:
        notes.append(
            f"The prompt has {prompt_tokens:,} tokens and the context holds {context:,}: "
            f"the first {prompt_tokens - context:,} are left out."
        )
    if prompt_tokens + max_new_tokens - 1 > context:
        notes.append(
            f"Prompt and continuation may exceed the {context:,} tokens that this model can see: "
            "from there on it sees the newest ones only, and each token takes longer."
        )
    return notes


@torch.no_grad()
def generate_text_simple(
    model: torch.nn.Module, idx: torch.Tensor, max_new_tokens: int, context_size: int
) -> torch.Tensor:
    """The book's greedy loop: ids (b, t) -> ids (b, t + max_new_tokens).

    Each step computes the newest `context_size` positions again; `generate` gives the same ids
    from a KV cache. Source: the book's section 4.7.
    """
    if idx.dim() != 2 or idx.numel() == 0:
        raise ValueError(f"idx has shape {tuple(idx.shape)}: use (batch, tokens), not empty.")
    if context_size < 1:
        raise ValueError(f"context_size is {context_size}: use at least 1.")
    for _ in range(max_new_tokens):
        logits = model(idx[:, -context_size:])[:, -1]  # (b, vocab)
        idx = torch.cat((idx, logits.argmax(dim=-1, keepdim=True)), dim=1)
    return idx


def generate(
    model: GPTModel,
    ids: Sequence[int] | torch.Tensor,
    options: SamplingOptions,
    stop_id: int | None = None,
    n_candidates: int = N_CANDIDATES,
    text_of: Callable[[int], str] | None = None,
) -> Iterator[Step]:
    """A `Step` for each new token after `ids`, a list of ints or a tensor (t,) or (1, t).

    The newest `context_length` tokens are the context, as in the book; keys and values are cached
    until the context is full. A drawn `stop_id` is the last step. `text_of` gives the text that
    each new token adds, as `Tokenizer.stream().push` does; `options.stop` needs it.
    Raises ValueError if `ids` are not the model's token ids, if dropout is active, if
    `n_candidates` is negative, or if `text_of` is missing.
    """
    return _steps(model, Row(model, ids, options, stop_id, n_candidates, text_of))


def _steps(model: GPTModel, row: Row) -> Iterator[Step]:
    cache: KVCache | None = model.new_cache(row.capacity)
    unread = row.window
    while row.stop is None:
        step = next_steps(read(model, unread, cache), [row])[0]
        if isinstance(step, Exception):
            raise step
        yield step
        unread = row.window[-1:]
        if cache is None or cache.length == row.context_length:
            cache, unread = None, row.window  # all positions shift: the cache is no longer valid


@torch.inference_mode()
def read(model: GPTModel, ids: Sequence[int], cache: KVCache | None) -> torch.Tensor:
    """Logits (1, vocab) for the token after `ids`, which follow the tokens in `cache`."""
    tensor = torch.tensor([list(ids)], device=model.pos_emb.weight.device)  # (1, t)
    return model(tensor, cache=cache, last_only=True).flatten(1)


def read_in_blocks(
    model: GPTModel, ids: Sequence[int], cache: KVCache, predicts: bool = True
) -> Iterator[torch.Tensor | None]:
    """As `read`, with a None after each block: there others may compute. Then logits (1, vocab).

    Without `predicts` it ends with the last block: no None after it, no logits.
    """
    start, device = cache.length, model.pos_emb.weight.device
    positions = torch.arange(start, start + len(ids), device=device)
    x = model.tok_emb(torch.tensor([ids], device=device)) + model.pos_emb(positions)
    for i, block in enumerate(model.trf_blocks):
        if i > 0:
            yield None
        x = block(x, cache.layers[i], last_only=i == len(model.trf_blocks) - 1)
    if predicts:
        yield None
        yield model.out_head(model.final_norm(x))[0]


class Row:
    """One sequence that is being continued: its newest tokens and how the next one is chosen.

    Raises ValueError as `generate` does.
    """

    def __init__(
        self,
        model: GPTModel,
        ids: Sequence[int] | torch.Tensor,
        options: SamplingOptions,
        stop_id: int | None = None,
        n_candidates: int = N_CANDIDATES,
        text_of: Callable[[int], str] | None = None,
    ) -> None:
        if n_candidates < 0:
            raise ValueError(f"n_candidates is {n_candidates}: use 0 (none) or more.")
        if model.training and model.cfg.drop_rate > 0:
            raise ValueError("the model is in training mode, so dropout is on: call model.eval().")
        if options.stop and text_of is None:
            raise ValueError("a text to stop at needs text_of: use tokenizer.stream().push.")
        _checked([token for _, token in options.steering] or [0], model.cfg.vocab_size)
        self.context_length = model.cfg.context_length
        self.window = _checked(ids, model.cfg.vocab_size)[-self.context_length :]
        self.options = options.with_seed()
        self.stop_id = stop_id
        self.n_candidates = n_candidates
        self.made = 0
        self.stop: str | None = None  # why it ended, as in `Step`
        self._generator = torch.Generator().manual_seed(self.options.seed)
        self._steering = dict(options.steering)
        self._text_of, self._text = text_of, ""  # the newest part of what was written

    @property
    def capacity(self) -> int:
        """Positions that the cache of the whole run needs, at most the context."""
        left = self.options.max_new_tokens - self.made
        return min(self.context_length, len(self.window) + left - 1)

    def uniform(self) -> float | None:
        """The number in [0, 1) that draws the next token; None when greedy."""
        return float(uniforms(self._generator)) if self.options.temperature > 0 else None

    def next_step(self, scores: Scores) -> Step:
        """Chooses the next token from the row's scores, and appends it."""
        uniform, context_tokens = self.uniform(), len(self.window)
        steered = self._steering.get(self.made)  # the token that the options name here
        choice = choose(scores, self.options, uniform, self.n_candidates, steered)
        rank = None
        if steered is not None:  # of equal logits the lower id comes first
            logits = scores.logits
            own = logits[steered]
            rank = 1 + int((logits[:steered] >= own).sum() + (logits[steered:] > own).sum())
        self.append(choice.token_id)
        return Step(
            **choice._asdict(),
            uniform=uniform,
            seed=self.options.seed,
            context_tokens=context_tokens,
            stop=self.stop,
            rank=rank,
        )

    def append(self, token_id: int) -> None:
        """Notes the next token, and whether it is the last."""
        self.window = [*self.window, token_id][-self.context_length :]
        self.made += 1
        stop = self.options.stop
        if stop and self._text_of:
            self._text = self._text[-len(stop) :] + self._text_of(token_id)
        if token_id == self.stop_id:
            self.stop = "stop_id"
        elif stop and stop in self._text:
            self.stop = "stop"
        elif self.made == self.options.max_new_tokens:
            self.stop = "max_new_tokens"


def next_steps(logits: torch.Tensor, rows: Sequence[Row]) -> list[Step | Exception]:
    """The next step of each row, chosen from its logits (rows, vocab) and appended to it.

    No row depends on another; one whose logits are not finite, or whose `text_of` raises, has the
    error in place of a step.
    """
    steps: list[Step | Exception] = []
    scores = scores_of(logits, [row.options.temperature for row in rows])
    for row, own in zip(rows, scores, strict=True):
        try:
            steps.append(row.next_step(own))
        except Exception as error:
            steps.append(error)
    return steps


def _checked(ids: Sequence[int] | torch.Tensor, vocab_size: int) -> list[int]:
    """`ids` as a list. Raises ValueError unless they are one row of ids below `vocab_size`."""
    if isinstance(ids, torch.Tensor):
        if ids.dim() == 2 and ids.shape[0] == 1:
            ids = ids[0]
        if ids.dim() != 1:
            raise ValueError(f"ids have shape {tuple(ids.shape)}: use (tokens,) or (1, tokens).")
        ids = ids.tolist()
    tokens = list(ids)
    if not tokens:
        raise ValueError("there are no tokens to continue: use a prompt of at least one token.")
    for token in tokens:
        if isinstance(token, bool) or not isinstance(token, int):
            raise ValueError(f"ids hold {str(token)[:40]!r}: use whole numbers, as encode() gives.")
        check_token(token, vocab_size)
    return tokens
