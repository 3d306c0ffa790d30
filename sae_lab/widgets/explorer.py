"""The explorer: everything that is known about the latents of some SAEs on one page, with one selection.

It draws nothing that has a widget of its own: dashboards, map, tree, path and lineages are children, each with its
own data, linked to the explorer and so to each other. The explorer lays them out, shows what has no widget of its
own (the view of a meta-latent), and puts what is selected into the address of an exported page.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import traitlets

from sae_lab import _views
from sae_lab._errors import BadInput
from sae_lab.widgets import _pack_explorer
from sae_lab.widgets._base import Selectable, Widget, binary
from sae_lab.widgets._link import tie
from sae_lab.widgets.dashboard import Dashboard

if TYPE_CHECKING:
    from sae_lab.evaluation import Profiles
    from sae_lab.studies import Curve, LatentMap, MetaSAE, MetaTree, StitchChain

PATH_HEIGHT = 320  # pixels of the plots of a path, which stands in a panel of half the height


class Explorer(Selectable):
    """Shows latents from all sides at once: dashboard, map, meta-latents, stitching path, lineages.

    Parameters
    ----------
    profiles
        `Profiles` of one SAE, or of several: each has its dashboard, and all widgets know all of them.
    map
        A `LatentMap`, to find latents by their neighbourhood.
    meta
        A `MetaSAE` on one of the SAEs (or one of its trees): what each latent is made of, and a view for each
        meta-latent, with its members, histogram and logits.
    curve
        The `Curve` of a stitching.
    chain
        A `StitchChain`, to follow latents through SAEs of several widths.
    model
        The model, for the tokens that each meta-latent promotes: its unembedding is all that is used.
    latent
        The latent of the first SAE to show first, or a selection, as in `selection`. By default one that is made of
        many meta-latents, or, without `meta`, one that fires strongly and not all the time.
    color
        The column that colours the map; by default `map.color`.
    latents
        Whose details each dashboard carries, as in `Dashboard`. With a kernel, the others load when they are looked at.
    height
        Height in a notebook, in pixels, where there is room for everything side by side.

    Attributes
    ----------
    selection : dict
        ``{"sae": fingerprint, "latents": [numbers]}``. Set it to select; observe it to follow the reader.
    children : list
        The widgets inside: one dashboard a profile, then map, tree, path and lineages, those that there are.

    Raises
    ------
    BadInput
        Something is not what it should be, two profiles are of one SAE, or nothing of `map`, `meta`, `curve` or
        `chain` is about an SAE of `profiles`.

    Examples
    --------
    >>> sl.Explorer(prof, map=latent_map, meta=meta)                       # doctest: +SKIP
    >>> sl.Explorer([of_small, of_large], map=both, curve=curve).to_html("explorer.html")  # doctest: +SKIP
    """

    _name = "explorer"
    _parts = ("block", "dashboard.text", "explorer.data", "explorer.parts", "explorer.meta", "explorer.layout")

    data = binary()
    children: traitlets.List[Any] = traitlets.List().tag(
        sync=True, to_json=lambda widgets, _: [f"anywidget:{w.model_id}" for w in widgets], from_json=None
    )
    height = traitlets.Int(880).tag(sync=True)
    page = traitlets.Bool(False, read_only=True).tag(sync=True)
    _links: Sequence[Any] = ()

    def __init__(
        self,
        profiles: Profiles | Iterable[Profiles],
        *,
        map: LatentMap | None = None,
        meta: MetaSAE | MetaTree | None = None,
        curve: Curve | None = None,
        chain: StitchChain | None = None,
        model: Any = None,
        latent: int | Mapping[str, Any] | None = None,
        color: str | None = None,
        latents: int | Iterable[int] | None = 48,
        height: int = 880,
    ) -> None:
        self._known = _several(profiles)
        self._tree = _tree(meta, self._known)
        self._profiles = _not_meta(self._known, self._tree)
        self._given: dict[str, Any] = {
            "map": map, "meta": meta, "curve": curve, "chain": chain, "model": model, "color": color, "height": height,
        }  # fmt: skip
        self._logits = _logits(meta, model, self._known)
        asides = _asides(self._known, self._tree, self._given)
        start = self._start(latent)
        dashboards = [Dashboard(of, _shown(of, start), latents=latents) for of in self._profiles]
        self._kinds = [kind for kind, _ in asides]
        children = [*dashboards, *(widget for _, widget in asides)]
        alive = [np.flatnonzero(of.density > 0) for of in self._profiles]
        super().__init__(data=self._packed(alive), children=children, height=height)
        self.selection = start
        self._links = tie([self, *children])

    def to_html(self, path: Path | str, *, latents: int | Iterable[int] | None = 300, title: str | None = None) -> Path:
        """Write the explorer as one self-contained page that needs no kernel and makes no request.

        Parameters
        ----------
        path
            The file to write; it appears complete or not at all.
        latents
            Whose details the page holds, of each SAE, as in `Dashboard.to_html`: 300 latents take about 1 MB. Map,
            tree, path and lists hold all latents anyway.
        title
            The page's title and heading. The default is the widget's repr, as the title only.

        Returns
        -------
        Path
            `path`. In the page, the address ends in ``#f=123`` for latent 123 of the first SAE, in
            ``#sae=<fingerprint>&f=123`` for one of another, and in ``#m=45`` for meta-latent 45.
        """
        return self._write_page(self._for_page(latents), path, title)

    def close(self) -> None:
        """Close the explorer and the widgets inside it."""
        for widget in (*self._links, *self.children):
            widget.close()
        super().close()

    def _for_page(self, latents: int | Iterable[int] | None = 300) -> Explorer:
        page = Explorer(self._known, latent=self.selection, latents=latents, **self._given)
        # "surprise me" draws only latents whose details are there
        dashboards = page.children[: len(self._profiles)]
        page.data = page._packed(
            [d.carried[of.density[d.carried] > 0] for d, of in zip(dashboards, self._profiles, strict=True)]
        )
        return page

    def _packed(self, pools: Sequence[np.ndarray]) -> bytes:
        panels = [{"kind": kind, "child": len(self._profiles) + i} for i, kind in enumerate(self._kinds)]
        return _pack_explorer.pack(self._profiles, pools, self._tree, self._logits, panels)

    def _start(self, latent: int | Mapping[str, Any] | None) -> dict[str, Any]:
        """What is selected first, as a selection."""
        first = self._profiles[0]
        if latent is None:
            return {"sae": first.sae, "latents": [_telling(first, self._tree)]}
        if not isinstance(latent, Mapping):
            return {"sae": first.sae, "latents": [first.check_latent(latent)]}
        sizes = {of.sae: of.d_sae for of in self._profiles}
        sizes |= {level.sae: level.size for level in self._tree.levels} if self._tree is not None else {}
        sae, latents = latent.get("sae"), [int(i) for i in latent.get("latents", [])]
        if sae not in sizes:
            raise BadInput(f"nothing here knows the SAE {sae}: select in one of {', '.join(sizes)}")
        if not latents or not 0 <= min(latents) <= max(latents) < sizes[sae]:
            raise BadInput(f"latents {latents}: give one or more from 0 to {sizes[sae] - 1}")
        return {"sae": sae, "latents": latents}

    def _summary(self) -> str:
        return f"{', '.join(of.name for of in self._profiles)}{' with ' if self._kinds else ''}{', '.join(self._kinds)}"


def _several(profiles: Any) -> list[Profiles]:
    from sae_lab.evaluation import Profiles

    several = [profiles] if isinstance(profiles, Profiles) else list(profiles) if isinstance(profiles, Iterable) else []
    if not several or not all(isinstance(of, Profiles) for of in several):
        raise BadInput("Explorer needs Profiles of one SAE or of several: make them with sl.profile(sae, acts, model)")
    saes = [of.sae for of in several]
    twice = next((of.name for of in several if saes.count(of.sae) > 1), None)
    if twice:
        raise BadInput(f"two of these profiles are of {twice}: give one for each SAE")
    return several


def _not_meta(profiles: Sequence[Profiles], tree: MetaTree | None) -> list[Profiles]:
    """Those that have a dashboard: meta-latents have a view of their own, whose logits a profile may give."""
    meta = {level.sae for level in tree.levels[1:]} if tree is not None else set()
    shown = [of for of in profiles if of.sae not in meta]
    if not shown:
        raise BadInput("these profiles are of the meta-SAE only: give those of the SAE that it was made from, too")
    return shown


def _tree(meta: Any, profiles: Sequence[Profiles]) -> MetaTree | None:
    """The tree that shows a meta-SAE; it must be about one of the SAEs."""
    from sae_lab.studies.meta_saes import MetaSAE, MetaTree

    if meta is None:
        return None
    _is_a(meta, "meta", (MetaSAE, MetaTree), "a MetaSAE, from sl.meta_sae(sae), or one of its trees")
    tree = meta.tree() if isinstance(meta, MetaSAE) else meta
    _about("the meta-SAE", [level.sae for level in tree.levels], profiles)
    return tree


def _asides(profiles: Sequence[Profiles], tree: MetaTree | None, given: Mapping[str, Any]) -> list[tuple[str, Widget]]:
    """The widgets beside the main view, in the order in which they are shown, with what they are."""
    from sae_lab.studies import Curve, LatentMap, StitchChain

    latent_map, curve, chain = given["map"], given["curve"], given["chain"]
    _is_a(latent_map, "map", (LatentMap,), "a LatentMap, from sl.latent_map(profiles)")
    _is_a(curve, "curve", (Curve,), "a Curve, from sl.stitch(small, large, acts).curve()")
    _is_a(chain, "chain", (StitchChain,), "a StitchChain, from sl.stitch_chain(saes, acts)")
    found: list[tuple[str, Widget]] = []
    if latent_map is not None:
        _about("the map", latent_map.saes, profiles)
        found.append(("map", _views.view(latent_map, color=given["color"])))
    if tree is not None:
        found.append(("tree", _views.view(tree, profiles=_of(profiles, [level.sae for level in tree.levels]))))
    if curve is not None:
        known = _about("the path", (curve.small_sae, curve.large_sae), profiles)
        found.append(("path", _views.view(curve, profiles=known, height=PATH_HEIGHT)))
    if chain is not None:
        found.append(("lineages", _views.view(chain, profiles=_about("the chain", chain.saes, profiles))))
    return found


def _is_a(thing: Any, name: str, kinds: tuple[type, ...], what: str) -> None:
    if thing is not None and not isinstance(thing, kinds):
        raise BadInput(f"{name} is {what}, not a {type(thing).__name__}")


def _of(profiles: Sequence[Profiles], saes: Iterable[str]) -> list[Profiles]:
    return [of for of in profiles if of.sae in set(saes)]


def _about(what: str, saes: Iterable[str], profiles: Sequence[Profiles]) -> list[Profiles]:
    """Those of the SAEs that it knows. With none, nothing in it could follow what is selected: that is refused."""
    known = _of(profiles, saes)
    if not known:
        names = ", ".join(of.name for of in profiles)
        raise BadInput(f"{what} is about none of these SAEs ({names}): give the profiles of the SAE it was made from")
    return known


def _logits(meta: Any, model: Any, profiles: Sequence[Profiles]) -> dict[str, _pack_explorer.Logits]:
    """What the latents of each meta-SAE promote, by fingerprint: from its profiles, or through the model."""
    found = {of.sae: _pack_explorer.Logits.of(of) for of in profiles if of.top_logits is not None}
    while model is not None and getattr(meta, "sae", None) is not None:
        found[meta.sae.fingerprint] = _pack_explorer.logits_of(meta.sae.W_dec, model)
        meta = meta.below
    return found


def _shown(profiles: Profiles, selection: Mapping[str, Any]) -> int | None:
    """The latent of these profiles that is selected, if one is."""
    return int(selection["latents"][0]) if selection["sae"] == profiles.sae else None


def _telling(profiles: Profiles, tree: MetaTree | None) -> int:
    """A latent worth seeing first: the tree's own, or one that fires strongly and neither rarely nor all the time."""
    if tree is not None and tree.levels[tree.root_level].sae == profiles.sae:
        return tree.root
    density = np.asarray(profiles.density)
    for least, most in ((1e-3, 1e-2), (1e-4, 1e-1), (0, 1)):
        if (middling := (density > least) & (density <= most)).any():
            return int(np.where(middling, profiles.max_activation, -1).argmax())
    return 0
