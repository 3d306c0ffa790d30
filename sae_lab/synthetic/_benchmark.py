"""`benchmark`: every architecture on one truth, at matched L0, over several seeds."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.nn import functional

from sae_lab._errors import BadInput, SaeLabError, nearest
from sae_lab._interrupt import StopRequest, stop_on_interrupt
from sae_lab._metrics import Activity
from sae_lab._progress import Progress
from sae_lab.saes import SAE, SAEConfig, with_pursuit
from sae_lab.synthetic._arms import Arm, chosen_arms
from sae_lab.synthetic._leaderboard import PURSUIT, RANDOM, TRUE, Leaderboard
from sae_lab.synthetic._pace import paces
from sae_lab.synthetic._presets import PRESETS
from sae_lab.synthetic._score import score
from sae_lab.synthetic._seeds import stream
from sae_lab.synthetic._truth import Truth
from sae_lab.synthetic._tune import Tuned, tune
from sae_lab.training import train

if TYPE_CHECKING:
    from sae_lab.activations import Activations

# d_sae, k, steps, batch_size, training rows, rows that score: what is used where nothing else is asked for
USUAL = (512, 7, 1000, 1024, 200_000, 20_000)
USUAL_OF = {"reference": (4096, 31, 20_000, 1024, 500_000, 100_000)}
TUNING_ROWS = 8192  # L0 of a run that tunes is measured on so many rows
SHORT, WHOLE = 6, 2  # runs that search, at most
SHARE = 0.5  # length of a short one, as a share of a whole one
PURSUED = 2048  # features up to which pursuit with the true directions is shown: it is slow with many


def benchmark(
    truth: Truth | str = "mini",
    *,
    arms: Iterable[str | Arm] | None = None,
    d_sae: int | None = None,
    k: int | None = None,
    steps: int | None = None,
    batch_size: int | None = None,
    lr: float | None = None,
    rows: int | None = None,
    evaluation_rows: int | None = None,
    seeds: int = 3,
    seed: int = 0,
    rounds: int = 61,
    progress: bool = True,
) -> Leaderboard:
    """Train every architecture on a truth and rank them by what they recover.

    All arms see the same rows, steps, batch size and learning rate, and aim at the same L0, `k`: by their `k`, by a
    penalty that is steered to it while training, or by an option that is searched for first. The L0 reached on fresh
    rows is reported beside everything else. Arms of one seed share the training rows and the seed of the initial
    weights, so they can be compared pair by pair.

    Parameters
    ----------
    truth
        A `Truth`, or the name of a preset: "mini" takes minutes on a CPU, "reference" (16,384 features) hours.
    arms
        Names of arms, or your own of class `Arm`; by default all that exist.
    d_sae, k, steps, batch_size, rows, evaluation_rows
        Latents, wanted L0, training steps, rows in a step, rows to train on (repeated as needed) and rows that score.
        By default 512, 7, 1000, 1024, 200,000 and 20,000; for "reference" 4096, 31, 20,000, 1024, 500,000 and 100,000.
    lr
        Learning rate; by default that of `sl.train`.
    seeds, seed
        How many seeds, from which on; each has its own training rows and initial weights. The truth stays the same.
    rounds
        Steps by which the pace of each arm is compared with TopK's.
    progress
        Whether to show progress. Ctrl-C ends the benchmark after the step under way; runs that are complete are kept.

    Returns
    -------
    Leaderboard
        `.frame` has means and 95 % intervals over seeds, `.runs` each run, `.markdown()` the table.

    Raises
    ------
    BadInput
        An option makes no sense, or there is no such arm or preset.
    """
    if isinstance(truth, str):
        if truth not in PRESETS:
            hint = nearest(truth, PRESETS, 1)
            did_you = f" (did you mean {hint[0]!r}?)" if hint else ""
            raise BadInput(f"there is no preset {truth!r}{did_you}: choose from {', '.join(PRESETS)}")
        chosen, left_out = chosen_arms(arms)
        truth = PRESETS[truth]()
    else:
        chosen, left_out = chosen_arms(arms)
    names = ("d_sae", "k", "steps", "batch_size", "rows", "evaluation_rows")
    asked = (d_sae, k, steps, batch_size, rows, evaluation_rows)
    usual = USUAL_OF.get(truth.config.name, USUAL)
    plan = {name: usual[i] if wish is None else wish for i, (name, wish) in enumerate(zip(names, asked, strict=True))}
    for name, value in {**plan, "seeds": seeds, "rounds": rounds}.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise BadInput(f"{name} must be a whole number of at least 1, not {value!r}")
    for arm in chosen:
        arm.config(plan["d_sae"], plan["k"])  # refuses what cannot be built before anything is computed
    return _Bench(truth, chosen, left_out, plan, lr, list(range(seed, seed + seeds)), rounds).run(progress)


class _Bench:
    """One benchmark while it runs."""

    def __init__(
        self,
        truth: Truth,
        arms: list[Arm],
        left_out: dict[str, str],
        plan: dict[str, int],
        lr: float | None,
        seeds: list[int],
        rounds: int,
    ):
        self.truth, self.arms, self.left_out, self.plan, self.lr = truth, arms, dict(left_out), plan, lr
        self.seeds, self.rounds = seeds, rounds
        self.lines: list[dict[str, Any]] = []
        self.tuned: dict[str, Tuned] = {}
        self.ratios: dict[str, np.ndarray] = {}
        self.started = time.monotonic()

    def run(self, progress: bool) -> Leaderboard:
        """Tune, race, train and score; what is complete when somebody interrupts is the result."""
        searches = sum(arm.searched is not None for arm in self.arms)
        work = self.plan["steps"] * (len(self.arms) * len(self.seeds) + (SHARE * SHORT + WHOLE) * searches)
        with (
            stop_on_interrupt() as self.stop,
            Progress(round(work), f"benchmark on {self.truth.config.name}", "steps", enabled=progress) as self.bar,
        ):
            for number, seed in enumerate(self.seeds):
                acts = self.truth.activations(self.plan["rows"], seed=seed)
                if number == 0 and not self._prepare(acts, seed):
                    break
                self._references(seed)
                for arm in list(self.arms):
                    sae = self._train(arm.name, self._config(arm), acts, seed, self.plan["steps"])
                    if self.stop.asked:
                        break
                    if sae is not None:
                        self._line(arm.name, seed, sae)
                if self.stop.asked:
                    break
        return self._result()

    def _prepare(self, acts: Activations, seed: int) -> bool:
        """Search for what decides L0, and measure paces; False when interrupted."""
        for arm in self.arms:
            if arm.searched is None:
                continue

            def l0_of(value: float, whole: bool, arm: Arm = arm) -> float | None:
                config = arm.config(self.plan["d_sae"], self.plan["k"], value)
                steps = self.plan["steps"] if whole else max(round(SHARE * self.plan["steps"]), 1)
                sae = self._train(arm.name, config, acts, seed, steps)
                return None if sae is None or self.stop.asked else self._l0(sae)

            search: dict[str, Any] = {"start": arm.start, "rising": arm.rising, "limits": arm.limits}
            found = tune(l0_of, self.plan["k"], **search, short=SHORT, whole=WHOLE)
            if self.stop.asked:
                return False
            if found is not None:
                self.tuned[arm.name] = found
        self.arms = [arm for arm in self.arms if arm.name not in self.left_out]
        shape = {"steps": self.plan["steps"], "batch_size": self.plan["batch_size"], "lr": self.lr}
        configs = {arm.name: self._config(arm) for arm in self.arms}
        if configs:
            self.ratios = paces(configs, acts, k=self.plan["k"], rounds=self.rounds, shape=shape)
        return not self.stop.asked

    def _config(self, arm: Arm) -> SAEConfig:
        tuned = self.tuned.get(arm.name)
        return arm.config(self.plan["d_sae"], self.plan["k"], None if tuned is None else tuned.value)

    def _train(self, name: str, config: SAEConfig, acts: Activations, seed: int, steps: int) -> SAE | None:
        """Train once; None when it was interrupted or failed, which leaves the arm out and says why."""
        begun = self.bar.done
        try:
            shape: dict[str, Any] = {"steps": steps, "batch_size": self.plan["batch_size"], "lr": self.lr}
            run = train(config, acts, **shape, seed=seed, background=True)
            remove = run.add_listener(lambda seen: self.bar.advance(begun + seen["step"] - self.bar.done, name))
            try:
                while run.status == "running":
                    run.wait(0.2)
                    if self.stop.asked:
                        run.stop()
                run.wait()
            finally:
                remove()
            return run.sae if run.status == "finished" else None
        except SaeLabError as error:
            self.left_out[name] = f"failed with seed {seed}: {error}"
            self.arms = [arm for arm in self.arms if arm.name != name]
            return None

    def _l0(self, sae: SAE) -> float:
        """L0 on rows that neither train nor score."""
        activity = Activity(sae.d_sae)
        for block in self.truth.blocks(TUNING_ROWS, purpose="tuning"):
            activity.add(*sae.encode_sparse(block.rows))
        return activity.l0

    def _references(self, seed: int) -> None:
        """What knowing all directions, and knowing none, would score with the k largest products active."""
        k = min(self.plan["k"], self.truth.n_features)
        if seed == self.seeds[0]:  # it has no seed of its own
            known = self.truth.sae(k)
            self._line(TRUE, seed, known)
            if self.truth.n_features <= PURSUED:
                self._line(PURSUIT, seed, with_pursuit(known))
        drawn = stream("random directions", self.truth.seed, seed).standard_normal(
            (self.plan["d_sae"], self.truth.d_in)
        )
        rows = functional.normalize(torch.from_numpy(drawn.astype(np.float32)), dim=1)
        bias = torch.from_numpy(self.truth.bias.copy())
        self._line(RANDOM, seed, SAE(rows, rows.clone(), torch.zeros(len(rows)), bias, gate="topk", k=self.plan["k"]))

    def _line(self, name: str, seed: int, sae: SAE) -> None:
        found = score(sae, self.truth, rows=self.plan["evaluation_rows"], progress=False)
        self.lines.append({"arm": name, "seed": seed, **found.metrics})

    def _result(self) -> Leaderboard:
        return Leaderboard.of(
            self.lines,
            self.ratios,
            truth=repr(self.truth),
            plan={**self.plan, "lr": self.lr, "seeds": self.seeds, "rounds": self.rounds},
            options={arm.name: self._config(arm).to_dict() for arm in self.arms},
            tuned={name: found._asdict() for name, found in self.tuned.items()},
            left_out=self.left_out,
            seconds=time.monotonic() - self.started,
            interrupted=self.stop.asked,
        )

    stop: StopRequest
    bar: Progress
