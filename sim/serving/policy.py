"""Scheduling policies: pure functions from what a scheduler sees to what its next step may do.

A policy decides; the scheduler carries it out as far as the KV cache allows. Adding one is a
function and a line in `POLICIES`.
"""

from collections.abc import Callable
from types import MappingProxyType
from typing import Final, NamedTuple

from sim.serving.config import ServeConfig

# vLLM V0 admits a prompt only if 1 % of the blocks stays free (`BlockSpaceManager.watermark`).
V0_WATERMARK: Final = 0.01


class View(NamedTuple):
    """What a policy may know: counts of sequences, and the limits of `config`.

    `running` sequences hold a place: `decoding` ones would take `decode_tokens` each, `prefilling`
    ones have some of their prompt left, the rest are done but for their last step's end, or their
    KV is on its way. `waiting` ones are not admitted. `decoded` tells whether there was a step of
    decodes since none was running.
    """

    config: ServeConfig
    running: int
    decoding: int
    prefilling: int
    waiting: int
    decoded: bool = False
    decode_tokens: int = 1


class Decision(NamedTuple):
    """What the next step may do.

    `prompt_tokens` of prompts, of at most `admit` new sequences beside those admitted before; with
    `whole_prompts` no prompt is cut (one that is longer than the budget runs alone). Decodes run
    if `decode`, but not beside prompts if `apart`. Admission leaves `watermark` of the cache free.
    """

    decode: bool
    prompt_tokens: int
    admit: int
    whole_prompts: bool = False
    apart: bool = False
    watermark: float = 0.0


Policy = Callable[[View], Decision]


def chunked_prefill(view: View) -> Decision:
    """Run all decodes, then prompts in pieces up to the token budget (vLLM V1, Sarathi-Serve)."""
    taken = view.decoding * view.decode_tokens
    return Decision(
        decode=True,
        prompt_tokens=max(0, view.config.max_num_batched_tokens - taken),
        admit=view.config.max_num_seqs - view.running,
    )


def prefill_first(view: View) -> Decision:
    """Run whole prompts as soon as they fit, decodes only if there are none (vLLM V0, Orca)."""
    return Decision(
        decode=True,
        prompt_tokens=view.config.max_num_batched_tokens,
        admit=view.config.max_num_seqs - view.running,
        whole_prompts=True,
        apart=True,
        watermark=V0_WATERMARK,
    )


def static(view: View) -> Decision:
    """Fill a batch, then run it until its last sequence is done (FasterTransformer).

    It is filled until it decodes first: its prompts may need several steps.
    """
    return Decision(
        decode=True,
        prompt_tokens=view.config.max_num_batched_tokens,
        admit=0 if view.decoded else view.config.max_num_seqs - view.running,
        whole_prompts=True,
        apart=True,
        watermark=V0_WATERMARK,
    )


POLICIES: Final = MappingProxyType(
    {"chunked_prefill": chunked_prefill, "prefill_first": prefill_first, "static": static}
)
