"""The model room: models, their sites and their text. The only room that knows nnsight."""

from sae_lab.models._corpus import load_corpus
from sae_lab.models._load import load_model
from sae_lab.models._model import Model
from sae_lab.models._sites import Site

__all__ = ["Model", "Site", "load_corpus", "load_model"]
