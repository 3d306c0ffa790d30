"""Compile every launch of the CUDA step for an H100, which needs no GPU: run by test_step_cuda.py, prints JSON.

The step is taken at real sizes on tensors that have a shape and no memory, and launches are noted in place of being
made. Each is then compiled as Triton would on a GPU: with the types of its arguments, those that are 1 as constants,
and multiples of 16 known as such. The assembler says how many registers a program takes and what does not fit.
"""

from __future__ import annotations

import contextlib
import io
import json
import re
import sys

import torch
import triton
from torch._subclasses.fake_tensor import FakeTensorMode
from triton import knobs
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from triton.runtime.jit import JITFunction

import sae_lab as sl
from sae_lab.training._step import Batch, Optimiser, Weights
from sae_lab.training.kernels.cuda._kernel import CudaKernel

TYPES = {torch.float32: "fp32", torch.bfloat16: "bf16", torch.int32: "i32", torch.int64: "i64"}
noted: dict[str, tuple[JITFunction, dict, dict, dict, int]] = {}


def note(function: JITFunction, *arguments, grid, warmup, **keywords) -> None:
    """In place of a launch: what would be compiled for it."""
    assert len(grid) == 1
    assert grid[0] < 2**31
    num_warps = keywords.pop("num_warps", 4)
    values = dict(zip(function.arg_names, arguments, strict=False)) | keywords
    assert set(values) == set(function.arg_names)
    signature, constants, attributes = {}, {}, {}
    for place, parameter in enumerate(function.params):
        name, value = parameter.name, values[parameter.name]
        if parameter.is_constexpr or (isinstance(value, int) and value == 1):
            signature[name], constants[name] = "constexpr", value
        elif isinstance(value, torch.Tensor):
            signature[name], attributes[(place,)] = "*" + TYPES[value.dtype], [["tt.divisibility", 16]]
        elif isinstance(value, int):
            assert -(2**31) <= value < 2**31, f"{name} = {value} does not fit into 32 bits"
            signature[name] = "i32"
            attributes |= {(place,): [["tt.divisibility", 16]]} if value % 16 == 0 else {}
        else:
            signature[name] = "fp32"
    key = f"{function.__name__} {signature} {constants} {sorted(attributes)} {num_warps}"
    noted[key] = function, signature, constants, attributes, num_warps


def step(config, size: tuple[int, int, int], *, precision: str, dead: int) -> None:
    """One step of this many rows, with this width of inputs and targets."""
    rows, d_in, d_out = size
    torch.set_float32_matmul_precision(precision)
    with FakeTensorMode():
        made = {"W_enc": (config.d_sae, d_in), "W_dec": (config.d_sae, d_out), "b_enc": (config.d_sae,)}
        made = {name: torch.empty(shape) for name, shape in (made | {"b_dec": (d_out,)}).items()}
        weights = Weights(**made)
        weights.extra = config.extra_parameters(weights)
        kernel = CudaKernel(config, weights, rows, Optimiser())
        x = torch.empty(rows, d_in)
        y = x if config.center else torch.empty(rows, d_out)
        kernel.advance(Batch(x, y), kernel.padded(torch.arange(dead)))


def assembled(function, signature, constants, attributes, num_warps) -> dict:
    """Compile it; registers of a thread, bytes that do not fit into them, shared memory of a program."""
    source = ASTSource(function, signature=signature, constexprs=constants, attrs=attributes)
    with contextlib.redirect_stdout(io.StringIO()) as told:
        made = triton.compile(source, target=GPUTarget("cuda", 90, 32), options={"num_warps": num_warps})
    found = {"registers": r"Used (\d+) registers", "spilled": r"(\d+) bytes spill stores"}
    found = {name: int(re.search(how, told.getvalue()).group(1)) for name, how in found.items()}
    return found | {"shared": made.metadata.shared}


def main() -> dict[str, list[dict]]:
    JITFunction.run = note
    knobs.nvidia.dump_ptxas_log = True
    # the widest of benchmarks/gpu_step.py, and one of BatchTopK
    step(sl.TopK(d_sae=65536, k=64), (16384, 2304, 2304), precision="medium", dead=300)
    step(sl.BatchTopK(d_sae=65536, k=64), (8192, 1024, 1024), precision="medium", dead=0)
    # float32, sizes that no block divides, one latent a row, all latents of as many as are chosen among at once
    step(sl.BatchTopK(d_sae=1000, k=1), (100, 50, 50), precision="highest", dead=0)
    step(sl.Transcoder(d_sae=4096, k=4096, skip=True), (100, 1, 50), precision="highest", dead=3)
    sizes: dict[str, list[dict]] = {}
    for function, *rest in noted.values():
        sizes.setdefault(function.__name__, []).append(assembled(function, *rest))
    return sizes


if __name__ == "__main__":
    json.dump(main(), sys.stdout)
