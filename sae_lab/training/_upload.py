"""Rows from the host to a GPU, while the GPU is busy with the step before.

Plain memory is copied by a driver that makes the host wait; page-locked memory is copied by the GPU itself, beside its
other work when asked for on a stream of its own. Page-locked memory comes from PyTorch's cache, which gives none out
again before its copy is done.
"""

from __future__ import annotations

import torch
from torch import Tensor


class Upload:
    """Brings rows to a device, as float32."""

    def __init__(self, device: torch.device):
        self.device = device
        self._stream: torch.cuda.Stream | None = None

    def __call__(self, x: Tensor) -> Tensor:
        """The rows of `x` on the device; the current stream waits for them, the host does not."""
        if self.device.type != "cuda" or x.device.type != "cpu":
            return x.to(self.device, torch.float32)
        self._stream = self._stream or torch.cuda.Stream(self.device)
        present = torch.cuda.current_stream(self.device)
        with torch.cuda.stream(self._stream):
            rows = x.pin_memory().to(self.device, non_blocking=True)
        present.wait_stream(self._stream)
        rows.record_stream(present)  # its memory is the other stream's, which must not use it again too early
        return rows.float()
