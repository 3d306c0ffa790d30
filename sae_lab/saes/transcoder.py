"""Transcoder: read one site, reconstruct another, such as the input and the output of an MLP.

Idea: an autoencoder says what a layer's activations are made of; a transcoder says what the layer does with them,
since its latents read what goes in and write what comes out. It can stand in for the layer.

    pre   = W_enc x + b_enc                                  x the input site
    z     = the k largest of ReLU(pre), the others 0
    y_hat = W_dec^T z + b_dec  [+ W_skip x]                  y the target site
    loss  = |y - y_hat|^2 / d_out  +  aux_weight * |e - e_hat|^2 / |e|^2        e = y - y_hat, as in TopK

Nothing is subtracted from the input, as input and output live in different spaces; their widths may differ. With
`skip` a linear map from input to output stands beside the latents, so that these need not spend themselves on what
is linear.

Source: the form (no output bias subtracted from the input, affine skip as an option, loss on the target, TopK
with aux term) is read in sparsify's public code [C]. Ours [D]: the mean input is taken off while training and
folded into `b_enc` at the end, which changes nothing but the speed of learning; encoder rows start at random,
independent of the decoder's; `W_skip` starts at 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from sae_lab._errors import BadInput
from sae_lab.saes._weights import Batch, Forward, Layout, Moment, Weights
from sae_lab.saes.topk import TopK

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Transcoder(TopK):
    """Options of a transcoder; train it on `sl.join({"input": ..., "target": ...})`."""

    architecture: ClassVar[str] = "transcoder"
    center: ClassVar[bool] = False

    skip: bool = False
    """Whether a linear map from input to output stands beside the latents."""

    def layout(self, widths: tuple[int, ...]) -> Layout:
        """The first source is read, the second reconstructed."""
        if len(widths) != 2:
            raise BadInput(
                f"a transcoder reads one site and reconstructs another, and these activations have {len(widths)} "
                f"source(s): train it on sl.join({{'input': acts_in, 'target': acts_out}})"
            )
        return Layout(slice(0, widths[0]), slice(widths[0], sum(widths)))

    def place(self, sources: tuple[dict[str, Any], ...]) -> dict[str, Any]:
        """The input's model and site as those of the SAE, and those of the target."""
        source, target = sources
        if source["name"] == "target" or target["name"] == "input":
            raise BadInput(
                f"a transcoder reads the first source and reconstructs the second, and these are called "
                f"{source['name']!r} and {target['name']!r}: sl.join({{'input': ..., 'target': ...}}) in this order"
            )
        known = {key: source[key] for key in ("model", "site") if source[key] is not None}
        return {"site": None, **known, "target": dict(target)}

    def extra_parameters(self, weights: Weights) -> dict[str, Tensor]:
        """The skip, where there is one: (d_out, d_in), zeros."""
        if not self.skip:
            return {}
        return {"W_skip": weights.W_dec.new_zeros(weights.W_dec.shape[1], weights.W_enc.shape[1])}

    def forward(self, w: Weights, batch: Batch, moment: Moment) -> Forward:
        """As in TopK, with the skip added to the reconstruction."""
        plain = super().forward(w, batch, moment)
        if not self.skip:
            return plain
        y_hat = plain.x_hat + batch.x @ w.extra["W_skip"].T
        error = (y_hat - batch.target).square().sum(dim=1).mean() / batch.target.shape[1]
        return plain._replace(x_hat=y_hat, error=error)
