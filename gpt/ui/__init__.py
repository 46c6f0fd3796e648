"""The page, the only folder that imports gradio.

Imports the rooms accounting, checkpoints, engine, internals and serving.
"""
