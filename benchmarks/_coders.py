"""Encoding and decoding in encode_decode.py, each function run by the interpreter that has its library.

The SAEs have the shape of trained ones and weights as at the start of training: how long top-k takes hardly depends on
what was learned. Nothing asks for gradients. The option `part` says what is timed, "encode" or "decode"; the codes that
are decoded are the library's own, made beforehand.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable
from typing import Any

import torch
from _turns import Task, Turns, run
from torch import Tensor
from torch.nn import functional

Coder = tuple[Callable[[Tensor], Any], Callable[[Any], Tensor]]


def timed(task: Task, distribution: str, coder: Coder) -> None:
    """Do the part that the task names, again and again."""
    encode, decode = coder
    turns = Turns(task, {"version": importlib.metadata.version(distribution)})
    with torch.no_grad():
        if task["options"]["part"] == "encode":
            turns.repeat(encode)
        codes = encode(turns.batches[0])
        turns.start_memory()
        turns.repeat(lambda _: decode(codes))


def product(task: Task) -> None:
    """The encoder's product alone, into an output that is there already."""
    W_enc, out = torch.randn(task["d_in"], task["d_sae"]), torch.empty(task["batch"], task["d_sae"])
    timed(task, "torch", (lambda x: torch.mm(x, W_enc, out=out), lambda codes: codes))


def ours(task: Task) -> None:
    """`encode` and `decode`, or `encode_sparse` and `decode_sparse`."""
    from sae_lab.saes import SAE

    W_dec = functional.normalize(torch.randn(task["d_sae"], task["d_in"]), dim=1)
    biases = torch.zeros(task["d_sae"]), torch.zeros(task["d_in"])
    sae = SAE(W_dec.clone(), W_dec, *biases, gate="topk", k=task["k"])
    dense, sparse = (sae.encode, sae.decode), (sae.encode_sparse, lambda codes: sae.decode_sparse(*codes))
    timed(task, "sae-lab", sparse if task["options"]["sparse"] else dense)


def saelens(task: Task) -> None:
    """SAELens has dense codes."""
    from sae_lens import SAE, TopKSAEConfig

    size = {"d_in": task["d_in"], "d_sae": task["d_sae"], "device": "cpu", "dtype": "float32"}
    sae = SAE.from_dict(TopKSAEConfig(**size, k=task["k"]).to_dict())
    torch.nn.init.normal_(sae.W_enc)
    timed(task, "sae-lens", (sae.encode, sae.decode))


def sparsify(task: Task) -> None:
    """Sparse codes are all that sparsify has."""
    from sparsify import SparseCoder, SparseCoderConfig

    coder = SparseCoder(task["d_in"], SparseCoderConfig(num_latents=task["d_sae"], k=task["k"]), dtype=torch.float32)
    timed(task, "eai-sparsify", (coder.encode, lambda codes: coder.decode(codes.top_acts, codes.top_indices)))


def dictionary_learning(task: Task) -> None:
    """dictionary_learning has dense codes."""
    from dictionary_learning.trainers.top_k import AutoEncoderTopK

    coder = AutoEncoderTopK(task["d_in"], task["d_sae"], task["k"])
    timed(task, "dictionary-learning", (coder.encode, coder.decode))


if __name__ == "__main__":
    run(
        {
            "product": product,
            "ours": ours,
            "saelens": saelens,
            "sparsify": sparsify,
            "dictionary_learning": dictionary_learning,
        }
    )
