"""What a configuration costs, each number with its formula: parameters, bytes, operations."""

from gpt.accounting.parameters import (
    ParameterCount,
    ParameterRow,
    book_steps,
    count_parameters,
    letters_of,
)

__all__ = ["ParameterCount", "ParameterRow", "book_steps", "count_parameters", "letters_of"]
