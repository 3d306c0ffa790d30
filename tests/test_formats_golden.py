"""Files that peers' own code wrote, and files of ours that it read: our outputs equal theirs.

`golden/make.py` makes the files anew, in the peers' own environments.
"""

from __future__ import annotations

import pytest
import torch
from _formats import OURS, expected, files, golden, our_sae
from safetensors.torch import load_file

import sae_lab as sl
from sae_lab.saes import formats

LAYOUTS = ("saelens", "dictionary_learning", "sparsify", "plain")
PEERS = [(layout, case) for layout in LAYOUTS for case in golden(layout)]
WRITTEN = [(layout, kind) for layout, kinds in OURS.items() for kind in kinds]


def close(ours, theirs):
    """Equal to 1e-5 of the largest entry: sums are taken in another order here."""
    assert ours.shape == theirs.shape
    assert float((ours - theirs).abs().max()) <= 1e-5 * float(theirs.abs().max())


def assert_same_function(sae, theirs):
    x = theirs["x"]
    z = sae.encode(x)
    assert 0 < (z > 0).sum() < z.numel(), "a case in which all or nothing is active shows nothing"
    assert torch.equal(z > 0, theirs["z"] > 0)
    close(z, theirs["z"])
    close(sae(x), theirs["x_hat"])
    close(sae.decode(z, x=x), theirs["x_hat"])


@pytest.mark.parametrize(("layout", "case"), PEERS, ids=["-".join(pair) for pair in PEERS])
def test_a_peers_file_is_recognised_and_computes_what_the_peer_computes(layout, case):
    path = files(layout, case)
    assert formats.detect(path) == layout
    assert_same_function(sl.load_sae(path), expected(layout, case))


@pytest.mark.parametrize(("layout", "kind"), WRITTEN, ids=["-".join(pair) for pair in WRITTEN])
def test_a_file_of_ours_computes_the_same_in_the_peers_code(layout, kind, tmp_path):
    sae, theirs = our_sae(kind), expected(layout, f"ours_{kind}")
    assert_same_function(sae, theirs)
    path = sae.save(tmp_path / "sae", format=layout)
    again = sl.load_sae(path, layout)
    assert_same_function(again, theirs)
    # what the peer read is still what we write
    then = files(layout, f"ours_{kind}")
    if layout == "dictionary_learning":
        written, read = (torch.load(p / "ae.pt", weights_only=True) for p in (path, then))
    else:
        written, read = (load_file(p if p.is_file() else next(p.glob("*.safetensors"))) for p in (path, then))
    assert written.keys() == read.keys()
    for name, tensor in written.items():
        torch.testing.assert_close(tensor, read[name], rtol=0, atol=0)
