"""Golden of a latent cache, written by delphi's own code: `pip install eai-delphi==0.1.3` (its model clients unneeded).

Run `python make_delphi.py`. The latents are random, 12 of them of width 40, over 5 sequences of 9 tokens.
"""

from __future__ import annotations

import sys
import types
from pathlib import Path

import torch

for unneeded in (
    "faiss",
    "sentence_transformers",
    "vllm",
    "asyncer",
    "blobfile",
    "bitsandbytes",
    "openai",
    "httpx",
    "orjson",
):
    sys.modules.setdefault(unneeded, types.ModuleType(unneeded))
sys.modules["sentence_transformers"].SentenceTransformer = object
sys.modules["asyncer"].asyncify = lambda function: function

from delphi.config import CacheConfig  # noqa: E402
from delphi.latents.cache import LatentCache  # noqa: E402
from delphi.latents.loader import TensorBuffer  # noqa: E402
from make_references import HERE  # noqa: E402
from safetensors.torch import save_file  # noqa: E402

WIDTH, SEQUENCES, CONTEXT = 40, 5, 9


def main() -> None:
    generator = torch.Generator().manual_seed(90)
    latents = torch.randn(SEQUENCES, CONTEXT, WIDTH, generator=generator).relu()
    latents = latents * (torch.rand(latents.shape, generator=generator) < 0.2)
    tokens = torch.randint(0, 500, (SEQUENCES, CONTEXT), generator=generator)
    folder = HERE / "delphi"
    cache = LatentCache(None, {}, batch_size=2)
    cache.width = WIDTH
    for number, begin in enumerate(range(0, SEQUENCES, 2)):
        part = slice(begin, begin + 2)
        cache.cache.add(latents[part], tokens[part], number, "layers.3")
    cache.cache.save()
    cache.save_splits(3, folder / "latents", save_tokens=True)
    cache.save_config(folder / "latents", CacheConfig(cache_ctx_len=CONTEXT, n_splits=3), "EleutherAI/pythia-70m")
    save_file({"latents": latents.half(), "tokens": tokens}, folder / "expected.safetensors")


def check(path: str) -> None:
    """Print what delphi reads from the files of a module that we wrote."""
    for file in sorted(Path(path).glob("*.safetensors"), key=lambda file: int(file.stem.split("_")[0])):
        locations, activations, tokens = TensorBuffer(str(file), Path(path).name).load()
        shape = None if tokens is None else tuple(tokens.shape)
        print(file.name, tuple(locations.shape), locations.sum(0).tolist(), float(activations.sum()), shape)


if __name__ == "__main__":
    check(sys.argv[1]) if len(sys.argv) > 1 else main()
