"""The rows of a stream in the order of the harvest's plan, pass after pass over the texts, and what the model gives.

The plan is a pure function of the texts and the settings: which rows there are is known without running the model.
So a resumed run can find out which rows its buffer held, and run the model for these only.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sae_lab._errors import BadInput, Mismatch, SaeLabError
from sae_lab.activations._corpus import CorpusReader, CorpusState
from sae_lab.activations._plan import Batch, plan
from sae_lab.activations._rows import provenance
from sae_lab.activations._run import peak
from sae_lab.activations._settings import FLOAT16_MAX, Settings, end_of_text


class Passes:
    """Texts, a model and a site: batches of the plan, and their rows.

    Attributes
    ----------
    known
        The rows of the first batches of each pass, (n, d_in); these are not made again.
    length
        Number of rows in a pass, None until a pass was read to its end.
    """

    def __init__(self, model: Any, texts: Iterable[Any], alias: str, d_in: int, settings: Settings):
        self.model = model
        self.texts = texts
        self.alias = alias
        self.d_in = d_in
        self.settings = settings
        self.dtype = torch.float16 if settings.dtype == "float16" else torch.float32
        self.known = torch.empty((0, d_in), dtype=self.dtype)
        self.length: int | None = None
        self._end: CorpusState | None = None

    def one(self) -> Iterator[Batch]:
        """The batches of one pass over the texts."""
        reader = CorpusReader(self.texts)
        rows = 0
        for batch in plan(reader, self.model.tokenize, self.settings, end_of_text(self.model)):
            rows = batch.end_row
            yield batch
        if rows == 0:
            raise BadInput(
                f"no document is longer than skip_first={self.settings.skip_first} tokens, so there is no row to train "
                f"on: give longer texts or a smaller skip_first"
            )
        if self._end not in (None, reader.state):
            raise Mismatch(
                "the texts are not the same on each pass over them: give a list, or a data set that begins anew with "
                "the same documents"
            )
        self.length, self._end = rows, reader.state

    def many(self, count: int | None) -> Iterator[Batch | None]:
        """The batches of `count` passes, or of passes without end; None stands at the end of each."""
        number = 0
        while count is None or number < count:
            yield from self.one()
            yield None
            number += 1

    def rows(self, batch: Batch) -> Tensor:
        """The rows of a batch, (n, d_in) on the CPU in the stream's type."""
        if batch.end_row <= len(self.known):
            return self.known[batch.first_row : batch.end_row]
        try:
            found = self.model.activations(batch.ids, [self.alias])[self.alias]
            values = torch.cat([x[self.settings.skip_first :] for x in found])
        except SaeLabError:
            raise
        except Exception as error:  # whatever the model raises is told with what was read, and ends the run tidily
            documents = [int(np.min(sequence.documents)) for sequence in batch.sequences]
            raise SaeLabError(
                f"the model failed in documents {min(documents)} to {max(documents)}, {type(error).__name__}: {error}; "
                f"what was learned until then is kept. Out of memory, try a smaller batch_tokens than "
                f"{self.settings.batch_tokens}"
            ) from error
        largest = peak(values, provenance(batch, self.settings.skip_first, frozenset()), self.alias)
        if self.dtype == torch.float16 and largest > FLOAT16_MAX:
            raise BadInput(
                f"values up to {largest:.3g} at {self.alias} do not fit float16: stream with dtype='float32'"
            )
        return values.to("cpu", self.dtype)
