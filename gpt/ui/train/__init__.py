"""The Train tab, in the order in which a click on Train goes through it.

layout has every component; its settings are data in settings. tab wires them to its handlers:
`start` notes a run and changes the buttons, `drive` streams it, `finish` gives the buttons back. A
run is a Training (trainings): it waits in line, has its choices checked and its steps counted
(plans), and lets a learner take step after step, in turns with those who write. What the learner
measures is its history, of which views make HTML, and curve the picture; its model is kept for an
hour.
"""

from gpt.ui.train.tab import add_to

__all__ = ["add_to"]
