from __future__ import annotations

import sys

import pytest
from _site import ROOT


@pytest.fixture
def tutorials(monkeypatch):
    monkeypatch.setattr(sys, "path", [str(ROOT / "docs"), *sys.path])
    import _tutorials

    return _tutorials


def test_figures_become_tags_and_the_scripts_stand_once(tutorials):
    figure = {"data": {tutorials.PLOTLY: {"data": [{"text": ["</script>"]}], "layout": {}}, "text/plain": "Figure()"}}
    table = {"data": {"text/html": "<table></table>"}}
    stream = {"output_type": "stream", "text": "x"}
    cells = [{"source": ""}, {"outputs": [figure, table]}, {"outputs": [stream, {"data": dict(figure["data"])}]}]
    tutorials.with_figures({"cells": cells})
    first, last = cells[1]["outputs"][0]["data"], cells[2]["outputs"][1]["data"]
    assert set(first) == set(last) == {"text/html"}
    assert first["text/html"].count("</script>") == 1, "what is in the figure cannot end its tag"
    assert last["text/html"] == first["text/html"] + tutorials.SCRIPTS
    assert table["data"] == {"text/html": "<table></table>"}
