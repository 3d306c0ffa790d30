"""What training from a store on disk costs beside training on the same rows in memory.

A store of random float16 rows is written once. Then, in each repeat and each in a process of its own: the rows
that are needed in memory, and the whole store on disk, whose pages are thrown out of the system's page cache before
every buffer that is read. So each buffer comes from the disk, as in a store that is far larger than memory. Both sides
first only take batches ("read"), then take them for training steps ("train"). Opening, checksums and statistics are
not timed. The medians of the pairs' ratios are the figure; peak memory is that of the whole process.

    python benchmarks/from_disk.py --gb 2 --repeats 3
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

import sae_lab as sl
from sae_lab.activations import _gather
from sae_lab.activations._corpus import CorpusState
from sae_lab.activations._manifest import installed_versions
from sae_lab.activations._plan import Batch, TokenSequence
from sae_lab.activations._rows import provenance
from sae_lab.activations._writer import SHARD_ROWS, ShardWriter
from sae_lab.training._settings import plan
from sae_lab.training._state import TrainingState


def make_store(folder: Path, gb: float, d_in: int) -> None:
    """Write random rows as harvest would."""
    settings = {"skip_first": 0, "dtype": "float16"}
    corpus = CorpusState(1, "", True)
    header = {"model": "random", "site": "none", "d_in": d_in, "settings": settings, "corpus_name": None}
    writer = ShardWriter(
        folder,
        {**header, "corpus": corpus._asdict(), "versions": installed_versions()},
        lambda ids: [str(token) for token in ids],
    )
    rng = np.random.default_rng(0)
    some = torch.from_numpy(rng.standard_normal((SHARD_ROWS, d_in), dtype=np.float32)).half()
    for number in range(max(1, round(gb * 2**30 / (2 * d_in * SHARD_ROWS)))):
        sequence = TokenSequence([0] * SHARD_ROWS, 0)
        batch = Batch([sequence], number, number * SHARD_ROWS, SHARD_ROWS, corpus, 0)
        writer.add(some.roll(number, dims=1), provenance(batch, 0, frozenset()), 10.0, corpus)
    writer.finish(None, corpus)


def evict(folder: Path) -> None:
    """Throw the store's pages out of the page cache, where the system can."""
    if not hasattr(os, "posix_fadvise"):
        raise SystemExit("this system has no posix_fadvise: what is read from the page cache is not from disk")
    for path in folder.glob("*.safetensors"):
        file = os.open(path, os.O_RDONLY)
        os.fsync(file)
        os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(file)


def side(folder: Path, where: str, d_sae: int, k: int, batch_size: int, steps: int) -> dict[str, float]:
    """Rows a second of one side, in this process."""
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    acts = sl.Activations.open(folder, verify=False)
    first = sl.Activations.from_array(acts[: 2 * batch_size])
    if where == "memory":
        acts = sl.Activations.from_array(acts.view(slice(0, steps * batch_size)).tensor(torch.float16))
    else:
        fetch = _gather.Gatherer.fetch

        def cold(self: _gather.Gatherer, rows: np.ndarray, out: torch.Tensor) -> torch.Tensor:
            evict(folder)
            return fetch(self, rows, out)

        _gather.Gatherer.fetch = cold  # type: ignore[method-assign]
    config = sl.TopK(d_sae=d_sae, k=k)
    shape = {"warmup": 0, "decay": 0, "schedule": "linear", "dead_window": None, "clip": 1.0}
    settings = plan(
        config, len(acts), steps=steps, tokens=None, epochs=None, batch_size=batch_size, lr=None, seed=0, **shape
    )
    state = TrainingState(config, settings, first, torch.device("cpu"))
    found = {}
    for name, work in (("read", lambda x: None), ("train", state.advance)):
        batches = acts.batches(batch_size, epochs=None)
        next(batches)  # in a long run, the wait for the first buffer is nothing
        began = time.perf_counter()
        for _ in range(steps):
            work(next(batches))
        found[name] = steps * batch_size / (time.perf_counter() - began)
        batches.close()
    found["MB"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return found


def main() -> None:
    """Run both sides and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gb", type=float, default=2.0, help="size of the store")
    parser.add_argument("--d-in", type=int, default=768)
    parser.add_argument("--d-sae", type=int, default=6144)
    parser.add_argument("--k", type=int, default=32)
    parser.add_argument("--batch-size", type=int, default=4096)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--buffer-mb", type=int, default=256, help="size of a buffer of rows; the package has 256")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="where the store is made, and kept; else a temporary folder")
    parser.add_argument("--side", choices=["disk", "memory"], help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.side:
        _gather.BUFFER_BYTES = args.buffer_mb * 2**20
        print(json.dumps(side(args.folder, args.side, args.d_sae, args.k, args.batch_size, args.steps)))
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.folder or Path(temporary) / "store"
        if not folder.exists():
            make_store(folder, args.gb, args.d_in)
        size = sum(path.stat().st_size for path in folder.iterdir()) / 2**30
        told = ("d-sae", "k", "batch-size", "steps", "buffer-mb")
        options = [f"--{name}={getattr(args, name.replace('-', '_'))}" for name in told]
        print(
            f"store of {size:.1f} GiB, width {args.d_in}, {args.d_sae} latents, batches of {args.batch_size}, "
            f"{args.steps} steps, buffers of {args.buffer_mb} MB; torch {torch.__version__}, {platform.machine()}, "
            f"{os.cpu_count()} cores"
        )
        pairs = []
        for _ in range(args.repeats):
            pair = {}
            for where in ("memory", "disk"):
                command = [sys.executable, __file__, "--side", where, "--folder", str(folder), *options]
                pair[where] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            pairs.append(pair)
        for what in ("read", "train"):
            rates = [statistics.median(pair[where][what] for pair in pairs) for where in ("memory", "disk")]
            ratio = statistics.median(pair["disk"][what] / pair["memory"][what] for pair in pairs)
            print(f"{what:6} rows/s: memory {rates[0]:>10,.0f}   disk {rates[1]:>10,.0f}   paired ratio {ratio:.2f}")
        peaks = [max(pair[where]["MB"] for pair in pairs) for where in ("memory", "disk")]
        print(f"peak MB      : memory {peaks[0]:>10,.0f}   disk {peaks[1]:>10,.0f}")


if __name__ == "__main__":
    main()
