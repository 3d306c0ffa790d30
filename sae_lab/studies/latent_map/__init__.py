"""Maps of latents: decoder directions laid out in the plane so that similar ones lie together.

`_result` is the noun, `_figure` draws it plainly; `_map` is the verb. The way from directions to coordinates:
`_inputs` collects the points, `_neighbours` finds who is near whom, `_engines` lays them out, `_clusters` groups
them, `_quality` says how far to believe the picture.
"""

from __future__ import annotations

from sae_lab.studies.latent_map._result import LatentMap

__all__ = ["LatentMap"]
