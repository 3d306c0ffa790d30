"""The activations room: harvesting rows from a model, storing them with their provenance, shuffling, streaming them."""

from sae_lab.activations._harvest import harvest
from sae_lab.activations._import import read_saelens_activations
from sae_lab.activations._joined import join
from sae_lab.activations._provenance import Context
from sae_lab.activations._store import Activations, as_activations
from sae_lab.activations._stream import ActivationStream, stream

__all__ = [
    "ActivationStream",
    "Activations",
    "Context",
    "as_activations",
    "harvest",
    "join",
    "read_saelens_activations",
    "stream",
]
