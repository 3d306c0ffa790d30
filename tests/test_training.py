"""Training: what comes out, that it is the same every time, and what is refused before it begins."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from _training_process import config, training_rows

import sae_lab as sl
from sae_lab._errors import BadInput, SaeLabError
from sae_lab.training._settings import learning_rate, plan
from sae_lab.training._state import TrainingState

NAMES = ["TopK", "BatchTopK", "ReLU"]
QUICK = {"steps": 150, "batch_size": 128, "lr": 3e-3, "progress": False, "device": "cpu"}


@pytest.fixture(scope="module")
def rows():
    return training_rows(6000)


@pytest.fixture(scope="module")
def runs(rows):
    return {name: sl.train(config(name), rows, **QUICK) for name in NAMES}


def fvu(sae, x):
    return float((sae(x) - x).square().sum() / (x - x.mean(0)).square().sum())


def same(a: sl.SAE, b: sl.SAE) -> bool:
    """Equal bit for bit."""
    one, other = a.state_dict(), b.state_dict()
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("name", NAMES)
def test_the_sae_reconstructs_raw_activations(name, runs, rows):
    """Off-centre rows at an odd scale: only a correct folding of both gets far below the mean's score of 1."""
    run = runs[name]
    fresh = training_rows(1000, seed=12)
    assert run.status == "finished"
    assert fvu(run.sae, rows) < 0.35
    assert fvu(run.sae, fresh) < 0.4
    torch.testing.assert_close(run.sae.W_dec.norm(dim=1), torch.ones(96), atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", NAMES)
def test_what_the_history_says_of_the_last_batches_holds_for_the_folded_sae(name, runs, rows):
    assert fvu(runs[name].sae, rows) == pytest.approx(runs[name].history["fvu"].tail(10).mean(), rel=0.15)


def test_batch_topk_has_k_active_latents_on_average_with_its_threshold(runs, rows):
    l0 = (runs["BatchTopK"].sae.encode(rows) > 0).sum(dim=1).float()
    assert float(l0.mean()) == pytest.approx(4, rel=0.01)
    assert float(l0.std()) > 0.3
    assert runs["BatchTopK"].sae.gate == "threshold"
    assert bool(((runs["TopK"].sae.encode(rows) > 0).sum(dim=1) <= 4).all())


@pytest.mark.parametrize("name", NAMES)
def test_the_same_call_gives_the_same_sae_and_another_seed_another(name, runs, rows):
    assert same(sl.train(config(name), rows, **QUICK).sae, runs[name].sae)
    other = sl.train(config(name), rows, **QUICK, seed=1).sae
    assert not same(other, runs[name].sae)


@pytest.mark.parametrize("name", NAMES)
def test_the_scale_of_the_activations_changes_units_only(name, runs, rows):
    """Powers of two are exact, so even the last bit is the same."""
    scaled = sl.train(config(name), rows * 64, **QUICK).sae
    assert torch.equal(scaled.W_dec, runs[name].sae.W_dec)
    torch.testing.assert_close(scaled.encode(rows * 64), runs[name].sae.encode(rows) * 64)


def test_initial_weights_depend_on_the_seed_alone_and_not_on_the_seed_of_the_data(rows):
    acts = sl.Activations.from_array(rows)

    def start(seed):
        settings = plan_for(rows=6000, seed=seed)
        return TrainingState(config(), settings, acts, torch.device("cpu")).weights.W_dec

    assert torch.equal(start(0), start(0))
    plain = torch.nn.functional.normalize(torch.randn(96, 24, generator=torch.Generator().manual_seed(0)), dim=1)
    for other in (start(1), plain):  # plain: what data made with the same seed would contain
        assert float((start(0) * other).sum(dim=1).abs().max()) < 0.9


def test_tensors_arrays_and_activations_train_alike(rows, runs):
    for acts in (rows.numpy(), sl.Activations.from_array(rows), rows.double()):
        assert same(sl.train(config(), acts, **QUICK).sae, runs["BatchTopK"].sae)


def test_the_sae_remembers_where_it_comes_from(rows):
    acts = sl.Activations.from_array(rows)
    acts.metadata = {"model": "m@1", "site": "layers.2", "corpus": "c", "context_length": 64, "other": 1}
    facts = sl.train(config(), acts, **QUICK | {"steps": 5}).sae.metadata
    assert {key: facts[key] for key in ("model", "site", "dataset", "context_length", "tokens", "seed")} == {
        "model": "m@1",
        "site": "layers.2",
        "dataset": "c",
        "context_length": 64,
        "tokens": 5 * 128,
        "seed": 0,
    }
    assert facts["versions"]["torch"] == torch.__version__


def test_the_aux_term_revives_dead_latents(rows):
    """Half of the latents start too low ever to be among the k largest: without the aux term nothing reaches them."""
    acts = sl.Activations.from_array(rows)
    dead = {}
    for aux_k in (0, 12):
        wide = sl.TopK(d_sae=192, k=4, aux_k=aux_k)
        settings = plan_for(steps=120, batch_size=128, lr=3e-3, warmup=0, decay=0, dead_window=600)
        state = TrainingState(wide, settings, acts, torch.device("cpu"))
        state.weights.b_enc[96:] -= 2.0
        for x in itertools.islice(acts.batches(128, epochs=None), 120):
            state.advance(x)
        dead[aux_k] = float((state.dead.silent[96:] >= 600).float().mean())
    assert dead[0] == 1
    assert dead[12] < 0.8


# -- how long and how fast ----------------------------------------------------------------------------------


def plan_for(rows=10_000, **wishes):
    usual = {"steps": None, "tokens": None, "epochs": None, "batch_size": 100, "lr": None, "warmup": 0.05}
    usual |= {"decay": 0.2, "schedule": "linear", "seed": 0, "dead_window": None, "clip": 1.0}
    return plan(config(), rows, **usual | wishes)


@pytest.mark.parametrize(
    ("wishes", "steps"),
    [
        ({"steps": 7}, 7),
        ({"tokens": 1000}, 10),
        ({"tokens": 50}, 1),
        ({"epochs": 3}, 300),
        ({"epochs": 3, "rows": 10_050}, 300),
        ({}, 1000),
        ({"rows": 1_000_000}, 20_000),
        ({"rows": 5_000_000}, 50_000),
    ],
)
def test_the_length_of_a_run(wishes, steps):
    assert plan_for(**wishes).steps == steps


def test_the_default_rate_falls_with_width_and_is_raised_for_short_runs():
    assert plan_for(steps=10**6).lr == pytest.approx(2e-4 / (96 / 2**14) ** 0.5)
    assert plan_for(steps=12_500).lr == pytest.approx(2 * plan_for(steps=50_000).lr)
    assert plan_for(steps=10).lr == pytest.approx(6 * plan_for(steps=10**6).lr)


def test_a_batch_is_no_larger_than_the_data():
    assert plan_for(rows=60, epochs=2).batch_size == 60
    assert plan_for(rows=60, epochs=2).steps == 2


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_the_learning_rate_rises_stays_and_falls_to_nothing(schedule):
    settings = plan_for(steps=1000, lr=1.0, warmup=100, decay=0.3, schedule=schedule)
    rates = np.array([learning_rate(step, settings) for step in range(1000)])
    assert rates[0] == pytest.approx(1 / 101)
    assert (np.diff(rates[:100]) > 0).all()
    assert (rates[100:699] == 1).all()
    assert (np.diff(rates[701:]) < 0).all()
    assert 0 < rates[-1] < 0.01
    assert rates[850] == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize(
    ("wishes", "says"),
    [
        ({"steps": 5, "epochs": 1}, "not steps and epochs"),
        ({"steps": 0}, "steps must be"),
        ({"tokens": -1}, "tokens must be"),
        ({"batch_size": 0}, "batch_size must be"),
        ({"lr": 0.0}, "lr must be"),
        ({"lr": float("nan")}, "lr must be"),
        ({"lr": "fast"}, "lr must be"),
        ({"warmup": -1}, "warmup must be"),
        ({"warmup": "5%"}, "warmup must be"),
        ({"steps": 20, "warmup": 21}, "more than the run's 20"),
        ({"decay": 1.5}, "decay must be"),
        ({"schedule": "step"}, "schedule must be"),
        ({"seed": -1}, "seed must be"),
        ({"clip": 0}, "clip must be"),
        ({"dead_window": 0}, "dead_window must be"),
        ({"checkpoint_every": 0}, "checkpoint_every must be"),
        ({"device": "abacus"}, "cannot be used here"),
    ],
)
def test_senseless_wishes_are_refused_before_anything_is_done(wishes, says, rows, tmp_path):
    with pytest.raises(BadInput, match=says):
        sl.train(config(), rows, **{"progress": False, "checkpoint": tmp_path / "c"} | wishes)
    assert not (tmp_path / "c" / "latest.json").exists()


def test_the_first_argument_must_be_a_config(rows):
    with pytest.raises(BadInput, match=r"sl\.TopK"):
        sl.train("topk", rows)


# -- bad rows -----------------------------------------------------------------------------------------------


def test_nan_in_an_array_is_named_before_training():
    bad = training_rows(500)
    bad[321, 4] = torch.nan
    with pytest.raises(BadInput, match="row 321"):
        sl.train(config(), bad, progress=False)


def test_rows_that_are_all_equal_are_refused():
    with pytest.raises(BadInput, match="equal"):
        sl.train(config(), torch.full((500, 24), 3.25), progress=False)


class Spoiled:
    """Activations in which a row turns bad after a while, as on a failing disk."""

    def __init__(self, rows, after, value):
        self._acts = sl.Activations.from_array(rows.clone())
        self._after, self._value = after, value

    def __getattr__(self, name):
        return getattr(self._acts, name)

    def __len__(self):
        return len(self._acts)

    def __getitem__(self, index):
        x = torch.as_tensor(self._acts.tensor())
        x[77, 3] = self._value
        return x[index] if self._after < 0 else self._acts[index]

    def batches(self, *args, **kwargs):
        for i, x in enumerate(self._acts.batches(*args, **kwargs)):
            if i == self._after:
                self._after = -1
                x[5, 3] = self._value
            yield x


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_a_bad_row_met_in_training_is_named_and_what_was_learned_is_kept(value, rows, runs, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("sae_lab.activations.as_activations", lambda acts: acts)
        with pytest.raises(BadInput, match=r"row 77 .* before step 41") as caught:
            sl.train(config(), Spoiled(rows, 40, value), **QUICK, checkpoint=tmp_path / "c")
    run = caught.value.run
    assert (run.status, run.step) == ("failed", 40)
    assert fvu(run.sae, rows) < 0.9
    # the checkpoint is good too: with healthy data the run ends as if nothing had happened
    assert same(sl.resume(tmp_path / "c", rows, progress=False).sae, runs["BatchTopK"].sae)


def test_divergence_is_reported_with_a_remedy(rows):
    with pytest.raises(SaeLabError, match="lower lr"):
        sl.train(config(), rows, **QUICK | {"lr": 1e38})
