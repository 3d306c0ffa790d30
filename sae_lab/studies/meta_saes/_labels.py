"""Short labels: of a base latent from its top tokens, of a meta-latent from the latents that it is part of.

The default looks for the tokens that a meta-latent's strongest members share. Anything that reads better, a
language model for instance, can be handed in as an `Explainer`; the paper's dashboard asked one for at most five
words from the top five members' top tokens and ten examples [C].
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from sae_lab._errors import BadInput, Mismatch
from sae_lab._interrupt import stop_on_interrupt
from sae_lab._progress import Progress
from sae_lab.saes import SAE
from sae_lab.studies.meta_saes._links import Links

if TYPE_CHECKING:
    from sae_lab.evaluation import Profiles

Explainer = Callable[[pd.DataFrame], str]

TOP_TOKENS = 3  # named in the label of a base latent
MEMBERS = 5  # of a meta-latent that the explainer sees ...
TOKENS, EXAMPLES = 10, 10  # ... with so many top tokens and examples each
MOST_WORDS = 5
SHARED = 3  # tokens in a default label


def check_profiles(profiles: Profiles, sae: SAE) -> None:
    """Refuse profiles of another SAE."""
    if profiles.d_sae != sae.d_sae or ("fingerprint" in profiles.metadata and profiles.sae != sae.fingerprint):
        raise Mismatch(
            f"these profiles are of another SAE ({profiles.name}, {profiles.d_sae} latents, fingerprint "
            f"{profiles.sae}) than this meta-SAE's base ({sae.name}, {sae.d_sae} latents, fingerprint "
            f"{sae.fingerprint}): make them with sl.profile(sae, acts, model) of the same SAE"
        )


def base_labels(profiles: Profiles) -> list[str]:
    """The different top tokens of each latent, "" where it is silent or tokens are unknown."""
    labels = []
    for i in range(profiles.d_sae):
        different: dict[str, str] = {}
        for token in profiles.top_tokens(i, TOKENS):  # " When" and "when" are one word to a reader
            different.setdefault(shown(token).casefold(), shown(token))
        labels.append(", ".join(list(different.values())[:TOP_TOKENS]))
    return labels


def meta_labels(
    links: Links, size: int, base: list[str], profiles: Profiles | None, explainer: Explainer | None, progress: bool
) -> list[str]:
    """A label for each of `size` meta-latents, "" for those without members.

    Ctrl-C leaves the rest without labels: an explainer may ask a slow model.
    """
    labels = [""] * size
    members = links.turned(size)
    explain = explainer or shared_tokens
    alive = np.flatnonzero(np.diff(members.indptr)).tolist()
    shows = progress and explainer is not None
    with Progress(len(alive), "labelling meta-latents", "labels", enabled=shows) as bar, stop_on_interrupt() as stop:
        for meta in alive:
            if stop.asked:
                break
            label = explain(member_table(members, base, profiles, meta, examples=explainer is not None))
            if not isinstance(label, str):
                raise BadInput(
                    f"the explainer returned a {type(label).__name__}: it must return a label, a string of a few words"
                )
            labels[meta] = " ".join(label.split()[:MOST_WORDS])
            bar.advance(1)
    return labels


def member_table(
    links: Links, labels: list[str], profiles: Profiles | None, meta: int, *, examples: bool = True
) -> pd.DataFrame:
    """What an explainer sees of a meta-latent's strongest members, strongest first.

    Columns: latent, weight, label, tokens (list of its top tokens), examples (list of texts, the peak in «»; empty
    without profiles). `links` go from meta-latents to their members.
    """
    ids, weights = links.of(meta)
    few = [int(i) for i in ids[:MEMBERS]]
    texts: list[list[str]] = [[] for _ in few]
    if profiles is None:
        tokens = [[word for word in labels[i].split(", ") if word] for i in few]
    else:
        tokens = [profiles.top_tokens(i, TOKENS) for i in few]
        if examples:
            texts = [profiles.examples(i)["text"].head(EXAMPLES).tolist() for i in few]
    names = [labels[i] for i in few]
    columns = {"latent": few, "weight": weights[:MEMBERS], "label": names, "tokens": tokens, "examples": texts}
    return pd.DataFrame(columns)


def shared_tokens(members: pd.DataFrame) -> str:
    """The default explainer: tokens that most of the members' weight agrees on, at most three."""
    score: dict[str, float] = defaultdict(float)
    spelling: dict[str, str] = {}
    for weight, tokens in zip(members["weight"], members["tokens"], strict=True):
        for place, token in enumerate(tokens):
            key = token.strip().casefold() or repr(token)
            spelling.setdefault(key, shown(token))
            # a member's first token says more of it than its tenth
            score[key] += float(weight) / (1 + place)
    return ", ".join(spelling[key] for key in sorted(score, key=lambda key: -score[key])[:SHARED])


def shown(token: str) -> str:
    """A token for reading: bare, or quoted where nothing of it would be seen."""
    return token.strip() or repr(token)
