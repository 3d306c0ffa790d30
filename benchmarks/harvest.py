"""What harvest costs beside a plain forward pass with a PyTorch hook, on the same batches.

The plain side has everything ready: batches tokenised, padded and on the device, a hook that takes the output
of the layer and stops the pass there. The other side is `sl.harvest` as a user calls it: it tokenises, runs,
drops positions, checks, converts to float16, and writes shards with their checksums to disk. Both sides run one
after the other in each repeat, so that a busy machine slows both; the medians of the pairs' ratios are the figure.

    python benchmarks/harvest.py --tokens 16000 --repeats 5
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import tempfile
import time
from pathlib import Path

import torch

import sae_lab as sl
from sae_lab.activations._corpus import CorpusReader
from sae_lab.activations._plan import plan
from sae_lab.activations._settings import check_settings
from sae_lab.models._text import pad_right

SETTINGS = {"context_length": 256, "packing": "documents", "skip_first": 1, "dtype": "float16", "seed": 0}


class Stop(Exception):
    """Raised by the hook: the rest of the model is not needed."""


def plain_pass(model: sl.Model, layer: torch.nn.Module, inputs: list[torch.Tensor]) -> list[torch.Tensor]:
    """The activations of each batch after `layer`, by a forward hook."""
    found = []

    def hook(module: torch.nn.Module, args: object, output: object) -> None:
        found.append(output[0] if isinstance(output, tuple) else output)
        raise Stop

    handle = layer.register_forward_hook(hook)
    try:
        with torch.no_grad():
            for ids in inputs:
                with contextlib.suppress(Stop):
                    model.module(input_ids=ids, attention_mask=torch.ones_like(ids))
    finally:
        handle.remove()
    return found


def same_batches(model: sl.Model, texts: list[str], tokens: int, options: dict) -> tuple[list[torch.Tensor], int]:
    """The padded batches that harvest will run for at least so many tokens, and how many rows they give."""
    settings = check_settings(model, **options)
    inputs, rows = [], 0
    for batch in plan(CorpusReader(texts), model.tokenize, settings, None):
        inputs.append(pad_right(batch.ids, 0, model.device)[0])
        rows = batch.end_row
        if rows >= tokens:
            break
    return inputs, rows


def timed(work: object) -> tuple[float, float]:
    """Seconds on the clock and seconds of processor time that a call takes."""
    clock, processor = time.perf_counter(), time.process_time()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - clock, time.process_time() - processor


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="demo")
    parser.add_argument("--site", default="layers.9")
    parser.add_argument("--tokens", type=int, default=16_000)
    parser.add_argument("--batch-tokens", default="auto", help="tokens in a batch; small ones for a quick look")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    size = options.batch_tokens if options.batch_tokens == "auto" else int(options.batch_tokens)
    settings = {**SETTINGS, "batch_tokens": size}

    model = sl.load_model(options.model)
    texts = list(sl.load_corpus("demo", split="train"))
    inputs, rows = same_batches(model, texts, options.tokens, settings)
    layer = model.module.get_submodule(model.site(options.site).path)
    print(f"{len(inputs)} batches, {rows:,} rows, {torch.get_num_threads()} threads, {model.device}")

    with tempfile.TemporaryDirectory() as folder:

        def harvest_to(name: str) -> None:
            path = Path(folder) / name
            sl.harvest(model, texts, site=options.site, path=path, max_tokens=rows, progress=False, **settings)

        plain_pass(model, layer, inputs[:1])
        harvest_to("warm-up")
        pairs = []
        for repeat in range(options.repeats):
            sides = {
                "plain": lambda: plain_pass(model, layer, inputs),
                "harvest": lambda repeat=repeat: harvest_to(str(repeat)),
            }
            order = ["plain", "harvest"] if repeat % 2 else ["harvest", "plain"]
            pairs.append({name: timed(sides[name]) for name in order})

    print(f"{'':10} {'plain':>10} {'harvest':>10} {'ratio':>8}")
    for index, name in enumerate(("seconds", "processor")):
        plain = statistics.median(pair["plain"][index] for pair in pairs)
        harvest = statistics.median(pair["harvest"][index] for pair in pairs)
        ratio = statistics.median(pair["harvest"][index] / pair["plain"][index] for pair in pairs)
        print(f"{name:10} {plain:10.3f} {harvest:10.3f} {ratio:8.3f}")
    print(f"harvest: {rows / statistics.median(pair['harvest'][0] for pair in pairs):,.0f} rows a second")


if __name__ == "__main__":
    main()
