"""The causes that every instant of every SM is charged to (exactly one at a time)."""

from types import MappingProxyType
from typing import Final

CAUSES: Final = MappingProxyType(
    {
        "tensor": "tensor cores busy",
        "vector": "vector ALUs busy (norms, softmax, dequantisation)",
        "sfu": "special function units busy (exponentials)",
        "sync": "waiting for dependent instructions and barriers inside a CTA",
        "hbm_bandwidth": "waiting for data while the HBM channels are saturated",
        "hbm_latency": "waiting for data from HBM while its channels are idle: ramp, round trips, "
        "too few bytes in flight",
        "l2_bandwidth": "waiting for data while L2 or the SM's port to it is saturated",
        "l2_latency": "waiting for an L2 round trip while L2 is idle",
        "link": "bytes on their way to another GPU",
        "link_latency": "waiting for another GPU while no byte moves: signals, barriers, hops",
        "launch": "between kernels: launch gap and CTA start",
        "tail": "no CTA left for this SM: wave quantisation, imbalance, small grids",
        "host": "between steps: scheduling and sampling on the host",
    }
)

REQUEST_CAUSES: Final = MappingProxyType(
    {
        **CAUSES,
        "queue": "waiting to be admitted: batch full, no room for its KV, a step running",
        "prefill_wait": "admitted, but its prompt got no tokens in this step",
        "preempted": "thrown out of the KV cache, waiting to come back",
        "interference": "step time that other requests' tokens caused: prompts beside its decode, "
        "decodes and other prompts beside its prefill",
        "kv_transfer": "its KV on the way from the GPU that computed the prompt",
    }
)
