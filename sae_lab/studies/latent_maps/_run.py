"""The work on a map, in the foreground or in a thread of its own; whoever looks in gets the map so far.

The parts run one after the other: principal components, neighbours, groups, layout, quality. From the
first on there are coordinates, so a map can be had at any time, and stopping early only makes it coarser.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import torch

from sae_lab._interrupt import stop_on_interrupt
from sae_lab._progress import Progress
from sae_lab.studies.latent_maps import _engines
from sae_lab.studies.latent_maps._clusters import clusters
from sae_lab.studies.latent_maps._inputs import Points
from sae_lab.studies.latent_maps._neighbours import neighbours, prepared
from sae_lab.studies.latent_maps._quality import quality
from sae_lab.studies.latent_maps._result import LatentMap

LISTED = 8  # neighbours kept in the result
UMAP_NEIGHBOURS = 14  # others; with the point itself umap-learn's default of 15
ENGINES = {"umap": "umap-learn", "pca": "torch", "tree": "openTSNE (tree)", "grid": "openTSNE (grid)"}


@dataclass(frozen=True)
class Settings:
    """What `latent_map` was asked for, checked."""

    method: str
    metric: str
    engine: str
    start: str
    perplexity: float
    iterations: int
    clusters: int | str | None
    seed: int
    progress: bool


class _Stopped(Exception):  # not an error
    """Somebody asked to stop."""


class MapRun:
    """A map under way: `latent_map(..., background=True)` returns it at once.

    Attributes
    ----------
    status
        "running", "finished", "stopped" (by `stop` or Ctrl-C) or "failed".
    """

    def __init__(self, points: Points, settings: Settings):
        if settings.method == "umap":
            _engines.require_umap()
        self.status: Literal["running", "finished", "stopped", "failed"] = "running"
        self._points, self._settings = points, settings
        self._vectors = prepared(points.directions, settings.metric)
        self._began = time.monotonic()
        self._stop = threading.Event()
        self._ended = threading.Event()
        self._error: BaseException | None = None
        self._asked: Callable[[], bool] = self._stop.is_set
        self._engine = settings.method
        if settings.method == "tsne":
            few = len(points.labels) < _engines.FEW
            self._engine = ("tree" if few else "grid") if settings.engine == "auto" else settings.engine
        # what is known so far; replaced as a whole, so that another thread never sees half of it
        n = len(points.labels)
        listed = min(LISTED, n - 1)
        random = settings.start == "random" and settings.method != "pca"
        self._start = _engines.scattered(n, settings.seed) if random else _engines.principal(self._vectors)
        self._place = self._start
        self._near = np.full((n, listed), -1, np.int32), np.zeros((n, listed), np.float32)
        self._columns = points.columns
        self._done = 0
        self._divergence: float | None = None

    @property
    def map(self) -> LatentMap:
        """The map so far: where it starts at first, then the layout as it is refined."""
        return self._result(finished=self.status == "finished", measured=self._ended.is_set())

    def stop(self) -> None:
        """Ask the run to end with the map as it is; returns at once."""
        self._stop.set()

    def wait(self, timeout: float | None = None) -> LatentMap:
        """Wait until the map is finished (or stopped), or for `timeout` seconds, and return it."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while not self._ended.wait(0.1) and (deadline is None or time.monotonic() < deadline):
            pass  # in short pieces, so that Ctrl-C gets through on every system
        if self._error is not None:
            raise self._error
        return self.map

    def __repr__(self) -> str:
        steps = f", {self._done} of {self._settings.iterations} steps" if self._settings.method == "tsne" else ""
        return f"MapRun({len(self._points.labels):,} latents, {self.status}{steps})"

    def start(self) -> MapRun:
        """Work in a thread."""
        threading.Thread(target=self._work_there, name="sae_lab map", daemon=True).start()
        return self

    def work_here(self) -> LatentMap:
        """Work in the caller's thread; Ctrl-C ends the work and gives the map as it is."""
        with stop_on_interrupt() as request:
            self._asked = lambda: request.asked
            self._work()
        return self.map

    def _work_there(self) -> None:
        try:
            self._work()
        except BaseException as error:
            self._error = error
            self.status = "failed"
            self._ended.set()

    def _work(self) -> None:
        try:
            self._lay_out()
            stopped = self._done < self._settings.iterations and self._settings.method == "tsne"
        except _Stopped:
            stopped = True
        self._quality = quality(self._vectors, self._settings.metric, self._place, self._settings.seed)
        if self._divergence is not None:
            self._quality["divergence"] = self._divergence
        self._seconds = time.monotonic() - self._began
        self.status = "stopped" if stopped else "finished"
        self._ended.set()

    def _lay_out(self) -> None:
        chosen, n = self._settings, len(self._points.labels)
        wanted = {"tsne": round(3 * chosen.perplexity), "umap": UMAP_NEIGHBOURS, "pca": LISTED}[chosen.method]
        with Progress(n, "finding neighbours", "latents", enabled=chosen.progress) as bar:

            def found(rows: int) -> None:
                bar.advance(rows)
                self._check()

            distances, ids = neighbours(self._vectors, chosen.metric, min(max(wanted, LISTED), n - 1), found)
        self._near = self._nearby(ids[:, :LISTED])
        distances, ids = distances[:, :wanted], ids[:, :wanted]
        if chosen.clusters is not None:
            groups = clusters(self._vectors, chosen.clusters, chosen.seed)
            self._columns = self._points.columns.assign(cluster=groups)
            self._check()
        if chosen.method == "umap":
            self._place = _engines.umap(
                self._vectors, distances, ids, self._start, metric=chosen.metric, seed=chosen.seed
            )
        elif chosen.method == "tsne":
            with Progress(chosen.iterations, "laying out", "steps", enabled=chosen.progress) as bar:

                def report(done: int, divergence: float, place: np.ndarray) -> bool:
                    self._place, self._done, self._divergence = place.copy(), done, divergence
                    bar.advance(done - bar.done, f"divergence {divergence:.3f}")
                    return self._asked()

                self._place, self._divergence, self._done = _engines.tsne(
                    distances,
                    ids,
                    self._start,
                    engine=self._engine,
                    perplexity=chosen.perplexity,
                    iterations=chosen.iterations,
                    seed=chosen.seed,
                    report=report,
                )
                bar.advance(self._done - bar.done, f"divergence {self._divergence:.3f}")

    def _check(self) -> None:
        if self._asked():
            raise _Stopped

    def _nearby(self, ids: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
        """The listed neighbours and their cosines."""
        unit = torch.nn.functional.normalize(self._points.directions, dim=1)
        cosines = torch.stack([(unit * unit[column]).sum(dim=1) for column in ids.T], dim=1)
        return ids.numpy().astype(np.int32), cosines.numpy()

    def _result(self, *, finished: bool, measured: bool) -> LatentMap:
        points, chosen = self._points, self._settings
        settings: dict[str, Any] = {key: value for key, value in asdict(chosen).items() if key == "clusters"}
        if chosen.method != "pca":
            settings["start"] = chosen.start
        if chosen.method == "tsne":
            settings |= {"perplexity": chosen.perplexity, "iterations": self._done}
        place = self._place
        return LatentMap(
            names=points.names,
            saes=points.saes,
            which=points.which,
            latent=points.latent,
            x=place[:, 0].astype(np.float32),
            y=place[:, 1].astype(np.float32),
            columns=self._columns,
            labels=points.labels,
            method=chosen.method,
            metric=chosen.metric,
            engine=ENGINES[self._engine],
            seed=chosen.seed,
            seconds=self._seconds if measured else time.monotonic() - self._began,
            quality=dict(self._quality) if measured else {},
            interrupted=not finished,
            left_out=points.left_out,
            neighbour_ids=self._near[0],
            neighbour_cosines=self._near[1],
            settings=settings,
        )
