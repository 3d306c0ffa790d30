"""Tokens as people read them, and batches of unequal length."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch

from sae_lab._errors import BadInput

LOGITS_AT_ONCE = 2**25  # elements of (tokens, vocab) held for one pass with gradients: 128 MB in float32


class TokenStrings:
    r"""Display strings of token ids: one string a token, spaces kept, stray bytes made visible.

    A token that is part of a character only (byte-level vocabularies split characters) is shown as its bytes,
    such as `\xe2`, never as a replacement mark.
    """

    def __init__(self, tokenizer: Any):
        self._tokenizer = tokenizer
        self._known: dict[int, str] = {}

    def __call__(self, ids: Sequence[int]) -> list[str]:
        for token in {int(token) for token in ids} - self._known.keys():
            self._known[token] = self._string(token)
        return [self._known[int(token)] for token in ids]

    def _string(self, token: int) -> str:
        piece = self._tokenizer.convert_ids_to_tokens(token)
        if piece is None:
            return f"<{token}>"
        if "\u2581" in piece:  # SentencePiece marks a space so; decoding one token alone would drop it
            return piece.replace("\u2581", " ")
        text = self._tokenizer.decode([token], skip_special_tokens=False, clean_up_tokenization_spaces=False)
        if "\ufffd" not in text:
            return text
        if piece.startswith("<0x"):
            return f"\\x{piece[3:-1].lower()}"
        codes = [_BYTE_OF.get(char) for char in piece]
        return "".join(f"\\x{code:02x}" if code is not None else char for code, char in zip(codes, piece, strict=True))


def _byte_of() -> dict[str, int]:
    """Which byte each character of a byte-level vocabulary stands for (the GPT-2 convention)."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [byte for byte in range(256) if byte not in plain]
    return {chr(byte): byte for byte in plain} | {chr(256 + i): byte for i, byte in enumerate(hidden)}


_BYTE_OF = _byte_of()


def pad_right(batch: Sequence[Sequence[int]], pad: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Stack sequences of unequal length.

    Returns
    -------
    (ids, mask)
        Both (batch, longest); ids int64, mask bool, True where a token is real. Padding stands on the right, so
        that in a causal model no real token ever sees it and positions need no correction.
    """
    longest = max(len(ids) for ids in batch)
    ids = torch.full((len(batch), longest), pad, dtype=torch.int64)
    mask = torch.zeros((len(batch), longest), dtype=torch.bool)
    for row, sequence in enumerate(batch):
        ids[row, : len(sequence)] = torch.as_tensor(sequence, dtype=torch.int64)
        mask[row, : len(sequence)] = True
    return ids.to(device), mask.to(device)


def check_batch(batch: Sequence[Sequence[int]], vocab_size: int) -> None:
    """Refuse a batch that no model can take."""
    if not len(batch) or any(len(ids) == 0 for ids in batch):
        raise BadInput("a batch must hold at least one sequence, and no empty ones")
    highest = max(max(ids) for ids in batch)
    if highest >= vocab_size or min(min(ids) for ids in batch) < 0:
        raise BadInput(
            f"token ids must lie in 0..{vocab_size - 1}; found {highest}: were they made by another tokenizer?"
        )


def few_logits(batch: Sequence[Sequence[int]], vocab_size: int) -> Iterator[list[Sequence[int]]]:
    """Cut a batch, in its order, into parts whose padded logits stay small; a sequence is never cut."""
    room = max(LOGITS_AT_ONCE // vocab_size, 1)
    part: list[Sequence[int]] = []
    longest = 0
    for ids in batch:
        longest = max(longest, len(ids))
        if part and (len(part) + 1) * longest > room:
            yield part
            part, longest = [], len(ids)
        part.append(ids)
    yield part
