"""What goes on a map: the decoder directions of one or several SAEs, and what is known of each latent.

An SAE has the directions; its profiles know how often a latent fires and on what. Either may be given, and
what belongs to the same SAE is brought together by its fingerprint.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
import torch

from sae_lab._errors import BadInput, Mismatch
from sae_lab.evaluation import Profiles
from sae_lab.saes import SAE, check_same_place

LEAST = 4  # points that make a map
TOKENS = 3  # named in the label of a latent


@dataclass(frozen=True)
class Points:
    """What is laid out: n points, whose fields are those of LatentMap."""

    directions: torch.Tensor
    """(n, d_in) float32, as they stand in the SAEs."""
    names: list[str]
    saes: list[str]
    which: np.ndarray
    latent: np.ndarray
    columns: pd.DataFrame
    labels: list[str]
    left_out: list[int]


def collect(given: Any, profiles: Any) -> Points:
    """The points of all SAEs, in the order given; refuses what cannot share a map."""
    pairs = _pairs(_listed(given), _listed(profiles) if profiles is not None else [])
    saes = [sae for sae, _ in pairs]
    for one, other in combinations(saes, 2):
        check_same_place(one, other, "their directions cannot be compared; make a map of each")
    directions, which, latent, known, labels, left_out = [], [], [], [], [], []
    for number, (sae, about) in enumerate(pairs):
        rows = sae.W_dec.detach().float().cpu()
        shown = (rows.norm(dim=1) > 0).numpy()
        if about is not None:
            shown = shown & (about.max_activation > 0)
        latents = np.flatnonzero(shown)
        directions.append(rows[torch.from_numpy(latents)])
        which.append(np.full(len(latents), number, np.int16))
        latent.append(latents.astype(np.int32))
        left_out.append(int((~shown).sum()))
        unknown = np.full(len(latents), np.nan, np.float32)
        known.append(
            {
                "density": unknown if about is None else about.density[latents],
                "max_activation": unknown if about is None else about.max_activation[latents],
            }
        )
        labels += [""] * len(latents) if about is None else [_label(about, i) for i in latents.tolist()]
    if len(labels) < LEAST:
        raise BadInput(
            f"a map needs {LEAST} latents, and there are {len(labels)}: {sum(left_out)} are silent in their profiles "
            f"or have a zero direction"
        )
    names = _told_apart(saes)
    columns = {name: np.concatenate([part[name] for part in known]) for name in known[0]}
    all_which = np.concatenate(which)
    sae_column = pd.Categorical.from_codes(all_which, categories=names)
    return Points(
        directions=torch.cat(directions),
        names=names,
        saes=[sae.fingerprint for sae in saes],
        which=all_which,
        latent=np.concatenate(latent),
        columns=pd.DataFrame({**columns, "sae": sae_column}),
        labels=labels,
        left_out=left_out,
    )


def _listed(given: Any) -> list[Any]:
    things = [given] if isinstance(given, SAE | Profiles) else given
    if not isinstance(things, Sequence) or isinstance(things, str) or not len(things):
        raise BadInput(f"latent_map takes an SAE, profiles, or a list of them, not {_kind(given)}")
    return list(things)


def _pairs(given: list[Any], more: list[Any]) -> list[tuple[SAE, Profiles | None]]:
    """Each SAE with its profiles, where there are some."""
    for thing in given:
        if not isinstance(thing, SAE | Profiles):
            raise BadInput(f"latent_map takes SAEs and profiles, not {_kind(thing)}")
    for thing in more:
        if not isinstance(thing, Profiles):
            raise BadInput(f"profiles= takes what profile() returns, not {_kind(thing)}")
    known = {thing.sae: thing for thing in [*given, *more] if isinstance(thing, Profiles)}
    listed: dict[str, SAE] = {}
    for thing in given:
        if isinstance(thing, SAE):
            mark = thing.fingerprint
            if mark in listed:
                raise BadInput(f"{thing.name} ({mark}) is given twice: each SAE stands on a map once")
            listed[mark] = thing
    pairs: dict[str, tuple[SAE, Profiles | None]] = {}
    for thing in given:
        sae = thing if isinstance(thing, SAE) else listed.get(thing.sae) or _sae_of(thing)
        mark = sae.fingerprint
        pairs[mark] = (sae, known.get(mark))
    strangers = [thing for mark, thing in known.items() if mark not in pairs]
    if strangers:
        raise Mismatch(
            f"the profiles of {strangers[0].name} ({strangers[0].sae}) belong to no SAE given here "
            f"({', '.join(f'{sae.name} ({mark})' for mark, (sae, _) in pairs.items())}): give that SAE too"
        )
    for sae, about in pairs.values():
        if about is not None and about.d_sae != sae.d_sae:
            raise Mismatch(f"{sae.name} has {sae.d_sae} latents, its profiles have {about.d_sae}: profile it anew")
    return list(pairs.values())


def _sae_of(profiles: Profiles) -> SAE:
    """The SAE that fresh profiles carry with them."""
    if profiles.source is None:
        raise BadInput(
            f"these profiles of {profiles.name} were loaded from a file, which has no decoder directions: "
            f"call latent_map(sae, profiles=profiles)"
        )
    if profiles.source.fingerprint != profiles.sae:
        raise Mismatch(f"{profiles.name} was changed since it was profiled: call profile() anew")
    return profiles.source


def _told_apart(saes: list[SAE]) -> list[str]:
    """Names of the SAEs; those that share one get their fingerprint added."""
    names = [sae.name for sae in saes]
    return [
        f"{name} ({sae.fingerprint})" if names.count(name) > 1 else name for name, sae in zip(names, saes, strict=True)
    ]


def _label(profiles: Profiles, latent: int) -> str:
    return ", ".join(token.strip() or repr(token) for token in profiles.top_tokens(latent, TOKENS))


def _kind(thing: Any) -> str:
    return f"a {type(thing).__name__}"
