"""Golden of a dataset of activations, written by SAELens' own code: `pip install sae-lens==6.54.12`.

Run `python make_saelens_activations.py`. Only its runner's two steps that write are called: no model is needed.
"""

from __future__ import annotations

import shutil
import types

import torch
from datasets import Array2D, Features, Sequence, Value
from make_references import HERE
from sae_lens.cache_activations_runner import CacheActivationsRunner
from safetensors.torch import save_file

HOOK, SEQUENCES, CONTEXT, WIDTH = "blocks.2.hook_resid_post", 3, 5, 4


def main() -> None:
    folder = HERE / "saelens_activations"
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "data").mkdir(parents=True)
    runner = object.__new__(CacheActivationsRunner)
    runner.cfg = types.SimpleNamespace(hook_name=HOOK, n_seq_in_buffer=SEQUENCES, d_in=WIDTH)
    runner.context_size = CONTEXT
    runner.features = Features(
        {
            HOOK: Array2D(shape=(CONTEXT, WIDTH), dtype="float32"),
            "token_ids": Sequence(Value(dtype="int32"), length=CONTEXT),
        }
    )
    generator = torch.Generator().manual_seed(95)
    x = torch.randn(2, SEQUENCES * CONTEXT, WIDTH, generator=generator)
    tokens = torch.randint(0, 300, (2, SEQUENCES * CONTEXT), generator=generator)
    for i in range(2):
        shard = runner._create_shard((x[i], tokens[i]))
        shard.save_to_disk(str(folder / "data" / ".tmp_shards" / f"shard_{i:05d}"), num_shards=1)
    runner._consolidate_shards(folder / "data" / ".tmp_shards", folder / "data", copy_files=False)
    save_file({"x": x.flatten(0, 1), "tokens": tokens.flatten()}, folder / "expected.safetensors")


if __name__ == "__main__":
    main()
