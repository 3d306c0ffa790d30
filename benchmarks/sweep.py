"""What a sweep saves: several SAEs on one stream of rows, against the same runs one after the other.

    python benchmarks/sweep.py --runs 4

Two sources of rows: a store on disk, where reading costs little beside the steps, so that a sweep can save little; and
a stream whose model runs for every row, where all but one of the runs are nearly free of that. Both sides train the
same SAEs, compared bit for bit here too. Each side runs in a process of its own, in turn.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import _report
import from_disk
import torch

import sae_lab as sl

SOURCES = ("disk", "stream")
SIDES = ("sweep", "alone")


def hashed(sae: sl.SAE) -> str:
    """A name for the weights of an SAE."""
    weights = sae.state_dict()
    return hashlib.sha256(b"".join(weights[name].numpy().tobytes() for name in sorted(weights))).hexdigest()


def side(task: dict[str, Any]) -> dict[str, Any]:
    """Train all SAEs from one source, together or one after the other."""
    import resource

    torch.set_num_threads(task["threads"])
    if task["source"] == "disk":
        from_disk.evict(Path(task["folder"]))
        acts: Any = sl.Activations.open(task["folder"], verify=False)
        acts.mean  # noqa: B018  # read by every run, once a process: not what is measured here
    else:
        model = sl.load_model(task["model"])
        texts = sl.load_corpus(task["corpus"], split="train")
        settings = {"site": task["site"], "buffer_rows": task["buffer_rows"], "batch_tokens": 2048, "progress": False}
        acts = sl.stream(model, texts, **settings)
        acts.mean  # noqa: B018
    ks = [8 * (number + 1) for number in range(task["runs"])]
    configs = [sl.TopK(d_sae=task["d_sae"], k=k) for k in ks]
    options = {"steps": task["steps"], "batch_size": task["batch_size"], "progress": False}
    sl.train(sl.TopK(d_sae=8, k=2), torch.randn(64, 8), steps=1, progress=False)  # what is made once, is made
    wall, cpu = time.perf_counter(), time.process_time()
    if task["side"] == "sweep":
        saes = sl.train(configs, acts, **options).saes
    else:
        saes = [sl.train(config, acts, **options).sae for config in configs]
    return {
        "s": time.perf_counter() - wall,
        "cpu": time.process_time() - cpu,
        "MB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "saes": [hashed(sae) for sae in saes],
    }


def in_process(task: dict[str, Any]) -> dict[str, Any]:
    """What a process of its own tells."""
    command = [sys.executable, __file__, "--task", json.dumps(task)]
    environment = {**os.environ, "OMP_NUM_THREADS": str(task["threads"])}
    found = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
    return json.loads(found.stdout.splitlines()[-1])


def main() -> None:
    """Run both sides on each source and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    _report.add_options(parser)
    parser.add_argument("--runs", type=int, default=4)
    parser.add_argument("--gb", type=float, default=0.5, help="size of the store on disk")
    parser.add_argument("--d-in", type=int, default=384, help="width of its rows")
    parser.add_argument("--d-sae", type=int, default=2048)
    parser.add_argument("--batch-size", type=int, default=1024)
    parser.add_argument("--steps", type=_report.count, default=80, help="steps of each run from disk")
    parser.add_argument("--stream-steps", type=int, default=12, help="and from the stream")
    parser.add_argument("--buffer-rows", type=int, default=4096, help="of the stream")
    _report.add_source_options(parser)
    parser.add_argument("--repeats", type=_report.count, default=3)
    parser.add_argument("--sources", nargs="+", choices=SOURCES, default=SOURCES)
    parser.add_argument("--task", type=json.loads, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.task:
        print(json.dumps(side(args.task)))
        return
    _report.check_page("sweep", args.write)
    names = ("threads", "runs", "d_sae", "batch_size", "buffer_rows", "model", "corpus", "site")
    task = {name: getattr(args, name) for name in names}
    rows, same = [], []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "store"
        if "disk" in args.sources:
            from_disk.make_store(folder, args.gb, args.d_in)
        for source in args.sources:
            steps = args.steps if source == "disk" else args.stream_steps
            pairs = []
            for repeat in range(args.repeats):
                what = {**task, "source": source, "steps": steps, "folder": str(folder)}
                order = SIDES[::-1] if repeat % 2 else SIDES
                pairs.append({name: in_process({**what, "side": name}) for name in order})
                print(source, {name: {k: v for k, v in pairs[-1][name].items() if k != "saes"} for name in SIDES})
            together, alone = ([pair[name] for pair in pairs] for name in SIDES)
            same.append(all(pair["sweep"]["saes"] == pair["alone"]["saes"] for pair in pairs))
            rows.append(
                [
                    f"{source}, {steps} steps",
                    *(f"{statistics.median(one['s'] for one in found):.1f}" for found in (together, alone)),
                    _report.paired([one["s"] for one in alone], [one["s"] for one in together]),
                    *(f"{statistics.median(one['cpu'] for one in found):.1f}" for found in (together, alone)),
                    *(f"{max(one['MB'] for one in found):,.0f}" for found in (together, alone)),
                ]
            )
    head = [
        "rows from",
        "sweep, s",
        "alone, s",
        "alone / sweep",
        "sweep, CPU s",
        "alone, CPU s",
        "sweep, MB",
        "alone, MB",
    ]
    told = (
        f"{args.runs} SAEs, TopK of {args.d_sae} latents with different k, batches of {args.batch_size}; the store has "
        f"rows of width {args.d_in}, the stream those of {args.site} of the model {args.model!r}; sae_lab "
        f"{sl.__version__}, torch {torch.__version__}; "
        f"{_report.machine(args.threads, torch.backends.cpu.get_cpu_capability())}"
    )
    end = "Each SAE of a sweep has the same bits as the one trained alone." if all(same) else "SAES DIFFER."
    _report.publish("sweep", "\n\n".join([told, _report.table(head, rows), end]), args.write)


if __name__ == "__main__":
    main()
