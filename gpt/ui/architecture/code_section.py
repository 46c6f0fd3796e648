"""The model as code: the source that runs, each line with what it makes for a configuration."""

from __future__ import annotations

from html import escape

from gpt.accounting import count_parameters
from gpt.accounting.code_lines import line_costs, sources
from gpt.accounting.operations import forward
from gpt.config import GPTConfig
from gpt.ui.architecture.operations_section import readable_count
from gpt.ui.parts.sentences import say


def code_html(cfg: GPTConfig, batch: int, tokens: int) -> str:
    """Both files of the GPT as tables; a line that makes a tensor has shape, parameters, FLOP."""
    try:
        costs = line_costs(cfg, batch, tokens)
    except RuntimeError:  # a size beyond 64 bits
        return say("A tensor of this model has more bytes than torch can count: make it smaller.")
    total, flops = count_parameters(cfg).total, forward(cfg, batch, tokens).total
    told = (
        f"What each line makes for {batch:,} × {tokens:,} tokens, found by running it without "
        f"values; parameters and operations over all {cfg.n_layers:,} blocks. A line that calls "
        f"others contains theirs: GPTModel.forward adds up to {total:,} parameters and "
        f"{readable_count(flops)} operations."
    )
    tables = []
    for file, lines in sources().items():
        rows = []
        for number, text in enumerate(lines, 1):
            cost, cells = costs.get((file, number)), "<td></td><td></td><td></td>"
            if cost is not None:
                shape = " × ".join(f"{size:,}" for size in cost.shape)
                numbers = (f"{n:,}" if n else "" for n in (cost.parameters, cost.flops))
                cells = "".join(f"<td>{cell}</td>" for cell in (shape, *numbers))
            kind = ' class="makes"' if cost else ""
            rows.append(
                f"<tr{kind}><td>{number}</td><td><code>{escape(text)}</code></td>{cells}</tr>"
            )
        head = "".join(
            f'<th scope="col">{name}</th>'
            for name in ("line", "code", "shape", "parameters", "operations")
        )
        tables.append(
            f'<div class="numbers source" tabindex="0" role="region" aria-label="{file}"><table>'
            f"<caption>{file}</caption><thead><tr>{head}</tr></thead>"
            f"<tbody>{''.join(rows)}</tbody></table></div>"
        )
    return say(told) + "".join(tables)
