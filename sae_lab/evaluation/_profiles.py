"""What is known about each latent of one SAE: the noun that `profile` returns.

All numbers are plain arrays with one row a latent, so that a page, a notebook and a file hold the same
thing, and reading one latent never needs the model. Only `prompt` and `source` are live; they are
not saved.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from sae_lab._errors import BadInput, CorruptFile
from sae_lab._files import load_bundle, save_bundle
from sae_lab._results import Result

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

    from sae_lab.saes import SAE

Prompt = Callable[[str, int], tuple[list[str], np.ndarray]]
LIVE = ("prompt", "source")  # what is not saved


@dataclass(frozen=True, repr=False, eq=False)
class Profiles(Result):
    """One profile a latent: how often it fires, where it fires most, what it writes, what it goes with.

    Arrays are read-only. The slots of `example_*` are the same for all latents: slot e belongs to the
    group `group_names[example_group[e]]`; group 0 is "top", the others are intervals of activation from
    high to low. A slot that a latent could not fill has `example_row` -1.
    """

    name: str
    """Name of the SAE."""
    model: str | None
    """Identity of the model whose activations were read; None for a bare array."""
    site: str | None
    """Site the activations came from; None for a bare array."""
    d_sae: int
    """Number of latents."""
    d_in: int
    """Width of the activations."""
    n_rows: int
    """Rows that were read; all densities and counts are over these."""
    window: tuple[int, int]
    """Tokens shown before and after the peak of an example."""
    density: np.ndarray
    """(d_sae,) float32: share of the rows on which the latent is positive."""
    max_activation: np.ndarray
    """(d_sae,) float32: largest activation, in units of the model's activations; 0 for a silent latent."""
    mean_activation: np.ndarray
    """(d_sae,) float32: mean over the rows where the latent is positive; 0 for a silent latent."""
    histogram: np.ndarray
    """(d_sae, bins) int32: how many positive activations lie in each of the equal bins from 0 to the maximum."""
    group_names: list[str]
    """Name of each group of examples, "top" first."""
    example_group: np.ndarray
    """(E,) int32: the group that each example slot belongs to."""
    example_row: np.ndarray
    """(d_sae, E) int64: the row of the activations at the peak; -1 in an empty slot."""
    example_tokens: np.ndarray
    """(d_sae, E, before + 1 + after) int32 token ids, the peak at index `before`; -1 outside the sequence."""
    example_values: np.ndarray
    """Activation at each of those tokens, float16 (float32 where that would not do); NaN where no row is stored."""
    example_document: np.ndarray
    """(d_sae, E) int32: document of the peak; -1 where unknown."""
    example_position: np.ndarray
    """(d_sae, E) int32: position of the peak in its sequence; -1 where unknown."""
    neighbour_ids: np.ndarray
    """(d_sae, 8) int32: latents with the most similar decoder direction, best first; -1 in an empty slot."""
    neighbour_cosines: np.ndarray
    """(d_sae, 8) float32: cosine of the two decoder directions."""
    coactive_ids: np.ndarray
    """(d_sae, 8) int32: latents that fire on the same rows, best first; -1 in an empty slot."""
    coactive_scores: np.ndarray
    """(d_sae, 8) float32: Jaccard index: rows where both fire / rows where either fires."""
    vocabulary: dict[int, str]
    """Display string of every token id used here."""
    top_logit_ids: np.ndarray | None = None
    """(d_sae, 10) int32: tokens that the decoder direction promotes most; None without a model."""
    top_logits: np.ndarray | None = None
    """(d_sae, 10) float32: their logits for a direction of length 1."""
    bottom_logit_ids: np.ndarray | None = None
    """(d_sae, 10) int32: tokens that the direction suppresses most, strongest first."""
    bottom_logits: np.ndarray | None = None
    """(d_sae, 10) float32: their logits."""
    metadata: dict[str, Any] = field(default_factory=dict)
    """How the profiles were made: of the SAE, of the activations, seed, and whether the pass was interrupted."""
    prompt: Prompt | None = None
    """`prompt(text, latent)` gives the text's token strings and the latent's activation on each, NaN on
    positions that the SAE was not meant for. None without a model; not saved."""
    source: SAE | None = None
    """The SAE itself, for what needs its weights, such as a map of its latents; not saved, None after loading."""

    def _summary(self) -> str:
        silent = int((self.max_activation == 0).sum())
        where = f", {self.site}" if self.site else ""
        return f"{self.name}{where}: {self.d_sae:,} latents over {self.n_rows:,} rows, {silent:,} silent"

    @property
    def sae(self) -> str:
        """The fingerprint of the SAE these profiles are of; its name, should they come from an earlier version."""
        return str(self.metadata.get("fingerprint") or self.name)

    @property
    def frame(self) -> pd.DataFrame:
        """One row a latent, for sorting and reading.

        Columns: latent, density, max_activation, mean_activation, top_tokens, promoted, suppressed, neighbour,
        neighbour_cosine. Those that need tokens or a model are absent without them.
        """
        from sae_lab.evaluation._tables import latent_table

        return latent_table(self)

    def examples(self, latent: int) -> pd.DataFrame:
        """The examples of one latent, best first: group, value, text (the peak in «»), document, position, row."""
        from sae_lab.evaluation._tables import example_table

        return example_table(self, self.check_latent(latent))

    def find(self, token: str, *, exact: bool = False) -> pd.DataFrame:
        """The latents whose top examples peak on `token`, surest first.

        Parameters
        ----------
        token
            A token's display string, such as " week".
        exact
            True compares strings as they are; False (default) ignores case and surrounding spaces.

        Returns
        -------
        DataFrame
            latent, share (of its top examples that peak on the token), examples (how many), max_activation, density.
        """
        from sae_lab.evaluation._tables import find_table

        return find_table(self, token, exact)

    def top_tokens(self, latent: int, n: int = 3) -> list[str]:
        """The tokens on which the latent's top examples peak: most frequent first, then strongest first."""
        top = self.example_row[self.check_latent(latent)][self.example_group == 0] >= 0
        ids = self.example_tokens[latent, self.example_group == 0, self.window[0]][top]
        # Counter keeps the order of arrival for equal counts, and examples come strongest first
        counts = Counter(self.vocabulary[int(i)] for i in ids if i >= 0)
        return [token for token, _ in counts.most_common(n)]

    def check_latent(self, latent: int) -> int:
        """`latent` as an int, or a clear error when there is no such latent."""
        if not 0 <= latent < self.d_sae or int(latent) != latent:
            raise BadInput(f"there is no latent {latent}: {self.name} has latents 0 to {self.d_sae - 1}")
        return int(latent)

    def plot(self) -> go.Figure:
        """Histogram of log10 density over the latents that fire; silent ones are counted in the title."""
        from sae_lab.evaluation._tables import density_figure

        return density_figure(self)

    def save(self, path: Path | str) -> Path:
        """Write everything but `prompt` and `source` to the folder `path`, atomically; return the path."""
        arrays = self._arrays()
        meta = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in (*arrays, *LIVE)}
        meta["vocabulary"] = {str(i): text for i, text in self.vocabulary.items()}
        return save_bundle(path, "Profiles", {"profiles": meta}, arrays)

    def to_neuronpedia(self, path: Path | str, **options: Any) -> Path:
        """Write feature records in the layout that Neuronpedia takes, atomically; return the folder.

        Parameters
        ----------
        path
            A new folder: it gets `batch-<n>.json`, `neighbours-<n>.json` and `run_settings.json`.
        options
            `latents`: which ones; None (default) for all. `batch_size`: records in a file, 128. `model_id`, `layer`,
            `sae_set`, `sae_id_suffix`: what Neuronpedia calls them; None takes model, site and name from here.

        Raises
        ------
        BadInput
            There are no tokens or no layer in these profiles, or `path` is a folder of something else.
        """
        from sae_lab.evaluation._neuronpedia import write_neuronpedia

        return write_neuronpedia(self, path, **options)

    @classmethod
    def load(cls, path: Path | str) -> Self:
        """Read what `save` wrote; `prompt` and `source` are None: they need the model and the SAE."""
        bundle, arrays = load_bundle(path, "Profiles")
        meta: dict[str, Any] = {**bundle.get("profiles", {}), **arrays}
        try:
            meta["vocabulary"] = {int(i): text for i, text in meta["vocabulary"].items()}
            meta["window"] = tuple(meta["window"])
            return cls(**meta)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            message = f"{path} does not hold whole profiles ({error}): make them anew with profile()"
            raise CorruptFile(message) from error
