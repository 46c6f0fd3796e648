"""The KV cache: keys and values of the positions so far, kept between decode steps."""

import torch


class LayerCache:
    """Keys and values of one layer, in a buffer that the first append allocates."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.length = 0  # positions held, s
        self.buffer: torch.Tensor | None = None  # (2, b, h, capacity, e): keys, then values

    def append(self, keys: torch.Tensor, values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """All keys and values so far, (b, h, s, e) each, given the t new ones (b, h, t, e).

        Views of the buffer, valid until the next append.
        Raises ValueError if the buffer is full, or holds another batch.
        """
        b, h, t, e = keys.shape
        self.check_room(t)
        if self.buffer is None:
            self.buffer = keys.new_empty(2, b, h, self.capacity, e)
        if self.buffer.shape[1] != b:
            raise ValueError(
                f"the cache holds a batch of {self.buffer.shape[1]} and was given one of {b}: "
                "use a cache for each batch."
            )
        all_keys, all_values = self.buffer[0], self.buffer[1]  # (b, h, capacity, e) each
        end = self.length + t
        all_keys[:, :, self.length : end] = keys
        all_values[:, :, self.length : end] = values
        self.length = end
        return all_keys[:, :, :end], all_values[:, :, :end]

    def check_room(self, t: int) -> None:
        """Raises ValueError if there is no room for `t` more positions."""
        if self.length + t > self.capacity:
            raise ValueError(
                f"the cache holds {self.capacity:,} positions and was asked for "
                f"{self.length + t:,}: start a new one from the newest tokens."
            )

    @property
    def n_bytes(self) -> int:
        """Bytes allocated for keys and values together, 0 before the first append."""
        return 0 if self.buffer is None else self.buffer.nbytes


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
