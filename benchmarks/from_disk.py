"""What training from a store on disk costs beside training on the same rows in memory.

    python benchmarks/from_disk.py --gb 20

A store of random float16 rows is written once. Then, in each repeat and each in a process of its own, in turn: rows in
memory, as many as are needed (the whole store would not fit beside the rest); and the store on disk, whose pages are
thrown out of the system's page cache before every buffer that is read: so each buffer comes from the disk, as in a
store far larger than memory. Both sides first only take batches ("read"), then train on them ("train"), from the
first batch of one buffer to the first of the next, or of a later one: in which time as many are read as are used.

What is true of a large store is how far the rows of a buffer lie apart. So a store of less than 20 GB is read with
buffers that are smaller in the same measure, and tells nearly the same in less time. Rates leave out the beginning of
a run; the last table shows it: `sl.train` from opening the store to the trained SAE, with checksums and statistics.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import _report
import numpy as np
import torch

import sae_lab as sl
from sae_lab.activations import _gather, _order
from sae_lab.activations._corpus import CorpusState
from sae_lab.activations._manifest import installed_versions, read_manifest, write_manifest
from sae_lab.activations._plan import Batch, TokenSequence
from sae_lab.activations._rows import provenance
from sae_lab.activations._writer import SHARD_ROWS, ShardWriter
from sae_lab.training._settings import plan
from sae_lab.training._state import TrainingState

LARGE = 20.0  # GB
DISTINCT = 16  # shards
SIDES = ("memory", "disk")


def make_store(folder: Path, gb: float, d_in: int) -> None:
    """Write random rows as harvest would; beyond the first shards, copies of those."""
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
    shards = max(1, round(gb * 1e9 / (2 * d_in * SHARD_ROWS)))
    for number in range(min(shards, DISTINCT)):
        sequence = TokenSequence([0] * SHARD_ROWS, 0)
        batch = Batch([sequence], number, number * SHARD_ROWS, SHARD_ROWS, corpus, 0)
        writer.add(some.roll(number, dims=1), provenance(batch, 0, frozenset()), 10.0, corpus)
    writer.finish(None, corpus)
    manifest = read_manifest(folder)
    for number in range(DISTINCT, shards):
        entry = manifest["shards"][number % DISTINCT]
        path = folder / f"activations-{number:05d}.safetensors"
        shutil.copyfile(folder / entry["file"], path)
        with path.open("rb") as file:
            os.fsync(file.fileno())  # what is not on the disk yet cannot be thrown out of memory
        manifest["shards"].append({**entry, "file": path.name})
        manifest["rows"] += entry["rows"]
        manifest["sequences"] += entry["sequences"]
    write_manifest(folder, manifest)


def evict(folder: Path) -> None:
    """Throw the store's pages out of the page cache, where the system can."""
    if not hasattr(os, "posix_fadvise"):
        raise SystemExit("this system has no posix_fadvise: what is read from the page cache is not from disk")
    for path in folder.glob("*.safetensors"):
        file = os.open(path, os.O_RDONLY)
        os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(file)


def keep_cold(folder: Path) -> None:
    """Let every buffer of this process come from the disk."""
    fetch = _gather.Gatherer.fetch

    def cold(self: _gather.Gatherer, *given: Any) -> torch.Tensor:
        evict(folder)
        return fetch(self, *given)

    _gather.Gatherer.fetch = cold  # type: ignore[method-assign]


def config_of(task: dict[str, Any]) -> sl.TopK:
    """What is trained."""
    return sl.TopK(d_sae=task["d_sae"], k=task["k"])


def rates(task: dict[str, Any], where: str) -> dict[str, float]:
    """Rows a second, and microseconds of processor time a row, of one side in this process."""
    folder, size = Path(task["folder"]), task["batch_size"]
    _gather.BUFFER_BYTES = task["buffer_bytes"]
    _gather.FIRST_BATCHES = sys.maxsize  # whole buffers from the beginning: what the rest of a long run is like
    acts = sl.Activations.open(folder, verify=False)
    rows, window = _gather.BUFFER_BYTES // (2 * acts.d_in), _order.window_rows(acts.d_in)
    in_buffer = max(1, (rows // window * window if rows > window else rows) // size)
    steps = max(1, round(task["steps"] / in_buffer)) * in_buffer  # from one buffer's first batch to another's
    first = sl.Activations.from_array(acts[: 2 * size])
    if where == "memory":
        acts = sl.Activations.from_array(acts.view(slice(0, (steps + 1) * size)).tensor(torch.float16))
    else:
        keep_cold(folder)
    lengths: dict[str, Any] = {"steps": steps, "tokens": None, "epochs": None}
    shape: dict[str, Any] = {"warmup": 0, "decay": 0, "schedule": "linear", "dead_window": None, "clip": 1.0}
    config = config_of(task)
    settings = plan(config, len(acts), **lengths, batch_size=size, lr=None, seed=0, **shape)
    state = TrainingState(config, settings, first, torch.device("cpu"))
    state.advance(first[:size])  # what is made once, is made
    found: dict[str, float] = {}
    for name, work in (("read", lambda x: None), ("train", state.advance)):
        batches = acts.batches(size, epochs=None)
        for _ in range(2 * in_buffer + 1):  # until memory of both buffers has been used once
            next(batches)
        wall, cpu = time.perf_counter(), time.process_time()
        for _ in range(steps):
            work(next(batches))
        found[name] = steps * size / (time.perf_counter() - wall)
        found[f"{name} cpu"] = (time.process_time() - cpu) / (steps * size) * 1e6
        batches.close()
    return found


def whole_run(task: dict[str, Any]) -> dict[str, float]:
    """`sl.train` on a cold store, from opening it to the trained SAE."""
    folder = Path(task["folder"])
    evict(folder)
    keep_cold(folder)
    began = time.perf_counter()
    acts = sl.Activations.open(folder)
    run = sl.train(config_of(task), acts, steps=task["steps"], batch_size=task["batch_size"], progress=False)
    seconds = float(run.history["seconds"].iloc[-1])
    return {"steps": seconds, "others": time.perf_counter() - began - seconds}


def side(task: dict[str, Any]) -> None:
    """Be one side, and tell its figures and its peak memory."""
    import resource

    torch.set_num_threads(task["threads"])
    where = task["side"]
    found = whole_run(task) if where == "whole" else rates(task, where)
    found["MB"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps(found))


def sides(task: dict[str, Any], repeats: int) -> Iterator[dict[str, dict[str, float]]]:
    """Pairs of figures; who begins, alternates."""
    for repeat in range(repeats):
        yield {where: in_process({**task, "side": where}) for where in (SIDES[::-1] if repeat % 2 else SIDES)}


def in_process(task: dict[str, Any]) -> dict[str, float]:
    """The figures of a process of its own."""
    command = [sys.executable, __file__, "--task", json.dumps(task)]
    environment = {**os.environ, "OMP_NUM_THREADS": str(task["threads"])}
    found = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
    return json.loads(found.stdout.splitlines()[-1])


def report(pairs: list[dict[str, dict[str, float]]], whole: dict[str, float] | None, told: str) -> str:
    """The tables."""
    rows = []
    for name, words in (("read", "taking batches"), ("train", "training")):
        memory, disk = ([pair[where][name] for pair in pairs] for where in SIDES)
        cpu = [statistics.median(pair[where][f"{name} cpu"] for pair in pairs) for where in SIDES]
        rows.append(
            [
                words,
                *(f"{statistics.median(side):,.0f}" for side in (memory, disk)),
                _report.paired(disk, memory),
                *(f"{used:.1f}" for used in cpu),
            ]
        )
    head = ["", "rows/s in memory", "rows/s from disk", "ratio", "CPU µs/row in memory", "CPU µs/row from disk"]
    peaks = [max(pair[where]["MB"] for pair in pairs) for where in SIDES]
    parts = [
        told,
        _report.table(head, rows),
        f"Peak memory of the process: {peaks[0]:,.0f} MB in memory, {peaks[1]:,.0f} MB from disk.",
    ]
    if whole is not None:
        parts.append(
            f"A whole run of `sl.train` on the cold store: {whole['steps']:.0f} s for the steps, "
            f"{whole['others']:.0f} s before and after (checksums and statistics of all rows), "
            f"{whole['MB']:,.0f} MB at most."
        )
    return "\n\n".join(parts)


def main() -> None:
    """Run both sides and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    _report.add_options(parser)
    parser.add_argument("--gb", type=float, default=2.0, help="size of the store, in units of 1e9 bytes")
    parser.add_argument("--d-in", type=int, default=768)
    parser.add_argument("--d-sae", type=int, default=6144)
    parser.add_argument("--k", type=int, default=32)
    parser.add_argument("--batch-size", type=int, default=4096)
    parser.add_argument("--steps", type=_report.count, default=80, help="steps of one side, but for full buffers")
    parser.add_argument(
        "--buffer-mb", type=float, help="size of a buffer; else the package's, and less for less than 20 GB"
    )
    parser.add_argument("--repeats", type=_report.count, default=3)
    parser.add_argument("--no-whole", action="store_true", help="leave the whole run out")
    parser.add_argument("--folder", type=Path, help="where the store is made, and kept; else a temporary folder")
    parser.add_argument("--task", type=json.loads, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.task:
        side(args.task)
        return
    _report.check_page("from disk", args.write)
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.folder or Path(temporary) / "store"
        seconds = 0.0
        if not folder.exists():
            folder.parent.mkdir(parents=True, exist_ok=True)
            if (free := shutil.disk_usage(folder.parent).free) < 1.1e9 * args.gb:
                raise SystemExit(f"{folder.parent} has {free / 1e9:.0f} GB free: name another --folder, or less --gb")
            began = time.perf_counter()
            make_store(folder, args.gb, args.d_in)
            seconds = time.perf_counter() - began
        size = sum(path.stat().st_size for path in folder.iterdir()) / 1e9
        buffer = args.buffer_mb * 2**20 if args.buffer_mb else _gather.BUFFER_BYTES * min(1.0, size / LARGE)
        task: dict[str, Any] = {
            **{name: getattr(args, name) for name in ("threads", "d_sae", "k", "batch_size", "steps")},
            "folder": str(folder),
            "buffer_bytes": int(buffer),
        }
        pairs = []
        for pair in sides(task, args.repeats):
            print(
                {where: {name: round(value, 1) for name, value in pair[where].items()} for where in SIDES}, flush=True
            )
            pairs.append(pair)
        whole = None if args.no_whole else in_process({**task, "side": "whole"})
        told = (
            f"Store of {size:.1f} GB{f', written in {seconds:.0f} s' if seconds else ''}; width {args.d_in}, "
            f"{args.d_sae} latents, k = {args.k}, batches of {args.batch_size}, buffers of {buffer / 2**20:.0f} MB; "
            f"sae_lab {sl.__version__}, torch {torch.__version__}; "
            f"{_report.machine(args.threads, torch.backends.cpu.get_cpu_capability())}"
        )
        _report.publish("from disk", report(pairs, whole, told), args.write)


if __name__ == "__main__":
    main()
