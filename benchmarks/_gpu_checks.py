"""Whether the step on this GPU computes what it should: looked at before anything is timed.

A GPU does what Triton's interpreter, in which the step is tested, does not: it rounds otherwise, runs programs at the
same time, and plays recordings. Selections may differ where two pre-activations differ by less than rounding, and
Adam makes every difference as large as its step; so what is asked is that few parameters differ at all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

import sae_lab as sl
from sae_lab.saes import SAEConfig
from sae_lab.training import kernels
from sae_lab.training._step import Kernel, Optimiser, Weights
from sae_lab.training.kernels import ReferenceKernel

Size = tuple[int, int, int, int]
SMALL = (512, 200, 2048, 16)  # no block divides 200
STEPS = 8  # more than are taken before a step is recorded
LR = 1e-3
FEW = 2e-3  # share of parameters that may differ
AWAY = 0.02  # of the loss in bfloat16 from the one in float32, relative


class Wrong(Exception):
    """A check failed."""


def initial(d_in: int, d_sae: int, device: torch.device) -> Weights:
    """Tied weights of unit norm, as training starts."""
    generator = torch.Generator(device).manual_seed(1)
    W_dec = functional.normalize(torch.randn(d_sae, d_in, generator=generator, device=device), dim=1)
    biases = torch.zeros(d_sae, device=device), torch.zeros(d_in, device=device)
    return Weights(W_enc=0.5 * W_dec, W_dec=W_dec, b_enc=biases[0], b_dec=biases[1])


def trained(
    kind: Callable[..., Kernel], config: SAEConfig, size: Size, device: torch.device, precision: str, *, odd: bool
) -> tuple[Kernel, float]:
    """A kernel after some steps, and its last loss; `odd` has batches of two sizes and dead latents at times."""
    rows, d_in, d_sae, _ = size
    torch.set_float32_matmul_precision(precision)
    kernel = kind(config, initial(d_in, d_sae, device), rows, Optimiser())
    generator = torch.Generator(device).manual_seed(2)
    loss = torch.zeros(())
    for step in range(2 * STEPS if odd else STEPS):
        x = torch.randn(rows, d_in, generator=generator, device=device)
        few = torch.arange(step, step + d_sae // 8, device=device) if odd and step % 2 else None
        loss = kernel.step(x[: rows // 3] if odd and step % 4 == 0 else x, lr=LR, dead=few).loss
    return kernel, float(loss)


def differing(a: Weights, b: Weights) -> float:
    """The share of parameters that differ by more than rounding explains."""
    pairs = [(first, second) for (_, first), (_, second) in zip(a.items(), b.items(), strict=True)]
    return sum(int(((x - y).abs() > 1e-5).sum()) for x, y in pairs) / sum(x.numel() for x, _ in pairs)


def against_autograd(config: SAEConfig, size: Size, device: torch.device) -> str:
    """In float32, with dead latents and small batches: the parameters of dense autograd."""
    ours, loss = trained(kernels.choose(config, device), config, size, device, "highest", odd=True)
    theirs, expected = trained(ReferenceKernel, config, size, device, "highest", odd=True)
    share = differing(ours.weights, theirs.weights)
    if not (share < FEW and abs(loss / expected - 1) < 1e-3):
        raise Wrong(f"{share:.2%} of parameters differ from dense autograd's, the loss is {loss} instead of {expected}")
    return f"{share:.3%} of parameters differ from dense autograd's; loss {loss:.6f} and {expected:.6f}"


def same_bits(config: SAEConfig, size: Size, device: torch.device) -> str:
    """In bfloat16, twice: the same bits, and about the loss of float32."""
    kind = kernels.choose(config, device)
    (first, loss), (second, _) = (trained(kind, config, size, device, "medium", odd=False) for _ in range(2))
    each = zip(first.weights.items(), second.weights.items(), strict=True)
    changed = [name for (name, a), (_, b) in each if not torch.equal(a, b)]
    if changed:
        raise Wrong(f"{', '.join(changed)} came out otherwise when the same steps were taken again")
    del second
    recorded = how_taken(first)
    del first
    _, expected = trained(kind, config, size, device, "highest", odd=False)
    if not abs(loss / expected - 1) < AWAY:
        raise Wrong(f"the loss in bfloat16 is {loss}, in float32 {expected}")
    return f"the same bits twice; loss {loss:.4f}, in float32 {expected:.4f}; {recorded}"


def how_taken(kernel: Any) -> str:
    """Whether steps were recorded, and how many rows were read a second time by the last one."""
    if not hasattr(kernel, "records"):
        return "not our GPU step"
    played = any(held.graph is not None for held in kernel._held.values())
    again = getattr(kernel.places, "again", None)
    rows = "" if not isinstance(again, Tensor) else f", {float((again > 0).float().mean()):.1%} of rows read again"
    return f"{'played from a recording' if played else 'NOT RECORDED, launch by launch'}{rows}"


def check(device: torch.device, small: Size, large: Size) -> Iterator[str]:
    """Lines that say what was found; raises `Wrong`."""
    try:
        for made in (sl.TopK, sl.BatchTopK):
            yield f"{made.__name__}, {small}: {against_autograd(made(d_sae=small[2], k=small[3]), small, device)}"
        for made in (sl.TopK, sl.BatchTopK):
            yield f"{made.__name__}, {large}: {same_bits(made(d_sae=large[2], k=large[3]), large, device)}"
    finally:
        torch.set_float32_matmul_precision("highest")
