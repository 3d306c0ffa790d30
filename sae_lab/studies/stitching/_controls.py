"""What chance and a mere change of seed would give: the controls of a stitching."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sae_lab._results import Result

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, repr=False, eq=False)
class Controls(Result):
    """A stitching beside its controls: one row each, all at the stitching's threshold."""

    threshold: float
    """Cosine below which a latent counts as novel."""
    rows: list[dict[str, Any]]
    """The rows of `frame`."""

    @property
    def frame(self) -> pd.DataFrame:
        """One row a control, the stitching itself first.

        Columns: control, novel_share, novel_low, novel_high, novel_share_by_gain, auc, auc_low, auc_high,
        n_latents, note.
        """
        import pandas as pd

        return pd.DataFrame(self.rows)
