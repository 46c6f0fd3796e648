"""What decode.py measured, as text and as a plot: medians, spread, ratios and their targets."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent.parent.parent / "assets" / "benchmarks"
DATA = FOLDER / "decode.json"
# What is compared on GPT-2 small's shape: row, one, other, at least, aimed at.
RATIOS = [
    ("decode 128", "ours float32", "transformers float32", 1.2, 2.0),
    ("decode 128", "ours float16", "transformers bfloat16", 2.3, 3.0),
    ("decode 128", "ours float16", "llama.cpp float16", 0.9, 1.1),
    ("decode 128", "ours int8", "ctranslate2 int8", 1.8, 2.2),
    ("decode 128", "ours int8", "llama.cpp q8_0", 0.9, 1.1),
    ("decode 128", "ours int8", "book float32", 25, 35),
    ("prefill 512", "ours bfloat16", "llama.cpp float16", 1.8, None),
    ("prefill 512", "ours int8", "llama.cpp q8_0", 2.5, None),
]
PLOTTED = {
    ("ours", "float16"): "tab:orange",
    ("ours", "bfloat16"): "tab:brown",
    ("ours", "int8"): "tab:blue",
    ("llama.cpp", "float16"): "tab:green",
    ("llama.cpp", "q8_0"): "tab:olive",
    ("ctranslate2", "int8"): "tab:red",
    ("transformers", "bfloat16"): "tab:gray",
}


class Result:
    """One model's measurements, asked by contender ("ours int8") and row."""

    def __init__(self, data: dict[str, Any]) -> None:
        self.data = data
        self.contenders = {f"{c['engine']} {c['setting']}": c for c in data["contenders"]}

    def rates(self, contender: str, row: str) -> list[float]:
        """Tokens a second of every repeat, slowest first."""
        seconds = self.contenders.get(contender, {"seconds": {}})["seconds"].get(row, [])
        return sorted(self.data["tokens"][row] / s for s in seconds)

    def rate(self, contender: str, row: str) -> float | None:
        found = self.rates(contender, row)
        return statistics.median(found) if found else None


def write(data: dict[str, Any]) -> str:
    """Writes decode.txt and decode.png; returns the text."""
    left_out = ", ".join(data["left_out"]) or "nothing"
    versions = ", ".join(f"{name} {version}" for name, version in data["versions"].items())
    lines = [
        f"{data['date']}, {data['machine']}, {data['threads']} threads, Python {data['python']}",
        f"{versions}; left out: {left_out}",
        "Tokens a second: median of the repeats (worst-best). Measured once: load, from "
        "a disk that may be cold; held, memory that no file stands behind; peak of all memory.",
    ]
    for model, found in data["models"].items():
        result = Result(found)
        lines += ["", model, *_table(result), *_floor(result)]
        lines += _before(result)
        if model == "gpt2-small-shape":
            lines += _ratios(result)
    text = "\n".join(lines) + "\n"
    (DATA.with_suffix(".txt")).write_text(text)
    _plot(data)
    return text


def _table(result: Result) -> list[str]:
    rows = list(result.data["tokens"])
    width = 26
    names = list(result.contenders)
    lines = []
    for part in (rows[:4], rows[4:]):
        head = "".join(f"{row:>{width}}" for row in part)
        lines.append(
            f"{'':24}{head}" + ("    load s  held MiB  peak MiB" if part == rows[:4] else "")
        )
        for name in names:
            cells = [_spread(result.rates(name, row)) for row in part]
            if part != rows[:4] and not any(cells):
                continue
            line = f"{name:24}" + "".join(f"{cell or '-':>{width}}" for cell in cells)
            if part == rows[:4]:
                found = result.contenders[name]
                line += f"{found['load_seconds']:>10.2f}{found['held_bytes'] / 2**20:>10.0f}"
                line += f"{found['peak_bytes'] / 2**20:>10.0f}"
            lines.append(line)
    return lines


def _spread(rates: list[float]) -> str:
    if not rates:
        return ""
    return f"{statistics.median(rates):,.1f} ({rates[0]:,.0f}-{rates[-1]:,.0f})"


def _floor(result: Result) -> list[str]:
    lines = ["reading the weights of a token, which the cache may hold, and nothing else allows:"]
    for setting, size in result.data["read_bytes"].items():
        bandwidth = statistics.median(result.data["read_bytes_per_second"][setting])
        floor, rate = bandwidth / size, result.rate(f"ours {setting}", "decode 128")
        share = "" if rate is None else f", reached {rate / floor:.0%}"
        lines.append(
            f"  {setting:9}{size / 2**20:>8.1f} MiB at {bandwidth / 1e9:.1f} GB/s"
            f"{floor:>10.1f} tokens/s{share}"
        )
    return lines


def _before(result: Result) -> list[str]:
    """Each precision over the same one of the checkout before, where that took part."""
    lines = []
    for name in result.contenders:
        engine, _, setting = name.partition(" ")
        for row in result.data["tokens"] if engine == "before" else ():
            rate, before = result.rate(f"ours {setting}", row), result.rate(name, row)
            if rate and before:
                lines.append(
                    f"  {f'{row}: {setting}, over the checkout before':60}{rate / before:>11.2f}"
                )
    return lines


def _ratios(result: Result) -> list[str]:
    lines = [f"{'ratios of medians':62}{'reached':>9}{'at least':>10}{'aim':>6}"]

    def add(what: str, value: float | None, wanted: str, aim: str) -> None:
        lines.append(
            f"  {what:60}{'-' if value is None else f'{value:.2f}':>9}{wanted:>10}{aim:>6}"
        )

    for row, one, other, least, aim in RATIOS:
        rate, beside = result.rate(one, row), result.rate(other, row)
        ratio = rate / beside if rate and beside else None
        add(f"{row}: {one} / {other}", ratio, f"{least:g}", f"{aim:g}" if aim else "")
    single, eight = (
        result.rate("ours int8", "decode 128"),
        result.rate("ours int8", "decode 32, batch 8"),
    )
    add("ours int8: batch 8 / batch 1", eight / single if eight and single else None, "", "6")
    near, far = (result.rate("ours float16", f"decode 24 after {n}") for n in (100, 976))
    slower = near / far if near and far else None
    add("ours float16: time a token after 976 / after 100", slower, "<= 1.3", "")
    held = result.data["weight_bytes"]
    add("weights: int8 / float32, bytes", held["int8"] / held["float32"], "<= 0.45", "")
    return lines


def _plot(data: dict[str, Any]) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    models = data["models"]
    figure, grid = pyplot.subplots(
        len(models), 2, figsize=(10, 4 * len(models)), layout="constrained", squeeze=False
    )
    for axes, (model, found) in zip(grid, models.items(), strict=True):
        _plot_model(axes, model, Result(found))
    figure.suptitle(f"Tokens a second, {data['threads']} threads, {data['date'][:10]}")
    figure.savefig(DATA.with_suffix(".png"), dpi=110)


def _plot_model(axes: Any, model: str, result: Result) -> None:
    """Left, one sequence against its context; right, a batch against its size."""
    contexts, batches = {"decode 128": 64}, {"decode 128": 1}  # 64 on average
    for row in result.data["tokens"]:
        if " after " in row:
            contexts[row] = int(row.split()[-1])
        if "batch" in row:
            batches[row] = int(row.split()[-1])
    for (engine, setting), colour in PLOTTED.items():
        name = f"{engine} {setting}"
        for axis, places in zip(axes, (contexts, batches), strict=True):
            points = [(at, result.rate(name, row)) for row, at in places.items()]
            known = sorted((at, rate) for at, rate in points if rate is not None)
            if len(known) > 1:
                style = {"color": colour, "marker": "o", "label": name}
                axis.plot([at for at, _ in known], [rate for _, rate in known], **style)
    axes[0].set(xlabel="tokens of context", ylabel="tokens/s", title=f"{model}, one sequence")
    axes[1].set(xlabel="sequences in a batch", title=f"{model}, all sequences together")
    axes[1].set_xscale("log", base=2)
    axes[1].set_xticks([1, 2, 4, 8, 16], ["1", "2", "4", "8", "16"])
    for axis in axes:
        axis.set_ylim(0, 1.4 * axis.get_ylim()[1])  # room for the legend
        axis.legend(fontsize="small", ncols=2, loc="upper left")
        axis.grid(alpha=0.3)
