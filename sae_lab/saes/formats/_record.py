"""From what a file holds to the canonical record: every folding there is, in one place.

Each layout of files keeps scales, norms and gates in its own way, and forgetting one of them is the commonest bug in
exchanging SAEs. So no reader folds anything itself: it collects `parts`, the keyword arguments of `SAE`, and passes
them through the functions below. Each is pure (it returns new parts) and exact: the function from raw activations to
reconstructions stays what it was, and latents stay in the unit that is stated.

In `parts` matrices have a row for each latent, as in the record: `W_enc` (d_sae, d_in), `W_dec` (d_sae, d_out),
`b_enc` (d_sae,), `b_dec` (d_out,), and where present `threshold` (d_sae,) and `W_skip` (d_out, d_in).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from sae_lab._errors import BadInput

if TYPE_CHECKING:
    from sae_lab.saes._sae import SAE

Parts = dict[str, Any]


def fold_input_scale(parts: Parts, scale: float, scale_out: float | None = None) -> Parts:
    """Fold in that the file's SAE reads `scale * x` and writes `scale_out * x_hat`; latents keep their unit.

    With a = scale and b = scale_out (a where None): W_enc * a, W_dec / b, b_dec / b, W_skip * a / b; b_enc and
    thresholds stay. Where inputs are centred by a b_dec of another scale, the centring moves into b_enc.
    """
    out = scale if scale_out is None else scale_out
    _check_scale(scale)
    _check_scale(out)
    if out != scale and parts.get("center", True):
        parts = without_centering(parts)
    folded = {
        **parts,
        "W_enc": parts["W_enc"] * scale,
        "W_dec": parts["W_dec"] / out,
        "b_dec": parts["b_dec"] / out,
    }
    if parts.get("W_skip") is not None:
        folded["W_skip"] = parts["W_skip"] * (scale / out)
    return folded


def fold_column_scales(parts: Parts, scales: Tensor) -> Parts:
    """Fold in that the file's SAE reads and writes rows times `scales`, (d_in,): one factor a column; latents stay.

    For SAEs over the rows of several sources, each scaled by its own factor: W_enc * scales, W_dec / scales,
    b_dec / scales.
    """
    if not (torch.isfinite(scales).all() and (scales > 0).all()):
        raise BadInput("columns can only be scaled by factors that are positive and finite")
    folded = {"W_enc": parts["W_enc"] * scales, "W_dec": parts["W_dec"] / scales, "b_dec": parts["b_dec"] / scales}
    return {**parts, **folded}


def rescale_latents(parts: Parts, factor: Tensor | float) -> Parts:
    """Measure latents in another unit: activations times `factor`, one number or (d_sae,), none negative.

    W_enc, b_enc and thresholds are multiplied, W_dec is divided, row by row. The reconstruction is the same for a
    threshold gate, and for a topk gate where `factor` is one number; several change which latents are the largest.
    A latent whose factor is 0 falls silent.
    """
    factor = torch.as_tensor(factor, dtype=parts["W_enc"].dtype)
    if not (torch.isfinite(factor).all() and (factor >= 0).all()):
        raise BadInput("latents can only be rescaled by finite factors that are not negative")
    column = factor.reshape(-1, 1)
    scaled = {
        **parts,
        "W_enc": parts["W_enc"] * column,
        "b_enc": parts["b_enc"] * factor,
        "W_dec": torch.where(column > 0, parts["W_dec"] / column, 0.0),
    }
    if parts.get("threshold") is not None:
        scaled["threshold"] = torch.as_tensor(parts["threshold"]) * factor
    return scaled


def fold_decoder_norms(parts: Parts) -> Parts:
    """Fold in that the file's gate looks at pre-activations times the norms of decoder rows (all gates; exact).

    A threshold in `parts` is one that these products are held to, and stays. Decoder rows have norm 1 then, and
    latents are in units of the length that they add to the reconstruction. (To give an SAE whose thresholds are for
    plain pre-activations a unit decoder, use `with_unit_decoder`.)
    """
    folded = rescale_latents(parts, parts["W_dec"].norm(dim=1))
    return {**folded, "threshold": parts["threshold"]} if "threshold" in parts else folded


def fold_gated(W_gate: Tensor, b_gate: Tensor, b_mag: Tensor, r_mag: Tensor) -> Parts:
    """A gated encoder (Rajamanoharan et al. 2024) as a threshold one: its W_enc, b_enc and threshold.

    Gate W_gate x + b_gate > 0, magnitude relu(exp(r_mag) W_gate x + b_mag). As exp(r_mag) > 0, the gate is open
    where pre = exp(r_mag) W_gate x + b_mag lies above b_mag - exp(r_mag) b_gate.
    """
    gain = r_mag.exp()
    return {"W_enc": gain[:, None] * W_gate, "b_enc": b_mag, "threshold": b_mag - gain * b_gate, "gate": "threshold"}


def fold_whitening(parts: Parts, matrix: Tensor, mean: Tensor, inverse: Tensor | None = None) -> Parts:
    """Fold in that the file's SAE reads (x - mean) M and its reconstruction is taken back by M^-1 and mean.

    `matrix` is M, (d_in, d_in); latents keep their unit. W_enc <- W_enc M^T, W_dec <- W_dec M^-1,
    b_dec <- b_dec M^-1 + mean; b_enc loses W_enc M^T mean unless inputs are centred by b_dec.
    """
    if parts.get("W_skip") is not None:
        raise BadInput("whitening of a transcoder with a skip matrix cannot be folded")
    inverse = torch.linalg.inv(matrix.double()) if inverse is None else inverse.double()
    W_enc = parts["W_enc"].double() @ matrix.double().T
    folded = {
        **parts,
        "W_enc": W_enc.float(),
        "W_dec": (parts["W_dec"].double() @ inverse).float(),
        "b_dec": (parts["b_dec"].double() @ inverse + mean.double()).float(),
    }
    if not parts.get("center", True):
        folded["b_enc"] = (parts["b_enc"].double() - W_enc @ mean.double()).float()
    return folded


def fold_input_shift(parts: Parts, shift: Tensor) -> Parts:
    """Fold in that the file's SAE reads x - shift, (d_in,), where `shift` is not b_dec; b_dec stays the output's."""
    return {**parts, "b_enc": parts["b_enc"] - parts["W_enc"] @ shift}


def without_centering(parts: Parts) -> Parts:
    """The same SAE with `center` False: W_enc b_dec moves into b_enc."""
    if not parts.get("center", True):
        return parts
    return {**fold_input_shift(parts, parts["b_dec"]), "center": False}


def with_centering(parts: Parts) -> Parts:
    """The same SAE with `center` True: W_enc b_dec moves out of b_enc. Only where input and output are one site."""
    if parts.get("center", True):
        return parts
    return {**fold_input_shift(parts, -parts["b_dec"]), "center": True}


def scale_decoder_rows(parts: Parts, factor: Tensor) -> Parts:
    """Fold in that activations are multiplied by `factor`, (d_sae,), before they are decoded; latents stay."""
    return {**parts, "W_dec": parts["W_dec"] * factor[:, None]}


def parts_of(sae: SAE) -> Parts:
    """The parts of an SAE, detached and on the CPU: what a writer starts from."""
    names = ["W_enc", "W_dec", "b_enc", "b_dec", "threshold"] + (["W_skip"] if sae.W_skip is not None else [])
    tensors = {name: getattr(sae, name).detach().cpu() for name in names}
    return {**tensors, "gate": sae.gate, "k": sae.k, "center": sae.center, "normalize": sae.normalize}


def with_unit_decoder(parts: Parts) -> Parts:
    """The same SAE with decoder rows of norm 1 (rows of zeros stay); thresholds only, as topk ranks latents."""
    if parts["gate"] != "threshold":
        raise BadInput("decoder norms of a topk gate cannot be folded: they would change which latents are the largest")
    norms = parts["W_dec"].norm(dim=1)
    return rescale_latents(parts, torch.where(norms > 0, norms, 1.0))


def _check_scale(scale: float) -> None:
    if not 0 < scale < float("inf"):
        raise BadInput(f"activations cannot be scaled by {scale!r}: a factor must be positive and finite")
