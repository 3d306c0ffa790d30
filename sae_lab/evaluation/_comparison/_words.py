"""A comparison in words that claim no more than its numbers do."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

from sae_lab._errors import BadInput

if TYPE_CHECKING:
    from sae_lab.evaluation._comparison._result import Comparison

ENOUGH_SEEDS, ENOUGH_DOCUMENTS = 3, 20
SHOWN = 4  # names listed in a sentence; the tables have all
NAMES = {
    "l0": "L0",
    "fvu": "FVU",
    "cosine": "cosine",
    "norm_ratio": "norm ratio",
    "alive_share": "share of alive latents",
    "under_used_share": "share of under-used latents",
    "under_used_0.1_share": "share of latents used less than 0.1 of the mean",
    "under_used_0.5_share": "share of latents used less than 0.5 of the mean",
    "ce_increase": "CE increase",
    "loss_recovered_zero": "loss recovered (zero ablation)",
    "loss_recovered_mean": "loss recovered (mean ablation)",
    "kl": "KL",
}


def sentence(comparison: Comparison, metric: str) -> str:
    """One sentence about one metric."""
    table = comparison.frame
    if metric not in set(table["metric"]):
        raise BadInput(f"no metric {metric!r} here: choose from {', '.join(dict.fromkeys(table['metric']))}")
    rows = comparison.differences
    rows = rows[rows["metric"] == metric]
    remarks = caveats(comparison)
    if len(rows):
        said = f"{_place(comparison)}, {listed(_claim(row, metric) for row in rows.itertuples())}"
    elif comparison.match and math.isnan(comparison.l0):
        said = f"Nothing is said about {NAMES.get(metric, metric)}, because the arms share no L0"
    else:
        said = f"Nothing is said about {NAMES.get(metric, metric)}, because no arm shares a point with the baseline"
    return said + (f"; but {'; '.join(remarks)}" if remarks else "") + "."


def caveats(comparison: Comparison) -> list[str]:
    """What a reader has to know before believing the numbers."""
    found = []
    if comparison.interrupted:
        found.append("the work was interrupted, and this is what was complete")
    if comparison.trouble:
        found.append(("L0 is not matched: " if math.isnan(comparison.l0) else "") + comparison.trouble)
    status = comparison.confounds
    confounded = list(status["field"][status["status"] == "undeclared"])
    if confounded:
        also = "also differ in" if comparison.factor else "differ, undeclared, in"
        found.append(f"the arms {also} {listed(confounded)}, so no difference can be put down to one thing")
    elif "declared" not in set(status["status"]):
        found.append(f"the arms are not known to differ in {listed(comparison.factor) or 'anything'}")
    unknown = list(status["field"][status["status"] == "unknown"])
    if unknown:
        few = unknown if len(unknown) <= SHOWN else [*unknown[: SHOWN - 1], f"{len(unknown) - SHOWN + 1} more fields"]
        found.append(f"it is not known whether the arms are alike in {listed(few)}")
    seeds = comparison.frame.groupby("arm", sort=False)["seeds"].min()
    for count in range(1, ENOUGH_SEEDS):
        arms = list(seeds.index[seeds == count])
        if arms:
            have, their = ("has", "its interval") if len(arms) == 1 else ("have", "their intervals")
            why = f"so {their} cannot know how much seeds differ" if count == 1 else f"which makes {their} wide"
            found.append(f"{listed(arms)} {have} {count} seed{'s' * (count > 1)} only, {why}")
    if 0 < comparison.n_documents < ENOUGH_DOCUMENTS:
        found.append(f"the rows are of {comparison.n_documents} documents only, which is few for an interval")
    missing = [arm for arm in comparison.arms if arm not in set(comparison.frame["arm"])]
    if missing:
        found.append(f"{listed(missing)} {'is' if len(missing) == 1 else 'are'} missing")
    return found


def listed(words: Iterable[str]) -> str:
    """a, b and c."""
    *most, last = [*words] or [""]
    return f"{', '.join(most)} and {last}" if most else last


def _place(comparison: Comparison) -> str:
    if comparison.match is None:
        about = "which is what was varied" if comparison.sparsity_is_factor else "which was not asked to be matched"
        return f"At each arm's own L0 ({_own_l0(comparison)}), {about}"
    if math.isnan(comparison.l0):
        return f"At each arm's own L0 ({_own_l0(comparison)}), which differ"
    if comparison.interpolated:
        return f"At L0 {comparison.l0:.3g}, interpolated"
    return f"At L0s within 5 % of each other ({_own_l0(comparison)})"


def _own_l0(comparison: Comparison) -> str:
    runs = comparison.runs.groupby(["arm", "point"], sort=False)["l0"].mean()
    return ", ".join(f"{arm}{' ' + point if point else ''} {l0:.3g}" for (arm, point), l0 in runs.items())


def _claim(row, metric: str) -> str:  # type: ignore[no-untyped-def]  # a row of a table
    name = NAMES.get(metric, metric.replace("_", " "))
    seeds = f"{row.seeds} {'paired ' if row.paired else ''}seed{'s' if row.seeds > 1 else ''}"
    at = f" at {row.at}" if "=" in row.at else ""
    if math.isnan(row.difference):
        return f"the {name} of {row.arm}{at} is not defined"
    if not row.excludes_zero:
        return (
            f"{row.arm}{at} is not shown to differ from {row.baseline} in {name} (difference {row.difference:+.3g}, "
            f"95 % interval {row.low:+.3g} to {row.high:+.3g}, which includes zero; {seeds})"
        )
    way = "higher" if row.difference > 0 else "lower"
    low, high = sorted((abs(row.low), abs(row.high)))
    article = "an" if name in ("FVU", "L0") else "a"
    return (
        f"{row.arm}{at} has {article} {name} {abs(row.difference):.3g} {way} than {row.baseline} "
        f"(95 % interval {low:.3g} to {high:.3g} {way}; {seeds})"
    )
