"""What tells the runs of a sweep apart: the options in which their configs differ, and names made of these.

An option counts where two runs that both have it differ in it. Where every run keeps the default of its own
architecture, the architecture's name says as much, and the option is left out.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from sae_lab.saes import SAEConfig

LONGEST = 40  # characters of one value in a name


def varied(configs: Sequence[SAEConfig]) -> list[str]:
    """Names of the options in which configs differ, in their order; without the architecture."""
    found: dict[str, list[Any]] = {}
    chosen: set[str] = set()
    for config in configs:
        for field in dataclasses.fields(config):
            value = getattr(config, field.name)
            found.setdefault(field.name, []).append(value)
            if repr(value) != repr(field.default):
                chosen.add(field.name)
    return [name for name, values in found.items() if name in chosen and len({repr(value) for value in values}) > 1]


def options(configs: Sequence[SAEConfig]) -> list[dict[str, Any]]:
    """For each config its values of the options that vary; None where it has no such option."""
    names = varied(configs)
    return [{name: value(config, name) for name in names} for config in configs]


def value(config: SAEConfig, name: str, otherwise: Any = None) -> Any:
    """An option's value, or `otherwise` where the config has no such option; it may have a method of that name."""
    return getattr(config, name) if _has(config, name) else otherwise


def names(configs: Sequence[SAEConfig]) -> list[str]:
    """A name for each config, made of what differs: "k=16", or "TopK k=16" among several architectures."""
    several = len({type(config) for config in configs}) > 1
    options, found = varied(configs), []
    for config in configs:
        facts = ", ".join(f"{name}={text(getattr(config, name))}" for name in options if _has(config, name))
        kind = type(config).__name__ if several or not facts else ""
        found.append(" ".join(filter(None, (kind, facts))))
    return [name if found.count(name) == 1 else f"{name} (run {number})" for number, name in enumerate(found)]


def common(configs: Sequence[SAEConfig]) -> str:
    """What all have in common, in a few words: "4 SAEs: TopK, 4608 latents"."""
    kinds, widths = {type(config).__name__ for config in configs}, {config.d_sae for config in configs}
    active = {config.active for config in configs}
    facts = [*kinds] if len(kinds) == 1 else []
    facts += [f"{width} latents" for width in widths] if len(widths) == 1 else []
    facts += [f"k={k}" for k in active if k is not None] if len(active) == 1 else []
    count = f"{len(configs)} SAE{'s' if len(configs) > 1 else ''}"
    return f"{count}: {', '.join(facts)}" if facts else count


def lines(configs: Sequence[SAEConfig]) -> list[str]:
    """For each config the line of a frontier that it lies on: runs that differ in numbers alone share one.

    The width is no such number: SAEs of two widths have two frontiers.
    """
    words = [name for name in varied(configs) if not all(_is_number(value(c, name, 0)) for c in configs)]
    found = []
    for config in configs:
        facts = [f"{name}={text(getattr(config, name))}" for name in words if _has(config, name)]
        found.append(", ".join([f"{type(config).__name__}, {config.d_sae} latents", *facts]))
    return found


def ranks(configs: Sequence[SAEConfig]) -> list[float] | None:
    """For each config where it stands, from 0 to 1, in the order of the one number that varies.

    None where configs differ in anything else, or in a number that repeats: then there is no order.
    """
    names = varied(configs)
    if len({type(config) for config in configs}) > 1 or len(names) != 1 or len(configs) < 3:
        return None
    values = [getattr(config, names[0]) for config in configs]
    if not all(_is_number(value) for value in values) or len(set(values)) < len(values):
        return None
    order = sorted(values)
    return [order.index(value) / (len(order) - 1) for value in values]


def text(value: Any) -> str:
    """A value as a reader writes it, cut short where it is long."""
    shown = f"{value:g}" if isinstance(value, float) else str(value)
    return shown if len(shown) <= LONGEST else f"{shown[: LONGEST - 1]}…"


def _has(config: SAEConfig, name: str) -> bool:
    return any(field.name == name for field in dataclasses.fields(config))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
