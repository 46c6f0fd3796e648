"""The Generation tab, in the order in which a click on Generate goes through it.

layout has every component. tab has a table of which click asks for what, and wires each to three
handlers: `start` notes the order and lets a page write once at a time, `write` streams, `finish`
gives the buttons back. In `write`, the order, the controls and the page's story make the draft that
a run begins with: a checked wish (wish) and what is known of its text. runs write it: a row of the
scheduler, of a replica or of a borrowed GPU (borrowed_gpu), read a few times a second. What has
come is a continuation: text, chips and the panel of a chosen one; what stays of it is a draft of
the story, which Undo goes over. versions are several runs beside each other. settings are the
controls as data. tab has the endpoint /generate too, which needs no page.
"""

from gpt.ui.generation.tab import add_to

__all__ = ["add_to"]
