"""A GPTModel in a precision: the same forward pass, with layers that are faster on a CPU."""

from collections.abc import Callable, Iterator, Sequence
from functools import cache as once  # `cache` is what attention remembers
from operator import attrgetter

import torch
from torch import nn

from gpt.accounting.meta_model import model_without_values
from gpt.cache import KVCache
from gpt.config import GPTConfig, check_context
from gpt.engine.decode_step import Decoder
from gpt.engine.layers import (
    HalfEmbedding,
    Int8Embedding,
    Int8Linear,
    PackedInt8Linear,
    PartsLinear,
    half_linear,
    has_x86_kernels,
    int8_linear,
    quantize,
)
from gpt.engine.machine import return_freed_memory
from gpt.model import GPTModel
from gpt.trace import Trace

DTYPES: dict[str, torch.dtype] = {
    "float32": torch.float32,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
}
PRECISIONS = (*DTYPES, "int8")
Progress = Callable[[float, str], None]  # how much of a stage is done, 0 to 1, and its name


class FastModel(GPTModel):
    """`model` in `precision` on `device`: same forward pass, cache and readings, own weights.

    On the CPU the linear layers and the token embedding are stored in that precision, and all else
    is float32: norms, positions, the residual stream, the KV cache. On other devices everything is
    of that type. `model` is left as it is. Only float32 can be trained.
    `tensors` are weights by name that stand in for the model's own, a tied one under its
    embedding's name. They may be memory-mapped and of any floating type; each is copied and taken
    out of the dictionary, so at most one exists twice.
    Raises ValueError if the precision is unknown, or unknown on that device, or `model` is int8.
    """

    def __init__(
        self,
        model: GPTModel,
        precision: str = "int8",
        device: torch.device | str = "cpu",
        tensors: dict[str, torch.Tensor] | None = None,
        progress: Progress | None = None,
    ) -> None:
        check_precision(precision, device)
        tensors = dict(named_weights(model)) if tensors is None else tensors
        nn.Module.__init__(self)
        self.cfg, self._decoder = model.cfg, Decoder()
        layers, n_weights = _Layers(tensors, precision, torch.device(device)), len(tensors)
        for name, child in model_without_values(self.cfg).named_children():
            setattr(self, name, child)
        # The head first, the largest: while it is packed it is there three times.
        for name, module in reversed(list(self.named_modules())):
            if any(f"{name}.{own}" in tensors for own in ("weight", "scale")):
                parent, _, own_name = name.rpartition(".")
                setattr(self.get_submodule(parent), own_name, layers.made(name, module))
                if isinstance(module, nn.Linear):
                    return_freed_memory()
            if progress is not None:
                progress(1 - len(tensors) / n_weights, "reading")
        if layers.share_table:
            self.tok_emb.weight = self.out_head.weight
        self.train(model.training)
        if torch.device(device).type != "cpu":
            check_agrees_with_cpu(str(device), precision)

    def new_cache(self, capacity: int) -> KVCache:
        """An empty cache for `capacity` positions; here the decode step follows new parts."""
        if not self.training:
            self._decoder.follow(self)
        return super().new_cache(capacity)

    def forward(
        self,
        ids: torch.Tensor,
        cache: KVCache | None = None,
        trace: Trace | None = None,
        last_only: bool = False,
    ) -> torch.Tensor:
        """As `GPTModel.forward`; one token after others goes through the decode step."""
        if trace is None and cache is not None and ids.shape == (1, 1) and self._steps(cache):
            return self._step(ids[0], [cache]).unsqueeze(1)
        return super().forward(ids, cache, trace, last_only)

    @torch.inference_mode()
    def decode_rows(self, ids: Sequence[int], caches: Sequence[KVCache]) -> torch.Tensor:
        """Logits (rows, vocab) after one new token of each of several sequences of any lengths.

        Each row is, bit for bit, what `forward` gives for its id and its cache alone.
        Raises ValueError if there are no rows, or as `forward` does, before any cache is changed.
        """
        if not ids or len(ids) != len(caches):
            raise ValueError(f"{len(ids)} ids and {len(caches)} caches: use one cache for each id.")
        if all(self._steps(cache) for cache in caches):
            return self._step(torch.tensor(ids), caches)
        device = self.pos_emb.weight.device
        rows = [torch.tensor([[i]], device=device) for i in ids]
        for row, cache in zip(rows, caches, strict=True):
            self._check(row, cache.length)
        found = [self(row, cache, last_only=True) for row, cache in zip(rows, caches, strict=True)]
        return torch.cat(found).flatten(1)

    def _steps(self, cache: KVCache) -> bool:
        """Whether the decode step serves the next token of `cache`."""
        if self._decoder.step is None or self.training or torch.is_grad_enabled():
            return False
        buffer = cache.layers[0].buffer
        return buffer is not None and buffer.shape[1] == 1

    def _step(self, ids: torch.Tensor, caches: Sequence[KVCache]) -> torch.Tensor:
        for token_id, cache in zip(ids.tolist(), caches, strict=True):
            if not 0 <= token_id < self.cfg.vocab_size:
                self._check(torch.tensor([[token_id]]), cache.length)
            check_context(cache.length + 1, self.cfg.context_length)
            cache.layers[0].check_room(1)
        layers = [layer for cache in caches for layer in cache.layers]
        lengths, buffers = [c.length for c in caches], [layer.buffer for layer in layers]
        logits = self._decoder.step(ids, lengths, buffers)
        for layer in layers:
            layer.length += 1
        return logits


class _Layers:
    """Makes the layers of a FastModel from weights by name, which it takes out of `tensors`."""

    def __init__(
        self, tensors: dict[str, torch.Tensor], precision: str, device: torch.device
    ) -> None:
        self.tensors, self.precision, self.device = tensors, precision, device
        self.on_cpu = device.type == "cpu"
        self.is_reduced = self.on_cpu and precision != "float32"
        self.in_parts = self.on_cpu and not self.is_reduced and has_x86_kernels()
        tied = "out_head.weight" not in tensors
        self.share_table = tied and not self.is_reduced  # a packed head cannot be indexed
        if tied:
            tensors["out_head.weight"] = tensors["tok_emb.weight"]

    def made(self, name: str, module: nn.Module) -> nn.Module:
        """What takes the place of `module`, which has no values, under `name`."""
        owns = [own for own, _ in module.named_parameters(recurse=False)]
        weights = {own: self.tensors.pop(f"{name}.{own}").detach() for own in owns}
        if isinstance(module, nn.Linear) and (self.is_reduced or self.in_parts):
            weight, bias = weights["weight"], weights.get("bias")
            if self.precision == "int8":
                return int8_linear(*quantize(weight), bias)
            if self.is_reduced:
                return half_linear(weight, bias, DTYPES[self.precision])
            return PartsLinear(weight, bias)
        if name == "tok_emb" and self.share_table:
            return module
        if name == "tok_emb" and self.is_reduced:
            table = weights["weight"]
            if self.precision == "int8":
                return Int8Embedding(*quantize(table))
            return HalfEmbedding(table, DTYPES[self.precision])
        dtype = torch.float32 if self.on_cpu else DTYPES[self.precision]
        for own, value in weights.items():
            copy = value.to(self.device, dtype, copy=True).contiguous()
            setattr(module, own, nn.Parameter(copy, requires_grad=not self.is_reduced))
        return module


def check_precision(precision: str, device: torch.device | str = "cpu") -> None:
    """Raises ValueError if `precision` does not exist, or not on `device`."""
    if precision not in PRECISIONS:
        raise ValueError(f"precision is {precision!r}: use {', '.join(PRECISIONS)}.")
    kind = torch.device(device).type
    if precision not in DTYPES and kind != "cpu":
        raise ValueError(f"precision int8 runs on the CPU, not on {kind}: use float16.")


@once
def check_agrees_with_cpu(device: str, precision: str) -> None:
    """Raises ValueError unless a small model on `device` gives the CPU's logits; tried once."""
    cfg = GPTConfig(vocab_size=512, context_length=32, emb_dim=128, n_heads=2, n_layers=2)
    model = model_without_values(cfg).to_empty(device="cpu")
    with torch.no_grad():
        for name, value in model.named_parameters():
            value.copy_(0.07 * torch.arange(value.numel()).square().sin().view_as(value))
            value.add_(float(name.endswith("scale")))
        ids = torch.arange(32)[None]
        expected = model(ids)
        found = model.to(device, DTYPES[precision])(ids.to(device)).float().cpu()
    error = float((found - expected).abs().max() / expected.std())
    if not error < 0.1:
        raise ValueError(
            f"{device} computes something else than the CPU in {precision} "
            f"(logits differ by {error:.2g} standard deviations): use the CPU."
        )


def named_weights(model: GPTModel) -> Iterator[tuple[str, torch.Tensor]]:
    """The weights of any GPTModel or FastModel under the book's names; a tied one appears once.

    Raises ValueError if they are int8, which cannot be turned back.
    """
    if any(isinstance(module, (Int8Linear, PackedInt8Linear)) for module in model.modules()):
        raise ValueError("int8 weights cannot be turned back: use float32, float16 or bfloat16.")
    for name, _ in model_without_values(model.cfg).named_parameters():
        yield name, attrgetter(name)(model)
