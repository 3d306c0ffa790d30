"""with_pursuit: against a plain reference, better than the encoder at the same L0, and safe on odd rows and atoms."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import sae_lab as sl
from sae_lab._errors import BadInput
from sae_lab.saes import with_pursuit
from sae_lab.saes._pursuit import gradient_pursuit

torch.set_num_threads(1)


def random_sae(d_sae: int = 40, d_in: int = 12, seed: int = 0, **options) -> sl.SAE:
    g = torch.Generator().manual_seed(seed)
    W = torch.randn(d_sae, d_in, generator=g)
    parts = (W + 0.3 * torch.randn(d_sae, d_in, generator=g), W, torch.zeros(d_sae), torch.randn(d_in, generator=g))
    return sl.SAE(*parts, **{"gate": "topk", "k": 5, **options})


def rows(n: int = 30, d_in: int = 12, seed: int = 1) -> torch.Tensor:
    return torch.randn(n, d_in, generator=torch.Generator().manual_seed(seed))


def by_hand(signal: np.ndarray, W_dec: np.ndarray, k: int) -> np.ndarray:
    """The published algorithm for one row, one number at a time."""
    norms = np.linalg.norm(W_dec, axis=1)
    atoms = W_dec / norms[:, None]
    w, support = np.zeros(len(atoms)), set()
    for _ in range(k):
        r = signal - w @ atoms
        products = atoms @ r
        if products.max() > 0:
            support.add(int(products.argmax()))
        g = np.array([products[i] if i in support else 0.0 for i in range(len(atoms))])
        c = g @ atoms
        if c @ c > 0:
            w = np.maximum(w + (c @ r) / (c @ c) * g, 0)
    return w / norms


@pytest.mark.parametrize("options", [{}, {"center": False}, {"gate": "threshold", "threshold": 0.1}])
def test_codes_equal_the_algorithm_done_by_hand(options):
    sae, x = with_pursuit(random_sae(**options), 6), rows()
    expected = [by_hand(row, sae.W_dec.double().numpy(), 6) for row in (x - sae.b_dec).double().numpy()]
    np.testing.assert_allclose(sae.encode(x).numpy(), expected, atol=2e-4)


def test_sparse_codes_dense_codes_and_single_latents_agree():
    sae, x = with_pursuit(random_sae(), 4), rows(7).reshape(7, 1, 12)
    z = sae.encode(x)
    assert z.shape == (7, 1, 40)
    assert (z >= 0).all()
    assert 1 <= (z > 0).sum(-1).min() <= (z > 0).sum(-1).max() <= 4
    torch.testing.assert_close(sae.latent(x, [3, 8]), z[..., [3, 8]])
    torch.testing.assert_close(sae(x), sae.decode(z))


def test_a_row_is_encoded_as_if_it_were_alone():
    sae, x = with_pursuit(random_sae(), 4), rows(600)
    together = sae.encode(x)
    for i in (0, 511, 599):
        torch.testing.assert_close(sae.encode(x[i : i + 1])[0], together[i])


def test_it_reconstructs_better_than_the_encoder_at_the_same_l0():
    rng = np.random.default_rng(3)
    features = torch.nn.functional.normalize(torch.randn(64, 24, generator=torch.Generator().manual_seed(4)), dim=1)
    x = (rng.gamma(4, 0.5, (4000, 64)) * (rng.random((4000, 64)) < 0.06)) @ features.numpy()
    acts = sl.Activations.from_array(x.astype(np.float32))
    sae = sl.train(sl.TopK(d_sae=96, k=4), acts, steps=150, batch_size=256, lr=4e-3, progress=False).sae
    own = sl.evaluate(sae, acts, progress=False)["value"]
    pursued = sl.evaluate(with_pursuit(sae), acts, progress=False)["value"]
    assert pursued["l0"] <= own["l0"]
    assert pursued["fvu"] < 0.95 * own["fvu"]


def test_zero_rows_duplicate_atoms_and_dead_atoms_do_no_harm():
    atoms = torch.eye(4)[[0, 0, 1, 2]] * torch.tensor([1.0, 1.0, 2.0, 0.0])[:, None]
    signal = torch.tensor([[0.0, 0, 0, 0], [3, 0, 0, 0], [1, 4, 0, 0], [-1, -1, 0, 0], [0, 0, 5, 1]])
    values, indices = gradient_pursuit(signal, atoms, torch.full((5,), 3))
    z = torch.zeros(5, 4).scatter_add_(1, indices, values)
    expected = torch.tensor([[0.0, 0, 0, 0], [3, 0, 0, 0], [1, 0, 2, 0], [0, 0, 0, 0], [0, 0, 0, 0]])
    torch.testing.assert_close(z, expected)


def test_rows_normalised_by_themselves_and_skips_are_pursued_in_their_own_units():
    plain = random_sae(normalize="layer_norm")
    x = rows() * 30 + 5
    assert (with_pursuit(plain, 8)(x) - x).square().sum() < (plain(x) - x).square().sum()
    skip = 0.5 * torch.eye(12)
    sae, bare = with_pursuit(random_sae(W_skip=skip), 3), with_pursuit(random_sae(), 3)
    expected = bare.encode(0.5 * x)  # the other half is the skip's
    torch.testing.assert_close(sae.encode(x), expected)


def test_by_itself_a_row_gets_as_many_latents_as_its_encoder_gives_it():
    assert with_pursuit(random_sae()).k == 5
    encoder, x = random_sae(gate="threshold", k=9, threshold=12.0), rows()
    sae = with_pursuit(encoder)
    own = (encoder.encode(x) > 0).sum(1)
    assert own.min() == 0
    expected = [
        by_hand(row, sae.W_dec.double().numpy(), int(steps))
        for row, steps in zip((x - sae.b_dec).double().numpy(), own, strict=True)
    ]
    np.testing.assert_allclose(sae.encode(x).numpy(), expected, atol=2e-4)
    assert "pursuit by row" in repr(sae)
    assert "pursuit k=3" in repr(with_pursuit(encoder, 3))


@pytest.mark.parametrize("k", [0, 41, 2.5, True])
def test_a_senseless_k_is_refused(k):
    with pytest.raises(BadInput, match="between 1 and d_sae=40"):
        with_pursuit(random_sae(), k)


def test_what_has_no_encoder_is_neither_stitched_nor_pursued_across_sites():
    sae = random_sae()
    with pytest.raises(BadInput, match="give the SAE itself"):
        sl.stitch(with_pursuit(sae), random_sae(80, seed=1), rows(200), progress=False)
    across = random_sae(center=False, metadata={"target": {"model": "m", "site": "layers.1.mlp"}})
    with pytest.raises(BadInput, match="another site"):
        with_pursuit(across)
