"""How the latents of a larger SAE stand to those of a smaller one: the noun that `stitch` returns.

Everything about single latents is an array with one entry a latent of the larger SAE, so that a table, a map
or a page shows the same numbers. The two SAEs come along in the form in which they were compared (see `_pair`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from sae_lab._results import Result
from sae_lab.studies.stitching._twin import share_with_interval

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

    from sae_lab.activations import Activations
    from sae_lab.models import Model
    from sae_lab.saes import SAE
    from sae_lab.studies.stitching._controls import Controls
    from sae_lab.studies.stitching._curve import Curve

KINDS = ("novel", "reconstruction", "undecided", "dead")
NOVEL, RECONSTRUCTION, UNDECIDED, DEAD = range(4)


@dataclass(frozen=True, repr=False, eq=False)
class Stitching(Result):
    """Which latents of a larger SAE a smaller one lacks, and which it has in another form.

    Arrays are read-only. "Dead" means that a latent fires on none of the `n_rows` rows, or writes nothing (a
    decoder row of zeros); dead latents of either SAE take part in no share, no ROC and no swap group.
    """

    small_name: str
    """Name of the smaller SAE."""
    small_sae: str
    """Fingerprint of the smaller SAE as it was given."""
    large_name: str
    """Name of the larger SAE."""
    large_sae: str
    """Fingerprint of the larger SAE as it was given."""
    small: SAE
    """The smaller SAE as it was compared: on thresholds, decoder rows of length 1."""
    large: SAE
    """The larger SAE, in the same form."""
    n_rows: int
    """Rows that were read."""
    n_documents: int
    """Documents these rows are of; the number of rows where documents are not known."""
    threshold: float
    """A latent counts as novel by cosine below this."""
    threshold_source: str
    """"auto" (read off the ROC) or "given"."""
    grouping: str
    """How swap groups are made: "components" or "star"."""
    bias: str
    """What becomes of the decoder bias on the path: "linear", "small" or "refit"."""
    seed: int
    """Decided the bootstrap samples and, with `max_rows`, the rows."""
    interrupted: bool
    """Whether Ctrl-C ended the pass, or that of the twin, before all rows were read."""
    fvu_small: float
    """FVU of the smaller SAE on the rows."""
    fvu_large: float
    """FVU of the larger SAE on the rows."""
    l0_small: float
    """L0 of the smaller SAE on the rows."""
    l0_large: float
    """L0 of the larger SAE on the rows."""
    auc: float
    """How well a low cosine tells the latents that lower the error from those that raise it: area under the ROC
    over the latents whose gain is decided. NaN when one of the two sorts is missing."""
    auc_low: float
    """Lower end of its 95 % interval, by resampling latents."""
    auc_high: float
    """Upper end."""
    cosine: np.ndarray
    """(d_large,) float32: largest cosine with the decoder direction of any live latent of the smaller SAE."""
    partner: np.ndarray
    """(d_large,) int32: that latent of the smaller SAE."""
    gain: np.ndarray
    """(d_large,) float64: by how much FVU falls when this latent alone is added to the smaller SAE."""
    gain_low: np.ndarray
    """(d_large,) float64: lower end of its 95 % interval, by resampling documents."""
    gain_high: np.ndarray
    """(d_large,) float64: upper end."""
    kind: np.ndarray
    """(d_large,) int8, by the gain's interval: 0 novel (above 0), 1 reconstruction (below 0), 2 undecided, 3 dead."""
    group: np.ndarray
    """(d_large,) int32: swap group; -1 for latents that the path inserts, and for dead ones."""
    small_group: np.ndarray
    """(d_small,) int32: swap group; -1 for orphans (no latent of the larger SAE resembles them) and dead ones."""
    density_small: np.ndarray
    """(d_small,) float32: share of the rows on which the latent fires."""
    density_large: np.ndarray
    """(d_large,) float32: the same for the larger SAE."""
    roc_threshold: np.ndarray
    """(n,) float64: cosine thresholds of the ROC, ascending."""
    roc_false_positive_rate: np.ndarray
    """(n,) float64: share of the reconstruction latents (by gain) whose cosine is below the threshold."""
    roc_true_positive_rate: np.ndarray
    """(n,) float64: share of the novel latents (by gain) whose cosine is below the threshold."""
    insert: str = "cosine"
    """What the path inserts: latents novel by "cosine", or by "gain"; all others it swaps."""
    control_share: float = float("nan")
    """Share novel by cosine between two SAEs of one width and different seeds (`twin`); NaN when none was given."""
    control_low: float = float("nan")
    """Lower end of its 95 % interval."""
    control_high: float = float("nan")
    """Upper end."""
    control_share_by_gain: float = float("nan")
    """Share of the twin's live latents whose gain is surely positive."""
    acts: Activations | None = None
    """The activations that were read, for `curve` and `controls`; not saved."""
    model: Model | None = None
    """The model, for cross-entropy along the path; not saved."""

    @property
    def d_in(self) -> int:
        """Width of the activations."""
        return self.large.d_in

    @property
    def d_small(self) -> int:
        """Number of latents of the smaller SAE, dead ones included."""
        return self.small.d_sae

    @property
    def d_large(self) -> int:
        """Number of latents of the larger SAE, dead ones included."""
        return self.large.d_sae

    @property
    def small_alive(self) -> np.ndarray:
        """(d_small,) bool: fires on some row, and writes something."""
        return (self.density_small > 0) & self.small.W_dec.any(dim=1).cpu().numpy()

    @property
    def large_alive(self) -> np.ndarray:
        """(d_large,) bool: fires on some row, and writes something."""
        return self.kind != DEAD

    @property
    def n_dead_small(self) -> int:
        """Dead latents of the smaller SAE."""
        return int((~self.small_alive).sum())

    @property
    def n_dead_large(self) -> int:
        """Dead latents of the larger SAE."""
        return int((~self.large_alive).sum())

    @property
    def novel_by_cosine(self) -> np.ndarray:
        """(d_large,) bool: alive, and the largest cosine is below the threshold: the proxy for a positive gain."""
        return (self.cosine < self.threshold) & self.large_alive

    @property
    def novel_share(self) -> float:
        """Share of the larger SAE's live latents that are novel by cosine."""
        return float(self.novel_by_cosine.sum() / max(self.large_alive.sum(), 1))

    @property
    def novel_share_by_gain(self) -> float:
        """Share of the larger SAE's live latents whose gain is surely positive; undecided ones count as not."""
        return float((self.kind == NOVEL).sum() / max(self.large_alive.sum(), 1))

    @property
    def roc(self) -> pd.DataFrame:
        """The ROC of the rule "cosine < threshold" against the sign of the gain, one row a threshold."""
        import pandas as pd

        names = ("threshold", "false_positive_rate", "true_positive_rate")
        return pd.DataFrame({name: getattr(self, f"roc_{name}") for name in names})

    @property
    def novel_share_interval(self) -> tuple[float, float]:
        """95 % interval of `novel_share` (Wilson)."""
        return share_with_interval(self.novel_by_cosine[self.large_alive])[1:]

    @property
    def shares_in_words(self) -> str:
        """The shares of novel latents with their yardstick, the same between two seeds of one width."""
        control = "not measured" if np.isnan(self.control_share) else f"{self.control_share:.1%}"
        if not np.isnan(self.control_share):  # a chain tries its twins by cosine alone
            by_gain = self.control_share_by_gain
            control += " by cosine" if np.isnan(by_gain) else f" and {by_gain:.1%}"
        shares = f"{self.novel_share:.1%} novel by cosine, {self.novel_share_by_gain:.1%} by gain"
        return f"{shares} (same width, other seed: {control})"

    @property
    def frame(self) -> pd.DataFrame:
        """One row a latent of the larger SAE.

        Columns: latent, cosine, partner, gain, gain_low, gain_high, kind, novel_by_cosine, group, density. Shares,
        threshold, AUC and the same-width control stand in `frame.attrs`.
        """
        import pandas as pd

        table = pd.DataFrame(
            {
                "latent": np.arange(self.d_large),
                "cosine": self.cosine,
                "partner": self.partner,
                "gain": self.gain,
                "gain_low": self.gain_low,
                "gain_high": self.gain_high,
                "kind": pd.Categorical.from_codes(self.kind, list(KINDS)),
                "novel_by_cosine": self.novel_by_cosine,
                "group": self.group,
                "density": self.density_large,
            }
        )
        for name in ("threshold", "novel_share", "novel_share_by_gain", "control_share", "auc", "n_dead_large"):
            table.attrs[name] = getattr(self, name)
        return table

    def _summary(self) -> str:
        dead = f", {self.n_dead_small:,} + {self.n_dead_large:,} dead" if self.n_dead_small + self.n_dead_large else ""
        cut = ", interrupted" if self.interrupted else ""
        return (
            f"{self.small_name} to {self.large_name}: {self.shares_in_words} at threshold {self.threshold:.2f}, "
            f"AUC {self.auc:.2f}, {self.n_rows:,} rows{dead}{cut}"
        )

    def controls(
        self,
        twin: SAE | None = None,
        *,
        acts: Activations | Any = None,
        batch_size: int = 4096,
        bootstrap: int = 200,
        seed: int = 0,
        progress: bool = True,
    ) -> Controls:
        """What chance and a mere change of seed would give, all at this threshold.

        Parameters
        ----------
        twin
            An SAE that differs from one of the two by its seed only; for the demo SAEs
            `sl.load_sae("demo", width=..., seed=1)`, where there is one. Without it that row is NaN and says so.
        acts
            Rows for the twin; None takes those of the stitching.
        batch_size, bootstrap, progress
            As for `stitch`.
        seed
            Decides the shuffles, the random directions and the samples.

        Raises
        ------
        BadInput
            The twin has another width than both SAEs, or is one of them.
        """
        from sae_lab.studies.stitching._controls import controls

        return controls(self, twin, acts, seed, batch_size, bootstrap, progress)

    def curve(
        self,
        metrics: Sequence[str] = ("fvu", "l0", "ce"),
        *,
        points: int | Sequence[int] = 8,
        others: Sequence[SAE] = (),
        acts: Activations | Any = None,
        model: Model | None = None,
        max_rows: int = 20_000,
        max_tokens: int = 4000,
        progress: bool = True,
    ) -> Curve:
        """The path from the smaller to the larger SAE: L0 and FVU after every step, cross-entropy at some.

        Parameters
        ----------
        metrics
            "fvu" and "l0" are always there; leaving out "ce" spares the model's time.
        points
            After how many steps to measure cross-entropy (ends and turns of the path among them), or after which.
        others
            SAEs to compare the path with: one row each in `Curve.references`.
        acts, model
            None takes those that the stitching was made with. Without a model there is no cross-entropy.
        max_rows
            Rows to measure on, drawn by the stitching's seed. They are held in memory, as is the residual.
        max_tokens
            About how many tokens go through the model for each point.
        progress
            Whether to show progress. Ctrl-C gives the path as far as it has been walked.

        Raises
        ------
        BadInput
            A metric or step does not exist, or a loaded stitching was given no activations.
        Mismatch
            The activations, the model or the other SAEs are of another place.
        """
        from sae_lab.studies.stitching._trace import trace

        return trace(self, metrics, points, others, acts, model, max_rows, max_tokens, progress)

    def hybrid(self, step: int, *, acts: Activations | Any = None, max_rows: int = 20_000) -> SAE:
        """The SAE after a step of the path, as an ordinary SAE: save it, evaluate it, profile it.

        Its latents are those of the smaller SAE that are still there, then those of the larger one; their numbers
        stand in `metadata["stitching"]`.

        Parameters
        ----------
        step
            0 is the smaller SAE; negative numbers count from the end, so -1 is the larger one. Others are refused.
        acts, max_rows
            Where the bias is refitted, over which rows; the defaults are those of `curve`. Not used otherwise.
        """
        from sae_lab.studies.stitching._hybrid import hybrid

        return hybrid(self, step, acts, max_rows)

    def plot(self) -> go.Figure:
        """Cosine against gain of every live latent, with the threshold; beside it the ROC."""
        from sae_lab.studies.stitching._figures import stitching_figure

        return stitching_figure(self)

    def save(self, path: Path | str) -> Path:
        """Write everything but `acts` and `model` to the folder `path`, atomically; return the path."""
        from sae_lab.studies.stitching._saved import save

        return save(self, path)

    @classmethod
    def load(cls, path: Path | str) -> Self:
        """Read what `save` wrote; `acts` and `model` are None."""
        from sae_lab.studies.stitching._saved import load

        return cls(**load(path))
