"""One traced pass over a prompt, from which every other reading is taken."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch

from gpt.config import GPTConfig
from gpt.generate import read_in_blocks
from gpt.model import GPTModel
from gpt.trace import Edit, Entry, Trace

Pause = Callable[[], object]  # called between two blocks of a pass: others may compute then


@dataclass(frozen=True)
class TracedPass:
    """A prompt's ids and the trace of its pass; shared by all readings, so never changed."""

    cfg: GPTConfig
    ids: tuple[int, ...]
    trace: Trace

    @property
    def logits(self) -> torch.Tensor:
        """(t, vocab), float32."""
        return self.trace["logits"][0]

    def batch(self, rows: int = 1, tokens: int | None = None) -> torch.Tensor:
        """(rows, tokens): the first `tokens` ids, by default all, the same in each row."""
        ids = torch.tensor([self.ids[:tokens]], device=self.logits.device)
        return ids.expand(rows, -1)

    def layer(self, layer: int, name: str) -> torch.Tensor:
        """One recorded tensor of a block without its batch axis, e.g. `layer(0, "att_out")`."""
        return self.trace[f"trf_blocks.{layer}.{name}"][0]

    def what_if(self, edits: Mapping[str, Edit]) -> Trace:
        """The trace of another pass, which applies `edits`, gives way alike and is not recorded."""
        return Trace(edits, keep=False, between=self.trace.between)

    @property
    def n_bytes(self) -> int:
        """Bytes of the distinct tensors held."""
        storages = [entry.value.untyped_storage() for entry in self.trace.entries.values()]
        return sum({s.data_ptr(): s.nbytes() for s in storages}.values())


@torch.no_grad()
def read_prompt(model: GPTModel, ids: Sequence[int], between: Pause | None = None) -> TracedPass:
    """The traced pass over `ids`, in eval mode; `between` is called after each block.

    Raises ValueError if the model is in training mode with dropout, and what `forward` raises.
    """
    if model.training and model.cfg.drop_rate > 0:
        raise ValueError("the model is in training mode, so dropout is on: call model.eval().")
    trace = Trace(between=between)
    device = model.pos_emb.weight.device
    model(torch.tensor([list(ids)], dtype=torch.long, device=device), trace=trace)
    return TracedPass(model.cfg, tuple(ids), trace)


def shape_rows(run: TracedPass) -> list[tuple[Entry, str | None]]:
    """Each recorded tensor in the order of computation, with the name of an earlier one or None.

    The earlier one is the same tensor: it has the same memory and shape.
    """
    rows = []
    first: dict[tuple[int, tuple[int, ...]], str] = {}
    for entry in run.trace.entries.values():
        key = (entry.value.data_ptr(), tuple(entry.value.shape))
        rows.append((entry, first.get(key)))
        first.setdefault(key, entry.name)
    return rows


@torch.inference_mode()
def last_logits(model: GPTModel, ids: Sequence[int], between: Pause) -> torch.Tensor:
    """Logits (vocab,) after `ids` with nothing traced, so that an int8 model computes them too."""
    for logits in read_in_blocks(model, ids, model.new_cache(len(ids))):
        if logits is None:
            between()
    return logits[0].float()


def resolve_position(position: int, tokens: int) -> int:
    """An index from 0 to tokens - 1; negative positions count from the end, -1 is the last.

    Raises ValueError if there is no such position.
    """
    if not -tokens <= position < tokens:
        raise ValueError(
            f"position {position} is outside the prompt of {tokens} "
            f"{'token' if tokens == 1 else 'tokens'}: use 0 to {tokens - 1}, or -1 for the last."
        )
    return position % tokens
