"""`stitch_chain`: any number of SAEs of growing width, stitched step by step.

What a doubling of the width adds is reported for one pair at a time; a family shows whether it goes on, and which
latent splits into which. The authors state about a third of novel latents per doubling, reported second-hand [2].
Links across widths are ours [D].
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch

from sae_lab._errors import BadInput
from sae_lab._interrupt import stop_on_interrupt
from sae_lab._metrics import Activity
from sae_lab._progress import Progress
from sae_lab.evaluation._inputs import check_counts, check_inputs, row_blocks
from sae_lab.saes import SAE, nearest
from sae_lab.studies.stitching._chain import CONTROLS, LINKS, StitchChain
from sae_lab.studies.stitching._documents import by_document
from sae_lab.studies.stitching._pair import check_pair, prepared
from sae_lab.studies.stitching._stitch import check_options, stitch
from sae_lab.studies.stitching._stitching import Stitching
from sae_lab.studies.stitching._twin import share_with_interval

if TYPE_CHECKING:
    from sae_lab.activations import Activations
    from sae_lab.models import Model

Twins = Sequence[SAE] | Mapping[int, SAE]


def stitch_chain(
    saes: Sequence[SAE],
    acts: Activations | Any,
    *,
    twins: Twins | None = None,
    threshold: float | str = "auto",
    insert: str = "cosine",
    grouping: str = "components",
    bias: str = "linear",
    model: Model | None = None,
    max_rows: int | None = None,
    batch_size: int = 4096,
    bootstrap: int = 200,
    seed: int = 0,
    progress: bool = True,
) -> StitchChain:
    """Stitch SAEs of growing width, each into the next.

    The rows are read once for each step, and once more for the twins.

    Parameters
    ----------
    saes
        Two or more SAEs of one model and site, narrowest first.
    acts
        Activations of that site, or a tensor or array (rows, d_in); best rows that no SAE was trained on.
    twins
        SAEs that differ from one of these by their seed only, as a list or as {width: SAE}: the share of a twin's
        latents that would count as novel is the yardstick for the share of a step. Under-trained SAEs look novel to
        each other, so a share without one says little.
    threshold
        As in `stitch`; "auto" reads each step's own off its ROC.
    insert, grouping, bias, model, max_rows, batch_size, bootstrap, seed
        As in `stitch`.
    progress
        Whether to show progress. Ctrl-C gives the chain of the steps that are done, the last one on fewer rows.

    Returns
    -------
    StitchChain
        `.frame` has one row a step, `.lineage(width, latent)` follows a latent, `.stitchings` are the steps.

    Raises
    ------
    Mismatch
        The SAEs, or they and the activations or the model, do not belong together.
    BadInput
        Fewer than two SAEs, one given twice, not in order of width, a twin of none of them, or what `stitch` refuses.
    """
    saes = list(saes)
    _check_family(saes)
    check_options(threshold, grouping, bias, insert)
    check_counts(1, batch_size=batch_size, **({} if max_rows is None else {"max_rows": max_rows}))
    check_counts(20, bootstrap=bootstrap)
    check_counts(0, seed=seed)
    acts = check_inputs(saes[0], acts, model)
    for sae in saes[1:]:
        check_inputs(sae, acts, None)
    places = _places_of(twins, saes)
    for twin in places.values():
        check_inputs(twin, acts, None)
    documents = by_document(acts, max_rows, seed)

    options: dict[str, Any] = {
        "threshold": threshold,
        "insert": insert,
        "grouping": grouping,
        "bias": bias,
        "model": model,
    }
    options |= {"max_rows": max_rows, "batch_size": batch_size, "bootstrap": bootstrap, "seed": seed}
    stitchings: list[Stitching] = []
    for small, large in itertools.pairwise(saes):
        stitchings.append(stitch(small, large, acts, progress=progress, **options))
        if stitchings[-1].interrupted:
            break
    interrupted = stitchings[-1].interrupted
    kept = saes[: len(stitchings) + 1]
    with stop_on_interrupt() as stop:
        links = pd.concat([links_of(found, step) for step, found in enumerate(stitchings)], ignore_index=True)
        controls: list[dict[str, Any]] = []
        if places and not interrupted:
            counts = _count(places, documents.acts, batch_size, seed, progress, stop)
            interrupted = stop.asked
            controls = [] if interrupted else _controls(places, counts, kept, stitchings)
    return StitchChain(
        names=_names(kept),
        saes=[sae.fingerprint for sae in kept],
        widths=[sae.d_sae for sae in kept],
        stitchings=[_with_control(found, step, controls) for step, found in enumerate(stitchings)],
        densities=[stitchings[0].density_small, *(found.density_large for found in stitchings)],
        links=links,
        controls=pd.DataFrame(controls, columns=list(CONTROLS)),
        interrupted=interrupted,
    )


def _check_family(saes: list[SAE]) -> None:
    """Refuse what is no family of SAEs, narrowest first."""
    if len(saes) < 2:
        raise BadInput(f"a chain needs at least two SAEs, narrowest first, not {len(saes)}")
    wrong = next((sae for sae in saes if not isinstance(sae, SAE)), None)
    if wrong is not None:
        raise BadInput(f"a chain is made of SAEs, not of a {type(wrong).__name__}; that of a TrainingRun is run.sae")
    widths = [sae.d_sae for sae in saes]
    if widths != sorted(widths):
        raise BadInput(
            f"the widths are {', '.join(map(str, widths))}: give the narrowest first, "
            f"sorted(saes, key=lambda sae: sae.d_sae)"
        )
    if len({sae.fingerprint for sae in saes}) < len(saes):
        raise BadInput("one SAE is given twice: stitched to itself it would lack nothing")
    for small, large in itertools.pairwise(saes):
        check_pair(small, large)


def _places_of(twins: Twins | None, saes: list[SAE]) -> dict[int, SAE]:
    """Each twin by the place of the SAE that it is a twin of."""
    if twins is None:
        return {}
    given = list(twins.items()) if isinstance(twins, Mapping) else [(None, twin) for twin in twins]
    found: dict[int, SAE] = {}
    for width, twin in given:
        if not isinstance(twin, SAE):
            raise BadInput(f"twins are SAEs, not {type(twin).__name__}: give a list, or {{width: SAE}}")
        if width is not None and width != twin.d_sae:
            raise BadInput(f"the twin given for width {width} has {twin.d_sae:,} latents")
        place = next((p for p, sae in enumerate(saes) if sae.d_sae == twin.d_sae), None)
        if place is None:
            widths = ", ".join(f"{sae.d_sae:,}" for sae in saes)
            raise BadInput(f"a twin has {twin.d_sae:,} latents, as none of the SAEs has: their widths are {widths}")
        if place in found:
            raise BadInput(f"there are two twins of width {twin.d_sae:,}: give one for each width")
        if twin.fingerprint in {sae.fingerprint for sae in saes}:
            raise BadInput(f"{twin.name} is given as its own twin: a twin was trained with another seed")
        check_pair(saes[place], twin)
        found[place] = twin
    return found


def links_of(found: Stitching, step: int) -> pd.DataFrame:
    """Links of one step: each live large latent to its partner, and small ones without any to where they went."""
    alike = found.large_alive & (found.cosine >= found.threshold)
    large = np.flatnonzero(alike)
    small, cosine = found.partner[large], found.cosine[large]
    lone = np.setdiff1d(np.flatnonzero(found.small_alive), small)
    live = np.flatnonzero(found.large_alive)
    W_small, W_large = (sae.W_dec[torch.from_numpy(which)] for sae, which in ((found.small, lone), (found.large, live)))
    near, where = (part[:, 0].cpu().numpy() for part in nearest(W_small, W_large))
    met = near >= found.threshold
    columns = {
        "step": np.full(len(large) + int(met.sum()), step),
        "small_latent": np.concatenate([small, lone[met]]),
        "large_latent": np.concatenate([large, live[where[met]]]),
        "cosine": np.concatenate([cosine, near[met]]),
        "kind": np.repeat(["partner", "shared"], [len(large), int(met.sum())]),
    }
    table = pd.DataFrame(columns).astype({name: kind for name, kind in LINKS.items() if name != "kind"})
    return table.sort_values(["large_latent", "kind", "small_latent"], ignore_index=True)


def _count(
    places: dict[int, SAE], acts: Activations, batch_size: int, seed: int, progress: bool, stop: Any
) -> dict[int, tuple[SAE, np.ndarray]]:
    """Each twin as it is compared, and which of its latents are alive: one pass over the rows for all."""
    twins = {place: prepared(twin, acts, seed) for place, twin in places.items()}
    activity = {place: Activity(twin.d_sae) for place, twin in twins.items()}
    device = next(iter(twins.values())).device
    with Progress(len(acts), "same-width controls", "rows", enabled=progress) as bar, torch.no_grad():
        for _, x in row_blocks(acts, batch_size, device):
            for place, twin in twins.items():
                activity[place].add(*twin.encode_sparse(x))
            bar.advance(len(x))
            if stop.asked:
                break
    writes = {place: twin.W_dec.any(dim=1).cpu() for place, twin in twins.items()}
    return {place: (twin, ((activity[place].fired > 0) & writes[place]).numpy()) for place, twin in twins.items()}


def _controls(
    places: dict[int, SAE], counts: dict[int, tuple[SAE, np.ndarray]], saes: list[SAE], stitchings: list[Stitching]
) -> list[dict[str, Any]]:
    """Rows of `StitchChain.controls`: each twin at the thresholds of the steps that its SAE takes part in."""
    rows = []
    for place, (twin, alive) in counts.items():
        near = stitchings[place] if place < len(stitchings) else stitchings[place - 1]
        base, base_alive = (near.small, near.small_alive) if place < len(stitchings) else (near.large, near.large_alive)
        cosines = nearest(twin.W_dec[torch.from_numpy(alive)], base.W_dec[torch.from_numpy(base_alive)])[0]
        about = {"width": twin.d_sae, "name": saes[place].name, "twin": places[place].fingerprint}
        for step, role in ((place, "small"), (place - 1, "large")):
            if 0 <= step < len(stitchings):
                threshold = stitchings[step].threshold
                share, low, high = share_with_interval((cosines[:, 0] < threshold).cpu().numpy())
                found = {"threshold": threshold, "novel_share": share, "low": low, "high": high}
                rows.append({"step": step, "role": role, **about, **found, "n_dead": int((~alive).sum())})
    return sorted(rows, key=lambda row: (row["step"], row["role"] != "small"))


def _with_control(found: Stitching, step: int, controls: list[dict[str, Any]]) -> Stitching:
    """The stitching with its same-width control, that of the smaller SAE first."""
    mine = [row for row in controls if row["step"] == step]
    if not mine:
        return found
    return dataclasses.replace(
        found, control_share=mine[0]["novel_share"], control_low=mine[0]["low"], control_high=mine[0]["high"]
    )


def _names(saes: list[SAE]) -> list[str]:
    """What the SAEs are called; with their fingerprints where names are not enough to tell them apart."""
    names = [sae.name for sae in saes]
    return [
        name if names.count(name) == 1 else f"{name} {sae.fingerprint}" for name, sae in zip(names, saes, strict=True)
    ]
