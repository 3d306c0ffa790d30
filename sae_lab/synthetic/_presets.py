"""Truths that are asked for by name."""

from __future__ import annotations

from sae_lab.synthetic._config import TruthConfig
from sae_lab.synthetic._parts import Bursts, Constant, Correlations, Counts, Hierarchy, Magnitudes, Zipf
from sae_lab.synthetic._truth import Truth, make_truth


def reference(*, seed: int = 42) -> Truth:
    """16,384 features in 768 dimensions with the options of SynthSAEBench's public configuration [C].

    Zipf probabilities from 0.4 to 0.0005 (exponent 0.5), 128 trees of branching 4 and depth 3 with exclusive children
    scaled by their parents, magnitudes 5 to 4 with spread ``|N(0.5, 0.5)|``, correlations of rank 25 and scale 0.1, 100
    orthogonalising steps at 3e-4, bias 0.5. The draw is ours, so it is a set like theirs and not theirs: numbers of
    one are not numbers of the other. Children that ask for more than 90 % of their parent's firings get less [D].
    """
    config = TruthConfig(
        n_features=16_384, d_in=768, hierarchy=Hierarchy(), correlations=Correlations(), name="reference"
    )
    return make_truth(config, seed=seed)


def mini(*, seed: int = 0) -> Truth:
    """512 features in 64 dimensions: the reference setting made small enough for a CPU and a minute, ours [D].

    16 trees of branching 3 and depth 2; Zipf probabilities scaled to 8 active features a row, as 64 dimensions hold
    no more; correlations of rank 8 and scale 0.15. All else as in `reference`.
    """
    config = TruthConfig(
        hierarchy=Hierarchy(roots=16, branching=3, depth=2),
        correlations=Correlations(rank=8, scale=0.15),
        l0=8.0,
        name="mini",
    )
    return make_truth(config, seed=seed)


def imbalanced(*, seed: int = 0) -> Truth:
    """The imbalanced toy of the group bias adaptation paper: 128 features in 42 dimensions [T].

    Half the rows have exactly 3 active features, half have 20, all features alike [T]. Ours [D]: activations of mean
    1 and standard deviation 0.2, random directions, no bias.
    """
    config = TruthConfig(
        n_features=128,
        d_in=42,
        firing=Constant(),
        magnitudes=Magnitudes(first=1, last=1, spread_mean=0.2, spread_std=0),
        sparsity=Counts(values=(3, 20)),
        orthogonal_steps=0,
        bias=0.0,
        name="imbalanced",
    )
    return make_truth(config, seed=seed)


def bursty(*, seed: int = 0, sigma: float = 1.0) -> Truth:
    """128 features in 48 dimensions, on average 4 active a row, but in bursts: where Mutual Choice should win [D].

    Firing probabilities of a row are multiplied by one log-normal factor whose logarithm has the standard deviation
    `sigma`. `constant_sparsity` has the same features and marginals, with exactly 4 active on each row.
    """
    return make_truth(_allocation(Bursts(sigma=sigma), "bursty"), seed=seed)


def constant_sparsity(*, seed: int = 0) -> Truth:
    """The counterpart of `bursty`: the same directions and marginals, exactly 4 features active on each row [D]."""
    return make_truth(_allocation(Counts(values=(4,)), "constant sparsity"), seed=seed)


def pairs(first: int = 8, second: int = 8, *, d_in: int = 24, seed: int = 0) -> Truth:
    """Features that are made of parts, colours and shapes: one for every pair, its direction the sum of its parts [D].

    On average 2 of the `first` * `second` pairs are active on a row, all alike. `.atoms` holds the directions of the
    parts, which a meta-SAE over the features should find.
    """
    config = TruthConfig(
        n_features=first * second,
        d_in=d_in,
        firing=Constant(),
        l0=2.0,
        magnitudes=Magnitudes(first=1, last=1, spread_mean=0.2, spread_std=0),
        pairs=(first, second),
        bias=0.0,
        name="pairs",
    )
    return make_truth(config, seed=seed)


def _allocation(sparsity: Bursts | Counts, name: str) -> TruthConfig:
    """What the two sets for allocation have in common."""
    return TruthConfig(
        n_features=128,
        d_in=48,
        firing=Zipf(exponent=0.5, largest=0.2, smallest=0.02),
        l0=None if isinstance(sparsity, Counts) else 4.0,
        magnitudes=Magnitudes(first=1, last=1, spread_mean=0.2, spread_std=0),
        sparsity=sparsity,
        orthogonal_steps=0,
        bias=0.0,
        name=name,
    )


PRESETS = {
    "reference": reference,
    "mini": mini,
    "imbalanced": imbalanced,
    "bursty": bursty,
    "constant_sparsity": constant_sparsity,
    "pairs": pairs,
}
