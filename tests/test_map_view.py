"""The map's Python side: what it packs, how small, what can be selected, and what is refused."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from sae_lab._errors import BadInput
from sae_lab.widgets import _pack_map
from sae_lab.widgets._link import link
from sae_lab.widgets.map_view import MapView
from tests._maps import make_map


@pytest.fixture(scope="module")
def latents():
    return make_map()


@pytest.fixture(scope="module")
def two():
    return make_map(400, saes=2)


def unpack(data: bytes) -> tuple[dict, dict[str, np.ndarray]]:
    raw = gzip.decompress(data)
    start = 8 + int.from_bytes(raw[4:8], "little")
    header = json.loads(raw[8:start])
    arrays = {}
    for place in header.pop("arrays"):
        count = int(np.prod(place["shape"]))
        arrays[place["name"]] = np.frombuffer(raw, "<" + place["type"], count, start + place["at"]).reshape(
            place["shape"]
        )
    return header, arrays


def column(header, arrays, name):
    at = [about["name"] for about in header["columns"]].index(name)
    return header["columns"][at], arrays[f"column{at}"]


def test_places_come_back_to_a_step_of_the_longer_side_on_one_scale(latents):
    header, arrays = unpack(_pack_map.pack(latents))
    longer = max(np.ptp(latents.x), np.ptp(latents.y))
    for steps, values in zip(arrays["place"], (latents.x, latents.y), strict=True):
        np.testing.assert_allclose(steps / _pack_map.SIDE * longer + values.min(), values, atol=longer / _pack_map.SIDE)
    assert arrays["place"].max() == _pack_map.SIDE
    assert header["width"] == pytest.approx(np.ptp(latents.x) / longer)
    assert header["height"] == pytest.approx(np.ptp(latents.y) / longer)


def test_latents_labels_and_neighbours_come_back_as_they_were(two):
    header, arrays = unpack(_pack_map.pack(two))
    np.testing.assert_array_equal(np.cumsum(arrays["latent"]), two.latent)
    np.testing.assert_array_equal(arrays["which"], two.which)
    ends = np.cumsum(arrays["label_sizes"])
    read = [
        " ".join(header["words"][w] for w in arrays["label_words"][e - s : e])
        for s, e in zip(arrays["label_sizes"], ends, strict=True)
    ]
    assert read == two.labels
    np.testing.assert_array_equal(arrays["near"], two.neighbour_ids)
    np.testing.assert_allclose(arrays["cosines"] / 100, two.neighbour_cosines, atol=0.0051)


def test_each_kind_of_column_is_sent_as_what_it_is():
    n = 1200
    columns = pd.DataFrame(
        {
            "density": np.linspace(1e-6, 0.5, n, dtype=np.float64),
            "count": np.arange(n) * 1000 + 7,
            "large": np.arange(n) + 2**40,
            "novel": np.arange(n) % 2 == 0,
            "kind": pd.Series([["novel", "dead", None][i % 3] for i in range(n)]),
            "note": [f"note {i}" for i in range(n)],
            "partly": pd.array([1, None, 3] * (n // 3), dtype="Int64"),
            "gain": np.where(np.arange(n) % 5 == 0, np.nan, 0.125),
        }
    )
    header, arrays = unpack(_pack_map.pack(make_map(n, near=False, columns=columns)))
    about, values = column(header, arrays, "density")
    assert about["kind"] == "number"
    np.testing.assert_allclose(values, columns["density"], rtol=2**-16)
    for name in ("count", "large"):
        np.testing.assert_array_equal(column(header, arrays, name)[1], columns[name])
    for name, names in (("novel", ["False", "True"]), ("kind", ["dead", "novel"])):
        about, values = column(header, arrays, name)
        assert about == {"name": name, "kind": "category", "categories": names}
        read = [names[v - 1] if v else None for v in values]
        assert read == [
            None if value is None else str(value)
            for value in columns[name].astype(object).where(columns[name].notna(), None)
        ]
    about, values = column(header, arrays, "note")
    assert about["kind"] == "text"
    assert header["words"][values[17]] == "note 17"
    assert np.isnan(column(header, arrays, "partly")[1][1])
    assert np.isnan(column(header, arrays, "gain")[1][:6]).tolist() == [True, False, False, False, False, True]


def test_a_map_of_24576_points_is_well_below_a_megabyte_and_a_point_more_costs_less_than_20_bytes():
    n, rng = 24_576, np.random.default_rng(0)
    words = [f"{chr(97 + i % 26)}{i}" for i in range(8000)]
    labels = [" ".join(words[w] for w in ws) for ws in np.minimum(7999, rng.zipf(1.3, (n, 3)))]
    place = rng.normal(size=(2, n)).astype(np.float32)
    ids = rng.integers(0, n, (n, 8)).astype(np.int32)
    columns = pd.DataFrame(
        {
            "density": rng.random(n, np.float32),
            "max_activation": rng.random(n, np.float32),
            "cluster": pd.Categorical(rng.integers(0, 40, n).astype(str)),
        }
    )
    one = make_map(8, near=False)
    whole = type(one)(
        **{
            **{k: getattr(one, k) for k in one.__dataclass_fields__},
            "which": np.zeros(n, np.int16),
            "latent": np.arange(n, dtype=np.int32),
            "x": place[0],
            "y": place[1],
            "columns": columns,
            "labels": labels,
            "neighbour_ids": ids,
            "neighbour_cosines": rng.random((n, 8), np.float32),
        }
    )
    assert len(_pack_map.pack(whole)) < 800_000
    arrays = unpack(_pack_map.pack(whole))[1]
    assert arrays["near"].nbytes + arrays["cosines"].nbytes <= _pack_map.NEIGHBOURS
    object.__setattr__(whole, "neighbour_ids", ids[:, :0])
    assert len(_pack_map.pack(whole)) < 20 * n


def test_packing_is_the_same_every_time_and_survives_strange_labels(latents):
    assert _pack_map.pack(latents) == _pack_map.pack(latents)
    strange = ["\ud83d </script> \u202e", "", "  two  spaces "] + latents.labels[3:]
    header, arrays = unpack(_pack_map.pack(make_map(labels=strange)))
    assert {"\ud83d", "</script>", "\u202e"} <= set(header["words"])
    assert arrays["label_sizes"][1] == 0


def test_points_without_a_place_and_maps_without_points_are_packed():
    latents = make_map(40)
    x = latents.x.copy()
    x[3] = np.nan
    _, arrays = unpack(_pack_map.pack(make_map(40, x=x)))
    assert (arrays["place"][:, 3] == _pack_map.NOWHERE).all()
    assert (np.delete(arrays["place"], 3, axis=1) != _pack_map.NOWHERE).all()
    for few in (make_map(0), make_map(1)):
        header, arrays = unpack(_pack_map.pack(few))
        assert arrays["place"].shape == (2, len(few))
        assert np.isfinite(header["width"])


def test_it_says_what_it_shows_the_same_every_time(latents):
    view = MapView(latents, selected=3)
    assert repr(view) == "MapView(demo 576: 400 latents, tsne by openTSNE, neighbour recall 0.43)"
    view.selection = {}
    assert repr(view) == repr(MapView(latents, color="cluster"))


def test_a_map_shows_itself_as_a_map_view(latents):
    assert isinstance(latents.widget(color="cluster"), MapView)


@pytest.mark.parametrize(("selected", "latents_of"), [(3, [3]), ([7, 2], [7, 2]), (np.int64(5), [5]), (None, [])])
def test_what_is_selected_first_can_be_said_in_several_ways(latents, selected, latents_of):
    view = MapView(latents, selected=selected)
    assert view.selection.get("latents", []) == latents_of
    assert view.points == latents_of
    assert view.frame["latent"].tolist() == latents_of


def test_a_selection_names_its_sae_and_the_points_follow(two):
    view = MapView(two, selected={"sae": "00000002", "latents": [4, 1]})
    assert view.points == [204, 201]
    assert view.frame["name"].tolist() == ["demo 1152", "demo 1152"]
    view.selection = {"sae": "00000001", "latents": [9]}
    assert view.points == [9]
    view.selection = {"sae": "another", "latents": [1]}
    assert view.points == [9]
    view.selection = {}
    assert view.points == []


def test_a_selection_across_saes_made_in_the_page_stays_whole(two):
    view = MapView(two)
    view.set_state({"points": [5, 6, 205], "selection": {"sae": "00000001", "latents": [5, 6]}})
    assert view.points == [5, 6, 205]
    assert view.frame["latent"].tolist() == [5, 6, 5]


def test_linked_widgets_share_the_selection(latents):
    first, second = MapView(latents), MapView(latents)
    link(first, second)
    first.selection = {"sae": "00000001", "latents": [12, 3]}
    assert second.points == [12, 3]


def test_another_map_can_be_shown_in_its_place(latents):
    view = MapView(latents, selected=[3, 390])
    before = view.data
    view.update(make_map(200, seed=1))
    assert view.data != before
    assert view.points == [3]


@pytest.mark.parametrize("selected", [400, -1, [1, 999], "three", 1.5j, {"sae": "00000009", "latents": [1]}])
def test_a_selection_that_is_not_on_the_map_is_refused(latents, selected):
    with pytest.raises(BadInput, match=r"on this map|give a latent"):
        MapView(latents, selected=selected)


def test_a_column_that_does_not_exist_is_refused_and_changes_nothing(latents):
    with pytest.raises(BadInput, match=r"no column 'novelty' to colour by: it has density, max_activation, cluster"):
        MapView(latents, color="novelty")
    view = MapView(latents)
    with pytest.raises(BadInput, match="novelty"):
        view.color = "novelty"
    assert view.color == "density"


def test_points_are_coloured_by_what_is_known_of_them(latents):
    unknown = latents.with_column("density", np.full(len(latents), np.nan))
    assert MapView(latents).color == "density"
    assert MapView(unknown).color == unknown.color == "cluster"
    assert MapView(unknown, color="density").color == "density"
    only = replace(unknown, columns=unknown.columns[["density"]].rename(columns={"density": "score"}))
    assert MapView(only).color == only.color == "score"


def test_a_map_view_takes_maps_and_nothing_else():
    with pytest.raises(BadInput, match=r"not a dict: make one with found = sl\.latent_map"):
        MapView({})


def test_a_page_holds_the_map_its_colour_and_what_is_selected(two, tmp_path):
    view = MapView(two, color="cluster")
    view.set_state({"points": [5, 205], "selection": {"sae": "00000001", "latents": [5]}})
    page = view.to_html(tmp_path / "map.html", title="Latents").read_text()
    for part in ('"color":"cluster"', '"points":[5,205]', '"page":true', "<title>Latents</title>"):
        assert part in page
    assert view.page is False
