"""What is given in place of an SAE or of its rows: every slip is told as what it is, with the way out."""

from __future__ import annotations

import pytest
import torch

import sae_lab as sl
from sae_lab._errors import BadInput, Mismatch

ROWS = torch.randn(300, 8, generator=torch.Generator().manual_seed(0))


def quick(config, acts=ROWS):
    return sl.train(config, acts, steps=2, batch_size=64, progress=False)


@pytest.mark.parametrize("use", [sl.evaluate, sl.profile, lambda sae, acts: sl.with_pursuit(sae)])
def test_what_is_no_sae_is_refused_with_the_way_to_one(use):
    config = sl.TopK(d_sae=16, k=2)
    for given, way in (
        (quick(config), r"not a TrainingRun: pass its \.sae"),
        (config, "sl.train"),
        ("demo", "load_sae"),
    ):
        with pytest.raises(BadInput, match=way):
            use(given, ROWS)


def test_a_transcoders_sources_in_the_wrong_order_are_refused_before_work():
    with pytest.raises(BadInput, match="'target' and 'input'"):
        quick(sl.Transcoder(d_sae=16, k=2), sl.join({"target": ROWS, "input": 2 * ROWS}))


def test_profiles_of_a_transcoder_say_that_its_input_alone_is_read():
    both = sl.join({"input": ROWS, "target": ROWS[:, :5].contiguous()})
    sae = quick(sl.Transcoder(d_sae=16, k=2), both).sae
    with pytest.raises(Mismatch, match="give what was joined as 'input'"):
        sl.profile(sae, both, progress=False)


def test_a_gradient_sae_of_rows_without_a_site_belongs_to_no_site():
    sae = quick(sl.GradientSAE(d_sae=16, k=2), sl.join({"rows": ROWS, "slopes": ROWS.flip(1)})).sae
    assert sae.metadata["site"] is None
    assert "slopes" not in repr(sae)


def test_a_single_sae_is_too_few_to_merge():
    with pytest.raises(BadInput, match="at least two SAEs, not 1"):
        sl.merge(quick(sl.TopK(d_sae=16, k=2)).sae, ROWS)


def test_profiles_of_rows_with_gradients_beside_them_say_so():
    both = sl.join({"x": ROWS, "gradient": ROWS.flip(1)})
    sae = quick(sl.GradientSAE(d_sae=16, k=2), both).sae
    with pytest.raises(Mismatch, match="give the rows alone"):
        sl.profile(sae, both, progress=False)
    assert len(sl.evaluate(sae, both, progress=False))
