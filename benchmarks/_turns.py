"""What every worker shares: rows that come only when it is its turn, clocks, and its peak memory.

A trainer asks for one batch after another and does a step between. `Turns` holds back the batch until the parent has
written a number of steps to standard input, hands out so many, and answers with one line of JSON when the trainer asks
for the one after: so all that the trainer does for a step is timed, its loop included, and nothing else.

The answer: `wall` and `cpu`, the seconds of the turn on the clock and of all threads of the process; `building` and
`stepping`, the MB that the process held at most, above what it held before the trainer was built, until the first
batch was asked for and since then (of Linux alone; elsewhere None). Read by every interpreter that has torch and NumPy.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

Task = dict[str, Any]
answers = sys.stdout


class Turns:
    """Batches for a trainer, a turn of steps at a time.

    Parameters
    ----------
    task
        `rows`, a .npy file of shape (batches, rows, d_in) that is read again and again, shared by all workers.
    facts
        What the parent is told first, such as versions.
    """

    def __init__(self, task: Task, facts: dict[str, Any]):
        self.rows = torch.from_numpy(np.load(task["rows"], mmap_mode="c"))  # who writes to a batch writes to a copy
        self.batches = self.rows.unbind()
        self.facts = {**facts, "torch": torch.__version__, "capability": torch.backends.cpu.get_cpu_capability()}
        warm = torch.randn(512, 512)
        for batch in (warm, *self.batches):
            float((batch.T @ batch).sum())  # pages and the thread pool are there before memory is looked at
        self.start_memory()

    def start_memory(self) -> None:
        """From now on memory counts, above what is held now."""
        self.base = resident("VmRSS")
        forget_peak()

    def __iter__(self) -> Iterator[Tensor]:
        """Batches without end."""
        building, step = self._above(), 0
        forget_peak()
        tell(self.facts)
        for line in sys.stdin:
            wall, cpu = time.perf_counter(), time.process_time()
            for _ in range(int(line)):
                yield self.batches[step % len(self.batches)]
                step += 1
            times = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
            tell({**times, "building": building, "stepping": self._above()})
        raise SystemExit  # the parent is gone

    def repeat(self, step: Callable[[Tensor], object]) -> None:
        """Be a trainer whose step is this call."""
        for batch in self:
            step(batch)

    def _above(self) -> float | None:
        peak = resident("VmHWM")
        return None if peak is None or self.base is None else peak - self.base


def tell(facts: dict[str, Any]) -> None:
    """One answer."""
    print(json.dumps(facts), file=answers, flush=True)


def resident(entry: str) -> float | None:
    """MB of this process in memory: "VmRSS" now, "VmHWM" at most."""
    status = Path("/proc/self/status")
    if not status.exists():
        return None
    return next(int(line.split()[1]) / 1024 for line in status.read_text().splitlines() if line.startswith(entry))


def forget_peak() -> None:
    """Let the peak start again from what is held now."""
    if Path("/proc/self/clear_refs").exists():
        Path("/proc/self/clear_refs").write_text("5")


def run(contestants: dict[str, Callable[[Task], None]]) -> None:
    """Be the contestant that the command line names, with the task that it gives; see `_rivals.Worker`."""
    sys.stdout = sys.stderr  # what a library prints is no answer
    contestants[sys.argv[1]](json.loads(sys.argv[2]))
