"""Group Bias Adaptation (GBA): sparsity from biases that are steered, not from the loss.

Idea: neither count nor punish active latents. Give each group of latents a target frequency; lower the bias of a
latent that fires oftener than its group's target, raise the bias of one that is silent. A latent then settles on
a feature that occurs about as often as it may fire, and groups from frequent to rare cover features of unknown
frequency. One group alone is Bias Adaptation (BA).

    u_m   = w_m . (x - b_dec)                         y_m = u_m + b_m
    z_m   = u_m where y_m > 0, else 0                 (magnitude="biased": z_m = y_m there)
    x_hat = sum_m a_m z_m w_m + b_dec
    loss  = |x - x_hat|^2 / d_in                      without any sparsity term; b_m gets no gradient

    every `update_every` steps, over the rows since the last time, for latent m of group k:
        q_m = share of rows with y_m > 0,  r_m = max(largest y_m, 0),  rbar_k = mean of the group's positive r
        q_m > p_k:  b_m <- max(b_m - rate_down * r_m, -1)          it fires too often
        q_m < eps:  b_m <- min(b_m + rate_up * rbar_k, 0)          it is (almost) dead

The targets fall from p_1 = `htf` to p_K = `ltf` in equal ratios.

Source: Chen et al., Taming polysemanticity in LLMs: provable feature recovery via sparse autoencoders (2025);
project page, algorithm figure and reviews read, no public code found. The paper's [T]: the model with tied
weights and separate scales, the update rule, one target for each group in equal ratios, biases in [-1, 0],
AdamW, normalised inputs; 10 groups with targets 0.1 to 0.001 (first version). Its figure prints a max with 0
in the last line, which a reviewer took for a misprint of min [T], as above. Reported second-hand [2]: updates
every 50 steps of 512 rows, both rates 0.01, a tiny eps.

Units: bias and y are in units where the rows have mean squared distance 1 from their mean; rows in training have
d_in, so y = u / sqrt(d_in) + b. All rows share one factor. Where norms differ much, divide every row by its own
before: on the paper's imbalanced toy (384 latents, three worlds, 200,000 rows seen) the share of features found at a
cosine of 0.8 was 0.94 with and 0.07 without, ours; TopK gains by it too. Targets far below a feature's frequency find
nothing, and latents beyond those that are needed compete, so more of them can find less.

Ours [D]: rows w_m have unit norm, so that weight decay on them would mean nothing: Adam, like all others here;
equal, contiguous groups; biases start where Gaussian rows would fire at the target frequency (the paper's
initial bias is not known), and a_m at one scale for all, by least squares; runs of fewer than 20,000 steps
update oftener than every 50 steps, 400 times in all, as biases could not travel otherwise; a single group has
the target `htf`. Whether the bias is the encoder's or only the gate's, and whether weights are tied in the
paper's large runs, was left open in its reviews: `magnitude` and `tied` choose.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from sae_lab._errors import BadInput
from sae_lab.saes._config import Gate, SAEConfig, Selection, positive_int
from sae_lab.saes._weights import Batch, Forward, Moment, Weights

if TYPE_CHECKING:
    from torch import Tensor

UPDATE_EVERY = 50
FEWEST_UPDATES = 400


@dataclass(frozen=True, kw_only=True)
class GroupBias(SAEConfig):
    """Options of an SAE trained by Group Bias Adaptation."""

    architecture: ClassVar[str] = "group_bias"
    gate: ClassVar[Gate] = "threshold"

    groups: int = 10
    """Number of groups, of equal size; 1 is plain Bias Adaptation, with target `htf`."""
    htf: float = 0.1
    """Highest target frequency: share of rows on which latents of the first group may fire."""
    ltf: float = 0.001
    """Lowest target frequency, that of the last group."""
    update_every: int | None = None
    """Steps between updates of the biases; None takes 50, or fewer for at least 400 updates in the run."""
    rate_down: float = 0.01
    """How far a bias falls when its latent fires too often, as a share of the largest y seen."""
    rate_up: float = 0.01
    """How far a bias rises when its latent is silent, as a share of the group's mean largest y."""
    eps: float = 1e-6
    """Latents that fire on less than this share of rows count as silent."""
    magnitude: Literal["projection", "biased"] = "projection"
    """Whether an active latent outputs its projection (the bias gates only) or projection plus bias (it shrinks)."""
    tied: bool = True
    """Whether encoder and decoder share their directions."""

    def __post_init__(self) -> None:
        super().__post_init__()
        positive_int("groups", self.groups)
        if self.groups > self.d_sae:
            raise BadInput(f"groups={self.groups} is more than d_sae={self.d_sae}: a group needs a latent")
        if not 0 < self.htf < 1:
            raise BadInput(f"htf is a share of rows, between 0 and 1, not {self.htf!r}")
        if self.groups > 1 and not 0 < self.ltf <= self.htf:
            raise BadInput(f"ltf must be above 0 and at most htf={self.htf:g}, not {self.ltf!r}")
        if self.update_every is not None:
            positive_int("update_every", self.update_every)
        for name in ("rate_down", "rate_up"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise BadInput(f"{name} must be 0 or more, not {getattr(self, name)!r}")
        if not 0 <= self.eps < 1:
            raise BadInput(f"eps is a share of rows, at least 0 and below 1, not {self.eps!r}")
        if self.magnitude not in ("projection", "biased"):
            raise BadInput(f"magnitude must be 'projection' or 'biased', not {self.magnitude!r}")

    @property
    def selection(self) -> Selection:  # type: ignore[override]
        """The common form has a sparse step."""
        common = self.tied and self.magnitude == "projection" and self.dead != "aux"
        return "group_bias" if common else "own"

    def targets(self) -> Tensor:
        """Target frequency of every latent, (d_sae,)."""
        import torch

        falls = torch.arange(self.groups, dtype=torch.float64) / max(self.groups - 1, 1)
        each = self.htf * (self.ltf / self.htf) ** falls if self.groups > 1 else falls.new_tensor([self.htf])
        return each[self.group_numbers()].float()

    def group_numbers(self) -> Tensor:
        """Group of every latent, (d_sae,)."""
        import torch

        return torch.arange(self.d_sae) * self.groups // self.d_sae

    def interval(self, steps: int) -> int:
        """Steps between updates in a run of so many steps."""
        return self.update_every or max(min(steps // FEWEST_UPDATES, UPDATE_EVERY), 1)

    def select(self, pre: Tensor) -> Tensor:
        """The gate with the biases of the start."""
        return pre * (pre > self._first_thresholds().to(pre))

    def extra_parameters(self, weights: Weights) -> dict[str, Tensor]:
        """The scales a_m; the encoder comes as the decoder times the best first scale."""
        return {"scale": weights.W_enc.norm(dim=1)}

    def initial_memory(self, weights: Weights) -> dict[str, Tensor]:
        """Biases, and what has been seen since they last changed."""
        import torch

        first = -self._first_thresholds() / weights.W_dec.shape[1] ** 0.5
        counts = torch.zeros(self.d_sae, dtype=torch.int64)
        rows = torch.zeros(1, dtype=torch.int64)
        return {"bias": first.clamp(-1.0, 0.0), "fired": counts, "rows": rows, "largest": torch.zeros(self.d_sae)}

    def before_step(self, w: Weights, moment: Moment) -> None:
        """Encoder rows of their own are kept at length 1, like decoder rows."""
        if not self.tied:
            w.W_enc.div_(w.W_enc.norm(dim=1, keepdim=True).clamp_min(1e-12))

    def forward(self, w: Weights, batch: Batch, moment: Moment) -> Forward:
        """The method in training mode; keeps the largest y of each latent in memory."""
        import torch

        d_out = w.W_dec.shape[1]
        u = (batch.x - w.b_dec) @ (w.W_dec if self.tied else w.W_enc).T
        pre = u + w.memory["bias"] * d_out**0.5
        is_open = pre > 0
        z = (u if self.magnitude == "projection" else pre) * is_open
        x_hat = (z * w.extra["scale"]) @ w.W_dec + w.b_dec
        error = (x_hat - batch.target).square().sum(dim=1).mean() / d_out
        largest = w.memory["largest"]
        torch.maximum(largest, pre.detach().amax(dim=0) / d_out**0.5, out=largest)
        return Forward(pre, z, x_hat, error, {})

    def after_step(self, w: Weights, batch: Batch, firings: Tensor, moment: Moment) -> None:
        """Count, and move the biases when it is time."""
        memory = w.memory
        memory["fired"] += firings
        memory["rows"] += len(batch.x)
        if (moment.step + 1) % self.interval(moment.steps) == 0:
            self.adapt(memory)

    def adapt(self, memory: dict[str, Tensor]) -> None:
        """One update of the biases from what was seen; then begin to count anew."""
        import torch

        bias, largest = memory["bias"], memory["largest"]
        share = memory["fired"] / memory["rows"]
        group = self.group_numbers().to(bias.device)
        sums = bias.new_zeros(2, self.groups).index_add_(1, group, torch.stack([largest, (largest > 0).to(bias)]))
        mean = (sums[0] / sums[1].clamp_min(1))[group]
        lower = (bias - self.rate_down * largest).clamp_min(-1.0)
        higher = (bias + self.rate_up * mean).clamp_max(0.0)
        adapted = torch.where(share > self.targets().to(bias), lower, bias)
        bias.copy_(torch.where(share < self.eps, higher, adapted))
        for name in ("fired", "rows", "largest"):
            memory[name].zero_()

    def fold(self, w: Weights) -> dict[str, Tensor]:
        """Scales go into the encoder, their signs into the decoder; the bias becomes a threshold."""
        scale = w.extra["scale"]
        size, bias = scale.abs(), w.memory["bias"] * w.W_dec.shape[1] ** 0.5
        encoder = w.W_dec if self.tied else w.W_enc / w.W_enc.norm(dim=1, keepdim=True).clamp_min(1e-12)
        parts = {"W_enc": encoder * size[:, None], "W_dec": w.W_dec * scale.sign().add(0.5).sign()[:, None]}
        if self.magnitude == "projection":
            return parts | {"b_enc": size.new_zeros(self.d_sae), "threshold": -bias * size}
        return parts | {"b_enc": bias * size, "threshold": size.new_zeros(self.d_sae)}

    def _first_thresholds(self) -> Tensor:
        """What a standard normal number exceeds as often as each latent may fire."""
        import torch

        return torch.special.ndtri(1 - self.targets()).clamp_min(0.0)
