"""The architectures that need more than one source, on worlds of known features.

    python benchmarks/joined_sources.py                                 # about three minutes on one core
    python benchmarks/joined_sources.py --write docs/architectures.md   # ... and put the table into the docs

The mini truth gives the features and how they fire. A second dictionary of unit directions writes the same features to
another site, which a transcoder reconstructs and a crosscoder reads and reconstructs beside the first. The gradient
SAE gets the gradient of a quadratic loss that sees sixteen fixed directions of the row.
"""

from __future__ import annotations

import argparse
import time
from typing import NamedTuple

import _report
import numpy as np
import torch
from scipy import stats
from scipy.optimize import linear_sum_assignment
from torch.nn import functional

import sae_lab as sl

NAME = "joined"
D_SAE, K, STEPS, BATCH, ROWS, FRESH, ROUNDS = 512, 7, 1000, 1024, 200_000, 20_000, 31


class World(NamedTuple):
    """Rows of both sites with their features' directions."""

    rows: torch.Tensor
    others: torch.Tensor
    gradients: torch.Tensor


def world(truth: sl.synthetic.Truth, other: np.ndarray, n: int, seed: int) -> World:
    """Draw rows; `other` are the directions at the second site."""
    sample = truth.sample(n, seed=seed)
    others = torch.from_numpy(np.asarray(sample.features @ other, dtype=np.float32))
    seen = functional.normalize(torch.randn(16, truth.d_in, generator=torch.Generator().manual_seed(77)), dim=1)
    return World(sample.rows, others, (sample.rows @ seen.T) @ seen)


def mcc(directions: np.ndarray, sae: sl.SAE, alive: torch.Tensor) -> float:
    """Mean absolute cosine over the best one-to-one matching of features and latents; a dead latent is worth 0."""
    units = functional.normalize(sae.W_dec * alive[:, None], dim=1).numpy()
    cosine = np.abs(directions / np.linalg.norm(directions, axis=1, keepdims=True) @ units.T)
    rows, columns = linear_sum_assignment(-cosine)
    return float(cosine[rows, columns].mean())


def paces(configs: dict, joined: dict, rounds: int = ROUNDS) -> dict[str, float]:
    """Median over rounds of a step's time divided by that of TopK on the first site in the same round."""
    from sae_lab.training._settings import plan
    from sae_lab.training._state import TrainingState

    usual = {"tokens": None, "epochs": None, "lr": None, "warmup": 0.05, "decay": 0.5, "schedule": "linear", "seed": 0}
    states, batches, seconds = {}, {}, {name: [] for name in configs}
    for name, config in configs.items():
        acts = joined[name]
        settings = plan(config, len(acts), steps=STEPS, batch_size=BATCH, dead_window=None, clip=1.0, **usual)
        states[name] = TrainingState(config, settings, acts, torch.device("cpu"))
        if name == "GradientSAE":
            states[name].step = STEPS - 1 - rounds - 3  # before that its step is TopK's
        batches[name] = next(iter(acts.batches(BATCH)))
        for _ in range(3):
            states[name].advance(batches[name])
    for _ in range(rounds):
        for name, state in states.items():
            started = time.perf_counter()
            state.advance(batches[name])
            seconds[name].append(time.perf_counter() - started)
    times = {name: np.array(values) for name, values in seconds.items()}
    return {name: float(np.median(values / times["TopK"])) for name, values in times.items()}


def told(values: list[float], digits: int = 3) -> str:
    """Mean and half of the 95 % t-interval over seeds."""
    half = stats.t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / len(values) ** 0.5
    return f"{np.mean(values):.{digits}f} ± {half:.{digits}f}"


def measure(seeds: int) -> str:
    """The table, as Markdown."""
    truth = sl.synthetic.mini()
    generator = torch.Generator().manual_seed(123)
    other = functional.normalize(torch.randn(len(truth.directions), truth.d_in, generator=generator), dim=1).numpy()
    first = np.asarray(truth.directions)
    configs = {
        "TopK": sl.TopK(d_sae=D_SAE, k=K),
        "GradientSAE": sl.GradientSAE(d_sae=D_SAE, k=K),
        "Transcoder": sl.Transcoder(d_sae=D_SAE, k=K),
        "Transcoder, skip": sl.Transcoder(d_sae=D_SAE, k=K, skip=True),
        "Crosscoder": sl.Crosscoder(d_sae=D_SAE, k=K),
    }
    found: dict[str, dict[str, list[float]]] = {name: {"l0": [], "fvu": [], "alive": [], "mcc": []} for name in configs}
    pace: dict[str, float] = {}
    for seed in range(seeds):
        for name, config in configs.items():
            rows, fresh = (world(truth, other, n, 2 * seed + i) for i, n in enumerate((ROWS, FRESH)))
            pairs = {
                "TopK": ((rows.rows, fresh.rows), first),
                "GradientSAE": ((join_gradient(rows), join_gradient(fresh)), first),
                "Crosscoder": ((join(rows), join(fresh)), np.concatenate([first, other], axis=1)),
            }
            (train_on, score_on), directions = pairs.get(name, ((join(rows), join(fresh)), other))
            sae = sl.train(config, train_on, steps=STEPS, batch_size=BATCH, seed=seed, progress=False).sae
            table = sl.evaluate(sae, score_on, progress=False)["value"]
            alive = (sae.encode(read(sae, score_on)) > 0).any(dim=0)
            for key, value in zip(("l0", "fvu", "alive"), table[["l0", "fvu", "alive_share"]], strict=True):
                found[name][key].append(float(value))
            found[name]["mcc"].append(mcc(directions, sae, alive))
        if not pace:
            acts = {name: join(rows) for name in configs}
            acts |= {"TopK": sl.Activations.from_array(rows.rows), "GradientSAE": join_gradient(rows)}
            pace = paces(configs, acts)
    lines = [
        [name, told(values["l0"], 1), *(told(values[key]) for key in ("fvu", "alive", "mcc")), f"{pace[name]:.2f}"]
        for name, values in found.items()
    ]
    table = _report.table(["arm", "L0", "FVU", "alive", "MCC", "step time"], lines)
    facts = f"{D_SAE} latents, k {K}, {STEPS:,} steps of {BATCH:,} rows, {FRESH:,} fresh rows, {seeds} seeds"
    machine = _report.machine(torch.get_num_threads())
    return f"{table}\n\n{truth}; {facts}; torch {torch.__version__}. {machine}"


def join(part: World) -> sl.Activations:
    """Both sites."""
    return sl.join({"first": part.rows, "second": part.others})


def join_gradient(part: World) -> sl.Activations:
    """The first site with the gradient beside it."""
    return sl.join({"x": part.rows, "gradient": part.gradients})


def read(sae: sl.SAE, acts: sl.Activations | torch.Tensor) -> torch.Tensor:
    """The columns that an SAE reads."""
    rows = acts if isinstance(acts, torch.Tensor) else acts.tensor()
    return rows[:, : sae.d_in]


def main() -> None:
    """Run, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    _report.add_options(parser, threads=1)
    options = parser.parse_args()
    _report.check_page(NAME, options.write)
    torch.set_num_threads(options.threads)
    _report.publish(NAME, measure(options.seeds), options.write)


if __name__ == "__main__":
    main()
