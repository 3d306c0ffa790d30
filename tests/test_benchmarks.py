"""What the benchmarks share: tables, pages, and the turns of a worker. Nothing here asserts a time."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import numpy as np
import pytest

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


@pytest.fixture(autouse=True)
def _importable(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))


def test_a_table_is_markdown_with_figures_to_the_right():
    import _report

    assert _report.table(["who", "ms"], [["ours", "5"], ["theirs", "12.5"]]).splitlines() == [
        "| who    |   ms |",
        "| ------ | ---: |",
        "| ours   |    5 |",
        "| theirs | 12.5 |",
    ]


def test_ratios_are_of_pairs_and_not_of_medians():
    import _report

    # the pairs always say 2, although the machine was ten times slower in the last round
    assert _report.paired([2.0, 4.0, 20.0], [1.0, 2.0, 10.0]) == "2.00 (2.00–2.00)"  # noqa: RUF001
    assert _report.paired([1.0, 2.0, 3.0, 4.0, 5.0], [1.0] * 5) == "3.00 (2.00–4.00)"  # noqa: RUF001
    assert _report.paired([3.0], [2.0]) == "1.50"


def test_a_report_replaces_what_stands_between_its_marks_and_nothing_else(tmp_path, capsys):
    import _report

    page = tmp_path / "page.md"
    page.write_text("before\n<!-- a: begin -->\nold\n<!-- a: end -->\nafter <!-- b: begin --> b <!-- b: end -->\n")
    _report.publish("a", "new", page)
    assert page.read_text() == (
        "before\n<!-- a: begin -->\n\nnew\n\n<!-- a: end -->\nafter <!-- b: begin --> b <!-- b: end -->\n"
    )
    assert "new" in capsys.readouterr().out


@pytest.mark.parametrize("page", ["", "<!-- a: begin -->", "<!-- a: end --> <!-- a: begin -->"])
def test_a_page_without_a_place_for_the_table_is_refused_before_anything_is_measured(tmp_path, page):
    import _report

    (tmp_path / "page.md").write_text(page)
    with pytest.raises(SystemExit, match="a: begin"):
        _report.check_page("a", tmp_path / "page.md")


@pytest.mark.parametrize("wrong", [["--rounds", "0"], ["--steps", "-1"], ["--rounds", "few"], ["--only", "saelens"]])
def test_what_cannot_be_measured_is_refused_before_anything_is_made(wrong, capsys):
    import argparse

    import _race

    parser = argparse.ArgumentParser()
    _race.add_options(parser)
    assert parser.parse_args(["--rounds", "3", "--only"]).only == []
    with pytest.raises(SystemExit):
        parser.parse_args(wrong)
    assert wrong[1] in capsys.readouterr().err


def test_our_worker_takes_as_many_steps_as_it_is_told_and_answers_after_each_turn(tmp_path, monkeypatch):
    import _race
    import _trainers
    import _turns

    from sae_lab.training import _loop

    seen = []
    take = _loop.Loop.take
    monkeypatch.setattr(_loop.Loop, "take", lambda self, x, tell: (seen.append(len(x)), take(self, x, tell)))
    size = _race.Size(d_in=8, d_sae=16, k=2, batch=32)
    np.save(tmp_path / "rows.npy", _race.stream(size))
    monkeypatch.setattr(_turns, "answers", io.StringIO())
    monkeypatch.setattr(sys, "stdin", io.StringIO("2\n3\n"))
    with pytest.raises(SystemExit):  # when the parent is gone
        _trainers.ours(
            {**vars(size), "rows": str(tmp_path / "rows.npy"), "architecture": "TopK", "options": {}},
        )
    facts, *turns = [json.loads(line) for line in _turns.answers.getvalue().splitlines()]
    assert set(facts) == {"version", "torch", "capability"}
    assert len(turns) == 2
    assert all(turn["wall"] > 0 and turn["cpu"] > 0 for turn in turns)
    assert seen.count(32) == 5
