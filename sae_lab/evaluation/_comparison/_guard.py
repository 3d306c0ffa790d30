"""The guard: in what arms differ beyond the factor that the comparison is about.

A published comparison had an auxiliary loss on one arm only, and its authors later had to take the conclusion back. So
everything known about each arm is laid side by side before any work is done, and each difference gets a status:

    declared      it is the factor, or part of it
    architecture  only one architecture has such an option, or it follows from the architecture, which is the factor
    matched       an option that sets the sparsity; the arms are read at the same L0 instead
    undeclared    a confound
    unknown       nobody can say, because some arm's training is not recorded
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from sae_lab._errors import BadInput
from sae_lab.evaluation._comparison._arms import Candidate
from sae_lab.evaluation._comparison._describe import ABSENT, UNKNOWN, WHERE, lacking

# options whose effect is the L0, whatever their architecture calls them
SPARSITY = frozenset({"k", "l1", "l0", "target_l0", "weight"})
FOLLOWS = ("inference",)  # fields that follow from an architecture
DEAD = ("dead", "aux_k", "aux_weight")  # what is done for dead latents, which one name declares
FIRST = ("architecture", "d_sae", "k", "l1", "aux_k", "aux_weight", "lr", "steps", "batch_size", "tokens")


class Difference(NamedTuple):
    """One field in which arms differ, or may."""

    field: str
    values: dict[str, list[Any]]
    """Arm -> its values: one, or one a point of its frontier."""
    status: str


def laid_side_by_side(found: Sequence[Candidate]) -> dict[str, dict[str, list[Any]]]:
    """Field -> arm -> the values that its points have, each once."""
    fields = {field for c in found for field in c.about if not field.startswith("_")}
    table: dict[str, dict[str, list[Any]]] = {}
    for field in sorted(fields, key=lambda name: (FIRST.index(name) if name in FIRST else len(FIRST), name)):
        row: dict[str, list[Any]] = {}
        for c in found:
            value = c.about.get(field, lacking(c.about, field))
            row.setdefault(c.arm, [])
            if value not in row[c.arm]:
                row[c.arm].append(value)
        table[field] = row
    seeds: dict[str, list[Any]] = {}
    for c in found:
        own = seeds.setdefault(c.arm, [])
        if (seed := UNKNOWN if c.seed is None else c.seed) not in own:
            own.append(seed)
    table["seeds"] = {arm: [UNKNOWN if UNKNOWN in own else sorted(own)] for arm, own in seeds.items()}
    return table


def settle(found: Sequence[Candidate], factor: str | Sequence[str] | None, match: bool) -> tuple[tuple[str, ...], bool]:
    """What the comparison is about, and whether it is at matched L0: not where the sparsity itself is the factor."""
    table = laid_side_by_side(found)
    names = _declared(factor, table) if factor is not None else _inferred(table, match)
    return names, match and not SPARSITY & set(names)


def differences(found: Sequence[Candidate], factor: tuple[str, ...], match: bool) -> list[Difference]:
    """Every field that is not known to be the same everywhere."""
    table = laid_side_by_side(found)
    architectures = {arm: values[0] for arm, values in table["architecture"].items()}
    same = _same_weights(found)
    return [
        Difference(field, row, status)
        for field, row in table.items()
        if (status := _status(field, row, factor, match, architectures)) is not None
        and not (status == "unknown" and (same or (field in WHERE and _same_rows(table))))
    ]


def refuse(found: Sequence[Difference], factor: tuple[str, ...]) -> None:
    """Raise when arms differ in what was not declared.

    Raises
    ------
    BadInput
        Naming each such field, the value that each arm has, and what to do.
    """
    confounds = [each for each in found if each.status == "undeclared"]
    if not confounds:
        return
    about = "they differ in several things, and no factor was declared" if not factor else ""
    about = about or f"they differ in more than the declared factor, {' and '.join(factor)}"
    lines = "\n".join(f"  {each.field}: {told(each)}" for each in confounds)
    names = tuple(dict.fromkeys([*factor, *(each.field for each in confounds)]))
    shown = repr(names[0]) if len(names) == 1 else repr(names)
    hint = " (for dead latents, give all arms the same dead=, say dead='aux': without that aux_weight counts as 0)"
    how = hint if {each.field for each in confounds} & set(DEAD) else ""
    raise BadInput(
        f"these arms cannot be compared fairly: {about}:\n{lines}\n"
        f"Make these equal{how}; or, if the comparison is about all of it together, declare it: factor={shown}; "
        f'or pass confounds="flag" to go on and have it said beside every result'
    )


def told(difference: Difference) -> str:
    """The values of all arms in words."""
    return ", ".join(f"{arm} {_value(values)}" for arm, values in difference.values.items())


def _value(values: list[Any]) -> str:
    return " / ".join(f"{value:.6g}" if isinstance(value, float) else str(value) for value in values)


def _key(value: Any) -> str:
    """The value as text that is the same for 0 and 0.0, and for what was a tuple before it was saved."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return repr(float(value))
    return str(list(map(_key, value))) if isinstance(value, list | tuple) else str(value)


def _status(
    field: str, row: dict[str, list[Any]], factor: tuple[str, ...], match: bool, architectures: dict[str, Any]
) -> str | None:
    """The status of one field; None when it is the same everywhere."""
    if field not in SPARSITY and any(len(values) > 1 for values in row.values()):
        return "undeclared"  # the points of one arm's frontier may differ in their sparsity only
    known = {arm: values for arm, values in row.items() if values != [UNKNOWN]}
    there = [values for values in known.values() if values != [ABSENT]]
    same = all(sorted(map(_key, values)) == sorted(map(_key, there[0])) for values in there)
    if same and len(there) == len(row):
        return None
    if field in factor or ("dead" in factor and field in DEAD):
        return "declared" if len(known) == len(row) else "unknown"
    if match and field in SPARSITY:
        return "matched"
    by_architecture = "architecture" in factor and len(set(architectures.values())) > 1
    if same and len(known) < len(row):
        return "unknown"
    if same and by_architecture:  # and somewhere absent
        return "architecture"
    if field in FOLLOWS and by_architecture:
        pairs = {(architectures[arm], str(list(map(_key, values)))) for arm, values in known.items()}
        if len(pairs) == len({architecture for architecture, _ in pairs}):
            return "architecture"
    return "undeclared"


def _declared(given: str | Sequence[str], table: dict[str, dict[str, list[Any]]]) -> tuple[str, ...]:
    """The factor as a tuple of fields that there are."""
    names = (given,) if isinstance(given, str) else tuple(given)
    for name in names:
        if name not in table:
            raise BadInput(f"factor {name!r} is nothing that these arms have: choose from {', '.join(table)}")
    return names


def _same_weights(found: Sequence[Candidate]) -> bool:
    """Whether all arms hold the same trained decoders, so that their training cannot have differed."""
    held: dict[str, set[str | None]] = {}
    for c in found:
        held.setdefault(c.arm, set()).add(None if c.sae is None else c.sae.fingerprint)
    first, *others = held.values()
    return None not in first and all(each == first for each in others)


def _same_rows(table: dict[str, dict[str, list[Any]]]) -> bool:
    """Whether all arms are known to see the very same rows, so that no name of a place or data set is needed."""
    seen = list(table.get("data", {"": [UNKNOWN]}).values())
    return all(values == seen[0] != [UNKNOWN] for values in seen)


def _inferred(table: dict[str, dict[str, list[Any]]], match: bool) -> tuple[str, ...]:
    """The factor that a comparison is about when nobody said: the architecture, or the one thing that differs."""
    architectures = {arm: values[0] for arm, values in table["architecture"].items()}
    if len(set(architectures.values()) - {UNKNOWN}) > 1:
        return ("architecture",)
    differing = [
        field
        for field, row in table.items()
        if field != "seeds" and _status(field, row, (), match, architectures) == "undeclared"
    ]
    if len(differing) == 1:
        return (differing[0],)
    if differing and set(differing) <= set(DEAD):
        return ("dead",)
    if not differing and match and any(field in SPARSITY for field in table):
        # the sparsity itself, which matching would take away
        varied = [f for f, row in table.items() if f in SPARSITY and _status(f, row, (), False, architectures)]
        return (varied[0],) if len(varied) == 1 and all(len(v) == 1 for v in table[varied[0]].values()) else ()
    return ()
