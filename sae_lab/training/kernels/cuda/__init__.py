"""The sparse step on a GPU, in Triton: one dense product, no wait for the device within a step.

The step is the one of `kernels.cpu`; what differs is what a GPU pays for. There a pass over the pre-activations costs
as much as a good part of the product that made them, gathers are cheap while they stay in the cache, every launch
costs microseconds, and reading one number back costs more than a launch. So:

    _select, _select_batch   the largest pre-activations in one reading, above a floor carried over from the last step
    _sparse                  decode, error and the gradient of values by rows; gradients of both matrices, with
                             their squared norms, by latents
    _adam                    projection, clipping, Adam, unit norms and bfloat16 copies in one pass
    _kernel                  the order of all this, on buffers made once
    _graph                   the step recorded as a CUDA graph and played back

Clipping needs the norm of the whole gradient before anything is updated, so gradients are written out once and read
once: 8 of some 34 bytes a parameter and step.

Nothing here is imported where there is no GPU or no Triton. On a CPU the files run in Triton's interpreter, which is
how tests hold them to the reference; that they compile for a GPU is tested too, without one.
No GPU was at hand when this was written: no speed is claimed, `benchmarks/gpu_step.py` measures it.
"""

from __future__ import annotations

import functools
import importlib.util
import warnings
from typing import TYPE_CHECKING

import torch

from sae_lab.saes import SAEConfig

if TYPE_CHECKING:
    from sae_lab.training._step import Kernel

SELECTIONS = ("row_topk", "batch_topk")
LARGEST_ROOM = 4096  # candidates that one program holds in registers while it chooses among them
OLDEST = (8, 0)  # compute capability; Triton supports none before, and they have no bfloat16


def usable(device: torch.device, config: SAEConfig) -> bool:
    """Whether steps of this architecture on this device can be computed here."""
    if device.type != "cuda" or config.selection not in SELECTIONS:
        return False
    if min(2 * (config.active or 1), config.d_sae) > LARGEST_ROOM:  # nearly dense: nothing to gain
        return False
    return importlib.util.find_spec("triton") is not None and works(device)


@functools.cache
def works(device: torch.device) -> bool:
    """Whether Triton's programs run on this device; where there is no GPU at all, whoever named one is told later."""
    if not torch.cuda.is_available():
        return True
    if torch.version.hip is not None or torch.cuda.get_device_capability(device) < OLDEST:
        return False
    from sae_lab.training.kernels.cuda import _probe

    try:
        _probe.probe(device)
    except Exception as error:  # a compiler is missing, a driver too old: many kinds, none of them a reason to stop
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        warnings.warn(
            f"Triton is installed and does not run on {device} ({reason}): training takes PyTorch's own operations, "
            f"which give the same results more slowly. Triton needs a C compiler and a driver as new as its CUDA",
            stacklevel=2,
        )
        return False
    return True


def kernel() -> type[Kernel]:
    """The kernel, which loads Triton."""
    from sae_lab.training.kernels.cuda._graph import GraphKernel

    return GraphKernel


__all__ = ["SELECTIONS", "kernel", "usable"]
