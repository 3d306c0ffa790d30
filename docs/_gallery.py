"""The gallery's widgets: real results on the demo SAEs, kept as states of widgets until what they come from changes.

The states hold passages of the demo corpus, so they are made when the site is built and never committed.
"""

from __future__ import annotations

import hashlib
import importlib
import json
from pathlib import Path

SMALL, LARGE, WIDTHS = 576, 1152, (576, 1152, 2304)  # of the demo SAEs: small ones, for the sake of the page
TOKEN = " Monday"  # what the latent shown first fires on
CARRIED = 60  # latents whose details a dashboard of the gallery carries
CARRIED_BY_EXPLORER = 200
STEPS = 100  # of the training runs that the monitors show
SWEEP = (8, 16, 32, 64)  # k of the runs of the sweep
# files of the gallery, each with the widgets named in its state
FRAGMENTS = ("linked", "curve", "split", "monitor", "sweep")


def write_gallery(root: Path, kept: Path, target: Path, explorer: Path) -> None:
    """Write the gallery's fragments of HTML into `target`, and the explorer's page to `explorer`."""
    from sae_lab.widgets import _pages

    made_from = fingerprint(root)
    state = json.loads(kept.read_text(encoding="utf-8")) if kept.is_file() else {}
    if state.get("made_from") != made_from:
        state = {"made_from": made_from, **make()}
        kept.write_text(json.dumps(state), encoding="utf-8")
    target.mkdir(parents=True, exist_ok=True)
    for name in FRAGMENTS:
        part = state[name]
        models = {"version_major": 2, "version_minor": 0, "state": with_scripts(part["models"])}
        states = f'<script type="{_pages.WIDGET_STATE}">{_pages.json_text(models)}</script>'
        for number, model_id in enumerate(part["shown"]):
            view = f'<div class="gallery-widget">{_pages.view_tag(model_id)}</div>'
            write(target / f"{name}-{number}.html", f"{'' if number else states}\n{view}\n")
    write(target / "host.html", '<script src="_static/sael-host.js" defer></script>\n')
    (model_id,) = state["explorer"]["shown"]
    page = _pages.state_page(with_scripts(state["explorer"]["models"]), model_id, title="Explorer of a demo SAE")
    write(explorer, page)


def fingerprint(root: Path) -> str:
    """A hash of what the data comes from: the demo SAEs, and the code that makes and packs the results."""
    package = root / "sae_lab"
    sources = [
        *package.glob("evaluation/*.py"),
        *package.glob("studies/**/*.py"),
        *package.glob("widgets/*.py"),
        *package.glob("saes/demo/*/*"),
    ]
    digest = hashlib.sha256(Path(__file__).read_bytes())
    for path in sorted(sources):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def make() -> dict:
    """States of all widgets of the gallery, made with the demo model in about a minute."""
    import _gather

    import sae_lab as sl

    model, acts = _gather.demo_activations()
    saes = [sl.load_sae("demo", width=width) for width in WIDTHS]
    small, large = saes[:2]
    profiles = [_gather.profiles_of(sae, acts, model) for sae in saes]
    latent = _gather.latent_for(profiles[1], TOKEN)
    meta = sl.meta_sae(large, profiles=profiles[1], progress=False)
    plan = sl.latent_map(large, profiles=profiles[1], progress=False)
    stitching = sl.stitch(small, large, acts, insert="gain", grouping="star", progress=False)
    curve = stitching.curve(metrics=("fvu", "l0"), progress=False)
    chain = sl.stitch_chain(saes, acts, grouping="star", progress=False)
    run = sl.train(sl.BatchTopK(d_sae=SMALL, k=32), acts, steps=STEPS, progress=False)
    configs = [sl.BatchTopK(d_sae=SMALL, k=k) for k in SWEEP]
    sweep = sl.train(configs, acts, steps=STEPS, batch_size=512, progress=False)

    linked = [
        sl.MapView(plan, color="cluster", height=520),
        sl.Dashboard(profiles[1], latent, latents=CARRIED, height=620),
        sl.TreeView(meta.tree(latent), profiles=profiles[1], height=560),
    ]
    ties = sl.link(*linked)
    explorer = sl.Explorer(
        [profiles[1], profiles[0]], map=plan, meta=meta, curve=curve, model=model, latent=latent, color="cluster",
    )._for_page(CARRIED_BY_EXPLORER)  # fmt: skip
    explorer.set_trait("page", True)
    made = {
        "linked": ties,
        "curve": [sl.CurveView(curve, profiles=profiles[:2])],
        "split": [sl.SplitView(chain, profiles=profiles)],
        "monitor": [sl.Monitor(run)],
        "sweep": [sl.SweepMonitor(sweep)],
        "explorer": [explorer],
    }
    return {name: without_scripts(list(widgets)) for name, widgets in made.items()}


def without_scripts(widgets: list) -> dict:
    """The states of widgets and of all that they need; instead of its script, each has the name of its class."""
    from ipywidgets.embed import dependency_state
    from ipywidgets.widgets.widget import _instances

    models = dependency_state(widgets, drop_defaults=False)
    for model_id, record in models.items():
        if "_esm" in record["state"]:
            widget = _instances[model_id]
            record["widget"] = [type(widget).__module__, type(widget).__name__]
            del record["state"]["_esm"], record["state"]["_css"]
    return {"shown": [widget.model_id for widget in widgets], "models": models}


def with_scripts(models: dict) -> dict:
    """The states again with scripts and styles, as they are in the package now."""
    for record in models.values():
        if "widget" in record:
            module, name = record.pop("widget")
            kind = getattr(importlib.import_module(module), name)
            record["state"] |= {"_esm": kind._esm, "_css": kind._css}
    return models


def write(target: Path, text: str) -> None:
    """Write `target` unless it holds `text` already: an untouched file is not built again."""
    if not target.is_file() or target.read_text(encoding="utf-8") != text:
        target.write_text(text, encoding="utf-8")
