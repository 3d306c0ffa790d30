"""Contestants that take turns: each in its own process, all in one run, so that ratios are of neighbours in time."""

from __future__ import annotations

import argparse
import contextlib
import importlib.metadata
import importlib.util
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import _report
import _rivals
import numpy as np
import torch
from _rivals import Environments, Worker
from torch.nn import functional

COMPILED = ", compiled"  # ends the names of ours where numba runs
CLOCKS = {"wall": "time", "cpu": "CPU time"}
BATCHES = 4  # different ones, read again and again


@dataclass(frozen=True)
class Size:
    """The job, alike for all contestants."""

    d_in: int
    d_sae: int
    k: int
    batch: int

    def __str__(self) -> str:
        return f"{self.d_sae:,} latents"

    @property
    def parameters(self) -> int:
        """Numbers in the two matrices and the two biases."""
        return 2 * self.d_in * self.d_sae + self.d_in + self.d_sae


TINY = Size(d_in=64, d_sae=512, k=8, batch=256)


@dataclass(frozen=True)
class Contestant:
    """Who takes part: a library, a function of the worker's script, what that one is given, and variables."""

    name: str
    library: str
    worker: str
    architecture: str = "TopK"
    options: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)


def both_ways(each: Contestant) -> list[Contestant]:
    """Ours in plain PyTorch, which is what everybody gets, and where numba is installed also compiled."""
    plain, compiled = ({"SAE_LAB_COMPILED": switch} for switch in "01")
    ways = [replace(each, environment=plain)]
    if importlib.util.find_spec("numba") is not None:
        ways.append(replace(each, name=f"{each.name}{COMPILED}", environment=compiled))
    return ways


@dataclass
class Found:
    """Answers of one contestant, a turn each; seconds are of one step."""

    facts: dict[str, Any]
    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    peak: float | None = None
    """MB that it held at most, above what it held before it built anything."""

    def add(self, answer: dict[str, Any], steps: int) -> None:
        """One more turn."""
        self.wall.append(answer["wall"] / steps)
        self.cpu.append(answer["cpu"] / steps)
        if answer["stepping"] is not None:
            self.peak = max(answer["building"], answer["stepping"])


def add_options(parser: argparse.ArgumentParser) -> None:
    """What every race takes."""
    parser.add_argument("--rounds", type=_report.count, default=9)
    parser.add_argument("--steps", type=_report.count, default=1, help="steps in a turn")
    parser.add_argument(
        "--by", choices=["wall", "cpu"], default="wall", help="which clock ratios are of; cpu if others work here"
    )
    parser.add_argument("--sizes", nargs="+", default=["6144", "24576"], help='numbers of latents, or "tiny"')
    _rivals.add_choice(parser)


def sizes(wanted: Sequence[str]) -> list[Size]:
    """What `--sizes` names."""
    return [TINY if name == "tiny" else Size(d_in=384, d_sae=int(name), k=32, batch=4096) for name in wanted]


def stream(size: Size) -> np.ndarray:
    """Sparse combinations of more directions than dimensions, with noise: rows that look a little like activations."""
    generator = torch.Generator().manual_seed(0)
    directions = functional.normalize(torch.randn(4 * size.d_in, size.d_in, generator=generator), dim=1)
    made = []
    for _ in range(BATCHES):
        present = torch.rand(size.batch, 4 * size.d_in, generator=generator) < 0.01
        x = (present * torch.rand(size.batch, 4 * size.d_in, generator=generator)) @ directions
        x += 0.02 * torch.randn(size.batch, size.d_in, generator=generator)
        x -= x.mean(dim=0)
        made.append(x * (size.d_in**0.5 / x.norm(dim=1).square().mean().sqrt()))
    return torch.stack(made).numpy()


def race(
    contestants: Sequence[Contestant],
    script: str,
    size: Size,
    environments: Environments,
    options: argparse.Namespace,
) -> dict[str, Found]:
    """What each found, by name. A contestant that fails ends the race: a table without it would hide that."""
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        rows = Path(folder) / "rows.npy"
        np.save(rows, stream(size))
        workers: list[Worker] = []
        threads = {name: str(options.threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
        for each in contestants:
            task = {**asdict(size), "rows": str(rows), "architecture": each.architecture, "options": each.options}
            python, environment = environments.python(each.library), {**threads, **each.environment}
            workers.append(Worker(python, script, each.worker, task, environment))
            stack.callback(workers[-1].close)
        found = [Found(worker.ready()) for worker in workers]
        for worker in workers:
            worker.turn(2)  # buffers, thread pools, Adam's memory
        for number in _told(options.rounds, str(size)):
            for place in range(len(workers)):
                turn = (place + number) % len(workers)  # nobody is always behind the same one
                found[turn].add(workers[turn].turn(options.steps), options.steps)
    return {each.name: what for each, what in zip(contestants, found, strict=True)}


def _told(rounds: int, title: str) -> Iterator[int]:
    for number in range(rounds):
        print(f"\r{title}: round {number + 1} of {rounds}", end="", file=sys.stderr, flush=True)
        yield number
    print(file=sys.stderr)


def versions(found: dict[str, Found], contestants: Sequence[Contestant]) -> str:
    """Libraries and their versions, each once."""
    told = {each.library: found[each.name].facts["version"] for each in contestants if each.worker != "product"}
    if any(each.environment.get("SAE_LAB_COMPILED") == "1" for each in contestants):
        told["numba"] = importlib.metadata.version("numba")
    told["torch"] = ", ".join({what.facts["torch"] for what in found.values()})
    return ", ".join(f"{name} {version}" for name, version in told.items())
