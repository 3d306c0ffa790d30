"""How long a training step takes and how much memory it needs: ours, its rivals', and the encoder's product alone.

    python benchmarks/training_step.py                                    # 2 threads, 6144 and 24,576 latents: minutes
    python benchmarks/training_step.py --write docs/performance.md        # ... and put the tables into the docs
    python benchmarks/training_step.py --rounds 1 --sizes tiny            # seconds: shows that it runs

The job: d_in 384, batches of 4096 rows, k 32, float32, Adam. Every contestant is the trainer that its users call, in a
process of its own with its own environment (made on the first run, see `_rivals.py`), and is given the same rows, which
wait in memory; see `_trainers.py`. All take turns, step by step. A step is all that a trainer does from one batch to
the next one, its loop included. Nothing is logged and no latent gets to be dead. "encoder product" is `torch.mm` of the
rows and the encoder into an output that is there already: exact selection cannot do with less.

What a library has that is faster than its defaults, and computes the same, gets a row of its own: SAELens with sparse
activations, which on a CPU needs its rescaling by decoder norms switched off. sparsify has but one way on a CPU,
dictionary_learning too.

Ratios are medians of the ratios of neighbouring turns, with quartiles. Memory is the most that a process holds in RAM
from the first line of building the trainer on, above what it held before (libraries loaded, rows read), without the
parameters and Adam's two moments: gradients, codes, buffers, copies. ReLU is as dense as training starts, for both.
"""

from __future__ import annotations

import argparse
import statistics

import _race
import _report
import _rivals
from _race import COMPILED, Contestant, Found, Size, both_ways
from _report import paired
from _rivals import OURS, Environments

NAME = "training_step"
PRODUCT = "encoder product alone"
SPARSE = {"use_sparse_activations": True, "rescale_acts_by_decoder_norm": False}
CONTESTANTS = [
    Contestant(PRODUCT, OURS, "product"),
    *both_ways([Contestant("sae_lab TopK", OURS, "ours"), Contestant("sae_lab BatchTopK", OURS, "ours", "BatchTopK")]),
    Contestant("sae_lab ReLU + L1", OURS, "ours", "ReLU"),
    Contestant("SAELens TopK", "sae-lens", "saelens"),
    Contestant("SAELens TopK, sparse", "sae-lens", "saelens", options=SPARSE),
    Contestant("SAELens standard (ReLU + L1)", "sae-lens", "saelens", "ReLU"),
    Contestant("sparsify TopK", "eai-sparsify", "sparsify"),
    Contestant("dictionary_learning TopK", "dictionary-learning", "dictionary_learning"),
]


def claims() -> list[tuple[str, str, str]]:
    """What is said, whose time is divided, and by whose."""
    said = []
    rivals = [each.name for each in CONTESTANTS if each.library != OURS and "TopK" in each.name]
    for way in ("", COMPILED):
        who, ours = f"TopK{' (compiled)' if way else ''}", f"sae_lab TopK{way}"
        said += [(f"rows/s of {who} against {rival.replace(' TopK', '')}", rival, ours) for rival in rivals]
        said.append((f"share of the encoder product, {who}", PRODUCT, ours))
        said.append((f"time of Batch{who} against {who}", f"sae_lab BatchTopK{way}", ours))
    return [*said, ("rows/s of ReLU + L1 against SAELens", "SAELens standard (ReLU + L1)", "sae_lab ReLU + L1")]


def steps_table(size: Size, found: dict[str, Found]) -> str:
    """One line a contestant."""
    head = ["a step", "ms", "CPU ms", "rows/s", "of the product", "memory (MB)"]
    limit, rows = statistics.median(found[PRODUCT].wall), []
    for name, what in found.items():
        wall, cpu = statistics.median(what.wall), statistics.median(what.cpu)
        memory = "" if what.peak is None or name == PRODUCT else f"{extra(what.peak, size):,.0f}"
        rows.append([name, f"{1e3 * wall:,.1f}", f"{1e3 * cpu:,.1f}", f"{size.batch / wall:,.0f}"])
        rows[-1] += [f"{limit / wall:.0%}", memory]
    return _report.table(head, rows)


def extra(peak: float, size: Size) -> float:
    """Without parameters and two moments, of four bytes each."""
    return peak - 3 * 4 * size.parameters / 2**20


def claims_table(found: dict[Size, dict[str, Found]]) -> str:
    """One line a claim; two columns a size."""
    rows = []
    for told, over, under in claims():
        cells = [
            paired(getattr(of[over], clock), getattr(of[under], clock))
            for of in found.values()
            if over in of and under in of
            for clock in ("wall", "cpu")
        ]
        rows += [[told, *cells]] if cells else []
    return _report.table(["ratio", *(f"{size}{what}" for size in found for what in ("", ", by CPU time"))], rows)


def report(found: dict[Size, dict[str, Found]], contestants: list[Contestant], options: argparse.Namespace) -> str:
    """All tables, and how they came about."""
    size, last = list(found.items())[-1]
    parts = [claims_table(found)]
    for size, of in found.items():
        parts += [f"{size}:", steps_table(size, of)]
    job = f"TopK with k {size.k}, d_in {size.d_in}, batches of {size.batch:,}, float32, Adam; {options.rounds} rounds. "
    machine = _report.machine(options.threads, last[PRODUCT].facts["capability"])
    return "\n\n".join([*parts, f"{job}{_race.versions(last, contestants)}. {machine}"])


def main() -> None:
    """Run, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for module in (_race, _report, _rivals):
        module.add_options(parser)
    options = parser.parse_args()
    _report.check_page(NAME, options.write)
    contestants = [each for each in CONTESTANTS if each.library in _race.libraries(options.only)]
    found = {
        size: _race.race(contestants, "_trainers.py", size, Environments.of(options), options)
        for size in _race.sizes(options.sizes)
    }
    _report.publish(NAME, report(found, contestants, options), options.write)


if __name__ == "__main__":
    main()
