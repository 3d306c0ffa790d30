"""How long encoding and decoding take, ours and the rivals': TopK SAEs of the same shape on the same rows.

    python benchmarks/encode_decode.py                                    # 2 threads, 6144 and 24,576 latents: minutes
    python benchmarks/encode_decode.py --write docs/performance.md        # ... and put the tables into the docs
    python benchmarks/encode_decode.py --rounds 1 --sizes tiny            # seconds: shows that it runs

The job: d_in 384, batches of 4096 rows, k 32, float32, no gradients. Every contestant is a process of its own in its
own environment and takes turns with the others; see `_rivals.py` and `_coders.py`. SAELens and dictionary_learning have
dense codes, sparsify has sparse ones, we have both. "encoder product" is `torch.mm` alone, into an output that is there
already. Ratios are medians of the ratios of neighbouring turns, with quartiles. Memory is the most that a process holds
in RAM above what it held before the first call, with SAE, rows and codes to decode in place.
"""

from __future__ import annotations

import argparse
import statistics

import _race
import _report
import _rivals
from _race import Contestant, Found, Size, both_ways
from _report import paired
from _rivals import OURS, Environments

NAME = "encode_decode"
PRODUCT = "encoder product alone"
PARTS = ("encode", "decode")
CODERS = [
    ("sae_lab {}_sparse", OURS, "ours", True),
    ("sae_lab {}, dense", OURS, "ours", False),
    ("SAELens {}, dense", "sae-lens", "saelens", False),
    ("dictionary_learning {}, dense", "dictionary-learning", "dictionary_learning", False),
    ("sparsify {}, sparse", "eai-sparsify", "sparsify", True),
]


def contestants(libraries: list[str]) -> list[Contestant]:
    """All parts of all libraries, and the product."""
    found = [Contestant(PRODUCT, OURS, "product", options={"part": "encode"})]
    for part in PARTS:
        for name, library, worker, sparse in CODERS:
            each = Contestant(name.format(part), library, worker, options={"part": part, "sparse": sparse})
            if library in libraries:
                found += both_ways(each) if library == OURS else [each]
    return found


def size_table(size: Size, found: dict[str, Found], by: str) -> str:
    """One line a contestant; ratios against our sparse way."""
    rows = []
    for name, what in found.items():
        part = "decode" if "decode" in name else "encode"
        ours = found[f"sae_lab {part}_sparse"]
        wall, cpu = statistics.median(what.wall), statistics.median(what.cpu)
        rows.append([name, f"{1e3 * wall:,.2f}", f"{1e3 * cpu:,.2f}", f"{size.batch / wall:,.0f}"])
        rows[-1].append(paired(getattr(what, by), getattr(ours, by)))
        rows[-1].append("" if what.peak is None or name == PRODUCT else f"{what.peak:,.0f}")
    head = ["a batch", "ms", "CPU ms", "rows/s", f"{_race.CLOCKS[by]} over our sparse", "memory (MB)"]
    return _report.table(head, rows)


def main() -> None:
    """Run, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for module in (_race, _report, _rivals):
        module.add_options(parser)
    options = parser.parse_args()
    _report.check_page(NAME, options.write)
    racers, parts = contestants(_rivals.taking_part(options.only)), []
    for size in _race.sizes(options.sizes):
        found = _race.race(racers, "_coders.py", size, Environments.of(options), options)
        parts += [f"{size}:", size_table(size, found, options.by)]
    job = f"TopK with k {size.k}, d_in {size.d_in}, batches of {size.batch:,}, float32; {options.rounds} rounds. "
    machine = _report.machine(options.threads, found[PRODUCT].facts["capability"])
    parts.append(f"{job}{_race.versions(found, racers)}. {machine}")
    _report.publish(NAME, "\n\n".join(parts), options.write)


if __name__ == "__main__":
    main()
