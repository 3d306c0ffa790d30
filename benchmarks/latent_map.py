"""How long `latent_map` takes, beside plain openTSNE and scikit-learn, and how good the maps are.

    python benchmarks/latent_map.py                                   # ours and openTSNE at 24,576 latents
    python benchmarks/latent_map.py --latents 131072 --only ours      # the large one; the target is 6 minutes
    python benchmarks/latent_map.py --repeats 3 --only ours openTSNE scikit-learn

Directions are of a random mixture: 400 centres, and around each a spread that gives neighbours a cosine of about
one half. Each run is a process of its own, so that its peak of memory is its own, and no run finds warm caches of
another. Plain openTSNE searches approximate neighbours (Annoy) and runs with the same number of iterations; plain
scikit-learn takes its defaults. Targets on 2 cores: 24,576 x 384 under 45 s, 131,072 x 384 under 360 s.

Wall time depends on what else the machine does; the seconds of processor time and the load are there to tell.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from typing import Any

import _report
import numpy as np
import torch

D_IN, CENTRES, SEED = 384, 400, 0
ENGINES = ("ours", "openTSNE", "scikit-learn")


def directions(n: int) -> torch.Tensor:
    """(n, D_IN) unit directions of a random mixture."""
    generator = torch.Generator().manual_seed(SEED)
    centres = torch.randn(CENTRES, D_IN, generator=generator)
    rows = centres[torch.randint(CENTRES, (n,), generator=generator)] + torch.randn(n, D_IN, generator=generator)
    return torch.nn.functional.normalize(rows, dim=1)


def ours(rows: torch.Tensor, threads: int) -> tuple[np.ndarray, dict[str, float]]:
    """`latent_map` as a user calls it, quality and groups included."""
    import sae_lab as sl

    n, d = rows.shape
    sae = sl.SAE(rows, rows, torch.zeros(n), torch.zeros(d), gate="threshold")
    found = sl.latent_map(sae, progress=True)
    return np.stack([found.x, found.y], axis=1), found.quality


def open_tsne(rows: torch.Tensor, threads: int) -> tuple[np.ndarray, dict[str, float]]:
    """OpenTSNE as its guide has it, with its own approximate neighbours."""
    from openTSNE import TSNE

    return np.asarray(TSNE(metric="cosine", n_jobs=threads, random_state=SEED).fit(rows.numpy())), {}


def scikit_learn(rows: torch.Tensor, threads: int) -> tuple[np.ndarray, dict[str, float]]:
    """scikit-learn's TSNE."""
    from sklearn.manifold import TSNE

    return TSNE(metric="cosine", n_jobs=threads, random_state=SEED).fit_transform(rows.numpy()), {}


def one_run(name: str, n: int, threads: int) -> dict[str, Any]:
    """Time one engine in this process."""
    from sae_lab.studies.latent_maps._quality import quality

    torch.set_num_threads(threads)
    rows = directions(n)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    load, wall, cpu = os.getloadavg()[0], time.perf_counter(), time.process_time()
    place, measured = {"ours": ours, "openTSNE": open_tsne, "scikit-learn": scikit_learn}[name](rows, threads)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    if not measured:
        measured = quality(rows, "cosine", place, SEED)
    return {
        "wall": wall,
        "cpu": cpu,
        "load": load,
        "added_mb": peak - before,
        "trustworthiness": measured["trustworthiness"],
        "recall": measured["neighbour_recall"],
    }


def main() -> None:
    """Print one line for each engine: medians over the repeats."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--latents", type=int, nargs="+", default=[24_576])
    parser.add_argument("--only", nargs="+", choices=ENGINES, default=["ours", "openTSNE"])
    parser.add_argument("--repeats", type=_report.count, default=1)
    parser.add_argument("--threads", type=_report.count, default=os.cpu_count() or 1)
    parser.add_argument("--run", nargs=2, metavar=("ENGINE", "LATENTS"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run:
        print(json.dumps(one_run(options.run[0], int(options.run[1]), options.threads)))
        return

    print(f"{options.threads} threads, {D_IN} dimensions; median of {options.repeats}")
    print(f"{'':14}{'latents':>9}{'wall s':>9}{'cpu s':>9}{'load':>7}{'added MB':>10}{'trust':>8}{'recall':>8}")
    for n in options.latents:
        for name in options.only:
            command = [sys.executable, __file__, "--run", name, str(n), "--threads", str(options.threads)]
            environment = {**os.environ, "OMP_NUM_THREADS": str(options.threads)}
            runs = []
            for _ in range(options.repeats):
                done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
                runs.append(json.loads(done.stdout.splitlines()[-1]))
            middle = {key: statistics.median(run[key] for run in runs) for key in runs[0]}
            print(
                f"{name:14}{n:9,}{middle['wall']:9.1f}{middle['cpu']:9.1f}{middle['load']:7.1f}"
                f"{middle['added_mb']:10,.0f}{middle['trustworthiness']:8.3f}{middle['recall']:8.3f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
