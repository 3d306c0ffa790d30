"""Latent caches: which latent fires where, and how strongly, in the files that delphi keeps for auto-interpretation.

A cache is a folder named after a module, with `<first>_<last>.safetensors` for runs of latents. Each holds `locations`
(nnz, 3), whole numbers of (sequence, position, latent - first), `activations` (nnz,), and `tokens`, (sequences,
context), the same in all; `config.json` says which model and data. It is what a pass of the SAE leaves of the rows:
enough for profiles without model and SAE. The layout was read in delphi 0.1.3's public code.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch

from sae_lab._errors import BadInput
from sae_lab._interrupt import stop_on_interrupt
from sae_lab._progress import Progress
from sae_lab._results import Result
from sae_lab.evaluation._inputs import check_counts, check_inputs, has_tokens, row_blocks

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

    from sae_lab.activations import Activations
    from sae_lab.evaluation._profiles import Profiles
    from sae_lab.models import Model
    from sae_lab.saes import SAE


@dataclass(frozen=True, repr=False, eq=False)
class LatentCache(Result):
    """Where the latents of one SAE fire: one entry an activation. Arrays are read-only.

    Sequences stand side by side as a rectangle of tokens; shorter ones end where `lengths` says.
    """

    module: str
    """Name of the module or site that the SAE reads."""
    d_sae: int
    """Number of latents."""
    sequences: np.ndarray
    """(nnz,) int32: the sequence of each activation."""
    positions: np.ndarray
    """(nnz,) int32: its position in the sequence."""
    latents: np.ndarray
    """(nnz,) int32: its latent."""
    activations: np.ndarray
    """(nnz,) float32: its strength, in units of the SAE."""
    shape: tuple[int, int]
    """Sequences, and positions in the longest of them."""
    tokens: np.ndarray | None = None
    """(sequences, positions) int32 token ids; None where the files hold none."""
    lengths: np.ndarray | None = None
    """(sequences,) int32: positions of each sequence that were read; None: all."""
    metadata: dict[str, Any] = field(default_factory=dict)
    """Model, data and how it was made; from delphi, its config.json."""

    def _summary(self) -> str:
        silent = self.d_sae - len(np.unique(self.latents))
        return (
            f"{self.module}: {len(self.activations):,} activations of {self.d_sae:,} latents ({silent:,} silent) "
            f"on {self.n_rows:,} tokens"
        )

    @property
    def n_rows(self) -> int:
        """Tokens that were read; all densities are over these."""
        return int(self.lengths.sum()) if self.lengths is not None else self.shape[0] * self.shape[1]

    @property
    def frame(self) -> pd.DataFrame:
        """One row a latent: latent, density, max_activation, mean_activation, as in `Profiles.frame`."""
        import pandas as pd

        positive = self.activations > 0
        latents, values = self.latents[positive], self.activations[positive]
        count = np.bincount(latents, minlength=self.d_sae)
        largest = np.zeros(self.d_sae, np.float32)
        np.maximum.at(largest, latents, values)
        total = np.bincount(latents, weights=values, minlength=self.d_sae)
        return pd.DataFrame(
            {
                "latent": np.arange(self.d_sae),
                "density": (count / max(self.n_rows, 1)).astype(np.float32),
                "max_activation": largest,
                "mean_activation": (total / np.maximum(count, 1)).astype(np.float32),
            }
        )

    def of(self, latent: int) -> pd.DataFrame:
        """All activations of one latent, strongest first: sequence, position, activation, and token where known."""
        import pandas as pd

        if not 0 <= latent < self.d_sae or int(latent) != latent:
            raise BadInput(f"there is no latent {latent}: {self.module} has latents 0 to {self.d_sae - 1}")
        chosen = np.flatnonzero(self.latents == latent)
        chosen = chosen[np.argsort(-self.activations[chosen], kind="stable")]
        where = self.sequences[chosen], self.positions[chosen]
        columns = {"sequence": where[0], "position": where[1], "activation": self.activations[chosen]}
        if self.tokens is not None:
            columns["token"] = self.tokens[where]
        return pd.DataFrame(columns)

    def plot(self) -> go.Figure:
        """Histogram of log10 density over the latents that fire."""
        import plotly.graph_objects as go

        density = self.frame["density"].to_numpy()
        figure = go.Figure(go.Histogram(x=np.log10(density[density > 0]), nbinsx=60, name="latents"))
        title = f"{self.module}: density of {int((density > 0).sum()):,} latents on {self.n_rows:,} tokens"
        return figure.update_layout(title=title, xaxis_title="log10 density", yaxis_title="latents", bargap=0.02)

    def profiles(self, sae: SAE | None = None, model: Model | None = None, **options: Any) -> Profiles:
        """Profiles of the latents from the cache alone; `sae` adds neighbours, `model` strings and promoted tokens.

        Parameters
        ----------
        sae
            The SAE that the cache is of; without it there are no neighbours by decoder direction.
        model
            The model: token ids get their strings, and with `sae` the tokens that a direction promotes.
        options
            top, quantile_groups, per_group, before, after, bins, seed and progress, as in `profile`.

        Returns
        -------
        Profiles
            As `profile` gives it, with two differences: rows are all positions of the cache, those that a harvest
            leaves out included, and negative activations (which delphi keeps) do not count.
        """
        from sae_lab.evaluation._cache_profiles import cache_profiles

        return cache_profiles(self, sae, model, **options)

    def save(self, path: Path | str, *, splits: int = 5, tokens: bool = True) -> Path:
        """Write the folder `path` in delphi's layout, atomically; return the path.

        Parameters
        ----------
        splits
            Number of files that the latents are divided over.
        tokens
            Whether each file carries the tokens.

        Raises
        ------
        BadInput
            `splits` cannot be used, or `path` is a file or a folder of something else.
        """
        from sae_lab.evaluation._delphi_files import write_cache

        return write_cache(self, Path(path), splits, tokens)

    @classmethod
    def load(cls, path: Path | str, *, module: str | None = None) -> Self:
        """Read a cache that `save` or delphi wrote.

        Parameters
        ----------
        path
            The folder of a module, or the folder above it.
        module
            Which module, where `path` holds several.

        Raises
        ------
        BadInput
            There is no cache at `path`, or several and none is named.
        CorruptFile
            A file is damaged, or a key is missing, of another shape, not finite or out of range.
        """
        from sae_lab.evaluation._delphi_files import read_cache

        return cls(**read_cache(Path(path), module))


def latent_cache(
    sae: SAE,
    acts: Activations,
    *,
    batch_rows: int = 4096,
    progress: bool = True,
) -> LatentCache:
    """Keep of a pass over all rows what the latents do, and nothing of the rows.

    Parameters
    ----------
    sae
        The SAE.
    acts
        Activations with tokens, of whole sequences (not a view that leaves rows out).
    batch_rows
        Rows through the SAE at a time.
    progress
        Whether to show progress. Ctrl-C gives the cache of the sequences read so far.

    Returns
    -------
    LatentCache
        In memory 16 bytes an activation; `save` writes it in delphi's layout.

    Raises
    ------
    Mismatch
        SAE and activations do not belong together.
    BadInput
        The rows carry no tokens.
    """
    check_counts(1, batch_rows=batch_rows)
    acts = check_inputs(sae, acts, None)
    if not has_tokens(acts):
        raise BadInput("these rows carry no tokens, and a cache is of tokens: harvest them from text")
    sequences, positions = acts.sequences, acts.positions
    kept, found = np.unique(sequences, return_inverse=True)
    parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    read = len(acts)
    with Progress(len(acts), "caching latents", "rows", enabled=progress) as bar, stop_on_interrupt() as stop:
        for start, x in row_blocks(acts, batch_rows, sae.device):
            with torch.no_grad():
                values, indices = sae.encode_sparse(x)
            active = values > 0
            rows = start + active.nonzero()[:, 0].cpu().numpy()
            parts.append((rows, indices[active].cpu().numpy(), values[active].float().cpu().numpy()))
            bar.advance(len(x))
            if stop.asked and start + len(x) < len(acts):
                read = start + len(x)
                break
    rows, latents, strengths = (np.concatenate(column) for column in zip(*parts, strict=True))
    whole = len(kept) if read == len(acts) else int(found[read])  # sequences of which every row was read
    texts = [acts.sequence_tokens(int(i)) for i in kept[:whole]]
    lengths = np.array([len(text) for text in texts], np.int32)
    tokens = np.zeros((whole, int(lengths.max(initial=0))), np.int32)
    for row, text in zip(tokens, texts, strict=True):
        row[: len(text)] = text
    inside = found[rows] < whole
    about = {"model": acts.model, "site": acts.site, "fingerprint": sae.fingerprint, "interrupted": read < len(acts)}
    corpus = {key: acts.metadata[key] for key in ("corpus", "context_length", "skip_first") if key in acts.metadata}
    return LatentCache(
        module=str(acts.site or sae.name),
        d_sae=sae.d_sae,
        sequences=found[rows][inside].astype(np.int32),
        positions=positions[rows][inside].astype(np.int32),
        latents=latents[inside].astype(np.int32),
        activations=strengths[inside].astype(np.float32),
        shape=(whole, tokens.shape[1]),
        tokens=tokens,
        lengths=lengths,
        metadata=about | corpus,
    )
