"""One function per family: a Hugging Face configuration becomes a Model.

`sim.model.families.registry` is the visible list; adding a family is one function and one line.
"""
