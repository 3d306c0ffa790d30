"""A training run without any training, for the tests of what watches one."""

from __future__ import annotations

import math
import threading

import pandas as pd


class TrainingRun:
    """Has what a Monitor asks of a run; `add` and `end` move it on."""

    def __init__(self, steps=100, title="BatchTopK(d_sae=64, k=4) on layers.9", background=True):
        self.steps, self.title, self.background = steps, title, background
        self.status, self.error = "running", None
        self.lines: list[dict[str, float]] = []
        self.listeners = []
        self.stop_asked = threading.Event()

    @property
    def history(self) -> pd.DataFrame:
        return pd.DataFrame(list(self.lines), columns=["step", "loss", "fvu", "l0", "dead"])

    def add(self, count, **values):
        for _ in range(count):
            step = len(self.lines) + 1
            fvu = 0.2 + 0.8 * math.exp(-step / 20)
            self.lines.append({"step": step, "loss": 3 * fvu, "fvu": fvu, "l0": 4.0, "dead": 0.25, **values})
            self.tell()

    def end(self, status="finished", error=None):
        self.status, self.error = status, error
        self.tell()

    def snapshot(self):
        last = self.lines[-1] if self.lines else dict.fromkeys(("loss", "fvu", "l0", "dead"))
        step = len(self.lines)
        speed = {"rows_per_second": 1234.5, "seconds": step / 10, "seconds_left": (self.steps - step) / 10}
        about = {"status": self.status, "title": self.title, "error": self.error}
        return {**last, "step": step, "steps": self.steps, "tokens": 64 * step, **speed, **about}

    def add_listener(self, listener):
        self.listeners.append(listener)
        return lambda: self.listeners.remove(listener)

    def tell(self):
        for listener in list(self.listeners):
            listener(self.snapshot())

    def stop(self):
        self.stop_asked.set()


class Sweep:
    """Has what a SweepMonitor asks of a sweep: one of these runs for each config."""

    def __init__(self, configs, steps=100, background=True):
        self.configs, self.background = list(configs), background
        self.runs = [TrainingRun(steps, background=background) for _ in self.configs]
        self.listeners = []

    @property
    def status(self):
        states = [run.status for run in self.runs]
        return next(state for state in ("running", "failed", "stopped", "finished") if state in states)

    def add(self, count, run=None, **values):
        """Steps for all runs, or for one; each run is better than the one before it."""
        for _ in range(count):
            for number, each in enumerate(self.runs):
                if run in (None, number) and each.status == "running":
                    step = len(each.lines) + 1
                    fvu = (0.2 + 0.8 * math.exp(-step / 20)) / (1 + number)
                    each.add(1, **{"fvu": fvu, "loss": 3 * fvu, "l0": 4.0 * 2**number, **values})
            self.tell()

    def end(self, status="finished", error=None, run=None):
        for number, each in enumerate(self.runs):
            if run in (None, number) and each.status == "running":
                each.end(status, error)
        self.tell()

    def snapshot(self):
        runs = [run.snapshot() for run in self.runs]
        return {**max(runs, key=lambda seen: seen["step"]), "status": self.status, "title": "a sweep", "runs": runs}

    def add_listener(self, listener):
        self.listeners.append(listener)
        return lambda: self.listeners.remove(listener)

    def tell(self):
        for listener in list(self.listeners):
            listener(self.snapshot())

    def stop(self):
        for run in self.runs:
            run.stop()
