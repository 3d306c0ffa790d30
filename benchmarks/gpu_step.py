"""How fast a training step is on a GPU: against a dense step, against sparsify, and against the encoder's product.

    python benchmarks/gpu_step.py [--rounds 9] [--steps 20] [--environments DIR] [--pip OPTIONS] [--rehearse]

Prints first whether the step on this GPU gives what dense autograd gives, and the same bits twice (`_gpu_checks.py`),
and times nothing where it does not.

Two contestants at a time are on the GPU and take turns, `steps` steps each, so ratios are paired; the first is always
our TopK step in bfloat16 with float32 masters. "dense step" is written as one would write it first: dense codes,
dense decoder, `backward()` under bfloat16 autocast, fused Adam, projection, clipping, unit norms. sparsify runs in an
environment of its own, made on the first run (`_rivals.py`).

No GPU was at hand when this was written, so no table of it is published: who has one is asked to run it.
`--rehearse` runs the script itself on a CPU, at a toy size and without Triton; its figures mean nothing.
"""

from __future__ import annotations

import argparse
import gc
import importlib.metadata
import importlib.util
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import _gpu_checks
import _report
import _rivals
import torch
from _gpu_checks import initial
from torch import Tensor
from torch.nn import functional

import sae_lab as sl
from sae_lab.saes import SAEConfig
from sae_lab.training import kernels
from sae_lab.training._step import Optimiser

SIZES = [(4096, 768, 24576, 32), (8192, 1024, 65536, 64), (16384, 2304, 65536, 64)]
TOY = [(64, 16, 128, 4)]
SPARSIFY = "eai-sparsify"
HERE = Path(__file__).parent
Turn = Callable[[int], float]  # takes so many steps, gives their seconds


def timed(step: Callable[[], object], device: torch.device) -> Turn:
    """Turns of a step that runs in this process."""

    def turn(steps: int) -> float:
        wait(device)
        begin = time.perf_counter()
        for _ in range(steps):
            step()
        wait(device)
        return time.perf_counter() - begin

    return turn


def wait(device: torch.device) -> None:
    """Until the device has done what it was asked for."""
    if device.type == "cuda":
        torch.cuda.synchronize()


def ours(config: SAEConfig, rows: Tensor, precision: str) -> Turn:
    """Our step; `precision` is PyTorch's for float32 products."""
    torch.set_float32_matmul_precision(precision)
    kernel = kernels.choose(config, rows.device)(
        config, initial(rows.shape[1], config.d_sae, rows.device), len(rows), Optimiser()
    )

    def step() -> None:
        torch.set_float32_matmul_precision(precision)
        kernel.step(rows, lr=1e-4)

    return timed(step, rows.device)


def dense(d_sae: int, k: int, rows: Tensor) -> Turn:
    """The step as one would write it first."""
    w = initial(rows.shape[1], d_sae, rows.device)
    parameters = [tensor.requires_grad_() for _, tensor in w.items()]
    adam = torch.optim.Adam(parameters, lr=1e-4, fused=True)

    def step() -> None:
        with torch.autocast(rows.device.type, torch.bfloat16):
            pre = functional.linear(rows - w.b_dec, w.W_enc, w.b_enc)
            values, latents = pre.topk(k, dim=1)
            z = torch.zeros_like(pre).scatter(1, latents, values.relu())
            error = z @ w.W_dec + w.b_dec - rows
        error.float().square().mean().backward()
        with torch.no_grad():
            w.W_dec.grad -= torch.linalg.vecdot(w.W_dec.grad, w.W_dec)[:, None] * w.W_dec
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            adam.step()
            adam.zero_grad()
            w.W_dec.copy_(functional.normalize(w.W_dec, dim=1))

    return timed(step, rows.device)


def product(d_sae: int, rows: Tensor) -> Turn:
    """The encoder's product alone, in bfloat16."""
    x = rows.to(torch.bfloat16)
    W_enc = initial(rows.shape[1], d_sae, rows.device).W_enc.to(torch.bfloat16)
    out = x.new_empty(len(x), d_sae)
    return timed(lambda: torch.mm(x, W_enc.T, out=out), rows.device)


class Sparsify:
    """Turns of sparsify's step, in a process of its own."""

    def __init__(self, python: str, device: torch.device, size: tuple[int, int, int, int]):
        command = [python, str(HERE / "_sparsify_steps.py"), device.type, *map(str, size)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.versions = self._line()

    def __call__(self, steps: int) -> float:
        """Seconds of so many steps."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{steps}\n")
        self.process.stdin.flush()
        return float(self._line())

    def close(self) -> None:
        """End the process, so that its memory is free."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()

    def _line(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline().strip()
        if not line:
            raise RuntimeError("sparsify's process ended; see above (too little memory on the GPU?)")
        return line


def duel(name: str, first: Turn, second: Turn, rounds: int, steps: int) -> str:
    """Let both take turns; one line of the table."""
    for turn in (first, second):
        turn(6)  # compiles, warms up, records
    pairs = [(first(steps) / steps, second(steps) / steps) for _ in range(rounds)]
    mine, theirs = (1000 * statistics.median(column) for column in zip(*pairs, strict=True))
    ratios = sorted(other / own for own, other in pairs)
    middle = statistics.median(ratios)
    return f"{name:28}{mine:10.3f}{theirs:12.3f}{middle:9.2f}x   ({ratios[0]:.2f} to {ratios[-1]:.2f})"


def report(size: tuple[int, int, int, int], device: torch.device, python: str, rounds: int, steps: int) -> None:
    """Measure one size and print its table."""
    batch, d_in, d_sae, k = size
    rows = torch.randn(batch, d_in, generator=torch.Generator(device).manual_seed(0), device=device)
    topk, batch_topk = sl.TopK(d_sae=d_sae, k=k), sl.BatchTopK(d_sae=d_sae, k=k)
    rival: list[Sparsify] = []

    def sparsify() -> Turn:
        rival.append(Sparsify(python, device, size))
        return rival[-1]

    opponents: dict[str, Callable[[], Turn]] = {
        "dense step": lambda: dense(d_sae, k, rows),
        "sparsify": sparsify,
        "encoder product alone": lambda: product(d_sae, rows),
        "ours, BatchTopK": lambda: ours(batch_topk, rows, "medium"),
        "ours, TF32": lambda: ours(topk, rows, "high"),
        "ours, float32": lambda: ours(topk, rows, "highest"),
    }
    print(f"\nbatch {batch}, d {d_in}, {d_sae} latents, k {k}")
    print(f"{'against':28}{'ours (ms)':>10}{'theirs (ms)':>12}{'ratio':>10}   (of {rounds} pairs)")
    for name, make in opponents.items():
        try:
            print(duel(name, ours(topk, rows, "medium"), make(), rounds, steps), flush=True)
        except (torch.OutOfMemoryError, RuntimeError) as error:
            print(f"{name:28}{'-':>10}   {str(error).splitlines()[0]}", flush=True)
        while rival:
            print(f"  ({rival[-1].versions})")
            rival.pop().close()
        gc.collect()
        if device.type == "cuda":
            torch.cuda.empty_cache()


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=_report.count, default=9)
    parser.add_argument("--steps", type=_report.count, default=20)
    _rivals.add_options(parser)
    parser.add_argument("--rehearse", action="store_true", help="on a CPU, at a toy size: measures nothing")
    options = parser.parse_args()
    if not torch.cuda.is_available() and not options.rehearse:
        sys.exit("gpu_step.py measures on a CUDA GPU, and PyTorch sees none here: run it on a machine that has one")
    device = torch.device("cpu" if options.rehearse else "cuda")
    sizes = TOY if options.rehearse else SIZES
    if device.type == "cuda" and not kernels.cuda.usable(device, sl.TopK(d_sae=sizes[0][2], k=sizes[0][3])):
        sys.exit("our step would be the plain one: Triton is missing (pip install 'sae-lab[cuda]'), or see the warning")
    where = torch.cuda.get_device_name() if device.type == "cuda" else "a rehearsal on a CPU"
    triton = importlib.metadata.version("triton") if importlib.util.find_spec("triton") else "none"
    versions = f"torch {torch.__version__}, triton {triton}, sparsify {_rivals.RIVALS[SPARSIFY]}"
    print(f"{where}, {platform.machine()}; {versions}\n", flush=True)
    try:
        for line in _gpu_checks.check(device, sizes[0] if options.rehearse else _gpu_checks.SMALL, sizes[0]):
            print(line, flush=True)
    except _gpu_checks.Wrong as error:
        sys.exit(f"the step is wrong on this device, so nothing is timed: {error}")
    python = _rivals.Environments.of(options).python(SPARSIFY)
    for size in sizes:
        report(size, device, python, options.rounds, options.steps)


if __name__ == "__main__":
    main()
