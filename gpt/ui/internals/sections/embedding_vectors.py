"""Embeddings: the two vectors whose sum enters the first block."""

import torch

from gpt.internals.residual import embeddings
from gpt.model import GPTModel
from gpt.ui.internals.lab import Focus, Lab
from gpt.ui.internals.section import Code, numbers, section
from gpt.ui.internals.vector_figures import largest_numbers
from gpt.ui.parts.heat import strips
from gpt.ui.parts.numbers import four, significant
from gpt.ui.parts.sentences import formula, say


@section(
    "embeddings",
    title="Embeddings: ids become vectors",
    intro="Each token id picks a row of the token table, each position a row of the position "
    "table; their sum enters the first block. Blue is positive, red negative.",
    code=(Code(GPTModel.forward, "positions = ", '"embedded"'), Code(embeddings)),
    output="int-emb",
)
def embedding_html(lab: Lab, focus: Focus) -> str:
    """The position's two embeddings and their sum: a sentence, strips, a table."""
    at = focus.position
    rows = embeddings(lab.run(focus), at).cpu()
    names = [f"token {lab.piece(focus.ids[at])}", f"position {at}", "sum"]
    lengths = [significant(row.norm().item()) for row in rows]
    first = [four(x) for x in rows[:, 0].tolist()]
    cosine = torch.cosine_similarity(rows[0], rows[1], dim=0).item()
    words = say(
        f"The token vector has length {lengths[0]}, the position vector {lengths[1]}, their sum "
        f"{lengths[2]}; the cosine between the two is {significant(cosine)}."
    ) + formula(
        "x = token embedding + position embedding, number by number",
        f"x[0] = {first[0]} + {first[1]} = {first[2]}, and so on for {rows.shape[1]:,} numbers",
    )
    table = numbers(largest_numbers("embeddings", names, rows.numpy()))
    return words + strips(rows.numpy(), names, "token, position and their sum as strips") + table
