"""The `[l2]` table of a hardware spec: one cache, or two partitions that SMs see near and far."""

from typing import Annotated

from pydantic import Field

from sim.checking import Bandwidth, Checker, Cited, Duration, Size, Table


class L2Table(Table):
    """`[l2]`; the keys of partitions stand together or not at all."""

    capacity: Cited[Size]
    bandwidth: Cited[Bandwidth]
    latency: Cited[Duration]
    partitions: Cited[Annotated[int, Field(ge=2, le=2)]] | None = None
    near_latency: Cited[Duration] | None = None
    far_latency: Cited[Duration] | None = None
    far_bandwidth: Cited[Bandwidth] | None = None

    def partition_numbers(self) -> dict[str, int]:
        """Return the numbers of partitions by the names that `ChipSpec` gives them."""
        if not (self.partitions and self.near_latency and self.far_latency and self.far_bandwidth):
            return {}
        return {
            "l2_partitions": self.partitions.value,
            "l2_near_latency_ps": self.near_latency.value,
            "l2_far_latency_ps": self.far_latency.value,
            "l2_far_bytes_per_s": self.far_bandwidth.value,
        }


def check_partitions(checker: Checker, l2: L2Table | None) -> None:
    """Note keys of partitions without the others, and a mean that is not between near and far."""
    if l2 is None:
        return
    near, far = l2.near_latency, l2.far_latency
    keys = ("partitions", "near_latency", "far_latency", "far_bandwidth")
    missing = [key for key in keys if getattr(l2, key) is None]
    if missing and len(missing) < len(keys):
        given = next(key for key in keys if key not in missing)
        checker.wrong(("l2", given), f"stands without {missing[0]}", expected=", ".join(keys))
    if near and far and not near.value <= l2.latency.value <= far.value:
        checker.wrong(
            ("l2", "latency", "value"),
            "is not between the latencies of the two partitions",
            expected="l2.near_latency to l2.far_latency",
        )
