"""Training a GPT on a text: the loop, its options, optimizers, corpus, evaluation.

Imports the rooms accounting and checkpoints.
"""
