"""The sparse step on the CPU in loops that numba compiles: the optional extra `sae-lab[fast]`.

    _loops    the loops, in numba
    _kernel   the step of TopK and BatchTopK on them
    _update   projection, clipping, Adam and unit norms, for every kernel on the CPU

Selection is in `saes._scan`, since encoding uses it too. Nothing here is imported where numba is missing.
"""

from __future__ import annotations

from sae_lab.training.kernels.compiled._kernel import CompiledKernel
from sae_lab.training.kernels.compiled._update import update

__all__ = ["CompiledKernel", "update"]
