"""Plain dumps of two linear maps, with no configuration: the files of DeepSeek-R1 SAEs, Goodfire's, Qwen Scope's.

    encoder.weight (d_sae, d_in), encoder.bias, decoder.weight (d_out, d_sae), decoder.bias     ReLU, not centred
    encoder_linear.weight ..., decoder_linear.weight ...                                        the same (Goodfire)
    W_enc (d_sae, d_in), b_enc, W_dec (d_in, d_sae), b_dec                                      topk (Qwen Scope)

A file is safetensors or a torch pickle (opened weights-only); a folder must hold one such file. Qwen Scope's files do
not say k: it is read from an "L0_50" in the path, or given. We write the first kind, as safetensors.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from sae_lab._errors import BadInput
from sae_lab._files import write_arrays
from sae_lab.saes._sae import from_parts
from sae_lab.saes.formats import _record
from sae_lab.saes.formats._open import Held, names_in, read_pickle, read_safetensors

if TYPE_CHECKING:
    from sae_lab.saes._sae import SAE

NAME, PICKLED = "plain", False
SUFFIXES = (".safetensors", ".pt", ".pth", ".bin")
LINEAR = ("encoder", "decoder"), ("encoder_linear", "decoder_linear")
QWEN = {"W_enc", "W_dec", "b_enc", "b_dec"}


def recognises(path: Path) -> bool:
    """Whether `path` is, or holds as its only weights, a file with exactly such names."""
    file = _file(path)
    return file is not None and _kind(names_in(file), file) is not None


def refuses(sae: SAE) -> str | None:
    """What two linear maps with a ReLU between them cannot say."""
    if sae.gate != "threshold" or bool((sae.threshold > 0).any()):
        return f"plain linear maps have no gate but ReLU, and this one's is {sae.gate}"
    if sae.normalize != "none":
        return f"plain linear maps do not normalise rows ({sae.normalize})"
    return "plain linear maps have no skip" if sae.W_skip is not None else None


def save(sae: SAE, path: Path) -> Path:
    """Write the safetensors file `path` (".safetensors" is added to a name without a suffix)."""
    path = Path(path)
    path = path if path.suffix == ".safetensors" else path.with_name(path.name + ".safetensors")
    if path.is_dir():
        raise BadInput(f"{path} is a folder; a plain dump is a file: choose another path")
    parts = _record.without_centering(_record.parts_of(sae))
    arrays = {"encoder.weight": parts["W_enc"], "encoder.bias": parts["b_enc"]}
    arrays |= {"decoder.weight": parts["W_dec"].T, "decoder.bias": parts["b_dec"]}
    write_arrays(path, {name: tensor.numpy() for name, tensor in arrays.items()})
    return path


def load(path: Path, *, k: int | None = None) -> SAE:
    """Read such a file, or the folder that holds it; `k` is for Qwen Scope only."""
    file = _file(path)
    if file is None:
        raise BadInput(f"{path} must be one file of weights, or hold exactly one ({', '.join(SUFFIXES)})")
    tensors = read_safetensors(file) if file.suffix == ".safetensors" else read_pickle(file)
    held = Held(tensors, file)
    if held.tensors.keys() & {"W_enc", "W_dec"}:
        return _qwen(held, file, k)
    if k is not None:
        raise BadInput(f"{file} is a ReLU SAE: leave k= out")
    prefixes = {str(name).split(".")[0] for name in held.tensors}
    encoder, decoder = next((names for names in LINEAR if prefixes & set(names)), LINEAR[0])
    parts = {
        "W_enc": held.take(f"{encoder}.weight", "d_sae", "d_in"),
        "b_enc": held.take(f"{encoder}.bias", "d_sae"),
        "W_dec": held.take(f"{decoder}.weight", "d_out", "d_sae").T,
        "b_dec": held.take(f"{decoder}.bias", "d_out"),
    }
    return from_parts(parts, file, gate="threshold", center=False, architecture="relu", metadata={"name": file.stem})


def _qwen(held: Held, file: Path, k: int | None) -> SAE:
    said = re.findall(r"L0_(\d+)", str(file.absolute()))
    k = k or (int(said[-1]) if said else None)
    if k is None:
        raise BadInput(f"{file} does not say how many latents its topk keeps: give k=")
    parts = {
        "W_enc": held.take("W_enc", "d_sae", "d_in"),
        "b_enc": held.take("b_enc", "d_sae"),
        "W_dec": held.take("W_dec", "d_in", "d_sae").T,
        "b_dec": held.take("b_dec", "d_in"),
    }
    layer = re.search(r"layer(\d+)", file.name)
    facts = {"name": file.name.removesuffix(".pt"), **({"site": f"layers.{layer[1]}"} if layer else {})}
    return from_parts(parts, file, gate="topk", k=k, center=False, architecture="topk", metadata=facts)


def _kind(names: set[str], file: Path) -> str | None:
    for encoder, decoder in LINEAR:
        if names == {f"{part}.{kind}" for part in (encoder, decoder) for kind in ("weight", "bias")}:
            return encoder
    # the same names stand in other peers' files with another orientation: only Qwen's have this file name
    return "qwen" if names == QWEN and re.fullmatch(r"layer\d+\.sae\.(pt|safetensors)", file.name) else None


def _file(path: Path) -> Path | None:
    if path.is_file():
        return path if path.suffix in SUFFIXES else None
    files = [file for file in path.iterdir() if file.suffix in SUFFIXES] if path.is_dir() else []
    return files[0] if len(files) == 1 else None
