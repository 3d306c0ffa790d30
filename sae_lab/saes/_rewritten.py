"""A trained SAE with some of its parts replaced: everything that is not named stays what it was."""

from __future__ import annotations

from typing import Any

from sae_lab.saes._sae import SAE

TENSORS = ("W_enc", "W_dec", "b_enc", "b_dec", "threshold", "W_skip")
FACTS = ("gate", "k", "center", "normalize", "architecture", "config", "metadata")


def rewritten(sae: SAE, **changes: Any) -> SAE:
    """A new SAE of `sae`'s parts with those given in their place; no weight is shared."""
    parts = {name: getattr(sae, name) for name in TENSORS + FACTS} | changes
    return SAE(**{name: part.clone() if name in TENSORS and part is not None else part for name, part in parts.items()})
