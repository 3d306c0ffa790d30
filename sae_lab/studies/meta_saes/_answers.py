"""Asking the model: its answer to a prompt with an edited row, and which latent stands for a subject."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch

from sae_lab._errors import BadInput, Mismatch
from sae_lab.saes import SAE

if TYPE_CHECKING:
    from sae_lab.models import Model

TEMPLATES = (
    "People in {} speak",
    "The city of {} is in",
    "The continent on which {} lies is",
    "I travelled to {} last summer, and",
)


def answers(
    base: SAE,
    latent: int,
    change: torch.Tensor,
    model: Model,
    prompt: str,
    options: Sequence[str],
    site: str | None,
    strength: float,
    skip_first: int,
) -> pd.DataFrame:
    """Log-probabilities of the options with and without `z_latent * change` added at the site."""
    site = check_model(base, model, site)
    if isinstance(options, str) or len(options) < 1:
        raise BadInput("options must be a list of possible answers, with their leading space: [' France', ' Japan']")
    stem = model.tokenize(prompt)
    texts = [model.tokenize(prompt + option) for option in options]
    starts = [_common(stem, ids) for ids in texts]
    for option, ids, start in zip(options, texts, starts, strict=True):
        if start < 1 or start >= len(ids):
            raise BadInput(
                f"option {option!r} adds no token to the prompt, or the prompt is empty: give both some text"
            )

    def splice(x: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        rows = x.float().cpu()
        z = base.latent(rows, latent).cpu() * (positions.cpu() >= skip_first)
        return (rows + strength * z[:, None] * change).to(x)

    with torch.no_grad():
        clean = model.spliced_logits(texts)
        edited = model.spliced_logits(texts, site, splice)
        own = model.activations([stem], [site])[site][0]
        z = base.latent(own.float().cpu(), latent)[skip_first:]
    table = pd.DataFrame({"option": list(options)})
    for name, logits in (("before", clean), ("after", edited)):
        table[name] = [_cost(each, ids, start) for each, ids, start in zip(logits, texts, starts, strict=True)]
    table["change"] = table["after"] - table["before"]
    for name in ("before", "after"):
        table[f"share_{name}"] = np.exp(table[name] - np.logaddexp.reduce(table[name].to_numpy()))
    best = {f"best_{name}": table["option"][int(table[name].to_numpy().argmax())] for name in ("before", "after")}
    table.attrs = {"active_tokens": int((z > 0).sum()), "activation": float(z.max()) if len(z) else 0.0, **best}
    return table


def subject_latents(
    sae: SAE,
    model: Model,
    subject: str,
    others: Sequence[str],
    *,
    templates: Sequence[str] = TEMPLATES,
    site: str | None = None,
    skip_first: int = 1,
) -> pd.DataFrame:
    """Find the latents that stand for a subject, such as a city: active on it, and not on others of its kind.

    Counts are of prompts on which a latent is active on a token of the subject; the latent of a subject is the one
    of largest count relative to the count on others + 1, as in the authors' code for editing cities [C].

    Parameters
    ----------
    sae
        The SAE.
    model
        The model that it belongs to.
    subject
        What to look for: "Paris".
    others
        Subjects of the same kind: ["Tokyo", "Berlin"].
    templates
        Prompts with `{}` where the subject goes; by default four about cities (ours).
    site
        Where the SAE reads; by default the site in its metadata.
    skip_first
        First positions that are not looked at (attention sinks).

    Returns
    -------
    DataFrame
        Surest first: latent, count, others, score (count / (others + 1)), mean_activation (mean over the subject's
        prompts of the largest activation on its tokens). Only latents with a count.

    Raises
    ------
    BadInput, Mismatch
        No others, a template without its place, or a model that the SAE does not belong to.
    """
    site = check_model(sae, model, site)
    kin = [] if isinstance(others, str) else [name for name in others if name != subject]
    if not kin:
        raise BadInput("others must name subjects of the same kind to compare with: ['Tokyo', 'Berlin']")
    for template in templates:
        if template.count("{}") != 1:
            raise BadInput(f"a template holds {{}} once, where the subject goes, unlike {template!r}")
    if not templates:
        raise BadInput("give at least one template, such as 'The city of {} is in'")
    counts = {name: torch.zeros(sae.d_sae) for name in (subject, *kin)}
    strength = torch.zeros(sae.d_sae)
    prompts = [(name, *_places(model, template, name)) for name in counts for template in templates]
    with torch.no_grad():
        rows = model.activations([ids for _, ids, _ in prompts], [site])[site]
        for (name, _, places), x in zip(prompts, rows, strict=True):
            z = sae.encode(x[[i for i in places if i >= skip_first]].float().cpu())
            z = z.amax(dim=0) if len(z) else torch.zeros(sae.d_sae)
            counts[name] += z > 0
            if name == subject:
                strength += z / len(templates)
    on = counts.pop(subject)
    elsewhere = torch.stack(list(counts.values())).sum(dim=0)
    columns = {"count": on, "others": elsewhere}
    table = pd.DataFrame({"latent": np.arange(sae.d_sae), **{name: part.numpy() for name, part in columns.items()}})
    table["score"] = table["count"] / (table["others"] + 1)
    table["mean_activation"] = strength.numpy()
    table = table[table["count"] > 0].astype({"count": int, "others": int})
    order = ["score", "count", "mean_activation"]
    return table.sort_values(order, ascending=False, kind="stable", ignore_index=True)


def check_model(base: SAE, model: Any, site: str | None) -> str:
    """The site where the SAE reads, when model and SAE belong together."""
    if not hasattr(model, "spliced_logits"):
        raise BadInput(f"give a model from sl.load_model(), not a {type(model).__name__}")
    known = base.metadata.get("model")
    if known and known not in (model.name, model.identity):
        raise Mismatch(f"this SAE belongs to {known!r}, the model given is {model.identity!r}: load that one")
    site = site or base.metadata.get("site")
    if not site:
        raise BadInput("this SAE does not say at which site it reads: give site=, such as site='layers.9'")
    model.site(site)
    return str(site)


def _places(model: Model, template: str, subject: str) -> tuple[list[int], list[int]]:
    """Tokens of the template filled in, and the positions of those that the subject is part of."""
    before, after = template.split("{}")
    ids = model.tokenize(before + subject + after)
    start = _common(model.tokenize(before.rstrip()), ids) if before else 0
    end = _common(model.tokenize(before + subject), ids)
    return ids, list(range(start, max(end, start + 1)))


def _common(a: Sequence[int], b: Sequence[int]) -> int:
    """How many tokens two sequences begin with alike."""
    same = 0
    for x, y in zip(a, b, strict=False):
        if x != y:
            break
        same += 1
    return same


def _cost(logits: torch.Tensor, ids: Sequence[int], start: int) -> float:
    """Log-probability of the tokens from `start` on."""
    predicted = logits[start - 1 : -1].float().log_softmax(dim=-1)
    targets = torch.tensor(list(ids[start:]), device=predicted.device)
    return float(predicted.gather(1, targets[:, None]).double().sum())
