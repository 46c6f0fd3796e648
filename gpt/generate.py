"""The decoding loop: token ids in, one `Step` for each new token out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from gpt.sampling import SamplingOptions, best_ids, check_finite, draw, probabilities, uniforms

if TYPE_CHECKING:
    from gpt.cache import KVCache
    from gpt.config import GPTConfig
    from gpt.model import GPTModel

N_CANDIDATES = 10


@dataclass(frozen=True)
class Candidate:
    """A token that could have been drawn, with its probability of being drawn."""

    token_id: int
    probability: float


@dataclass(frozen=True)
class Step:
    """One new token, and what is known about how it was chosen."""

    token_id: int
    probability: float  # as drawn; when greedy, in the softmax of the logits
    candidates: tuple[Candidate, ...]  # the most probable ones, best first
    uniform: float | None  # the number drawn in [0, 1); None when greedy
    seed: int
    context_tokens: int  # how many tokens the model saw
    stop: str | None = None  # on the last step: "max_new_tokens" or "stop_id"


@dataclass(frozen=True)
class Plan:
    """How a prompt and its continuation fit the context, known before the first token."""

    context_length: int
    prompt_tokens: int
    max_new_tokens: int

    @property
    def dropped_tokens(self) -> int:
        """Tokens at the start of the prompt that the model will never see."""
        return max(0, self.prompt_tokens - self.context_length)

    @property
    def slides(self) -> bool:
        """Whether the continuation outgrows the context, so that steps re-read the window."""
        return self.prompt_tokens + self.max_new_tokens - 1 > self.context_length

    def notes(self) -> list[str]:
        """One sentence for each thing that a caller should know before the run."""
        notes = []
        if self.dropped_tokens:
            notes.append(
                f"The prompt has {self.prompt_tokens:,} tokens and the context holds "
                f"{self.context_length:,}: the first {self.dropped_tokens:,} are left out."
            )
        if self.slides:
            notes.append(
                f"Prompt and continuation outgrow the context of {self.context_length:,} tokens: "
                "from there on each token re-reads the newest window, which is slower."
            )
        return notes


def plan(cfg: GPTConfig, prompt_tokens: int, max_new_tokens: int) -> Plan:
    """What will be cut or re-read when `prompt_tokens` are continued, before it happens."""
    return Plan(cfg.context_length, prompt_tokens, max_new_tokens)


@torch.no_grad()
def generate_text_simple(
    model: torch.nn.Module, idx: torch.Tensor, max_new_tokens: int, context_size: int
) -> torch.Tensor:
    """The book's greedy loop: ids (b, t) -> ids (b, t + max_new_tokens).

    Each step reads the newest `context_size` tokens afresh. `generate` gives the same ids
    without reading twice. Source: the book's section 4.7.
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
) -> Iterator[Step]:
    """A `Step` for each new token after `ids`, a list of ints or a tensor (t,) or (1, t).

    The newest `context_length` tokens are the context, as in the book; the keys and values of
    what was read are kept until the context is full. A drawn `stop_id` is the last step.
    Without candidates, `n_candidates=0`, nobody searches the vocabulary for them.
    Raises ValueError if `ids` are empty or out of the vocabulary, if dropout is active, or if
    `n_candidates` is negative.
    """
    tokens = _as_list(ids)
    if n_candidates < 0:
        raise ValueError(f"n_candidates is {n_candidates}: use 0 (none) or more.")
    if not tokens:
        raise ValueError("there are no tokens to continue: use a prompt of at least one token.")
    if model.training and model.cfg.drop_rate > 0:
        raise ValueError("the model is in training mode, so dropout is on: call model.eval().")
    vocab = model.cfg.vocab_size
    outside = [token for token in tokens if not 0 <= token < vocab]
    if outside:
        raise ValueError(
            f"token id {outside[0]:,} is outside the vocabulary: use 0 to {vocab - 1:,}."
        )
    return _steps(model, tokens, options.with_seed(), stop_id, n_candidates)


def _as_list(ids: Sequence[int] | torch.Tensor) -> list[int]:
    if isinstance(ids, torch.Tensor):
        if ids.dim() == 2 and ids.shape[0] == 1:
            ids = ids[0]
        if ids.dim() != 1:
            raise ValueError(f"ids have shape {tuple(ids.shape)}: use (tokens,) or (1, tokens).")
        return ids.tolist()
    return list(ids)


def _steps(
    model: GPTModel,
    tokens: list[int],
    options: SamplingOptions,
    stop_id: int | None,
    n_candidates: int,
) -> Iterator[Step]:
    context_length = model.cfg.context_length
    assert options.seed is not None
    generator = torch.Generator().manual_seed(options.seed)
    window = tokens[-context_length:]
    capacity = min(context_length, len(window) + options.max_new_tokens - 1)
    cache: KVCache | None = model.new_cache(capacity)
    unread = window
    for index in range(1, options.max_new_tokens + 1):
        step = _next_step(model, unread, cache, options, generator, len(window), n_candidates)
        stop = "stop_id" if step.token_id == stop_id else None
        if stop is None and index == options.max_new_tokens:
            stop = "max_new_tokens"
        if stop is not None:
            yield replace(step, stop=stop)
            return
        yield step
        window = [*window, step.token_id][-context_length:]
        unread = [step.token_id]
        if cache is None or cache.length == context_length:
            cache, unread = None, window  # every position has moved: nothing kept is valid


@torch.inference_mode()
def _next_step(
    model: GPTModel,
    unread: list[int],
    cache: KVCache | None,
    options: SamplingOptions,
    generator: torch.Generator,
    context_tokens: int,
    n_candidates: int,
) -> Step:
    """Reads the unread tokens and chooses the one after them."""
    one = len(unread) == 1  # made from a list it takes twice as long
    ids = torch.full((1, 1), unread[0]) if one else torch.tensor([unread])  # (1, t)
    ids = ids.to(model.pos_emb.weight.device)
    logits = model(ids, cache=cache, last_only=True).flatten(1)  # (1, vocab)
    # On the CPU, so that a seed means the same tokens on every device.
    logits, uniform = logits.float().cpu(), None
    if options.temperature == 0:
        # One token is left to choose from: the model's own distribution ranks the others.
        shown = torch.softmax(logits, dim=-1)
        token_id = int(logits.numpy().argmax())  # the first of equals, sooner than torch
    else:
        shown, uniform = probabilities(logits, options), uniforms(generator)
        token_id = int(draw(shown, uniform))
    chances = shown.numpy()[0]
    probability = float(chances[token_id])
    check_finite(probability)
    found = best_ids(shown[0], min(n_candidates, len(chances))).tolist() if n_candidates else []
    assert options.seed is not None
    return Step(
        token_id=token_id,
        probability=probability,
        candidates=tuple(Candidate(i, float(chances[i])) for i in found if chances[i] > 0),
        uniform=None if uniform is None else float(uniform),
        seed=options.seed,
        context_tokens=context_tokens,
    )
