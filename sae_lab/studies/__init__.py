"""Studies of trained SAEs, one a file or folder: what the literature asks of them, one call away."""

from __future__ import annotations

__all__: list[str] = []
