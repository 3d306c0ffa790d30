"""Out of memory is told as such, proposes a batch size, and loses nothing."""

from __future__ import annotations

import pytest
import torch

import sae_lab as sl
from sae_lab.training._memory import OutOfMemory
from sae_lab.training._state import TrainingState

ON_CPU = RuntimeError("[enforce fail at alloc_cpu.cpp:127] data. DefaultCPUAllocator: can't allocate memory: 9 bytes")
ROWS = torch.randn(300, 8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("error", [ON_CPU, torch.OutOfMemoryError("CUDA out of memory."), MemoryError()])
def test_a_step_that_does_not_fit_proposes_a_smaller_batch_and_keeps_what_was_learned(error, monkeypatch, tmp_path):
    plain = TrainingState.advance

    def failing(self, x):
        if self.step == 5:
            raise error
        return plain(self, x)

    options = {"steps": 12, "batch_size": 64, "progress": False}
    whole = sl.train(sl.TopK(d_sae=16, k=2), ROWS, **options).sae
    monkeypatch.setattr(TrainingState, "advance", failing)
    with pytest.raises(OutOfMemory, match="batch_size=32") as caught:
        sl.train(sl.TopK(d_sae=16, k=2), ROWS, **options, checkpoint=tmp_path / "run")
    assert caught.value.run.step == 5
    monkeypatch.setattr(TrainingState, "advance", plain)
    again = sl.resume(tmp_path / "run", ROWS, progress=False)
    assert torch.equal(again.sae.W_dec, whole.W_dec), "a resumed run ends as if nothing had happened"


def test_buffers_that_do_not_fit_are_told_before_the_first_step():
    with pytest.raises(OutOfMemory, match="does not fit"):
        sl.train(sl.TopK(d_sae=2**43, k=2), ROWS, progress=False)


def test_other_errors_stay_what_they_are(monkeypatch):
    def failing(self, x):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    monkeypatch.setattr(TrainingState, "advance", failing)
    with pytest.raises(RuntimeError, match="cannot be multiplied"):
        sl.train(sl.TopK(d_sae=16, k=2), ROWS, steps=2, progress=False)
