"""What harvest costs beside a plain forward pass with a PyTorch hook, on the same batches.

The plain side has everything ready: batches tokenised, padded and on the device, a hook that takes the output
of the layer and stops the pass there. The other side is `sl.harvest` as a user calls it: it tokenises, runs,
drops positions, checks, converts to float16, and writes shards with their checksums to disk. Both sides run one
after the other in each repeat, so that a busy machine slows both; the medians of the pairs' ratios are the figure.

    python benchmarks/harvest.py                                          # the demo model, 2 threads: minutes
    python benchmarks/harvest.py --write docs/performance.md              # ... and put the table into the docs
    python benchmarks/harvest.py --tokens 500 --repeats 1                 # seconds: shows that it runs
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.metadata
import statistics
import tempfile
import time
from pathlib import Path

import _report
import torch

import sae_lab as sl
from sae_lab.activations._corpus import CorpusReader
from sae_lab.activations._plan import plan
from sae_lab.activations._settings import check_settings
from sae_lab.models._text import pad_right

NAME = "harvest"
SIDES = {"plain": "plain pass with a hook", "harvest": "sl.harvest"}
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
    parser.add_argument("--repeats", type=_report.count, default=5)
    _report.add_options(parser)
    options = parser.parse_args()
    _report.check_page(NAME, options.write)
    torch.set_num_threads(options.threads)
    size = options.batch_tokens if options.batch_tokens == "auto" else int(options.batch_tokens)
    settings = {**SETTINGS, "batch_tokens": size}

    model = sl.load_model(options.model)
    texts = list(sl.load_corpus("demo", split="train"))
    inputs, rows = same_batches(model, texts, options.tokens, settings)
    layer = model.module.get_submodule(model.site(options.site).path)

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

    lines = []
    for name in ("plain", "harvest"):
        clock, processor = (statistics.median(pair[name][index] for pair in pairs) for index in (0, 1))
        lines.append([SIDES[name], f"{clock:.2f}", f"{processor:.2f}", f"{rows / clock:,.0f}"])
        for index in (0, 1):
            lines[-1].append(_report.paired(*([pair[side][index] for pair in pairs] for side in (name, "plain"))))
    head = ["a pass", "seconds", "CPU seconds", "rows/s", "time over plain", "CPU time over plain"]
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("sae-lab", "torch", "transformers"))
    job = f"{options.model}, {options.site}: {rows:,} rows in {len(inputs)} batches, {options.repeats} rounds"
    told = f"{job}. {versions}. {_report.machine(options.threads)}"
    _report.publish(NAME, f"{_report.table(head, lines)}\n\n{told}", options.write)


if __name__ == "__main__":
    main()
