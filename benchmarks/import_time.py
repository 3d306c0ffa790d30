"""How long `import` takes and how much memory: ours, the rivals', and torch's, which all of them need sooner or later.

    python benchmarks/import_time.py
    python benchmarks/import_time.py --write docs/performance.md          # ... and put the table into the docs
    python benchmarks/import_time.py --rounds 1 --only                    # seconds, ours alone: shows that it runs

Every import is a fresh interpreter, the rivals' in environments of their own (see `_rivals.py`), taking turns; the
first round only fills the caches of files and bytecode, and does not count. Time is from start to exit, the
interpreter's own (the first line) included; CPU time and the most memory held are what the system says of the finished
process. Our modules load on first use, so a third line tells what they and torch's optimisers add once training begins.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field

import _report
import _rivals
from _rivals import OURS, QUIET, RIVALS, Environments

NAME = "import_time"
TOY = "import torch, sae_lab as sl; sl.train(sl.TopK(d_sae=8, k=2), torch.randn(64, 8), steps=1, progress=False)"
IMPORTS = [
    ("nothing", OURS, "pass"),
    ("import torch", OURS, "import torch"),
    ("import sae_lab", OURS, "import sae_lab"),
    ("... and touch TopK and train", OURS, "import sae_lab as sl; sl.TopK, sl.train"),
    ("... and train for a step", OURS, TOY),
    ("import sae_lens", "sae-lens", "import sae_lens"),
    ("import sparsify", "eai-sparsify", "import sparsify"),
    ("import dictionary_learning", "dictionary-learning", "import dictionary_learning"),
]


@dataclass
class Found:
    """One entry a round."""

    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    peak: list[float] = field(default_factory=list)

    def columns(self) -> list[tuple[list[float], int]]:
        """What the table shows, and with how many digits."""
        return [(self.wall, 2), (self.cpu, 2), (self.peak, 0)]

    def add(self, python: str, line: str) -> None:
        """Run it once."""
        with tempfile.TemporaryFile("w+") as said:
            wall = time.perf_counter()
            process = subprocess.Popen([python, "-c", line], env={**os.environ, **QUIET}, stdout=said, stderr=said)
            _, status, used = os.wait4(process.pid, 0)
            self.wall.append(time.perf_counter() - wall)
            process.returncode = os.waitstatus_to_exitcode(status)
            if process.returncode:
                said.seek(0)
                raise SystemExit(f"{line!r} failed in {python}:\n{said.read()[-3000:]}")
        self.cpu.append(used.ru_utime + used.ru_stime)
        self.peak.append(used.ru_maxrss / (2**20 if sys.platform == "darwin" else 1024))


def main() -> None:
    """Run, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=_report.count, default=9)
    _rivals.add_choice(parser)
    for module in (_report, _rivals):
        module.add_options(parser)
    options = parser.parse_args()
    _report.check_page(NAME, options.write)
    os.environ["OMP_NUM_THREADS"] = str(options.threads)
    libraries = _rivals.taking_part(options.only)
    environments = Environments.of(options)
    pythons = {library: environments.python(library) for library in libraries}
    found = {each: Found() for each in IMPORTS if each[1] in libraries}
    for number in range(options.rounds + 1):
        for (name, library, line), what in found.items():
            if number == 1:
                found[name, library, line] = what = Found()
            what.add(pythons[library], line)
    rows = [
        [name, *(f"{statistics.median(column):,.{digits}f}" for column, digits in what.columns())]
        for (name, _, _), what in found.items()
    ]
    versions = [f"{name} {RIVALS[name]}" for name in libraries if name != OURS]
    versions = [f"{OURS} {importlib.metadata.version(OURS)}", *versions, f"torch {importlib.metadata.version('torch')}"]
    told = f"Medians of {options.rounds} rounds. {', '.join(versions)}. {_report.machine(options.threads)}"
    text = _report.table(["a fresh interpreter", "seconds", "CPU seconds", "memory (MB)"], rows)
    _report.publish(NAME, f"{text}\n\n{told}", options.write)


if __name__ == "__main__":
    main()
