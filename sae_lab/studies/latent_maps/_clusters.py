"""Groups of directions, to colour a map by: k-means on the directions themselves, not on the picture.

On directions of length 1 the squared distance is 2 - 2 cosine, so k-means groups by cosine. Groups are found
where the latents live: those found on the map would only repeat what the eye sees there.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from torch import Tensor

FEWEST, MOST = 2, 64  # groups, where the number is chosen here


def clusters(vectors: Tensor, count: int | str, seed: int) -> pd.Categorical:
    """The group of each vector, by numbers from "0", the largest group, on."""
    from sklearn.cluster import MiniBatchKMeans
    from threadpoolctl import threadpool_limits

    n = len(vectors)
    number = int(np.clip(round(np.sqrt(n) / 4), FEWEST, MOST)) if count == "auto" else int(count)
    means = MiniBatchKMeans(number, random_state=seed, batch_size=4096, n_init=3, max_iter=30)
    with threadpool_limits(1):  # several threads add up in any order, and then so do the last digits
        found = means.fit_predict(vectors.numpy())
    sizes = np.bincount(found, minlength=number)
    rank = np.empty(number, np.int64)
    rank[np.argsort(-sizes, kind="stable")] = np.arange(number)
    used = int((sizes > 0).sum())
    return pd.Categorical.from_codes(rank[found], categories=[str(i) for i in range(used)])
