"""Training a GPT on a text: the loop, its options, optimizer, corpus, evaluation.

Imports the rooms checkpoints and engine.
"""
