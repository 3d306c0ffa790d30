"""Blocks: named arrays with a header and a table of words, as one string of bytes for a widget's binary trait.

    words = Words()                                     # a table of the words shown, each stored once
    arrays = {"x": x.astype("<f4"), "word": small(np.array([words.number(text) for text in texts]))}
    data = block({"name": "anything JSON"}, arrays, words)        # bytes: set them as `data = binary()` of a Widget

In a page, where the class has `_parts = ("block", ...)`, `const {header, arrays} = await openBlock(model.get("data"))`
gives typed arrays, each with its `.shape`; `header.words[arrays.word[i]]` is a text, `slice(array, row)` one row.

A block is gzip over: the mark "SAEL", the length of a JSON header (uint32), the header, then plain little-endian
arrays, each starting at a multiple of 8. The header holds the table of words and, for each array, its name, type,
shape and place. Word 0 stands for "nothing there".
"""

from __future__ import annotations

import gzip
import json
from typing import Any

import numpy as np

TYPES = ("f4", "f8", "i4", "u1", "i1", "u2", "u4")  # what block.js reads


def block(header: dict[str, Any], arrays: dict[str, np.ndarray], words: Words | None = None) -> bytes:
    """Lay the header and the arrays one behind the other, each at a multiple of 8 bytes, and compress them.

    The same contents always give the same bytes.
    """
    places, at = [], 0
    for name, array in arrays.items():
        kind = array.dtype.newbyteorder("<").str[1:]
        if kind not in TYPES:
            raise TypeError(f"a page cannot read the type {array.dtype} of {name}: give one of {', '.join(TYPES)}")
        places.append({"name": name, "type": kind, "shape": list(array.shape), "at": at})
        at += -(-array.nbytes // 8) * 8
    # lone surrogates can stand in token strings: escaped, they are valid UTF-8 and come back as they were
    entries = {**header, "words": words.table if words else [""], "arrays": places}
    text = json.dumps(entries, separators=(",", ":"), allow_nan=False).encode()
    text += b" " * (-(len(text) + 8) % 8)
    parts = [b"SAEL", len(text).to_bytes(4, "little"), text]
    for array in arrays.values():
        raw = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<")).tobytes()
        parts.append(raw + b"\0" * (-len(raw) % 8))
    return gzip.compress(b"".join(parts), compresslevel=9, mtime=0)


class Words:
    """The table of words of one block; words are numbered as they come, from 1."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    @property
    def table(self) -> list[str]:
        return ["", *self._numbers]

    def number(self, text: str) -> int:
        """The number of `text` in the table, where it is put if it is new."""
        return self._numbers.setdefault(text, len(self._numbers) + 1)

    def of_ids(self, ids: np.ndarray, vocabulary: dict[int, str]) -> np.ndarray:
        """Numbers into the table for token ids of any shape; 0 for a negative id."""
        unique, place = np.unique(ids, return_inverse=True)
        numbers = np.array([self.number(vocabulary[int(i)]) if i >= 0 else 0 for i in unique], dtype=np.int64)
        return small(numbers[place].reshape(ids.shape))


def small(numbers: np.ndarray) -> np.ndarray:
    """Whole numbers from 0 as the smaller of uint16 and uint32 that holds them."""
    return numbers.astype("<u2" if numbers.max(initial=0) < 2**16 else "<u4")
