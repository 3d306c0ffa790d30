"""The sparse step on the CPU in loops that numba compiles: the optional extra `sae-lab[fast]`.

    _loops    the loops, in numba
    _kernel   the step of TopK and BatchTopK on them
    _int8     the same step, selecting from candidates that an 8-bit product picks; _candidates its loops
    _sums     gradients of the matrices from pairs, for every kernel on the CPU that lists pairs
    _update   projection, clipping, Adam and unit norms, for every kernel on the CPU

Selection is in `saes._scan`, since encoding uses it too. Nothing here is imported where numba is missing.
"""

from __future__ import annotations

from sae_lab.training.kernels.compiled._int8 import Int8Kernel
from sae_lab.training.kernels.compiled._int8 import usable as fast_int8
from sae_lab.training.kernels.compiled._kernel import CompiledKernel
from sae_lab.training.kernels.compiled._sums import Sums
from sae_lab.training.kernels.compiled._update import update

__all__ = ["CompiledKernel", "Int8Kernel", "Sums", "fast_int8", "update"]
