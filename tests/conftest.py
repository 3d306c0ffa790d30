"""Tiny random models of three families and a home-made tokenizer, all built offline in a second."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import signal
from pathlib import Path

import pytest

# A shell starts its background jobs with Ctrl-C ignored, and children inherit that; the tests press Ctrl-C.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

TEXT = "the cat sat on mat and dog ran to house with red blue green small big old new very it was a is of in"
WORDS = TEXT.split()


def _tokenizer():
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        special_tokens=["<|end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator([" ".join(WORDS)] * 20, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<|end|>", pad_token="<|end|>", bos_token="<|end|>")


def _causal_model(family: str, vocab: int):
    import torch
    from transformers import AutoModelForCausalLM, GPT2Config, GPTNeoXConfig, LlamaConfig

    common = {"vocab_size": vocab, "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}
    configs = {
        "llama": lambda: LlamaConfig(
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=4,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=256,
            tie_word_embeddings=True,
            **common,
        ),
        "gpt2": lambda: GPT2Config(n_embd=32, n_layer=4, n_head=4, n_positions=256, **common),
        "neox": lambda: GPTNeoXConfig(
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=4,
            num_attention_heads=4,
            max_position_embeddings=256,
            **common,
        ),
    }
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(configs[family]())
    return model.eval()


@pytest.fixture(scope="session")
def tiny_folders(tmp_path_factory) -> dict[str, Path]:
    """Folders of tiny random causal models, by family: llama, gpt2, neox."""
    tokenizer = _tokenizer()
    folders = {}
    for family in ("llama", "gpt2", "neox"):
        folder = tmp_path_factory.mktemp("models") / f"tiny-{family}"
        _causal_model(family, len(tokenizer)).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        folders[family] = folder
    return folders


@pytest.fixture(scope="session")
def tiny_model(tiny_folders):
    """A `Model` over the tiny Llama: 4 layers, width 32."""
    import sae_lab as sl

    return sl.load_model(tiny_folders["llama"])


@pytest.fixture(scope="session")
def tiny_texts() -> list[str]:
    """Sixty short documents of known words, of different lengths."""
    import random

    rng = random.Random(0)
    return [" ".join(rng.choice(WORDS) for _ in range(rng.randint(3, 60))) for _ in range(60)]
