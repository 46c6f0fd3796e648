"""The model as code: the source that runs, each line with what it makes for a configuration."""

from __future__ import annotations

from gpt.accounting import count_parameters
from gpt.accounting.code_lines import LineCost, line_costs, sources
from gpt.accounting.operations import forward
from gpt.config import GPTConfig
from gpt.ui.architecture.operations_section import readable_count
from gpt.ui.parts.sentences import say
from gpt.ui.parts.table import Column, code_column, table_html

COLUMNS = (
    Column("line"), code_column("code"), Column("shape"), Column("parameters"),
    Column("operations"),
)  # fmt: skip


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
            cost = costs.get((file, number), LineCost())
            shape = " × ".join(f"{size:,}" for size in cost.shape)
            rows.append((number, text, shape, cost.parameters or None, cost.flops or None))
        kinds = {number - 1: "makes" for of, number in costs if of == file}
        tables.append(table_html(COLUMNS, rows, file, kinds=kinds))
    return f'{say(told)}<div class="source">{"".join(tables)}</div>'
