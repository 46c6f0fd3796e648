"""The KV cache: what was appended comes back, without a copy; what does not fit is refused."""

import pytest
import torch

from gpt.cache import KVCache, LayerCache


def test_what_was_appended_comes_back_in_order_without_a_copy():
    layer = LayerCache(capacity=6)
    keys, values = torch.randn(2, 1, 2, 5, 8).unbind()
    layer.append(keys[:, :, :4], values[:, :, :4])
    held = layer.append(keys[:, :, 4:], values[:, :, 4:])
    assert torch.equal(held[0], keys)
    assert torch.equal(held[1], values)
    assert held[0].data_ptr() == layer.buffer.data_ptr()
    assert layer.n_bytes == 2 * 2 * 6 * 8 * 4  # keys and values, heads, positions, e, bytes


def test_a_cache_of_all_layers_counts_them():
    cache = KVCache(n_layers=3, capacity=4)
    assert (cache.length, cache.n_bytes) == (0, 0)
    for layer in cache.layers:
        layer.append(torch.ones(1, 2, 2, 8), torch.ones(1, 2, 2, 8))
    assert (cache.length, cache.n_bytes) == (2, 3 * 2 * 2 * 4 * 8 * 4)


def test_another_batch_than_the_one_that_is_held_is_refused():
    """A batch of 1 after one of 4 was copied into all four rows, and gave four rows of logits."""
    layer = LayerCache(capacity=6)
    layer.append(torch.ones(4, 2, 1, 8), torch.ones(4, 2, 1, 8))
    with pytest.raises(ValueError, match="holds a batch of 4 and was given one of 1"):
        layer.append(torch.ones(1, 2, 1, 8), torch.ones(1, 2, 1, 8))
    assert layer.length == 1


def test_keys_that_do_not_fit_leave_the_length_as_it_was():
    """The length was set before they were copied: the next ones came after a gap."""
    layer = LayerCache(capacity=6)
    layer.append(torch.ones(1, 2, 1, 8), torch.ones(1, 2, 1, 8))
    with pytest.raises(RuntimeError):
        layer.append(torch.ones(1, 3, 2, 8), torch.ones(1, 3, 2, 8))
    assert layer.length == 1
