"""`Comparison`: the noun that `compare` returns."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from sae_lab._errors import CorruptFile
from sae_lab._files import load_bundle, save_bundle
from sae_lab._results import Result
from sae_lab.evaluation._comparison import _words

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

    from sae_lab.saes import SAE

TABLES = ("arm_table", "difference_table", "run_table", "confound_table")


@dataclass(frozen=True, repr=False, eq=False)
class Comparison(Result):
    """Arms measured on the same held-out rows, with intervals, and all that speaks against believing them."""

    arms: list[str]
    """Names of the arms, in the order given."""
    baseline: str
    """The arm that the others are compared with."""
    factor: list[str]
    """What the comparison is about: the fields in which the arms were meant to differ."""
    match: str | None
    """"l0" when the arms were to be read at one L0; None when not."""
    l0: float
    """That L0; NaN when nothing was matched."""
    interpolated: bool
    """Whether any arm has several points, between which it is read."""
    trouble: str
    """Why L0 could not be matched, and what would help; "" when it was, or was not asked for."""
    n_rows: int
    """Held-out rows."""
    n_documents: int
    """Documents of these rows, over which intervals are drawn; 0 when rows know no documents and are drawn singly."""
    n_predictions: int
    """Predictions over which cross-entropy was measured; 0 without a model."""
    draws: int
    """Draws of the bootstrap."""
    seed: int
    """Decided the draws, the split and the sequences."""
    interrupted: bool
    """Whether Ctrl-C ended the work early."""
    sparsity_is_factor: bool
    """Whether the arms were meant to differ in what sets their sparsity, so that matching made no sense."""
    arm_table: dict[str, list[Any]]
    """The columns of `frame`."""
    difference_table: dict[str, list[Any]]
    """The columns of `differences`."""
    run_table: dict[str, list[Any]]
    """The columns of `runs`."""
    confound_table: dict[str, list[Any]]
    """The columns of `confounds`."""
    saes: tuple[SAE, ...] = ()
    """The SAEs in the order of `runs`; not saved with the rest, each has a `save` of its own."""

    @property
    def frame(self) -> pd.DataFrame:
        """One row an arm and metric: arm, at, metric, mean over seeds, low, high (95 %), seeds, n.

        `at` says where the arm was read: at a shared L0, or at a point of its own ("k=16", "" if it has but one).
        `n` is the number of rows, or of predictions, that the metric is over. Definitions are those of
        `evaluate`; "under_used_0.1_share" and "under_used_0.5_share" are the shares of latents, silent ones included,
        with a density below 0.1 and 0.5 of the mean, L0 / d_sae: unlike the alive share they do not saturate as rows
        grow.
        """
        return _table(self.arm_table)

    @property
    def differences(self) -> pd.DataFrame:
        """One row an arm and metric: the arm minus the baseline, low, high, seeds, paired, excludes_zero."""
        return _table(self.difference_table)

    @property
    def runs(self) -> pd.DataFrame:
        """One row an SAE: arm, point, seed, d_sae, what sets its sparsity, and every metric over all rows."""
        return _table(self.run_table)

    @property
    def confounds(self) -> pd.DataFrame:
        """One row a field in which the arms differ, or may: field, a column for each arm, declared, status.

        Status: "declared"; "architecture" (it comes with the declared architecture); "matched" (it sets the L0, which
        is matched); "undeclared" (a confound); "unknown" (some arm's training is not recorded).
        """
        return _table(self.confound_table)

    @property
    def caveats(self) -> list[str]:
        """What a reader has to know before believing the numbers; empty when there is nothing."""
        return _words.caveats(self)

    @property
    def sentence(self) -> str:
        """The comparison of FVU in one sentence, with all caveats."""
        return _words.sentence(self, "fvu")

    def say(self, metric: str = "fvu") -> str:
        """The comparison of one metric in one sentence, with all caveats."""
        return _words.sentence(self, metric)

    def plot(self, metric: str = "fvu") -> go.Figure:
        """A metric against L0: each SAE, each arm's frontier, and the intervals."""
        from sae_lab.evaluation._comparison._figure import figure

        return figure(self, metric)

    def save(self, path: Path | str) -> Path:
        """Write the folder `path`, atomically; return the path."""
        meta = {field.name: getattr(self, field.name) for field in dataclasses.fields(self) if field.name != "saes"}
        arrays: dict[str, np.ndarray] = {}
        for name in TABLES:
            floats = {n: c for n, c in meta[name].items() if c and all(isinstance(value, float) for value in c)}
            arrays |= {f"{name}.{n}": np.array(column) for n, column in floats.items()}
            meta[name] = {n: None if n in floats else column for n, column in meta[name].items()}
        return save_bundle(path, "Comparison", {"comparison": _without_nan(meta)}, arrays)

    @classmethod
    def load(cls, path: Path | str) -> Self:
        """Read what `save` wrote; `saes` is empty then.

        Raises
        ------
        BadInput, CorruptFile
            There is no saved comparison, or its files are damaged.
        """
        meta, arrays = load_bundle(path, "Comparison")
        try:
            values = dict(meta["comparison"])
            for name in TABLES:
                columns = values[name].items()
                values[name] = {n: arrays[f"{name}.{n}"].tolist() if c is None else c for n, c in columns}
            values["l0"] = math.nan if values["l0"] is None else values["l0"]
            return cls(**values)
        except (KeyError, TypeError, AttributeError) as error:
            message = f"{path} does not hold a whole comparison ({error}): make it anew with compare()"
            raise CorruptFile(message) from error

    def _summary(self) -> str:
        place = f"L0 {self.l0:.3g}" if not math.isnan(self.l0) else "L0 not matched"
        cut = ", interrupted" if self.interrupted else ""
        told = " and ".join(self.factor) or "nothing known"
        return f"{' / '.join(self.arms)} by {told}, {place}, {len(self.runs)} SAEs, {self.n_rows:,} rows{cut}"


def _table(columns: dict[str, list[Any]]) -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame(columns)


def _without_nan(value: Any) -> Any:
    """The value with None for NaN, which JSON does not know."""
    if isinstance(value, dict):
        return {name: _without_nan(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
