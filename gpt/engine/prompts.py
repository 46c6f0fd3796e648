"""What a prompt goes through beside the linear layers, faster: attention and GELU of many rows.

Only in precisions below float32: attention rounds its scores to bfloat16, which costs the more the
larger they are. `python -m gpt compare` measures it along, as far as the model's context reaches.
"""

from __future__ import annotations

import math
from functools import cache

import torch

from gpt.attention import attend
from gpt.engine.kernels import MANY, fastest, rows_like
from gpt.model import GELU

_QUERIES = 128  # that look together: of their keys, half a block at most is computed in vain
_FEW_QUERIES = 192  # fewer are not worth the calls


class PromptGELU(GELU):
    """GELU, for many rows as x sigmoid(2 z) where the book has 0.5 x (1 + tanh(z)): the same.

    torch takes nearly twice as long for tanh as for the sigmoid and the products around it.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if rows_like(x) != MANY or x.requires_grad:
            return super().forward(x)
        z = x * x
        torch.addcmul(x, z, x, value=0.044715, out=z)  # x + 0.044715 x^3
        return z.mul_(2 * math.sqrt(2 / math.pi)).sigmoid_().mul_(x)


def attend_in_bfloat16(
    queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor
) -> torch.Tensor:
    """`attend` with float32 in and out and products in bfloat16, some queries at a time.

    So the (t, s) matrix is never whole, and most of what the mask would hide is not computed.
    """
    b, h, t, e = queries.shape
    s = keys.shape[2]
    if t < _FEW_QUERIES:
        return attend(queries, keys, values)
    queries, keys, values = (
        x.bfloat16().reshape(b * h, -1, e) for x in (queries * e**-0.5, keys, values)
    )
    hidden = torch.ones(_QUERIES, _QUERIES, dtype=torch.bool).triu(1)
    heads = torch.empty(b * h, t, e)
    for start in range(0, t, _QUERIES):
        end = min(start + _QUERIES, t)
        n, seen = end - start, s - t + end  # query i of these n sees keys 0 .. seen - n + i
        scores = torch.bmm(queries[:, start:end], keys[:, :seen].transpose(1, 2))  # (b h, n, seen)
        scores[:, :, seen - n :].masked_fill_(hidden[:n, :n], -torch.inf)
        heads[:, start:end] = torch.bmm(torch.softmax(scores, dim=-1), values[:, :seen])
    return heads.view(b, h, t, e)


@cache
def bfloat16_is_faster() -> bool:
    """Whether `attend_in_bfloat16` is right here, and much faster for a prompt.

    Its products alone are timed: with instructions for bfloat16 they take a third of float32's
    time, without them more, so the answer is the same at every start.
    """
    generator = torch.Generator().manual_seed(0)
    queries, keys, values = torch.randn(3, 1, 12, 512, 64, generator=generator).unbind()
    exact = queries[0, :, :_QUERIES], keys[0].transpose(1, 2)
    rounded = exact[0].bfloat16(), exact[1].bfloat16()
    products = [lambda: torch.bmm(*exact), lambda: torch.bmm(*rounded)]
    if not fastest(products, clearly=1.2):
        return False
    error = attend_in_bfloat16(queries, keys, values) - attend(queries, keys, values)
    return bool(error.abs().max() < 0.05)
