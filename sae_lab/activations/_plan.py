"""The plan of a harvest: which token sequences run in which batch, in which order.

A pure function of the texts and the settings, made lazily: documents are tokenised a window at a time,
the sequences of a window are sorted by length so that little is spent on padding, cut into batches, and
the batches are put in a random order (that of `seed`). Without that last step a harvest that stops at
`max_tokens` would hold mostly short documents. Rows are stored in the order of the plan, so how far a
harvest came is one number, and a resumed one makes the same batches again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from sae_lab.activations._corpus import CorpusReader, CorpusState
from sae_lab.activations._settings import Settings

# Tokens in a window, in batches: enough to sort by length, little enough to start at once.
WINDOW_BATCHES = 32


@dataclass(frozen=True)
class TokenSequence:
    """One run of tokens that the model reads at once.

    `documents` is the index of the document of each position; one number where all have the same.
    """

    ids: list[int]
    documents: int | np.ndarray


@dataclass(frozen=True)
class Batch:
    """Sequences that run together, and where their rows stand in the store.

    `corpus` says how far the texts were read for the window of this batch, `window_end` how many rows there
    are up to the end of that window.
    """

    sequences: list[TokenSequence]
    first_sequence: int
    first_row: int
    n_rows: int
    corpus: CorpusState
    window_end: int

    @property
    def end_row(self) -> int:
        """The row after the last one of this batch."""
        return self.first_row + self.n_rows

    @property
    def ids(self) -> list[list[int]]:
        """The token ids, one list a sequence."""
        return [sequence.ids for sequence in self.sequences]


def plan(
    reader: CorpusReader, tokenize: Callable[[list[str]], list[list[int]]], settings: Settings, eos: int | None
) -> Iterator[Batch]:
    """Yield the batches of a harvest.

    Parameters
    ----------
    reader
        The documents, at their beginning.
    tokenize
        Token ids of several texts.
    settings
        The settings of the harvest.
    eos
        Id of the token between documents when `settings.packing` is "blocks".
    """
    cut = (
        _blocks(reader, tokenize, settings, eos)
        if settings.packing == "blocks"
        else _windows(reader, tokenize, settings)
    )
    first_sequence = first_row = 0
    for number, (sequences, corpus) in enumerate(_macro_windows(cut, reader, settings)):
        window_end = first_row + sum(len(sequence.ids) - settings.skip_first for sequence in sequences)
        for batch in _batches(sequences, settings, number):
            n_rows = sum(len(sequence.ids) - settings.skip_first for sequence in batch)
            yield Batch(batch, first_sequence, first_row, n_rows, corpus, window_end)
            first_sequence += len(batch)
            first_row += n_rows


def _windows(
    reader: CorpusReader, tokenize: Callable[[list[str]], list[list[int]]], settings: Settings
) -> Iterator[TokenSequence]:
    """Packing "documents": successive windows of each document."""
    length = settings.context_length
    while texts := reader.chunk():
        first = reader.documents - len(texts)
        for document, ids in enumerate(tokenize(texts), start=first):
            for start in range(0, len(ids), length):
                if len(ids) - start > settings.skip_first:  # otherwise no row of it is kept
                    yield TokenSequence(list(ids[start : start + length]), document)


def _blocks(
    reader: CorpusReader, tokenize: Callable[[list[str]], list[list[int]]], settings: Settings, eos: int | None
) -> Iterator[TokenSequence]:
    """Packing "blocks": documents back to back, an end-of-text token between two, cut to equal length."""
    assert eos is not None
    length = settings.context_length
    ids: list[int] = []
    documents: list[int] = []
    while texts := reader.chunk():
        first = reader.documents - len(texts)
        for document, new in enumerate(tokenize(texts), start=first):
            if not new:
                continue
            if documents and ids[-1] != eos:
                ids.append(eos)
                documents.append(documents[-1])  # the separator belongs to the document it ends
            ids.extend(new)
            documents.extend([document] * len(new))
            # Strictly more than one block is kept back, so that the separator sees the token before it.
            start = 0
            while len(ids) - start > length:
                yield TokenSequence(ids[start : start + length], np.array(documents[start : start + length], np.int32))
                start += length
            del ids[:start], documents[:start]
    if len(ids) > settings.skip_first:
        yield TokenSequence(ids, np.array(documents, np.int32))


def _macro_windows(
    sequences: Iterator[TokenSequence], reader: CorpusReader, settings: Settings
) -> Iterator[tuple[list[TokenSequence], CorpusState]]:
    """Group sequences into windows of about WINDOW_BATCHES batches, with the state of the corpus at each."""
    window: list[TokenSequence] = []
    tokens = 0
    for sequence in sequences:
        window.append(sequence)
        tokens += len(sequence.ids)
        if tokens >= WINDOW_BATCHES * settings.batch_tokens:
            yield window, reader.state
            window, tokens = [], 0
    if window:
        yield window, reader.state


def _batches(sequences: list[TokenSequence], settings: Settings, number: int) -> list[list[TokenSequence]]:
    """Cut a window into batches of at most `batch_tokens` padded tokens, in the random order of the seed."""
    batches: list[list[TokenSequence]] = []
    batch: list[TokenSequence] = []
    for sequence in sorted(sequences, key=lambda sequence: len(sequence.ids)):
        # Ascending lengths: the newcomer is the longest, so it decides the padded size.
        if batch and (len(batch) + 1) * len(sequence.ids) > settings.batch_tokens:
            batches.append(batch)
            batch = []
        batch.append(sequence)
    batches.append(batch)
    order = np.random.default_rng([settings.seed, number]).permutation(len(batches))
    return [batches[i] for i in order]
