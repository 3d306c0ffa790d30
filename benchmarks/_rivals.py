"""The libraries that we are measured against, each in an environment of its own, and worker processes in them.

    python benchmarks/_rivals.py [--environments DIR] [--pip "--index-url https://download.pytorch.org/whl/cpu"]

makes the environments without measuring anything; the benchmarks make them too, when they are first run. Every
environment gets the version of torch that this interpreter has, so that only the libraries differ. They are kept in
the user's cache folder, by version of torch.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import platformdirs

HERE = Path(__file__).parent
OURS = "sae-lab"
RIVALS = {"sae-lens": "6.54.12", "eai-sparsify": "1.3.3", "dictionary-learning": "0.1.0"}
# nnsight asks for it, nobody imports it, and its build would have to fit torch's
UNUSED = {"dictionary-learning": ["torchvision"]}
QUIET = {"TQDM_DISABLE": "1", "WANDB_MODE": "disabled", "PYTHONWARNINGS": "ignore", "SPARSIFY_DISABLE_TRITON": "1"}


def add_options(parser: argparse.ArgumentParser) -> None:
    """What every benchmark with rivals takes."""
    parser.add_argument(
        "--environments", type=Path, help="folder of the rivals' environments; else in the user's cache"
    )
    parser.add_argument(
        "--pip", default="", metavar="OPTIONS", help="options for pip, such as an index of torch's builds"
    )


def add_choice(parser: argparse.ArgumentParser) -> None:
    """Which of them take part; see `taking_part`."""
    parser.add_argument(
        "--only", nargs="*", choices=RIVALS, metavar="LIBRARY", help="rivals that take part; else all of them"
    )


def taking_part(only: Sequence[str] | None) -> list[str]:
    """Ours, and what `--only` names."""
    return [OURS, *(RIVALS if only is None else only)]


@dataclass(frozen=True)
class Environments:
    """Interpreters by distribution."""

    folder: Path
    pip: tuple[str, ...] = ()

    @classmethod
    def of(cls, options: argparse.Namespace) -> Environments:
        """As the command line asks."""
        torch = importlib.metadata.version("torch")
        default = Path(platformdirs.user_cache_dir("sae_lab")) / "benchmarks" / f"torch-{torch}"
        return cls((options.environments or default).absolute(), tuple(shlex.split(options.pip)))

    def python(self, distribution: str) -> str:
        """An interpreter that has this library, at the version named above; made if it is not there."""
        if distribution == OURS:
            return sys.executable
        wanted = {distribution: RIVALS[distribution], "torch": importlib.metadata.version("torch")}
        folder = self.folder / distribution
        python = str(folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python"))
        if installed(python, *wanted) is None:
            print(f"Installing {distribution} {RIVALS[distribution]} into {folder}", file=sys.stderr, flush=True)
            subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
            packages = [f"{name}=={version}" for name, version in wanted.items()]
            subprocess.run([python, "-m", "pip", "install", "--quiet", *self.pip, *packages], check=True)
            for name in UNUSED.get(distribution, []):
                subprocess.run([python, "-m", "pip", "uninstall", "--quiet", "--yes", name], check=True)
        if (found := installed(python, *wanted)) != wanted:
            raise SystemExit(f"{folder} holds {found}, not {wanted}: delete it, or name another with --environments")
        return python


def installed(python: str, *names: str) -> dict[str, str] | None:
    """Versions of these distributions, where the interpreter and all of them are there."""
    if not Path(python).exists():
        return None
    ask = (
        "import importlib.metadata as m, json, sys; print(json.dumps({name: m.version(name) for name in sys.argv[1:]}))"
    )
    answer = subprocess.run([python, "-c", ask, *names], text=True, capture_output=True)
    return None if answer.returncode else dict(json.loads(answer.stdout))


class Worker:
    """A process that takes turns: so many steps when it is told to, and then it waits.

    Parameters
    ----------
    python
        Its interpreter.
    script, name, task
        The file beside this one that it runs, which of the contestants there it is, and what that one is given.
    environment
        Variables of its own.
    """

    def __init__(self, python: str, script: str, name: str, task: dict[str, Any], environment: dict[str, str]):
        self.name = name
        self._said = tempfile.TemporaryFile("w+")  # noqa: SIM115  # closed with the worker
        self._process = subprocess.Popen(
            [python, str(HERE / script), name, json.dumps(task)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            text=True,
            env={**os.environ, **QUIET, **environment},
        )

    def ready(self) -> dict[str, Any]:
        """Wait until it asks for its first batch; its facts. To be called once, before the first turn."""
        return self._answer()

    def turn(self, steps: int) -> dict[str, float]:
        """Seconds of so many steps, and what else the worker tells; see `_turns`."""
        assert self._process.stdin is not None
        time.sleep(0.02)  # threads of the one before spin for a moment before they sleep
        self._process.stdin.write(f"{steps}\n")
        self._process.stdin.flush()
        return self._answer()

    def close(self) -> None:
        """End the process: its trainer would go on for ever."""
        self._process.kill()
        self._process.communicate()
        self._said.close()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._process.wait()
            self._said.seek(0)
            said = self._said.read()[-3000:].strip()
            raise RuntimeError(
                f"the worker {self.name!r} has ended with {self._process.returncode}"
                f"{' (too little memory?)' if self._process.returncode == -9 else ''}:\n{said}"
            )
        return dict(json.loads(line))


def main() -> None:
    """Make all environments."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser)
    environments = Environments.of(parser.parse_args())
    for distribution in RIVALS:
        print(distribution, environments.python(distribution))


if __name__ == "__main__":
    main()
