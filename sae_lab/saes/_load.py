"""`load_sae`: the shipped demo SAEs by width and seed, any saved folder or file, or an SAE on the hub."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch

from sae_lab._errors import BadInput
from sae_lab.saes._sae import SAE

DEMO = Path(__file__).parent / "demo"


def load_sae(
    name_or_path: str | Path = "demo",
    format: str = "auto",
    *,
    width: int | None = None,
    seed: int | None = None,
    subfolder: str | None = None,
    revision: str | None = None,
    device: str | torch.device = "cpu",
    **options: Any,
) -> SAE:
    """Load a trained SAE: ours, or one that another library trained.

    Parameters
    ----------
    name_or_path
        "demo" for an SAE that comes with this package (BatchTopK on the output of layer 9 of the demo
        model), the folder or file of a saved one, or a hub id "owner/name". What exists on disk goes before the hub.
    format
        The layout of the files; "auto" recognises it. The documentation's page on formats names them.
    width
        Number of latents of the demo SAE; None takes the widest. Only with "demo".
    seed
        Training seed of the demo SAE, where a width comes with several; None takes the first. Only with "demo".
    subfolder
        Folder or file inside a repository of the hub, or inside a folder on disk. Nothing else is downloaded.
    revision
        Branch, tag or commit of a repository of the hub; None takes the newest.
    device
        Where to put the weights.
    options
        What a layout needs and its files may not say: `k` (Qwen Scope), `input_scale` (what training multiplied
        activations by: SAELens' "expected_average_only_in"), and others that the page on formats names.

    Raises
    ------
    BadInput
        There is no such SAE (the message names those that there are), its layout is unknown, or it holds something
        that the record cannot.
    CorruptFile
        Its files are damaged; the message names the file, the key and what was expected.
    Unavailable
        The hub cannot be reached.
    """
    if str(name_or_path) == "demo":
        if subfolder or revision or options or format != "auto":
            raise BadInput(
                "'demo' takes width, seed and device only: leave the others out, or give a folder or a hub id"
            )
        return SAE.load(_demo(width, seed), device=device)
    if width is not None or seed is not None:
        raise BadInput("width and seed choose among the demo SAEs; a folder holds one SAE: leave them out")
    from sae_lab.saes import formats

    path = _place(name_or_path, subfolder, revision)
    return formats.read(path, format, **options).to(device)


def _place(name_or_path: str | Path, subfolder: str | None, revision: str | None) -> Path:
    """Where the files are, downloaded if they have to be."""
    if not isinstance(name_or_path, str | Path) or not str(name_or_path).strip():
        raise BadInput(f"name_or_path must be 'demo', a folder, a file or a hub id 'owner/name', not {name_or_path!r}")
    if match := re.match(r"https?://huggingface\.co/([\w.-]+/[\w.-]+)", str(name_or_path)):
        raise BadInput(
            f"{name_or_path!r} is an address: give the hub id in it, {match[1]!r}, and the rest as subfolder="
        )
    path = Path(name_or_path)
    if path.exists():
        if revision is not None:
            raise BadInput(
                f"{path} is on this disk, and revision= chooses one of a repository of the hub: leave it out"
            )
        return path / subfolder if subfolder else path
    if "/" not in str(name_or_path).strip("/"):
        known = f"'demo' (widths {_widths()})"
        raise BadInput(f"no SAE called {str(name_or_path)!r}: there is {known}, or give the folder of a saved one")
    if isinstance(name_or_path, str) and re.fullmatch(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", name_or_path):
        from sae_lab.saes.formats._hub import download

        return download(name_or_path, subfolder, revision)
    return path


def _demo(width: int | None, seed: int | None) -> Path:
    shipped = _shipped()
    wanted = max((w for w, _ in shipped), default=0) if width is None else width
    seeds = sorted(s for w, s in shipped if w == wanted)
    if not seeds:
        raise BadInput(f"no demo SAE of width {wanted}: there are widths {_widths()}")
    chosen = seeds[0] if seed is None else seed
    if chosen not in seeds:
        raise BadInput(f"no demo SAE of width {wanted} with seed {seed}: there are seeds {', '.join(map(str, seeds))}")
    return shipped[wanted, chosen]


def _shipped() -> dict[tuple[int, int], Path]:
    """Folders of the demo SAEs by (width, seed)."""
    found = {}
    for folder in sorted(DEMO.glob("w*")):
        if match := re.fullmatch(r"w(\d+)(?:-s(\d+))?", folder.name):
            found[int(match[1]), int(match[2] or 0)] = folder
    return found


def _widths() -> str:
    return ", ".join(str(w) for w in sorted({w for w, _ in _shipped()})) or "(none in this installation)"
