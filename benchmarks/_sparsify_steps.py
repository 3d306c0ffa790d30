"""Steps of sparsify, in its own environment: for each line on standard input, so many steps and their seconds.

    python benchmarks/_sparsify_steps.py DEVICE BATCH D_IN LATENTS K

The step is that of sparsify's trainer: its coder (which turns on bfloat16 autocast on a GPU by itself), the gradient's
projection, Adam, unit norms. What the trainer does around it (the model, logging) is left out.
"""

from __future__ import annotations

import importlib.metadata
import os
import sys
import time

ANSWERS, sys.stdout = sys.stdout, sys.stderr  # what sparsify prints is no answer
if sys.argv[1] == "cpu":
    os.environ["SPARSIFY_DISABLE_TRITON"] = "1"  # it takes an installed Triton for a GPU

import torch  # noqa: E402
from sparsify import SparseCoder, SparseCoderConfig  # noqa: E402


def main() -> None:
    """Answer each line until there are no more."""
    device = sys.argv[1]
    batch, d_in, latents, k = map(int, sys.argv[2:])
    coder = SparseCoder(d_in, SparseCoderConfig(num_latents=latents, k=k), device=device, dtype=torch.float32)
    adam = torch.optim.Adam(coder.parameters(), lr=1e-4)
    rows = torch.randn(batch, d_in, device=device)
    versions = f"sparsify {importlib.metadata.version('eai-sparsify')}, torch {torch.__version__}"
    print(versions, file=ANSWERS, flush=True)

    def wait() -> float:
        if device != "cpu":
            torch.cuda.synchronize()
        return time.perf_counter()

    for line in sys.stdin:
        begin = wait()
        for _ in range(int(line)):
            coder.set_decoder_norm_to_unit_norm()
            out = coder(rows)
            (out.fvu + out.auxk_loss).backward()
            coder.remove_gradient_parallel_to_decoder_directions()
            adam.step()
            adam.zero_grad()
        print(wait() - begin, file=ANSWERS, flush=True)


if __name__ == "__main__":
    main()
