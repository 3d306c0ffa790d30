"""Activations that SAELens cached are read from where they lie, with their tokens, and checked."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import sae_lab as sl
from sae_lab._errors import BadInput, CorruptFile, Mismatch, MissingExtra

pa = pytest.importorskip("pyarrow")

GOLDEN = Path(__file__).parent / "golden" / "saelens_activations"
HOOK = "blocks.2.hook_resid_post"
FILE = "data-00001-of-00002.arrow"


@pytest.fixture
def folder(tmp_path):
    return Path(shutil.copytree(GOLDEN / "data", tmp_path / "data"))


def rewrite(folder: Path, x: np.ndarray, tokens: np.ndarray | None, hooks: tuple[str, ...] = (HOOK,)) -> None:
    """Put other columns into the second file."""
    columns = {hook: pa.array(x.tolist(), type=pa.list_(pa.list_(pa.from_numpy_dtype(x.dtype)))) for hook in hooks}
    if tokens is not None:
        columns["token_ids"] = pa.array(tokens.tolist(), type=pa.list_(pa.from_numpy_dtype(tokens.dtype)))
    batch = pa.record_batch(columns)
    with pa.OSFile(str(folder / FILE), "wb") as sink, pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)


def test_rows_and_tokens_are_those_that_saelens_wrote():
    acts, expected = sl.read_saelens_activations(GOLDEN / "data"), load_file(GOLDEN / "expected.safetensors")
    torch.testing.assert_close(acts.tensor(), expected["x"], rtol=0, atol=0)
    np.testing.assert_array_equal(acts.tokens, expected["tokens"])
    np.testing.assert_array_equal(acts.positions, np.tile(np.arange(5), 6))
    np.testing.assert_array_equal(acts.sequences, np.repeat(np.arange(6), 5))
    assert (acts.site, acts.metadata["hook"], acts.metadata["context_length"]) == ("layers.2", HOOK, 5)
    np.testing.assert_array_equal(acts.sequence_tokens(4), expected["tokens"][20:25])
    torch.testing.assert_close(acts[[29, 3, 16]], expected["x"][[29, 3, 16]], rtol=0, atol=0)


def test_they_work_as_any_activations_do():
    acts = sl.read_saelens_activations(GOLDEN / "data")
    rest, held = acts.split(0.3, seed=1)
    assert len(rest) + len(held) == 30
    assert not set(rest.sequences) & set(held.sequences)
    batches = torch.cat(list(acts.batches(10, seed=2)))
    torch.testing.assert_close(batches.sum(0), acts.tensor().sum(0))
    assert acts.fingerprint == sl.read_saelens_activations(GOLDEN / "data").fingerprint


def test_a_model_gives_the_tokens_their_strings():
    model = SimpleNamespace(identity="toy", token_strings=lambda ids: [f" {i}" for i in ids])
    acts = sl.read_saelens_activations(GOLDEN / "data", model=model)
    assert acts.model == "toy"
    assert acts.token_strings(acts.tokens[:2]) == [f" {i}" for i in acts.tokens[:2]]

    def unknown(ids):
        raise IndexError("id 299")

    with pytest.raises(Mismatch, match="'toy' does not know"):
        sl.read_saelens_activations(GOLDEN / "data", model=SimpleNamespace(identity="toy", token_strings=unknown))


def test_half_precision_and_missing_tokens_are_read(folder):
    state = json.loads((folder / "state.json").read_text())
    state["_data_files"] = state["_data_files"][1:]
    (folder / "state.json").write_text(json.dumps(state))
    x = np.random.default_rng(0).normal(size=(3, 5, 4)).astype(np.float16)
    rewrite(folder, x, None)
    acts = sl.read_saelens_activations(folder)
    assert acts.dtype == torch.float16
    np.testing.assert_array_equal(acts.tensor().numpy(), x.reshape(15, 4).astype(np.float32))
    with pytest.raises(BadInput, match="no tokens"):
        _ = acts.tokens
    rewrite(folder, x.astype(np.float64), None)
    np.testing.assert_allclose(sl.read_saelens_activations(folder).tensor(), x.reshape(15, 4), rtol=1e-6)


def test_a_bad_dataset_names_the_column_and_what_was_expected(folder):
    x, tokens = np.zeros((3, 5, 4), np.float32), np.zeros((3, 5), np.int32)

    def refused(message: str, error=CorruptFile) -> None:
        with pytest.raises(error, match=message):
            sl.read_saelens_activations(folder)

    bad = x.copy()
    bad[1, 2, 0] = np.nan
    rewrite(folder, bad, tokens)
    refused(f"{FILE}: column '{HOOK}' holds NaN or infinity at sequence 4, position 2")
    assert len(sl.read_saelens_activations(folder, verify=False)) == 30
    rewrite(folder, x[:, :4], tokens)
    refused(f"column '{HOOK}' is .*, expected 5 x 4 numbers")
    rewrite(folder, x, tokens[:, :4])
    refused("column 'token_ids' is .*, expected 5 numbers")
    rewrite(folder, x.astype(np.int64), tokens)
    refused("holds torch.int64, expected floating-point numbers")
    rewrite(folder, x, tokens, hooks=("blocks.3.hook_resid_post",))
    refused(f"no column '{HOOK}'; it holds blocks.3.hook_resid_post, token_ids")
    (folder / FILE).write_bytes((GOLDEN / "data" / FILE).read_bytes()[:-300])
    refused(f"{FILE} is damaged")
    (folder / FILE).unlink()
    refused(f"{FILE} is missing")
    (folder / "state.json").write_text("{}")
    refused("no list '_data_files'")
    info = json.loads((folder / "dataset_info.json").read_text())
    info["features"][HOOK]["shape"] = [5]
    (folder / "dataset_info.json").write_text(json.dumps(info))
    refused(r"the shape of '.*' is \[5\], expected \[context, d_in\]")
    (folder / "state.json").unlink()
    refused("no dataset of activations", BadInput)


def test_one_of_several_hooks_has_to_be_named(folder):
    with pytest.raises(BadInput, match=f"no hook 'x' in .*: there is {HOOK}"):
        sl.read_saelens_activations(folder, hook="x")
    info = json.loads((folder / "dataset_info.json").read_text())
    info["features"]["blocks.3.hook_resid_post"] = info["features"][HOOK]
    (folder / "dataset_info.json").write_text(json.dumps(info))
    with pytest.raises(BadInput, match=f"say which hook of .*: there is {HOOK}, blocks.3"):
        sl.read_saelens_activations(folder)
    assert len(sl.read_saelens_activations(folder, hook=HOOK)) == 30


def test_without_pyarrow_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtra, match=r"sae-lab\[arrow\]"):
        sl.read_saelens_activations(GOLDEN / "data")
