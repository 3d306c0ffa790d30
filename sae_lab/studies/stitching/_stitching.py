"""How the latents of a larger SAE stand to those of a smaller one: the noun that `stitch` returns.

Everything about single latents is an array with one entry a latent of the larger SAE, so that a table, a map
or a page shows the same numbers. The two SAEs come along in the form in which they were compared (see `_pair`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from sae_lab._results import Result

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
LIVE = ("acts", "model")  # fields that are not saved


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
    """Whether Ctrl-C ended the pass before all rows were read."""
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
    """(d_large,) int32: swap group; -1 for latents that are novel by cosine, and for dead ones."""
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
    control_share: float = float("nan")
    """Share novel by cosine between two SAEs of one width and different seeds (`twin`); NaN when none was given."""
    control_low: float = float("nan")
    """Lower end of its 95 % interval."""
    control_high: float = float("nan")
    """Upper end."""
    acts: Activations | None = None
    """The activations, for `curve` and `controls`; not saved."""
    model: Model | None = None
    """The model, for cross-entropy along the path; not saved."""

    def __post_init__(self) -> None:
        for name, value in self._arrays().items():
            frozen = value.view()
            frozen.flags.writeable = False
            object.__setattr__(self, name, frozen)

    def _arrays(self) -> dict[str, np.ndarray]:
        return {f.name: v for f in fields(self) if isinstance(v := getattr(self, f.name), np.ndarray)}

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
    def frame(self) -> pd.DataFrame:
        """One row a latent of the larger SAE.

        Columns: latent, cosine, partner, gain, gain_low, gain_high, kind, novel_by_cosine, group, density. The
        shares and the same-width control stand in `frame.attrs`.
        """
        raise NotImplementedError

    def controls(self, twin: SAE | None = None, **options: Any) -> Controls:
        """What chance and a mere change of seed would give: see `Controls`."""
        raise NotImplementedError

    def curve(
        self,
        metrics: Sequence[str] = ("fvu", "l0", "ce"),
        *,
        points: int | Sequence[int] = 8,
        others: Sequence[SAE] = (),
        **options: Any,
    ) -> Curve:
        """The path from the smaller to the larger SAE."""
        raise NotImplementedError

    def hybrid(self, step: int) -> SAE:
        """The SAE at one step of the path."""
        raise NotImplementedError

    def plot(self) -> go.Figure:
        """Cosine against gain, and the ROC."""
        raise NotImplementedError

    def save(self, path: Path | str) -> Path:
        """Write everything but `acts` and `model`."""
        raise NotImplementedError

    @classmethod
    def load(cls, path: Path | str) -> Self:
        """Read what `save` wrote."""
        raise NotImplementedError
