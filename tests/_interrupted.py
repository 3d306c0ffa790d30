"""A training run that is cut off and resumed, beside one that is not."""

from __future__ import annotations

import pytest

import sae_lab as sl
from sae_lab.training import _loop


class Killed(BaseException):
    """Stands for the end of the process: nothing of ours catches it."""


def interrupted(config, rows, options, at, path):
    """(resumed, uninterrupted) runs; the first was cut off after step `at`, just after its checkpoint."""
    whole = sl.train(config, rows, **options)
    advance = _loop.TrainingState.advance

    def deadly(self, x):
        if self.step == at:
            raise Killed
        return advance(self, x)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_loop.TrainingState, "advance", deadly)
        with pytest.raises(Killed):
            sl.train(config, rows, **options, checkpoint=path, checkpoint_every=at)
    return sl.resume(path, rows, progress=False), whole


def assert_same(run, reference):
    """The same SAE, bit for bit, and the same history."""
    import torch

    ours, theirs = run.sae.state_dict(), reference.sae.state_dict()
    for name in theirs:
        assert torch.equal(ours[name], theirs[name]), name
    columns = ["step", "loss", "fvu", "l0", "dead"]
    assert run.history[columns].equals(reference.history[columns])
