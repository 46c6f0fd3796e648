"""Readings of a trace: what one forward pass says about its own result, a file a kind."""
