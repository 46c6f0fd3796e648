"""Numbers as a visitor reads them: three significant figures, separators, units that are named.

And numbers as a visitor types them: a browser's own limits are not trusted.
"""

import math
from typing import Any

MB = 10**6
MIB = 2**20


def within(name: str, value: Any, low: float, high: float, kind: str = "number") -> float:
    """`value`, a number from `low` to `high`. Raises ValueError, naming it, if it is none."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not is_number or not low <= value <= high or (kind != "number" and value != int(value)):
        told = "empty" if value is None else repr(value)[:40]
        raise ValueError(f"{name} is {told}: use a {kind} from {low:,.16g} to {high:,.16g}.")
    return value


def whole(name: str, value: Any, low: int, high: int) -> int:
    """`value`, which may be 5.0, as a whole number. Raises ValueError as `within` does."""
    return int(within(name, value, low, high, "whole number"))


def significant(value: float, digits: int = 3) -> str:
    """`value` to so many significant figures with thousands separators: 1,230, 0.0123, 4.50."""
    if not math.isfinite(value):
        return "not finite" if math.isnan(value) else ("∞" if value > 0 else "−∞")
    if value == 0:
        return "0"
    exponent = math.floor(math.log10(abs(float(f"{value:.{digits - 1}e}"))))
    if not -5 <= exponent < 15:
        return f"{value:.{digits - 1}e}".replace("-", "−")
    rounded = round(value, digits - 1 - exponent)
    return f"{rounded:,.{max(0, digits - 1 - exponent)}f}".replace("-", "−")


def signed(value: float, digits: int = 3) -> str:
    """`significant` with a plus before what is above 0."""
    return ("+" if value > 0 else "") + significant(value, digits)


def four(value: float) -> str:
    """`value` to four significant figures."""
    return significant(value, 4)


def counted(count: int, noun: str) -> str:
    """A number of things: `1 token`, `1,230 tokens`."""
    return f"{count:,} {noun}{'s' * (count != 1)}"


def percent(probability: float) -> str:
    """A probability in per cent: `41.2 %`, `0.03 %`, and below 0.01 % as `1 in 12,400`."""
    if probability <= 0:
        return "0 %"
    if probability < 0.0001:
        odds = 1 / probability
        return f"1 in {significant(odds)}" if math.isfinite(odds) else "<0.01 %"
    if probability < 0.01:
        return f"{100 * probability:.2f} %"
    if probability < 1 and probability > 0.9995:
        return "99.9 %" if probability < 0.9999 else ">99.99 %"
    return f"{100 * probability:#.3g} %".replace(". ", " ")  # a chip has six: `significant` is slow


def mib_and_mb(n_bytes: float) -> str:
    """Both units, since 621.83 MiB is often called MB: `621.8 MiB (652.0 MB)`, `1.5 GiB (…)`."""
    for power, letter in ((4, "T"), (3, "G")):
        if n_bytes >= 1024**power:
            binary, decimal = n_bytes / 1024**power, n_bytes / 1000**power
            return f"{significant(binary, 4)} {letter}iB ({significant(decimal, 4)} {letter}B)"
    if 0 < n_bytes < MIB / 10:
        return f"{significant(n_bytes / MIB, 2)} MiB ({significant(n_bytes / MB, 2)} MB)"
    return f"{n_bytes / MIB:,.1f} MiB ({n_bytes / MB:,.1f} MB)"


def seconds(value: float) -> str:
    """A duration with a unit that fits: `3.2 ms`, `1.24 s`, `2 min 5 s`, `2 h 1 min`."""
    if value < 1:
        return f"{significant(1000 * value)} ms"
    if value < 100:
        return f"{significant(value)} s"
    minutes, rest = divmod(round(value), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60:,} h {minutes % 60} min"
