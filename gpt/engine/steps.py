"""What a decoding step goes through beside the linear layers, faster: attention of one query."""

from __future__ import annotations

from functools import cache as once  # `cache` is what attention remembers

import torch
import torch.nn.functional as F

from gpt.attention import attend
from gpt.cache import LayerCache
from gpt.engine.kernels import fastest


def attend_in_place(
    queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, cache: LayerCache
) -> torch.Tensor:
    """`attend` of one query, (b, h, 1, e), over a cache in float16 whose values are not copied.

    What a head gives is a weighted sum of rows, for which torch has `embedding_bag`: it reads
    float16 as it lies and sums in float32, where attention needs a float32 copy of the values.
    Their weights, at most 1, and the result are rounded to float16 for it: with the storyteller
    forced into such a cache, that cost less than 0.00001 nats. `compare` has no cache.
    """
    scaled = queries * int(queries.shape[3]) ** -0.5  # int: in a recording it is a constant
    scores = (keys.to(queries.dtype) @ scaled.transpose(2, 3)).squeeze(3)  # (b, h, s)
    table, ids, starts = cache.value_table()
    attention = torch.softmax(scores, dim=-1).type_as(table).view(-1)
    heads = F.embedding_bag(ids, table, starts, mode="sum", per_sample_weights=attention)
    return heads.to(queries.dtype).view(queries.shape)


@once
def reading_in_place_is_faster() -> bool:
    """Whether `attend_in_place` is right here, and much faster over a long cache.

    The sums of values alone are timed, against those of a float32 copy.
    """
    generator = torch.Generator().manual_seed(0)
    queries, keys, values = torch.randn(3, 1, 12, 960, 64, generator=generator).unbind()
    cache = LayerCache(1024, torch.float16)
    cache.append(keys[:, :, 1:], values[:, :, 1:])
    held = cache.append(keys[:, :, :1], values[:, :, :1])
    weights = torch.softmax(queries[..., 0], dim=-1)  # (1, 12, 960)
    table, ids, starts = cache.value_table()
    halves = weights.half().view(-1)
    sums = [
        lambda: weights.unsqueeze(2) @ held[1].float(),
        lambda: F.embedding_bag(ids, table, starts, mode="sum", per_sample_weights=halves),
    ]
    if not fastest(sums, clearly=1.2):
        return False
    one = queries[:, :, :1]
    error = attend_in_place(one, *held, cache) - attend(one, *held)
    return bool(error.abs().max() < 0.01)
