"""A stitching path as one compressed block of bytes: the form in which a curve travels to its page.

What a step inserted and removed stands in two lists of latents with a table of starts each (the latents of step s
are those from start[s] to start[s + 1]), so that a path of thousands of steps stays small.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from sae_lab._errors import BadInput
from sae_lab.widgets._blocks import Words, block, small

if TYPE_CHECKING:
    from sae_lab.evaluation import Profiles
    from sae_lab.studies import Curve, Stitching

ACTIONS = ("start", "insert", "swap", "drop")
LABELS = 3  # top tokens of each latent


def pack_curve(curve: Curve, profiles: Sequence[Profiles] = (), stitching: Stitching | None = None) -> bytes:
    """The whole path, with what `profiles` know of its latents, and what `stitching` measured of each by itself."""
    words = Words()
    arrays: dict[str, np.ndarray] = {
        "action": np.array([ACTIONS.index(action) for action in curve.action], dtype=np.uint8),
        "n_latents": np.asarray(curve.n_latents, dtype="<i4"),
        "l0": np.asarray(curve.l0, dtype="<f4"),
        "fvu": np.asarray(curve.fvu, dtype="<f8"),  # a latent of a large SAE moves it by less than float32 shows
        "ce": np.asarray(curve.ce, dtype="<f4"),
        "cosine": np.asarray(curve.cosine, dtype="<f4"),
        **_lists("inserted", curve.inserted),
        **_lists("removed", curve.removed),
    }
    for side, sae in (("small", curve.small_sae), ("large", curve.large_sae)):
        arrays |= label_arrays(side, profile_of(sae, profiles), words)
    if stitching is not None:
        arrays["max_cosine"] = np.asarray(stitching.cosine, dtype="<f4")
        arrays["partner"] = np.asarray(stitching.partner, dtype="<i4")
        arrays["gain"] = np.asarray(stitching.gain, dtype="<f4")
    header = {
        "small": {"name": curve.small_name, "sae": curve.small_sae},
        "large": {"name": curve.large_name, "sae": curve.large_sae},
        "threshold": float(curve.threshold),
        "insert": curve.insert,
        "grouping": curve.grouping,
        "bias": curve.bias,
        "rows": int(curve.n_rows),
        "ce_clean": finite(curve.ce_clean),
        "interrupted": bool(curve.interrupted),
        "references": _records(curve.references),
    }
    return block(header, arrays, words)


def label_arrays(side: str, profiles: Profiles | None, words: Words) -> dict[str, np.ndarray]:
    """Top tokens and density of every latent of one SAE; nothing without profiles of it."""
    if profiles is None:
        return {}
    labels = np.zeros((profiles.d_sae, LABELS), dtype=np.int64)
    if profiles.vocabulary:
        for latent in range(profiles.d_sae):
            shown = [words.number(text) for text in profiles.top_tokens(latent, LABELS)]
            labels[latent, : len(shown)] = shown
    return {f"{side}_labels": small(labels), f"{side}_density": profiles.density.astype("<f4")}


def profile_of(sae: str, profiles: Iterable[Profiles]) -> Profiles | None:
    """The profiles of the SAE with this fingerprint, if they are among them."""
    return next((known for known in profiles if known.sae == sae), None)


def checked_profiles(profiles: Any, saes: Sequence[str], names: Sequence[str], shown: str) -> list[Profiles]:
    """`profiles` as a list, each of one of the SAEs that are shown.

    Raises
    ------
    BadInput
        They are no profiles, or of none of these SAEs.
    """
    from sae_lab.evaluation import Profiles

    given = [profiles] if isinstance(profiles, Profiles) else list(profiles or ())
    for one in given:
        if not isinstance(one, Profiles):
            raise BadInput(f"profiles holds a {type(one).__name__}: give what sl.profile returned, one or a list")
    if given and not any(one.sae in saes for one in given):
        raise BadInput(
            f"the profiles are of {', '.join(one.name for one in given)}, and the {shown} is of "
            f"{', '.join(names)}: profile these SAEs with sl.profile(sae, acts, model)"
        )
    return given


def _lists(name: str, latents: Sequence[Sequence[int]]) -> dict[str, np.ndarray]:
    starts = np.cumsum([0, *(len(step) for step in latents)])
    flat = np.array([latent for step in latents for latent in step], dtype="<i4")
    return {name: flat, f"{name}_start": starts.astype("<i4")}


def _records(references: Any) -> list[dict[str, Any]]:
    """The rows of a frame as JSON: what is not known is null."""
    return [
        {
            "name": str(row["name"]),
            "sae": str(row["sae"]),
            **{key: finite(row[key]) for key in ("n_latents", "l0", "fvu", "ce") if key in row},
        }
        for row in references.to_dict("records")
    ]


def finite(value: Any) -> float | None:
    """A number that JSON can hold, or None."""
    number = float("nan") if value is None else float(value)
    return number if np.isfinite(number) else None
