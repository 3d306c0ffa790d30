"""Maps of latents: what goes on them, how they are laid out, and what they say of themselves."""

from __future__ import annotations

import _thread
import dataclasses
import sys
import threading
import time

import numpy as np
import pandas as pd
import pytest
import torch
from _profiles import make_profiles

import sae_lab as sl
from sae_lab._errors import BadInput, CorruptFile, Mismatch, MissingExtra
from sae_lab.saes import _cosines, nearest
from sae_lab.studies.latent_maps import _engines, _figure
from sae_lab.studies.latent_maps._neighbours import distances_to_all, neighbours, prepared
from sae_lab.studies.latent_maps._quality import quality

QUIET = {"progress": False}


def directions(n: int, d: int = 16, groups: int = 4, seed: int = 0, spread: float = 0.3) -> torch.Tensor:
    """Unit directions around a few centres; row i belongs to group i % groups."""
    generator = torch.Generator().manual_seed(seed)
    centres = torch.nn.functional.normalize(torch.randn(groups, d, generator=generator), dim=1)
    rows = centres[torch.arange(n) % groups] + spread * torch.randn(n, d, generator=generator) / d**0.5
    return torch.nn.functional.normalize(rows, dim=1)


def make_sae(W_dec: torch.Tensor, **metadata: str) -> sl.SAE:
    n, d = W_dec.shape
    return sl.SAE(W_dec.clone(), W_dec, torch.zeros(n), torch.zeros(d), gate="threshold", metadata=metadata)


def profiles_of(sae: sl.SAE, *, source: bool = True, **options: object) -> sl.Profiles:
    made = make_profiles(sae.d_sae, **options)
    about = {**made.metadata, "fingerprint": sae.fingerprint}
    return dataclasses.replace(made, name=sae.name, metadata=about, source=sae if source else None)


@pytest.fixture(scope="module")
def sae() -> sl.SAE:
    return make_sae(directions(240), name="small", model="m", site="layers.9")


@pytest.fixture(scope="module")
def latents(sae) -> sl.LatentMap:
    return sl.latent_map(profiles_of(sae), iterations=150, **QUIET)


# --- neighbours


@pytest.mark.parametrize("count", [1, 7, 40])
def test_the_largest_columns_are_those_of_a_full_sort(count, monkeypatch):
    monkeypatch.setattr(_cosines, "GROUP", 4)
    block = torch.randn(9, 4 * 90 + 3, generator=torch.Generator().manual_seed(0))
    values, columns = _cosines.largest_columns(block, count)
    expected = block.sort(dim=1, descending=True)
    assert torch.equal(values, expected.values[:, :count])
    assert torch.equal(columns, expected.indices[:, :count])


def test_the_last_columns_that_fill_no_group_are_looked_at_too(monkeypatch):
    monkeypatch.setattr(_cosines, "GROUP", 4)
    block = torch.zeros(1, 4 * 90 + 3)
    block[0, -1] = 1
    assert _cosines.largest_columns(block, 3)[1][0, 0] == block.shape[1] - 1


def test_nearest_reports_every_row_once(monkeypatch):
    monkeypatch.setattr(_cosines, "AT_ONCE", 50 * 7)
    seen: list[int] = []
    nearest(directions(50), count=3, on_block=seen.append)
    assert len(seen) > 1
    assert sum(seen) == 50


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_neighbours_are_exact(metric, monkeypatch):
    from sklearn.neighbors import NearestNeighbors

    monkeypatch.setattr(_cosines, "AT_ONCE", 64 * 20)
    rows = directions(64, spread=1.0) * torch.linspace(0.5, 2, 64)[:, None]
    vectors = prepared(rows, metric)
    distances, ids = neighbours(vectors, metric, 9)
    expected = NearestNeighbors(n_neighbors=10, metric=metric, algorithm="brute").fit(rows.numpy())
    true_distances, true_ids = expected.kneighbors(rows.numpy())
    assert np.array_equal(ids.numpy(), true_ids[:, 1:])
    np.testing.assert_allclose(distances.numpy(), true_distances[:, 1:], atol=2e-6)


# --- quality


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_trustworthiness_is_scikit_learns_when_all_points_are_sampled(metric):
    from sklearn.manifold import trustworthiness

    rows = directions(90, spread=1.0) * torch.linspace(0.5, 2, 90)[:, None]
    place = rows[:, :2].double().numpy()
    vectors = prepared(rows, metric)
    ours = quality(vectors, metric, place, seed=0)
    theirs = trustworthiness(rows.double().numpy(), place, n_neighbors=15, metric=metric)
    assert ours["trustworthiness"] == pytest.approx(theirs, abs=1e-9)
    assert (ours["sampled"], ours["neighbours"]) == (90, 15)


def test_a_perfect_map_is_perfect_and_a_random_one_is_not():
    flat = torch.randn(400, 2, generator=torch.Generator().manual_seed(0))
    rng = np.random.default_rng(0)
    perfect = quality(flat, "euclidean", flat.numpy(), seed=0)
    random = quality(flat, "euclidean", rng.normal(size=(400, 2)), seed=0)
    assert perfect["trustworthiness"] == perfect["neighbour_recall"] == 1
    assert random["trustworthiness"] == pytest.approx(0.5, abs=0.05)
    assert random["neighbour_recall"] == pytest.approx(15 / 399, abs=0.02)


def test_a_sample_of_points_stands_for_all():
    vectors = prepared(directions(500, spread=1.0), "cosine")
    place = vectors[:, :2].numpy()
    few = quality(vectors, "cosine", place, seed=0, sample=120)
    everything = quality(vectors, "cosine", place, seed=0)
    assert few["sampled"] == 120
    assert few["trustworthiness"] == pytest.approx(everything["trustworthiness"], abs=0.03)


def test_distances_to_all_include_oneself():
    vectors = prepared(directions(20), "cosine")
    rows = torch.tensor([3, 7])
    assert torch.allclose(distances_to_all(vectors, rows, "cosine")[[0, 1], rows], torch.zeros(2), atol=1e-6)


# --- the layout


def test_similar_directions_lie_together(latents):
    place = np.stack([latents.x, latents.y], axis=1)
    group = latents.latent % 4
    centres = np.stack([place[group == g].mean(axis=0) for g in range(4)])
    own = ((place[:, None] - centres) ** 2).sum(axis=2).argmin(axis=1)
    assert (own == group).mean() > 0.95
    assert latents.quality["trustworthiness"] > 0.85


def test_clusters_are_the_groups_of_directions(sae):
    found = sl.latent_map(sae, method="pca", clusters=4, **QUIET)
    table = pd.crosstab(found.columns["cluster"], found.latent % 4)
    assert (table > 0).sum().sum() == 4, "one cluster a group"
    assert list(found.columns["cluster"].cat.categories) == ["0", "1", "2", "3"]


def test_clusters_can_be_left_out(sae):
    assert "cluster" not in sl.latent_map(sae, method="pca", clusters=None, **QUIET).columns


@pytest.mark.parametrize("engine", ["tree", "grid"])
def test_the_same_seed_gives_the_same_map_with_any_number_of_threads(sae, engine):
    threads = torch.get_num_threads()
    maps = []
    try:
        for number in (1, 2):
            torch.set_num_threads(number)
            maps.append(sl.latent_map(sae, engine=engine, iterations=21, seed=3, **QUIET))
    finally:
        torch.set_num_threads(threads)
    for other in maps[1:]:
        pd.testing.assert_frame_equal(maps[0].frame, other.frame, check_exact=True)
        assert other.quality["trustworthiness"] == maps[0].quality["trustworthiness"]
    assert maps[0].engine == f"openTSNE ({engine})"


def test_from_principal_components_the_seed_moves_no_point_and_from_a_random_start_all(sae):
    def places(start, seed):
        found = sl.latent_map(sae, iterations=30, start=start, seed=seed, progress=False)
        assert found.settings["start"] == start
        return np.stack([found.x, found.y])

    assert (places("pca", 0) == places("pca", 1)).all()
    assert (places("random", 0) == places("random", 0)).all()
    assert (places("random", 0) != places("random", 1)).any(axis=0).all()


def test_openTSNE_alone_gives_the_same_map_from_the_same_neighbours(sae, latents):
    from openTSNE import TSNEEmbedding, affinity

    # its own exact neighbours, found by scikit-learn; our schedule, its optimiser
    weights = affinity.PerplexityBasedNN(sae.W_dec.numpy(), perplexity=30, metric="cosine", method="exact")
    start = _engines.principal(prepared(sae.W_dec, "cosine"))
    layout = TSNEEmbedding(start * 1e-4 / start[:, 0].std(), weights, negative_gradient_method="bh", random_state=0)
    layout.optimize(50, exaggeration=12, momentum=0.8, learning_rate="auto", inplace=True)
    layout.optimize(100, momentum=0.8, learning_rate="auto", inplace=True)
    assert latents.quality["divergence"] == pytest.approx(float(layout.kl_divergence), rel=0.05)


def test_pca_is_the_plane_of_most_variance(sae):
    from sklearn.decomposition import PCA

    found = sl.latent_map(sae, method="pca", **QUIET)
    expected = PCA(2).fit_transform(sae.W_dec.numpy())
    for ours, theirs in ((found.x, expected[:, 0]), (found.y, expected[:, 1])):
        assert abs(np.corrcoef(ours, theirs)[0, 1]) == pytest.approx(1, abs=1e-4)
    assert (found.method, found.engine, found.interrupted) == ("pca", "torch", False)


def test_umap_without_its_library_is_refused_before_any_work(sae, monkeypatch):
    monkeypatch.setitem(sys.modules, "umap", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"sae-lab\[umap\]"):
        sl.latent_map(sae, method="umap", **QUIET)


def test_umap_starts_from_the_exact_neighbours(sae, monkeypatch):
    """The library is not needed for this: what it is handed is what is ours."""
    handed: dict[str, object] = {}

    class Engine:
        def __init__(self, **options: object):
            handed.update(options)

        def fit_transform(self, vectors: np.ndarray) -> np.ndarray:
            return vectors[:, :2]

    module = type(sys)("umap")
    module.UMAP = Engine
    monkeypatch.setitem(sys.modules, "umap", module)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: module)
    found = sl.latent_map(sae, method="umap", seed=5, **QUIET)
    ids, distances = handed["precomputed_knn"]
    assert (handed["n_neighbors"], handed["random_state"], ids.shape) == (15, 5, (240, 15))
    assert np.array_equal(ids[:, 0], np.arange(240)), "umap-learn counts the point itself"
    assert (distances[:, 0] == 0).all()
    assert np.array_equal(ids[:, 1:], nearest(sae.W_dec, count=14)[1].numpy())
    assert (found.method, found.engine) == ("umap", "umap-learn")


def test_few_latents_get_a_smaller_perplexity():
    tiny = sl.latent_map(make_sae(directions(10)), iterations=30, **QUIET)
    assert tiny.settings["perplexity"] == pytest.approx(3)
    assert len(tiny) == 10
    assert np.isfinite(tiny.x).all()


def test_equal_directions_are_laid_out():
    rows = directions(12)
    rows[:6] = rows[0]
    assert np.isfinite(sl.latent_map(make_sae(rows), iterations=30, **QUIET).frame[["x", "y"]]).all().all()


def test_the_neighbours_in_the_result_are_points(latents, sae):
    cosines, ids = nearest(sae.W_dec[torch.from_numpy(latents.latent.astype(np.int64))], count=8)
    assert np.array_equal(latents.neighbour_ids, ids.numpy())
    np.testing.assert_allclose(latents.neighbour_cosines, cosines.numpy(), atol=1e-6)


# --- what goes on it


def test_silent_latents_are_left_out_and_counted(sae):
    found = sl.latent_map(profiles_of(sae, dead=(7, 100)), method="pca", **QUIET)
    assert found.left_out == [2]
    assert len(found) == 238
    assert not np.isin([7, 100], found.latent).any()
    assert "2 left out" in repr(found)


def test_zero_directions_are_left_out_and_counted():
    rows = directions(20)
    rows[[3, 4]] = 0
    found = sl.latent_map(make_sae(rows), method="pca", **QUIET)
    assert (found.left_out, len(found)) == ([2], 18)


def test_profiles_give_density_and_labels(latents, sae):
    about = profiles_of(sae)
    np.testing.assert_array_equal(latents.columns["density"], about.density[latents.latent])
    np.testing.assert_array_equal(latents.columns["max_activation"], about.max_activation[latents.latent])
    assert latents.labels[0] == ", ".join(t.strip() or repr(t) for t in about.top_tokens(int(latents.latent[0]), 3))


def test_an_sae_alone_has_a_map_without_them(sae):
    found = sl.latent_map(sae, method="pca", **QUIET)
    assert found.columns["density"].isna().all()
    assert set(found.labels) == {""}
    with pytest.raises(BadInput, match="give profiles"):
        found.plot("density")
    assert found.color == "cluster"
    assert "coloured by cluster" in found.plot().layout.title.text
    assert len(found.plot().data) > 1
    assert sl.latent_map(sae, method="pca", clusters=None, **QUIET).color == "sae"


def test_profiles_from_a_file_need_their_sae(sae, tmp_path):
    saved = sl.Profiles.load(profiles_of(sae).save(tmp_path / "profiles"))
    with pytest.raises(BadInput, match=r"latent_map\(sae, profiles=profiles\)"):
        sl.latent_map(saved, **QUIET)
    for found in (
        sl.latent_map(sae, profiles=saved, method="pca", **QUIET),
        sl.latent_map([sae, saved], method="pca", **QUIET),
        sl.latent_map([saved, sae], method="pca", **QUIET),
    ):
        assert len(found.names) == 1
        assert found.columns["density"].notna().all()


def test_fresh_profiles_carry_their_sae():
    sae = make_sae(directions(12))
    rows = torch.randn(50, 16, generator=torch.Generator().manual_seed(0)).abs()
    assert sl.profile(sae, rows, progress=False).source is sae


def test_several_saes_share_a_map(sae):
    other = make_sae(directions(90, seed=1), name="small", model="m", site="layers.9")
    found = sl.latent_map([profiles_of(sae), other], iterations=30, **QUIET)
    assert found.names == [f"small ({sae.fingerprint})", f"small ({other.fingerprint})"]
    assert found.saes == [sae.fingerprint, other.fingerprint]
    assert np.bincount(found.which).tolist() == [239, 90]
    assert found.left_out == [1, 0]
    assert list(found.columns["sae"].cat.categories) == found.names
    assert found.columns["density"].notna().sum() == 239
    assert repr(found).startswith("LatentMap(2 SAEs: 329 latents")
    assert len(found.plot("sae").data) == 2
    assert {trace.marker.symbol for trace in found.plot().data if trace.name in found.names} == {"circle"}


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (make_sae(directions(20, d=12), name="narrow"), "width 16.*narrow.*width 12"),
        (make_sae(directions(20), name="far", site="layers.3", model="m"), "site 'layers.9'.*far.*'layers.3'"),
        (make_sae(directions(20), name="else", site="layers.9", model="n"), "model 'm'.*else.*'n'"),
    ],
)
def test_saes_that_read_different_activations_are_refused_with_both_named(sae, other, words):
    with pytest.raises(Mismatch, match=words) as caught:
        sl.latent_map([sae, other], **QUIET)
    assert "small" in str(caught.value)


def test_profiles_of_another_sae_are_refused(sae):
    other = make_sae(directions(240, seed=2), name="other")
    with pytest.raises(Mismatch, match="belong to no SAE"):
        sl.latent_map(sae, profiles=profiles_of(other), **QUIET)


def test_an_sae_changed_since_its_profiles_is_refused():
    sae = make_sae(directions(20))
    about = profiles_of(sae)
    sae.W_dec[0] += 1
    with pytest.raises(Mismatch, match="changed since"):
        sl.latent_map(about, **QUIET)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"method": "tsn"}, "did you mean 'tsne'"),
        ({"metric": "dot"}, "cosine, euclidean"),
        ({"engine": "fast"}, "auto, tree, grid"),
        ({"start": "rand"}, "did you mean 'random'"),
        ({"perplexity": 100}, "at most 79.7"),
        ({"perplexity": 0.2}, "from 1"),
        ({"perplexity": float("nan")}, "from 1"),
        ({"perplexity": "high"}, "'auto'"),
        ({"iterations": 0}, "iterations must be"),
        ({"iterations": 2.5}, "iterations must be"),
        ({"seed": -1}, "seed must be"),
        ({"clusters": 0}, "clusters must be"),
        ({"clusters": 1000}, "240 latents"),
        ({"clusters": True}, "clusters must be"),
        ({"profiles": "these"}, "not a str"),
        ({"profiles": [3]}, "not a int"),
    ],
)
def test_options_that_cannot_be_used_are_refused(sae, options, words):
    with pytest.raises(BadInput, match=words):
        sl.latent_map(sae, **{**options, **QUIET})


@pytest.mark.parametrize("given", [None, 3, "demo", [], torch.zeros(3, 3), ["demo"]])
def test_what_is_no_sae_is_refused(given):
    with pytest.raises(BadInput, match="latent_map takes"):
        sl.latent_map(given, **QUIET)


def test_an_sae_given_twice_is_refused(sae):
    with pytest.raises(BadInput, match="given twice"):
        sl.latent_map([sae, sae], **QUIET)


def test_too_few_latents_are_refused():
    with pytest.raises(BadInput, match="needs 4 latents, and there are 3"):
        sl.latent_map(make_sae(directions(3)), **QUIET)


# --- stopping early


def test_a_map_in_the_background_is_usable_before_it_is_finished(sae):
    run = sl.latent_map(sae, iterations=100_000, background=True, **QUIET)
    first = run.map
    assert np.isfinite(first.x).all()
    assert first.interrupted
    assert first.quality == {}
    deadline = time.monotonic() + 60
    while run.map.settings["iterations"] < 20 and time.monotonic() < deadline:
        time.sleep(0.01)
    later = run.map
    assert not np.array_equal(first.x, later.x), "it is refined while one looks"
    assert run.status == "running"
    assert "running" in repr(run)
    run.stop()
    last = run.wait(60)
    assert run.status == "stopped"
    assert last.interrupted
    assert 0 < last.settings["iterations"] < 100_000
    assert {"trustworthiness", "neighbour_recall", "divergence"} <= last.quality.keys()


def test_the_background_gives_the_same_map(sae, latents):
    run = sl.latent_map(profiles_of(sae), iterations=150, background=True, **QUIET)
    pd.testing.assert_frame_equal(run.wait(60).frame, latents.frame, check_exact=True)
    assert run.status == "finished"


def test_an_error_in_the_background_is_raised_by_wait(sae, monkeypatch):
    monkeypatch.setattr(_engines, "tsne", lambda *a, **k: 1 / 0)
    run = sl.latent_map(sae, background=True, **QUIET)
    with pytest.raises(ZeroDivisionError):
        run.wait(60)
    assert run.status == "failed"


def test_ctrl_c_leaves_the_map_so_far(sae, monkeypatch):
    plain = _engines.tsne

    def interrupted(*args: object, report: _engines.Report, **options: object) -> object:
        def pressed(done: int, *rest: object) -> bool:
            if done == 30:
                _thread.interrupt_main()
            return report(done, *rest)

        return plain(*args, report=pressed, **options)

    monkeypatch.setattr(_engines, "tsne", interrupted)
    assert threading.current_thread() is threading.main_thread()
    found = sl.latent_map(sae, iterations=5000, **QUIET)
    assert found.interrupted
    assert 30 <= found.settings["iterations"] <= 50
    assert repr(found).endswith("interrupted)")
    assert 0 < found.quality["trustworthiness"] <= 1


def test_ctrl_c_before_the_layout_leaves_principal_components(sae, monkeypatch):
    def interrupted(*args: object) -> None:
        _thread.interrupt_main()
        args[-1](1)

    monkeypatch.setattr("sae_lab.studies.latent_maps._run.neighbours", interrupted)
    found = sl.latent_map(sae, **QUIET)
    assert found.interrupted
    assert (found.neighbour_ids == -1).all()
    start = _engines.principal(prepared(sae.W_dec, "cosine"))
    np.testing.assert_array_equal(found.x, start[:, 0].astype(np.float32))


# --- the result


def test_the_frame_has_one_row_a_point(latents):
    frame = latents.frame
    assert list(frame.columns) == ["name", "sae", "latent", "x", "y", "label", "density", "max_activation", "cluster"]
    assert len(frame) == len(latents) == 239
    frame.loc[0, "x"] = 1e9
    assert latents.frame.loc[0, "x"] != 1e9


def test_the_repr_is_one_line_and_the_same_every_time(latents):
    assert repr(latents) == repr(latents)
    assert repr(latents).startswith("LatentMap(small: 239 latents, tsne by openTSNE (tree), 1 left out, ")
    assert "\n" not in repr(latents)


def test_the_arrays_are_read_only(latents):
    with pytest.raises(ValueError, match="read-only"):
        latents.x[0] = 1
    with pytest.raises(dataclasses.FrozenInstanceError):
        latents.seed = 1


def test_save_and_load_give_the_same_map(latents, tmp_path):
    rich = latents.with_column("kind", ["a", None] * 119 + ["b"]).with_column("even", latents.latent % 2 == 0)
    loaded = sl.LatentMap.load(rich.save(tmp_path / "map"))
    pd.testing.assert_frame_equal(loaded.frame, rich.frame, check_exact=True)
    pd.testing.assert_frame_equal(loaded.columns, rich.columns, check_exact=True)
    for field in dataclasses.fields(rich):
        value, again = getattr(rich, field.name), getattr(loaded, field.name)
        if isinstance(value, np.ndarray):
            np.testing.assert_array_equal(value, again)
        elif field.name != "columns":
            assert value == again, field.name
    assert repr(loaded) == repr(rich)


def test_a_map_in_the_background_can_be_saved(sae, tmp_path):
    run = sl.latent_map(sae, iterations=100_000, background=True, **QUIET)
    loaded = sl.LatentMap.load(run.map.save(tmp_path / "map"))
    run.stop()
    assert loaded.interrupted
    run.wait(60)


def test_half_a_file_is_reported(latents, tmp_path):
    import json

    path = latents.save(tmp_path / "map")
    about = json.loads((path / "result.json").read_text())
    del about["map"]["method"]
    (path / "result.json").write_text(json.dumps(about))
    with pytest.raises(CorruptFile, match="whole latent map"):
        sl.LatentMap.load(path)


def test_columns_can_be_added(latents):
    numbers = latents.with_column("size", np.arange(239))
    assert "size" not in latents.columns
    assert numbers.columns["size"].tolist() == list(range(239))
    assert numbers.with_column("size", torch.ones(239)).columns["size"].tolist() == [1.0] * 239
    groups = latents.with_column("kind", ["b", "a", None] + ["b"] * 236).columns["kind"]
    assert list(groups.cat.categories) == ["a", "b"]
    assert groups.isna().tolist() == [False, False, True] + [False] * 236
    assert latents.with_column("yes", np.arange(239) > 3).columns["yes"].dtype == bool


@pytest.mark.parametrize(
    ("name", "values", "words"),
    [
        ("size", np.arange(5), "5 values, but the map has 239 points"),
        ("size", 3, "one value a point"),
        ("size", "x" * 239, "one value a point"),
        ("size", np.zeros((239, 2)), "one value a point"),
        ("latent", np.arange(239), "has 'latent' already"),
        ("sae", np.arange(239), "has 'sae' already"),
        (3, np.arange(239), "a column's name"),
        ("", np.arange(239), "a column's name"),
    ],
)
def test_columns_that_do_not_fit_are_refused(latents, name, values, words):
    with pytest.raises(BadInput, match=words):
        latents.with_column(name, values)


def test_a_frame_of_latents_is_matched_by_number(latents):
    frame = pd.DataFrame({"latent": [200, 3, 7], "gain": [2.0, 1.0, 9.0], "kind": ["novel", "dead", "novel"]})
    added = latents.with_columns(frame).frame.set_index("latent")
    assert (added.loc[200, "gain"], added.loc[3, "gain"]) == (2.0, 1.0)
    assert added["gain"].notna().sum() == 2, "latent 7 is silent and not on the map"
    assert added.loc[3, "kind"] == "dead"
    assert added["kind"].isna().sum() == 237


def test_with_several_saes_it_must_be_said_which_is_meant(sae):
    other = make_sae(directions(30, seed=1), name="other")
    both = sl.latent_map([sae, other], method="pca", **QUIET)
    frame = pd.DataFrame({"latent": [5], "gain": [2.0]})
    with pytest.raises(BadInput, match=r"sae=.*small.*other"):
        both.with_columns(frame)
    for mark in ("other", 1, other.fingerprint):
        added = both.with_columns(frame, sae=mark).frame
        assert added.loc[added["gain"].notna(), ["name", "latent"]].to_numpy().tolist() == [["other", 5]]
    named = both.with_columns(frame.assign(sae=["small"])).frame
    assert named.loc[named["gain"].notna(), "name"].tolist() == ["small"]
    assert both.points([5, 6, 999], "other").tolist() == [245, 246]
    with pytest.raises(BadInput, match="no one SAE 'third'"):
        both.points(5, "third")


@pytest.mark.parametrize(
    ("frame", "words"),
    [
        (pd.DataFrame({"gain": [1.0]}), "column 'latent'"),
        ([1, 2], "column 'latent'"),
        (pd.DataFrame({"latent": [1, 1], "gain": [1.0, 2.0]}), "latent 1 more than once"),
        (pd.DataFrame({"latent": [5000], "gain": [1.0]}), "no latent of the frame"),
        (pd.DataFrame({"latent": [1.5], "gain": [1.0]}), "whole and from 0"),
        (pd.DataFrame({"latent": ["a"], "gain": [1.0]}), "whole and from 0"),
        (pd.DataFrame({"latent": [np.nan], "gain": [1.0]}), "whole and from 0"),
    ],
)
def test_frames_that_do_not_fit_are_refused(latents, frame, words):
    with pytest.raises(BadInput, match=words):
        latents.with_columns(frame)


# --- the plain figure


def test_the_figure_shows_every_point_once(latents):
    for color in ("density", "cluster", "max_activation"):
        assert sum(len(trace.x) for trace in latents.plot(color).data) == len(latents)


def test_skewed_numbers_are_drawn_by_their_logarithm(latents):
    values = np.r_[np.zeros(9), np.geomspace(1e-5, 1, 230)]
    figure = latents.with_column("odd", values).plot("odd")
    below, above = figure.data
    assert (below.name, len(below.x)) == ("no log10 odd", 9)
    np.testing.assert_allclose(above.marker.color, np.log10(values[9:]))
    assert above.marker.colorbar.title.text == "log10 odd"


def test_unknown_numbers_are_grey(latents):
    figure = latents.with_column("half", np.r_[np.full(100, np.nan), np.arange(139)]).plot("half")
    assert [len(trace.x) for trace in figure.data] == [100, 139]
    assert figure.data[0].marker.color == _figure.UNKNOWN


def test_more_groups_than_looks_end_in_one_grey_group(latents):
    figure = latents.with_column("many", [str(i // 3) for i in range(239)]).plot("many")
    looks = [(trace.marker.color, trace.marker.symbol) for trace in figure.data]
    assert len(looks) == len(set(looks)) == 41
    assert figure.data[0].name == "other"


def test_tokens_that_look_like_markup_are_shown_as_they_are(latents):
    hostile = dataclasses.replace(latents, labels=["<b>x</b>"] * len(latents))
    assert "&lt;b&gt;" in hostile.plot().data[-1].text[0]


def test_an_unknown_colour_lists_the_columns(latents):
    with pytest.raises(BadInput, match=r"densty.*density.*cluster"):
        latents.plot("densty")
