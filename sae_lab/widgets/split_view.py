"""Lineages across widths: which latents of wider SAEs a latent goes on as, and which one it comes from.

The widget carries all links between the SAEs of a chain, so that any latent's lineage is there at once and without
a kernel. It takes a `StitchChain`, and `Profiles` for the words under the latents' numbers.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
import traitlets

from sae_lab._errors import BadInput
from sae_lab.widgets._base import Selectable, binary
from sae_lab.widgets._pack_curve import checked_profiles
from sae_lab.widgets._pack_split import pack_split, widest_split

if TYPE_CHECKING:
    from sae_lab.evaluation import Profiles
    from sae_lab.studies import StitchChain


class SplitView(Selectable):
    """Shows the lineages of latents through SAEs of growing width: `stitch_chain`'s result.

    A link is a cosine of decoder directions at or above the step's threshold, not proof of descent.

    Parameters
    ----------
    chain
        What `sae_lab.stitch_chain` returned, or `StitchChain.load`.
    profiles
        Profiles of some or all of the SAEs: they give the latents their top tokens. Those of other SAEs are not
        used. Without them latents are shown by number.
    width
        The SAE whose latent is shown first: its number of latents, its name or its fingerprint. The default is the
        narrowest.
    latent
        That latent's number. The default, in the narrowest SAE, is the one that splits into most; else 0.
    height
        Height of the lineage in pixels.

    Attributes
    ----------
    centre : dict
        ``{"sae": fingerprint, "latent": number}``: the latent whose lineage is drawn.
    selection : dict
        The latents selected, of one of the SAEs. A latent selected elsewhere is marked in the lineage that is drawn,
        or, if it is not in it, its own is drawn.

    Raises
    ------
    BadInput
        `chain` is not a `StitchChain`, `profiles` are of other SAEs, or there is no such SAE or latent.

    Examples
    --------
    >>> chain = sl.stitch_chain([w1, w2, w4], acts)                      # doctest: +SKIP
    >>> sl.SplitView(chain, profiles=[p1, p2, p4])                       # doctest: +SKIP
    """

    _name = "split_view"
    _parts = (
        "block",
        "dashboard.text",
        "curve_view.latents",
        "split_view.family",
        "split_view.overview",
        "split_view.list",
        "split_view.tree",
    )

    data = binary()
    centre = traitlets.Dict().tag(sync=True)
    height = traitlets.Int(460).tag(sync=True)

    def __init__(
        self,
        chain: StitchChain,
        *,
        profiles: Profiles | Iterable[Profiles] | None = None,
        width: int | str | None = None,
        latent: int | None = None,
        height: int = 460,
    ) -> None:
        self._chain = chain = _checked(chain)
        known = checked_profiles(profiles, chain.saes, chain.names, "chain")
        place = 0 if width is None else chain.place(width)
        if latent is None:
            latent = widest_split(chain) if place == 0 else 0
        centre = {"sae": chain.saes[place], "latent": latent}
        super().__init__(data=pack_split(chain, known), centre=centre, height=height)

    @traitlets.validate("centre")
    def _check_centre(self, proposal: Any) -> dict[str, Any]:
        value, chain = proposal["value"], self._chain
        sae, latent = value.get("sae"), value.get("latent")
        if sae not in chain.saes:
            raise BadInput(f"centre is of an SAE {sae!r}: this chain holds {', '.join(chain.saes)}")
        place = chain.saes.index(sae)
        whole = isinstance(latent, int | np.integer) and not isinstance(latent, bool)
        if not whole or not 0 <= latent < chain.widths[place]:
            raise BadInput(
                f"there is no latent {latent!r}: {chain.names[place]} has latents 0 to {chain.widths[place] - 1}"
            )
        return {"sae": sae, "latent": int(latent)}

    def _summary(self) -> str:
        return f"{' to '.join(self._chain.names)}, latent {self.centre['latent']} of {self._centre_name()}"

    def _centre_name(self) -> str:
        return self._chain.names[self._chain.saes.index(self.centre["sae"])]


def _checked(chain: Any) -> StitchChain:
    from sae_lab.studies import StitchChain

    if not isinstance(chain, StitchChain):
        raise BadInput(
            f"SplitView shows a StitchChain, not a {type(chain).__name__}: "
            "make it with chain = sl.stitch_chain([w1, w2, w4], acts)"
        )
    return chain
