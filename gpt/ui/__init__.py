"""The page, the only folder that imports gradio.

A tab is a folder, or a file, whose `add_to(page)` lays it out and wires it: generation,
architecture, internals, train. To add one, write it and put its name into TABS of tabs.py.
A setting of Generation is one entry of SETTINGS in generation/settings.py, the field of that name
in `gpt.sampling.SamplingOptions`, and its line in `endpoint` of generation/tab.py.
A section of Internals is a view under `@section(...)` in a file below internals/sections, a file a
stop of the rail: its title, its controls, its outputs, the lines of code that it shows, and
`view(lab, focus, **controls)`, a plain function that gives a value for each output, or a generator
that first says how far it is; embedding_vectors.py is a short one to copy. Its entry in VIEWS of
sections/__init__.py puts it on the page, wired and tested. What it shows is computed in
gpt/internals, a file a reading.
A setting of a section is one entry of its `controls`: a name, which is the view's argument, and
what makes the component.
What tabs share is in parts: tables, bars, heat maps, chips, numbers as text, one-line errors.

Imports the rooms accounting, checkpoints, engine, internals, serving and
training.
"""
