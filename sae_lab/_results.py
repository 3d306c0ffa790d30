"""The base of every noun that a verb returns.

A result is frozen, gives its numbers as a tidy DataFrame, draws itself, saves and loads itself, and has
a repr that is the same every time: the widget in a notebook, one line of text everywhere else.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from sae_lab import _views

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import plotly.graph_objects as go


class Result:
    """What a verb returns. Subclasses are frozen dataclasses with read-only arrays, and fill in the parts below."""

    def __post_init__(self) -> None:
        for name, value in self._arrays().items():
            frozen = value.view()
            frozen.flags.writeable = False
            object.__setattr__(self, name, frozen)

    def _arrays(self) -> dict[str, np.ndarray]:
        """The fields that are arrays, by name."""
        import numpy as np

        named = ((name, getattr(self, name)) for name in getattr(self, "__dataclass_fields__", ()))
        return {name: value for name, value in named if isinstance(value, np.ndarray)}

    @property
    def frame(self) -> pd.DataFrame:
        """The result's numbers as a tidy DataFrame."""
        raise NotImplementedError(f"{type(self).__name__} has no frame")

    def plot(self) -> go.Figure:
        """The result as a plain plotly Figure."""
        raise NotImplementedError(f"{type(self).__name__} has no plot")

    def widget(self, **options: Any) -> Any:
        """The interactive widget that shows this result."""
        return _views.view(self, **options)

    def save(self, path: Path | str) -> Path:
        """Write the result to the folder `path`, atomically; return the path."""
        raise NotImplementedError(f"{type(self).__name__} cannot be saved")

    @classmethod
    def load(cls, path: Path | str) -> Self:
        """Read what `save` wrote."""
        raise NotImplementedError(f"{cls.__name__} cannot be loaded")

    def _summary(self) -> str:
        """What stands between the brackets of the repr: short, and the same every time."""
        return ""

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._summary()})"

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        if not _views.has_view(self):
            return {"text/plain": repr(self)}
        widget = self.widget()
        bundle = widget._repr_mimebundle_(**kwargs)
        data, metadata = bundle if isinstance(bundle, tuple) else (bundle or {}, {})
        return {**data, "text/plain": repr(self)}, metadata
