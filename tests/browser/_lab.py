"""A real JupyterLab for tests: its own server, its own settings, a page with one notebook open."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from playwright.sync_api import Locator, Page

ROOT = Path(__file__).parents[2]
PATIENCE = 200_000  # milliseconds: a loaded machine with two cores may take a minute to load JupyterLab
SETTINGS = {
    "@jupyterlab/apputils-extension:notification": {"fetchNews": "false", "checkForUpdates": False},
    "@jupyter-widgets/jupyterlab-manager:plugin": {"saveState": True},
}


@contextlib.contextmanager
def server(folder: Path) -> Iterator[str]:
    """A JupyterLab server over `folder`/work that touches nothing of the user's; yields its address."""
    for name in ("work", "config/labconfig", "data", "runtime", "ipython", "workspaces", "settings"):
        (folder / name).mkdir(parents=True)
    (folder / "config/labconfig/default_setting_overrides.json").write_text(json.dumps(SETTINGS))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ip=127.0.0.1", f"--port={port}"]
    command += ["--ServerApp.port_retries=0", "--IdentityProvider.token=", "--ServerApp.disable_check_xsrf=True"]
    command += [f"--ServerApp.root_dir={folder / 'work'}", "--LabApp.expose_app_in_browser=True"]
    command += [f"--LabApp.workspaces_dir={folder / 'workspaces'}", f"--LabApp.user_settings_dir={folder / 'settings'}"]
    command += ["--LabApp.extension_manager=readonly"]
    folders = {"CONFIG": "config", "DATA": "data", "RUNTIME": "runtime"}
    own = {f"JUPYTER_{name}_DIR": str(folder / place) for name, place in folders.items()}
    own |= {"IPYTHONDIR": str(folder / "ipython"), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    with (folder / "server.log").open("w") as log:
        process = subprocess.Popen(command, env={**os.environ, **own}, stdout=log, stderr=log)
    address = f"http://127.0.0.1:{port}"
    try:
        _wait_for(f"{address}/api/status", process, folder / "server.log")
        yield address
    finally:
        process.terminate()
        process.wait(20)


def _wait_for(address: str, process: subprocess.Popen[bytes], log: Path, seconds: float = PATIENCE / 1000) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end and process.poll() is None:
        with contextlib.suppress(OSError), urllib.request.urlopen(address, timeout=5):
            return
        time.sleep(0.2)
    raise RuntimeError(f"JupyterLab did not start:\n{log.read_text()[-3000:]}")


class Notebook:
    """One notebook, open in JupyterLab in `page`, with its kernel running."""

    def __init__(self, page: Page, address: str, name: str):
        self.page = page
        page.goto(f"{address}/lab/tree/{name}?reset", timeout=PATIENCE)
        self.until_idle()

    def start(self, index: int) -> Locator:
        """Start cell `index`; return the place of its outputs without waiting for them."""
        self.page.evaluate(
            f"""index => {{
              {NOTEBOOK}.activeCellIndex = index;
              {NOTEBOOK}.widgets[index].model.sharedModel.execution_count = null;
              jupyterapp.commands.execute("notebook:run-cell");
            }}""",
            index,
        )
        return self.page.locator(".jp-Notebook .jp-Cell").nth(index).locator(".jp-OutputArea").first

    def wait(self, index: int) -> None:
        """Wait until cell `index` is done."""
        done = f"index => /^\\d+$/.test({NOTEBOOK}.widgets[index].model.sharedModel.execution_count ?? '')"
        self.page.wait_for_function(done, arg=index, timeout=PATIENCE)

    def until_idle(self) -> None:
        """Wait until the kernel runs no cell."""
        self.page.wait_for_function(f"() => {SESSION}?.session?.kernel?.status === 'idle'", timeout=PATIENCE)

    def ask(self, code: str) -> str:
        """Run `code` in the kernel, beside the notebook; return what it prints."""
        ask = f"""async code => {{
          const future = {SESSION}.session.kernel.requestExecute({{ code, store_history: false }});
          let text = "";
          future.onIOPub = (message) => {{ text += message.content.text ?? message.content.evalue ?? ""; }};
          await future.done;
          return text;
        }}"""
        return self.page.evaluate(ask, code).strip()

    def comes_to(self, code: str, answer: str, seconds: float = 20) -> None:
        """Wait until the kernel answers `code` with this: what the page says takes its time to get there."""
        end = time.monotonic() + seconds
        while (told := self.ask(code)) != answer:
            assert time.monotonic() < end, f"{code} gave {told}, not {answer}"
            self.page.wait_for_timeout(50)

    def command(self, name: str, arguments: dict[str, Any] | None = None) -> None:
        self.page.evaluate("([name, args]) => jupyterapp.commands.execute(name, args)", [name, arguments or {}])

    def cells(self) -> tuple[int, int]:
        """How many cells there are, and which one is selected."""
        return tuple(self.page.evaluate(f"[{NOTEBOOK}.widgets.length, {NOTEBOOK}.activeCellIndex]"))


SESSION = "window.jupyterapp?.shell?.currentWidget?.sessionContext"
NOTEBOOK = "jupyterapp.shell.currentWidget.content"
