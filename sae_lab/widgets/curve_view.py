"""The path from a small SAE to a large one: error, L0 and what each step inserts, swaps or drops.

The widget carries the whole path, so that every step is there at once and without a kernel. It takes a `Curve`, and
`Profiles` for the words under the latents' numbers.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
import traitlets

from sae_lab._errors import BadInput
from sae_lab.widgets._base import Selectable, binary
from sae_lab.widgets._pack_curve import checked_profiles, pack_curve

if TYPE_CHECKING:
    from sae_lab.evaluation import Profiles
    from sae_lab.studies import Curve, Stitching


class CurveView(Selectable):
    """Shows a stitching path step by step: `Stitching.curve`'s result.

    Parameters
    ----------
    curve
        What `Stitching.curve` returned, or `Curve.load`.
    profiles
        Profiles of the small SAE, the large one, or both: they give the latents their top tokens and densities.
        Those of other SAEs are not used. Without them latents are shown by number.
    stitching
        The stitching that the path is of. With it each latent of the large SAE is listed with its largest cosine and
        with its gain: how far FVU falls when that latent alone is inserted into the small SAE.
    step
        The state to show first: 0 is the small SAE, the last one the large SAE.
    view
        "step": FVU, L0 and CE over the steps. "l0": FVU against L0, with the original SAEs beside the path.
    height
        Height of the plots in pixels.

    Attributes
    ----------
    step : int
        The state that is shown. Set it to show another; observe or link it to follow the reader.
    view : str
        "step" or "l0".
    selection : dict
        The latents selected, of the small or of the large SAE. A step that is clicked selects what it inserts, or
        what it drops; a latent selected elsewhere is shown at the step at which it enters or leaves.

    Raises
    ------
    BadInput
        `curve` is not a `Curve`, `profiles` are of other SAEs, or there is no such step.

    Examples
    --------
    >>> curve = sl.stitch(small, large, acts).curve()                    # doctest: +SKIP
    >>> sl.CurveView(curve, profiles=[of_small, of_large])               # doctest: +SKIP
    """

    _name = "curve_view"
    _parts = (
        "block",
        "dashboard.text",
        "curve_view.latents",
        "curve_view.path",
        "curve_view.charts",
        "curve_view.step",
    )

    data = binary()
    step = traitlets.Int(0).tag(sync=True)
    view = traitlets.Enum(("step", "l0"), "step").tag(sync=True)
    height = traitlets.Int(380).tag(sync=True)

    def __init__(
        self,
        curve: Curve,
        *,
        profiles: Profiles | Iterable[Profiles] | None = None,
        stitching: Stitching | None = None,
        step: int = 0,
        view: str = "step",
        height: int = 380,
    ) -> None:
        self._curve = curve = _checked(curve)
        if view not in ("step", "l0"):
            raise BadInput(f'view={view!r}: show the path by "step" or against "l0"')
        names = (curve.small_name, curve.large_name)
        known = checked_profiles(profiles, (curve.small_sae, curve.large_sae), names, "path")
        if stitching is not None:
            _same_pair(curve, stitching)
        super().__init__(data=pack_curve(curve, known, stitching), step=step, view=view, height=height)

    @traitlets.validate("step")
    def _check_step(self, proposal: Any) -> int:
        step, last = proposal["value"], len(self._curve.action) - 1
        if isinstance(step, bool) or not isinstance(step, int | np.integer) or not 0 <= step <= last:
            raise BadInput(f"there is no step {step!r}: this path has the states 0 to {last}")
        return int(step)

    def _summary(self) -> str:
        c = self._curve
        return f"{c.small_name} to {c.large_name}, {len(c.action) - 1:,} steps, step {self.step}"


def _same_pair(curve: Curve, stitching: Any) -> None:
    pair = getattr(stitching, "small_sae", None), getattr(stitching, "large_sae", None)
    if pair != (curve.small_sae, curve.large_sae):
        given = f"a stitching of {stitching.small_name} and {stitching.large_name}" if all(pair) else repr(stitching)
        raise BadInput(
            f"the path is of {curve.small_name} and {curve.large_name}, and stitching is {given}: "
            "give the stitching whose .curve() it is"
        )


def _checked(curve: Any) -> Curve:
    from sae_lab.studies import Curve

    if not isinstance(curve, Curve):
        raise BadInput(
            f"CurveView shows the Curve of a stitching, not a {type(curve).__name__}: "
            "make it with curve = sl.stitch(small, large, acts).curve()"
        )
    return curve
