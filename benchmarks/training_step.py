"""How fast a training step is, against a plain autograd step and against the encoder's product alone.

    python benchmarks/training_step.py [--threads 2] [--rounds 7]

All contestants live in one process and take turns, so that whatever else the machine does hits them alike.
A step is everything between a batch and the new weights: forward, gradients, projection, clipping, Adam, unit
norms. "plain autograd" is the same step written as one would write it first: dense codes, dense decoder,
`backward()`, fused Adam. "encoder product" is the one dense product that exact selection cannot do without:
the share of it that a step reaches is the share of the physical limit. The aux term does not fire here.
"""

from __future__ import annotations

import argparse
import platform
import resource
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

import sae_lab as sl
from sae_lab.saes import SAEConfig
from sae_lab.training import kernels
from sae_lab.training._step import Optimiser, Weights
from sae_lab.training.kernels import ReferenceKernel

BATCH, K = 4096, 32
SIZES = [(384, 6144), (576, 4608)]


def stream(d_in: int, batches: int = 4) -> list[Tensor]:
    """Sparse combinations of more directions than dimensions, with noise: rows that look a little like activations."""
    generator = torch.Generator().manual_seed(0)
    directions = functional.normalize(torch.randn(4 * d_in, d_in, generator=generator), dim=1)
    made = []
    for _ in range(batches):
        present = torch.rand(BATCH, 4 * d_in, generator=generator) < 0.01
        x = (present * torch.rand(BATCH, 4 * d_in, generator=generator)) @ directions
        x += 0.02 * torch.randn(BATCH, d_in, generator=generator)
        x -= x.mean(dim=0)
        made.append(x * (d_in**0.5 / x.norm(dim=1).square().mean().sqrt()))
    return made


def initial(d_in: int, d_sae: int) -> Weights:
    """Tied weights of unit norm, as training starts."""
    W_dec = functional.normalize(torch.randn(d_sae, d_in, generator=torch.Generator().manual_seed(1)), dim=1)
    return Weights(W_enc=0.5 * W_dec, W_dec=W_dec, b_enc=torch.zeros(d_sae), b_dec=torch.zeros(d_in))


def contestants(d_in: int, d_sae: int) -> dict[str, Callable[[Tensor], object]]:
    """Name and one step of each."""

    def ours(config: SAEConfig, kernel: type[kernels.Kernel] | None = None) -> Callable[[Tensor], object]:
        kernel = kernel or kernels.choose(config, torch.device("cpu"))
        made = kernel(config, initial(d_in, d_sae), BATCH, Optimiser())
        return lambda x: made.step(x, lr=1e-4)

    W_enc, out = initial(d_in, d_sae).W_enc, torch.empty(BATCH, d_sae)
    return {
        "encoder product": lambda x: torch.mm(x, W_enc.T, out=out),
        "TopK": ours(sl.TopK(d_sae=d_sae, k=K)),
        "BatchTopK": ours(sl.BatchTopK(d_sae=d_sae, k=K)),
        "ReLU": ours(sl.ReLU(d_sae=d_sae)),
        "plain autograd TopK": ours(sl.TopK(d_sae=d_sae, k=K), ReferenceKernel),
    }


def measure(d_in: int, d_sae: int, rounds: int) -> dict[str, list[tuple[float, float]]]:
    """(wall, processor) seconds of one step of each contestant, in each round."""
    batches, racers = stream(d_in), contestants(d_in, d_sae)
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in racers}
    for step in racers.values():  # warm up: buffers, thread pools, Adam's memory
        for x in batches[:2]:
            step(x)
    for turn in range(rounds):
        for name, step in racers.items():
            x = batches[turn % len(batches)]
            wall, processor = time.perf_counter(), time.process_time()
            step(x)
            seconds[name].append((time.perf_counter() - wall, time.process_time() - processor))
    return seconds


def report(d_in: int, d_sae: int, rounds: int) -> None:
    """Measure one size and print its table."""
    seconds = measure(d_in, d_sae, rounds)
    threads = torch.get_num_threads()
    print(f"\nd_in {d_in}, {d_sae} latents, k {K}, batch {BATCH}")
    print(f"{'':22}{'ms (best)':>10}{'CPU ms (median)':>17}{'rows/s':>10}{'of encoder':>12}{'x autograd':>12}")
    # processor time, spread over the threads: what free cores would give, also when they are not free
    cost = {name: statistics.median(cpu for _, cpu in times) for name, times in seconds.items()}
    limit, plain = cost["encoder product"], cost["plain autograd TopK"]
    for name, times in seconds.items():
        wall = min(wall for wall, _ in times)
        rate = BATCH * threads / cost[name]
        print(
            f"{name:22}{1000 * wall:10.0f}{1000 * cost[name]:17.0f}{rate:10.0f}"
            f"{limit / cost[name]:12.0%}{plain / cost[name]:11.1f}x"
        )


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(
        f"torch {torch.__version__}, {platform.machine()}, {torch.get_num_threads()} threads, {options.rounds} rounds"
    )
    for d_in, d_sae in SIZES:
        report(d_in, d_sae, options.rounds)
    print(f"\npeak memory of all together: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024} MB")


if __name__ == "__main__":
    main()
