"""How long `profile` takes and how much memory it adds: 4608 latents over 200,000 rows, the target is 60 s on 2 cores.

    python benchmarks/profile_latents.py                              # synthetic rows, no model
    python benchmarks/profile_latents.py --model demo                  # the same with the demo model's unembedding
    python benchmarks/profile_latents.py --acts FOLDER --sae FOLDER    # real ones
    python benchmarks/profile_latents.py --write docs/performance.md   # put the table into the docs

Synthetic rows are sums of 32 of 4608 random directions drawn with Zipf frequencies, in documents of 250 rows; the
SAE knows these directions, with a threshold that gives an L0 near 32.
"""

from __future__ import annotations

import argparse
import resource
import time

import _report
import numpy as np
import torch

import sae_lab as sl
from sae_lab.saes import SAE

NAME = "profile"
D_IN, VOCAB, DOCUMENT = 576, 49_152, 250


def random_directions(d_sae: int) -> torch.Tensor:
    """Random unit rows (d_sae, D_IN)."""
    return torch.nn.functional.normalize(torch.randn(d_sae, D_IN, generator=torch.Generator().manual_seed(0)), dim=1)


def synthetic_rows(n: int, directions: torch.Tensor, active: int = 32) -> sl.Activations:
    """Rows whose features have Zipf frequencies; each token stands for its strongest feature."""
    rng = np.random.default_rng(0)
    weight = 1 / (np.arange(len(directions)) + 20)
    out = np.empty((n, D_IN), np.float16)
    tokens = np.empty(n, np.int32)
    for begin in range(0, n, 4096):
        size = min(4096, n - begin)
        chosen = torch.from_numpy(rng.choice(len(directions), (size, active), p=weight / weight.sum()))
        strength = torch.from_numpy(rng.gamma(4, 2.5, (size, active)).astype(np.float32))
        out[begin : begin + size] = torch.nn.functional.embedding_bag(
            chosen, directions, mode="sum", per_sample_weights=strength
        )
        tokens[begin : begin + size] = chosen[torch.arange(size), strength.argmax(dim=1)] * 7 % VOCAB
    strings = {int(t): f" t{t}" for t in np.unique(tokens)}
    return sl.Activations.from_array(out, tokens=tokens, documents=np.arange(n) // DOCUMENT, vocabulary=strings)


def threshold_sae(acts: sl.Activations, directions: torch.Tensor, l0: int = 32) -> SAE:
    """An SAE over these directions whose one threshold lets `l0` latents through on average."""
    pre = acts[:2000] @ directions.T
    cut = pre.flatten().kthvalue(pre.numel() - l0 * len(pre)).values.item()
    return SAE(directions, directions, torch.zeros(len(directions)), torch.zeros(D_IN), gate="threshold", threshold=cut)


def peak_mb() -> float:
    """Largest resident size so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Time one profile."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--latents", type=int, default=4608)
    parser.add_argument("--acts", help="folder of harvested activations")
    parser.add_argument("--sae", help="folder of a saved SAE, or 'demo'")
    parser.add_argument("--model", help="name of the model that the activations come from")
    _report.add_options(parser)
    options = parser.parse_args()
    _report.check_page(NAME, options.write)
    torch.set_num_threads(options.threads)

    model = sl.load_model(options.model) if options.model else None
    if options.acts:
        acts = sl.Activations.open(options.acts)
        acts = acts.view(slice(0, options.rows))
        sae = sl.load_sae(options.sae or "demo")
    else:
        features = random_directions(options.latents)
        acts = synthetic_rows(options.rows, features)
        sae = threshold_sae(acts, features)
        if model is not None:
            acts.metadata.update(model=model.identity, site="layers.9", skip_first=0, context_length=256)
    before = peak_mb()
    started, worked = time.perf_counter(), time.process_time()
    profiles = sl.profile(sae, acts, model, progress=False)
    seconds, cpu = time.perf_counter() - started, time.process_time() - worked
    cells = [f"{len(profiles.density):,}", f"{len(acts):,}", f"{float(profiles.density.sum()):.1f}"]
    cells += [f"{seconds:.1f}", f"{cpu:.1f}", f"{peak_mb() - before:,.0f}"]
    table = _report.table(["latents", "rows", "L0", "seconds", "CPU seconds", "memory above (MB)"], [cells])
    what = "synthetic rows" if not options.acts else "harvested rows"
    told = f"One run on {what}{f' with the unembedding of {options.model}' if options.model else ''}."
    told += f" sae-lab {sl.__version__}, torch {torch.__version__}. {_report.machine(options.threads)}"
    _report.publish(NAME, f"{table}\n\n{told}", options.write)


if __name__ == "__main__":
    main()
