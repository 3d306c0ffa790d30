"""Variational TopK: latents as Gaussians, and what that was in practice.

Idea: take the encoder's output as the mean of a Gaussian, draw the latents from it, and pull the Gaussian
towards N(0, 1); the noise was hoped to spread features over latents.

    mu    = ReLU(W_enc (x - b_dec) + b_enc)
    z     = the k entries of largest size of mu + sigma * noise, the others 0
    KL    = 0.5 * sum_i (min(mu_i, clamp)^2 + sigma_i^2 - 1 - log sigma_i^2)
    loss  = (|x - x_hat|^2 + beta * ramp * KL) / d_in  +  aux_weight * aux          x_hat and aux as in TopK

Three ways of `sampling`:

- "none": no noise; z is TopK of mu, and KL is 0.5 * sum min(mu, clamp)^2. **This is TopK with an L2 penalty on
  activations**, not a variational method. It is what every evaluated model of the paper was, as its authors
  say in their errata [T].
- "fixed": one `sigma` for all latents; with sigma = 1 the KL is again 0.5 |mu|^2, now with the noise that it
  belongs to.
- "learned": log sigma^2 = W_logvar (x - b_dec) + b_logvar, clamped to [-6, 2], at first -2 everywhere.

Source: Baker, Li, Analysis of variational sparse autoencoders (2025). Read in the authors' public code [C]:
both KLs, summed over all latents (or over the kept ones), the clamp of mu at 10 in it, the clamps and the
start of log sigma^2, TopK by absolute size, and beta rising linearly over the first 10 % of steps. In the
main runs beta was 1 and aux-k was off for the penalised arm only [C], which its authors name as a confound
[T]; here both have the aux term of TopK.

Units: the code's loss is |x - x_hat|^2 + beta KL. Rows here are scaled to a mean squared distance from their
mean of d_in, and all of it is divided by d_in, so `beta` is the code's for rows of that size. Without
sampling any scale of the rows gives the same (but for the clamp); with it, the prior's 1 is in these units.

Ours [D]: b_dec is subtracted from the input, as in TopK, so that the two differ in the penalty alone (the
code's main runs do not subtract it); the matrix of the log variance starts at 0; the default of `sigma`.
Inference draws nothing: encode is the TopK of mu. While noise is on, noise also makes latents fire, so few
count as dead and the aux term is idle.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from sae_lab._errors import BadInput
from sae_lab.saes._config import Selection
from sae_lab.saes._weights import Batch, Forward, Moment, Weights
from sae_lab.saes.topk import TopK

if TYPE_CHECKING:
    from torch import Tensor

LOG_VARIANCE = (-6.0, 2.0)
"""Bounds of the learned log variance [C]."""
FIRST_LOG_VARIANCE = -2.0
SAMPLING = {
    "none": "TopK with an L2 penalty on activations; nothing is sampled",
    "fixed": "latents drawn with one fixed sigma, then TopK",
    "learned": "latents drawn with a learned sigma, then TopK",
}


@dataclass(frozen=True, kw_only=True, repr=False)
class VariationalTopK(TopK):
    """Options of a variational TopK SAE; with the default sampling="none" it is TopK with an L2 penalty."""

    architecture: ClassVar[str] = "variational_topk"

    beta: float = 0.1
    """Strength of the KL term (of the L2 penalty where nothing is sampled); 0 and sampling="none" is TopK."""
    sampling: Literal["none", "fixed", "learned"] = "none"
    """"none" is TopK with an L2 penalty on activations; "fixed" and "learned" draw the latents in training."""
    kl_over: Literal["all", "kept"] = "all"
    """Whether the term sums over all latents or over those that TopK kept."""
    sigma: float = 1.0
    """Standard deviation of the noise with sampling="fixed", where inputs have a mean variance of 1 a dimension."""
    clamp: float = 10.0
    """Means above this count as this in the KL term, so larger activations are not pulled down further."""
    ramp: float = 0.1
    """Share of the run over which beta rises from 0."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.sampling not in SAMPLING:
            raise BadInput(f"sampling must be one of {', '.join(map(repr, SAMPLING))}, not {self.sampling!r}")
        if self.kl_over not in ("all", "kept"):
            raise BadInput(f"kl_over must be 'all' or 'kept', not {self.kl_over!r}")
        if not 0 <= self.beta < float("inf"):
            raise BadInput(f"beta must be 0 or more, not {self.beta!r}")
        for name in ("sigma", "clamp"):
            if not getattr(self, name) > 0:
                raise BadInput(f"{name} must be more than 0, not {getattr(self, name)!r}")
        if not 0 <= self.ramp <= 1:
            raise BadInput(f"ramp is a share of the run, from 0 to 1, not {self.ramp!r}")

    @property
    def selection(self) -> Selection:  # type: ignore[override]
        """Without noise a sparse step is possible; without a penalty as well, it is TopK's."""
        if self.sampling != "none":
            return "own"
        return "row_topk_l2" if self.beta else "row_topk"

    @property
    def description(self) -> str:
        """What it is, in words."""
        return SAMPLING[self.sampling]

    def __repr__(self) -> str:
        options = ", ".join(f"{name}={value!r}" for name, value in self.to_dict().items() if name != "architecture")
        return f"VariationalTopK({options}): {self.description}"

    def strength(self, moment: Moment) -> float:
        """Beta at this moment of the run."""
        return self.beta * (min((moment.step + 1) / (self.ramp * moment.steps), 1.0) if self.ramp else 1.0)

    def extra_parameters(self, weights: Weights) -> dict[str, Tensor]:
        """The head that gives the log variance, where it is learned."""
        import torch

        if self.sampling != "learned":
            return {}
        first = torch.full_like(weights.b_enc, FIRST_LOG_VARIANCE)
        return {"W_logvar": torch.zeros_like(weights.W_enc), "b_logvar": first}

    def forward(self, w: Weights, batch: Batch, moment: Moment) -> Forward:
        """The method in training mode, with this step's own noise."""
        import torch

        x = batch.x - w.b_dec
        pre = x @ w.W_enc.T + w.b_enc
        mu = pre.relu()
        drawn = mu
        kl = 0.5 * mu.clamp(max=self.clamp).square()
        if self.sampling != "none":
            log_variance = self._log_variance(w, x)
            noise = torch.randn(
                mu.shape, generator=moment.generator("variational noise", mu.device), device=mu.device, dtype=mu.dtype
            )
            drawn = mu + (0.5 * log_variance).exp() * noise
            kl = kl + 0.5 * (log_variance.exp() - 1 - log_variance)
        kept = torch.zeros_like(pre).scatter(1, drawn.detach().abs().topk(self.k, dim=1).indices, 1.0)
        z = drawn * kept
        x_hat = z @ w.W_dec + w.b_dec
        d_out = batch.target.shape[1]
        error = (x_hat - batch.target).square().sum(dim=1).mean() / d_out
        kl = (kl if self.kl_over == "all" else kl * kept).sum(dim=1).mean() / d_out
        return Forward(pre, z, x_hat, error, {"l2" if self.sampling == "none" else "kl": self.strength(moment) * kl})

    def _log_variance(self, w: Weights, x: Tensor) -> Tensor:
        """Log sigma^2 of every latent: (rows, d_sae), or one number."""
        import math

        if self.sampling == "fixed":
            return x.new_tensor(2 * math.log(self.sigma))
        return (x @ w.extra["W_logvar"].T + w.extra["b_logvar"]).clamp(*LOG_VARIANCE)
