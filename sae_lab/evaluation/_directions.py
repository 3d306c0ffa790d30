"""What decoder directions alone tell: which point the same way, and which tokens they promote.

Both are products of all directions with something wide (each other, the vocabulary), made for a block of
latents at a time, so that (d_sae, d_sae) and (d_sae, vocab) never exist.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from sae_lab.saes import nearest

if TYPE_CHECKING:
    from sae_lab.models import Model

LOGITS_AT_ONCE = 2**25  # elements of (latents, vocab): 128 MB


def nearest_directions(W_dec: torch.Tensor, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Most similar directions, best first: (d_sae, count) ids int32 and cosines float32; -1 and 0 where too few."""
    ids = np.full((len(W_dec), count), -1, np.int32)
    cosines = np.zeros((len(W_dec), count), np.float32)
    values, partners = nearest(W_dec, count=count)
    ids[:, : partners.shape[1]] = partners.cpu().numpy()
    cosines[:, : values.shape[1]] = values.cpu().numpy()
    return ids, cosines


def promoted_tokens(model: Model, W_dec: torch.Tensor, count: int) -> dict[str, np.ndarray]:
    """The `count` tokens that each direction promotes and suppresses most, and their logits.

    Directions are taken at length 1, straight to the unembedding: what later layers make of them is left out.

    Returns
    -------
    dict
        top_logit_ids, top_logits, bottom_logit_ids, bottom_logits, each (d_sae, count).
    """
    unit = torch.nn.functional.normalize(W_dec.detach().float(), dim=1)
    count = min(count, model.vocab_size)
    parts: dict[str, list[np.ndarray]] = {}
    for block in unit.split(max(LOGITS_AT_ONCE // model.vocab_size, 1)):
        logits = model.unembed(block)
        for side, largest in (("top", True), ("bottom", False)):
            values, ids = logits.topk(count, dim=1, largest=largest)
            parts.setdefault(f"{side}_logit_ids", []).append(ids.cpu().numpy().astype(np.int32))
            parts.setdefault(f"{side}_logits", []).append(values.cpu().numpy())
    return {name: np.concatenate(arrays) for name, arrays in parts.items()}
