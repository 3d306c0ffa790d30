"""Steps of the CUDA kernel in Triton's interpreter, beside the reference: run by test_step_cuda.py, prints JSON.

A process of its own, since Triton decides on its first import whether it interprets.
"""

from __future__ import annotations

import os

os.environ["TRITON_INTERPRET"] = "1"

import json
import sys
import warnings
from unittest import mock

import torch
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode
from triton import language as tl
from triton.runtime import interpreter

import sae_lab as sl
from sae_lab.training._step import Batch, Optimiser, Statistics, Weights
from sae_lab.training.kernels import ReferenceKernel
from sae_lab.training.kernels.cuda import _probe
from sae_lab.training.kernels.cuda._graph import GraphKernel
from sae_lab.training.kernels.cuda._kernel import CudaKernel
from sae_lab.training.kernels.cuda._selection import Active, BatchTopK, RowTopK

ROWS, D_IN, D_SAE, K = 6, 6, 10, 2
DEAD = torch.arange(3, 9)
FIGURES = ("loss", "fvu", "l0", "cut")


class PatchedOnce:
    """The interpreter patches Triton's modules at every call, which takes most of its time; here they stay patched."""

    def __init__(self):
        self.patch, self.done = interpreter._patch_lang, set()

    def __call__(self, fn):
        kinds = frozenset(id(value) for value in fn.__globals__.values() if value is tl or value is tl.core)
        if kinds not in self.done:
            self.patch(fn)
            self.done.add(kinds)
        return self

    def restore(self):
        """Leave it as it is."""


interpreter._patch_lang = PatchedOnce()


def weights(config, d_out: int, shift: float) -> Weights:
    generator = torch.Generator().manual_seed(0)
    W_dec = functional.normalize(torch.randn(D_SAE, d_out, generator=generator), dim=1)
    W_enc = functional.normalize(torch.randn(D_SAE, D_IN, generator=generator), dim=1)
    b_enc = 0.1 * torch.randn(D_SAE, generator=generator) + shift
    b_enc[0] += 3 * (shift == 0)  # active on every row: its sums are made elsewhere
    made = Weights(W_enc, W_dec, b_enc, 0.1 * torch.randn(d_out, generator=generator))
    made.extra = config.extra_parameters(made)
    return made


def steps(kernel, config, *, d_out=D_IN, shift=0.0, sizes=(ROWS,) * 3, dead=None, clip=1e9):
    start = weights(config, d_out, shift)
    made = kernel(config, start, ROWS, Optimiser(clip=clip))
    generator, seen = torch.Generator().manual_seed(1), []
    for size in sizes:
        x = torch.randn(size, D_IN, generator=generator)
        y = x if config.center else torch.randn(size, d_out, generator=generator)
        seen.append(made.step(Batch(x, y), lr=1e-3, dead=dead))
    return made, seen


class Tiled(CudaKernel):
    """With tiles that are smaller than what they are laid over, and latents of several pairs that are not cut."""

    decode_tile = sum_tile = 2, 4
    share = 2


def compared(config, kernel=CudaKernel, **options) -> dict:
    """Largest differences from the reference, and how far that moved."""
    ours, seen = steps(kernel, config, **options)
    theirs, expected = steps(ReferenceKernel, config, **options)
    first = dict(weights(config, options.get("d_out", D_IN), options.get("shift", 0.0)).items())
    found = {"parameters": {}, "moved": {}, "figures": 0.0, "l0": float(seen[-1].l0)}
    found["aux"] = float(seen[-1].loss - seen[-1].fvu)
    for (name, a), (_, b) in zip(ours.weights.items(), theirs.weights.items(), strict=True):
        found["parameters"][name] = float((a - b).abs().max())
        found["moved"][name] = float((b - first[name]).abs().max())
    for a, b in zip(seen, expected, strict=True):
        assert torch.equal(a.firings, b.firings)
        for name in FIGURES:
            found["figures"] = max(found["figures"], float((getattr(a, name) - getattr(b, name)).abs().nan_to_num()))
            assert bool(getattr(a, name).isnan()) == bool(getattr(b, name).isnan())
    found["hot"] = int((seen[-1].firings > ours.busy).sum())
    found["norms"] = float((ours.weights.W_dec.norm(dim=1) - 1).abs().max())
    return found


def dense(active: Active, rows: int, n: int) -> torch.Tensor:
    made = torch.zeros(rows, n)
    used = active.latents < n
    assert int(used.sum()) == int((active.ends - active.starts).sum())
    for row in range(rows):
        part = slice(int(active.starts[row]), int(active.ends[row]))
        assert bool((active.rows[part] == row).all())
        made[row, active.latents[part].long()] = active.values[part]
    return made


def selected() -> dict:
    """Selections from floors that fit and floors that do not."""
    rows, n, generator = 3, 70, torch.Generator().manual_seed(2)
    found = {}
    for places, config in ((RowTopK, sl.TopK), (BatchTopK, sl.BatchTopK)):
        made, config = places(rows, K, n, torch.device("cpu")), config(d_sae=n, k=K)
        made.block = 16  # several a row, the last one not full
        assert made.room < n / 2
        for floor, shift in ((0.0, 0.0), (1.2, 0.0), (0.3, 0.0), (1e3, 0.0), (1.0, -2.0), (1.0, -1e3)):
            pre, bias = torch.randn(rows, n, generator=generator) + shift, 0.1 * torch.randn(n, generator=generator)
            made.floor.fill_(floor)
            active = made.select(pre + bias)
            again = int(made.again.max()) if places is RowTopK else 1 - int(found_at_once(made))
            error = float((dense(active, rows, n) - config.select(pre + bias)).abs().max())
            found[f"{places.__name__} {floor} {shift}"] = {"error": error, "again": again}
        pre = torch.ones(rows, n)
        pre[:, 7], pre[1] = 2.0, -1.0
        made.floor.fill_(0.5)
        active = made.select(pre)
        tied = dense(active, rows, n)
        columns = tied[0].nonzero().squeeze(1).tolist()
        found[f"{places.__name__} ties"] = {"columns": columns, "l0": tied.gt(0).sum(1).tolist()}
    return found


def found_at_once(places: BatchTopK) -> bool:
    """Whether no row was read a second time."""
    return bool(places.state[2]) and int(places.found.max()) <= places.room


def resumed() -> float:
    """A kernel that was given another's weights and moments, after one more step of both."""
    config = sl.TopK(d_sae=D_SAE, k=K)
    first, _ = steps(CudaKernel, config, sizes=(ROWS,))
    fresh = weights(config, D_IN, 0.0)
    second = CudaKernel(config, fresh, ROWS, Optimiser(clip=1e9))
    assert second.moments() == {}
    for (_, a), (_, b) in zip(fresh.items(), first.weights.items(), strict=True):
        a.copy_(b)
    second.set_moments({name: tensor.clone() for name, tensor in first.moments().items()})
    x = torch.randn(ROWS, D_IN, generator=torch.Generator().manual_seed(5))
    second.places.floor.zero_()
    for kernel in (first, second):
        kernel.step(x, lr=1e-3)
    return float((first.weights.W_enc - fresh.W_enc).abs().max())


def low_precision() -> dict:
    """With bfloat16 products: how far the copy of the encoder is from its master, and the losses."""
    torch.set_float32_matmul_precision("medium")
    config = sl.TopK(d_sae=D_SAE, k=K)
    made, seen = steps(CudaKernel, config, sizes=(ROWS,) * 2)
    _, expected = steps(ReferenceKernel, config, sizes=(ROWS,) * 2)
    torch.set_float32_matmul_precision("highest")
    away = made._low_W_enc.float() / made.weights.W_enc - 1
    losses = [[float(one.loss) for one in each] for each in (seen, expected)]
    found = {"away": float(away.abs().max()), "kind": str(made._pre.dtype), "losses": losses}
    found["copied_again"] = made._copied != made._versions()
    made.weights.W_dec[1] *= 2  # as resampling does
    made.prepare(0.0)
    found["followed"] = bool(torch.equal(made._low_W_dec, made.weights.W_dec.bfloat16()))
    return found


class Played(GraphKernel):
    """Recorded, with a recording that a CPU can play: it takes the step on the buffers that were recorded."""

    warm_up = 1
    most = 2

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.records = True
        self.events: list[str] = []

    def advance(self, batch, dead):
        self.events.append("step")
        return super().advance(batch, dead)

    def _capture(self, held):
        self.events.append("record")
        made, empty = Again(), torch.empty(())
        seen = Statistics(empty, empty.clone(), empty.clone(), torch.empty(D_SAE, dtype=torch.int64), empty.clone())

        def replay():
            for name, value in vars(CudaKernel.advance(self, held.batch, held.dead)).items():
                if value is not None:
                    getattr(seen, name).copy_(value)
            self.events.append("play")

        made.replay = replay
        return made, seen


class Again:
    """What stands for a recording."""


class Unrecorded(Played):
    """Whose recording fails."""

    def _capture(self, held):
        self.events.append("record")
        raise RuntimeError("operation not permitted when stream is capturing\nmore")


def recorded() -> dict:
    """A recorded run beside one that is not, with dead latents that come and change, and a third shape."""
    found, counted, config = {}, [], sl.TopK(d_sae=D_SAE, k=K)
    runs = [(None, ROWS)] * 2 + [(DEAD, ROWS), (DEAD[1:], ROWS), (DEAD[3:], ROWS), (None, 2)]
    for kernel in (CudaKernel, Played):
        start = weights(config, D_IN, 0.0)
        made = kernel(config, start, ROWS, Optimiser())
        generator, losses, firings, changes = torch.Generator().manual_seed(6), [], [], []
        for dead, rows in runs:
            before = {name: tensor._version for name, tensor in (start.everything() | made.moments()).items()}
            seen = made.step(torch.randn(rows, D_IN, generator=generator), lr=1e-3, dead=dead)
            losses.append(seen.loss)  # read at the end: no later step may have changed it
            firings.append(seen.firings)
            after = start.everything() | made.moments()
            changes.append(all(tensor._version > before.get(name, -1) for name, tensor in after.items()))
        counted.append(all(changes))
        found[kernel.__name__] = {"losses": torch.stack(losses).tolist(), "firings": torch.stack(firings).tolist()}
        found[kernel.__name__]["W_enc"] = start.W_enc.tolist()
    return found | {"events": made.events, "unrecorded": unrecorded(), "counted": counted}


def unrecorded() -> dict:
    """A run whose recording fails."""
    config = sl.TopK(d_sae=D_SAE, k=K)
    made = Unrecorded(config, weights(config, D_IN, 0.0), ROWS, Optimiser())
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        for _ in range(2):
            made.step(torch.ones(ROWS, D_IN), lr=1e-3)
    return {"events": made.events, "told": [str(one.message) for one in told], "steps": int(made._done)}


class Asked(TorchDispatchMode):
    """Names of the operations that are dispatched."""

    def __init__(self):
        super().__init__()
        self.names: set[str] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.add(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


def operations() -> list[str]:
    """What PyTorch is asked for within steps."""
    names = Asked()
    for config in (sl.TopK(d_sae=D_SAE, k=K), sl.BatchTopK(d_sae=D_SAE, k=K)):
        made, _ = steps(CudaKernel, config, sizes=())
        x, dead = torch.randn(ROWS, D_IN), made.padded(DEAD)
        with names:
            made.advance(Batch(x, x), dead)
    return sorted(names.names)


def probed() -> bool:
    """Whether the probe lets a device pass whose launches compute what they should, and no other."""
    _probe.probe(torch.device("cpu"))
    try:
        with mock.patch.object(_probe._adam, "set_clip", {(1,): lambda *arguments, block: None}):
            _probe.probe(torch.device("cpu"))
    except RuntimeError:
        return True
    return False


def main() -> dict:
    torch.set_num_threads(1)
    topk, batch = sl.TopK(d_sae=D_SAE, k=K), sl.BatchTopK(d_sae=D_SAE, k=K)
    many = sl.TopK(d_sae=D_SAE, k=K, aux_k=4)
    cases = {
        "topk": compared(topk),
        "topk, many dead, clipped": compared(many, Tiled, dead=DEAD, clip=0.01),
        "batch_topk": compared(batch, sizes=(ROWS,) * 2),
        "batch_topk, few dead, clipped, a smaller batch": compared(
            batch, dead=DEAD[:2], clip=0.01, sizes=(ROWS, 4, ROWS)
        ),
        "transcoder": compared(sl.Transcoder(d_sae=D_SAE, k=K, skip=True), Tiled, d_out=4, dead=DEAD),
        "topk, nothing active": compared(topk, shift=-1e3, sizes=(ROWS,)),
        "batch_topk, nothing active": compared(batch, shift=-1e3, sizes=(ROWS,)),
    }
    return {
        "cases": cases,
        "selected": selected(),
        "resumed": resumed(),
        "recorded": recorded(),
        "low": low_precision(),
        "operations": operations(),
        "probed": probed(),
    }


if __name__ == "__main__":
    json.dump(main(), sys.stdout)
