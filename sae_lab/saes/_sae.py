"""The canonical record of a trained SAE, and inference with it.

Whatever the architecture, a trained SAE is this: weights with one contiguous row for each latent, two
biases, and a gate that looks at one row only.

    pre   = W_enc (x - b_dec) + b_enc         without "- b_dec" when `center` is False
    z     = pre where the gate is open and pre > 0, else 0
    x_hat = W_dec^T z + b_dec                 with W_skip x added where there is a skip

`x` is always the model's raw activation: scales used in training have been folded into the weights. Some
published SAEs normalise each row by itself; then `x` and `x_hat` above are normalised rows (`normalize`).
Gates: "topk" opens for the k largest of the row, "threshold" where pre > threshold (a value per latent); "pursuit"
chooses as many latents against the decoder, by the residual and not by the encoder (see `_pursuit`).

A transcoder is such a record whose output is another site: `d_out` wide, not centred. A crosscoder is one over
the rows of several sources, side by side.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional

from sae_lab._errors import BadInput, CorruptFile
from sae_lab.saes import _coding
from sae_lab.saes._coding import Sparse
from sae_lab.saes._config import Gate, SAEConfig
from sae_lab.saes._normalize import KINDS, Normalize, row_scale

if TYPE_CHECKING:
    from collections.abc import Sequence


class SAE(nn.Module):
    """A trained sparse autoencoder. Its weights ask for no gradient; `requires_grad_()` changes that.

    Parameters
    ----------
    W_enc, W_dec
        (d_sae, d_in) and (d_sae, d_out) float: one row a latent; rows of `W_dec` have unit norm when trained here.
    b_enc, b_dec
        (d_sae,) and (d_out,) float.
    gate, k, threshold
        "topk" needs `k`; "threshold" takes `threshold`, (d_sae,) or one number, default 0; "pursuit" takes either.
    center
        Whether `b_dec` is subtracted from the input.
    W_skip
        (d_out, d_in) float: a linear map from input to output beside the latents (skip transcoders).
    normalize
        Whether each row is normalised by itself: "none", "layer_norm" or "rms_norm"; see `_normalize`.
    architecture, config
        What it was trained as; `config` is None for an SAE that came from elsewhere.
    metadata
        Where it belongs: model, site, dataset, tokens, seed, versions, l0, name ...

    Raises
    ------
    BadInput
        Shapes do not fit together, a weight is NaN or infinite, or the gate lacks its parameter.
    """

    W_enc: nn.Parameter
    W_dec: nn.Parameter
    b_enc: nn.Parameter
    b_dec: nn.Parameter
    W_skip: nn.Parameter | None
    threshold: Tensor

    def __init__(
        self,
        W_enc: Tensor,
        W_dec: Tensor,
        b_enc: Tensor,
        b_dec: Tensor,
        *,
        gate: Gate,
        k: int | None = None,
        threshold: Tensor | float = 0.0,
        center: bool = True,
        W_skip: Tensor | None = None,
        normalize: Normalize = "none",
        architecture: str | None = None,
        config: SAEConfig | None = None,
        metadata: dict[str, Any] | None = None,
    ):
        super().__init__()
        for name, matrix in (("W_enc", W_enc), ("W_dec", W_dec)):
            if matrix.ndim != 2:
                raise BadInput(f"{name} must have shape (d_sae, d_in), not {tuple(matrix.shape)}")
        d_sae, d_out = W_dec.shape
        d_in = d_out if center else W_enc.shape[1]
        limits = torch.as_tensor(threshold, dtype=torch.float32)
        limits = limits.expand(d_sae).clone() if limits.ndim == 0 else limits
        parts = {"W_enc": W_enc, "W_dec": W_dec, "b_enc": b_enc, "b_dec": b_dec, "threshold": limits}
        expected = {
            "W_enc": (d_sae, d_in),
            "W_dec": (d_sae, d_out),
            "b_enc": (d_sae,),
            "b_dec": (d_out,),
            "threshold": (d_sae,),
        }
        if W_skip is not None:
            parts["W_skip"], expected["W_skip"] = W_skip, (d_out, d_in)
        for name, part in parts.items():
            if tuple(part.shape) != expected[name]:
                raise BadInput(
                    f"{name} has shape {tuple(part.shape)}, but with W_dec {(d_sae, d_out)} it must be {expected[name]}"
                )
            if not torch.isfinite(part).all():
                raise BadInput(f"{name} holds NaN or infinity at {_first_bad(part)}: load or train it anew")
        if normalize not in KINDS:
            raise BadInput(f"normalize must be one of {', '.join(map(repr, KINDS))}, not {normalize!r}")
        if normalize != "none" and d_in != d_out:
            raise BadInput("rows that are normalised by themselves have to be put back: d_in and d_out must be equal")
        if gate not in get_args(Gate):
            raise BadInput(f"gate must be one of {', '.join(map(repr, get_args(Gate)))}, not {gate!r}")
        if gate == "topk" and (k is None or not 1 <= k <= d_sae):
            raise BadInput(f"a topk gate needs k between 1 and d_sae={d_sae}, not {k!r}")
        self.W_skip = None
        for name in parts.keys() - {"threshold"}:
            setattr(self, name, nn.Parameter(parts[name].detach().to(torch.float32).contiguous(), requires_grad=False))
        self.register_buffer("threshold", limits.detach().to(device=W_dec.device, dtype=torch.float32).contiguous())
        self.gate: Gate = gate
        self.k = k
        self.center = center
        self.normalize: Normalize = normalize
        self.config = config
        self.architecture = architecture or (config.architecture if config else gate)
        self.metadata: dict[str, Any] = dict(metadata or {})

    @property
    def d_in(self) -> int:
        """Width of the activations it reads."""
        return self.W_enc.shape[1]

    @property
    def d_out(self) -> int:
        """Width of the activations it reconstructs: `d_in`, but for a transcoder."""
        return self.W_dec.shape[1]

    @property
    def d_sae(self) -> int:
        """Number of latents."""
        return self.W_dec.shape[0]

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.W_dec.device

    @property
    def fingerprint(self) -> str:
        """Eight hex digits that tell this SAE from others: a hash of its decoder, the same on every machine."""
        return hashlib.sha256(self.W_dec.detach().cpu().numpy().tobytes()).hexdigest()[:8]

    @property
    def name(self) -> str:
        """What it is called: `metadata["name"]`, or its architecture and width, such as "batch_topk 4608"."""
        return str(self.metadata.get("name") or f"{self.architecture} {self.d_sae}")

    def pre_activations(self, x: Tensor) -> Tensor:
        """W_enc (x - b_dec) + b_enc: (..., d_sae), before the gate, for raw activations (..., d_in)."""
        return functional.linear(self._input(self._rows(x)), self.W_enc, self.b_enc)

    def encode(self, x: Tensor) -> Tensor:
        """Activations of all latents, (..., d_sae), zero where inactive, for raw activations (..., d_in)."""
        if self.gate == "pursuit":
            values, indices = self.encode_sparse(x)
            return values.new_zeros(*x.shape[:-1], self.d_sae).scatter_add_(-1, indices, values)
        x = self._rows(x)
        return _coding.encode(self, x.reshape(-1, self.d_in)).reshape(*x.shape[:-1], self.d_sae)

    def encode_sparse(self, x: Tensor) -> Sparse:
        """Active latents of raw activations (..., d_in), as values and indices (..., k').

        k' is `k` for a topk gate, else the most that any of the given rows has (at least 1). Works in
        blocks of rows, so no (rows, d_sae) tensor is ever held. Of a threshold gate a row with NaN has no active
        latents, where `encode` gives NaN.
        """
        x = self._rows(x)
        values, indices = _coding.encode_sparse(self, x.reshape(-1, self.d_in))
        shape = (*x.shape[:-1], values.shape[1])
        return Sparse(values.reshape(shape), indices.reshape(shape))

    def decode(self, z: Tensor, x: Tensor | None = None) -> Tensor:
        """Reconstruction (..., d_out) from dense activations (..., d_sae).

        `x`, the raw rows (..., d_in), is needed where the reconstruction depends on more than the latents: with a
        skip, or rows that are normalised by themselves.
        """
        if z.shape[-1] != self.d_sae:
            raise BadInput(f"decode needs (..., {self.d_sae}) activations, got {tuple(z.shape)}")
        flat = z.to(self.W_dec.dtype).reshape(-1, self.d_sae)
        return self._output(_coding.decode(self, flat).reshape(*z.shape[:-1], self.d_out), x)

    def decode_sparse(self, values: Tensor, indices: Tensor, x: Tensor | None = None) -> Tensor:
        """Reconstruction (..., d_out) from `encode_sparse`'s values and indices: k' rows of W_dec a row, not d_sae.

        `x` as in `decode`.
        """
        if values.shape != indices.shape:
            raise BadInput(f"values {tuple(values.shape)} and indices {tuple(indices.shape)} must have the same shape")
        flat = indices.reshape(-1, indices.shape[-1]), values.reshape(-1, values.shape[-1]).to(self.W_dec.dtype)
        sums = functional.embedding_bag(flat[0], self.W_dec, mode="sum", per_sample_weights=flat[1])
        return self._output(sums.reshape(*values.shape[:-1], self.d_out), x)

    def forward(self, x: Tensor) -> Tensor:
        """Reconstruction (..., d_out) of raw activations (..., d_in)."""
        if self.gate != "threshold":
            return self.decode_sparse(*self.encode_sparse(x), x)
        rows = self._rows(x)
        decoded = _coding.reconstruct(self, rows.reshape(-1, self.d_in))
        return self._output(decoded.reshape(*rows.shape[:-1], self.d_out), rows)

    def latent(self, x: Tensor, i: int | Sequence[int] | Tensor) -> Tensor:
        """Activation of latent `i` alone, (...,), or of several, (..., len(i)), for raw activations (..., d_in).

        Cheap for a threshold gate; the others have to see all latents to know what they keep.
        """
        which = torch.as_tensor(i, device=self.device)
        if which.numel() and not (-self.d_sae <= int(which.min()) and int(which.max()) < self.d_sae):
            raise BadInput(f"latent {i!r} does not exist: this SAE has latents 0 to {self.d_sae - 1}")
        if self.gate != "threshold":
            return self.encode(x)[..., which]
        few = which.reshape(-1)
        pre = functional.linear(self._input(self._rows(x)), self.W_enc[few], self.b_enc[few])
        z = torch.where(pre > self.threshold[few], pre.relu(), 0.0)
        return z.reshape(*pre.shape[:-1], *which.shape)

    def save(self, path: Path | str, *, format: str = "sae_lab", dtype: str | None = None) -> Path:
        """Write this SAE to `path`, and return the path.

        An SAE that is there is replaced in one move, with a warning if it is of another model, site or config. A
        folder that holds anything else stays as it is.

        Parameters
        ----------
        format
            The layout: "sae_lab" (a folder that SAELens reads too; holds every SAE), or one of others, such as
            "saelens", "dictionary_learning", "sparsify", "plain"; the page on formats says what each can hold.
        dtype
            "float16" stores the two matrices in half the space; "sae_lab" and "saelens" only, which otherwise keep
            float32.

        Raises
        ------
        BadInput
            The layout cannot hold this SAE (the message says what not, and which layouts can), or `path` is a file or
            holds something else.
        """
        from sae_lab.saes import formats

        return formats.write(self, Path(path), format, dtype=dtype)

    @classmethod
    def load(cls, path: Path | str, *, format: str = "auto", device: str | torch.device = "cpu") -> SAE:
        """Read a folder or a file that `save` or a peer wrote; `load_sae` also reads from the hub."""
        from sae_lab.saes import formats

        return formats.read(path, format).to(device)

    def extra_repr(self) -> str:
        gate = {"topk": f"k={self.k}", "pursuit": f"pursuit k={self.k}" if self.k else "pursuit by row"}.get(
            self.gate, self.gate
        )
        place = "".join(f", {self.metadata[key]}" for key in ("model", "site") if self.metadata.get(key))
        out = "" if self.d_out == self.d_in else f", d_out={self.d_out}"
        return f"{self.architecture}, d_in={self.d_in}{out}, d_sae={self.d_sae}, {gate}{place}"

    def __repr__(self) -> str:
        return f"SAE({self.extra_repr()})"

    def _rows(self, x: Tensor) -> Tensor:
        x = torch.as_tensor(x)
        if x.shape[-1:] != (self.d_in,):
            raise BadInput(
                f"this SAE reads rows of width {self.d_in}, got shape {tuple(x.shape)}: check the model and the site"
            )
        return x.to(device=self.device, dtype=self.W_enc.dtype)

    def _input(self, x: Tensor) -> Tensor:
        """What the encoder multiplies."""
        if self.normalize != "none":
            x = row_scale(x, self.normalize).apply(x)
        return x - self.b_dec if self.center else x

    def _output(self, decoded: Tensor, x: Tensor | None) -> Tensor:
        """The reconstruction from what the latents add up to."""
        decoded = decoded.add_(self.b_dec)
        if self.W_skip is None and self.normalize == "none":
            return decoded
        if x is None:
            raise BadInput("this SAE's reconstruction depends on the row itself: pass the rows, decode(..., x=rows)")
        x = self._rows(x)
        scale = row_scale(x, self.normalize) if self.normalize != "none" else None
        if self.W_skip is not None:
            decoded = decoded + functional.linear(x if scale is None else scale.apply(x), self.W_skip)
        return decoded if scale is None else scale.undo(decoded)


def from_parts(parts: dict[str, Any], where: Path, **facts: Any) -> SAE:
    """Build an SAE from what a file held; what does not fit is the file's fault, and is said so."""
    try:
        return SAE(**parts, **facts)
    except BadInput as error:
        raise CorruptFile(f"{where}: {error}") from error


def _first_bad(part: Tensor) -> str:
    place = (~torch.isfinite(part)).nonzero()[0].tolist()
    return "row " + ", column ".join(str(n) for n in place)
