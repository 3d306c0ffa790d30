"""Golden of a feature record's keys, from the classes that define it: `pip install sae-dashboard==0.8.0`.

Run `python make_neuronpedia.py`; with a folder that we wrote, it reads its batches with those classes instead.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from make_references import HERE
from sae_dashboard.neuronpedia.neuronpedia_dashboard import NeuronpediaDashboardBatch


def main() -> None:
    batch = NeuronpediaDashboardBatch(features=[{"activations": [{"tokens": ["a"], "values": [1.0]}]}])
    (HERE / "neuronpedia").mkdir(exist_ok=True)
    (HERE / "neuronpedia" / "empty-batch.json").write_text(json.dumps(batch.to_dict(), indent=1))


def check(folder: Path) -> None:
    for file in sorted(folder.glob("batch-*.json")):
        told = json.loads(file.read_text())
        batch = NeuronpediaDashboardBatch(**told)
        assert batch.to_dict() == told, file
        print(file.name, len(batch.features), "features,", sum(len(f.activations) for f in batch.features), "examples")


if __name__ == "__main__":
    check(Path(sys.argv[1])) if len(sys.argv) > 1 else main()
