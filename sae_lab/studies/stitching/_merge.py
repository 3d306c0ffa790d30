"""The noun that `merge` returns: one SAE made of the latents of several, each taken only if it was new."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from sae_lab._errors import CorruptFile
from sae_lab._files import atomic_folder, load_bundle, save_bundle
from sae_lab._results import Result

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

    from sae_lab.saes import SAE

KIND = "Merge"


@dataclass(frozen=True, repr=False, eq=False)
class Merge(Result):
    """One SAE that grew by the novel latents of wider and wider ones.

    Stage 0 is the first SAE, stage s is what stands after the novel latents of SAE s came in; a stage is the first
    `frame.n_latents[s]` latents of the merged SAE.
    """

    sae: SAE
    """The merged SAE, an ordinary one: save it, evaluate it, profile it."""
    names: list[str]
    """Name of each SAE that it is made of, in the order in which they were taken."""
    saes: list[str]
    """Fingerprint of each."""
    source: np.ndarray
    """(d_sae,) int16: which of these SAEs each latent comes from."""
    source_latent: np.ndarray
    """(d_sae,) int32: its number there."""
    cosine: np.ndarray
    """(d_sae,) float32: largest cosine with what had been merged before it; NaN for those of the first SAE."""
    stages: list[dict[str, Any]]
    """The rows of `frame`."""
    originals: list[dict[str, Any]]
    """The rows of `references`."""
    n_rows: int
    """Rows over which L0 and FVU were measured."""
    interrupted: bool = False
    """Whether Ctrl-C ended it early; what had been merged until then is here."""

    @property
    def frame(self) -> pd.DataFrame:
        """One row a stage, beside an original of the same size.

        Columns: stage, added (name of the SAE whose latents came in), n_live (its live latents), n_novel (how many
        came in), threshold, n_latents, l0, fvu; fvu_same_size, l0_same_size (of an original SAE of that many latents:
        between the given ones on a log-log scale, ours [D]; beyond the widest the widest); fvu_matched, l0_matched
        (the merged SAE with no activation below `floor`, so that its L0 is that of the original), floor.
        """
        import pandas as pd

        return pd.DataFrame(self.stages)

    @property
    def references(self) -> pd.DataFrame:
        """The SAEs that were given, on the same rows: name, sae (fingerprint), n_latents, l0, fvu."""
        import pandas as pd

        return pd.DataFrame(self.originals)

    def matched(self) -> SAE:
        """The merged SAE with its thresholds raised so that its L0 is that of an original of its size; see `frame`."""
        from sae_lab.studies.stitching._merge_parts import with_floor

        return with_floor(self.sae, self.stages[-1]["floor"])

    def plot(self) -> go.Figure:
        """FVU over the number of latents: the originals, the merged SAE at each stage, and the same at matched L0."""
        import plotly.graph_objects as go

        from sae_lab.studies.stitching._figures import LAYOUT

        stages, given = self.frame, self.references
        figure = go.Figure()
        for name, size, fvu, l0, colour, symbol in (
            ("originals", given["n_latents"], given["fvu"], given["l0"], "#777777", "circle-open"),
            ("merged", stages["n_latents"], stages["fvu"], stages["l0"], "#d55e00", "triangle-up"),
            (
                "merged, at the originals' L0",
                stages["n_latents"],
                stages["fvu_matched"],
                stages["l0_matched"],
                "#0072b2",
                "square",
            ),
        ):
            text = [f"L0 {value:.1f}" for value in l0]
            hover = "%{x:,} latents<br>FVU %{y:.4f}<br>%{text}"
            figure.add_scatter(x=size, y=fvu, name=name, text=text, mode="lines+markers", hovertemplate=hover)
            figure.data[-1].update(line_color=colour, marker={"size": 8, "symbol": symbol})
        widths = given["n_latents"].tolist()
        figure.update_layout(title="Merged SAEs beside the originals", **LAYOUT)
        figure.update_xaxes(title_text="latents", type="log", tickvals=widths, ticktext=[f"{n:,}" for n in widths])
        figure.update_yaxes(title_text="FVU")
        return figure

    def save(self, path: Path | str) -> Path:
        """Write everything to the folder `path`, atomically; the merged SAE lies in its folder `sae`."""
        arrays = {name: getattr(self, name) for name in ("source", "source_latent", "cosine")}
        meta = {"names": self.names, "saes": self.saes, "n_rows": self.n_rows, "interrupted": self.interrupted}
        meta |= {name: [_without_nan(row) for row in getattr(self, name)] for name in ("stages", "originals")}
        with atomic_folder(path) as folder:
            save_bundle(folder, KIND, {"merge": meta}, arrays)
            self.sae.save(folder / "sae")
        return Path(path)

    @classmethod
    def load(cls, path: Path | str) -> Self:
        """Read what `save` wrote."""
        from sae_lab.saes import SAE

        bundle, arrays = load_bundle(path, KIND)
        try:
            meta: dict[str, Any] = dict(bundle["merge"])
            meta |= {name: [_with_nan(row) for row in meta[name]] for name in ("stages", "originals")}
            return cls(sae=SAE.load(Path(path) / "sae"), **meta | arrays)
        except (KeyError, TypeError, AttributeError) as error:
            raise CorruptFile(f"{path} does not hold a whole merge ({error}): make it anew with merge()") from error

    def _summary(self) -> str:
        last = self.stages[-1]
        return (
            f"{self.sae.d_sae:,} latents of {len(self.saes)} SAEs, FVU {last['fvu']:.4f} at L0 {last['l0']:.1f}, "
            f"{last['fvu_matched']:.4f} at L0 {last['l0_matched']:.1f}"
        )


def _without_nan(row: dict[str, Any]) -> dict[str, Any]:
    return {key: None if isinstance(value, float) and np.isnan(value) else value for key, value in row.items()}


def _with_nan(row: dict[str, Any]) -> dict[str, Any]:
    return {key: float("nan") if value is None else value for key, value in row.items()}
