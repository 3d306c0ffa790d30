"""What `end_to_end` returns: the SAE, and how KL, FVU and L0 went."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from sae_lab._errors import CorruptFile
from sae_lab._files import atomic_folder, load_bundle, save_bundle
from sae_lab._results import Result
from sae_lab.saes import SAE

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

COLUMNS = ("step", "tokens", "kl", "fvu", "l0", "lr", "seconds")
CURVES = (("kl", "KL(clean || spliced), nats"), ("fvu", "FVU"), ("l0", "L0"))
KIND = "EndToEnd"


@dataclass(frozen=True, repr=False, eq=False)
class EndToEnd(Result):
    """An SAE that was trained through the model.

    Attributes
    ----------
    sae
        The SAE as it is now, on the CPU.
    history
        (steps, 7) float64: step, tokens, kl, fvu, l0 (of the step's batch, before the step), lr, seconds.
    settings
        What was asked for.
    interrupted
        Whether Ctrl-C ended it.
    """

    sae: SAE
    history: np.ndarray
    settings: dict[str, Any]
    interrupted: bool = False

    @property
    def frame(self) -> pd.DataFrame:
        """One line a step; kl, fvu and l0 are those of its batch."""
        import pandas as pd

        return pd.DataFrame(self.history, columns=list(COLUMNS)).astype({"step": int, "tokens": int})

    def plot(self) -> go.Figure:
        """KL, FVU and L0 over the tokens seen."""
        import plotly.graph_objects as go
        from plotly.subplots import make_subplots

        frame = self.frame
        figure = make_subplots(rows=1, cols=len(CURVES), subplot_titles=[label for _, label in CURVES])
        for column, (name, label) in enumerate(CURVES, start=1):
            figure.add_trace(go.Scatter(x=frame["tokens"], y=frame[name], name=label, mode="lines"), row=1, col=column)
        figure.update_xaxes(title_text="tokens")
        figure.update_yaxes(rangemode="tozero", col=len(CURVES))  # L0 is held, and is to look so
        figure.update_layout(showlegend=False, height=320)
        return figure

    def save(self, path: Path | str) -> Path:
        """Write the result to the folder `path`; the SAE lies in its folder `sae`."""
        path = Path(path)
        with atomic_folder(path) as folder:
            meta = {"settings": self.settings, "interrupted": self.interrupted}
            save_bundle(folder, KIND, meta, self._arrays())
            self.sae.save(folder / "sae")
        return path

    @classmethod
    def load(cls, path: Path | str) -> Self:
        """Read what `save` wrote."""
        meta, arrays = load_bundle(path, KIND)
        try:
            return cls(SAE.load(Path(path) / "sae"), arrays["history"], meta["settings"], meta["interrupted"])
        except KeyError as error:
            raise CorruptFile(f"{path} does not hold a whole end-to-end run ({error}): make it anew") from error

    def _summary(self) -> str:
        steps = f"{len(self.history)} steps"
        if not len(self.history):
            return f"{self.sae.name}, {steps}"
        return f"{self.sae.name}, {steps}, KL {self.history[0, 2]:.3f} -> {self.history[-1, 2]:.3f}"
