"""Everything that is known about how an SAE came about, or will: what the guard compares.

A description is a flat table from field to value. Defaults are resolved first: two arms whose learning rate was left
to the rule have the rates that the rule gave them, which differ when their widths or lengths do. What is not known is
`UNKNOWN`; an option that an architecture does not have is `ABSENT`.
"""

from __future__ import annotations

import dataclasses
import inspect
from typing import TYPE_CHECKING, Any

from sae_lab._errors import BadInput, nearest
from sae_lab.saes import SAE, SAEConfig
from sae_lab.training import TrainingRun, train
from sae_lab.training._settings import Settings, plan
from sae_lab.training._step import MAX_AUX_K

if TYPE_CHECKING:
    from sae_lab.activations import Activations

UNKNOWN, ABSENT = "unknown", "no such option"
# of a run's settings: those that say how, not merely how often a line is written
HOW = tuple(field.name for field in dataclasses.fields(Settings) if field.name not in ("seed", "log_every"))
WHERE = ("model", "site", "dataset", "context_length")
OURS = ("seed", "checkpoint", "checkpoint_every", "background", "progress", "config", "acts")  # not the caller's to set

Description = dict[str, Any]


def of_plan(config: SAEConfig, acts: Activations, training: dict[str, Any]) -> Description:
    """An SAE that is to be trained on `acts`."""
    settings = plan(config, len(acts), seed=0, **_planned(training))
    return {**_options(config, acts.d_in), **_settings(settings), **_place(acts.metadata), "data": acts.fingerprint}


def of_trained(trained: SAE | TrainingRun) -> tuple[Description, int | None]:
    """A trained SAE, from what it says about itself, and its seed; a run says more than an SAE that was saved."""
    if isinstance(trained, TrainingRun):
        loop = trained._loop
        settings, facts = loop.state.settings, loop.facts
        known = {**_settings(settings), **_place(facts["metadata"]), "data": facts["fingerprint"]}
        return {**_options(trained.config, trained.sae.d_in), **known}, settings.seed
    facts = {**trained.metadata, **trained.metadata.get("settings", {})}
    about: Description = {"architecture": trained.architecture, "d_sae": trained.d_sae, "inference": trained.gate}
    if trained.config is not None:
        about |= _options(trained.config, trained.d_in) | {"inference": trained.gate}
    if trained.k is not None:
        about["k"] = trained.k  # what it does now: inference may have been changed after training
    about |= {name: facts.get(name, UNKNOWN) for name in (*HOW, *WHERE, "tokens", "data")}
    seed = facts.get("seed")
    return about, seed if isinstance(seed, int) else None


def lacking(description: Description, field: str) -> str:
    """Why a description has no such field: its architecture has none, or its config is not known."""
    return ABSENT if description.get("_complete") else UNKNOWN


def check_training(training: dict[str, Any]) -> None:
    """Refuse options that `train` does not have, or that belong to `compare` itself."""
    known = [name for name in inspect.signature(train).parameters if name not in OURS]
    for name in training:
        if name in OURS:
            raise BadInput(f"{name} cannot be given to compare: it sets that for each SAE (seeds=... says which seeds)")
        if name not in known:
            close = nearest(name, [*known, "seeds", "factor", "match", "baseline", "confounds"])
            raise BadInput(f"neither compare nor train has an option {name!r}" + (f": {close[0]}?" if close else ""))


def _planned(training: dict[str, Any]) -> dict[str, Any]:
    """The options of `plan`, with the defaults of `train` where nothing was said."""
    defaults = {name: parameter.default for name, parameter in inspect.signature(train).parameters.items()}
    wanted = [name for name in inspect.signature(plan).parameters if name not in ("config", "rows", "seed")]
    return {name: training.get(name, defaults.get(name)) for name in wanted}


def _options(config: SAEConfig, d_in: int) -> Description:
    """A config's options, inherited ones included, as they will act."""
    options = {"_complete": True, **config.to_dict(), "inference": config.gate}
    # No aux term, one of weight 0 and one of no latents are the same, and so is said once: by the weight that acts.
    count, weight = config.aux
    options |= {"aux_k": count or min(d_in // 2, MAX_AUX_K), "aux_weight": 0.0 if count == 0 else weight}
    options["dead"] = "resample" if config.dead == "resample" else "not resampled"
    return options


def _settings(settings: Settings) -> Description:
    values = settings.to_dict()
    return {**{name: values[name] for name in HOW}, "tokens": settings.steps * settings.batch_size}


def _place(metadata: dict[str, Any]) -> Description:
    known = {"dataset": metadata.get("corpus"), **metadata}
    return {name: UNKNOWN if known.get(name) is None else known[name] for name in WHERE}
