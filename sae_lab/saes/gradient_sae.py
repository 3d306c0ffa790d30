"""Gradient SAE (g-SAE): TopK that also asks the model's loss which latents matter.

Idea: TopK keeps what is large, and may pass over latents that are small but change what the model says next. With
`g` the gradient of the model's loss at the row, `z_i |d_i . g|` is to first order what removing latent i would do to
that loss. So the selection adds it to the activation; the latents kept have their ordinary values.

    pre   = W_enc (x - b_dec) + b_enc,  z = ReLU(pre)
    score = z * (1 + beta * |W_dec g| / s)
    z     = kept for the k largest scores, else 0
    x_hat = W_dec^T z + b_dec,  the loss and the aux term as in TopK

Source: Olmo et al., Features that Make a Difference (2024; NAACL Findings 2025). The paper's: TopK's selection
augmented by the gradient term, values unchanged [T]. That the term is added to z as above is not confirmed. Ours [D],
as no public code was found: `g` is that of the summed next-token cross-entropy (`harvest(gradients=True)`), taken as
a constant; `s` is the standard deviation of the gradients of the training rows, over all entries; `beta` is 0 until
the dictionary has formed and then rises, since a score with beta from the first step on was worse in trials of ours.

The gradient is made with the tokens that follow, so selecting by it uses the labels, and a saved SAE cannot: its
record is a plain TopK, whose selection differs from the one it was trained with. `sl.evaluate_selection` shows both.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from sae_lab._errors import BadInput
from sae_lab.saes._config import Selection
from sae_lab.saes._weights import Batch, Forward, Layout, Moment, Weights
from sae_lab.saes.topk import TopK

if TYPE_CHECKING:
    from torch import Tensor

    from sae_lab.saes._sae import SAE, Sparse


@dataclass(frozen=True, kw_only=True)
class GradientSAE(TopK):
    """Options of a gradient SAE. Train it on rows with their gradients: `sl.train(config, acts.with_gradients())`."""

    architecture: ClassVar[str] = "gradient"
    selection: ClassVar[Selection] = "row_topk_gradient"

    beta: float = 1.0
    """How much the gradient counts beside the activation, at the end of training; with 0 this is TopK."""
    begin: float = 0.5
    """Share of the run after which beta begins to rise from 0."""
    ramp: float = 0.2
    """Share of the run over which it rises."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_beta(self.beta)
        for name, value in (("begin", self.begin), ("ramp", self.ramp)):
            if not 0 <= value <= 1:
                raise BadInput(f"{name} is a share of the run, from 0 to 1, not {value!r}")

    def layout(self, widths: tuple[int, ...]) -> Layout:
        """Rows first, their gradients second."""
        if len(widths) != 2 or widths[0] != widths[1]:
            raise BadInput(
                "a GradientSAE is trained on rows with their gradients: harvest with gradients=True and pass "
                "acts.with_gradients(), or sl.join({'x': rows, 'gradient': gradients}) of the same width"
            )
        rows = slice(0, widths[0])
        return Layout(rows, rows, slice(widths[0], 2 * widths[0]))

    def place(self, sources: tuple[dict[str, Any], ...]) -> dict[str, Any]:
        """The place of the rows: that is what it reads and reconstructs."""
        known = {key: sources[0][key] for key in ("model", "site") if sources[0][key] is not None}
        return {"site": None, **known}  # where the rows do not say it, that of both together is not theirs

    def strength(self, moment: Moment) -> float:
        """Beta at a step."""
        if moment.share < self.begin:
            return 0.0
        return self.beta * min((moment.share - self.begin) / self.ramp, 1.0) if self.ramp else self.beta

    def forward(self, w: Weights, batch: Batch, moment: Moment) -> Forward:
        """As TopK, but for which latents are kept."""
        import torch

        assert batch.side is not None
        pre = (batch.x - w.b_dec) @ w.W_enc.T + w.b_enc
        score = pre.detach().relu() * (1 + self.strength(moment) * (batch.side @ w.W_dec.detach().T).abs())
        kept = score.topk(self.k, dim=1).indices
        z = torch.zeros_like(pre).scatter(1, kept, pre.relu().gather(1, kept))
        x_hat = z @ w.W_dec + w.b_dec
        return Forward(pre, z, x_hat, (x_hat - batch.target).square().sum(dim=1).mean() / x_hat.shape[1], {})


def gradient_topk(sae: SAE, x: Tensor, g: Tensor, *, beta: float, scale: float) -> Sparse:
    """Latents of a TopK SAE as chosen by the gradient-augmented score, with their ordinary values.

    Parameters
    ----------
    sae
        Any SAE with a topk gate; its own k is used.
    x, g
        (rows, d_in) raw activations, and the gradients of the loss at them.
    beta
        How much the gradient counts; 0 gives what `encode_sparse` gives.
    scale
        What `|W_dec g|` is divided by: the s above. A trained gradient SAE has it as `metadata["side_scale"]`.

    Returns
    -------
    Sparse
        Values and indices (rows, k). They depend on `g`, and so on tokens that the model has not read yet.
    """
    import torch

    from sae_lab.saes._coding import BLOCK, Sparse
    from sae_lab.saes._largest import largest

    if sae.gate != "topk" or sae.k is None:
        raise BadInput(f"{sae.name} has no topk gate, so there is no selection for gradients to change")
    if x.shape != g.shape:
        raise BadInput(f"rows of shape {tuple(x.shape)} and gradients of shape {tuple(g.shape)} do not belong together")
    check_beta(beta)
    if not scale > 0:
        raise BadInput(f"scale must be a positive number, not {scale!r}")
    values, indices = [], []
    for rows, slopes in zip(x.split(BLOCK), g.to(x).split(BLOCK), strict=True):
        pre = sae.pre_activations(rows)
        score = pre * (1 + beta / scale * (slopes.to(pre) @ sae.W_dec.T).abs())
        latents = largest(score, sae.k)[1]
        z = pre.gather(1, latents).relu()
        values.append(z)
        indices.append(torch.where(z > 0, latents, 0))
    return Sparse(torch.cat(values), torch.cat(indices))


def check_beta(beta: Any) -> None:
    """Refuse a beta that is no weight."""
    if isinstance(beta, bool) or not 0 <= beta < float("inf"):
        raise BadInput(f"beta must be 0 or more, not {beta!r}")
