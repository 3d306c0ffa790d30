"""Compile every kernel of the CUDA step for an H100, which needs no GPU: run by test_step_cuda.py, prints names."""

from __future__ import annotations

import json
import sys

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from sae_lab.training.kernels.cuda import _adam, _select, _select_batch, _sparse

INTS = {
    "held_latents", "latents", "ends", "starts", "again", "found", "state", "digits", "greater", "equal", "ties",
    "rows", "bounds", "hot_slots", "aux_slots",
}  # fmt: skip
NUMBERS = {"n": "i32", "k": "i32", "shift": "i32", "width": "i32", "d_out": "i32", "d_in": "i32", "busy": "i32"}
NUMBERS |= {"scale": "fp32", "left1": "fp32", "left2": "fp32", "eps": "fp32"}
OTHERS = {"order": "*i64", "low_W_enc": "*bf16"}
CASES = [
    (_select.select_rows, {"room": 256, "block": 2048, "slots": 32}),
    (_select_batch.collect_rows, {"room": 256, "block": 2048}),
    (_select_batch.count_digits, {"block": 2048}),
    (_select_batch.pick_digit, {}),
    (_select_batch.tally_rows, {"room": 256, "block": 2048}),
    (_select_batch.emit_rows, {"room": 256, "block": 2048}),
    (_sparse.decode_rows, {"block": 1024}),
    (_sparse.sum_latents, {"aux": True, "unit": True, "out_block": 1024, "in_block": 1024}),
    (_adam.update_latents, {"unit": True, "low": True, "out_block": 1024, "in_block": 1024}),
]


def kind(name: str, pre: str) -> str:
    if name == "pre":
        return pre
    return NUMBERS.get(name) or OTHERS.get(name) or ("*i32" if name in INTS else "*fp32")


def main(pre: str) -> dict[str, int]:
    sizes = {}
    for function, constants in CASES:
        signature = {n: "constexpr" if n in constants else kind(n, pre) for n in function.arg_names}
        source = ASTSource(function, signature=signature, constexprs=constants)
        made = triton.compile(source, target=GPUTarget("cuda", 90, 32), options={"num_warps": 4})
        sizes[function.__name__] = len(made.asm["cubin"])
    return sizes


if __name__ == "__main__":
    json.dump(main(sys.argv[1]), sys.stdout)
