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

Of ours there are up to three: plain PyTorch, which everybody gets; the extra with compiled loops, where numba is
installed; and with it the 8-bit encoder that users may ask for, where the processor is up to it.

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
import torch
from _race import COMPILED, Contestant, Found, Size, both_ways
from _report import paired
from _rivals import OURS, Environments

import sae_lab as sl
from sae_lab._errors import BadInput
from sae_lab.training import kernels

NAME = "training_step"
PRODUCT = "encoder product alone"
INT8 = ", int8"  # ends the name of ours with the 8-bit encoder
SPARSE = {"use_sparse_activations": True, "rescale_acts_by_decoder_norm": False}
RIVALS = {
    "SAELens": Contestant("SAELens TopK", "sae-lens", "saelens"),
    "SAELens, sparse": Contestant("SAELens TopK, sparse", "sae-lens", "saelens", options=SPARSE),
    "sparsify": Contestant("sparsify TopK", "eai-sparsify", "sparsify"),
    "dictionary_learning": Contestant("dictionary_learning TopK", "dictionary-learning", "dictionary_learning"),
}
STANDARD = Contestant("SAELens standard (ReLU + L1)", "sae-lens", "saelens", "ReLU")
# what is said, whose time is divided, and by whose
CLAIMS = [
    *((f"rows/s of TopK against {who}", each.name, "sae_lab TopK") for who, each in RIVALS.items()),
    ("rows/s of ReLU + L1 against SAELens", STANDARD.name, "sae_lab ReLU + L1"),
    ("time of BatchTopK against TopK", "sae_lab BatchTopK", "sae_lab TopK"),
    ("share of the encoder product that TopK reaches", PRODUCT, "sae_lab TopK"),
]
WAYS = {"": "PyTorch", COMPILED: "compiled", INT8: "int8"}


def int8() -> list[Contestant]:
    """Ours with the 8-bit encoder, on processors that have the instructions for it."""
    try:
        kernels.choose(sl.TopK(d_sae=64, k=1), torch.device("cpu"), "int8")
    except BadInput:
        return []
    return [Contestant(f"sae_lab TopK{INT8}", OURS, "ours", "TopK", {"encoder": "int8"}, {"SAE_LAB_COMPILED": "1"})]


def contestants(libraries: list[str]) -> list[Contestant]:
    """All that these libraries have."""
    ours = [
        Contestant(PRODUCT, OURS, "product"),
        *both_ways(Contestant("sae_lab TopK", OURS, "ours")),
        *int8(),
        *both_ways(Contestant("sae_lab BatchTopK", OURS, "ours", "BatchTopK")),
        *both_ways(Contestant("sae_lab ReLU + L1", OURS, "ours", "ReLU")),
    ]
    return [each for each in [*ours, *RIVALS.values(), STANDARD] if each.library in libraries]


def steps_table(size: Size, found: dict[str, Found], by: str) -> str:
    """One line a contestant."""
    limit, lines = statistics.median(getattr(found[PRODUCT], by)), []
    for name, what in found.items():
        wall, cpu = statistics.median(what.wall), statistics.median(what.cpu)
        share = limit / (cpu if by == "cpu" else wall)
        figures = [f"{1e3 * wall:,.1f}", f"{1e3 * cpu:,.1f}", f"{size.batch / wall:,.0f}", f"{share:.0%}"]
        lines.append([name, *figures, "" if name == PRODUCT else memory(what, size)])
    return _report.table(["a step", "ms", "CPU ms", "rows/s", "of the product", "memory (MB)"], lines)


def memory(what: Found, size: Size) -> str:
    """The peak without parameters and two moments, of four bytes each."""
    return "" if what.peak is None else f"{what.peak - 3 * 4 * size.parameters / 2**20:,.0f}"


def claims_table(found: dict[Size, dict[str, Found]], by: str) -> str:
    """One line a claim, one column for each size and way of ours."""
    columns = [(size, of, way) for size, of in found.items() for way in WAYS if f"sae_lab TopK{way}" in of]
    lines = []
    for said, over, under in CLAIMS:
        cells = []
        for _, of, way in columns:
            pair = [of.get(f"{name}{way}" if name.startswith("sae_lab") else name) for name in (over, under)]
            cells.append(paired(*(getattr(each, by) for each in pair)) if None not in pair else "")
        lines += [[said, *cells]] if any(cells) else []
    cells = [memory(of[f"sae_lab TopK{way}"], size) for size, of, way in columns]
    lines.append(["memory of TopK above parameters and moments (MB)", *cells])
    head = [f"ratios of {_race.CLOCKS[by]}", *(f"{size.d_sae:,}, {WAYS[way]}" for size, _, way in columns)]
    return _report.table(head, lines)


def report(found: dict[Size, dict[str, Found]], racers: list[Contestant], options: argparse.Namespace) -> str:
    """All tables, and how they came about."""
    size, last = list(found.items())[-1]
    parts = [claims_table(found, options.by)]
    for size, of in found.items():
        parts += [f"{size}:", steps_table(size, of, options.by)]
    job = f"TopK with k {size.k}, d_in {size.d_in}, batches of {size.batch:,}, float32, Adam; {options.rounds} rounds. "
    machine = _report.machine(options.threads, last[PRODUCT].facts["capability"])
    return "\n\n".join([*parts, f"{job}{_race.versions(last, racers)}. {machine}"])


def main() -> None:
    """Run, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for module in (_race, _report, _rivals):
        module.add_options(parser)
    options = parser.parse_args()
    _report.check_page(NAME, options.write)
    racers = contestants(_rivals.taking_part(options.only))
    found = {
        size: _race.race(racers, "_trainers.py", size, Environments.of(options), options)
        for size in _race.sizes(options.sizes)
    }
    _report.publish(NAME, report(found, racers, options), options.write)


if __name__ == "__main__":
    main()
