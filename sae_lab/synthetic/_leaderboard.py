"""`Leaderboard`: what a benchmark found, arm by arm, with intervals over seeds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sae_lab._errors import CorruptFile
from sae_lab._files import load_bundle, save_bundle
from sae_lab._results import Result
from sae_lab.synthetic._pace import median_interval
from sae_lab.synthetic._scores import METRICS

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

TRUE, PURSUIT, RANDOM = "(true directions)", "(true directions, pursuit)", "(random directions)"
REFERENCES = (TRUE, PURSUIT, RANDOM)  # not trained
SHOWN = {
    "l0": ("L0", 1),
    "fvu": ("FVU", 3),
    "alive_share": ("alive", 3),
    "mcc": ("MCC", 3),
    "mmcs_features": ("MMCS", 3),
    "f1": ("F1", 3),
    "uniqueness": ("uniqueness", 3),
    "absorption": ("absorption", 3),
    "absorption_control": ("its control", 3),
}
PACE = "step_time"


@dataclass(frozen=True, repr=False, eq=False)
class Leaderboard(Result):
    """What `benchmark` returns.

    Attributes
    ----------
    arms, metrics, seeds
        Names along the axes of `values`.
    values
        (arms, seeds, metrics) float64; NaN where a run is missing.
    ratios
        (arms, rounds) float64: step time relative to TopK's in each round; NaN for what was not trained.
    truth, plan
        What was trained on, and how: d_sae, k, steps, batch_size, rows, evaluation_rows, lr, seeds, rounds.
    options, tuned
        Options of each arm; of a searched option its value, the L0 of the run that chose it, and all that was tried.
    left_out
        Architectures that took no part or failed, with the reason.
    seconds, interrupted
        How long it took, and whether Ctrl-C ended it.
    """

    arms: list[str]
    metrics: list[str]
    seeds: list[int]
    values: np.ndarray
    ratios: np.ndarray
    truth: str
    plan: dict[str, Any]
    options: dict[str, dict[str, Any]]
    tuned: dict[str, dict[str, Any]]
    left_out: dict[str, str]
    seconds: float
    interrupted: bool

    @classmethod
    def of(cls, lines: Sequence[Mapping[str, Any]], ratios: Mapping[str, np.ndarray], **facts: Any) -> Leaderboard:
        """From one line for each scored run."""
        arms = sorted({line["arm"] for line in lines}, key=[line["arm"] for line in lines].index)
        seeds, metrics = list(facts["plan"]["seeds"]), list(METRICS)
        values = np.full((len(arms), len(seeds), len(metrics)), np.nan)
        for line in lines:
            values[arms.index(line["arm"]), seeds.index(line["seed"])] = [line[name] for name in metrics]
        nothing = np.full(facts["plan"]["rounds"], np.nan)
        table = np.array([ratios.get(arm, nothing) for arm in arms]).reshape(len(arms), len(nothing))
        order = np.argsort([_place(arm, values[i, :, metrics.index("mcc")]) for i, arm in enumerate(arms)])
        return cls([arms[i] for i in order], metrics, seeds, values[order], table[order], **facts)

    @property
    def frame(self) -> pd.DataFrame:
        """One row an arm and metric: arm, metric, mean, low, high (95 % t-interval over seeds), seeds.

        The metric "step_time" is the median over rounds of the ratio to TopK's, with its 95 % interval.
        """
        import pandas as pd

        lines = []
        for i, arm in enumerate(self.arms):
            for j, metric in enumerate(self.metrics):
                known = self.values[i, :, j][~np.isnan(self.values[i, :, j])]
                mean, low, high = mean_interval(known)
                lines.append(
                    {"arm": arm, "metric": metric, "mean": mean, "low": low, "high": high, "seeds": len(known)}
                )
            middle, low, high = median_interval(self.ratios[i][~np.isnan(self.ratios[i])])
            lines.append({"arm": arm, "metric": PACE, "mean": middle, "low": low, "high": high, "seeds": 0})
        table = pd.DataFrame(lines, columns=["arm", "metric", "mean", "low", "high", "seeds"])
        table.attrs.update({"truth": self.truth, "interrupted": self.interrupted, **self.plan})
        return table

    @property
    def runs(self) -> pd.DataFrame:
        """One row a run: arm, seed and all metrics."""
        import pandas as pd

        lines = [
            {"arm": arm, "seed": seed, **dict(zip(self.metrics, self.values[i, j].tolist(), strict=True))}
            for i, arm in enumerate(self.arms)
            for j, seed in enumerate(self.seeds)
            if not np.isnan(self.values[i, j]).all()
        ]
        return pd.DataFrame(lines, columns=["arm", "seed", *self.metrics])

    def markdown(self) -> str:
        """The table for reading: mean ± half of the 95 % interval; arms by falling MCC, what was not trained last."""
        head = ["arm", *(title for title, _ in SHOWN.values()), "step time"]
        lines = ["| " + " | ".join(head) + " |", "| --- |" + " ---: |" * (len(head) - 1)]
        table = self.frame.set_index(["arm", "metric"])
        for arm in self.arms:
            cells = []
            for name, (_, digits) in SHOWN.items():
                mean, high = table.loc[(arm, name), ["mean", "high"]]
                cells.append(_cell(mean, high, digits))
            pace = table.loc[(arm, PACE), "mean"]
            lines.append("| " + " | ".join([arm, *cells, "-" if math.isnan(pace) else f"{pace:.2f}"]) + " |")
        return "\n".join(lines)

    def __str__(self) -> str:
        return self.markdown()

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, str]:
        return {"text/plain": repr(self), "text/markdown": self.markdown()}

    def plot(self) -> go.Figure:
        """Means with their intervals, a panel for each metric of the table."""
        import plotly.graph_objects as go
        from plotly.subplots import make_subplots

        shown = {**{name: title for name, (title, _) in SHOWN.items()}, PACE: "step time / TopK"}
        columns = 3
        figure = make_subplots(-(-len(shown) // columns), columns, shared_yaxes=True, horizontal_spacing=0.03)
        table = self.frame
        for number, (name, title) in enumerate(shown.items()):
            row, column = number // columns + 1, number % columns + 1
            part = table[table["metric"] == name]
            error = {"type": "data", "array": part["high"] - part["mean"], "arrayminus": part["mean"] - part["low"]}
            trace = go.Scatter(x=part["mean"], y=part["arm"], error_x=error, mode="markers", showlegend=False)
            trace.update(marker={"size": 8, "color": "#0072b2"}, hovertemplate="%{y}: %{x:.3f}<extra></extra>")
            figure.add_trace(trace, row, column)
            figure.update_xaxes(title=title, row=row, col=column)
        figure.update_yaxes(autorange="reversed")
        height = 90 + (70 + 22 * len(self.arms)) * -(-len(shown) // columns)
        return figure.update_layout(title=f"Benchmark on {self.truth}", height=height, template="plotly_white")

    def save(self, path: Path | str) -> Path:
        """Write the leaderboard to the folder `path`; return the path."""
        names = ("arms", "metrics", "seeds", "truth", "plan", "options", "tuned", "left_out", "seconds", "interrupted")
        meta = {name: getattr(self, name) for name in names}
        return save_bundle(path, "Leaderboard", meta, self._arrays())

    @classmethod
    def load(cls, path: Path | str) -> Leaderboard:
        """Read what `save` wrote."""
        meta, arrays = load_bundle(path, "Leaderboard")
        try:
            facts: dict[str, Any] = {name: meta[name] for name in cls.__dataclass_fields__ if name not in arrays}
            return cls(**(facts | arrays))
        except (KeyError, TypeError) as error:
            raise CorruptFile(f"{path} does not hold a whole leaderboard ({error}): run benchmark() anew") from error

    def _summary(self) -> str:
        trained = [arm for arm in self.arms if arm not in REFERENCES]
        ended = ", interrupted" if self.interrupted else ""
        best = f", highest MCC {trained[0]}" if trained else ""
        return f"{len(trained)} arms, {len(self.seeds)} seeds{best}{ended}"


def mean_interval(values: np.ndarray) -> tuple[float, float, float]:
    """Mean and the ends of its 95 % t-interval; NaN ends for fewer than two values."""
    from scipy import stats

    if len(values) < 2:
        return float(values[0]) if len(values) else math.nan, math.nan, math.nan
    mean = float(values.mean())
    half = float(stats.t.ppf(0.975, len(values) - 1)) * float(values.std(ddof=1)) / len(values) ** 0.5
    return mean, mean - half, mean + half


def _place(arm: str, mcc: np.ndarray) -> float:
    """Where an arm stands: by falling MCC, the references last."""
    known = mcc[~np.isnan(mcc)]
    rank = -float(known.mean()) if len(known) else 1.0
    return rank + (10.0 * (REFERENCES.index(arm) + 1) if arm in REFERENCES else 0.0)


def _cell(mean: float, high: float, digits: int) -> str:
    if math.isnan(mean):
        return "-"
    return f"{mean:.{digits}f}" + ("" if math.isnan(high) else f" ± {high - mean:.{digits}f}")
