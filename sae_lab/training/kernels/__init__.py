"""The kernels that compute a training step, and the choice among them."""

from __future__ import annotations

import torch

from sae_lab import _compiled
from sae_lab._errors import BadInput
from sae_lab.saes import SAEConfig
from sae_lab.training._step import Kernel
from sae_lab.training.kernels import cuda
from sae_lab.training.kernels.cpu import SparseKernel
from sae_lab.training.kernels.feature_choice import FeatureChoiceKernel
from sae_lab.training.kernels.gradient import GradientKernel
from sae_lab.training.kernels.group_bias import GroupBiasKernel
from sae_lab.training.kernels.nested import NestedKernel
from sae_lab.training.kernels.pointwise import PointwiseKernel
from sae_lab.training.kernels.reference import ReferenceKernel
from sae_lab.training.kernels.relu import ReLUKernel
from sae_lab.training.kernels.variational import PenalisedKernel

KERNELS: tuple[type[Kernel], ...] = (
    SparseKernel,
    PenalisedKernel,
    PointwiseKernel,
    ReLUKernel,
    GroupBiasKernel,
    NestedKernel,
    FeatureChoiceKernel,
    GradientKernel,
)
COMPILED = ("row_topk", "batch_topk")  # selection rules that have a compiled step


def choose(config: SAEConfig, device: torch.device, encoder: str = "float32") -> type[Kernel]:
    """The fastest kernel that knows this architecture's selection rule on this device.

    Raises
    ------
    BadInput
        There is no such encoder here.
    """
    if encoder != "float32":
        return _int8(config, device)
    if cuda.usable(device, config):
        return cuda.kernel()
    if device.type == "cpu" and config.selection in COMPILED and _compiled.usable():
        from sae_lab.training.kernels.compiled import CompiledKernel

        return CompiledKernel
    for kernel in KERNELS:
        if config.selection in kernel.selections:
            return kernel
    return ReferenceKernel


def _int8(config: SAEConfig, device: torch.device) -> type[Kernel]:
    """The kernel with an 8-bit encoder, or what it lacks."""
    problem = None
    if config.selection not in COMPILED:
        problem = f"it serves TopK and BatchTopK, not {type(config).__name__}"
    elif device.type != "cpu":
        problem = f"it is for the CPU, not for {device.type}"
    elif not _compiled.usable():
        problem = 'it needs numba: pip install "sae-lab[fast]"'
    else:
        from sae_lab.training.kernels import compiled

        if compiled.fast_int8():
            return compiled.Int8Kernel
        problem = "this CPU or this torch has no fast 8-bit product"
    raise BadInput(f"encoder='int8' cannot be used here: {problem}. Without it, float32 is used")


__all__ = [
    "FeatureChoiceKernel",
    "GradientKernel",
    "GroupBiasKernel",
    "NestedKernel",
    "PenalisedKernel",
    "PointwiseKernel",
    "ReLUKernel",
    "ReferenceKernel",
    "SparseKernel",
    "choose",
]
