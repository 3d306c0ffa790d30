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

import importlib.util
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from sae_lab.training._step import Kernel

SELECTIONS = ("row_topk", "batch_topk")
LARGEST_ROOM = 4096  # candidates that one program holds in registers while it chooses among them


def usable(device: torch.device) -> bool:
    """Whether steps on this device can be computed here; loads nothing."""
    return device.type == "cuda" and importlib.util.find_spec("triton") is not None


def kernel() -> type[Kernel]:
    """The kernel, which loads Triton."""
    from sae_lab.training.kernels.cuda._graph import GraphKernel

    return GraphKernel


__all__ = ["SELECTIONS", "kernel", "usable"]
