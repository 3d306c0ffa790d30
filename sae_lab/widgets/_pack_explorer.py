"""What an explorer knows itself, as one block: which views there are, and how meta-latents hang together.

The dashboards, the map and the tree that it shows carry their own data. Beside them it needs, for each view, the
latents that "surprise me" may draw, and of meta-SAEs the sparse decomposition with labels and logits, for the
view of a meta-latent.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from sae_lab.widgets._blocks import Words, block, small

if TYPE_CHECKING:
    from sae_lab.evaluation import Profiles
    from sae_lab.studies.meta_saes import MetaTree

LABELS = 3  # top tokens that stand for a latent that has no label
LOGITS = 10  # promoted and suppressed tokens of a meta-latent, as many as profiles hold


class Logits(NamedTuple):
    """The tokens that each direction promotes and suppresses most: arrays (n, LOGITS) of token ids and logits."""

    top_ids: np.ndarray
    top: np.ndarray
    bottom_ids: np.ndarray
    bottom: np.ndarray
    vocabulary: dict[int, str]

    @classmethod
    def of(cls, profiles: Any) -> Logits:
        """Those that profiles made with a model hold."""
        ids, values = (profiles.top_logit_ids, profiles.bottom_logit_ids), (profiles.top_logits, profiles.bottom_logits)
        return cls(ids[0], values[0], ids[1], values[1], profiles.vocabulary)


def pack(
    profiles: Sequence[Profiles],
    pools: Sequence[np.ndarray],
    tree: MetaTree | None,
    logits: dict[str, Logits],
    panels: Sequence[dict[str, Any]],
) -> bytes:
    """The block of an explorer.

    `pools` holds for each profile the latents worth drawing at random, `logits` those of meta-SAEs by fingerprint,
    `panels` what stands beside the main view: kind, title and the number of the child.
    """
    words, arrays, views = Words(), {}, []
    for i, (of, pool) in enumerate(zip(profiles, pools, strict=True)):
        views.append({"sae": of.sae, "name": of.name, "size": of.d_sae, "child": i, "level": _level(tree, of.sae)})
        arrays[f"pool{i}"] = np.asarray(pool, dtype="<i4")
    levels = []
    if tree is not None:
        known = {of.sae: of for of in profiles}
        for i, level in enumerate(tree.levels):
            levels.append({"name": level.name, "sae": level.sae, "size": level.size})
            texts = _labels(level, known.get(level.sae))
            arrays[f"labels{i}"] = small(np.array([words.number(t) if t else 0 for t in texts], dtype=np.int64))
            if level.density is not None:
                arrays[f"density{i}"] = level.density.astype("<f4")
            if i and level.sae in logits:
                arrays.update(_logits(i, logits[level.sae], words))
        for i, links in enumerate(tree.links):
            arrays[f"starts{i}"] = links.indptr.astype("<u4")
            arrays[f"ids{i}"] = links.ids.astype("<i4")
            arrays[f"weights{i}"] = links.values.astype("<f4")
            meta = tree.levels[i + 1]
            members = np.bincount(links.ids, minlength=meta.size)
            arrays[f"pool{len(views)}"] = np.flatnonzero(members).astype("<i4")
            views.append({"sae": meta.sae, "name": meta.name, "size": meta.size, "child": None, "level": i + 1})
    return block({"views": views, "levels": levels, "panels": list(panels)}, arrays, words)


def logits_of(directions: Any, model: Any) -> Logits:
    """What directions (n, d_in), scaled to length 1, promote and suppress through the model's unembedding."""
    import torch

    unit = torch.nn.functional.normalize(directions.detach().float().cpu(), dim=1)
    found = [(b.topk(LOGITS), (-b).topk(LOGITS)) for b in (model.unembed(rows) for rows in unit.split(256))]
    top_ids, top = (torch.cat([getattr(t, part) for t, _ in found]).numpy() for part in ("indices", "values"))
    bottom_ids, bottom = (torch.cat([getattr(t, part) for _, t in found]).numpy() for part in ("indices", "values"))
    used = np.unique([top_ids, bottom_ids]).tolist()
    return Logits(top_ids, top, bottom_ids, -bottom, dict(zip(used, model.token_strings(used), strict=True)))


def _logits(level: int, of: Logits, words: Words) -> dict[str, np.ndarray]:
    return {
        f"top_words{level}": words.of_ids(of.top_ids, of.vocabulary),
        f"top_logits{level}": of.top.astype("<f4"),
        f"bottom_words{level}": words.of_ids(of.bottom_ids, of.vocabulary),
        f"bottom_logits{level}": of.bottom.astype("<f4"),
    }


def _level(tree: MetaTree | None, sae: str) -> int | None:
    saes = [level.sae for level in tree.levels] if tree is not None else []
    return saes.index(sae) if sae in saes else None


def _labels(level: Any, profiles: Profiles | None) -> list[str]:
    """A level's labels; where there is none, the top tokens of the profile."""
    if profiles is None or not profiles.vocabulary:
        return list(level.labels)
    found = (label or " ".join(profiles.top_tokens(i, LABELS)) for i, label in enumerate(level.labels))
    return [" ".join(label.split()) for label in found]
