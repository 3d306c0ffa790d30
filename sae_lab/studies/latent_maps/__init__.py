"""Maps of latents: decoder directions laid out in the plane so that similar ones lie together.

`_result` is the noun, with its `_columns`, and `_figure` draws it plainly; `_map` is the verb and `_run` the work.
The way from directions to coordinates: `_inputs` collects the points, `_neighbours` finds who is near whom,
`_clusters` groups them, `_engines` lays them out, `_quality` says how far to believe the picture.
"""

from __future__ import annotations

from sae_lab.studies.latent_maps._map import latent_map
from sae_lab.studies.latent_maps._result import LatentMap
from sae_lab.studies.latent_maps._run import MapRun

__all__ = ["LatentMap", "MapRun", "latent_map"]
