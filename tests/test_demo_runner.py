from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

ROOT = Path(__file__).parents[1]


def run_demo(folder: Path, *cells) -> subprocess.CompletedProcess:
    nbformat.write(new_notebook(cells=list(cells)), folder / "07-small.ipynb")
    command = [
        sys.executable,
        "tools/demo.py",
        str(folder / "07-small.ipynb"),
        "--into",
        str(folder / "out"),
        "--no-model",
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, env=environment)


@pytest.mark.slow
def test_a_notebook_becomes_a_page_with_its_widgets(tmp_path):
    done = run_demo(
        tmp_path,
        new_markdown_cell("# A small notebook"),
        new_code_cell("import sae_lab.widgets, anywidget"),
        new_markdown_cell("Some words.\n\n## Look at it"),
        new_code_cell(
            "class Hello(anywidget.AnyWidget):\n"
            "    _esm = 'export default { render({ el }) { el.textContent = `drawn ${1 + 1}` } }'\n"
            "Hello()"
        ),
        new_code_cell("open('beside.txt', 'w').write('the kernel runs where the notebook lies')"),
    )
    assert done.returncode == 0, done.stderr
    lines = [line.strip() for line in done.stdout.splitlines() if line.lstrip().startswith("[")]
    assert [line[:5] for line in lines] == ["[ 1/3", "[ 2/3", "[ 3/3"]
    assert "A small notebook" in lines[0]
    assert "Look at it" in lines[1]
    assert "make lab" in done.stdout
    page = (tmp_path / "out" / "small.html").read_text()
    assert "drawn ${1 + 1}" in page
    assert str(tmp_path / "out" / "small.html") in done.stdout
    assert (tmp_path / "beside.txt").is_file()
    executed = nbformat.read(tmp_path / "out" / "small.ipynb", as_version=4)
    assert "widgets" in executed.metadata


@pytest.mark.slow
def test_a_cell_that_fails_ends_the_run_and_keeps_what_was_done(tmp_path):
    done = run_demo(tmp_path, new_code_cell("print('so far')"), new_code_cell("1 / 0"), new_code_cell("print('never')"))
    assert done.returncode == 1
    assert "ZeroDivisionError" in done.stderr
    assert not (tmp_path / "out" / "small.html").exists()
    executed = nbformat.read(tmp_path / "out" / "small.ipynb", as_version=4)
    assert executed.cells[0].outputs[0].text == "so far\n"
    assert executed.cells[2].outputs == []


def test_a_notebook_that_is_not_there_is_named(tmp_path):
    command = [sys.executable, "tools/demo.py", str(tmp_path / "none.ipynb")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "there is no notebook at" in done.stderr
