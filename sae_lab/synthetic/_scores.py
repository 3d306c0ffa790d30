"""`Score`: how well one SAE recovers a truth, as a table with definitions, by feature and by latent."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sae_lab._errors import CorruptFile
from sae_lab._files import load_bundle, save_bundle
from sae_lab._results import Result

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

METRICS = {
    "l0_true": ("features", "Mean over rows of the number of true features that fire."),
    "l0": ("latents", "Mean over rows of the number of latents above zero."),
    "fvu": ("share", "Sum over rows of |x - x'|², divided by that of |x - mean|², the mean taken over all rows."),
    "shrinkage": ("ratio", "Mean over rows of |x'| / |x|, rows of zeros left out; below 1 the SAE shrinks."),
    "alive_share": ("share", "Share of the latents that fire at least once on these rows."),
    "mcc": (
        "|cosine|",
        "Mean |cosine| over the best one-to-one matching of features and latents (Hungarian), as many pairs as the "
        "fewer of the two; dead latents are worth 0.",
    ),
    "mcc_of_features": ("|cosine|", "The same sum divided by the number of true features: those left over count 0."),
    "wrong_sign": ("share", "Share of these pairs whose cosine is negative."),
    "mmcs_features": ("cosine", "Mean over true features of the largest cosine with a live latent."),
    "mmcs_latents": ("cosine", "Mean over live latents of the largest cosine with a true feature."),
    "frr_0.8": ("share", "Share of the true features with a live latent at a cosine above 0.8."),
    "frr_0.9": ("share", "Share of the true features with a live latent at a cosine above 0.9."),
    "uniqueness": (
        "share",
        "Number of true features that are nearest to some live latent, divided by the number of latents, dead or not.",
    ),
    "precision": ("share", "Of the rows on which a latent fires, the share on which its nearest feature does (1)."),
    "recall": ("share", "Of the rows on which its nearest feature fires, the share on which the latent does (1)."),
    "f1": ("share", "Harmonic mean of the two, latent by latent (1)."),
    "accuracy": ("share", "Share of rows on which a latent and its nearest feature agree; mean over all latents."),
    "absorption": (
        "share",
        "Mean over pairs of parent and child of the share of the child's rows on which the parent's latent is silent, "
        "although the parent is on; pairs whose parent has no live latent at a cosine of 0.5 are left out.",
    ),
    "absorption_control": (
        "share",
        "The same parents' latents, over the same pairs, on rows where the parent is on without any child: silence "
        "that has nothing to do with a child.",
    ),
}
NOTE = "(1) Mean over all latents; undefined counts as 0, so dead latents cost."


@dataclass(frozen=True, repr=False, eq=False)
class Score(Result):
    """What `score` returns.

    Attributes
    ----------
    name, truth, rows, seed
        The SAE, the truth, and how many rows of which stream were drawn.
    metrics
        Values by name; `.frame` has their definitions.
    probabilities, parents
        (n_features,) of the truth.
    feature_latent, feature_cosine
        (n_features,) nearest live latent of each feature and its cosine.
    feature_absorbed, feature_silent_alone
        (n_features,) of a child: share of its rows on which its parent's latent is silent. Of a parent: share of its
        rows without a child on which its own latent is silent. NaN elsewhere.
    latent_feature, latent_cosine, latent_density, latent_precision, latent_recall, latent_f1
        (d_sae,) nearest feature of each latent, and the latent as a detector of it.
    """

    name: str
    truth: str
    rows: int
    seed: int
    metrics: dict[str, float]
    probabilities: np.ndarray
    parents: np.ndarray
    feature_latent: np.ndarray
    feature_cosine: np.ndarray
    feature_absorbed: np.ndarray
    feature_silent_alone: np.ndarray
    latent_feature: np.ndarray
    latent_cosine: np.ndarray
    latent_density: np.ndarray
    latent_precision: np.ndarray
    latent_recall: np.ndarray
    latent_f1: np.ndarray

    @property
    def frame(self) -> pd.DataFrame:
        """Indexed by metric: value, unit, definition."""
        import pandas as pd

        lines = [
            {"metric": name, "value": value, "unit": METRICS[name][0], "definition": METRICS[name][1]}
            for name, value in self.metrics.items()
        ]
        table = pd.DataFrame(lines).set_index("metric")
        table["definition"] = table["definition"].str.replace(" (1).", f". {NOTE[4:]}", regex=False)
        table.attrs.update({"sae": self.name, "truth": self.truth, "rows": self.rows, "seed": self.seed})
        return table

    @property
    def features(self) -> pd.DataFrame:
        """One row a true feature."""
        import pandas as pd

        columns = ("feature_latent", "feature_cosine", "feature_absorbed", "feature_silent_alone")
        named = {name.removeprefix("feature_"): getattr(self, name) for name in columns}
        facts = {"feature": np.arange(len(self.parents)), "probability": self.probabilities, "parent": self.parents}
        return pd.DataFrame(facts | named)

    @property
    def latents(self) -> pd.DataFrame:
        """One row a latent."""
        import pandas as pd

        names = ("feature", "cosine", "density", "precision", "recall", "f1")
        columns = {name: getattr(self, f"latent_{name}") for name in names}
        return pd.DataFrame({"latent": np.arange(len(self.latent_cosine)), **columns})

    def plot(self) -> go.Figure:
        """Cosine of each true feature with its nearest latent, against how often the feature fires."""
        import plotly.graph_objects as go

        figure = go.Figure()
        for name, which, symbol in (
            ("child", self.parents >= 0, "triangle-up"),
            ("root or outside trees", self.parents < 0, "circle"),
        ):
            at = np.flatnonzero(which)
            if len(at):
                hover = "feature %{text}<br>fires on %{x:.2%}<br>cosine %{y:.3f}<extra></extra>"
                trace = {"x": self.probabilities[at], "y": self.feature_cosine[at], "text": at, "hovertemplate": hover}
                figure.add_scatter(**trace, mode="markers", name=name, marker={"symbol": symbol, "size": 5})
        figure.add_hline(0.8, line_dash="dot", line_color="#888888")
        figure.update_xaxes(type="log", title="share of rows on which the feature fires")
        figure.update_yaxes(title="largest cosine with a live latent")
        told = f"MCC {self.metrics['mcc']:.3f}, FRR at 0.8 {self.metrics['frr_0.8']:.1%}"
        title = f"{self.name} on {self.truth}<br><sup>{told}</sup>"
        return figure.update_layout(title=title, template="plotly_white")

    def save(self, path: Path | str) -> Path:
        """Write the score to the folder `path`; return the path."""
        numbers = {name: None if math.isnan(value) else value for name, value in self.metrics.items()}
        meta = {"name": self.name, "truth": self.truth, "rows": self.rows, "seed": self.seed, "metrics": numbers}
        return save_bundle(path, "Score", meta, self._arrays())

    @classmethod
    def load(cls, path: Path | str) -> Score:
        """Read what `save` wrote."""
        meta, arrays = load_bundle(path, "Score")
        wanted = {field.name for field in dataclasses.fields(cls)}
        try:
            values = {name: math.nan if value is None else value for name, value in meta["metrics"].items()}
            facts: dict[str, Any] = {name: meta[name] for name in wanted - arrays.keys() - {"metrics"}} | arrays
            return cls(**facts, metrics=values)
        except (KeyError, TypeError, AttributeError) as error:
            raise CorruptFile(f"{path} does not hold a whole score ({error}): make it anew with score()") from error

    def _summary(self) -> str:
        m = self.metrics
        return f"{self.name}, L0 {m['l0']:.1f}, FVU {m['fvu']:.3f}, MCC {m['mcc']:.3f}, F1 {m['f1']:.3f}"
