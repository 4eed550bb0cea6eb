"""What a kernel profiled inside a model finds in L2: what the kernels before it left there."""

from dataclasses import dataclass, replace
from typing import Final

from sim.hardware.spec import ChipSpec
from sim.kernel.operators import Tensor

# A tile of 128 by 128 values of 16 bits, the usual one of cuBLAS.
_GEMM_TILE_BYTES: Final = 128 * 128 * 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A tensor that a model's kernel wrote just before the profiled one, and is dirty in L2.

    A GEMM leaves its last wave, a tile an SM: weights that came after have displaced the rest.
    Another pass leaves all, if nothing went through L2 since a byte was written but `flow` times
    the tensor and that fits; else as much of its end as is not displaced, which is found too late.
    Of a `lost` one that end, up to half of L2, is all there is.
    """

    tensor: Tensor
    flow: int | None = None
    lost: bool = False

    def state(self, spec: ChipSpec) -> tuple[Tensor, int, int]:
        """Return what is there: the tensor (nameless if not to be found), bytes, dirty ones."""
        size = self.tensor.size_bytes
        if self.lost:
            size = min(size, spec.l2_bytes // 2)
            return replace(self.tensor, name=""), size, size
        if self.flow is None:
            size = min(size, spec.sm_count * _GEMM_TILE_BYTES)
        elif self.flow * size > spec.l2_bytes:
            size = spec.l2_bytes // self.flow
            return replace(self.tensor, name=""), size, size
        return self.tensor, size, size
