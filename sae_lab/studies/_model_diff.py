"""What two sources of a crosscoder share, and what only one of them has; with the check that it is not an artefact.

A latent whose decoder writes to one model only looks like a concept that only this model has. It need not be one:
an L1 penalty is cheaper for one decoder row than for two, so the other model's half may have been shrunk away
although the concept is there, and is then found in that model's error; or another latent may write it there, and it
is found in that model's reconstruction. So two numbers stand beside every latent, least-squares factors of the
latent's own contribution in what is left, and in what is written, of the other model.

    relative norm     (|d_B| - |d_A|) / (2 max(|d_A|, |d_B|)) + 1/2          0: first source only, 1: second only
    beta_error        argmin over b of  sum_n |e_n - b z_n d|^2
    beta_written      argmin over b of  sum_n |r_n - b z_n d|^2

`d` is the latent's row in the source where it is longer, `e` the error and `r` the reconstruction (less its bias and
less the latent's own part) of the other source. Near 0 in both the latent is exclusive; near 1 in one of them the
other model has it all the same.

Source: the relative norm is read in a public two-model replication [C]; checking exclusive latents by least-squares
scaling against the other model's error and reconstruction is the follow-up's [T]. Ours [D]: norms are compared after
each source is divided by its spread; the own part is left out of `r`; the limits of the kinds below.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch

from sae_lab._errors import BadInput, CorruptFile, Mismatch
from sae_lab._files import load_bundle, save_bundle
from sae_lab._interrupt import stop_on_interrupt
from sae_lab._progress import Progress
from sae_lab._results import Result
from sae_lab.saes import SAE, check_fits

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

    from sae_lab.activations import Activations

ONLY = 0.1  # relative norms closer than this to 0 or 1 count as one source only
SHARED = (0.3, 0.7)  # between these a latent counts as shared
FOUND = 0.5  # a beta above this says that the other source has the concept all the same
BLOCK = 2048


@dataclass(frozen=True, repr=False, eq=False)
class ModelDiff(Result):
    """How the latents of a crosscoder divide between two of its sources; arrays have one entry a latent."""

    name: str
    """Name of the crosscoder."""
    sae: str
    """Its fingerprint."""
    first: str
    """Name of the first source."""
    second: str
    """Name of the second source."""
    n_rows: int
    """Rows over which everything was measured."""
    interrupted: bool
    """Whether Ctrl-C ended the work before the last row."""
    norm_first: np.ndarray
    """(d_sae,) float64: length of the decoder row in the first source, in units of that source's spread."""
    norm_second: np.ndarray
    """(d_sae,) float64: the same in the second source."""
    density: np.ndarray
    """(d_sae,) float64: share of rows on which the latent fires."""
    beta_error: np.ndarray
    """(d_sae,) float64: share of the latent found in the error of the source where it is weaker; NaN if never active
    or if widths differ."""
    beta_written: np.ndarray
    """(d_sae,) float64: share found in what other latents write there; NaN likewise."""

    @property
    def relative_norm(self) -> np.ndarray:
        """(d_sae,): 0 where only the first source is written to, 1 where only the second is, 1/2 for both alike."""
        longest = np.maximum(self.norm_first, self.norm_second)
        return (self.norm_second - self.norm_first) / (2 * np.where(longest > 0, longest, 1.0)) + 0.5

    @property
    def frame(self) -> pd.DataFrame:
        """One row a latent.

        Columns: latent; relative_norm; norm_first; norm_second; kind (the name of a source: that one only; "shared";
        "leaning": between); beta_error; beta_written; exclusive (of one source only, with both betas below 0.5);
        density. Dead latents have kind "dead".
        """
        import pandas as pd

        relative = self.relative_norm
        kind = np.full(len(relative), "leaning", dtype=object)
        kind[(relative > SHARED[0]) & (relative < SHARED[1])] = "shared"
        kind[relative < ONLY] = self.first
        kind[relative > 1 - ONLY] = self.second
        kind[self.density == 0] = "dead"
        one_only = (kind == self.first) | (kind == self.second)
        return pd.DataFrame(
            {
                "latent": np.arange(len(relative)),
                "relative_norm": relative,
                "norm_first": self.norm_first,
                "norm_second": self.norm_second,
                "kind": kind,
                "beta_error": self.beta_error,
                "beta_written": self.beta_written,
                "exclusive": one_only & (self.beta_error < FOUND) & (self.beta_written < FOUND),
                "density": self.density,
            }
        )

    def plot(self) -> go.Figure:
        """How many latents have which relative norm, and how many of those of one source pass the check."""
        import plotly.express as px

        frame = self.frame.query("kind != 'dead'")
        of_one = frame["kind"].isin([self.first, self.second])
        frame = frame.assign(check=np.where(~of_one, "not of one source", np.where(frame["exclusive"], "yes", "no")))
        figure = px.histogram(frame, x="relative_norm", color="check", nbins=50, range_x=(0, 1))
        figure.update_layout(
            title=f"{self.name}: 0 is {self.first} only, 1 is {self.second} only",
            xaxis_title="relative decoder norm",
            yaxis_title="latents",
            legend_title="exclusive",
        )
        return figure

    def save(self, path: Path | str) -> Path:
        """Write the folder `path`; return it."""
        arrays = self._arrays()
        meta = {field.name: getattr(self, field.name) for field in fields(self) if field.name not in arrays}
        return save_bundle(path, "model diff", meta, arrays)

    @classmethod
    def load(cls, path: Path | str) -> Self:
        """Read what `save` wrote."""
        meta, arrays = load_bundle(path, "model diff")
        parts: dict[str, Any] = {**meta, **arrays}
        try:
            return cls(**{field.name: parts[field.name] for field in fields(cls)})
        except KeyError as error:
            raise CorruptFile(f"{path} lacks {error}: restore the folder, or make it anew") from error

    def _summary(self) -> str:
        kinds = self.frame["kind"].value_counts()
        counts = ", ".join(f"{kinds.get(kind, 0)} {kind}" for kind in (self.first, "shared", self.second))
        return f"{self.name}: {counts}{', interrupted' if self.interrupted else ''}"


@torch.no_grad()
def model_diff(
    sae: SAE,
    acts: Activations,
    *,
    between: Sequence[str] | None = None,
    batch_size: int = BLOCK,
    progress: bool = True,
) -> ModelDiff:
    """Say which latents of a crosscoder two of its sources share, and which only one of them has.

    Parameters
    ----------
    sae
        A crosscoder.
    acts
        Joined activations of its sources, best such as it was not trained on. All rows are used.
    between
        Names of two sources; None takes the first two.
    batch_size
        Rows at a time.
    progress
        Whether to show progress. Ctrl-C gives the result over the rows that are done.

    Raises
    ------
    BadInput
        The SAE is no crosscoder, or has no source of such a name.
    Mismatch
        The activations are not of its sources.
    """
    names, parts = _parts(sae, between)
    check_fits(sae, acts)
    widths = [source["width"] for source in sae.metadata["sources"]]
    if [source["width"] for source in acts.sources] != widths:
        raise Mismatch(f"this crosscoder was trained on sources of widths {widths}: join the same ones, in that order")
    spread = [_spread(acts, part) for part in parts]
    rows = [sae.W_dec[:, part] for part in parts]
    norms = [matrix.norm(dim=1) / size for matrix, size in zip(rows, spread, strict=True)]
    comparable = rows[0].shape == rows[1].shape
    # directions are those of the stronger source, in the units of the weaker one
    stronger = (norms[1] > norms[0]).long()
    fired = torch.zeros(sae.d_sae, dtype=torch.float64)
    sums = {name: torch.zeros(sae.d_sae, dtype=torch.float64) for name in ("error", "written", "squares")}
    done, interrupted = 0, False
    with (
        Progress(len(acts), "comparing sources", "rows", enabled=progress) as bar,
        stop_on_interrupt() as stop,
    ):
        for begin in range(0, len(acts), batch_size):
            if stop.asked:
                interrupted = True
                break
            x = acts[begin : begin + batch_size].to(sae.device)
            z = sae.encode(x)
            x_hat = sae.decode(z, x=x)
            fired += (z > 0).sum(dim=0).cpu()
            sums["squares"] += z.double().square().sum(dim=0).cpu()
            if comparable:
                for weaker in (0, 1):
                    own = torch.where(stronger == weaker, 0.0, 1.0)[:, None]
                    d = rows[1 - weaker] * (spread[weaker] / spread[1 - weaker]) * own
                    error = x[:, parts[weaker]] - x_hat[:, parts[weaker]]
                    written = x_hat[:, parts[weaker]] - sae.b_dec[parts[weaker]]
                    sums["error"] += (z * (error @ d.T)).double().sum(dim=0).cpu()
                    overlap = (rows[weaker] * d).sum(dim=1)
                    sums["written"] += (z * (written @ d.T - z * overlap)).double().sum(dim=0).cpu()
            done += len(x)
            bar.advance(len(x))
    length = torch.where(
        stronger == 1,
        (rows[1] * (spread[0] / spread[1])).square().sum(dim=1) if comparable else torch.nan,
        (rows[0] * (spread[1] / spread[0])).square().sum(dim=1) if comparable else torch.nan,
    ).double()
    scale = sums["squares"] * length.cpu()
    betas = {name: torch.where(scale > 0, sums[name] / scale, torch.nan).numpy() for name in ("error", "written")}
    return ModelDiff(
        name=sae.name,
        sae=sae.fingerprint,
        first=names[0],
        second=names[1],
        n_rows=done,
        interrupted=interrupted,
        norm_first=norms[0].double().cpu().numpy(),
        norm_second=norms[1].double().cpu().numpy(),
        density=(fired / max(done, 1)).numpy(),
        beta_error=betas["error"],
        beta_written=betas["written"],
    )


def _parts(sae: SAE, between: Sequence[str] | None) -> tuple[list[str], list[slice]]:
    """Names and columns of the two sources."""
    sources = sae.metadata.get("sources") or []
    if len(sources) < 2:
        raise BadInput(f"{sae.name} is no crosscoder: train sl.Crosscoder on sl.join({{'base': ..., 'chat': ...}})")
    ends = np.cumsum([source["width"] for source in sources])
    columns = {
        source["name"]: slice(int(end) - source["width"], int(end)) for source, end in zip(sources, ends, strict=True)
    }
    names = list(columns)[:2] if between is None else list(between)
    strange = [name for name in names if name not in columns]
    if len(names) != 2 or len(set(names)) != 2 or strange:
        raise BadInput(f"between={between!r} must name two of the sources {', '.join(map(repr, columns))}")
    return names, [columns[name] for name in names]


def _spread(acts: Activations, part: slice) -> float:
    """Root of the mean squared distance of a source's rows from their mean."""
    variance = acts.mean_squares[part].sum() - acts.mean[part].double().square().sum()
    return float(variance.clamp_min(1e-30).sqrt())
