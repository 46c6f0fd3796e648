"""What a configuration costs: parameters, bytes, operations, times, each with its formula."""

from gpt.accounting.parameters import ParameterCount, ParameterRow, count_parameters, letters_of

__all__ = ["ParameterCount", "ParameterRow", "count_parameters", "letters_of"]
