"""Numbers as a visitor reads them, each as it stands on the page."""

import math

import pytest

from gpt.ui.parts.numbers import mib_and_mb, percent, seconds, significant


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (1234, "1,230"),
        (1298.4, "1,300"),
        (0.0123456, "0.0123"),
        (4.5, "4.50"),
        (-0.25, "−0.250"),
        (9.996, "10.0"),
        (999.6, "1,000"),
        (1e-6, "1.00e−06"),
        (2.5e15, "2.50e+15"),
        (math.inf, "∞"),
        (-math.inf, "−∞"),
        (math.nan, "not finite"),
    ],
)
def test_three_significant_figures(value: float, text: str) -> None:
    assert significant(value) == text


@pytest.mark.parametrize(
    ("probability", "text"),
    [
        (0, "0 %"),
        (1e-5, "1 in 100,000"),
        (0.0000806, "1 in 12,400"),
        (1e-320, "<0.01 %"),
        (0.0003, "0.03 %"),
        (0.0089, "0.89 %"),
        (0.0844, "8.44 %"),
        (0.412, "41.2 %"),
        (0.99951, "99.9 %"),
        (0.99995, ">99.99 %"),
        (1, "100 %"),
    ],
)
def test_a_probability_in_per_cent(probability: float, text: str) -> None:
    assert percent(probability) == text


@pytest.mark.parametrize(
    ("n_bytes", "text"),
    [
        (163_009_536 * 4, "621.8 MiB (652.0 MB)"),
        (2**20, "1.0 MiB (1.0 MB)"),
        (6_551_168_000, "6.101 GiB (6.551 GB)"),
        (2**30, "1.000 GiB (1.074 GB)"),
        (1.01e12 * 4, "3.674 TiB (4.040 TB)"),
        (0, "0.0 MiB (0.0 MB)"),
        (26_624, "0.025 MiB (0.027 MB)"),  # "0.0 MiB" stood beside a small training
    ],
)
def test_bytes_name_both_units_and_are_in_gib_above_one(n_bytes: float, text: str) -> None:
    """GPT-2 XL was 6,247.7 MiB (6,551.2 MB)."""
    assert mib_and_mb(n_bytes) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0000123, "0.0123 ms"),
        (0.0032, "3.20 ms"),
        (1.236, "1.24 s"),
        (99.4, "99.4 s"),
        (125.2, "2 min 5 s"),
        (7265, "2 h 1 min"),
    ],
)
def test_a_duration_has_a_unit_that_fits(value: float, text: str) -> None:
    assert seconds(value) == text
