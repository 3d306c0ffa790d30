"""The dashboard's Python side: what it packs, which latents it carries, how it answers the page."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace

import numpy as np
import pytest

import sae_lab as sl
from sae_lab._errors import BadInput
from sae_lab.widgets import _pack
from sae_lab.widgets.dashboard import Dashboard
from tests._profiles import HOSTILE, make_profiles


@pytest.fixture(scope="module")
def profiles():
    return make_profiles(300, hostile=5)


def unpack(data: bytes) -> tuple[dict, dict[str, np.ndarray]]:
    raw = gzip.decompress(data)
    assert raw[:4] == b"SAEL"
    start = 8 + int.from_bytes(raw[4:8], "little")
    header = json.loads(raw[8:start])
    arrays = {}
    for place in header.pop("arrays"):
        count = int(np.prod(place["shape"]))
        assert (start + place["at"]) % 8 == 0
        array = np.frombuffer(raw, "<" + place["type"], count, start + place["at"])
        arrays[place["name"]] = array.reshape(place["shape"])
    return header, arrays


def words_of(header, numbers):
    return np.array(header["words"], dtype=object)[numbers]


def test_a_block_holds_the_index_of_all_and_the_details_of_some(profiles):
    header, arrays = unpack(_pack.pack(profiles, [3, 9, 200], index=True))
    np.testing.assert_array_equal(arrays["density"], profiles.density)
    np.testing.assert_array_equal(arrays["max"], profiles.max_activation)
    for latent in (0, 3, 299):
        labels = arrays["labels"][latent]
        assert words_of(header, labels[labels > 0]).tolist() == profiles.top_tokens(latent, 3)
    assert arrays["latent"].tolist() == [3, 9, 200]
    np.testing.assert_array_equal(arrays["histogram"], profiles.histogram[[3, 9, 200]])
    np.testing.assert_array_equal(arrays["neighbour_ids"], profiles.neighbour_ids[[3, 9, 200]])


def test_tokens_and_values_come_back_as_they_were(profiles):
    header, arrays = unpack(_pack.pack(profiles, [5, 42]))
    ids = profiles.example_tokens[[5, 42]]
    expected = np.array([profiles.vocabulary[i] if i >= 0 else "" for i in ids.ravel()], dtype=object)
    np.testing.assert_array_equal(words_of(header, arrays["example_tokens"]).ravel(), expected)
    assert (arrays["example_tokens"] == 0).ravel().tolist() == (ids < 0).ravel().tolist()
    values = profiles.example_values[[5, 42]].astype(np.float64)
    steps = arrays["example_values"].astype(np.float64)
    np.testing.assert_array_equal(steps == _pack.UNKNOWN, np.isnan(values))
    read = steps / _pack.STEPS * profiles.max_activation[[5, 42], None, None]
    known = ~np.isnan(values)
    # float16 may round the largest value up, beyond the maximum
    np.testing.assert_allclose(read[known], values[known], rtol=5e-4, atol=1e-3)


def test_a_token_that_barely_fires_is_not_rounded_to_silence(profiles):
    tiny = profiles.example_values.astype(np.float32)
    tiny[8, 0, 3] = 1e-9
    tiny[8, 0, 4] = np.inf
    changed = make_profiles(300)
    object.__setattr__(changed, "example_values", tiny)
    _, arrays = unpack(_pack.pack(changed, [8]))
    assert arrays["example_values"][0, 0, 3] == 1
    assert arrays["example_values"][0, 0, 4] == _pack.STEPS


def test_every_string_survives_even_half_a_surrogate_pair(profiles):
    strange = make_profiles(20, hostile=5)
    strange.vocabulary[int(strange.example_tokens[5, 0, 0])] = "\ud83d"
    header, _ = unpack(_pack.pack(strange, [5]))
    assert "\ud83d" in header["words"]
    assert set(HOSTILE[1:]) <= {*header["words"]}


def test_packing_is_the_same_every_time(profiles):
    assert _pack.pack(profiles, [1, 2], index=True) == _pack.pack(profiles, [1, 2], index=True)


def test_profiles_of_a_bare_array_pack_without_words():
    header, arrays = unpack(_pack.pack(make_profiles(20, tokens=False, logits=False), [3], index=True))
    assert header["words"] == [""]
    assert header["text"] is False
    assert "top_words" not in arrays
    assert (arrays["example_row"] >= 0).all()


def test_the_chosen_latents_hold_the_one_shown_and_where_it_leads(profiles):
    chosen = _pack.choose(profiles, 48, 42)
    assert len(chosen) == 48 == len(set(chosen))
    assert {42, 41, 43, *profiles.neighbour_ids[42].tolist(), *profiles.coactive_ids[42].tolist()} <= set(chosen)
    spread = np.log10(profiles.density[chosen])
    everything = np.log10(profiles.density[profiles.density > 0])
    assert spread.max() - spread.min() > 0.8 * (everything.max() - everything.min())


@pytest.mark.parametrize("count", [1, 7, 299, 300, 9999])
def test_any_number_of_latents_can_be_chosen(profiles, count):
    chosen = _pack.choose(profiles, count, 7)
    assert len(set(chosen)) == min(count, 300)
    assert 7 in chosen


def test_a_dashboard_says_what_it_shows_the_same_every_time(profiles):
    assert repr(sl.Dashboard(profiles, 123)) == "Dashboard(SmolLM2 layers.9, 300 latents, latent 123)"
    dashboard = Dashboard(profiles)
    dashboard.selected = 8
    assert repr(dashboard) == "Dashboard(SmolLM2 layers.9, 300 latents, latent 8)"


def test_profiles_show_themselves_as_a_dashboard(profiles):
    assert isinstance(profiles.widget(latent=3), Dashboard)


@pytest.mark.parametrize("latent", [-1, 300, 1.5, "3", True])
def test_a_latent_that_does_not_exist_is_refused(profiles, latent):
    with pytest.raises(BadInput, match="latent"):
        Dashboard(profiles, latent)


def test_selecting_a_latent_that_does_not_exist_is_refused_and_changes_nothing(profiles):
    dashboard = Dashboard(profiles, 4)
    with pytest.raises(BadInput, match=r"there is no latent 300: SmolLM2 layers\.9 has latents 0 to 299"):
        dashboard.selected = 300
    assert dashboard.selected == 4


@pytest.mark.parametrize("latents", [0, -3, [], [1, 300], "all", 2.5])
def test_a_wrong_choice_of_latents_is_refused(profiles, latents):
    with pytest.raises(BadInput, match="latent"):
        Dashboard(profiles, latents=latents)


def test_a_dashboard_takes_profiles_and_nothing_else():
    with pytest.raises(BadInput, match=r"not a dict: make them with prof = sl\.profile"):
        Dashboard({})


def test_it_carries_the_latents_it_is_told_to(profiles):
    carried = {
        48: Dashboard(profiles, 9),
        3: Dashboard(profiles, 9, latents=[30, 20, 20, 9]),
        300: Dashboard(profiles, latents=None),
    }
    for count, dashboard in carried.items():
        assert len(unpack(dashboard.data)[1]["latent"]) == count
    assert unpack(carried[3].data)[1]["latent"].tolist() == [9, 20, 30]


def test_further_details_are_answered_in_one_block(profiles):
    reply, buffers = Dashboard(profiles).details({"latents": [250, 7]}, [])
    assert reply == {}
    assert unpack(buffers[0])[1]["latent"].tolist() == [250, 7]


def test_a_request_that_makes_no_sense_is_answered_with_an_error(profiles):
    dashboard = Dashboard(profiles)
    assert "no latent 300" in dashboard.details({"latents": [300]}, [])[0]["error"]
    assert dashboard.details({}, [])[0]["error"]
    assert "no latent 300" in dashboard.activations({"text": "x", "latent": 300}, [])[0]["error"]
    assert "20,001 characters" in dashboard.activations({"text": "x" * 20_001, "latent": 0}, [])[0]["error"]


def test_a_prompt_is_answered_with_tokens_and_values_and_gaps_where_there_is_none():
    profiles = make_profiles(20, prompt=lambda text, latent: (list(text), np.array([np.nan, latent, 0.5])))
    reply, _ = Dashboard(profiles).activations({"text": "abc", "latent": 3}, [])
    assert reply == {"tokens": ["a", "b", "c"], "values": [None, 3.0, 0.5]}


def test_a_failing_prompt_and_a_missing_one_are_said():
    def broken(text, latent):
        raise RuntimeError("out of memory")

    assert Dashboard(make_profiles(20, prompt=broken)).activations({"text": "a", "latent": 0}, [])[0] == {
        "error": "out of memory"
    }
    silent = Dashboard(make_profiles(20, prompt=None))
    assert not silent.live
    assert "without a model" in silent.activations({"text": "a", "latent": 0}, [])[0]["error"]


def without_repetition(profiles):
    """The same profiles over text as varied as text can be: independent words of Zipf's law, no context shared."""
    rng = np.random.default_rng(0)
    size = 30_000
    share = 1 / (np.arange(size) + 2.7) ** 1.05
    words = rng.choice(size, profiles.example_tokens.shape, p=share / share.sum()).astype(np.int32)
    letters = np.array(list("etaoinshrdlucmfwypvbgk"))
    vocabulary = {i: " " + "".join(rng.choice(letters, rng.integers(2, 9))) for i in range(size)}
    ids = rng.integers(0, size, (2, profiles.d_sae, 10)).astype(np.int32)
    return replace(
        profiles,
        vocabulary=vocabulary,
        example_tokens=np.where(profiles.example_tokens >= 0, words, -1),
        top_logit_ids=ids[0],
        bottom_logit_ids=ids[1],
    )


def test_a_page_of_two_hundred_latents_of_4608_is_under_a_megabyte_even_on_text_that_never_repeats(tmp_path):
    page = Dashboard(without_repetition(make_profiles(4608)), 123).to_html(tmp_path / "features.html")
    assert page.stat().st_size < 1_000_000


def test_a_page_keeps_the_selected_latent_when_it_holds_it_and_the_first_when_not(profiles, tmp_path):
    dashboard = Dashboard(profiles, 40)
    for latents, shown in (([30, 40], 40), ([30, 50], 30)):
        page = dashboard.to_html(tmp_path / "p.html", latents=latents).read_text()
        assert f'"selected":{shown}' in page
        assert '"page":true' in page
    assert dashboard.selected == 40
    assert dashboard.page is False
