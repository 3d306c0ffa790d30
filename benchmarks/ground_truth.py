"""The leaderboard of all architectures on a truth of known features.

    python benchmarks/ground_truth.py                                  # the mini setting, about ten minutes on one core
    python benchmarks/ground_truth.py --write docs/ground_truth.md     # ... and put the table into the docs
    python benchmarks/ground_truth.py --truth reference --seeds 5      # 16,384 features: many hours on a CPU
    python benchmarks/ground_truth.py --arms TopK "VariationalTopK, learned" --steps 200

Prints the table as Markdown: means over seeds ± half of the 95 % interval, arms by falling MCC. Ctrl-C ends it and
prints what is complete.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import _report
import torch

import sae_lab as sl

NAME = "leaderboard"


def told(board: sl.synthetic.Leaderboard) -> str:
    """The table and what has to be known to read it."""
    plan = board.plan
    seeds = f"{len(plan['seeds'])} seeds" if len(plan["seeds"]) > 1 else "1 seed"
    lines = [
        board.markdown(),
        "",
        f"{board.truth}; {plan['d_sae']:,} latents, wanted L0 {plan['k']}, {plan['steps']:,} steps of "
        f"{plan['batch_size']:,} rows out of {plan['rows']:,}, scored on {plan['evaluation_rows']:,} fresh rows, "
        f"{seeds}. sae_lab {sl.__version__}, torch {torch.__version__}; {board.seconds / 60:.0f} minutes. "
        f"{_report.machine(torch.get_num_threads())}",
    ]
    if board.interrupted:
        lines += ["", "Interrupted: later seeds are missing."]
    for name, found in board.tuned.items():
        option = next(arm.searched for arm in sl.synthetic.arms() if arm.name == name)
        lines += ["", f"{name}: `{option}` = {found['value']:.4g}, by search (L0 {found['l0']:.2f})."]
    if board.left_out:
        lines += ["", "Left out: " + "; ".join(f"`{name}` ({why})" for name, why in board.left_out.items()) + "."]
    return "\n".join(lines)


def main() -> None:
    """Run, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--truth", default="mini", help="name of a preset")
    parser.add_argument("--arms", nargs="+", help="names of arms; by default all")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--d-sae", type=int)
    parser.add_argument("--k", type=int)
    _report.add_options(parser, threads=1)
    parser.add_argument("--save", type=Path, help="a folder for the leaderboard")
    options = parser.parse_args()
    _report.check_page(NAME, options.write)
    torch.set_num_threads(options.threads)
    size = {"steps": options.steps, "d_sae": options.d_sae, "k": options.k}
    board = sl.synthetic.benchmark(options.truth, arms=options.arms, seeds=options.seeds, **size)
    if options.save:
        board.save(options.save)
    _report.publish(NAME, told(board), options.write)


if __name__ == "__main__":
    main()
