"""`latent_map`: decoder directions in the plane, similar ones together.

Neighbours are exact: for tens of thousands of directions a blocked product of all with all takes seconds, less
than a search for approximate ones, and the engine that lays them out spends its time on nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from sae_lab._errors import BadInput, nearest
from sae_lab.studies.latent_maps._inputs import collect
from sae_lab.studies.latent_maps._run import MapRun, Settings

if TYPE_CHECKING:
    from sae_lab.evaluation import Profiles
    from sae_lab.saes import SAE
    from sae_lab.studies.latent_maps._result import LatentMap

    Mappable = SAE | Profiles | Sequence[SAE | Profiles]

CHOICES = {
    "method": ("tsne", "umap", "pca"),
    "metric": ("cosine", "euclidean"),
    "engine": ("auto", "tree", "grid"),
    "start": ("pca", "random"),
}
PERPLEXITY = 30.0


def latent_map(
    given: Mappable,
    *,
    profiles: Profiles | Sequence[Profiles] | None = None,
    method: str = "tsne",
    metric: str = "cosine",
    perplexity: float | str = "auto",
    iterations: int = 750,
    engine: str = "auto",
    start: str = "pca",
    clusters: int | str | None = "auto",
    seed: int = 0,
    progress: bool = True,
    background: bool = False,
) -> LatentMap | MapRun:
    """Lay out the latents of one or several SAEs by their decoder directions.

    Parameters
    ----------
    given
        An SAE, profiles fresh from `profile` (which carry their SAE), or a list of these: several SAEs share one
        map when they read the same activations.
    profiles
        Profiles of the SAEs, where they were loaded from a file. They add density, largest activation and the top
        tokens as labels, and tell which latents are silent: those are left out of the map and counted.
    method
        "tsne" (default), "umap" (needs the extra `umap`), or "pca".
    metric
        What similar means: "cosine" (default) or "euclidean" distance of decoder directions.
    perplexity
        About how many neighbours t-SNE keeps each latent near to; "auto" is 30, or a third of the others where
        they are few. t-SNE only.
    iterations
        Steps of t-SNE: a third with exaggerated attraction, then the rest. 750 is openTSNE's default.
    engine
        How t-SNE adds up repulsion: "tree" (Barnes-Hut), "grid" (interpolation, FIt-SNE), or "auto", which takes
        the tree below 3,000 latents.
    start
        Where t-SNE and UMAP begin: at the principal components, "pca" (default), or "random". Compare maps of several
        seeds that began at random to see what of a map is in the latents and what is chance.
    clusters
        How many groups the column "cluster" tells apart (k-means on the directions); "auto" grows with the number
        of latents; None makes no such column.
    seed
        Decides everything random; the same seed gives the same map, bit for bit on one machine. t-SNE that begins at
        the principal components has nothing random about it: there the seed decides only the groups of "cluster" and
        the sample that `quality` is measured on.
    progress
        Whether to show progress. Ctrl-C gives the map as far as it has come, marked as interrupted.
    background
        True returns a `MapRun` at once, whose `.map` is the map so far and `.wait()` the finished one.

    Returns
    -------
    LatentMap
        Coordinates, labels and columns, one row a latent; with `background=True` a `MapRun`.

    Raises
    ------
    BadInput
        An option cannot be used, there are fewer than 4 latents, or profiles from a file came without their SAE.
    Mismatch
        The SAEs read activations of different width, model or site, or profiles are of another SAE.
    MissingExtra
        method="umap" without umap-learn.

    Notes
    -----
    t-SNE is that of van der Maaten & Hinton (2008), by openTSNE (Policar, Strazar & Zupan 2024), begun at the
    principal components (Kobak & Berens 2019), so that the large arrangement is not left to chance. What it keeps is
    neighbours; gaps, sizes and distances between groups mean little. `LatentMap.quality` says how many it kept.

    Examples
    --------
    >>> latents = sl.latent_map(profiles)  # doctest: +SKIP
    >>> latents.plot(color="cluster")  # doctest: +SKIP
    """
    chosen = {"method": method, "metric": metric, "engine": engine, "start": start}
    for name, value in chosen.items():
        if value not in CHOICES[name]:
            close = nearest(str(value), CHOICES[name], count=1) or CHOICES[name][:1]
            raise BadInput(
                f"{name}={value!r} is not known; did you mean {close[0]!r}? There are {', '.join(CHOICES[name])}"
            )
    for name, number, least in (("iterations", iterations, 1), ("seed", seed, 0)):
        if isinstance(number, bool) or not isinstance(number, int) or number < least:
            raise BadInput(f"{name} must be a whole number from {least}, not {number!r}")
    points = collect(given, profiles)
    settings = Settings(
        method=method,
        metric=metric,
        engine=engine,
        start=start,
        perplexity=_perplexity(perplexity, len(points.labels)),
        iterations=iterations,
        clusters=_clusters(clusters, len(points.labels)),
        seed=seed,
        progress=progress,
    )
    run = MapRun(points, settings)
    return run.start() if background else run.work_here()


def _perplexity(given: float | str, n: int) -> float:
    """The perplexity to use for n points: three times as many neighbours are needed."""
    most = (n - 1) / 3
    if given == "auto":
        return min(PERPLEXITY, most)
    if isinstance(given, bool | str) or not isinstance(given, int | float) or not math.isfinite(given) or given < 1:
        raise BadInput(f"perplexity must be a number from 1, or 'auto', not {given!r}")
    if given > most:
        raise BadInput(
            f"perplexity {given:g} needs more than {3 * given:.0f} latents, and the map has {n:,}: "
            f"take at most {most:.1f}, or 'auto'"
        )
    return float(given)


def _clusters(given: int | str | None, n: int) -> int | str | None:
    if given is None or given == "auto":
        return given
    if isinstance(given, bool | str) or not isinstance(given, int) or not 1 <= given <= n:
        raise BadInput(
            f"clusters must be a number from 1 to the {n:,} latents on the map, 'auto' or None, not {given!r}"
        )
    return given
