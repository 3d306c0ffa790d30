"""Training: `train` and `resume` start a `TrainingRun`, or a `Sweep`; the step's kernels lie in `kernels`."""

from __future__ import annotations

from sae_lab.training._end_to_end import end_to_end
from sae_lab.training._end_to_end_run import EndToEnd
from sae_lab.training._run import TrainingRun
from sae_lab.training._sweep import Sweep
from sae_lab.training._train import resume, train

__all__ = ["EndToEnd", "Sweep", "TrainingRun", "end_to_end", "resume", "train"]
