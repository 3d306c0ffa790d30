"""The settings of a harvest, checked before any work is done.

They decide, together with the texts and the model, every byte that is written; so they go into the
manifest, and a later call on the same folder is held against them.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from sae_lab._errors import BadInput

PACKINGS = ("documents", "blocks")
DTYPES = ("float16", "float32")
FLOAT16_MAX = 65504.0

# Padded tokens in a batch when the caller leaves the choice to us.
_AUTO_BATCH_TOKENS = {"cpu": 4096, "cuda": 32768}


@dataclass(frozen=True)
class Settings:
    """What decides which rows are kept, in which order, and how they are stored."""

    context_length: int
    packing: str
    skip_first: int
    dtype: str
    batch_tokens: int
    seed: int
    gradients: bool = False

    def as_dict(self) -> dict[str, Any]:
        """The settings as they stand in the manifest, which names gradients only where there are some."""
        values = dataclasses.asdict(self)
        return values if self.gradients else {key: value for key, value in values.items() if key != "gradients"}


def check_settings(
    model: Any,
    *,
    context_length: int,
    packing: str,
    skip_first: int,
    dtype: str,
    batch_tokens: int | str,
    seed: int,
    gradients: bool = False,
) -> Settings:
    """Return the settings, or raise `BadInput` that names the one that cannot be used and says why."""
    dtype = str(dtype).removeprefix("torch.")
    if packing not in PACKINGS:
        raise BadInput(f"packing={packing!r} is not known: choose one of {', '.join(map(repr, PACKINGS))}")
    if dtype not in DTYPES:
        raise BadInput(f"dtype={dtype!r} is not known: choose one of {', '.join(map(repr, DTYPES))}")
    _whole("context_length", context_length, least=1)
    _whole("skip_first", skip_first, least=0)
    _whole("seed", seed, least=0)
    if skip_first >= context_length:
        raise BadInput(
            f"skip_first={skip_first} drops every position of a sequence of context_length={context_length}: "
            f"choose skip_first below context_length"
        )
    longest = getattr(getattr(model.module, "config", None), "max_position_embeddings", None)
    if isinstance(longest, int) and context_length > longest:
        raise BadInput(f"context_length={context_length} is more than this model reads: it has {longest} positions")
    if getattr(model, "tokenizer", None) is None:
        raise BadInput(
            "harvest reads texts, and this model has no tokenizer: load the model together with its tokenizer"
        )
    if packing == "blocks" and end_of_text(model) is None:
        raise BadInput(
            "packing='blocks' puts an end-of-text token between documents, and this tokenizer has none: "
            "use packing='documents'"
        )
    if batch_tokens == "auto":
        batch_tokens = _AUTO_BATCH_TOKENS.get(model.device.type, 4096)
    _whole("batch_tokens", batch_tokens, least=1, also="or 'auto'")
    if not isinstance(gradients, bool):
        raise BadInput(f"gradients={gradients!r} cannot be used: give True or False")
    return Settings(int(context_length), packing, int(skip_first), dtype, int(batch_tokens), int(seed), gradients)


def check_max_tokens(max_tokens: int | None) -> int | None:
    """Return `max_tokens`, or raise `BadInput`."""
    if max_tokens is None:
        return None
    _whole("max_tokens", max_tokens, least=1, also="or None for all")
    return int(max_tokens)


def end_of_text(model: Any) -> int | None:
    """Id of the tokenizer's end-of-text token, or None."""
    value = getattr(model.tokenizer, "eos_token_id", None)
    return None if value is None else int(value)


def _whole(name: str, value: Any, *, least: int, also: str = "") -> None:
    if isinstance(value, bool) or not hasattr(value, "__index__") or value.__index__() < least:
        raise BadInput(f"{name}={value!r} cannot be used: give a whole number of at least {least} {also}".rstrip())
