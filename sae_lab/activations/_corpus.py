"""Reading documents one after the other, in bounded memory, with a running checksum.

The checksum over the documents read so far is stored with the rows: when a harvest is resumed, other
texts under the same path are recognised before the model runs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from sae_lab._errors import BadInput

# One tokeniser call takes this many documents or characters, whichever is reached first.
CHUNK_DOCUMENTS = 64
CHUNK_CHARACTERS = 1_000_000


class CorpusState(NamedTuple):
    """How far the texts were read: a count, the checksum of what was read, and whether that was the end."""

    documents: int
    sha256: str
    exhausted: bool


def check_inputs(model: Any, texts: Any) -> None:
    """Raise `BadInput` for what is no model or no collection of documents, before anything is read."""
    if isinstance(model, str):
        raise BadInput(f"model is a name: load it first, model = sl.load_model({model!r})")
    if isinstance(texts, str | bytes):
        raise BadInput("texts is one string: give a list of documents, [text] for a single one")
    if isinstance(texts, Mapping):
        raise BadInput(
            f"texts is a {type(texts).__name__}, a mapping with the keys {', '.join(map(repr, list(texts)[:5]))}: "
            f"give one of its values, a list of documents"
        )
    if not isinstance(texts, Iterable) and not hasattr(texts, "__getitem__"):
        raise BadInput(f"texts is a {type(texts).__name__}: give a list of documents (strings)")
    if hasattr(texts, "__len__") and len(texts) == 0:
        raise BadInput("texts is empty: give at least one document")
    if isinstance(texts, list | tuple):  # quick to look through; lazy collections are checked while they are read
        for index, item in enumerate(texts):
            document_text(index, item)


def document_text(index: int, item: Any) -> str:
    """The text of one item of a collection: the item itself, or the field "text" of a row of a data set."""
    if isinstance(item, str):
        return item
    if isinstance(item, Mapping):
        if isinstance(item.get("text"), str):
            return item["text"]
        raise BadInput(
            f"texts[{index}] is a row with the fields {', '.join(map(repr, list(item)[:5]))} and no string under "
            f"'text': give a list of strings"
        )
    raise BadInput(f"texts[{index}] is a {type(item).__name__}, not a string: give a list of strings")


def corpus_name(texts: Any) -> str | None:
    """The name that a collection of documents carries, if it has one."""
    name = getattr(texts, "name", None)
    return name if isinstance(name, str) else None


class CorpusReader:
    """Reads a collection of documents once, from its beginning."""

    def __init__(self, texts: Iterable[Any]):
        self._items: Iterator[Any] = iter(texts)
        self._hash = hashlib.sha256()
        self.documents = 0
        self.exhausted = False

    @property
    def state(self) -> CorpusState:
        """How far the reader is."""
        return CorpusState(self.documents, self._hash.copy().hexdigest(), self.exhausted)

    def chunk(self) -> list[str]:
        """The next few documents; empty at the end."""
        texts: list[str] = []
        characters = 0
        while len(texts) < CHUNK_DOCUMENTS and characters < CHUNK_CHARACTERS:
            text = self._next()
            if text is None:
                break
            texts.append(text)
            characters += len(text)
        return texts

    def read_to(self, documents: int) -> CorpusState:
        """Read on until `documents` were read, or the end is reached."""
        while self.documents < documents and self._next() is not None:
            pass
        return self.state

    def at_end(self) -> bool:
        """Whether nothing is left; reads one more document to find out."""
        return self._next() is None

    def _next(self) -> str | None:
        try:
            item = next(self._items)
        except StopIteration:
            self.exhausted = True
            return None
        text = document_text(self.documents, item)
        data = text.encode("utf-8", "surrogatepass")
        self._hash.update(len(data).to_bytes(8, "little"))
        self._hash.update(data)
        self.documents += 1
        return text
