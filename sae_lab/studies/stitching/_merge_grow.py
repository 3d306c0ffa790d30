"""`merge`: one SAE of the novel latents of several, the multi-width "Frankenstein".

The authors' post of July 2024 builds such an SAE by merging, width by width, those latents of the next SAE that are
novel to what has grown so far. It beats an ordinary SAE of its size in MSE; but more of its latents are active, so
that comparison is not fair [T]. So every stage is reported at the L0 of an ordinary SAE of its size too. How L0 is
matched, and what an ordinary SAE of exactly that size would give, are ours [D].
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from sae_lab._errors import BadInput
from sae_lab.evaluation._inputs import check_counts, check_inputs
from sae_lab.saes import SAE
from sae_lab.studies.stitching._assemble import assembled
from sae_lab.studies.stitching._documents import by_document
from sae_lab.studies.stitching._gain import gains
from sae_lab.studies.stitching._hybrid import PLACE
from sae_lab.studies.stitching._merge import Merge
from sae_lab.studies.stitching._merge_parts import Measured, floors, live, measure
from sae_lab.studies.stitching._pair import check_pair, prepared
from sae_lab.studies.stitching._rows import drawn_rows
from sae_lab.studies.stitching._stitch import best_partners, check_options, judged
from sae_lab.studies.stitching._stitching import NOVEL
from sae_lab.studies.stitching._walk import Walk

if TYPE_CHECKING:
    from sae_lab.activations import Activations

RULES = ("gain", "cosine")
TINY = 1e-12
ROWS = 20_000  # held in memory while latents come in one after the other


def merge(
    saes: Sequence[SAE],
    acts: Activations | Any,
    *,
    threshold: float | str = "auto",
    novel: str = "gain",
    bias: str = "refit",
    max_rows: int | None = None,
    batch_size: int = 4096,
    bootstrap: int = 200,
    seed: int = 0,
    progress: bool = True,
) -> Merge:
    """Merge SAEs into one: begin with the first, add of each next one the latents that are new.

    The rows are read once for each SAE after the first, and once more to measure all stages.

    Parameters
    ----------
    saes
        Two or more SAEs of one model and site, in the order in which they are taken: narrowest first.
    acts
        Activations of that site, or a tensor or array (rows, d_in); best rows that no SAE was trained on.
    threshold
        Largest cosine with the decoder directions merged so far below which a latent is new. "auto" reads it off the
        ROC at each stage, as in `stitch`.
    novel
        "gain" takes the latents whose insertion, each alone, surely lowers the error, which is what novel means [T];
        they come in one after the other, the largest gain first, and one that no longer lowers the error when its
        turn comes stays out (ours): latents that say the same do not come in together. "cosine" takes all those below
        the threshold, the cheap proxy; then the error may rise, as `.frame` shows.
    bias
        Decoder bias of the merged SAE (ours): "refit" takes the mean residual over the rows, the best there is;
        "linear" the SAEs' own, each by its share of the latents; "small" that of the first.
    max_rows, batch_size, bootstrap, seed
        As in `stitch`.
    progress
        Whether to show progress. Ctrl-C gives what was merged until then.

    Returns
    -------
    Merge
        `.sae` is the merged SAE, `.frame` says how each stage compares with an original of its size.

    Raises
    ------
    Mismatch
        The SAEs, or they and the activations, do not belong together.
    BadInput
        Fewer than two SAEs, one given twice, or an option that cannot be used.
    """
    saes = [saes] if isinstance(saes, SAE) else list(saes)
    _check(saes, novel)
    check_options(threshold, "components", bias)
    check_counts(1, batch_size=batch_size, **({} if max_rows is None else {"max_rows": max_rows}))
    check_counts(20, bootstrap=bootstrap)
    check_counts(0, seed=seed)
    acts = check_inputs(saes[0], acts, None)
    for sae in saes[1:]:
        check_inputs(sae, acts, None)
    documents = by_document(acts, max_rows, seed)

    ready = [prepared(sae, documents.acts, seed).to(saes[0].device) for sae in saes]
    b_dec = ready[0].b_dec.double()
    latents, cosines = [np.arange(saes[0].d_sae)], [np.full(saes[0].d_sae, np.nan, np.float32)]
    stages: list[dict[str, Any]] = [{"added": saes[0].name, "n_live": 0, "n_novel": saes[0].d_sae, "threshold": np.nan}]
    originals: list[dict[str, Any]] = []
    interrupted = False
    for number, sae in enumerate(ready[1:], 1):
        grown = assembled(ready[:number], latents, b_dec, "merged", {"name": f"stage {number - 1}"})
        sums = gains(grown, sae, documents, batch_size, progress)
        alive, grown_alive = live(sums.large_activity, sae), live(sums.small_activity, grown)
        if number == 1:
            stages[0]["n_live"] = int(grown_alive.sum())
            originals.append(_original(saes[0], sums.small_activity.l0, sums.small.fvu))
        if sums.interrupted:
            interrupted = True
            break
        originals.append(_original(saes[number], sums.large_activity.l0, sums.large.fvu))
        cosine, _ = best_partners(grown, sae, grown_alive)
        found = judged(sums, cosine, alive, threshold, bootstrap, seed)
        if novel == "cosine":
            new = alive & (cosine < found["threshold"])
        else:
            new = _in_turn(grown, sae, documents.acts, np.where(found["kind"] == NOVEL, found["gain"], 0.0), seed)
        latents.append(np.flatnonzero(new))
        cosines.append(cosine[new])
        about = {"added": saes[number].name, "n_live": int(alive.sum()), "n_novel": int(new.sum())}
        stages.append({**about, "threshold": found["threshold"]})

    used = ready[: len(latents)]
    facts = _facts(saes[: len(latents)], latents, novel, bias)
    plain = assembled(used, latents, b_dec, "merged", facts)
    sizes = np.cumsum([len(which) for which in latents]).tolist()
    expected = [_same_size(size, originals) for size in sizes]
    lowest = floors(plain, documents.acts, sizes, [one["l0_same_size"] for one in expected], seed)
    measured = measure(plain, documents.acts, sizes, lowest, batch_size, progress)
    biases = [_bias(bias, measured, stage, used, latents) for stage in range(len(stages))]
    for stage, row in enumerate(stages):
        l0, fvu = measured.figures(measured.plain[stage], biases[stage])
        l0_matched, fvu_matched = measured.figures(measured.floored[stage], biases[stage])
        row |= {"n_latents": sizes[stage], "l0": l0, "fvu": fvu, **expected[stage]}
        row |= {"l0_matched": l0_matched, "fvu_matched": fvu_matched, "floor": lowest[stage]}
    return Merge(
        sae=assembled(used, latents, b_dec + biases[-1].to(b_dec.device), "merged", facts),
        names=[sae.name for sae in saes[: len(latents)]],
        saes=[sae.fingerprint for sae in saes[: len(latents)]],
        source=np.repeat(np.arange(len(latents), dtype=np.int16), [len(which) for which in latents]),
        source_latent=np.concatenate(latents).astype(np.int32),
        cosine=np.concatenate(cosines),
        stages=[{"stage": stage, **row} for stage, row in enumerate(stages)],
        originals=originals,
        n_rows=measured.rows,
        interrupted=interrupted or measured.interrupted,
    )


@torch.no_grad()
def _in_turn(grown: SAE, sae: SAE, acts: Activations, gain: np.ndarray, seed: int) -> np.ndarray:
    """Which latents with a gain above 0 still have one when those with a larger one are in: (d_sae,) bool."""
    walk = Walk(grown, sae, drawn_rows(acts, ROWS, seed).to(grown.device))
    new = np.zeros(sae.d_sae, bool)
    for latent in np.argsort(-gain, kind="stable")[: int((gain > 0).sum())].tolist():
        if walk.gain(latent) > 0:
            walk.insert(latent)
            new[latent] = True
    return new


def _check(saes: list[SAE], novel: str) -> None:
    if len(saes) < 2:
        raise BadInput(f"merging needs at least two SAEs, not {len(saes)}")
    wrong = next((sae for sae in saes if not isinstance(sae, SAE)), None)
    if wrong is not None:
        raise BadInput(f"only SAEs can be merged, not a {type(wrong).__name__}; that of a TrainingRun is run.sae")
    if len({sae.fingerprint for sae in saes}) < len(saes):
        raise BadInput("one SAE is given twice: it has nothing new to itself")
    for sae in saes[1:]:
        check_pair(*sorted((saes[0], sae), key=lambda one: one.d_sae))
    if novel not in RULES:
        raise BadInput(f"novel={novel!r} cannot be used: give one of {', '.join(map(repr, RULES))}")


def _original(sae: SAE, l0: float, fvu: float) -> dict[str, Any]:
    return {"name": sae.name, "sae": sae.fingerprint, "n_latents": sae.d_sae, "l0": l0, "fvu": fvu}


def _same_size(size: int, originals: list[dict[str, Any]]) -> dict[str, float]:
    """What an original SAE of `size` latents would give: between the given ones on a log-log scale."""
    known = sorted(originals, key=lambda one: one["n_latents"])
    widths = np.log([one["n_latents"] for one in known])
    return {
        f"{key}_same_size": math.exp(
            float(np.interp(math.log(size), widths, np.log([max(one[key], TINY) for one in known])))
        )
        for key in ("fvu", "l0")
    }


def _bias(bias: str, measured: Measured, stage: int, saes: Sequence[SAE], latents: Sequence[np.ndarray]) -> Tensor:
    """What a stage adds to the first SAE's decoder bias: (d_in,) float64."""
    if bias == "refit":
        return measured.plain[stage].residual / max(measured.rows, 1)
    toward = torch.zeros(saes[0].d_in, dtype=torch.float64)
    if bias == "linear":
        counts = [len(which) for which in latents[: stage + 1]]
        for sae, count in zip(saes, counts, strict=False):
            toward += (sae.b_dec - saes[0].b_dec).double().cpu() * (count / sum(counts))
    return toward


def _facts(saes: Sequence[SAE], latents: Sequence[np.ndarray], novel: str, bias: str) -> dict[str, Any]:
    """Where the merged SAE belongs, and what it is made of."""
    facts: dict[str, Any] = {key: saes[-1].metadata[key] for key in PLACE if saes[-1].metadata.get(key) is not None}
    facts["name"] = f"merged {' + '.join(str(len(which)) for which in latents)}"
    facts["merge"] = {
        "names": [sae.name for sae in saes],
        "saes": [sae.fingerprint for sae in saes],
        "taken": [len(which) for which in latents],
        "novel": novel,
        "bias": bias,
    }
    return facts
