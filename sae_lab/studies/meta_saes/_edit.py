"""`Edit`: a decoder row with some meta-latents taken out and others put in, and what the model makes of it.

A latent of "Paris" carries France, French, Europe at once. The paper's claim [T] is that its meta-latents allow
finer edits than the whole latent: exchange one part, leave the others. As in the authors' code [C], the parts of
the row are removed and added, the row is scaled and brought back to its length, and written into the SAE. Ours:
the scale multiplies the change, and the model sees only what the edit changes, x + z (d' - d) at the site, so
that the SAE's reconstruction error stays out of the comparison.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from sae_lab._errors import BadInput
from sae_lab._results import Result
from sae_lab.saes import SAE

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

    from sae_lab.models import Model
    from sae_lab.studies.meta_saes._result import MetaSAE


@dataclass(frozen=True, repr=False, eq=False)
class Edit(Result):
    """One rewritten decoder row. Arrays are read-only."""

    of: MetaSAE
    """The meta-SAE that the parts come from."""
    latent: int
    """The base latent whose row was rewritten."""
    removed: dict[int, float]
    """Meta-latents taken out, with the weight they had."""
    added: dict[int, float]
    """Meta-latents put in, with their weight."""
    scale: float
    """Factor on the whole change."""
    old: np.ndarray
    """(d_in,) float32: the row as it was."""
    new: np.ndarray
    """(d_in,) float32: the row as it is now."""

    @property
    def cosine(self) -> float:
        """Cosine of the new row with the old one."""
        lengths = float(np.linalg.norm(self.old) * np.linalg.norm(self.new))
        return float(self.old @ self.new) / max(lengths, 1e-30)

    @property
    def sae(self) -> SAE:
        """The base SAE with the new row in its decoder: an ordinary SAE to save, evaluate or profile."""
        base = self.of.base
        W_dec = base.W_dec.detach().clone()
        W_dec[self.latent] = torch.from_numpy(self.new.copy()).to(W_dec)
        facts: dict[str, Any] = {"gate": base.gate, "k": base.k, "center": base.center, "config": base.config}
        facts |= {"architecture": base.architecture, "threshold": base.threshold}
        name = f"{base.name}, latent {self.latent} edited"
        metadata = {**base.metadata, "name": name, "edited_from": base.fingerprint}
        return SAE(base.W_enc, W_dec, base.b_enc, base.b_dec, metadata=metadata, **facts)

    @property
    def frame(self) -> pd.DataFrame:
        """One row a meta-latent of the old or the new row: meta, label, before, after (weights), change."""
        import pandas as pd

        before, after = self._weights(self.old), self._weights(self.new)
        metas = sorted({*before, *after, *self.removed, *self.added}, key=lambda i: (-before.get(i, 0.0), i))
        done = {**dict.fromkeys(self.removed, "removed"), **dict.fromkeys(self.added, "added")}
        rows = [(i, self.of.labels[i], before.get(i, 0.0), after.get(i, 0.0), done.get(i, "")) for i in metas]
        return pd.DataFrame(rows, columns=["meta", "label", "before", "after", "change"])

    def answer(
        self,
        model: Model,
        prompt: str,
        options: Sequence[str],
        *,
        site: str | None = None,
        strength: float = 1.0,
        skip_first: int = 1,
    ) -> pd.DataFrame:
        """What the model answers to a prompt before and after the edit.

        Parameters
        ----------
        model
            The model that the base SAE belongs to.
        prompt
            A text that the answer continues, such as "The city of Paris is in the country of".
        options
            Possible answers, with their leading space: [" France", " Japan"].
        site
            Where the SAE reads; by default the site in its metadata.
        strength
            Factor on the latent's activation: more than 1 writes the change larger than the latent writes itself.
        skip_first
            First positions that stay as they are (attention sinks).

        Returns
        -------
        DataFrame
            option, before, after (log-probability of the whole option, in nats), change, share_before, share_after
            (probability among the options). Its attrs say on how many of the prompt's tokens the latent is active,
            its largest activation, and the best option before and after. With an inactive latent nothing changes.
        """
        from sae_lab.studies.meta_saes._answers import answers

        if self.of.below is not None:
            raise BadInput("the model knows the rows of the lowest base only: edit a latent of the first meta-SAE")
        change = torch.from_numpy(self.new - self.old)
        return answers(self.of.base, self.latent, change, model, prompt, options, site, strength, skip_first)

    def plot(self) -> go.Figure:
        """Weights of the meta-latents in the old and in the new row."""
        import plotly.graph_objects as go

        table = self.frame
        names = [f"{meta} {label}".strip() for meta, label in zip(table["meta"], table["label"], strict=True)]
        figure = go.Figure()
        for column, colour in (("before", "#9aa3ad"), ("after", "#3b6ea8")):
            figure.add_bar(x=names, y=table[column], name=column, marker_color=colour)
        figure.update_layout(title=repr(self)[len("Edit(") : -1], yaxis_title="weight in the decoder row")
        return figure

    def _weights(self, row: np.ndarray) -> dict[int, float]:
        """The meta-SAE's decomposition of any row."""
        unit = torch.nn.functional.normalize(torch.from_numpy(row.copy())[None], dim=1)
        values, ids = self.of.sae.encode_sparse(unit)
        return {int(i): float(v) for v, i in zip(values[0], ids[0], strict=True) if v > 0}

    def _summary(self) -> str:
        label = self.of.base_labels[self.latent]
        return (
            f"latent {self.latent}{f' ({label})' if label else ''} of {self.of.base_name}: {len(self.removed)} "
            f"meta-latents out, {len(self.added)} in, cosine to the old row {self.cosine:.2f}"
        )


def make_edit(
    result: MetaSAE,
    latent: int,
    remove: Sequence[int],
    add: Sequence[int] | Mapping[int, float],
    like: int | None,
    scale: float,
    normalise: bool,
) -> Edit:
    """Check the wishes and rewrite the row; see `MetaSAE.edit`."""
    if not result.used[latent]:
        raise BadInput(f"latent {latent} was left out of the meta-SAE (a row of length 0, or silent): it has no parts")
    if not np.isfinite(scale):
        raise BadInput(f"scale must be a finite number, not {scale!r}")
    own = _parts(result, latent)
    wanted = [result.check_meta(i) for i in remove]
    missing = [i for i in wanted if i not in own]
    if missing:
        has = ", ".join(map(str, own)) or "none"
        raise BadInput(f"meta-latent {missing[0]} is not in latent {latent}, so it cannot be removed; it has {has}")
    removed = {i: own[i] for i in wanted}
    added = _added(result, add, like)
    if not removed and not added:
        raise BadInput("nothing to change: name meta-latents to remove or to add (see .decompose(latent))")
    directions = result.sae.W_dec.detach().cpu()
    old = result.base.W_dec.detach().cpu()[latent]
    change = sum(
        (sign * weight * directions[i] for sign, parts in ((-1, removed), (1, added)) for i, weight in parts.items()),
        start=torch.zeros_like(old),
    )
    length = old.norm()
    new = old / length + scale * change  # weights belong to rows of length 1
    if normalise:
        if not new.norm() > 1e-6:
            raise BadInput("nothing is left of the row: remove fewer meta-latents, or lower the scale")
        new = new / new.norm()
    return Edit(result, latent, removed, added, float(scale), old.numpy().copy(), (new * length).numpy())


def _parts(result: MetaSAE, latent: int) -> dict[int, float]:
    ids, weights = result.links.of(latent)
    return {int(i): float(w) for i, w in zip(ids, weights, strict=True)}


def _added(result: MetaSAE, add: Sequence[int] | Mapping[int, float], like: int | None) -> dict[int, float]:
    if isinstance(add, Mapping):
        if like is not None:
            raise BadInput("give add as a list with like=, or as {meta: weight} without it")
        return {result.check_meta(i): float(weight) for i, weight in add.items()}
    metas = [result.check_meta(i) for i in add]
    if like is not None:
        theirs = _parts(result, result.check_latent(like))
        absent = [i for i in metas if i not in theirs]
        if absent:
            raise BadInput(
                f"meta-latent {absent[0]} is not in latent {like}: choose from {', '.join(map(str, theirs))}"
            )
        return {i: theirs[i] for i in metas}
    found = {}
    for i in metas:
        weights = result.links.values[result.links.ids == i]
        if not len(weights):
            raise BadInput(f"meta-latent {i} is dead, so no weight is known for it: give one, add={{{i}: 0.5}}")
        found[i] = float(weights.mean())
    return found
