"""sae_lab: the sparse-autoencoder lab that lives in a Jupyter notebook.

Model -> Activations -> SAE -> results -> widgets. Names are imported on first use, so `import sae_lab`
loads neither torch nor nnsight nor plotly.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOME = {
    "load_model": "models",
    "load_corpus": "models",
    "Model": "models",
    "harvest": "activations",
    "join": "activations",
    "stream": "activations",
    "read_saelens_activations": "activations",
    "Activations": "activations",
    "ActivationStream": "activations",
    "SAE": "saes",
    "TopK": "saes",
    "BatchTopK": "saes",
    "Matryoshka": "saes",
    "MutualChoice": "saes",
    "FeatureChoice": "saes",
    "ReLU": "saes",
    "JumpReLU": "saes",
    "Gated": "saes",
    "PAnneal": "saes",
    "Transcoder": "saes",
    "VariationalTopK": "saes",
    "GradientSAE": "saes",
    "GroupBias": "saes",
    "Crosscoder": "saes",
    "load_sae": "saes",
    "with_pursuit": "saes",
    "train": "training",
    "resume": "training",
    "TrainingRun": "training",
    "Sweep": "training",
    "end_to_end": "training",
    "EndToEnd": "training",
    "evaluate": "evaluation",
    "evaluate_selection": "evaluation",
    "compare": "evaluation",
    "Comparison": "evaluation",
    "profile": "evaluation",
    "Profiles": "evaluation",
    "latent_cache": "evaluation",
    "LatentCache": "evaluation",
    "stitch": "studies",
    "Stitching": "studies",
    "Curve": "studies",
    "merge": "studies",
    "Merge": "studies",
    "stitch_chain": "studies",
    "StitchChain": "studies",
    "latent_map": "studies",
    "LatentMap": "studies",
    "MapRun": "studies",
    "meta_sae": "studies",
    "MetaSAE": "studies",
    "MetaTree": "studies",
    "model_diff": "studies",
    "ModelDiff": "studies",
    "subject_latents": "studies",
    "CurveView": "widgets",
    "Dashboard": "widgets",
    "Explorer": "widgets",
    "MapView": "widgets",
    "Monitor": "widgets",
    "SplitView": "widgets",
    "SweepMonitor": "widgets",
    "TreeView": "widgets",
    "link": "widgets",
    "SaeLabError": "_errors",
}
_ROOMS = {"models", "activations", "saes", "training", "evaluation", "studies", "synthetic", "widgets"}

__all__ = sorted(_HOME)

if TYPE_CHECKING:
    from sae_lab._errors import SaeLabError
    from sae_lab.activations import Activations, ActivationStream, harvest, join, read_saelens_activations, stream
    from sae_lab.evaluation import (
        Comparison,
        LatentCache,
        Profiles,
        compare,
        evaluate,
        evaluate_selection,
        latent_cache,
        profile,
    )
    from sae_lab.models import Model, load_corpus, load_model
    from sae_lab.saes import (
        SAE,
        BatchTopK,
        Crosscoder,
        FeatureChoice,
        Gated,
        GradientSAE,
        GroupBias,
        JumpReLU,
        Matryoshka,
        MutualChoice,
        PAnneal,
        ReLU,
        TopK,
        Transcoder,
        VariationalTopK,
        load_sae,
        with_pursuit,
    )
    from sae_lab.studies import (
        Curve,
        LatentMap,
        MapRun,
        Merge,
        MetaSAE,
        MetaTree,
        ModelDiff,
        StitchChain,
        Stitching,
        latent_map,
        merge,
        meta_sae,
        model_diff,
        stitch,
        stitch_chain,
        subject_latents,
    )
    from sae_lab.training import EndToEnd, Sweep, TrainingRun, end_to_end, resume, train
    from sae_lab.widgets import (
        CurveView,
        Dashboard,
        Explorer,
        MapView,
        Monitor,
        SplitView,
        SweepMonitor,
        TreeView,
        link,
    )


def __getattr__(name: str) -> Any:
    if name in _HOME:
        value = getattr(importlib.import_module(f"sae_lab.{_HOME[name]}"), name)
    elif name in _ROOMS:
        value = importlib.import_module(f"sae_lab.{name}")
    else:
        raise AttributeError(f"module 'sae_lab' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME, *_ROOMS})
