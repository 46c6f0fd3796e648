"""What attention remembers between decoding steps: the keys and values already computed."""

from __future__ import annotations

import torch


class LayerCache:
    """Keys and values of one layer, in one buffer allocated at the first append."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.length = 0  # positions held, s
        self._keys: torch.Tensor | None = None
        self._values: torch.Tensor | None = None

    def append(self, keys: torch.Tensor, values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """All keys and values so far, (b, h, s, e) each, given the t new ones (b, h, t, e).

        The result is a view of the buffer: valid until the next append.
        Raises ValueError if the buffer is full.
        """
        b, h, t, e = keys.shape
        end = self.length + t
        if end > self.capacity:
            raise ValueError(
                f"the cache holds {self.capacity:,} positions and was asked for {end:,}: "
                "start a new one from the newest tokens."
            )
        if self._keys is None or self._values is None:
            self._keys = keys.new_empty(b, h, self.capacity, e)
            self._values = values.new_empty(b, h, self.capacity, e)
        self._keys[:, :, self.length : end] = keys
        self._values[:, :, self.length : end] = values
        self.length = end
        return self._keys[:, :, :end], self._values[:, :, :end]

    @property
    def n_bytes(self) -> int:
        """Bytes allocated for keys and values together, 0 before the first append."""
        if self._keys is None or self._values is None:
            return 0
        return self._keys.nbytes + self._values.nbytes


class KVCache:
    """One generation's cache, a LayerCache a block; owned by the loop and dropped with it."""

    def __init__(self, n_layers: int, capacity: int) -> None:
        self.layers = [LayerCache(capacity) for _ in range(n_layers)]

    @property
    def length(self) -> int:
        """Positions held, s."""
        return self.layers[0].length

    @property
    def n_bytes(self) -> int:
        """Bytes allocated over all layers: 2 n_layers b h capacity e bytes-per-number."""
        return sum(layer.n_bytes for layer in self.layers)
