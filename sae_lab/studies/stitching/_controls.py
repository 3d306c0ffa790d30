"""What chance and a mere change of seed would give: the controls of a stitching.

A replication of the paper adds three controls: the same width with another seed, a shuffled decoder and a random
decoder [2]. How they are made here is ours [D]:

- same width, other seed: a stitching of one of the two SAEs with its twin, at this stitching's threshold. Its share
  of novel latents is what differs between two trainings that saw the same; only more than that says that the larger
  SAE has something the smaller one lacks.
- shuffled decoder: each coordinate's values are shuffled among the larger SAE's decoder rows, which keeps every
  coordinate's distribution (large coordinates stay large) and nothing else.
- random decoder: directions drawn evenly from the sphere.

For the last two the gains are those of the true latents and only the cosines are made anew, so their AUC asks
whether the cosine rule would succeed where cosines mean nothing; 0.5 says no.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch

from sae_lab._errors import CorruptFile
from sae_lab._files import load_bundle, save_bundle
from sae_lab._results import Result
from sae_lab.saes import nearest
from sae_lab.studies.stitching._roc import area_samples, interval, roc
from sae_lab.studies.stitching._twin import base_of, check_twin, share_with_interval

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

    from sae_lab.saes import SAE
    from sae_lab.studies.stitching._stitching import Stitching

NAN = float("nan")
SAMPLES = 200
COLUMNS = (
    "control",
    "novel_share",
    "novel_low",
    "novel_high",
    "novel_share_by_gain",
    "auc",
    "auc_low",
    "auc_high",
    "auc_margin",
    "margin_low",
    "margin_high",
    "n_latents",
    "note",
)
NUMBERS = COLUMNS[1:11]  # what may be NaN


@dataclass(frozen=True, repr=False, eq=False)
class Controls(Result):
    """A stitching beside its controls: one row each, all at the stitching's threshold."""

    small_name: str
    """Name of the smaller SAE."""
    large_name: str
    """Name of the larger SAE."""
    threshold: float
    """Cosine below which a latent counts as novel."""
    seed: int
    """Decided the shuffles, the random directions, and the samples behind the intervals."""
    rows: list[dict[str, Any]]
    """The rows of `frame`."""

    @property
    def frame(self) -> pd.DataFrame:
        """One row a control, the stitching itself first.

        Columns: control; novel_share (by cosine, of live latents) with novel_low and novel_high (95 %, Wilson);
        novel_share_by_gain; auc with auc_low and auc_high (95 %, resampling latents); auc_margin, the stitching's
        AUC less this one, with margin_low and margin_high (95 %, the same latents resampled for both); n_latents
        (live ones); note. What a control does not have is NaN.
        """
        import pandas as pd

        return pd.DataFrame(self.rows, columns=list(COLUMNS)).set_index("control")

    def _summary(self) -> str:
        shares = [(row["control"], row["novel_share"]) for row in self.rows]
        return "novel by cosine: " + ", ".join(
            f"{name} {'not known' if np.isnan(share) else f'{share:.1%}'}" for name, share in shares
        )

    def plot(self) -> go.Figure:
        """Novel shares and AUCs side by side, with their intervals."""
        from sae_lab.studies.stitching._figures import controls_figure

        return controls_figure(self)

    def save(self, path: Path | str) -> Path:
        """Write the folder `path`, atomically; return the path."""
        numbers = np.array([[row[name] for name in NUMBERS] for row in self.rows], float)
        texts = [[row["control"], row["note"], row["n_latents"]] for row in self.rows]
        meta = {"small_name": self.small_name, "large_name": self.large_name, "threshold": self.threshold}
        return save_bundle(
            path, "Controls", {"controls": {**meta, "seed": self.seed}, "rows": texts}, {"numbers": numbers}
        )

    @classmethod
    def load(cls, path: Path | str) -> Self:
        """Read what `save` wrote."""
        bundle, arrays = load_bundle(path, "Controls")
        try:
            rows = [
                {**dict(zip(NUMBERS, numbers, strict=True)), "control": control, "note": note, "n_latents": count}
                for numbers, (control, note, count) in zip(arrays["numbers"].tolist(), bundle["rows"], strict=True)
            ]
            return cls(**bundle["controls"], rows=rows)
        except (KeyError, TypeError, ValueError) as error:
            raise CorruptFile(f"{path} does not hold whole controls ({error}): make them anew") from error


def controls(
    stitching: Stitching, twin: SAE | None, acts: Any, seed: int, batch_size: int, bootstrap: int, progress: bool
) -> Controls:
    """See `Stitching.controls`."""
    from sae_lab.studies.stitching._rows import known_acts
    from sae_lab.studies.stitching._stitch import stitch

    st = stitching
    rows = [_row(f"{st.small_name} to {st.large_name}", st, "")]
    if twin is None:
        rows.append(_seed_row(st))
    else:
        acts = known_acts(st, acts, None)
        check_twin(twin, st.small, st.large, (st.small_sae, st.large_sae))
        base = base_of(twin, st.small, st.large)
        options: dict[str, Any] = {"batch_size": batch_size, "bootstrap": bootstrap, "progress": progress}
        control = stitch(base, twin, acts, threshold=st.threshold, grouping="star", seed=st.seed, **options)
        cut = "; interrupted" if control.interrupted else ""
        rows.append(_row("same width, other seed", control, f"{control.small_name} and {control.large_name}{cut}"))
    rng = np.random.default_rng(seed)
    W_dec = st.large.W_dec.cpu().numpy()
    shuffled = rng.permuted(W_dec[st.large_alive], axis=0)
    random = rng.standard_normal((int(st.large_alive.sum()), st.d_in), dtype=np.float32)
    rows.append(_null_row(st, "shuffled decoder", shuffled, "each coordinate shuffled among the latents", seed))
    rows.append(_null_row(st, "random decoder", random, "directions drawn evenly from the sphere", seed))
    return Controls(small_name=st.small_name, large_name=st.large_name, threshold=st.threshold, seed=seed, rows=rows)


def _row(name: str, st: Stitching, note: str) -> dict[str, Any]:
    share, low, high = share_with_interval(st.novel_by_cosine[st.large_alive])
    return dict.fromkeys(COLUMNS, NAN) | {
        "control": name,
        "novel_share": share,
        "novel_low": low,
        "novel_high": high,
        "novel_share_by_gain": st.novel_share_by_gain,
        "auc": st.auc,
        "auc_low": st.auc_low,
        "auc_high": st.auc_high,
        "n_latents": int(st.large_alive.sum()),
        "note": note,
    }


def _seed_row(st: Stitching) -> dict[str, Any]:
    """The same-width control, as far as it is known without a twin."""
    row = dict.fromkeys(COLUMNS, NAN) | {"control": "same width, other seed", "n_latents": 0}
    if not np.isnan(st.control_share):
        shares = {"novel_share": st.control_share, "novel_low": st.control_low, "novel_high": st.control_high}
        shares["novel_share_by_gain"] = st.control_share_by_gain
        return row | shares | {"note": "from stitch(..., twin=...); controls(twin=...) adds the AUC"}
    widths = " or ".join(f"{width:,}" for width in dict.fromkeys((st.d_small, st.d_large)))
    how = f"not known: pass controls(twin=...), an SAE with {widths} latents that differs by its seed only"
    return row | {"note": how}


def _null_row(st: Stitching, name: str, W_dec: np.ndarray, note: str, seed: int) -> dict[str, Any]:
    """A control that has other directions than the live large latents, and their gains."""
    targets = st.small.W_dec[torch.from_numpy(st.small_alive).to(st.small.device)]
    cosine = nearest(torch.from_numpy(W_dec).to(st.small.device), targets)[0][:, 0].cpu().numpy()
    kind = st.kind[st.large_alive]
    decided = kind < 2
    positive = kind[decided] == 0
    share, low, high = share_with_interval(cosine < st.threshold)
    samples = area_samples(cosine[decided], positive, SAMPLES, seed)
    true_samples = area_samples(st.cosine[st.large_alive][decided], positive, SAMPLES, seed)
    area = roc(cosine[decided], positive).area
    auc_low, auc_high = interval(samples)
    margin_low, margin_high = interval(true_samples - samples)
    return dict.fromkeys(COLUMNS, NAN) | {
        "control": name,
        "novel_share": share,
        "novel_low": low,
        "novel_high": high,
        "auc": area,
        "auc_low": auc_low,
        "auc_high": auc_high,
        "auc_margin": st.auc - area,
        "margin_low": margin_low,
        "margin_high": margin_high,
        "n_latents": len(W_dec),
        "note": note,
    }
