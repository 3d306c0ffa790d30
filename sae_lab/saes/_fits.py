"""Whether an SAE and some activations, or two SAEs, belong together: asked before every use of both."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from sae_lab._errors import BadInput, Mismatch
from sae_lab.saes._weights import Layout

if TYPE_CHECKING:
    from sae_lab.activations import Activations
    from sae_lab.saes._sae import SAE


def check_sae(given: Any) -> None:
    """Refuse what is not an SAE but leads to one, and say how; everything that takes an SAE asks this first.

    Raises
    ------
    BadInput
        It is a run, a config, a path, or something else.
    """
    from sae_lab.saes._config import SAEConfig
    from sae_lab.saes._sae import SAE

    if isinstance(given, SAE):
        return
    if isinstance(given, SAEConfig):
        way = "that says what to train: sl.train(config, acts).sae is the SAE"
    elif isinstance(given, str | Path):
        way = "sl.load_sae(path) is the SAE"
    elif isinstance(getattr(given, "sae", None), SAE):
        way = "pass its .sae"
    else:
        way = "sl.train(...).sae and sl.load_sae(...) give one"
    raise BadInput(f"this needs an SAE, not a {type(given).__name__}: {way}")


def check_fits(sae: SAE, acts: Activations) -> None:
    """Refuse activations that this SAE was not made for.

    The widths must be equal, and where both say which model and which site they come from, these too.

    Raises
    ------
    Mismatch
        They do not belong together; the message says in what.
    """
    check_sae(sae)
    if sae.d_in != acts.d_in:
        if sae.metadata.get("target") and [source["width"] for source in acts.sources] == [sae.d_in, sae.d_out]:
            raise Mismatch(
                "this reads the transcoder's input alone, and these activations have its target beside it: give what "
                f"was joined as {acts.sources[0]['name']!r}"
            )
        if _with_gradients(sae, acts):
            raise Mismatch("these rows have their gradients beside them, which are not read here: give the rows alone")
        home = sae.metadata.get("model") or "the model that it was trained on"
        raise Mismatch(
            f"this SAE reads activations of width {sae.d_in}, these have width {acts.d_in}: harvest them at "
            f"{sae.metadata.get('site') or 'the site'} of {home}"
        )
    for key in ("model", "site"):
        ours, theirs = sae.metadata.get(key), acts.metadata.get(key)
        if ours and theirs and ours != theirs:
            raise Mismatch(
                f"this SAE was trained on {key} {ours!r}, these activations come from {key} {theirs!r}: "
                f"use activations of {ours!r}, or an SAE trained on {theirs!r}"
            )


def columns(sae: SAE, acts: Activations) -> Layout:
    """Which columns of these activations the SAE reads and which it reconstructs; refuse what it was not made for.

    A transcoder needs `sl.join({"input": ..., "target": ...})`; every other SAE reads and reconstructs all columns,
    but for the gradients in `acts.with_gradients()`.

    Raises
    ------
    Mismatch
        They do not belong together; the message says in what.
    """
    check_sae(sae)
    target = sae.metadata.get("target")
    if target is None and sae.d_out == sae.d_in:
        if _with_gradients(sae, acts):
            _check_source(sae.metadata, acts.sources[0], "this SAE reads")
            return Layout(slice(0, sae.d_in), slice(0, sae.d_in), slice(sae.d_in, acts.d_in))
        check_fits(sae, acts)
        return Layout(slice(0, acts.d_in), slice(0, acts.d_in))
    wanted = [(sae.metadata, sae.d_in, "reads"), (target or {}, sae.d_out, "reconstructs")]
    if [source["width"] for source in acts.sources] != [sae.d_in, sae.d_out]:
        raise Mismatch(
            f"this transcoder reads rows of width {sae.d_in} and reconstructs rows of width {sae.d_out}, these "
            f"activations have {' and '.join(str(source['width']) for source in acts.sources)}: give "
            f"sl.join({{'input': acts_in, 'target': acts_out}})"
        )
    for (known, _, verb), source in zip(wanted, acts.sources, strict=True):
        _check_source(known, source, f"this transcoder {verb}")
    return Layout(slice(0, sae.d_in), slice(sae.d_in, sae.d_in + sae.d_out))


def _with_gradients(sae: SAE, acts: Activations) -> bool:
    """Whether these are rows that the SAE reads, with the gradient of each beside it."""
    return [source["name"] for source in acts.sources] == ["x", "gradient"] and acts.d_in == 2 * sae.d_in


def _check_source(known: dict[str, Any], source: dict[str, Any], who: str) -> None:
    for key in ("model", "site"):
        if known.get(key) and source[key] and known[key] != source[key]:
            raise Mismatch(f"{who} {key} {known[key]!r}, {source['name']!r} is of {source[key]!r}")


def check_same_place(one: SAE, other: SAE, otherwise: str) -> None:
    """Refuse two SAEs that read different activations; `otherwise` ends the message, and says what cannot be done.

    Raises
    ------
    Mismatch
        Their widths, models or sites differ; both are named.
    """
    check_sae(one)
    check_sae(other)
    if one.d_in != other.d_in:
        raise Mismatch(
            f"{one.name} reads activations of width {one.d_in}, {other.name} of width {other.d_in}: {otherwise}"
        )
    for key in ("model", "site"):
        ours, theirs = one.metadata.get(key), other.metadata.get(key)
        if ours and theirs and ours != theirs:
            raise Mismatch(f"{one.name} was trained on {key} {ours!r}, {other.name} on {key} {theirs!r}: {otherwise}")
