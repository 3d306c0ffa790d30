"""Options of architectures told in their docstrings: `help(sl.TopK)` and a notebook's tooltip say what each does.

Each option has a string under it in its file, where whoever changes it sees it; Python itself forgets these strings.
Here they are read back, when somebody asks, and written as parameters of the class, inherited ones included.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import itertools
import sys
import textwrap
from collections.abc import Iterator
from typing import Any

from sae_lab.saes._config import SAEConfig


class Docstring:
    """The docstring of a config with its options; it is put together at the first look, since that reads files."""

    def __init__(self, summary: str | None):
        self.summary = inspect.cleandoc(summary or "")
        self.text: str | None = None

    def __get__(self, instance: Any, owner: type[SAEConfig]) -> str:
        if self.text is None:
            try:
                self.text = f"{self.summary}\n\n{_parameters(owner)}"
            except (OSError, TypeError, SyntaxError):  # an installation without source files
                self.text = self.summary
        return self.text


def document(cls: type[SAEConfig]) -> None:
    """Let the docstring of a config say what each of its options means."""
    cls.__doc__ = Docstring(cls.__doc__)  # type: ignore[assignment]  # Python asks it for the text


def _parameters(cls: type[SAEConfig]) -> str:
    told = _told(cls)
    lines = ["Parameters", "----------"]
    for option in dataclasses.fields(cls):
        default = "" if option.default is dataclasses.MISSING else f", default {option.default!r}"
        lines += [f"{option.name} : {option.type}{default}", textwrap.indent(told.get(option.name, ""), "    ")]
    return "\n".join([*lines, "", "Notes", "-----", f"Idea, equations and source: `help({cls.__module__!r})`.", ""])


def _told(cls: type[SAEConfig]) -> dict[str, str]:
    """What stands under each option, by name: in the class itself, or in those that it inherits from."""
    told: dict[str, str] = {}
    for origin in reversed([base for base in cls.__mro__ if dataclasses.is_dataclass(base)]):
        # a class that only changes a default says less of the option than the one that has it first
        told |= {name: text for name, text in _strings(origin) if len(text) > len(told.get(name, ""))}
    return told


def _strings(cls: type) -> Iterator[tuple[str, str]]:
    """(name, string under it) of the annotated names in a class body."""
    tree = ast.parse(inspect.getsource(sys.modules[cls.__module__]))
    bodies = [node.body for node in tree.body if isinstance(node, ast.ClassDef) and node.name == cls.__name__]
    for option, below in itertools.chain.from_iterable(map(itertools.pairwise, bodies)):
        match option, below:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                yield name, inspect.cleandoc(text)
