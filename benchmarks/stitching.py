"""How long stitching takes and how much memory it needs at scale: 65,536 into 131,072 latents, the target is 16 GB.

    python benchmarks/stitching.py                                       # minutes on 2 cores
    python benchmarks/stitching.py --small 8192 --large 16384            # seconds

The SAEs are random: of the large one's decoder rows 60 % are rows of the small one with noise (cosine about 0.8, some
rows several times), the others are directions of their own. Rows of activations are sums of 32 directions of the
large SAE. What is timed: `stitch` with intervals (gains, best partners, ROC, swap groups), the links across widths
that `stitch_chain` adds, the whole path by `curve` (FVU and L0 at every step), and `merge`. Peak memory is that of
the process so far, weights included.
"""

from __future__ import annotations

import argparse
import resource
import time
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

import sae_lab as sl
from sae_lab.studies.stitching._chain_steps import links_of

ACTIVE, KNOWN, NOISE = 32, 0.6, 0.75


def decoders(d_small: int, d_large: int, d_in: int) -> tuple[Tensor, Tensor]:
    """Unit rows of the small and of the large SAE."""
    generator = torch.Generator().manual_seed(0)
    small = functional.normalize(torch.randn(d_small, d_in, generator=generator), dim=1)
    large = functional.normalize(torch.randn(d_large, d_in, generator=generator), dim=1)
    known = round(KNOWN * d_large)
    large[:known].mul_(NOISE).add_(small[torch.randint(d_small, (known,), generator=generator)])
    return small, functional.normalize(large, dim=1, out=large)


def activations(W_dec: Tensor, rows: int) -> sl.Activations:
    """Sums of a few directions, in documents of 16 rows."""
    generator = torch.Generator().manual_seed(1)
    chosen = torch.randint(len(W_dec), (rows, ACTIVE), generator=generator)
    strength = 1 + torch.rand(rows, ACTIVE, generator=generator)
    x = functional.embedding_bag(chosen, W_dec, mode="sum", per_sample_weights=strength)
    number = torch.arange(rows).numpy()
    return sl.Activations.from_array(x, tokens=number, documents=number // 16)


def random_sae(W_dec: Tensor, x: Tensor) -> sl.SAE:
    """An SAE with these decoder rows whose one threshold lets as many latents through as the rows are sums of."""
    pre = torch.cat([(block @ W_dec.T).flatten().topk(ACTIVE * len(block)).values[-1:] for block in x.split(64)])
    return sl.SAE(
        W_dec.clone(),
        W_dec,
        torch.zeros(len(W_dec)),
        torch.zeros(W_dec.shape[1]),
        gate="threshold",
        threshold=pre.mean(),
    )


def peak_gb() -> float:
    """Largest resident size so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def main() -> None:
    """Time the stages one after the other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", type=int, default=65_536)
    parser.add_argument("--large", type=int, default=131_072)
    parser.add_argument("--d-in", type=int, default=768)
    parser.add_argument("--rows", type=int, default=4096)
    options = parser.parse_args()
    warnings.filterwarnings("ignore", message=".*largest swap group")

    small_rows, large_rows = decoders(options.small, options.large, options.d_in)
    acts = activations(large_rows, options.rows)
    small, large = (random_sae(W_dec, acts[:512]) for W_dec in (small_rows, large_rows))
    print(
        f"{options.small:,} into {options.large:,} latents of width {options.d_in}, {options.rows:,} rows, "
        f"{torch.get_num_threads()} threads; weights and rows made: {peak_gb():.1f} GB\n"
    )
    print(f"{'':24}{'seconds':>9}{'processor':>11}{'peak GB':>9}")

    def timed(name: str, work: Callable[[], Any]) -> Any:
        started, worked = time.perf_counter(), time.process_time()
        found = work()
        seconds, cpu = time.perf_counter() - started, time.process_time() - worked
        print(f"{name:24}{seconds:9.1f}{cpu:11.1f}{peak_gb():9.1f}", flush=True)
        return found

    stitching = timed("stitch", lambda: sl.stitch(small, large, acts, threshold=0.5, progress=False))
    links = timed("links of a chain", lambda: links_of(stitching, 0))
    curve = timed("curve (fvu, l0)", lambda: stitching.curve(metrics=("fvu", "l0"), progress=False))
    merged = timed("merge", lambda: sl.merge([small, large], acts, threshold=0.5, progress=False))
    print(f"\n{stitching!r}\n{curve!r}\n{len(links):,} links\n{merged!r}")


if __name__ == "__main__":
    main()
