"""The engines that lay points out: openTSNE, umap-learn, or plain principal components.

openTSNE gets the exact neighbours that were found here instead of searching approximate ones. Its repulsion
comes from a Barnes-Hut tree for few points and from an interpolation grid (FIt-SNE; Linderman et al. 2019) for
many. Both give the same map for a seed whatever the number of threads: each thread adds up the forces on
points of its own, in the same order.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from sae_lab._errors import MissingExtra

FEW = 3000  # below so many points the tree is faster
EVERY = 10  # iterations between two reports

Report = Callable[[int, float, np.ndarray], bool]
"""Called with iterations done, divergence, and coordinates (n, 2); True asks to stop."""


def principal(vectors: Tensor) -> np.ndarray:
    """(n, 2) float64: the coordinates along the two directions of most variance, the same on every call."""
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):  # so that the last digits do not depend on the number of threads
        centred = vectors.numpy().astype(np.float64)
        centred -= centred.mean(axis=0)
        _, axes = np.linalg.eigh(centred.T @ centred)
        axes = axes[:, [-1, -2]] if axes.shape[1] > 1 else axes[:, [-1, -1]]
        strongest = np.take_along_axis(axes, np.abs(axes).argmax(axis=0, keepdims=True), axis=0)
        return centred @ (axes * np.sign(strongest))


def scattered(n: int, seed: int) -> np.ndarray:
    """(n, 2) float64: a start that knows nothing of the directions."""
    return np.random.default_rng(seed).normal(size=(n, 2))


def tsne(
    distances: Tensor,
    ids: Tensor,
    start: np.ndarray,
    *,
    engine: str,
    perplexity: float,
    iterations: int,
    seed: int,
    report: Report,
) -> tuple[np.ndarray, float, int]:
    """(n, 2) coordinates, their divergence, and the iterations done: fewer where `report` says so."""
    from openTSNE import TSNEEmbedding, affinity, nearest_neighbors
    from openTSNE.tsne import OptimizationInterrupt

    threads = torch.get_num_threads()
    graph = nearest_neighbors.PrecomputedNeighbors(ids.numpy(), distances.numpy().astype(np.float64))
    weights = affinity.PerplexityBasedNN(perplexity=perplexity, knn_index=graph, n_jobs=threads)
    spread = start[:, 0].std() or 1.0
    layout = TSNEEmbedding(
        start * (1e-4 / spread),
        weights,
        negative_gradient_method="bh" if engine == "tree" else "fft",
        n_jobs=threads,
        random_state=seed,
    )
    done = 0
    # The settings are openTSNE's own: 250 iterations of exaggeration, then 500. Ours is a coarser grid in the middle
    # ones: the map grows, and a fine grid under all of it takes most of the time where precision matters least.
    early, late = iterations // 3, iterations // 5
    middle = iterations - early - late
    for first, count, exaggeration, cell in ((0, early, 12, 1), (early, middle, 1, 2), (early + middle, late, 1, 1)):
        if count == 0:
            continue
        layout.gradient_descent_params["ints_in_interval"] = cell

        def tell(iteration: int, divergence: float, place: np.ndarray, first: int = first) -> bool:
            nonlocal done
            done = first + iteration
            return report(done, float(divergence), np.asarray(place))

        try:
            layout.optimize(
                count,
                exaggeration=exaggeration,
                momentum=0.8,
                learning_rate="auto",
                inplace=True,
                propagate_exception=True,
                callbacks=tell,
                callbacks_every_iters=EVERY,
            )
        except OptimizationInterrupt as stopped:
            return np.array(stopped.final_embedding), float(stopped.error), done
    return np.array(layout), float(layout.kl_divergence), iterations


def require_umap() -> None:
    """Say at once where umap-learn is missing."""
    if importlib.util.find_spec("umap") is None:
        raise MissingExtra("umap-learn", "umap")


def umap(vectors: Tensor, distances: Tensor, ids: Tensor, start: np.ndarray, *, metric: str, seed: int) -> np.ndarray:
    """(n, 2) coordinates by umap-learn, from the exact neighbours; one thread, as its seed needs."""
    from umap import UMAP

    own = torch.arange(len(ids))[:, None]  # umap-learn counts a point among its neighbours
    graph = (
        torch.cat([own, ids], dim=1).numpy().astype(np.int32),
        torch.cat([torch.zeros(len(ids), 1), distances], dim=1).numpy(),
    )
    engine = UMAP(
        n_neighbors=graph[0].shape[1],
        metric=metric,
        precomputed_knn=graph,
        init=(start * (10 / (np.abs(start).max() or 1.0))).astype(np.float32),
        random_state=seed,
        n_jobs=1,
    )
    return np.asarray(engine.fit_transform(vectors.numpy()), np.float64)
