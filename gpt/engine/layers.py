"""Layers that stand for nn.Linear and nn.Embedding: float32 in and out, other numbers inside.

Every one has `.weight` and `.bias` in the shapes of the layer that it stands for. A packed weight
is dequantised when it is asked for, and is neither a parameter nor in a state_dict.

Where `same_bits_in_company` is True, a row of x gets the same bits alone and among other rows.
"""

import math
import platform
import warnings
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

_PARTS, _FEW_ROWS = 4, 16
_MANY_INPUTS = 512  # fewer are multiplied sooner than they are shared out
_ROWS_AT_A_TIME = 512


class Quantised(nn.Module):
    """A layer that makes `.weight` from what it stores when somebody asks for it.

    By default int8 `rows` with a `scale` each. By __getattr__, since TorchScript reads every
    property of what it compiles.
    """

    def __getattr__(self, name: str) -> Any:
        return self.dequantised() if name == "weight" else super().__getattr__(name)

    def dequantised(self) -> torch.Tensor:
        return self.rows * self.scale


class Packed(Quantised):
    """A layer with a packed weight: a state_dict would leave the weight out, so it has none."""

    def _save_to_state_dict(self, *_: Any) -> None:
        raise ValueError("a packed model has no state_dict: load it in float32, or use save_model.")


class PartsLinear(nn.Linear):
    """An nn.Linear in float32 whose weight (out, in) lies in memory as (in, out).

    MKL shares one product of a few rows badly among cores and several products well: a few rows
    of many inputs are multiplied in four parts, whose sum is taken.
    """

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None) -> None:
        nn.Module.__init__(self)
        self.out_features, self.in_features = weight.shape
        transposed = torch.empty(weight.shape[::-1])
        self.weight = nn.Parameter(transposed.t().copy_(weight))
        self.bias = None if bias is None else nn.Parameter(bias.to(torch.float32, copy=True))
        self.parts = math.gcd(self.in_features, _PARTS)
        self.few = _FEW_ROWS * self.in_features if self.in_features >= _MANY_INPUTS else 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.numel() > self.few:
            return F.linear(x, self.weight, self.bias)
        rows = x.reshape(-1, self.parts, self.in_features // self.parts).transpose(0, 1)
        parts = self.weight.t().reshape(self.parts, -1, self.out_features)
        y = torch.bmm(rows, parts).sum(0).unflatten(0, x.shape[:-1])  # (parts, rows, out) summed
        return y if self.bias is None else y + self.bias


class HalfLinear(nn.Module):
    """x W^T + bias with x and W rounded to float16 or bfloat16.

    An x86 processor without AVX-512 multiplies several rows in float32, by a copy of W that is let
    go at once: a prompt of 512 takes a sixth of its time so (GPT-2 small's shape, an AVX2 EPYC).
    """

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None, dtype: torch.dtype) -> None:
        super().__init__()
        self.weight = fixed(weight, dtype)
        self.bias = None if bias is None else fixed(bias)
        capability = torch.backends.cpu.get_cpu_capability()
        self.native = dtype != torch.bfloat16 or capability != "AVX2"

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.native or x.numel() == x.shape[-1]:
            y = F.linear(x.to(self.weight.dtype), self.weight).float()
        else:
            y = F.linear(x, self.weight.float())
        return y if self.bias is None else y.add_(self.bias)


class PackedHalfLinear(Packed):
    """x W^T + bias with W in float16 as fbgemm packs it; x and the sums are float32."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None) -> None:
        super().__init__()
        self.packed = torch.ops.quantized.linear_prepack_fp16(weight.float(), None)
        self.bias = None if bias is None else fixed(bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.ops.quantized.linear_dynamic_fp16(x, self.packed)
        return y if self.bias is None else y.add_(self.bias)

    def dequantised(self) -> torch.Tensor:
        return torch.ops.quantized.linear_unpack_fp16(self.packed)[0].half()


class PackedInt8Linear(Packed):
    """x W^T + bias with W in int8 as fbgemm packs it, a scale for each row of W and of x.

    A row of x is divided by its largest magnitude, so that one fixed scale serves all rows: the
    sums are exact in 32 bits, and no row depends on another.
    """

    same_bits_in_company = True

    def __init__(
        self, rows: torch.Tensor, scale: torch.Tensor, bias: torch.Tensor | None, levels: int
    ) -> None:
        super().__init__()
        zeros, scales = torch.zeros(len(rows), dtype=torch.long), scale.view(-1).double()
        with warnings.catch_warnings():  # torch announces their end; Int8Linear needs none
            warnings.simplefilter("ignore")
            quantized = torch._make_per_channel_quantized_tensor(rows, scales, zeros, 0)
        self.packed = torch.ops.quantized.linear_prepack(quantized, None)
        self.bias = None if bias is None else fixed(bias)
        self.x_scale, self.x_zero = 1 / levels, levels + 1

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        size = x.abs().amax(-1, True)  # torch does not vectorise vector_norm
        y = torch.ops.quantized.linear_with_input_q_dq_qweight_dq_output_fp32(
            x / size, self.x_scale, self.x_zero, self.packed
        )
        y = y.mul_(size)  # of a row of zeros, 0 / 0 was rounded to some number: times 0
        return y if self.bias is None else y.add_(self.bias)

    def dequantised(self) -> torch.Tensor:
        return torch.ops.quantized.linear_unpack(self.packed)[0].dequantize()


class Int8Linear(Quantised):
    """PackedInt8Linear without a packed weight, by torch._int_mm: for processors without fbgemm.

    torch means to drop its quantised tensors, which fbgemm takes: then this is what stays.
    """

    same_bits_in_company = True

    def __init__(self, rows: torch.Tensor, scale: torch.Tensor, bias: torch.Tensor | None) -> None:
        super().__init__()
        self.rows = nn.Parameter(rows, requires_grad=False)  # (out, in)
        self.scale = nn.Parameter(scale, requires_grad=False)  # (out, 1)
        self.bias = None if bias is None else fixed(bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        flat = x.reshape(-1, x.shape[-1])
        size = flat.abs().amax(-1, True).clamp_min_(1e-30)
        quantized = (flat / size).mul_(127).round_().to(torch.int8)
        sums = torch._int_mm(quantized, self.rows.t())  # (rows, out), exact in int32
        y = (sums * self.scale.view(-1)).mul_(size / 127)
        y = y if self.bias is None else y.add_(self.bias)
        return y.unflatten(0, x.shape[:-1])


class HalfEmbedding(nn.Module):
    """Rows of a float16 or bfloat16 table, as float32."""

    def __init__(self, weight: torch.Tensor, dtype: torch.dtype) -> None:
        super().__init__()
        self.weight = fixed(weight, dtype)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return F.embedding(ids, self.weight).float()


class Int8Embedding(Quantised):
    """Rows of an int8 table with a scale each, as float32."""

    def __init__(self, rows: torch.Tensor, scale: torch.Tensor) -> None:
        super().__init__()
        self.rows = nn.Parameter(rows, requires_grad=False)  # (vocab, d)
        self.scale = nn.Parameter(scale, requires_grad=False)  # (vocab, 1)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return F.embedding(ids, self.rows) * F.embedding(ids, self.scale)


def int8_linear(
    rows: torch.Tensor, scale: torch.Tensor, bias: torch.Tensor | None
) -> PackedInt8Linear | Int8Linear:
    """The int8 layer of this processor, for a weight that `quantize` made."""
    if levels := activation_levels():
        return PackedInt8Linear(rows, scale, bias, levels)
    return Int8Linear(rows, scale, bias)


def half_linear(weight: torch.Tensor, bias: torch.Tensor | None, dtype: torch.dtype) -> nn.Module:
    """The float16 or bfloat16 layer of this processor."""
    if dtype == torch.float16 and float16_is_packed():
        (low, high), most = weight.aminmax(), torch.finfo(dtype).max
        if -most <= low and high <= most:  # not NaN either, which would be clipped
            return PackedHalfLinear(weight, bias)
    return HalfLinear(weight, bias, dtype)


def kernel_of(precision: str) -> str:
    """What multiplies in `precision` on this processor, in words."""
    levels = activation_levels()
    return {
        "float32": "MKL, in four parts" if has_x86_kernels() else "torch",
        "float16": "fbgemm" if float16_is_packed() else "torch",
        "bfloat16": "torch",
        "int8": f"fbgemm, activations to {levels}" if levels else "torch._int_mm",
    }[precision]


def has_x86_kernels() -> bool:
    """Whether MKL, for which PartsLinear is made, multiplies float32 here."""
    return torch.backends.mkl.is_available() and platform.machine() in ("x86_64", "AMD64")


@cache
def activation_levels() -> int:
    """Steps on each side of zero to which PackedInt8Linear may round x: 127, 63, or 0 for none.

    fbgemm multiplies unsigned 8-bit x by signed 8-bit weights. Without VNNI instructions, x86
    adds two products in 16 bits, which clip: two of 255 x 127 are too large, two of 127 x 127
    are not. 0 where fbgemm or its operator is missing. Tried on the largest sums there are.
    """
    signs = torch.tensor([1.0, -1.0]).repeat(512)
    x = torch.stack([torch.ones(1024), -torch.ones(1024), signs])
    rows = (x * 127).to(torch.int8)
    exact = x.double() @ rows.double().t()
    for levels in (127, 63):
        try:
            layer = PackedInt8Linear(rows, torch.ones(3, 1), None, levels)
            found = torch.cat([layer(x), *map(layer, x.split(1))]).double()
        except (RuntimeError, AttributeError, NotImplementedError):
            return 0
        if (found - exact.repeat(2, 1)).abs().max() < 1:
            return levels
    return 0


@cache
def float16_is_packed() -> bool:
    """Whether fbgemm multiplies float16 weights here, and rightly."""
    weight = torch.arange(-32.0, 32.0).repeat(64, 16) / 8  # each a number of float16
    x = torch.linspace(-1, 1, 1024)[None]
    try:
        return torch.allclose(PackedHalfLinear(weight, None)(x), F.linear(x, weight), atol=1e-2)
    except (RuntimeError, AttributeError, NotImplementedError):
        return False


def quantize(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """int8 (out, in) and scale (out, 1), float32, such that int8 * scale is about `weight`.

    The largest magnitude of a row becomes 127; a row of zeros stays zeros. Some rows at a time:
    `weight` is never in float32 as a whole.
    """
    values = torch.empty(weight.shape, dtype=torch.int8)
    scale = torch.empty(len(weight), 1)
    for start in range(0, len(weight), _ROWS_AT_A_TIME):
        part = slice(start, start + _ROWS_AT_A_TIME)
        rows = weight[part].float()
        scale[part] = (rows.abs().amax(dim=1, keepdim=True) / 127).clamp_min_(1e-30)
        values[part] = (rows / scale[part]).round_()
    return values, scale


def fixed(value: torch.Tensor, dtype: torch.dtype = torch.float32) -> nn.Parameter:
    """A copy of `value` as a parameter that is listed and counted, and not trained."""
    return nn.Parameter(value.detach().to(dtype, copy=True), requires_grad=False)
