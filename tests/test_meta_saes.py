"""Meta-SAEs: what they find in rows made of parts, what they refuse, and what they say of one latent."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest
import torch
from torch.nn import functional

import sae_lab as sl
from sae_lab._errors import BadInput
from sae_lab.studies.meta_saes import MetaSAE, MetaTree
from sae_lab.studies.meta_saes._nulls import null_rows

COLOURS, SHAPES, D_IN = 12, 12, 32


def directions(count, seed):
    return functional.normalize(torch.randn(count, D_IN, generator=torch.Generator().manual_seed(seed)), dim=1)


def sae_of(rows, **metadata):
    rows = rows.float()
    zero = torch.zeros(len(rows))
    return sl.SAE(rows, rows, zero, torch.zeros(rows.shape[1]), gate="threshold", metadata=metadata)


def pair_rows(seed=0):
    """One row for each colour with each shape: the sum of two directions."""
    colours, shapes = directions(COLOURS, seed), directions(SHAPES, 1000 + seed)
    return functional.normalize((colours[:, None] + shapes[None]).flatten(0, 1), dim=1), torch.cat([colours, shapes])


@pytest.fixture(scope="module")
def pairs():
    """A meta-SAE on the pairs, with a meta-latent for each part."""
    rows, _ = pair_rows()
    return sl.meta_sae(sae_of(rows, name="pairs"), d_meta=24, k=2, steps=300, batch_size=144, lr=1e-2, progress=False)


@pytest.fixture(scope="module")
def small():
    """A quick meta-SAE, for what does not depend on what it found."""
    return sl.meta_sae(sae_of(directions(64, 3), name="small"), d_meta=16, k=3, steps=60, progress=False)


# -- what it finds ------------------------------------------------------------------------------------------


@pytest.mark.slow  # trains five SAEs
def test_a_base_trained_on_coloured_shapes_is_found_to_be_made_of_colours_and_shapes():
    # the data: each sample one colour plus one shape; a large SAE with k = 1 has to learn the pairs
    rows, parts = pair_rows()
    generator = torch.Generator().manual_seed(0)
    which = torch.randint(len(rows), (5000,), generator=generator)
    samples = rows[which] * (1 + torch.rand(len(which), 1, generator=generator))
    samples += 0.02 * torch.randn(samples.shape, generator=generator)
    options = {"steps": 200, "batch_size": 256, "lr": 1e-2, "dead_window": 2560}
    base = sl.train(sl.TopK(d_sae=768, k=1, aux_k=64), samples, **options, progress=False).sae
    # most of its latents are never used; profiles say which
    meta = sl.meta_sae(
        base,
        d_meta=24,
        k=2,
        lr=1e-2,
        steps=300,
        batch_size=144,
        profiles=sl.profile(base, samples, progress=False),
        progress=False,
    )
    assert 80 < meta.used.sum() < 300
    table = meta.compare_with_nulls(seeds=1, nulls=("random", "gaussian"), progress=False)
    margins = table.set_index("null")["margin"]
    assert margins["random"] > 0.15
    assert margins["gaussian"] > 0.15
    alike = functional.cosine_similarity(parts[:, None], meta.sae.W_dec[None], dim=2).amax(dim=1)
    chance = functional.cosine_similarity(parts[:, None], directions(24, 9)[None], dim=2).amax(dim=1)
    assert alike.mean() > chance.mean() + 0.2


def test_rows_made_of_nothing_are_found_to_be_made_of_nothing():
    meta = sl.meta_sae(sae_of(directions(144, 5)), d_meta=24, k=2, lr=1e-2, steps=200, progress=False)
    table = meta.compare_with_nulls(seeds=1, nulls=("shuffled", "gaussian"), progress=False)
    assert table["margin"].abs().max() < 0.1


def test_figures_are_those_of_the_decomposition(pairs):
    rows = pairs.base.W_dec
    rebuilt = torch.zeros_like(rows)
    for i in range(len(rows)):
        ids, values = pairs.links.of(i)
        rebuilt[i] = pairs.sae.b_dec + torch.from_numpy(values.copy()) @ pairs.sae.W_dec[ids.tolist()]
    ev = 1 - (rows - rebuilt).square().sum() / (rows - rows.mean(0)).square().sum()
    assert pairs.explained_variance == pytest.approx(float(ev), abs=1e-5)
    assert pairs.explained_variance > 0.8
    assert pairs.l0 == pytest.approx(len(pairs.links.ids) / len(rows))
    assert pairs.l0 == pytest.approx(2, abs=0.1)
    assert pairs.cosine[7] == pytest.approx(float(functional.cosine_similarity(rows[7], rebuilt[7], dim=0)), abs=1e-5)


def test_the_same_seed_gives_the_same_meta_sae(small):
    again = sl.meta_sae(small.base, d_meta=16, k=3, steps=60, progress=False)
    assert again.sae.fingerprint == small.sae.fingerprint
    other = sl.meta_sae(small.base, d_meta=16, k=3, steps=60, seed=1, progress=False)
    assert other.sae.fingerprint != small.sae.fingerprint


def test_without_aux_loss_more_meta_latents_die():
    base = sae_of(directions(256, 2))
    options = {"d_meta": 128, "k": 1, "lr": 1e-2, "steps": 200, "dead_after": 10, "progress": False}
    on, off = sl.meta_sae(base, **options), sl.meta_sae(base, **options, aux_weight=0.0)
    assert off.dead_share > on.dead_share + 0.03
    assert off.explained_variance < on.explained_variance


# -- nulls --------------------------------------------------------------------------------------------------


def test_nulls_keep_what_they_say_they_keep():
    rows = torch.randn(500, 6, generator=torch.Generator().manual_seed(0)) * torch.arange(1.0, 7.0) + 2
    shuffled, gaussian, random = (null_rows(name, rows, 0) for name in ("shuffled", "gaussian", "random"))
    assert torch.equal(shuffled.sort(dim=0).values, rows.sort(dim=0).values)
    assert not torch.equal(shuffled, rows)
    assert torch.allclose(gaussian.mean(0), rows.mean(0), atol=0.8)
    assert torch.allclose(gaussian.std(0), rows.std(0), rtol=0.15)
    assert torch.allclose(random.norm(dim=1), torch.ones(500))
    assert not torch.equal(null_rows("random", rows, 1), random)


def test_the_gaussian_null_takes_fewer_rows_than_dimensions():
    assert null_rows("gaussian", directions(8, 0), 0).isfinite().all()


def test_several_seeds_give_intervals_and_the_table_is_kept(small):
    small = dataclasses.replace(small)
    table = small.compare_with_nulls(seeds=2, nulls=("random",), progress=False)
    assert table["null"].tolist() == ["decoder", "random"]
    assert table["seeds"].tolist() == [2, 2]
    assert (table["low"] < table["explained_variance"]).all()
    assert small.nulls is table


# -- one latent, one meta-latent --------------------------------------------------------------------------------


def test_decompose_and_members_are_two_sides_of_the_same_links(pairs):
    for latent in (0, 40, 143):
        parts = pairs.decompose(latent)
        assert (parts["weight"].diff().dropna() <= 0).all()
        for meta, weight in zip(parts["meta"], parts["weight"], strict=True):
            members = pairs.members(meta).set_index("latent")
            assert members.loc[latent, "weight"] == weight
    assert len(pairs.decompose(0, least=99.0)) == 0


def test_latents_of_one_colour_share_a_meta_latent(pairs):
    # rows 0 to 11 have the first colour
    counts = pd.concat([pairs.decompose(i) for i in range(SHAPES)])["meta"].value_counts()
    assert counts.iloc[0] >= 9


def test_a_tree_goes_up_and_down_and_not_back_to_its_parent(pairs):
    tree = pairs.tree(5, depth=2, breadth=3)
    frame = tree.frame
    first = frame[frame["depth"] == 1]
    assert first["child"].tolist() == pairs.decompose(5)["meta"].tolist()[:3]
    second = frame[frame["depth"] == 2]
    assert (second["parent_kind"] == "meta").all()
    assert (second["child_kind"] == "latent").all()
    assert 5 not in second["child"].tolist()
    assert second.groupby("parent").size().max() <= 3
    meta = int(first["child"].iloc[0])
    down = pairs.tree(meta=meta, depth=1, breadth=1000).frame
    assert down["child"].tolist() == pairs.members(meta)["latent"].tolist()


def test_a_tree_without_a_root_takes_the_most_decomposed_latent(pairs):
    tree = pairs.tree()
    assert (tree.kind, tree.root) == ("latent", pairs.most_decomposed)
    assert len(pairs.decompose(tree.root)) >= 2
    rival = next(i for i in range(143) if len(pairs.decompose(i)) >= 2 and i != tree.root)
    assert pairs.cosine[tree.root] >= pairs.cosine[rival]


def test_similarity_finds_a_copy_and_tells_it_from_chance(pairs):
    copy = sae_of(pairs.sae.W_dec.detach())
    table = pairs.similarity(copy)
    assert table["mean_cosine"].tolist() == pytest.approx([1, 1], abs=1e-5)
    assert (table["random_mean_cosine"] < 0.7).all()
    each = pairs.similarity(copy, each=True)
    assert (each["meta"] == each["latent"]).all()


# -- labels ---------------------------------------------------------------------------------------------------


def profiles_of(sae, **changes):
    from _profiles import make_profiles

    profiles = make_profiles(sae.d_sae, logits=False)
    metadata = {**profiles.metadata, "fingerprint": sae.fingerprint}
    return dataclasses.replace(profiles, **{"metadata": metadata, **changes})


def test_profiles_give_labels_and_leave_silent_latents_out(small):
    profiles = profiles_of(small.base)
    meta = sl.meta_sae(small.base, d_meta=16, k=3, steps=60, profiles=profiles, progress=False)
    assert not meta.used[7]  # silent in these profiles
    assert len(meta.decompose(7)) == 0
    assert meta.base_labels[3].split(", ")[0] == profiles.top_tokens(3)[0].strip()
    assert all(
        len({word.casefold() for word in label.split(", ")}) == label.count(",") + 1 for label in meta.base_labels
    )
    alive = np.flatnonzero(meta.members_per_meta)
    assert all(meta.labels[i] for i in alive)
    assert meta.tree(3).levels[0].density is not None
    with pytest.raises(BadInput, match="left out"):
        meta.edit(7, add=[0])


def test_an_explainer_sees_members_and_gives_at_most_five_words(small):
    seen = []

    def explain(members):
        seen.append(members)
        return "one two three four five six"

    meta = small.labelled(profiles_of(small.base), explainer=explain, progress=False)
    assert set(meta.labels) <= {"one two three four five", ""}
    assert list(seen[0].columns) == ["latent", "weight", "label", "tokens", "examples"]
    assert seen[0]["examples"].iloc[0]
    with pytest.raises(BadInput, match="returned a NoneType"):
        small.labelled(profiles_of(small.base), explainer=lambda members: None, progress=False)


# -- above, kept, shown -----------------------------------------------------------------------------------------


def test_a_meta_sae_of_a_meta_sae_has_three_levels(small):
    labelled = small.labelled(profiles_of(small.base), progress=False)
    upper = labelled.meta(d_meta=6, k=2, steps=40, progress=False)
    assert upper.base is labelled.sae
    assert upper.base_labels == labelled.labels
    tree = upper.tree(depth=1)
    assert [level.size for level in tree.levels] == [64, 16, 6]
    assert tree.root_level == 1
    assert tree.levels[0].cosine is labelled.cosine
    with pytest.raises(BadInput, match="no setting 'd_met'"):
        labelled.meta(d_met=4)


def test_everything_is_saved_and_loaded(small, tmp_path):
    upper = small.meta(d_meta=6, k=2, steps=40, progress=False)
    upper.compare_with_nulls(seeds=1, nulls=("random",), progress=False)
    back = MetaSAE.load(upper.save(tmp_path / "meta"))
    assert repr(back) == repr(upper)
    assert back.base is back.below.sae
    assert back.below.base.fingerprint == small.base.fingerprint
    pd.testing.assert_frame_equal(back.nulls, upper.nulls)
    pd.testing.assert_frame_equal(back.frame, upper.frame)
    pd.testing.assert_frame_equal(back.decompose(3), upper.decompose(3))
    tree = upper.tree()
    loaded = MetaTree.load(tree.save(tmp_path / "tree"))
    assert repr(loaded) == repr(tree)
    pd.testing.assert_frame_equal(loaded.frame, tree.frame)
    with pytest.raises(BadInput, match="not a MetaTree"):
        MetaTree.load(tmp_path / "meta")


def test_figures_show_nulls_and_branches(small):
    small = dataclasses.replace(small)
    assert list(small.plot().data[0].x) == ["decoder"]
    small.compare_with_nulls(seeds=1, nulls=("shuffled",), progress=False)
    assert list(small.plot().data[0].x) == ["decoder", "shuffled"]
    tree = small.tree()
    assert len(tree.plot().data) == len(tree.branches()) + 1


def test_results_cannot_be_changed(small):
    with pytest.raises(ValueError, match="read-only"):
        small.links.values[0] = 1
    with pytest.raises(dataclasses.FrozenInstanceError):
        small.l0 = 0
