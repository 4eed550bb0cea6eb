"""What a scheduler plans: one step."""

from typing import NamedTuple

from sim.serving.sequence import ServedSequence
from sim.serving.step_cost import BatchShape


class Batch(NamedTuple):
    """One planned step: its number, its shape, and who gets something at its end.

    `chunks` are prompts with the tokens they get; `first` sequences have their prompt computed by
    it and get a token, `last` ones get their last. `swapped_blocks` are copied over the host link
    before it. `generated` are the tokens that it gives out. `joined` begin to decode in it without
    a prompt of theirs being computed: they come from the host or another GPU. `running`, `waiting`
    and `kv_blocks` (in use) are as of its planning, it included.
    """

    number: int
    shape: BatchShape
    chunks: list[tuple[ServedSequence, int]]
    first: list[ServedSequence]
    last: list[ServedSequence]
    generated: int
    joined: list[ServedSequence]
    swapped_blocks: int
    running: int
    waiting: int
    kv_blocks: int
