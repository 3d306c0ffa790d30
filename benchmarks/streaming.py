"""Training on a stream beside harvesting first, on the same texts: time, memory, disk, and how good the SAE is.

    python benchmarks/streaming.py --rows 40000 --site layers.9

Each way runs in processes of its own, in turn:

- "harvest, train": `sl.harvest` into a folder, then `sl.train` from it;
- "stream": `sl.train` on `sl.stream`, where the model runs in a thread while earlier rows are trained on.

Every row is trained on once, in both. The overlap is worth something where a stream takes less than harvest and
training take one after the other; on a CPU both want the same cores, and then there is nothing to hide behind. FVU is
that of rows of other texts. With `--stop`, a third run is stopped half-way, resumed by another process, and its SAE
compared with the stream's, bit for bit.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import _report
import torch

import sae_lab as sl

WAYS = ("harvest, train", "stream")
HELD_OUT = 4096  # rows of other texts


def share_of(texts: Any, model: sl.Model, rows: int, task: dict[str, Any]) -> tuple[list[Any], list[Any]]:
    """So many of the texts that they give about as many rows, and further ones for the held-out rows."""
    chosen: list[list[Any]] = [[], []]
    for part, wanted in zip(chosen, (rows, HELD_OUT), strict=True):
        for text in texts:
            part.append(text)
            tokens = len(model.tokenize([text])[0])
            wanted -= tokens - -(-tokens // task["context_length"])  # the first position of each window gives no row
            if wanted <= 0:
                break
    return chosen[0], chosen[1]


@contextlib.contextmanager
def clocked(found: dict[str, float], name: str) -> Iterator[None]:
    """Keep the seconds that a block takes, on the clock and of all processors."""
    wall, cpu = time.perf_counter(), time.process_time()
    yield
    found[name], found[f"{name} cpu"] = time.perf_counter() - wall, time.process_time() - cpu


def one_way(task: dict[str, Any]) -> dict[str, Any]:
    """Train in one way, and tell what it took."""
    import resource

    torch.set_num_threads(task["threads"])
    folder = Path(task["folder"])
    model = sl.load_model(task["model"])
    texts, others = share_of(iter(sl.load_corpus(task["corpus"], split="train")), model, task["rows"], task)
    settings = {name: task[name] for name in ("site", "context_length", "batch_tokens")} | {"progress": False}
    model.activations(model.tokenize(texts[:1]), [task["site"]])  # what is made once, is made
    sl.train(sl.TopK(d_sae=8, k=2), torch.randn(64, 8), steps=1, progress=False)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    options = {"batch_size": task["batch_size"], "epochs": 1, "progress": False}
    config = sl.TopK(d_sae=task["d_sae"], k=task["k"])
    found: dict[str, Any] = {}
    with clocked(found, "all"):
        if task["way"] == "harvest, train":
            with clocked(found, "harvest"):
                acts = sl.harvest(model, texts, path=folder / "rows", **settings)
            run = sl.train(config, acts, **options)
        else:
            stream = sl.stream(model, texts, buffer_rows=task["buffer_rows"], **settings)
            place = folder / "run"
            if task["way"] == "resume":
                run = sl.resume(place, stream, progress=False)
            elif task["way"] == "stop":
                run = sl.train(config, stream, **options, checkpoint=place, background=True)
                while run.status == "running" and run.step < run.steps_total // 2:
                    time.sleep(0.05)
                run.stop()
                run.wait()
            else:
                run = sl.train(config, stream, **options)
    found["MB"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    found["MB before"] = before / 1024
    found["disk"] = sum(path.stat().st_size for path in folder.rglob("rows/*")) / 1e6
    found["steps"], found["status"] = run.step, run.status
    found["training"] = float(run.history["seconds"].iloc[-1])
    weights = run.sae.state_dict()
    found["weights"] = hashlib.sha256(b"".join(weights[name].numpy().tobytes() for name in sorted(weights))).hexdigest()
    x = sl.harvest(model, others, max_tokens=HELD_OUT, **settings).tensor()
    found["fvu"] = float((x - run.sae(x)).square().sum() / (x - x.mean(dim=0)).square().sum())
    return found


def in_process(task: dict[str, Any], way: str) -> dict[str, Any]:
    """What a process of its own tells."""
    command = [sys.executable, __file__, "--task", json.dumps({**task, "way": way})]
    environment = {**os.environ, "OMP_NUM_THREADS": str(task["threads"])}
    found = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
    return json.loads(found.stdout.splitlines()[-1])


def report(pairs: list[dict[str, dict[str, Any]]], told: str) -> str:
    """The table, and what it says of the overlap."""
    first, stream = ([pair[way] for pair in pairs] for way in WAYS)
    rows = []
    for way, found in zip(WAYS, (first, stream), strict=True):
        middle = {name: statistics.median(one[name] for one in found) for name in ("all", "all cpu", "disk", "fvu")}
        rows.append(
            [
                way,
                f"{middle['all']:.1f}",
                f"{middle['all cpu']:.1f}",
                f"{max(one['MB'] for one in found):,.0f}",
                f"{max(one['MB'] - one['MB before'] for one in found):,.0f}",
                f"{middle['disk']:.0f}",
                f"{middle['fvu']:.4f}",
            ]
        )
    head = ["", "s", "CPU s", "peak MB", "of which above the loaded model", "MB on disk", "FVU, other texts"]
    ratio = _report.paired([one["all"] for one in stream], [one["all"] for one in first])
    harvest = statistics.median(one["harvest"] for one in first)
    whole = statistics.median(one["all"] for one in first)
    return "\n\n".join(
        [
            told,
            _report.table(head, rows),
            f"Time of a stream over that of harvest and training: {ratio}. Harvest takes {harvest:.1f} s of "
            f"{whole:.1f} s: a perfect overlap would end at {max(harvest, whole - harvest) / whole:.2f}, none at 1.",
        ]
    )


def main() -> None:
    """Run the ways and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    _report.add_options(parser)
    _report.add_source_options(parser)
    parser.add_argument("--rows", type=int, default=40_000, help="rows of the texts, about")
    parser.add_argument("--context-length", type=int, default=256)
    parser.add_argument("--batch-tokens", type=int, default=2048)
    parser.add_argument("--buffer-rows", type=int, default=16_384)
    parser.add_argument("--d-sae", type=int, default=4608)
    parser.add_argument("--k", type=int, default=32)
    parser.add_argument("--batch-size", type=int, default=1024)
    parser.add_argument("--repeats", type=_report.count, default=3)
    parser.add_argument("--stop", action="store_true", help="also stop a run half-way and resume it")
    parser.add_argument("--task", type=json.loads, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.task:
        print(json.dumps(one_way(args.task)))
        return
    _report.check_page("streaming", args.write)
    names = ("threads", "model", "corpus", "site", "rows", "context_length", "batch_tokens", "buffer_rows")
    task = {name: getattr(args, name) for name in (*names, "d_sae", "k", "batch_size")}
    pairs = []
    for repeat in range(args.repeats):
        pair = {}
        for way in WAYS[::-1] if repeat % 2 else WAYS:
            with tempfile.TemporaryDirectory() as folder:
                pair[way] = in_process({**task, "folder": folder}, way)
            print(way, {name: value for name, value in pair[way].items() if name != "weights"}, flush=True)
        pairs.append(pair)
    told = (
        f"About {args.rows:,} rows of {args.site} of the model {args.model!r}, each trained on once; {args.d_sae} "
        f"latents, k = {args.k}, batches of {args.batch_size}, a stream's buffer of {args.buffer_rows:,} rows; sae_lab "
        f"{sl.__version__}, torch {torch.__version__}; "
        f"{_report.machine(args.threads, torch.backends.cpu.get_cpu_capability())}"
    )
    text = report(pairs, told)
    if args.stop:
        with tempfile.TemporaryDirectory() as folder:
            half = in_process({**task, "folder": folder}, "stop")
            end = in_process({**task, "folder": folder}, "resume")
        same = "the same bits" if end["weights"] == pairs[0]["stream"]["weights"] else "OTHER weights"
        text += f"\n\nStopped after step {half['steps']} of {end['steps']} and resumed by another process: {same}."
    _report.publish("streaming", text, args.write)


if __name__ == "__main__":
    main()
