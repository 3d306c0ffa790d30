"""`load_sae`: the shipped demo SAEs by width and seed, or any saved folder."""

from __future__ import annotations

import re
from pathlib import Path

import torch

from sae_lab._errors import BadInput
from sae_lab.saes._sae import SAE

DEMO = Path(__file__).parent / "demo"


def load_sae(
    name_or_path: str | Path = "demo",
    *,
    width: int | None = None,
    seed: int | None = None,
    device: str | torch.device = "cpu",
) -> SAE:
    """Load a trained SAE.

    Parameters
    ----------
    name_or_path
        "demo" for an SAE that comes with this package (BatchTopK on the output of layer 9 of the demo
        model), or the folder of a saved one.
    width
        Number of latents of the demo SAE; None takes the widest. Only with "demo".
    seed
        Training seed of the demo SAE, where a width comes with several; None takes the first. Only with "demo".
    device
        Where to put the weights.

    Raises
    ------
    BadInput
        There is no such SAE; the message names those that there are.
    CorruptFile
        Its files are damaged.
    """
    if str(name_or_path) != "demo":
        if width is not None or seed is not None:
            raise BadInput("width and seed choose among the demo SAEs; a folder holds one SAE: leave them out")
        if not Path(name_or_path).is_dir() and "/" not in str(name_or_path).strip("/"):
            known = f"'demo' (widths {_widths()})"
            raise BadInput(f"no SAE called {str(name_or_path)!r}: there is {known}, or give the folder of a saved one")
        return SAE.load(name_or_path, device=device)
    shipped = _shipped()
    wanted = max((w for w, _ in shipped), default=0) if width is None else width
    seeds = sorted(s for w, s in shipped if w == wanted)
    if not seeds:
        raise BadInput(f"no demo SAE of width {wanted}: there are widths {_widths()}")
    chosen = seeds[0] if seed is None else seed
    if chosen not in seeds:
        raise BadInput(f"no demo SAE of width {wanted} with seed {seed}: there are seeds {', '.join(map(str, seeds))}")
    return SAE.load(shipped[wanted, chosen], device=device)


def _shipped() -> dict[tuple[int, int], Path]:
    """Folders of the demo SAEs by (width, seed)."""
    found = {}
    for folder in sorted(DEMO.glob("w*")):
        if match := re.fullmatch(r"w(\d+)(?:-s(\d+))?", folder.name):
            found[int(match[1]), int(match[2] or 0)] = folder
    return found


def _widths() -> str:
    return ", ".join(str(w) for w in sorted({w for w, _ in _shipped()})) or "(none in this installation)"
