"""OpenAI's SAEs of GPT-2 small (2023 and 2024): one torch pickle each, opened weights-only.

`pre_bias` (d_in,), `encoder.weight` (d_sae, d_in), `latent_bias` (d_sae,), `decoder.weight` (d_in, d_sae), running
statistics, and beside the tensors the name of the `activation` and its `activation_state_dict` (k). As in their code,
latents = activation(encoder(x - pre_bias) + latent_bias); where the activation is TopK, each row is layer-normalised
first and the reconstruction taken back.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sae_lab._errors import BadInput, CorruptFile
from sae_lab.saes._sae import from_parts
from sae_lab.saes.formats._open import Held, names_in, read_pickle

if TYPE_CHECKING:
    from sae_lab.saes._sae import SAE

NAME = "openai"
PICKLED = True
MARKS = {"pre_bias", "latent_bias", "encoder.weight"}
PLACES = {
    "resid_post_mlp": "layers.{}",
    "resid_delta_mlp": "layers.{}.mlp",
    "resid_delta_attn": "layers.{}.attn",
    "resid_post_attn": "blocks.{}.hook_resid_mid",
    "mlp_post_act": "blocks.{}.mlp.hook_post",
}


def recognises(path: Path) -> bool:
    """Whether `path` is such a file, or a folder with one .pt file that is."""
    file = _file(path)
    return file is not None and names_in(file) >= MARKS


def load(path: Path | str) -> SAE:
    """Read one file, or the folder that holds it alone.

    Raises
    ------
    BadInput
        There is no such file, it holds more than tensors and plain values, or its activation is unknown.
    CorruptFile
        It is damaged, or a key or tensor is missing, not finite or of another shape.
    """
    file = _file(Path(path))
    if file is None:
        raise BadInput(f"no single .pt file at {path}: give the file of one SAE")
    held = Held(read_pickle(file), file)
    activation = held.tensors.get("activation", "ReLU")
    W_enc = held.take("encoder.weight", "d_sae", "d_in")
    tied = "decoder.weight" not in held and "decoder.linear.weight" in held
    parts: dict[str, Any] = {
        "W_enc": W_enc,
        "W_dec": W_enc.clone() if tied else held.take("decoder.weight", "d_in", "d_sae").T.contiguous(),
        "b_enc": held.take("latent_bias", "d_sae"),
        "b_dec": held.take("pre_bias", "d_in"),
    }
    facts = _facts(file.absolute().as_posix())
    if activation == "ReLU":
        return from_parts(parts, file, gate="threshold", architecture="relu", metadata=facts)
    if activation != "TopK":
        raise BadInput(f"{file}: unknown activation {activation!r}, expected 'ReLU' or 'TopK'")
    state = held.tensors.get("activation_state_dict")
    if not isinstance(state, dict):
        raise CorruptFile(f"{file} has no dict 'activation_state_dict', expected one with 'k'")
    if state.get("postact_fn", "ReLU") != "ReLU":
        raise BadInput(f"{file}: postact_fn is {state['postact_fn']!r}, expected 'ReLU': latents would be negative")
    k = int(Held(state, f"{file}: activation_state_dict").number("k"))
    return from_parts(parts, file, gate="topk", k=k, normalize="layer_norm", architecture="topk", metadata=facts)


def _file(path: Path) -> Path | None:
    if path.is_dir():
        files = [file for file in path.iterdir() if file.suffix == ".pt"]
        return files[0] if len(files) == 1 else None
    return path if path.is_file() and path.suffix == ".pt" else None


def _facts(path: str) -> dict[str, Any]:
    """What the address of a published file says: .../gpt2-small/resid_post_mlp_v5_32k/autoencoders/8.pt."""
    place = re.search(rf"({'|'.join(PLACES)})\w*/autoencoders/(\d+)\.pt$", path)
    return {"model": "openai-community/gpt2", "site": PLACES[place[1]].format(place[2])} if place else {}
