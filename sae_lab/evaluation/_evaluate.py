"""`evaluate`: how good an SAE is, as one table in which every number says what it is.

All means are over the whole set of rows, in float64; the definitions are those of `sae_lab._metrics`,
which training reports too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd
import torch

from sae_lab._metrics import UNDER_USED, Activity, Reconstruction
from sae_lab._progress import Progress
from sae_lab.evaluation._inputs import check_counts, check_inputs, has_tokens, row_blocks, splice_of
from sae_lab.evaluation._splicing import SplicedLoss, choose_sequences, skipped, spliced_loss
from sae_lab.saes import columns

if TYPE_CHECKING:
    from sae_lab.activations import Activations
    from sae_lab.models import Model
    from sae_lab.saes import SAE

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


class Metric(NamedTuple):
    """One row of the table."""

    metric: str
    value: float
    unit: str
    rows: int
    definition: str


def evaluate(
    sae: SAE,
    acts: Activations | Any,
    model: Model | None = None,
    *,
    max_tokens: int = 20_000,
    batch_size: int = 4096,
    seed: int = 0,
    progress: bool = True,
) -> pd.DataFrame:
    """Measure an SAE on activations, and with a model what the model's predictions lose by it.

    Pass activations that the SAE was not trained on (`rest, held_out = acts.split()`): nothing here can
    tell them apart, and numbers on the training rows flatter.

    Parameters
    ----------
    sae
        The SAE.
    acts
        Activations, or a tensor or array (rows, d_in). All rows are used. For a transcoder
        `sl.join({"input": ..., "target": ...})`: the metrics are those of the target.
    model
        The model that the activations come from. With it whole sequences of `acts` run through the model
        four times: as it is, with the reconstruction spliced in at the site (a transcoder's target), and with
        the site replaced by zeros and by the mean of `acts`. Positions that `acts` skips (`skip_first`) are
        never replaced, and only predictions made from replaced positions count.
    max_tokens
        About how many tokens go through the model (each four times): sequences are drawn at random until
        they hold so many, or all when there are fewer.
    batch_size
        Rows through the SAE at a time. It changes no value beyond rounding.
    seed
        Decides which sequences are drawn.
    progress
        Whether to show progress. Ctrl-C while the model runs gives the table of what is complete.

    Returns
    -------
    DataFrame
        Indexed by `metric`, with `value`, `unit`, `rows` (how many rows or predictions it is a mean over)
        and `definition`. `frame.attrs` says what was measured on what.

    Raises
    ------
    Mismatch
        SAE, activations and model do not belong together.
    BadInput
        There are no rows, or a model is given and the activations have no token sequences.
    """
    check_counts(1, max_tokens=max_tokens, batch_size=batch_size)
    check_counts(0, seed=seed)
    acts = check_inputs(sae, acts, model, reconstructs=True)
    sequences = choose_sequences(acts, max_tokens, seed) if model is not None else []
    metrics = _on_rows(sae, acts, batch_size, progress)
    about: dict[str, Any] = {"sae": sae.name, "model": acts.model, "site": acts.site, "rows": len(acts)}
    if model is not None:
        loss = spliced_loss(sae, acts, model, sequences, progress=progress)
        metrics += _on_predictions(loss, skipped(acts), splice_of(sae, acts).site)
        about |= {
            "sequences": loss.sequences,
            "predictions": loss.tokens,
            "seed": seed,
            "interrupted": loss.interrupted,
        }
    table = pd.DataFrame(metrics).set_index("metric")
    table.attrs.update(about)
    return table


def _on_rows(sae: SAE, acts: Activations, batch_size: int, progress: bool) -> list[Metric]:
    """What rows alone can tell."""
    whole, ordinary, activity = Reconstruction(), Reconstruction(), Activity(sae.d_sae)
    layout = columns(sae, acts)
    is_ordinary = torch.from_numpy((acts.positions > 0) & ~acts.special) if has_tokens(acts) else None
    with Progress(len(acts), "evaluating", "rows", enabled=progress) as bar, torch.no_grad():
        for start, block in row_blocks(acts, batch_size, sae.device):
            read, x = block[:, layout.input], block[:, layout.target]
            values, indices = sae.encode_sparse(read)
            x_hat = sae.decode_sparse(values, indices, read)
            whole.add(x, x_hat)
            activity.add(values, indices)
            if is_ordinary is not None:
                keep = is_ordinary[start : start + len(x)].to(x.device)
                ordinary.add(x[keep], x_hat[keep])
            bar.advance(len(x))
    rows = whole.rows
    spread = "the sum over rows of |x - mean|², the mean taken over all rows"
    found = [
        Metric("l0", activity.l0, "latents", rows, "Mean over rows of the number of latents above zero."),
        Metric("fvu", whole.fvu, "share", rows, f"Sum over rows of |x - x'|², divided by {spread}."),
        Metric(
            "explained_variance",
            whole.explained_variance,
            "share",
            rows,
            "1 - fvu; predicting the mean of all rows scores 0.",
        ),
    ]
    if 0 < ordinary.rows < rows:
        text = "fvu over the rows that are neither the first position of a sequence nor a special token."
        found.append(Metric("fvu_ordinary", ordinary.fvu, "share", ordinary.rows, text))
    found += [
        Metric(
            "sse_per_token",
            whole.sse_per_token,
            "activation²",
            rows,
            "MSE summed over dimensions: mean over rows of |x - x'|².",
        ),
        Metric(
            "mse_mean",
            whole.mse_mean,
            "activation²",
            rows,
            "MSE per dimension: mean over rows and dimensions of (x - x')².",
        ),
        Metric(
            "nmse_token",
            whole.nmse_token,
            "share",
            rows,
            "MSE relative to each row: mean over rows of |x - x'|² / |x|².",
        ),
        Metric("cosine", whole.cosine, "cosine", rows, "Mean over rows of the cosine of x and x'."),
        Metric("norm_ratio", whole.norm_ratio, "ratio", rows, "Mean over rows of |x'| / |x|; below 1 the SAE shrinks."),
        Metric(
            "alive_share",
            activity.alive_share,
            "share",
            rows,
            f"Share of the {sae.d_sae:,} latents that fire at least once in the {rows:,} rows evaluated.",
        ),
        Metric(
            "under_used_share",
            activity.under_used_share,
            "share",
            rows,
            f"Share of the latents, silent ones included, with a density below {UNDER_USED:g} of the mean, l0 / d_sae.",
        ),
    ]
    for share, value in zip(
        QUANTILES, activity.density.quantile(torch.tensor(QUANTILES, dtype=torch.float64)).tolist(), strict=True
    ):
        text = f"{share:.0%} of the latents have at most this density (share of rows on which the latent fires)."
        found.append(Metric(f"density_p{round(share * 100):02d}", value, "share", rows, text))
    return found


def _on_predictions(loss: SplicedLoss, skip: int, site: str) -> list[Metric]:
    """What the model's predictions tell."""
    n = loss.tokens
    clean, spliced, zero, mean = (loss.mean_ce(run) for run in ("clean", "spliced", "zero", "mean"))
    kept = f" from position {skip} on" if skip else ""
    over = f"mean over predictions of the next token made{kept or ' anywhere'} in {loss.sequences:,} sequences"
    zeros, means = "every such position replaced by zeros", "every such position replaced by the mean of all rows"
    return [
        Metric("ce_clean", clean, "nats", n, f"Cross-entropy of the model as it is: {over}."),
        Metric(
            "ce_spliced", spliced, "nats", n, f"Cross-entropy with x' in place of x at {site}{kept}; same predictions."
        ),
        Metric("ce_zero", zero, "nats", n, f"Cross-entropy with {zeros}; same predictions."),
        Metric("ce_mean", mean, "nats", n, f"Cross-entropy with {means}; same predictions."),
        Metric("ce_increase", spliced - clean, "nats", n, "ce_spliced - ce_clean."),
        Metric(
            "loss_recovered_zero", loss.recovered("zero"), "share", n, "(ce_zero - ce_spliced) / (ce_zero - ce_clean)."
        ),
        Metric(
            "loss_recovered_mean", loss.recovered("mean"), "share", n, "(ce_mean - ce_spliced) / (ce_mean - ce_clean)."
        ),
        Metric("kl", loss.kl / n, "nats", n, "KL(clean || spliced) of the next-token distributions; same predictions."),
    ]
