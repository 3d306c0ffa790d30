"""Train the SAEs that come with sae_lab: the recipe, from the demo model to the files in the package.

    python tools/train_demo_saes.py

Harvests layer 9 of the demo model over the train split of the demo corpus, trains one SAE after the other on
the same rows, evaluates each on the test split, and writes the weights (float16) to `sae_lab/saes/demo/` and
what was measured to `docs/demo_saes/`. On two cores that have nothing else to do this takes about an hour. It
can be stopped at any moment; the same command goes on from there.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from pathlib import Path

import torch

import sae_lab as sl

ROOT = Path(__file__).resolve().parents[1]
SHIPPED = ROOT / "sae_lab" / "saes" / "demo"
RECORD = ROOT / "docs" / "demo_saes"
SITE = "layers.9"
K = 32
EPOCHS = 3
# the second seeds are what the stitching controls compare with: two SAEs of one width
RUNS = [(1152, 0), (2304, 0), (4608, 0), (576, 0), (1152, 1), (2304, 1), (576, 1)]  # width, seed
COLUMNS = [
    ("l0", "L0"),
    ("fvu", "FVU"),
    ("alive_share", "alive"),
    ("ce_increase", "CE increase"),
    ("loss_recovered_zero", "loss recovered (zero)"),
    ("loss_recovered_mean", "loss recovered (mean)"),
    ("kl", "KL"),
]
METRICS_TOKENS = 16_000  # through the model, four times


def harvest(model: sl.Model, split: str, tokens: int, work: Path) -> sl.Activations:
    """Activations of one split, stored below `work` in float16; position 0 of each sequence is dropped."""
    texts = sl.load_corpus("demo", split=split)
    return sl.harvest(model, texts, site=SITE, path=work / split, max_tokens=tokens, context_length=256, skip_first=1)


def train(width: int, seed: int, acts: sl.Activations, work: Path) -> tuple[sl.TrainingRun, float]:
    """Train one SAE, or go on where an earlier call stopped; return the run and the seconds it took."""
    checkpoint = work / f"w{width}-s{seed}"
    started = time.monotonic()
    if (checkpoint / "latest.json").is_file():  # a run stopped before its first checkpoint left none
        run = sl.resume(checkpoint, acts)
    else:
        run = sl.train(sl.BatchTopK(d_sae=width, k=K), acts, epochs=EPOCHS, seed=seed, checkpoint=checkpoint)
    return run, time.monotonic() - started


def write_table() -> None:
    """Put what was measured of all SAEs into one table for the site."""
    head = ["SAE", "epochs", *(title for _, title in COLUMNS)]
    lines = [" | ".join(head), " | ".join(["---"] + ["---:"] * (len(head) - 1))]
    for file in sorted(RECORD.glob("*.json"), key=lambda file: [int(n) for n in file.stem[1:].split("-s")]):
        record = json.loads(file.read_text(encoding="utf-8"))
        values = (f"{record['metrics'][name]:.4g}" for name, _ in COLUMNS)
        lines.append(" | ".join([file.stem, str(record["epochs"]), *values]))
    (RECORD / "table.md").write_text("".join(f"| {line} |\n" for line in lines), encoding="utf-8")


def main() -> None:
    """Run the whole recipe."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokens", type=int, default=3_000_000, help="rows to train on")
    parser.add_argument("--test-tokens", type=int, default=150_000, help="rows to evaluate on")
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "demo_saes", help="activations and checkpoints")
    parser.add_argument("--only", type=int, nargs="*", help="train these widths only")
    options = parser.parse_args()

    model = sl.load_model("demo")
    test_acts = harvest(model, "test", options.test_tokens, options.work)
    train_acts = harvest(model, "train", options.tokens, options.work)
    for width, seed in RUNS:
        if options.only and width not in options.only:
            continue
        run, seconds = train(width, seed, train_acts, options.work)
        if run.status != "finished":
            print(f"w{width}-s{seed}: {run.status}; the same command goes on from here")
            return
        folder = run.sae.save(SHIPPED / f"w{width}-s{seed}", dtype="float16")
        # what is measured is what is shipped: the float16 file, read back
        sae = sl.SAE.load(folder)
        metrics = sl.evaluate(sae, test_acts, model, max_tokens=METRICS_TOKENS)
        RECORD.mkdir(parents=True, exist_ok=True)
        run.history.to_csv(RECORD / f"w{width}-s{seed}.csv", index=False, float_format="%.6g")
        record = {
            "width": width,
            "seed": seed,
            "k": K,
            "epochs": EPOCHS,
            "train_rows": len(train_acts),
            "test_rows": len(test_acts),
            "seconds_of_last_call": round(seconds),
            "torch": torch.__version__,
            "machine": f"{platform.machine()}, {torch.get_num_threads()} threads",
            "metrics": {name: round(float(value), 6) for name, value in metrics["value"].items()},
        }
        (RECORD / f"w{width}-s{seed}.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        print(json.dumps(record["metrics"], indent=1))
        write_table()


if __name__ == "__main__":
    main()
