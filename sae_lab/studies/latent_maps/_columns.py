"""The columns of a map: what may be one, matching a frame's rows to points, and how they are kept in a file.

A column is of numbers, of booleans, or of groups (a pandas Categorical of strings); nothing else, so that
every picture of the map knows what to do with it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from sae_lab._errors import BadInput

RESERVED = ("name", "latent", "x", "y", "label")  # what LatentMap.frame calls the place of a point
PREFIX = "column:"  # marks the arrays of columns in a file


def with_column(columns: pd.DataFrame, name: str, values: Any) -> pd.DataFrame:
    """A copy of `columns` with one more, or with another one of that name."""
    if not isinstance(name, str) or not name:
        raise BadInput(f"a column's name is a string, not {name!r}")
    if name in RESERVED or name == "sae":
        raise BadInput(f"every map has {name!r} already and it cannot be replaced: choose another name")
    given = getattr(values, "ndim", 1)
    if isinstance(values, str | bytes) or not hasattr(values, "__len__") or given != 1:
        raise BadInput(f"column {name!r} takes one value a point, a list or an array of one dimension")
    if len(values) != len(columns):
        raise BadInput(f"column {name!r} has {len(values):,} values, but the map has {len(columns):,} points: one each")
    return columns.assign(**{name: as_column(values)})


def as_column(values: Any) -> Any:
    """Numbers and booleans as arrays, everything else as groups by name; a missing group stays missing."""
    if hasattr(values, "detach"):
        values = values.detach().cpu().numpy()
    series = pd.Series(values).reset_index(drop=True)
    if isinstance(series.dtype, pd.CategoricalDtype):
        return series.cat.rename_categories([str(value) for value in series.cat.categories])
    if series.dtype == bool:
        return series.to_numpy()
    if pd.api.types.is_numeric_dtype(series.dtype) and not pd.api.types.is_complex_dtype(series.dtype):
        return series.to_numpy(dtype=np.float64, na_value=np.nan) if series.hasnans else series.to_numpy()
    missing = series.isna()
    names = series.astype(object).map(str)
    return pd.Categorical(names.where(~missing, None), categories=sorted(set(names[~missing])))


def rows_of(which: np.ndarray, latents: pd.Series, points_which: np.ndarray, points_latent: np.ndarray) -> np.ndarray:
    """For each point the row of the frame that is about it, -1 where there is none."""
    numbers = pd.to_numeric(latents, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
    if not np.isfinite(numbers).all() or (numbers != np.floor(numbers)).any() or (numbers < 0).any():
        raise BadInput("the frame's column 'latent' must hold latent numbers: whole and from 0")
    index = pd.MultiIndex.from_arrays([which, numbers.astype(np.int64)])
    if index.has_duplicates:
        twice = index[index.duplicated()][0]
        raise BadInput(f"the frame has latent {twice[1]} more than once: give one row a latent")
    rows = index.get_indexer(pd.MultiIndex.from_arrays([points_which.astype(np.int64), points_latent.astype(np.int64)]))
    if (rows < 0).all():
        raise BadInput("no latent of the frame is on the map: is it of another SAE?")
    return rows


def taken(values: pd.Series, rows: np.ndarray) -> pd.Series:
    """A frame's column in the order of the points; NaN where there is no row."""
    return values.reset_index(drop=True).reindex(np.where(rows < 0, len(values), rows)).reset_index(drop=True)


def packed(columns: pd.DataFrame) -> tuple[list[dict[str, Any]], dict[str, np.ndarray]]:
    """What a file keeps: a description of each column, and their arrays by name."""
    described: list[dict[str, Any]] = []
    arrays = {}
    for i, name in enumerate(columns):
        column = columns[name]
        if isinstance(column.dtype, pd.CategoricalDtype):
            arrays[f"{PREFIX}{i}"] = column.cat.codes.to_numpy(np.int32)
            described.append({"name": name, "categories": list(column.cat.categories)})
        else:
            arrays[f"{PREFIX}{i}"] = column.to_numpy()
            described.append({"name": name})
    return described, arrays


def unpacked(described: list[dict[str, Any]], arrays: dict[str, np.ndarray]) -> pd.DataFrame:
    """The columns that `packed` packed."""
    columns: dict[str, Any] = {}
    for i, about in enumerate(described):
        values = arrays[f"{PREFIX}{i}"]
        if "categories" in about:
            columns[about["name"]] = pd.Categorical.from_codes(values, categories=about["categories"])
        else:
            columns[about["name"]] = values
    return pd.DataFrame(columns)
