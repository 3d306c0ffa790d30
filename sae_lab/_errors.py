"""Every error that sae_lab raises on purpose.

Two rules: the message says what was wrong *and* what to do about it, and the class says which kind of
trouble it is, so that a notebook can catch `SaeLabError` and a script can be more exact.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class SaeLabError(Exception):
    """Base of all errors that sae_lab raises on purpose."""


class BadInput(SaeLabError, ValueError):
    """An argument or its content cannot be used; nothing was computed or written."""


class SiteError(BadInput):
    """A hook site does not exist in this model."""


class Mismatch(BadInput):
    """Two things that must belong together do not: an SAE and activations of another model, say."""


class CorruptFile(SaeLabError):
    """A file is truncated, altered, or not what its name says."""


class Unavailable(SaeLabError):
    """Something from outside is needed and cannot be had: no network, no disk space, no kernel."""


class MissingExtra(SaeLabError, ImportError):
    """An optional dependency is not installed."""

    def __init__(self, package: str, extra: str):
        super().__init__(f"{package} is not installed; run: pip install 'sae-lab[{extra}]'")


def nearest(word: str, candidates: Iterable[str], count: int = 5) -> list[str]:
    """The candidates most like `word`, best first, for error messages."""
    return difflib.get_close_matches(word, list(candidates), n=count, cutoff=0.3)
