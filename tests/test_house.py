"""The rules of the house that a reader relies on: which room may import which, and how long a file may be."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "sae_lab"
FLOORS = {
    "models": 1,
    "saes": 1,
    "activations": 2,
    "training": 3,
    "evaluation": 4,
    "studies": 5,
    "synthetic": 5,
    "widgets": 6,
}
# What only one room may know; a registry and a check by name stand in for it elsewhere.
ONLY_IN = {
    "nnsight": "models",
    "anywidget": "widgets",
    "ipywidgets": "widgets",
    "traitlets": "widgets",
    "IPython": "widgets",
}
EXCEPTIONS = {
    ("models/_nnsight.py", "IPython"): "nnsight reads the source of the cell it is in; cell magics hide it",
    ("training/_run.py", "IPython"): "a run shows its monitor while the cell that trains is still running",
}
LONGEST = 350  # lines
FILES = sorted(PACKAGE.rglob("*.py"))


def room_of(path: Path) -> str | None:
    parts = path.relative_to(PACKAGE).parts
    return parts[0] if len(parts) > 1 else None


def imports(tree: ast.AST) -> Iterator[str]:
    """Every module that is imported at run time, wherever in the file; what only type checkers see is left out."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        else:
            yield from imports(node)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_a_file_keeps_to_the_rules(path):
    text = path.read_text()
    tree = ast.parse(text)
    room = room_of(path)
    assert len(text.splitlines()) <= LONGEST, "a file has one idea: divide it"
    assert ast.get_docstring(tree) or not text.strip(), "a module opens with what it is for"
    for name in imports(tree):
        top, *rest = name.split(".")
        if (path.relative_to(PACKAGE).as_posix(), top) not in EXCEPTIONS:
            assert ONLY_IN.get(top, room) == room, f"only {ONLY_IN.get(top)}/ knows {top}"
        other = rest[0] if top == "sae_lab" and rest else None
        if other in FLOORS and room is not None and other != room:
            assert FLOORS[other] < FLOORS[room], f"{room}/ stands below {other}/ and may not import it"
        assert room is not None or other not in FLOORS or path.name == "__init__.py", f"the ground floor imports {name}"


def test_the_rules_cover_every_room():
    rooms = {path.name for path in PACKAGE.iterdir() if path.is_dir() and list(path.glob("*.py"))}
    assert rooms <= FLOORS.keys()
