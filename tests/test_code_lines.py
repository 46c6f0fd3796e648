"""The model as code: what is told beside a line is what `gpt.accounting` computes."""

from __future__ import annotations

import pytest
import torch
from architecture_cases import TINY, values_of
from random_configs import buildable

from gpt import GPTConfig, GPTModel, count_parameters
from gpt.accounting.code_lines import LineCost, line_costs, sources
from gpt.accounting.operations import forward
from gpt.trace import Trace
from gpt.ui.architecture.model_map import source_html


def line_of(costs: dict[tuple[str, int], LineCost], text: str) -> LineCost:
    """The cost of the one line that has this text."""
    at = [(f, n) for f, ls in sources().items() for n, line in enumerate(ls, 1) if text in line]
    (place,) = at
    return costs[place]


@pytest.mark.parametrize("seed", range(6))
def test_the_lines_of_the_models_forward_add_up_to_the_accounts_totals(seed: int) -> None:
    cfg = buildable(seed)
    tokens = min(7, cfg.context_length)
    costs = line_costs(cfg, 2, tokens)
    texts = ("self.tok_emb(ids)", "self.pos_emb(", "x = block(", "self.final_norm(x)")
    lines = [line_of(costs, text) for text in (*texts, "self.out_head(final_norm)")]
    assert sum(line.parameters for line in lines) == count_parameters(cfg).total
    assert sum(line.flops for line in lines) == forward(cfg, 2, tokens).total


def test_a_line_has_the_parameters_and_operations_of_its_part() -> None:
    cfg = GPTConfig(qkv_bias=True)
    costs = line_costs(cfg, 1, 1024)
    counts = {r.name.replace("trf_blocks.*.", ""): r.count for r in count_parameters(cfg).rows}
    flops = {part.name: int(part.value) for part in forward(cfg, 1, 1024)}
    queries = line_of(costs, "self.W_query(x)")
    assert queries.parameters == sum(counts[f"att.W_{n}"] for n in ("query", "key", "value"))
    assert queries.flops == flops["queries, keys, values"]
    assert line_of(costs, 'record(trace, "scores"').flops == flops["scores Q Kᵀ"]
    assert line_of(costs, 'record(trace, "heads"').flops == flops["attention × V"]
    assert line_of(costs, "self.out_proj(heads").parameters == counts["att.out_proj"]
    assert line_of(costs, "expand(x)").parameters == counts["ff.layers.0"]
    assert line_of(costs, "contract(activation)").parameters == counts["ff.layers.2"]
    fused = line_of(costs, "return F.scaled_dot_product_attention(")
    assert fused.flops == flops["scores Q Kᵀ"] + flops["attention × V"]


def test_the_shape_beside_a_line_is_that_of_the_tensor_recorded_there() -> None:
    trace = Trace()
    torch.manual_seed(0)
    GPTModel(TINY).eval()(torch.zeros(2, 5, dtype=torch.long), trace=trace)
    costs = line_costs(TINY, 2, 5)
    assert len(trace.entries) > 20
    for entry in trace.entries.values():
        assert costs[entry.file, entry.line].shape == tuple(entry.value.shape), entry.name


def test_the_section_shows_the_source_with_the_numbers_and_refuses_what_torch_cannot_count() -> (
    None
):
    html = source_html(TINY, 2, 5)
    for lines in sources().values():
        numbers = range(1, len(lines) + 1)
        assert all(f'<td class="number"><bdi>{number}</bdi></td>' in html for number in numbers)
    cells = [f'<td class="number"><bdi>{n}</bdi></td>' for n in ("2 × 5 × 97", "2,328", "46,560")]
    assert "".join(cells) in html
    huge = GPTConfig(10**9, 10**9, 10**9, 1, 1)
    assert "more bytes than torch can count" in source_html(huge, 1, 10**9)
    assert values_of(TINY)["part"] == "block"
