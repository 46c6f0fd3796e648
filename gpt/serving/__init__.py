"""Many visitors over shared models: the registry, the scheduler and the thread that has all cores.

Imports the rooms accounting, checkpoints and engine.
"""
