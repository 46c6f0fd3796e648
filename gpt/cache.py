"""What attention remembers between decoding steps: the keys and values already computed."""

from __future__ import annotations

import torch


class LayerCache:
    """Keys and values of one layer, in buffers of `dtype` allocated at the first append."""

    def __init__(self, capacity: int, dtype: torch.dtype | None = None) -> None:
        self.capacity = capacity
        self.dtype = dtype  # None: that of the first keys
        self.length = 0  # positions held, s
        self.keys: torch.Tensor | None = None
        self.values: torch.Tensor | None = None

    def append(self, keys: torch.Tensor, values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """All keys and values so far, (b, h, s, e) each, given the t new ones (b, h, t, e).

        Of the same type as the new ones; it may be a view of the buffer, so it is valid until the
        next append. Raises ValueError if the buffer is full.
        """
        b, h, t, e = keys.shape
        end = self.length + t
        if end > self.capacity:
            raise ValueError(
                f"the cache holds {self.capacity:,} positions and was asked for {end:,}: "
                "start a new one from the newest tokens."
            )
        if self.keys is None or self.values is None:
            dtype = self.dtype or keys.dtype
            self.keys = keys.new_empty(b, h, self.capacity, e, dtype=dtype)
            self.values = values.new_empty(b, h, self.capacity, e, dtype=dtype)
        self.keys.narrow(2, self.length, t).copy_(keys)
        self.values.narrow(2, self.length, t).copy_(values)
        self.length = end
        if end == t and self.keys.dtype != keys.dtype:
            return keys, values  # there are no others to read back
        held = self.keys.narrow(2, 0, end), self.values.narrow(2, 0, end)
        return held[0].to(keys.dtype), held[1].to(keys.dtype)

    @property
    def n_bytes(self) -> int:
        """Bytes allocated for keys and values together, 0 before the first append."""
        if self.keys is None or self.values is None:
            return 0
        return self.keys.nbytes + self.values.nbytes


class KVCache:
    """One generation's cache, a LayerCache a block; owned by the loop and dropped with it."""

    def __init__(self, n_layers: int, capacity: int, dtype: torch.dtype | None = None) -> None:
        self.layers = [LayerCache(capacity, dtype) for _ in range(n_layers)]

    @classmethod
    def of_buffers(cls, buffers: list[torch.Tensor], length: int) -> KVCache:
        """The cache that holds `length` positions in `buffers`, which `buffers()` gave."""
        cache = cls(len(buffers) // 2, buffers[0].shape[2])
        for i, layer in enumerate(cache.layers):
            layer.length = length
            layer.keys, layer.values = buffers[2 * i : 2 * i + 2]
        return cache

    def buffers(self) -> list[torch.Tensor]:
        """Keys and values of each block, (b, h, capacity, e), once something was appended."""
        return [b for layer in self.layers for b in (layer.keys, layer.values) if b is not None]

    def advance(self, t: int) -> None:
        """Counts `t` positions that were written into the buffers without `append`."""
        for layer in self.layers:
            layer.length += t

    @property
    def capacity(self) -> int:
        """Positions that fit."""
        return self.layers[0].capacity

    @property
    def length(self) -> int:
        """Positions held, s."""
        return self.layers[0].length

    @property
    def n_bytes(self) -> int:
        """Bytes allocated over all layers: 2 n_layers b h capacity e bytes-per-number."""
        return sum(layer.n_bytes for layer in self.layers)
