"""Execute a notebook, showing how far it is, and write it as one web page that needs no kernel and no network.

    python tools/demo.py notebooks/01-quickstart.ipynb --into build

`make demo` runs this. It leaves two files: the executed notebook (with the state of its widgets) and the page.
Each code cell is a line on the terminal: its number, the heading it stands under, the seconds it took.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import threading
import time
from pathlib import Path

import nbformat
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

CELL_TIMEOUT = 1800  # seconds; no cell of a demo works this long, so one that does hangs


def heading_of(cells: list, index: int) -> str:
    """Return the heading that the code cell at `index` stands under, or its first line of code."""
    for cell in reversed(cells[:index]):
        if cell.cell_type == "markdown":
            headings = [line.lstrip("# ").strip() for line in cell.source.splitlines() if line.startswith("#")]
            if headings:
                return headings[-1]
    lines = [line for line in cells[index].source.splitlines() if line.strip()]
    return lines[0] if lines else ""


class Ticker:
    """Say which cell runs and for how long; live on a terminal, one line a cell elsewhere."""

    def __init__(self, cells: list, stream=sys.stdout):
        self.stream = stream
        self.live = stream.isatty()
        self.titles = {i: heading_of(cells, i) for i, cell in enumerate(cells) if cell.cell_type == "code"}
        self.order = {index: number for number, index in enumerate(self.titles, start=1)}
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._started = 0.0

    def start(self, cell, cell_index: int) -> None:
        """Begin the line of a cell (called by nbclient, which also hands in the other cells)."""
        if cell.cell_type != "code":
            return
        self._started = time.monotonic()
        self._stop.clear()
        if self.live:
            self._thread = threading.Thread(target=self._tick, args=(cell_index,), daemon=True)
            self._thread.start()

    def end(self, cell, cell_index: int) -> None:
        """End the line of a cell."""
        if cell.cell_type == "code":
            self._halt()
            self._write(cell_index, end="\n")

    def fail(self) -> None:
        """Leave the line of the cell that failed as it is and go to a new one."""
        self._halt()
        if self.live:
            self.stream.write("\n")

    def _tick(self, index: int) -> None:
        while not self._stop.wait(0.5):
            self._write(index, end="")

    def _halt(self) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _write(self, index: int, end: str) -> None:
        seconds = time.monotonic() - self._started
        start = "\r" if self.live else ""
        self.stream.write(
            f"{start}  [{self.order[index]:>2}/{len(self.order)}] {self.titles[index][:60]:<60} {seconds:6.1f} s{end}"
        )
        self.stream.flush()


def execute(notebook, folder: Path, ticker: Ticker) -> None:
    """Run every cell of `notebook` in place, in a kernel of this very Python, started in `folder`."""
    # No folders to look in: the specification of the ipykernel beside us is used, never one that lies about.
    specs = KernelSpecManager(kernel_dirs=[])
    with tempfile.TemporaryDirectory(prefix="sae_lab-") as sockets:
        # Sockets in the file system where there are such: no port is opened for others on this machine to find.
        transport = "ipc" if os.name == "posix" else "tcp"
        manager = AsyncKernelManager(
            transport=transport, connection_file=f"{sockets}/kernel.json", kernel_spec_manager=specs
        )
        client = NotebookClient(
            notebook,
            km=manager,
            timeout=CELL_TIMEOUT,
            resources={"metadata": {"path": str(folder)}},
            on_cell_start=ticker.start,
            on_cell_executed=lambda cell, cell_index, execute_reply: ticker.end(cell, cell_index),
        )
        client.execute()


def fetch_demo_model() -> None:
    """Put the demo model into the cache before the notebook starts, where its progress can be seen."""
    from sae_lab.models._demo import demo_folder

    demo_folder()


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return its exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("notebook", type=Path)
    parser.add_argument("--into", type=Path, default=Path("build"), help="folder for the page (default: build)")
    parser.add_argument("--no-model", action="store_true", help="do not fetch the demo model first")
    options = parser.parse_args(arguments)
    if not options.notebook.is_file():
        parser.error(f"there is no notebook at {options.notebook}")

    from sae_lab.widgets._pages import notebook_page  # found missing now rather than after minutes of work

    started = time.monotonic()
    if not options.no_model:
        print("The demo model (fetched and converted the first time, then kept)", flush=True)
        fetch_demo_model()

    notebook = nbformat.read(options.notebook, as_version=4)
    name = options.notebook.stem.lstrip("0123456789-")  # 01-quickstart -> quickstart
    options.into.mkdir(parents=True, exist_ok=True)
    executed, page = options.into / f"{name}.ipynb", options.into / f"{name}.html"

    print(f"Running {options.notebook}", flush=True)
    ticker = Ticker(notebook.cells)
    problem = None
    try:
        execute(notebook, options.notebook.parent.resolve(), ticker)
    except CellExecutionError as error:
        problem = f"a cell failed:\n\n{error}"
    except CellTimeoutError:
        problem = f"a cell was still running after {CELL_TIMEOUT} seconds"
    except DeadKernelError:
        problem = "the kernel died, most likely for want of memory (about 4 GB are needed)"
    except KeyboardInterrupt:
        problem = "interrupted"
    nbformat.write(notebook, executed)
    if problem is not None:
        ticker.fail()
        print(f"\nThe notebook did not run to its end: {problem}\nAs far as it came: {executed}", file=sys.stderr)
        return 130 if problem == "interrupted" else 1

    notebook_page(executed, page)
    print(
        f"\nDone in {time.monotonic() - started:.0f} s."
        f"\n  The page:     {page}  ({page.stat().st_size / 1e6:.1f} MB; open it in any browser, no network needed)"
        f"\n                {page.resolve().as_uri()}"
        f"\n  The notebook: make lab  opens it in JupyterLab, where everything can be changed and run again"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
