"""What the site shows that comes from elsewhere in the repository: the quickstart and the home page's dashboard."""

from __future__ import annotations

import base64
import dataclasses
import functools
import hashlib
import json
from pathlib import Path

TOKENS = 30_000  # of the demo corpus, for the home page's dashboard
LATENTS = 100  # whose details it carries
TOKEN = " Monday"  # the latent shown first is the one that fires on it most surely


def write_quickstart(root: Path, target: Path) -> None:
    """Copy the quickstart to `target`: the executed one that `make demo` left, if it is of the same code."""
    committed = read(root / "notebooks" / "01-quickstart.ipynb")
    executed = root / "build" / "quickstart.ipynb"
    notebook = read(executed) if executed.is_file() else committed
    if code(notebook) != code(committed):
        notebook = committed
    notebook["metadata"].setdefault("language_info", {"name": "python", "pygments_lexer": "ipython3"})
    write(target, json.dumps(notebook))


def read(notebook: Path) -> dict:
    """A notebook as it lies on the disk."""
    return json.loads(notebook.read_text(encoding="utf-8"))


def code(notebook: dict) -> list[str]:
    """Every cell's source, outputs aside."""
    return ["".join(cell["source"]) for cell in notebook["cells"]]


def write(target: Path, text: str) -> None:
    """Write `target` unless it holds `text` already: an untouched file is not built again."""
    if not target.is_file() or target.read_text(encoding="utf-8") != text:
        target.write_text(text, encoding="utf-8")


def write_dashboard(root: Path, kept: Path, target: Path) -> None:
    """Write the home page's dashboard to `target` as a fragment of HTML, which the host script brings to life.

    Its data is made with the demo model and the demo SAE, which takes a minute, and kept in `kept` until one of
    the things that it comes from changes. It holds passages of the demo corpus, so it is not committed.
    """
    from sae_lab.widgets import Dashboard

    made_from = fingerprint(root)
    state = read(kept) if kept.is_file() else {}
    if state.get("made_from") != made_from:
        state = {"made_from": made_from, **dashboard_state()}
        write(kept, json.dumps(state))
    record = {key: value for key, value in state.items() if key != "made_from"}
    record["state"] |= {"_esm": Dashboard._esm, "_css": Dashboard._css}
    write(target, widget_tags(record))


def fingerprint(root: Path) -> str:
    """A hash of what the dashboard's data comes from: the demo SAE, and the code that profiles and packs."""
    package = root / "sae_lab"
    sources = [*package.glob("evaluation/*.py"), *package.glob("widgets/_pack.py"), *package.glob("saes/demo/*/*")]
    digest = hashlib.sha256(Path(__file__).read_bytes())
    for path in sorted(sources):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def dashboard_state() -> dict:
    """The state of a dashboard of the demo SAE, profiled on a little of the demo corpus."""
    import sae_lab as sl

    model, acts = demo_activations()
    profiles = profiles_of(sl.load_sae("demo"), acts, model)
    return saved_state(sl.Dashboard(profiles, latent_for(profiles, TOKEN), latents=LATENTS))


@functools.cache
def demo_activations():
    """The demo model, and its activations on a little of the demo corpus: what takes long, so once a build."""
    import sae_lab as sl

    model, texts = sl.load_model("demo"), sl.load_corpus("demo", split="test")
    return model, sl.harvest(model, texts, site="layers.9", max_tokens=TOKENS, progress=False)


def profiles_of(sae, acts, model):
    """Profiles for a page: no kernel stands behind it, so no text can be run."""
    import sae_lab as sl

    return dataclasses.replace(sl.profile(sae, acts, model, progress=False), prompt=None)


def latent_for(profiles, token: str) -> int:
    """The latent that fires on `token` most surely, of those that fire neither rarely nor often."""
    found = profiles.find(token)
    telling = found[found["density"].between(0.0003, 0.02)]
    chosen = telling if len(telling) else found if len(found) else profiles.frame.sort_values("max_activation")[::-1]
    return int(chosen["latent"].iloc[0])


def widget_tags(record: dict) -> str:
    """Jupyter's own script tags for the saved state of one widget, and the host that reads them."""
    from sae_lab.widgets._pages import WIDGET_STATE, json_text, view_tag

    states = {"version_major": 2, "version_minor": 0, "state": {"home": record}}
    return (
        f'<div class="home-dashboard">\n<script type="{WIDGET_STATE}">{json_text(states)}</script>\n'
        f'{view_tag("home")}\n</div>\n<script src="_static/sael-host.js" defer></script>\n'
    )


def saved_state(widget) -> dict:
    """A widget's state as JSON, without the script and style that the package holds: what `write_dashboard` keeps."""
    state, buffers = {}, []
    for name, value in widget.get_state().items():
        if name in ("_esm", "_css"):
            continue
        if isinstance(value, bytes | memoryview):
            data = base64.b64encode(bytes(value)).decode("ascii")
            buffers.append({"path": [name], "encoding": "base64", "data": data})
        else:
            state[name] = value
    return {"model_name": "AnyModel", "model_module": "anywidget", "state": state, "buffers": buffers}
