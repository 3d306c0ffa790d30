"""The feature dashboard: every latent of a profile in one view, in a notebook or as a page of its own.

The widget carries an index of all latents and the details of a few, packed by `_pack`; further details are asked
for when they are looked at. So a notebook with a dashboard stays small when it is saved, and a saved dashboard
still shows what it carries. The widget takes `Profiles` and knows no model: the live prompt is a function in them.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import traitlets
from anywidget.experimental import command

from sae_lab._errors import BadInput
from sae_lab.widgets import _pack
from sae_lab.widgets._base import Selectable, binary

if TYPE_CHECKING:
    from sae_lab.evaluation import Profiles

MOST_AT_ONCE = 64  # latents that one request of the page may ask for
LONGEST_PROMPT = 20_000  # characters


class Dashboard(Selectable):
    """Shows the latents of `profiles`: examples, activations, logits, neighbours.

    Parameters
    ----------
    profiles
        What `sae_lab.profile` returned, or `Profiles.load`.
    latent
        The latent to show first, which is then also selected in widgets linked to this one. By default number 0 is
        shown, and nothing is selected.
    latents
        Whose details the widget carries, so that they are there without a kernel: how many (48 by default; a set
        around `latent` is chosen), or which, or None for all. With a kernel, the others load when they are looked at.
    height
        Height in a notebook, in pixels. A page of its own fills the window.

    Attributes
    ----------
    selected : int
        The latent that is shown. Set it to show another; observe or link it to follow the reader.
    carried : ndarray of int
        The latents whose details the widget carries.

    Raises
    ------
    BadInput
        `profiles` is not a `Profiles`, or a latent does not exist.

    Examples
    --------
    >>> prof = sl.profile(sae, acts, model)              # doctest: +SKIP
    >>> sl.Dashboard(prof, latent=123)                   # doctest: +SKIP
    >>> sl.Dashboard(prof).to_html("features.html")      # doctest: +SKIP
    """

    _name = "dashboard"
    _parts = (
        "block",
        "dashboard.text",
        "dashboard.data",
        "dashboard.charts",
        "dashboard.list",
        "dashboard.examples",
        "dashboard.live",
        "dashboard.head",
    )

    data = binary()
    selected = traitlets.Int(0).tag(sync=True)
    height = traitlets.Int(700).tag(sync=True)
    sae = traitlets.Unicode("", read_only=True).tag(sync=True)
    live = traitlets.Bool(False, read_only=True).tag(sync=True)
    page = traitlets.Bool(False, read_only=True).tag(sync=True)

    def __init__(
        self,
        profiles: Profiles,
        latent: int | None = None,
        *,
        latents: int | Iterable[int] | None = 48,
        height: int = 700,
    ) -> None:
        self._profiles = _checked(profiles)
        self._lock = threading.Lock()  # requests may come on another thread, and a model runs one text at a time
        shown = 0 if latent is None else _number(profiles, latent)
        carried = _which(profiles, latents, shown)
        self.carried = np.array(carried)
        super().__init__(data=_pack.pack(profiles, carried, index=True), selected=shown, height=height)
        self.set_trait("sae", profiles.sae)
        if latent is not None:
            self._select()
        self.set_trait("live", profiles.prompt is not None)

    def to_html(self, path: Path | str, *, latents: int | Iterable[int] | None = 200, title: str | None = None) -> Path:
        """Write the dashboard as one self-contained page that needs no kernel and makes no request.

        Parameters
        ----------
        path
            The file to write; it appears complete or not at all.
        latents
            Whose details the page holds: how many (a set around the selected latent is chosen), or which, or None
            for all. 200 latents take 0.5 to 0.9 MB, all of 4608 up to 15 MB. All latents stand in the list anyway.
        title
            The page's title. The default is the widget's repr.

        Returns
        -------
        Path
            `path`. In the page, the address ends in ``#f=123`` for latent 123.
        """
        return self._write_page(self._for_page(latents), path, title)

    def _for_page(self, latents: int | Iterable[int] | None = 200) -> Dashboard:
        carried = _which(self._profiles, latents, self.selected)
        shown = self.selected if self.selected in carried else carried[0]
        page = Dashboard(self._profiles, shown, latents=carried, height=self.height)
        if shown == self.selected:
            page.selection = self.selection
        return page

    @traitlets.observe("selected")
    def _select(self, change: Any = None) -> None:
        if self.sae and not self._from_page("selected") and self._chosen() != self.selected:
            self.selection = {"sae": self.sae, "latents": [self.selected]}

    @traitlets.observe("selection")
    def _follow(self, change: Any) -> None:
        chosen = self._chosen()
        if chosen is not None and not self._from_page("selection"):
            self.selected = chosen

    def _chosen(self) -> int | None:
        """The first latent of the selection, if that is of this SAE."""
        latents = self.selection.get("latents") if self.selection.get("sae") == self.sae else None
        return latents[0] if latents else None

    @traitlets.validate("selected")
    def _check_selected(self, proposal: Any) -> int:
        return _number(self._profiles, proposal["value"])

    @command
    def details(self, message: Any, buffers: Any) -> tuple[dict[str, Any], list[bytes]]:
        """Answer the page: the details of `message["latents"]`, packed."""
        try:
            latents = [_number(self._profiles, i) for i in message["latents"][:MOST_AT_ONCE]]
            return {}, [_pack.pack(self._profiles, latents)]
        except Exception as error:  # what is raised here never reaches the page by itself
            return {"error": _said(error)}, []

    @command
    def activations(self, message: Any, buffers: Any) -> tuple[dict[str, Any], list[bytes]]:
        """Answer the page: the activation of one latent on each token of a text."""
        try:
            text, latent = str(message["text"]), _number(self._profiles, message["latent"])
            if len(text) > LONGEST_PROMPT:
                raise BadInput(f"the text has {len(text):,} characters: at most {LONGEST_PROMPT:,} are run")
            if self._profiles.prompt is None:
                raise BadInput("these profiles were made or loaded without a model, so no text can be run")
            with self._lock:
                tokens, values = self._profiles.prompt(text, latent)
            known = [float(v) if np.isfinite(v) else None for v in np.asarray(values, dtype=np.float64)]
            return {"tokens": [str(t) for t in tokens], "values": known}, []
        except Exception as error:
            return {"error": _said(error)}, []

    def _summary(self) -> str:
        p = self._profiles
        name = p.name if not p.site or p.site in p.name else f"{p.name} {p.site}"
        return f"{name}, {p.d_sae} latents, latent {self.selected}"


def _checked(profiles: Any) -> Profiles:
    from sae_lab.evaluation import Profiles

    if not isinstance(profiles, Profiles):
        raise BadInput(
            f"Dashboard shows Profiles, not a {type(profiles).__name__}: "
            "make them with prof = sl.profile(sae, acts, model)"
        )
    return profiles


def _number(profiles: Profiles, latent: Any) -> int:
    """`latent` as an int that names a latent, or a clear error."""
    if isinstance(latent, bool) or not isinstance(latent, int | np.integer):
        raise BadInput(f"a latent is a whole number from 0 to {profiles.d_sae - 1}, not {latent!r}")
    return profiles.check_latent(int(latent))


def _which(profiles: Profiles, latents: int | Iterable[int] | None, around: int) -> list[int]:
    """The latents meant by a number, a list or None, checked."""
    if latents is None:
        return list(range(profiles.d_sae))
    if isinstance(latents, int | np.integer):
        if latents < 1:
            raise BadInput(f"latents={latents}: carry the details of at least one latent, or of all with latents=None")
        return _pack.choose(profiles, int(latents), around)
    if not isinstance(latents, Iterable):
        raise BadInput(f"latents={latents!r}: give how many latents to carry, or which, or None for all")
    chosen = sorted({_number(profiles, i) for i in latents})
    if not chosen:
        raise BadInput("latents is empty: name at least one latent, or give latents=None for all")
    return chosen


def _said(error: Exception) -> str:
    return str(error) or type(error).__name__
