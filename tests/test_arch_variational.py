"""Variational TopK: its KL, its noise, what it is without noise, and what it promises (and costs) when trained."""

from __future__ import annotations

import math

import pytest
import torch
from _training_process import OPTIONS, training_rows
from torch.nn import functional

import sae_lab as sl
from sae_lab._errors import BadInput
from sae_lab.saes._weights import Batch, Moment, Weights
from sae_lab.training import kernels
from sae_lab.training._loop import TrainingState
from sae_lab.training._step import Optimiser
from sae_lab.training.kernels import ReferenceKernel

D_IN, D_SAE, ROWS = 24, 96, 700
DEAD = torch.arange(5, 40)


def weights(config: sl.VariationalTopK) -> Weights:
    generator = torch.Generator().manual_seed(0)
    W_dec = functional.normalize(torch.randn(config.d_sae, D_IN, generator=generator), dim=1)
    W_enc = 0.6 * W_dec + 0.02 * torch.randn(config.d_sae, D_IN, generator=generator)
    b_enc = 0.1 * torch.randn(config.d_sae, generator=generator)
    w = Weights(W_enc, W_dec, b_enc, 0.1 * torch.randn(D_IN, generator=generator))
    w.extra = config.extra_parameters(w)
    return w


def batch(seed: int = 1, rows: int = ROWS) -> Batch:
    x = torch.randn(rows, D_IN, generator=torch.Generator().manual_seed(seed))
    return Batch(x, x)


def quick(config, steps=200, **options):
    options = {"batch_size": 128, "lr": 6e-3, "seed": 1, "progress": False, "device": "cpu", **options}
    return sl.train(config, training_rows(), steps=steps, **options)


def test_without_sampling_the_loss_is_that_of_topk_with_an_l2_penalty_by_hand():
    # two dimensions, three latents; pre-activations of the one row are 2, 1 and -1
    w = Weights(
        torch.tensor([[2.0, 0], [0, 1], [-1, 0]]),
        torch.tensor([[1.0, 0], [0, 1], [-1, 0]]),
        torch.zeros(3),
        torch.zeros(2),
    )
    x = torch.tensor([[1.0, 1.0]])
    made = {
        "all": sl.VariationalTopK(d_sae=3, k=1, beta=0.5, ramp=0),
        "kept": sl.VariationalTopK(d_sae=3, k=1, beta=0.5, ramp=0, kl_over="kept"),
        "clamped": sl.VariationalTopK(d_sae=3, k=1, beta=0.5, ramp=0, clamp=1.5),
    }
    seen = {name: config.forward(w, Batch(x, x), Moment()) for name, config in made.items()}
    for forward in seen.values():
        assert forward.z.tolist() == [[2.0, 0.0, 0.0]]
        assert float(forward.error) == pytest.approx(((2 - 1) ** 2 + 1) / 2)
    assert float(seen["all"].penalties["l2"]) == pytest.approx(0.5 * 0.5 * (4 + 1) / 2)
    assert float(seen["kept"].penalties["l2"]) == pytest.approx(0.5 * 0.5 * 4 / 2)
    assert float(seen["clamped"].penalties["l2"]) == pytest.approx(0.5 * 0.5 * (1.5**2 + 1) / 2)


def test_beta_rises_over_the_first_tenth_of_the_run():
    config = sl.VariationalTopK(d_sae=8, k=2, beta=0.5)
    rises = [config.strength(Moment(step=step, steps=1000)) for step in (0, 49, 99, 500)]
    assert rises == pytest.approx([0.005, 0.25, 0.5, 0.5])
    assert sl.VariationalTopK(d_sae=8, k=2, beta=0.5, ramp=0).strength(Moment(step=0, steps=1000)) == 0.5


@pytest.mark.parametrize("sampling", ["fixed", "learned"])
def test_drawn_latents_are_mean_plus_noise_and_the_kl_is_the_gaussian_one(sampling):
    config = sl.VariationalTopK(d_sae=D_SAE, k=6, beta=2.0, sampling=sampling, sigma=0.7, ramp=0)
    w, moment = weights(config), Moment(step=3, steps=10, seed=5)
    forward = config.forward(w, batch(), moment)
    mu = ((batch().x - w.b_dec) @ w.W_enc.T + w.b_enc).relu()
    noise = torch.randn(mu.shape, generator=moment.generator("variational noise"))
    variance = 0.7**2 if sampling == "fixed" else math.exp(-2)
    drawn = mu + variance**0.5 * noise
    assert ((forward.z != 0).sum(dim=1) == 6).all()
    kept = forward.z != 0
    torch.testing.assert_close(forward.z[kept], drawn[kept])
    assert (torch.where(kept, drawn.abs(), torch.inf).amin(1) >= torch.where(kept, 0.0, drawn.abs()).amax(1)).all()
    assert (forward.z < 0).any(), "noise may win with either sign"
    kl = 0.5 * (mu.square() + variance - 1 - math.log(variance)).sum(dim=1).mean()
    assert float(forward.penalties["kl"]) == pytest.approx(2.0 * float(kl) / D_IN, rel=1e-5)
    assert torch.equal(config.forward(w, batch(), moment).z, forward.z), "a step taken again has the same noise"
    assert not torch.equal(config.forward(w, batch(), Moment(step=4, steps=10, seed=5)).z, forward.z)


def test_the_learned_variance_is_trained_and_stays_within_its_bounds():
    config = sl.VariationalTopK(d_sae=D_SAE, k=6, beta=0.1, sampling="learned")
    w = weights(config)
    kernel = kernels.choose(config, torch.device("cpu"))(config, w, ROWS, Optimiser())
    for step in range(3):
        kernel.step(batch(step), lr=1e-2, moment=Moment(step=step, steps=3))
    assert (w.extra["b_logvar"] + 2).abs().max() > 1e-2
    assert w.extra["W_logvar"].abs().max() > 1e-3
    w.extra["b_logvar"].fill_(90.0)
    w.extra["b_logvar"].grad = None
    w.extra["b_logvar"].requires_grad_(True)
    config.forward(w, batch(), Moment()).penalties["kl"].backward()
    assert not w.extra["b_logvar"].grad.any(), "beyond the clamp nothing pulls"


@pytest.mark.parametrize("dead", [None, DEAD], ids=["none dead", "many dead"])
@pytest.mark.parametrize(
    "options", [{}, {"kl_over": "kept"}, {"clamp": 0.4}, {"clamp": 0.4, "kl_over": "kept"}], ids=str
)
def test_three_sparse_steps_equal_dense_autograd(options, dead):
    config = sl.VariationalTopK(d_sae=D_SAE, k=6, beta=0.5, **options)
    fast = kernels.choose(config, torch.device("cpu"))
    assert fast is not ReferenceKernel
    ends, losses = [], []
    for kind in (fast, ReferenceKernel):
        w = weights(config)
        kernel = kind(config, w, ROWS, Optimiser())
        seen = [kernel.step(batch(step), lr=1e-3, moment=Moment(step, 3), dead=dead) for step in range(3)]
        ends.append(w)
        losses.append([float(each.loss) for each in seen])
    plain = weights(config)
    TopK = kernels.choose(sl.TopK(d_sae=D_SAE, k=6), torch.device("cpu"))
    TopK(sl.TopK(d_sae=D_SAE, k=6), plain, ROWS, Optimiser()).step(batch(0), lr=1e-3, dead=dead)
    for name, tensor in ends[1].items():
        torch.testing.assert_close(dict(ends[0].items())[name], tensor, atol=1e-6, rtol=0, msg=name)
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    assert (plain.W_enc - ends[0].W_enc).abs().max() > 1e-4, "the penalty must do something for this to say anything"


def test_with_beta_0_it_is_topk_bit_for_bit():
    options = {**OPTIONS, "dead_window": 640}
    plain = sl.train(sl.TopK(d_sae=96, k=4), training_rows(), **options).sae
    same = sl.train(sl.VariationalTopK(d_sae=96, k=4, beta=0), training_rows(), **options).sae
    for name, tensor in plain.state_dict().items():
        assert torch.equal(same.state_dict()[name], tensor), name


def test_the_penalty_shrinks_activations_and_with_them_the_reconstruction():
    rows = training_rows()
    plain, strong = (quick(sl.VariationalTopK(d_sae=96, k=4, beta=beta)).sae for beta in (0.0, 1.0))
    centred = [
        (sae(rows) - rows.mean(0)).norm(dim=1).mean() / (rows - rows.mean(0)).norm(dim=1).mean()
        for sae in (plain, strong)
    ]
    assert centred[1] < 0.8 * centred[0]
    total = (rows - rows.mean(0)).square().sum()
    fvu = [float((sae(rows) - rows).square().sum() / total) for sae in (plain, strong)]
    assert fvu[0] < 0.3, "TopK must have learned something"
    assert fvu[1] > fvu[0]


def test_inference_draws_nothing_and_depends_on_one_row_only(tmp_path):
    run = quick(sl.VariationalTopK(d_sae=96, k=4, beta=0.001, sampling="fixed", sigma=0.05))
    sae, rows = run.sae, training_rows(200, seed=5)
    fvu = float((sae(rows) - rows).square().sum() / (rows - rows.mean(0)).square().sum())
    assert fvu < 0.5
    z = sae.encode(rows)
    assert torch.equal(z, sae.encode(rows))
    assert ((z > 0).sum(dim=1) <= 4).all()
    torch.testing.assert_close(sae.encode(rows[7:8]), z[7:8], atol=1e-5, rtol=1e-5)
    again = sl.load_sae(sae.save(tmp_path / "sae"))
    assert torch.equal(again.encode(rows), z)
    assert again.config == run.config


class Killed(BaseException):
    """Ends a run in the middle of it."""


def test_a_run_with_noise_resumes_bit_for_bit(tmp_path, monkeypatch):
    config = sl.VariationalTopK(d_sae=96, k=4, beta=0.01, sampling="learned")
    options = {**OPTIONS, "steps": 30}
    whole = sl.train(config, training_rows(), **options).sae
    advance = TrainingState.advance

    def deadly(self, x):
        if self.step == 17:
            raise Killed
        return advance(self, x)

    with monkeypatch.context() as patch:
        patch.setattr(TrainingState, "advance", deadly)
        with pytest.raises(Killed):
            sl.train(config, training_rows(), **options, checkpoint=tmp_path / "c", checkpoint_every=13)
    resumed = sl.resume(tmp_path / "c", training_rows(), progress=False).sae
    for name, tensor in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], tensor), name


def test_it_says_what_it_is():
    assert "L2 penalty" in repr(sl.VariationalTopK(d_sae=8, k=2))
    assert "L2 penalty" not in repr(sl.VariationalTopK(d_sae=8, k=2, sampling="learned"))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"sampling": "gumbel"}, "'none', 'fixed', 'learned'"),
        ({"kl_over": "some"}, "kl_over"),
        ({"beta": -1.0}, "beta"),
        ({"beta": float("nan")}, "beta"),
        ({"sigma": 0.0}, "sigma"),
        ({"clamp": 0.0}, "clamp"),
        ({"ramp": 1.5}, "ramp"),
        ({"k": 9}, "d_sae"),
    ],
)
def test_bad_options_are_refused(options, says):
    with pytest.raises(BadInput, match=says):
        sl.VariationalTopK(**{"d_sae": 8, "k": 2} | options)
