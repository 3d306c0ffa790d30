"""A tree of meta-latents as one compressed block of bytes: all levels and all links, not only the branches drawn.

A sparse decomposition is a few numbers a latent, so a page can hold the whole of it and needs no kernel to open a
branch, to search, or to start from another latent.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from sae_lab.widgets import _blocks

if TYPE_CHECKING:
    from sae_lab.evaluation import Profiles
    from sae_lab.studies.meta_saes import Level, MetaTree
    from sae_lab.studies.meta_saes._links import Links

LABELS = 3  # top tokens of a latent whose profile is known
MEMBERS = 5  # whose tokens name a meta-latent that has no label
LOGITS = 8  # tokens that a latent promotes most


def pack(tree: MetaTree, profiles: Sequence[Profiles | None]) -> bytes:
    """All that the widget shows of `tree`, with the profiles of those levels that have one, as one block."""
    words = _blocks.Words()
    arrays: dict[str, np.ndarray] = {}
    levels: list[dict[str, Any]] = []
    for number, (level, known) in enumerate(zip(tree.levels, profiles, strict=True)):
        # what members have in common says more of a meta-latent than tokens; of a latent, its tokens are the label
        bare = not any(level.labels)
        tokens = known is not None and bool(known.vocabulary) and (number == 0 or bare)
        if bare and number and not tokens and levels[-1]["tokens"]:
            arrays[f"label{number}"] = _shared(arrays[f"label{number - 1}"], tree.links[number - 1], level.size)
            tokens = True
        else:
            arrays[f"label{number}"] = _labels(level, known if tokens else None, words)
        levels.append({"name": level.name, "sae": level.sae, "size": level.size, "tokens": tokens})
        density = known.density if known is not None else level.density
        if density is not None and number == 0:  # those above are counted in the page
            arrays["density0"] = np.asarray(density, dtype="<f4")
        if level.cosine is not None:
            arrays[f"cosine{number}"] = np.asarray(level.cosine, dtype="<f4")
        if known is not None and known.top_logit_ids is not None and known.top_logits is not None:
            arrays[f"logit_words{number}"] = words.of_ids(known.top_logit_ids[:, :LOGITS], known.vocabulary)
            arrays[f"logits{number}"] = known.top_logits[:, :LOGITS].astype("<f4")
    for number, links in enumerate(tree.links):
        arrays[f"indptr{number}"] = links.indptr.astype("<i4")
        arrays[f"ids{number}"] = _blocks.small(links.ids)
        arrays[f"values{number}"] = links.values.astype("<f4")
    header: dict[str, Any] = {"levels": levels, "note": note(tree)}
    return _blocks.block(header, arrays, words)


def note(tree: MetaTree) -> str:
    """One line: which SAEs, and how many latents each has."""
    kinds = ["latents", "meta-latents", *(f"meta-latents of level {i}" for i in range(2, len(tree.levels)))]
    return " → ".join(f"{level.name}: {level.size:,} {kind}" for level, kind in zip(tree.levels, kinds, strict=True))


def _labels(level: Level, known: Profiles | None, words: _blocks.Words) -> np.ndarray:
    """(size, LABELS) numbers of the tokens of each latent, or (size, 1) of its one text; 0 where there is none."""
    if known is None:
        return _blocks.small(np.array([[words.number(text) if text else 0] for text in level.labels], dtype=np.int64))
    labels = np.zeros((level.size, LABELS), dtype=np.int64)
    for latent in range(level.size):
        shown = [words.number(text) for text in known.top_tokens(latent, LABELS)]
        labels[latent, : len(shown)] = shown
    return _blocks.small(labels)


def _shared(labels: np.ndarray, links: Links, size: int) -> np.ndarray:
    """(size, LABELS) tokens on which the strongest members of each latent agree; 0 where there are fewer."""
    out = np.zeros((size, LABELS), dtype=labels.dtype)
    members = links.turned(size)
    for latent in range(size):
        score: dict[int, float] = {}
        for member, weight in list(zip(*members.of(latent), strict=True))[:MEMBERS]:
            for place, word in enumerate(labels[member].tolist()):
                score[word] = score.get(word, 0.0) + float(weight) / (1 + place)  # a first token says more than a third
        score.pop(0, None)
        best = sorted(score, key=lambda word: -score[word])[:LABELS]
        out[latent, : len(best)] = best
    return out
