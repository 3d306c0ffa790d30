"""The noun that `stitch_chain` returns: a family of SAEs of growing width, stitched one into the next.

Each step says how much of the wider SAE is new; the links between the steps say which latent goes on as which,
and which splits into several. A link is a cosine of decoder directions, not proof of descent: the SAEs were
trained apart.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np

from sae_lab._errors import BadInput, CorruptFile
from sae_lab._files import atomic_folder, load_bundle, save_bundle
from sae_lab._results import Result

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

    from sae_lab.studies.stitching._stitching import Stitching

KIND = "StitchChain"
LINKS = {"step": np.int32, "small_latent": np.int32, "large_latent": np.int32, "cosine": np.float32, "kind": object}
CONTROLS = ("step", "role", "width", "name", "twin", "threshold", "novel_share", "low", "high", "n_dead")


@dataclass(frozen=True, repr=False, eq=False)
class StitchChain(Result):
    """SAEs of growing width, each stitched into the next.

    SAEs are numbered by their place from 0, narrowest first; step s leads from place s to place s + 1.
    """

    names: list[str]
    """Name of each SAE, narrowest first."""
    saes: list[str]
    """Fingerprint of each."""
    widths: list[int]
    """Latents of each."""
    stitchings: list[Stitching]
    """The `Stitching` of each step: one fewer than SAEs."""
    densities: list[np.ndarray]
    """For each SAE (d_sae,) float32: share of the rows on which each latent is active; 0 for a dead one."""
    links: pd.DataFrame
    """Which latent goes on as which: step, small_latent, large_latent, cosine, kind; by step, then large_latent.

    Kind "partner": the small latent nearest to a live large latent, where the cosine reaches the step's threshold;
    a large latent has at most one, a small latent may be the partner of many. Kind "shared": the large latent
    nearest to a live small latent that is nobody's partner, where the cosine reaches the threshold; this large
    latent has a nearer partner, so two small latents meet in it.
    """
    controls: pd.DataFrame
    """What a mere change of seed would give: step, role ("small" or "large": which SAE of the step the twin stands
    beside), width, name, twin (fingerprint), threshold (the step's), novel_share (of the twin's live latents), low,
    high, n_dead. Without twins it is empty."""
    interrupted: bool = False
    """Whether Ctrl-C ended it before the last step; the SAEs after that are then left out."""

    def __post_init__(self) -> None:
        frozen = [density.view() for density in self.densities]
        for density in frozen:
            density.flags.writeable = False
        object.__setattr__(self, "densities", frozen)

    @property
    def frame(self) -> pd.DataFrame:
        """One row a step: what the wider SAE adds, beside what another seed of the narrower one would.

        Columns: step, small, large, d_small, d_large, threshold, novel_share (of the large SAE's live latents, by
        cosine), low, high (95 %, latents taken as a sample), control_share, control_low, control_high (the same for
        a twin of the small SAE, at the same threshold), control_large_share (for a twin of the large SAE), NaN
        without a twin; novel_share_by_gain, auc, split (small latents that are the partner of two or more), ended
        (live small latents that no latent of the large SAE resembles), n_dead_small, n_dead_large.
        """
        from sae_lab.studies.stitching._chain_tables import steps_table

        return steps_table(self)

    def lineage(self, width: int | str, latent: int) -> pd.DataFrame:
        """Where a latent comes from and what it turns into.

        Parameters
        ----------
        width
            The SAE: its number of latents, or its name or fingerprint where two are equally wide.
        latent
            Number of the latent in that SAE.

        Returns
        -------
        DataFrame
            One row a latent, narrowest first: step (0 for the latent asked for, negative towards narrower SAEs,
            positive towards wider ones), width, sae (name), latent, via (the latent, one step nearer to the one asked
            for, that it is linked to), cosine and link (kind of that link), kind ("novel", "reconstruction",
            "undecided", "dead" by the gain on insertion; "" in the first SAE), density.
        """
        from sae_lab.studies.stitching._chain_tables import lineage_table

        return lineage_table(self, self.place(width), latent)

    def place(self, width: int | str) -> int:
        """The place of an SAE, by its number of latents, its name or its fingerprint."""
        found = [p for p, known in enumerate(zip(self.widths, self.names, self.saes, strict=True)) if width in known]
        if len(found) == 1:
            return found[0]
        if found:
            raise BadInput(
                f"{width!r} could be any of {len(found)} SAEs: name one by its fingerprint, {', '.join(self.saes)}"
            )
        raise BadInput(f"no SAE {width!r} in this chain: it has widths {', '.join(map(str, self.widths))}")

    def plot(self) -> go.Figure:
        """Novel share of each step with its interval, beside the same for two seeds of the narrower width."""
        from sae_lab.studies.stitching._chain_tables import steps_figure

        return steps_figure(self)

    def save(self, path: Path | str) -> Path:
        """Write everything to the folder `path`, atomically; return the path."""
        arrays = {f"density.{p}": density for p, density in enumerate(self.densities)}
        arrays |= {f"links.{name}": self.links[name].to_numpy(kind) for name, kind in LINKS.items() if name != "kind"}
        arrays["links.shared"] = (self.links["kind"] == "shared").to_numpy()
        controls = self.controls.astype(object).where(self.controls.notna(), None).to_dict("records")
        meta = {"names": self.names, "saes": self.saes, "widths": self.widths, "interrupted": self.interrupted}
        with atomic_folder(path) as folder:
            save_bundle(folder, KIND, {**meta, "controls": controls}, arrays)
            for step, stitching in enumerate(self.stitchings):
                stitching.save(folder / f"step-{step}")
        return Path(path)

    @classmethod
    def load(cls, path: Path | str) -> Self:
        """Read what `save` wrote."""
        import pandas as pd

        from sae_lab.studies.stitching._stitching import Stitching

        meta, arrays = load_bundle(path, KIND)
        try:
            columns = {name: arrays[f"links.{name}"] for name in LINKS if name != "kind"}
            kind = np.where(arrays["links.shared"], "shared", "partner")
            return cls(
                names=list(meta["names"]),
                saes=list(meta["saes"]),
                widths=list(meta["widths"]),
                stitchings=[Stitching.load(Path(path) / f"step-{s}") for s in range(len(meta["saes"]) - 1)],
                densities=[arrays[f"density.{p}"] for p in range(len(meta["saes"]))],
                links=pd.DataFrame({**columns, "kind": kind}),
                controls=pd.DataFrame(meta["controls"], columns=list(CONTROLS)),
                interrupted=bool(meta["interrupted"]),
            )
        except (KeyError, TypeError) as error:
            raise CorruptFile(
                f"{path} does not hold a whole chain ({error}): make it anew with stitch_chain()"
            ) from error

    def _summary(self) -> str:
        shares = ", ".join(f"{share:.0%}" for share in self.frame["novel_share"])
        return f"{' → '.join(f'{width:,}' for width in self.widths)} latents, novel {shares}"
