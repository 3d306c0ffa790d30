"""The path from a small SAE to a large one, step by step: the noun that `Stitching.curve` returns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from sae_lab._errors import CorruptFile
from sae_lab._files import load_bundle, save_bundle
from sae_lab._results import Result

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

METRICS = ("fvu", "l0", "ce")
LISTS = ("inserted", "removed")


@dataclass(frozen=True, repr=False, eq=False)
class Curve(Result):
    """L0, FVU and cross-entropy of every SAE on the way from a small SAE to a large one.

    State 0 is the small SAE; state i is what step i leaves: `inserted[i]` came in, `removed[i]` went out. The last
    state is the large SAE. Arrays have one entry a state and are read-only.
    """

    small_name: str
    """Name of the smaller SAE."""
    small_sae: str
    """Its fingerprint."""
    large_name: str
    """Name of the larger SAE."""
    large_sae: str
    """Its fingerprint."""
    threshold: float
    """Cosine below which latents count as novel by cosine, and from which on two latents are linked for a swap."""
    grouping: str
    """How swap groups were made: "components" or "star"."""
    bias: str
    """What became of the decoder bias: "linear", "small" or "refit"."""
    n_rows: int
    """Rows over which L0 and FVU were measured."""
    n_tokens: int
    """Predictions over which cross-entropy was measured; 0 without a model."""
    ce_clean: float
    """Cross-entropy of the model as it is, same predictions; NaN without a model."""
    interrupted: bool
    """Whether Ctrl-C ended the work before the last step, or before all points had their cross-entropy."""
    action: list[str]
    """What each step does: "start", "insert", "swap" or "drop"."""
    inserted: list[list[int]]
    """Latents of the larger SAE that come in at each step."""
    removed: list[list[int]]
    """Latents of the smaller SAE that go out at each step."""
    n_latents: np.ndarray
    """(n_states,) int32: latents in the SAE after the step, dead ones included."""
    l0: np.ndarray
    """(n_states,) float64: mean number of active latents a row."""
    fvu: np.ndarray
    """(n_states,) float64: fraction of variance unexplained."""
    ce: np.ndarray
    """(n_states,) float64: cross-entropy in nats with the SAE spliced in; NaN where it was not measured."""
    cosine: np.ndarray
    """(n_states,) float32: mean cosine of the latents moved by the step with their best partners; NaN at the start."""
    reference: dict[str, list[Any]]
    """The columns of `references`."""
    insert: str = "cosine"
    """What was inserted: latents novel by "cosine", or by "gain"; all others were swapped."""

    @property
    def n_steps(self) -> int:
        """Steps of the path; there is one state more."""
        return len(self.action) - 1

    @property
    def references(self) -> pd.DataFrame:
        """Ordinary SAEs on the same rows: small, large and the others given. name, sae, n_latents, l0, fvu, ce."""
        import pandas as pd

        return pd.DataFrame(self.reference)

    @property
    def frame(self) -> pd.DataFrame:
        """One row a state: step, action, inserted and removed (how many), n_latents, l0, fvu, ce, cosine."""
        import pandas as pd

        return pd.DataFrame(
            {
                "step": np.arange(len(self.action)),
                "action": self.action,
                "inserted": [len(latents) for latents in self.inserted],
                "removed": [len(latents) for latents in self.removed],
                "n_latents": self.n_latents,
                "l0": self.l0,
                "fvu": self.fvu,
                "ce": self.ce,
                "cosine": self.cosine,
            }
        )

    def _summary(self) -> str:
        cut = ", interrupted" if self.interrupted else ""
        return (
            f"{self.small_name} to {self.large_name}: {self.n_steps:,} steps, FVU {self.fvu[0]:.4f} to "
            f"{self.fvu[-1]:.4f}, L0 {self.l0[0]:.1f} to {self.l0[-1]:.1f}{cut}"
        )

    def plot(self) -> go.Figure:
        """FVU and L0 over the steps, with cross-entropy where it was measured."""
        from sae_lab.studies.stitching._figures import curve_figure

        return curve_figure(self)

    def save(self, path: Path | str) -> Path:
        """Write the folder `path`, atomically; return the path."""
        arrays = self._arrays()
        meta = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in arrays and f.name not in LISTS}
        # NaN has no place in JSON
        meta["ce_clean"] = None if np.isnan(self.ce_clean) else self.ce_clean
        meta["reference"] = {
            name: [None if isinstance(value, float) and np.isnan(value) else value for value in column]
            for name, column in self.reference.items()
        }
        for name in LISTS:
            lists: Sequence[Sequence[int]] = getattr(self, name)
            arrays[name] = np.array([latent for one in lists for latent in one], np.int32)
            arrays[f"{name}_lengths"] = np.array([len(one) for one in lists], np.int32)
        return save_bundle(path, "Curve", {"curve": meta}, arrays)

    @classmethod
    def load(cls, path: Path | str) -> Self:
        """Read what `save` wrote."""
        bundle, arrays = load_bundle(path, "Curve")
        try:
            meta: dict[str, Any] = dict(bundle["curve"])
            meta["ce_clean"] = float("nan") if meta["ce_clean"] is None else meta["ce_clean"]
            meta["reference"] = {
                name: [float("nan") if value is None else value for value in column]
                for name, column in meta["reference"].items()
            }
            for name in LISTS:
                cuts = np.cumsum(arrays.pop(f"{name}_lengths"))[:-1]
                meta[name] = [part.tolist() for part in np.split(arrays.pop(name), cuts)]
            return cls(**{**meta, **arrays})
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            message = f"{path} does not hold a whole curve ({error}): make it anew with Stitching.curve()"
            raise CorruptFile(message) from error
