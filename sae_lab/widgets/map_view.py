"""The map of latents as a widget: pan, zoom, search, read, select; a million points stay fluid.

Everything is drawn and searched in the page from one block of bytes, so a saved page does all that a live one
does. Python gets what was selected: as a selection shared with other widgets, as rows, and as a table.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import traitlets

from sae_lab._errors import BadInput
from sae_lab.widgets import _pack_map
from sae_lab.widgets._base import Selectable, binary

if TYPE_CHECKING:
    import pandas as pd

    from sae_lab.studies import LatentMap


class MapView(Selectable):
    """Shows a `LatentMap`: one point a latent, similar decoder directions near each other.

    Parameters
    ----------
    latent_map
        What `sae_lab.latent_map` returned, or `LatentMap.load`.
    color
        Name of the column of `latent_map.columns` that colours the points. A column of categories or texts gets
        colours with shapes and names, a column of numbers a scale. By default, `latent_map.color`. The reader can
        choose another.
    selected
        What is selected first: a latent, or several, of the map's first SAE; or a selection as in `selection`.
    height
        Height in a notebook, in pixels. A page of its own fills the window.

    Attributes
    ----------
    selection : dict
        ``{"sae": fingerprint, "latents": [numbers]}``, shared with linked widgets; the first latent is the one that
        is looked at. It names one SAE: of a selection across several SAEs, that of the latent looked at.
    points : list of int
        Rows of `latent_map.frame` for all that is selected, of whichever SAE.
    color : str
        The column that colours the points. Set it to show another.

    Raises
    ------
    BadInput
        `latent_map` is not a `LatentMap`, or has no such column or latent.

    Examples
    --------
    >>> found = sl.latent_map(prof)                                 # doctest: +SKIP
    >>> view = found.widget(color="cluster")                        # doctest: +SKIP
    >>> view.frame                                                  # what is selected  # doctest: +SKIP
    """

    _name = "map_view"
    _parts = (
        "block",
        "dashboard.text",
        "palette",
        "map_view.data",
        "map_view.colour",
        "map_view.draw",
        "map_view.marks",
        "map_view.pointer",
        "map_view.legend",
        "map_view.list",
        "map_view.detail",
        "map_view.head",
    )

    data = binary()
    color = traitlets.Unicode("").tag(sync=True)
    points = traitlets.List(traitlets.Int()).tag(sync=True)
    height = traitlets.Int(560).tag(sync=True)
    page = traitlets.Bool(False, read_only=True).tag(sync=True)

    def __init__(
        self,
        latent_map: LatentMap,
        *,
        color: str | None = None,
        selected: int | Iterable[int] | Mapping[str, Any] | None = None,
        height: int = 560,
    ) -> None:
        self._map = _checked(latent_map)
        selection = _selection(latent_map, selected)
        super().__init__(data=_pack_map.pack(latent_map), color=color or latent_map.color, height=height)
        self.selection = selection

    def update(self, latent_map: LatentMap) -> None:
        """Show another map in the same place, such as the next state of one that is still being refined."""
        self._map = _checked(latent_map)
        columns = [str(name) for name in latent_map.columns]
        with self.hold_sync():
            if self.color not in columns:
                self.color = latent_map.color
            self.points = self._rows(self.selection)
            self.data = _pack_map.pack(latent_map)

    @property
    def frame(self) -> pd.DataFrame:
        """The selected points as a table: their rows of `latent_map.frame`."""
        return self._map.frame.iloc[self.points]

    def _for_page(self) -> MapView:
        page = MapView(self._map, color=self.color, selected=self.selection)
        page.points = self.points
        return page

    @traitlets.validate("color")
    def _check_color(self, proposal: Any) -> str:
        names = [str(name) for name in self._map.columns]
        if proposal["value"] not in names and (names or proposal["value"] != "density"):
            raise BadInput(
                f"the map has no column {proposal['value']!r} to colour by: it has {', '.join(names) or 'none'}"
            )
        return str(proposal["value"])

    @traitlets.observe("selection")
    def _follow(self, change: Any) -> None:
        """Keep `points` true to a selection that came from elsewhere; a wider one made in the page stays."""
        sae = change["new"].get("sae")
        if change["new"] and sae not in self._map.saes:
            return  # of an SAE that is not on this map
        rows, points = self._rows(change["new"]), np.array(self.points, dtype=np.int64)
        here = points[self._map.which[points] == self._map.saes.index(sae)] if rows else points
        if set(here.tolist()) != set(rows):
            self.points = rows

    def _rows(self, selection: Mapping[str, Any]) -> list[int]:
        if selection.get("sae") not in self._map.saes:
            return []
        rows = self._map.points(selection["latents"], selection["sae"])
        order = {latent: place for place, latent in enumerate(selection["latents"])}
        return sorted((int(row) for row in rows), key=lambda row: order[int(self._map.latent[row])])

    def _summary(self) -> str:
        return self._map._summary()


def _checked(latent_map: Any) -> LatentMap:
    from sae_lab.studies import LatentMap

    if not isinstance(latent_map, LatentMap):
        raise BadInput(
            f"MapView shows a LatentMap, not a {type(latent_map).__name__}: "
            "make one with found = sl.latent_map(profiles), or from an SAE"
        )
    return latent_map


def _selection(latent_map: LatentMap, selected: Any) -> dict[str, Any]:
    """The selection that is meant by a number, several, or a selection; checked against the map."""
    if selected is None or (isinstance(selected, Mapping) and not selected):
        return {}
    if isinstance(selected, Mapping):
        sae, latents = selected.get("sae"), selected.get("latents", [])
        if sae not in latent_map.saes:
            raise BadInput(f"there is no SAE {sae!r} on this map: it shows {', '.join(latent_map.saes)}")
    else:
        sae, latents = latent_map.saes[0], [selected] if isinstance(selected, int | np.integer) else selected
    try:
        numbers = [int(latent) for latent in latents]
    except (TypeError, ValueError):
        raise BadInput(f"selected={selected!r}: give a latent, several, or a selection") from None
    here = set(latent_map.latent[latent_map.points(numbers, sae)].tolist())
    missing = [latent for latent in numbers if latent not in here]
    if missing:
        raise BadInput(f"latent {missing[0]} is not on this map of {latent_map._summary()}: choose one of its latents")
    return {"sae": sae, "latents": numbers}
