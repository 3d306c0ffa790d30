"""Our own layout: the folder of SAELens, with what it has no field for under the key "sae_lab", which it ignores.

That is what the SAE was trained as, its options, all metadata, the gate where SAELens has none like it, and a checksum
of the weights. So SAELens opens whatever it can hold, and everything comes back here exactly.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sae_lab.saes.formats import saelens
from sae_lab.saes.formats._open import peek_json

if TYPE_CHECKING:
    from sae_lab.saes._sae import SAE

NAME, PICKLED = "sae_lab", False


def recognises(path: Path) -> bool:
    """Whether `path` is a folder that `save` wrote."""
    return "sae_lab" in peek_json(path / saelens.CONFIG)


def refuses(sae: SAE) -> None:
    """Nothing: it holds every record."""


def save(sae: SAE, path: Path, *, dtype: str = "float32") -> Path:
    """Write `sae` to the folder `path`, atomically; `dtype` as in `saelens.save`."""
    return saelens.save(sae, path, dtype=dtype)


def load(path: Path) -> SAE:
    """Read what `save` wrote; errors as in `saelens.load`."""
    return saelens.load(path)
