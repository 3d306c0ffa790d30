"""Whether SAEs are as good when neighbouring rows share a window of the shuffle, as they do in a large store.

    python benchmarks/shuffling.py

A store that is larger than a window of its epoch's order (`activations/_order.py`) is shuffled in two steps, so that a
disk is asked for short runs of rows instead of single ones. Here both kinds of order train the same SAEs on the same
rows of real texts, from the same seeds: rows in simply random order; and windows and runs that are smaller than
the real ones by as much as this store and its batches are, so that a batch meets as many neighbours of its rows. FVU is
that of rows of other texts.
"""

from __future__ import annotations

import argparse
import statistics
from typing import Any

import _report
import torch
from streaming import share_of

import sae_lab as sl
from sae_lab.activations import _order

ORDERS = ("simply random", "runs in windows")


def set_order(name: str, args: argparse.Namespace, d_in: int) -> None:
    """Let the package use one of the orders for rows of this width."""
    row = 2 * d_in
    _order.RUN_BYTES = args.run * row if name == "runs in windows" else row
    _order.WINDOW_BYTES = args.window * row


def fvu_of(acts: sl.Activations, others: torch.Tensor, args: argparse.Namespace, seed: int) -> float:
    """FVU of an SAE trained from this seed, in the present order."""
    options: dict[str, Any] = {"batch_size": args.batch_size, "epochs": args.epochs, "seed": seed, "progress": False}
    sae = sl.train(sl.TopK(d_sae=args.d_sae, k=args.k), acts, **options).sae
    return float((others - sae(others)).square().sum() / (others - others.mean(dim=0)).square().sum())


def main() -> None:
    """Train in both orders and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    _report.add_options(parser)
    _report.add_source_options(parser)
    parser.add_argument("--rows", type=int, default=150_000, help="rows of the texts, about")
    parser.add_argument("--context-length", type=int, default=256)
    parser.add_argument("--batch-size", type=int, default=512)
    parser.add_argument("--window", type=int, default=16_384, help="rows of a window, a power of two")
    parser.add_argument("--run", type=int, default=28, help="rows of a run")
    parser.add_argument("--d-sae", type=int, default=4608)
    parser.add_argument("--k", type=int, default=32)
    parser.add_argument("--epochs", type=_report.count, default=2)
    parser.add_argument("--seeds", type=_report.count, default=5, help="two or more")
    args = parser.parse_args()
    if args.seeds < 2:
        parser.error("argument --seeds: orders are compared by how much seeds differ, so there must be at least 2")
    _report.check_page("shuffling", args.write)
    torch.set_num_threads(args.threads)
    model = sl.load_model(args.model)
    task = {"context_length": args.context_length}
    texts, others = share_of(iter(sl.load_corpus(args.corpus, split="train")), model, args.rows, task)
    settings: dict[str, Any] = {"site": args.site, "context_length": args.context_length}
    acts = sl.harvest(model, texts, **settings)
    held_out = sl.harvest(model, others, **settings).tensor()
    found: dict[str, list[float]] = {name: [] for name in ORDERS}
    for seed in range(args.seeds):
        for name in ORDERS[::-1] if seed % 2 else ORDERS:
            set_order(name, args, acts.d_in)
            found[name].append(fvu_of(acts, held_out, args, seed))
        print(seed, {name: round(values[-1], 5) for name, values in found.items()}, flush=True)
    apart = [runs - plain for plain, runs in zip(found[ORDERS[0]], found[ORDERS[1]], strict=True)]
    rows = [
        [name, *(f"{tell(values):.4f}" for tell in (statistics.mean, statistics.stdev))]
        for name, values in found.items()
    ]
    told = (
        f"{len(acts):,} rows of {args.site} of the model {args.model!r}, {args.epochs} epochs; {args.d_sae} latents, "
        f"k = {args.k}, batches of {args.batch_size}, windows of {args.window:,} rows, runs of {args.run}; "
        f"{args.seeds} seeds; sae_lab {sl.__version__}, torch {torch.__version__}; "
        f"{_report.machine(args.threads, torch.backends.cpu.get_cpu_capability())}"
    )
    table = _report.table(["order of rows", "FVU, other texts", "standard deviation over seeds"], rows)
    difference = (
        f"Difference of a pair, same seed: {statistics.mean(apart):+.5f}, "
        f"standard error {statistics.stdev(apart) / len(apart) ** 0.5:.5f}."
    )
    _report.publish("shuffling", "\n\n".join([told, table, difference]), args.write)


if __name__ == "__main__":
    main()
