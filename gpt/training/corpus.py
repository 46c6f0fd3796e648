"""Training text: files to token ids, ids to windows, windows in an order that a seed fixes."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch.utils.data import Dataset, Sampler

from gpt.config import GPTConfig
from gpt.model import GPTModel
from gpt.tokenizer import END_OF_TEXT, Tokenizer


def read_ids(paths: Sequence[str | Path], tokenizer: Tokenizer) -> torch.Tensor:
    """Token ids (n,) of UTF-8 files, each text followed by the end-of-text id.

    A line that holds only `<|endoftext|>` separates texts within a file.
    Raises ValueError if a file cannot be read or there is no text at all.
    """
    ids: list[int] = []
    for path in paths:
        try:
            content = Path(path).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(f"{path} cannot be read as UTF-8 text: {error}.") from error
        for is_separator, lines in itertools.groupby(
            content.split("\n"), key=lambda line: line == END_OF_TEXT
        ):
            text = "\n".join(lines)
            if text and not is_separator:
                ids += [*tokenizer.encode(text), tokenizer.end_of_text_id]
    if len(ids) < 2:
        raise ValueError("there is no text to read: name at least one file with --text.")
    return torch.tensor(ids)


class Windows(Dataset):
    """Pairs of inputs and targets (context_length,) each, by the position they start at."""

    def __init__(self, ids: torch.Tensor, context_length: int) -> None:
        self.ids, self.context_length = ids, context_length

    def __getitem__(self, start: int) -> tuple[torch.Tensor, torch.Tensor]:
        window = self.ids[start : start + self.context_length + 1]
        return window[:-1], window[1:]


class WindowOrder(Sampler[int]):
    """Starts of windows, without end: every epoch shuffles and shifts them by its own seed.

    Of the common order, process `rank` of `world` takes every world-th, so that a step reads
    the same windows however many processes share it; `skip` windows are already done.
    Raises ValueError if the text is shorter than one window.
    """

    def __init__(
        self,
        n_ids: int,
        context_length: int,
        seed: int,
        skip: int = 0,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        if n_ids < 2 * context_length + 1:
            raise ValueError(
                f"the text has {n_ids:,} tokens: use at least {2 * context_length + 1:,} "
                f"for a context of {context_length:,}."
            )
        self.n_ids, self.context_length, self.seed = n_ids, context_length, seed
        self.skip, self.rank, self.world = skip, rank, world

    def __iter__(self) -> Iterator[int]:
        starts = itertools.chain.from_iterable(map(self._epoch, itertools.count()))
        return itertools.islice(starts, self.skip + self.rank, None, self.world)

    def _epoch(self, epoch: int) -> list[int]:
        generator = torch.Generator().manual_seed(self.seed + epoch)
        shift = int(torch.randint(self.context_length, (1,), generator=generator))
        starts = torch.arange(shift, self.n_ids - self.context_length, self.context_length)
        return starts[torch.randperm(len(starts), generator=generator)].tolist()


class Vocabulary:
    """The tokens that a corpus uses, numbered without gaps; all others share one last number.

    A token that never occurs is never a target, so training does the same to its row of the
    output head as to every other such row. Giving them one common row is therefore no loss,
    and more than halves the work of the softmax. `log_counts` (compact,), added to the logits,
    makes that row count as often as it stands for a token: the softmax is the full one.
    """

    def __init__(self, ids: torch.Tensor, vocab_size: int) -> None:
        used = ids.unique()
        n_unused = vocab_size - len(used)
        self.size = len(used) + (n_unused > 0)
        self.to_compact = torch.full((vocab_size,), len(used))
        self.to_compact[used] = torch.arange(len(used))
        self.log_counts = torch.zeros(self.size)
        if n_unused:
            self.log_counts[-1] = math.log(n_unused)

    def expand(self, model: GPTModel, cfg: GPTConfig) -> GPTModel:
        """The model over the whole vocabulary that `model` over the compact one stands for."""
        full = GPTModel(cfg)
        tensors = dict(model.state_dict())
        for name in ("tok_emb.weight", "out_head.weight"):
            tensors[name] = tensors[name][self.to_compact.to(tensors[name].device)]
        full.load_state_dict(tensors)
        return full.eval()
