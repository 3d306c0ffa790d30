"""Training in a process of its own that is killed at a chosen moment, for the tests of what survives that.

`go_on` does what a user does: train, or resume where there is a checkpoint. A moment is

    ("file", n)         the n-th operation on files in the checkpoint's folder: opened, made, renamed, removed ...
    ("bytes", n)        the n-th file of data (arrays, JSON) is written by half
    ("step", s, n)      the n-th call of a function within step s

and there this process sends itself SIGKILL, whatever its threads are about. Two faults let it live:

    ("room", n)         before the n-th file of data the system begins to refuse files of more than 1000 bytes
    ("memory", s)       before step s the system begins to refuse any further memory

Loading torch takes longer than all of that. So this file is also a script that has everything loaded, and forks a
process for each line that it reads; `Processes` speaks with it.
"""

from __future__ import annotations

import json
import mmap
import os
import resource
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import torch
from _harvest_process import FakeModel, make_texts
from _training_process import config, training_rows

OPTIONS = {"steps": 12, "batch_size": 64, "seed": 3, "progress": False, "device": "cpu"}
STREAM = {"context_length": 40, "batch_tokens": 200, "progress": False}
HARVEST = {"site": "a", **STREAM}
KINDS = ("run", "sweep", "stream", "large", "harvest")


def rows(kind: str) -> Any:
    """What a run of that kind is trained on."""
    import sae_lab as sl

    if kind == "large":
        return torch.randn(3000, 64, generator=torch.Generator().manual_seed(0))
    if kind != "stream":
        return training_rows()
    return sl.stream(FakeModel(), make_texts(), site="a", buffer_rows=256, **STREAM)


def configs(kind: str) -> Any:
    """What it trains."""
    if kind == "large":
        import sae_lab as sl

        return sl.TopK(d_sae=512, k=8)
    return [config("TopK"), config("ReLU"), config("BatchTopK")] if kind == "sweep" else config("BatchTopK")


def train(kind: str, **options: Any) -> Any:
    """A run of that kind."""
    import sae_lab as sl

    size = {"batch_size": 1500} if kind == "large" else {}  # a step takes more memory than lies about
    return sl.train(configs(kind), rows(kind), **OPTIONS | size, **options)


def go_on(kind: str, place: Path, moment: tuple[Any, ...] | None, counts: Any) -> None:
    """Train or resume; with a moment, until then. How many there were, files, bytes, calls, is left in `counts`."""
    import sae_lab as sl
    from sae_lab._errors import BadInput

    if kind == "harvest":
        from sae_lab.activations import _writer

        _writer.SHARD_ROWS = 2000
    os.fsync = lambda handle: None
    watch = _Watch(place, moment, counts)
    sys.addaudithook(watch.file)
    watch.writes()
    watch.steps()
    if kind == "harvest":
        sl.harvest(FakeModel(), make_texts(), path=place, **HARVEST)
        return
    try:
        sl.resume(place, rows(kind), checkpoint_every=4, progress=False, device="cpu")
    except BadInput as error:
        if "no checkpoint" not in str(error):
            raise
        train(kind, checkpoint=place, checkpoint_every=4)


class _Watch:
    """Counts moments, and kills at one."""

    def __init__(self, place: Path, moment: tuple[Any, ...] | None, counts: Any):
        self.place, self.moment, self.counts = str(place), moment, counts
        self.seen = {"file": 0, "bytes": 0}

    def happens(self, sort: str) -> bool:
        """Take note of a moment; whether it is the last."""
        self.seen[sort] += 1
        self.counts[sort == "bytes"] = self.seen[sort]
        return self.moment == (sort, self.seen[sort])

    def file(self, event: str, arguments: Any) -> None:
        """Python tells of each operation before it is done."""
        if not event.startswith(("open", "os.", "shutil.", "tempfile.")):
            return
        ours = any(isinstance(part, str | Path) and str(part).startswith(self.place) for part in arguments)
        if ours and self.happens("file"):
            kill()

    def writes(self) -> None:
        """Let both ways of writing data stop in the middle."""
        import safetensors.numpy

        save, text = safetensors.numpy.save_file, Path.write_text

        def save_file(arrays: Any, path: Path, **options: Any) -> None:
            last = self._begins()
            save(arrays, path, **options)
            self._halve(path, last)

        def write_text(path: Path, value: str, **options: Any) -> int:
            last = self._begins()
            written = text(path, value, **options)
            self._halve(path, last)
            return written

        safetensors.numpy.save_file = save_file
        Path.write_text = write_text

    def _begins(self) -> bool:
        """A file of data is about to be written; whether it is to be left half-written."""
        last = self.happens("bytes")
        if self.moment == ("room", self.seen["bytes"]):
            resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        return last

    def _halve(self, path: Path, last: bool) -> None:
        if last:
            os.truncate(path, path.stat().st_size // 2)
            kill()

    def steps(self) -> None:
        """Count calls within the step that is meant."""
        if self.moment is None or self.moment[0] not in ("step", "memory"):
            return
        from sae_lab.training._state import TrainingState

        advance, (sort, number, *left) = TrainingState.advance, self.moment

        def watched(state: TrainingState, x: torch.Tensor) -> Any:
            if state.step != number:
                return advance(state, x)
            if sort == "memory":
                used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
                resource.setrlimit(resource.RLIMIT_AS, (used, used))
                return advance(state, x)
            calls = [0]

            def called(frame: Any, event: str, argument: Any) -> None:
                if event in ("call", "c_call"):
                    calls[0] += 1
                    if calls[0] == left[0]:
                        kill()

            sys.setprofile(called)
            try:
                return advance(state, x)
            finally:
                sys.setprofile(None)
                self.counts[2] = calls[0]

        TrainingState.advance = watched


def kill() -> None:
    """The end of this process."""
    os.kill(os.getpid(), signal.SIGKILL)
    threading.Event().wait()  # until it comes


class Processes:
    """Processes that have torch loaded before they begin."""

    def __init__(self) -> None:
        # memory that is given back goes to the system at once, so that a limit on it is felt at the next step
        eager = {"MALLOC_ARENA_MAX": "1", "MALLOC_TRIM_THRESHOLD_": "0", "MALLOC_MMAP_THRESHOLD_": "65536"}
        command = [sys.executable, "-W", "ignore", __file__]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "bufsize": 1}
        self._server = subprocess.Popen(command, env=os.environ | {"OMP_NUM_THREADS": "1"} | eager, **pipes)

    def go_on(self, kind: str, place: Path, moment: tuple[Any, ...] | None = None) -> tuple[int, str, list[int]]:
        """`go_on` in a new process: its exit code (negative for a signal), what it raised, and the counts."""
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.write(json.dumps([kind, str(place), moment]) + "\n")
        code, *counts = json.loads(self._server.stdout.readline())
        said = Path(f"{place}.error")
        return code, said.read_text() if code == 1 else "", counts

    def close(self) -> None:
        """End the script."""
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.close()
        self._server.wait()
        self._server.stdout.close()


def _serve() -> None:
    torch.set_num_threads(1)
    for kind in ("sweep", "stream", "large"):
        train(kind)  # loads what training loads
    counts = memoryview(mmap.mmap(-1, 24)).cast("q")
    for line in sys.stdin:
        kind, place, moment = json.loads(line)
        counts[:] = memoryview(bytes(24)).cast("q")
        child = os.fork()
        if child == 0:
            _child(kind, Path(place), None if moment is None else tuple(moment), counts)
        _, status = os.waitpid(child, 0)
        print(json.dumps([os.waitstatus_to_exitcode(status), *counts]), flush=True)


def _child(kind: str, place: Path, moment: tuple[Any, ...] | None, counts: Any) -> None:
    with Path(f"{place}.error").open("w") as said:
        try:
            go_on(kind, place, moment, counts)
        except BaseException as error:
            notes = getattr(error, "__notes__", [])
            said.write("\n".join([f"{type(error).__name__}: {error}", *notes]))
            said.flush()
            os._exit(1)
    os._exit(0)


if __name__ == "__main__":
    _serve()
