"""Many visitors over shared models: the registry and the thread that has all cores.

Imports the rooms accounting, checkpoints and engine.
"""
