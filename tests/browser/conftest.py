"""Real Chromium for the widgets' tests, in three ways: a bridge, saved pages, and a real JupyterLab.

`mount(widget)` is the everyday way: the real Python widget, drawn by the page host in a real browser, with the
comm between them replaced by function calls. No server, no kernel, under a second a test.

`page` is guarded: whatever a test does, each request that would leave the machine is aborted and recorded, and
the test fails at its end if there was one, or if the page reported an error.
"""

from __future__ import annotations

import base64
import functools
import os
import queue
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import comm
import pytest
from _offline import Offline
from comm.base_comm import BaseComm
from ipywidgets.embed import dependency_state
from playwright.sync_api import BrowserContext, Keyboard, Locator, Mouse, Page, expect

from sae_lab.widgets._base import STATIC

CHROMIUM_ARGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


TIMEOUT = 20_000  # milliseconds; what is asked for is there in a few hundred unless the machine is loaded
expect.set_options(timeout=TIMEOUT)


@pytest.fixture(scope="session")
def browser_type_launch_args() -> dict[str, Any]:
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    found = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, names)), None)
    if found is None:
        message = "Chromium is not installed: run `apt-get install chromium`, or set CHROMIUM to its path"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    return {"executable_path": found, "headless": True, "args": CHROMIUM_ARGS}


@pytest.fixture
def offline(context: BrowserContext) -> Offline:
    return Offline(context)


@pytest.fixture
def page(page: Page, offline: Offline) -> Iterator[Page]:
    page.set_default_timeout(TIMEOUT)
    yield page
    offline.check()


BRIDGE = """<!doctype html><html lang="en"><meta charset="utf-8"><style>:root { color-scheme: light dark }</style><body>
<script>HOST</script><script>
const underway = new Set();
function send(id, message) {
  const done = pySend(id, message).finally(() => underway.delete(done));
  underway.add(done);
}
const channel = {
  update: (id, state) => send(id, { method: "update", state, buffer_paths: [] }),
  send: (id, content) => send(id, { method: "custom", content }),
  invoke: (model, name, msg, { signal = AbortSignal.timeout(3000) } = {}) => new Promise((resolve, reject) => {
    const id = String(Math.random());
    const answer = (reply, buffers) => {
      if (reply.id !== id) return;
      model.off("msg:custom", answer);
      resolve([reply.response, buffers]);
    };
    model.on("msg:custom", answer);
    signal.addEventListener("abort", () => reject(signal.reason));
    send(model.id, { method: "custom", content: { id, kind: "anywidget-command", name, msg } });
  }),
};
globalThis.bridge = {
  host: new saelab.Host(channel), views: new Map(),
  async settled() {
    while (underway.size) await Promise.all(underway);
  },
  show(state, id, mark) {
    this.host.add(state);
    const el = document.body.appendChild(document.createElement("div")), view = new AbortController();
    el.dataset.mount = mark;
    this.views.set(mark, view);
    return this.host.view(id, el, view.signal);
  },
  receive(id, { method, state, content, buffers }) {
    const model = this.host.models.get(id);
    if (method === "update") model?.take(saelab.restore(state, buffers));
    const unpack = ({ data }) => saelab.restore({}, [{ path: ["b"], data }]).b;
    if (method === "custom") model?.emit("msg:custom", content, buffers.map(unpack));
  },
};
</script></body></html>"""


# What a test does to a page. Python may be asked for the outcome right after it: see `Mount.settle`.
ACTS: dict[type, tuple[str, ...]] = {
    Keyboard: ("down", "press", "type", "up"),
    Locator: ("check", "clear", "click", "dblclick", "fill", "focus", "hover", "press", "select_option", "uncheck"),
    Mouse: ("click", "dblclick", "down", "move", "up", "wheel"),
}


class Mount:
    """Draws Python widgets in the page and carries their messages; threads' messages wait for `pump`."""

    def __init__(self, page: Page):
        self.page = page
        self.comms: dict[str, PageComm] = {}
        self._waiting: queue.SimpleQueue[tuple[str, dict[str, Any]]] = queue.SimpleQueue()
        self._thread = threading.current_thread()
        self._count = 0
        page.expose_function("pySend", self._from_page)
        page.set_content(BRIDGE.replace("HOST", (STATIC / "host.js").read_text(encoding="utf-8")))

    def __call__(self, widget: Any) -> Locator:
        """Draw `widget` below what is there; return the place where it was drawn."""
        self._flush()
        self._count += 1
        mark = str(self._count)
        state = dependency_state([widget], drop_defaults=False)
        shown = {key: value for key, value in state.items() if key in self.comms}
        self.page.evaluate("([state, id, mark]) => bridge.show(state, id, mark)", [shown, widget.model_id, mark])
        return self.page.locator(f'[data-mount="{mark}"]')

    def remove(self, place: Locator) -> None:
        """Dispose of a view, as a notebook does when its cell is run again."""
        place.evaluate("el => { bridge.views.get(el.dataset.mount).abort(); el.remove(); }")

    def settle(self) -> None:
        """Wait until page and Python have heard each other out: a click is over before its message arrives."""
        self.page.evaluate("bridge.settled()")
        while not self._waiting.empty():
            self._flush()
            self.page.evaluate("bridge.settled()")

    def settling(self, act: Callable[..., Any]) -> Callable[..., Any]:
        """`act`, which returns only once what it led to has reached Python."""

        @functools.wraps(act)
        def done(*args: Any, **kwargs: Any) -> Any:
            answer = act(*args, **kwargs)
            self.settle()
            return answer

        return done

    def pump(self, until: Callable[[], bool], seconds: float = 10) -> None:
        """Carry messages of other threads to the page until `until()` is true."""
        end = time.monotonic() + seconds
        while not until():
            assert time.monotonic() < end, f"waited {seconds} s in vain"
            self._flush()
            self.page.wait_for_timeout(20)
        self._flush()

    def _flush(self) -> None:
        while not self._waiting.empty():
            self.page.evaluate("([id, message]) => bridge.receive(id, message)", list(self._waiting.get()))

    def to_page(self, comm_id: str, data: dict[str, Any], buffers: list[Any]) -> None:
        packed = [base64.b64encode(bytes(memoryview(b).cast("B"))).decode() for b in buffers]
        paths = data.get("buffer_paths") or [["buffers", i] for i in range(len(packed))]
        message = {**data, "buffers": [{"path": path, "data": b} for path, b in zip(paths, packed, strict=True)]}
        self._waiting.put((comm_id, message))
        if threading.current_thread() is self._thread:
            self._flush()

    def _from_page(self, comm_id: str, data: dict[str, Any]) -> None:
        message = {"content": {"data": data, "comm_id": comm_id}, "buffers": [], "parent_header": {}, "header": {}}
        self.comms[comm_id].handle_msg(message)


class PageComm(BaseComm):
    """A comm whose other end is the page."""

    mount: Mount

    def publish_msg(self, msg_type: str, data: Any = None, metadata: Any = None, buffers: Any = None, **_: Any) -> None:
        if msg_type == "comm_msg" and data.get("method") in ("update", "custom"):
            self.mount.to_page(self.comm_id, data, buffers or [])


@pytest.fixture
def mount(page: Page, monkeypatch: pytest.MonkeyPatch) -> Iterator[Mount]:
    """mount(widget) -> Locator: a real Python widget in a real browser. Make the widget inside the test."""
    bridge = Mount(page)

    class Comm(PageComm):
        mount = bridge

    def create(*args: Any, **kwargs: Any) -> PageComm:
        made = Comm(*args, **kwargs)
        bridge.comms[made.comm_id] = made
        return made

    monkeypatch.setattr(comm, "create_comm", create)
    for kind, names in ACTS.items():
        for name in names:
            monkeypatch.setattr(kind, name, bridge.settling(getattr(kind, name)))
    yield bridge
    for made in bridge.comms.values():
        made.publish_msg = lambda *args, **kwargs: None  # type: ignore[method-assign]
