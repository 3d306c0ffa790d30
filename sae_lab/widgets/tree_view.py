"""The decomposition of an SAE by a meta-SAE as a tree: a latent, its meta-latents, the latents that share them.

The widget carries the whole sparse decomposition, packed by `_pack_tree`: branches open, searches run and other
roots are chosen in the page alone, so a saved tree can do all that a live one can.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
import traitlets

from sae_lab._errors import BadInput, Mismatch
from sae_lab.widgets import _pack_tree
from sae_lab.widgets._base import Selectable, binary

if TYPE_CHECKING:
    from sae_lab.evaluation import Profiles
    from sae_lab.studies.meta_saes import MetaSAE, MetaTree

LAYOUTS = ("radial", "indented")


class TreeView(Selectable):
    """Shows how latents are made of meta-latents, and which latents share them.

    From a latent the branches lead to its meta-latents and on to the latents that use these; from a meta-latent to
    the latents that use it. A click opens a branch, a double click (or Enter) starts from there, the panel tells all
    that is known about what is selected.

    Parameters
    ----------
    tree
        What `MetaSAE.tree` returned; or a `MetaSAE`, whose most widely decomposed latent is then the root.
    profiles
        `Profiles` of the SAEs in the tree (one, or a list): of the base SAE for the tokens of its latents and the
        logits that they boost; of a meta-SAE for the logits of its own directions. Without it, labels are those that
        the tree has, and no logits are shown.
    layout
        "radial" or "indented". The page has a switch; the indented tree is also the text alternative.
    height
        Height in a notebook, in pixels. A page of its own fills the window.

    Attributes
    ----------
    root : dict
        ``{"sae": fingerprint, "latent": number}``. Set it to start from another; observe it to follow the reader.
    form : str
        "radial" or "indented", as it is shown now.
    selection : dict
        ``{"sae": fingerprint, "latents": [number]}`` of the latent or meta-latent that is selected.

    Raises
    ------
    BadInput
        `tree` is neither of the two, a profile is of an SAE that is not in the tree, or the layout is unknown.

    Examples
    --------
    >>> meta = sl.meta_sae(sae, profiles=prof)                    # doctest: +SKIP
    >>> sl.TreeView(meta.tree(123), profiles=prof)                # doctest: +SKIP
    >>> meta.tree(meta=7).widget().to_html("tree.html")           # doctest: +SKIP
    """

    _name = "tree_view"
    _parts = (
        "block",
        "dashboard.text",
        "tree_view.data",
        "tree_view.radial",
        "tree_view.rows",
        "tree_view.panel",
        "tree_view.head",
    )

    data = binary()
    root = traitlets.Dict().tag(sync=True)
    form = traitlets.Enum(LAYOUTS, "radial").tag(sync=True)
    height = traitlets.Int(640).tag(sync=True)
    depth = traitlets.Int(2, read_only=True).tag(sync=True)
    breadth = traitlets.Int(5, read_only=True).tag(sync=True)
    page = traitlets.Bool(False, read_only=True).tag(sync=True)

    def __init__(
        self,
        tree: MetaTree | MetaSAE,
        *,
        profiles: Profiles | Iterable[Profiles] | None = None,
        layout: str = "radial",
        height: int = 640,
    ) -> None:
        self._tree = _checked(tree)
        self._profiles = _by_level(self._tree, profiles)
        if layout not in LAYOUTS:
            raise BadInput(f'layout={layout!r}: a tree is drawn "radial" or "indented"')
        level = self._tree.levels[self._tree.root_level]
        super().__init__(
            data=_pack_tree.pack(self._tree, self._profiles),
            root={"sae": level.sae, "latent": self._tree.root},
            form=layout,
            height=height,
        )
        self.set_trait("depth", self._tree.depth)
        self.set_trait("breadth", self._tree.breadth)

    def _for_page(self) -> TreeView:
        known = [profile for profile in self._profiles if profile is not None]
        page = TreeView(self._tree, profiles=known, layout=self.form)
        page.root = self.root
        return page

    @traitlets.validate("root")
    def _check_root(self, proposal: Any) -> dict[str, Any]:
        value = proposal["value"]
        sizes = {level.sae: level.size for level in self._tree.levels}
        sae, latent = value.get("sae"), value.get("latent")
        if sae not in sizes:
            raise BadInput(f'a root is {{"sae": fingerprint, "latent": number}} of {", ".join(sizes)}, not {value!r}')
        if isinstance(latent, bool) or not isinstance(latent, int | np.integer) or not 0 <= latent < sizes[sae]:
            raise BadInput(f"there is no latent {latent!r} in {sae}: it has 0 to {sizes[sae] - 1}")
        return {"sae": sae, "latent": int(latent)}

    def _summary(self) -> str:
        number = next(i for i, level in enumerate(self._tree.levels) if level.sae == self.root["sae"])
        kind = "latent" if number == 0 else "meta-latent"
        return f"{_pack_tree.note(self._tree)}; {kind} {self.root['latent']}"


def _checked(tree: Any) -> MetaTree:
    from sae_lab.studies.meta_saes import MetaSAE, MetaTree

    if isinstance(tree, MetaSAE):
        return tree.tree()
    if not isinstance(tree, MetaTree):
        raise BadInput(
            f"TreeView shows a MetaTree, not a {type(tree).__name__}: make one with sl.meta_sae(sae).tree(latent)"
        )
    return tree


def _by_level(tree: MetaTree, profiles: Any) -> list[Profiles | None]:
    """For each level of the tree, the profiles of its SAE or None; all that were given must be of one."""
    from sae_lab.evaluation import Profiles

    given = [] if profiles is None else [profiles] if isinstance(profiles, Profiles) else list(profiles)
    for profile in given:
        if not isinstance(profile, Profiles):
            raise BadInput(f"profiles are what sl.profile returns, not a {type(profile).__name__}")
        sizes = {level.sae: level.size for level in tree.levels}
        if sizes.get(profile.sae) != profile.d_sae:
            names = ", ".join(f"{level.name} ({level.sae})" for level in tree.levels)
            raise Mismatch(
                f"the profiles of {profile.name} ({profile.sae}, {profile.d_sae} latents) are of no SAE in this tree, "
                f"which has {names}: give profiles of one of these, or none"
            )
    found = {profile.sae: profile for profile in given}
    return [found.get(level.sae) for level in tree.levels]
