"""What attention remembers between decoding steps: the keys and values already computed."""

from __future__ import annotations

import torch


class _Rows:
    """Which rows of the values' buffer are held: the same in all layers, so found once a step."""

    def __init__(self) -> None:
        self._found_for: tuple[torch.Size, int] | None = None
        self._ids = self._starts = torch.empty(0)

    def find(self, buffer: torch.Tensor, length: int) -> tuple[torch.Tensor, torch.Tensor]:
        if self._found_for != (buffer.shape, length):
            b, h, capacity, _ = buffer.shape
            head = torch.arange(b * h, device=buffer.device)
            held = torch.arange(length, device=buffer.device)
            self._ids = (head.unsqueeze(1) * capacity + held).view(-1)
            self._starts = head * length
            self._found_for = buffer.shape, length
        return self._ids, self._starts


class LayerCache:
    """Keys and values of one layer, in buffers of `dtype` allocated at the first append."""

    def __init__(
        self, capacity: int, dtype: torch.dtype | None = None, rows: _Rows | None = None
    ) -> None:
        self.capacity = capacity
        self.dtype = dtype  # None: that of the first keys
        self._rows = rows if rows is not None else _Rows()
        self.length = 0  # positions held, s
        self.keys: torch.Tensor | None = None
        self.values: torch.Tensor | None = None

    def append(self, keys: torch.Tensor, values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """All keys and values so far, (b, h, s, e) each, given the t new ones (b, h, t, e).

        Views of the buffers, of their type, valid until the next append; or the new ones, where
        there are no others and the type is another. Raises ValueError if the buffer is full.
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
            return keys, values  # nothing is rounded before it is read back
        return self.keys.narrow(2, 0, end), self.values.narrow(2, 0, end)

    def value_table(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """The values' buffer as rows (b h capacity, e); ids (b h s,) of those that are held, head
        after head; and where the ids of each head begin (b h,).
        """
        assert self.values is not None, "nothing was appended"
        ids, starts = self._rows.find(self.values, self.length)
        return self.values.view(-1, self.values.shape[3]), ids, starts

    @property
    def n_bytes(self) -> int:
        """Bytes allocated for keys and values together, 0 before the first append."""
        if self.keys is None or self.values is None:
            return 0
        return self.keys.nbytes + self.values.nbytes


class KVCache:
    """One generation's cache, a LayerCache a block; owned by the loop and dropped with it."""

    def __init__(self, n_layers: int, capacity: int, dtype: torch.dtype | None = None) -> None:
        rows = _Rows()
        self.layers = [LayerCache(capacity, dtype, rows) for _ in range(n_layers)]

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
