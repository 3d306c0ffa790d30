"""A map of latents as one compressed block of bytes: the form in which it travels to a page.

A million points have to fit into a notebook, so each thing is as small as it can be without losing what is seen:
coordinates in steps of 1/65534 of the map's longer side, latents as differences from the one before (all ones,
mostly), labels as numbers into a table of words, floats with 16 significant bits. Whole numbers stay exact.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from sae_lab.widgets._blocks import Words, block, small

if TYPE_CHECKING:
    from sae_lab.studies import LatentMap

SIDE = 65534  # steps of the longer side of the map
NOWHERE = 65535  # a point whose place is not known
CATEGORIES = 1000  # a column of more different texts is text to read, nothing to colour by
NEIGHBOURS = 400_000  # bytes that the nearest directions may take before they are compressed


def pack(latent_map: LatentMap) -> bytes:
    """The whole map as one block."""
    words = Words()
    place, width, height = _places(latent_map.x, latent_map.y)
    arrays = {"place": place, "latent": np.diff(latent_map.latent, prepend=0).astype("<i4")}
    if len(latent_map.saes) > 1:
        arrays["which"] = latent_map.which.astype("<u2")
    arrays |= _labels(latent_map.labels, words) | _neighbours(latent_map)
    columns: list[dict[str, Any]] = []
    for name, values in latent_map.columns.items():
        if str(name) == "sae" and len(latent_map.saes) == 1:
            continue  # one value throughout says nothing
        about, array = _column(values, words)
        arrays[f"column{len(columns)}"] = array
        columns.append({"name": str(name), **about})
    header = {
        "names": list(latent_map.names),
        "saes": list(latent_map.saes),
        "method": latent_map.method,
        "metric": latent_map.metric,
        "quality": {str(k): float(v) for k, v in latent_map.quality.items() if np.isfinite(v)},
        "interrupted": bool(latent_map.interrupted),
        "left": int(sum(latent_map.left_out)),
        "width": width,
        "height": height,
        "columns": columns,
    }
    return block(header, arrays, words)


def _places(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, float, float]:
    """(2, n) uint16 steps, and how much of the longer side the map is wide and high. One scale for both axes."""
    both = np.stack([x, y]).astype(np.float64)
    known = np.isfinite(both).all(axis=0)
    if not known.any():
        return np.full(both.shape, NOWHERE, dtype="<u2"), 1.0, 1.0
    low = both[:, known].min(axis=1)
    size = both[:, known].max(axis=1) - low
    longer = float(size.max()) or 1.0
    steps = np.full(both.shape, NOWHERE, dtype="<u2")
    steps[:, known] = ((both[:, known] - low[:, None]) / longer * SIDE).round()
    return steps, float(size[0]) / longer, float(size[1]) / longer


def _labels(labels: list[str], words: Words) -> dict[str, np.ndarray]:
    """Numbers of the words of all labels, one label behind the other, and how many words each has."""
    split = [label.split(" ") if label else [] for label in labels]
    numbers = np.array([words.number(w) if w else 0 for ws in split for w in ws], dtype=np.int64)
    sizes = np.array([min(len(ws), 2**16 - 1) for ws in split], dtype="<u2")
    return {"label_words": small(numbers), "label_sizes": sizes}


def _neighbours(latent_map: LatentMap) -> dict[str, np.ndarray]:
    """The points with the most similar directions, as many of each as there is room for; itself where there is none."""
    n = len(latent_map)
    wide = 2 if n < 2**16 else 4
    count = min(latent_map.neighbour_ids.shape[1], NEIGHBOURS // max(1, (wide + 1) * n))
    if not count:
        return {}
    ids = latent_map.neighbour_ids[:, :count].astype(np.int64)
    ids = np.where(ids < 0, np.arange(n)[:, None], ids)
    cosines = np.nan_to_num(latent_map.neighbour_cosines[:, :count].astype(np.float64))
    return {"near": ids.astype(f"<u{wide}"), "cosines": (cosines.clip(-1, 1) * 100).round().astype("<i1")}


def _column(values: pd.Series[Any], words: Words) -> tuple[dict[str, Any], np.ndarray]:
    """What a column is (numbers, categories or text), and its values."""
    if pd.api.types.is_bool_dtype(values.dtype):
        values = values.astype(object).where(values.notna(), None)
    elif pd.api.types.is_integer_dtype(values.dtype) and not values.hasnans:
        exact = values.to_numpy(dtype=np.int64)
        if len(exact) and (exact.max() >= 2**31 or exact.min() < -(2**31)):
            return {"kind": "number"}, exact.astype("<f8")
        return {"kind": "number", "whole": True}, exact.astype("<i4")
    elif pd.api.types.is_numeric_dtype(values.dtype):
        return {"kind": "number"}, _rounded(values.to_numpy(dtype=np.float32, na_value=np.nan))
    if not isinstance(values.dtype, pd.CategoricalDtype):
        values = values.astype(object).where(values.notna(), None).map(lambda v: v if v is None else str(v))
        values = values.astype("category")
    names = [str(name) for name in values.cat.categories]
    codes = values.cat.codes.to_numpy(dtype=np.int64) + 1  # 0: not known
    if len(names) > CATEGORIES:
        numbers = np.array([0, *map(words.number, names)])
        return {"kind": "text"}, small(numbers[codes])
    return {"kind": "category", "categories": names}, codes.astype("<u2")


def _rounded(values: np.ndarray) -> np.ndarray:
    """float32 with 16 significant bits: five digits, whole numbers exact up to 65,536, and a quarter less to send."""
    bits = np.ascontiguousarray(values, dtype="<f4").view("<u4")
    bits = np.where(np.isfinite(values), bits + np.uint32(0x80) & np.uint32(0xFFFFFF00), bits)
    return bits.astype("<u4").view("<f4")
