"""`stream`: rows for training that are made while they are used, and stored nowhere.

What a run needs to know of all rows (their mean and scale, rows for the first weights and for thresholds) it takes
from a sample: the first rows of the texts, which are made once, before training.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Generator, Iterable
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from sae_lab._errors import BadInput
from sae_lab._progress import Progress
from sae_lab.activations._array import short_hash
from sae_lab.activations._corpus import CorpusReader, check_inputs, corpus_name
from sae_lab.activations._manifest import installed_versions
from sae_lab.activations._mixing import Mixer
from sae_lab.activations._passes import Passes
from sae_lab.activations._settings import check_settings
from sae_lab.activations._shards import Shard
from sae_lab.activations._store import Activations

SAMPLE_ROWS = 32_768  # for scale, first weights and thresholds; no more than the buffer's


def stream(
    model: Any,
    texts: Iterable[Any],
    *,
    site: str,
    buffer_rows: int = 131_072,
    context_length: int = 256,
    packing: str = "documents",
    skip_first: int = 1,
    dtype: str = "float32",
    batch_tokens: int | str = "auto",
    seed: int = 0,
    progress: bool = True,
) -> ActivationStream:
    """Activations for `sl.train` that are made while it runs, and stored nowhere.

    Rows go through a buffer that is shuffled again and again: a thread runs the model and fills places of the buffer
    while rows of the other places are trained on. The order depends on texts and seeds only, so the same call trains
    the same SAE bit for bit on one machine, and `sl.resume(path, sl.stream(...))` with the same arguments ends as if
    the run had not been interrupted; it makes again only the rows that the buffer held. When a run asks for more rows
    than the texts have, they are read again, in another mixture.

    A shuffle in a buffer mixes less well than one over stored rows: a batch has rows of the last few `buffer_rows`
    rows. Where the rows fit on disk, or will be used more than once, `sl.harvest` is better and sooner done.

    Parameters
    ----------
    model
        A `Model`, from `sl.load_model`.
    texts
        Documents, as for `harvest`; something that can be read from the beginning more than once, and then gives
        the same: a list, a corpus, a data set, but not a generator.
    site
        Where to read: "layers.9".
    buffer_rows
        Rows in the buffer, at least two batches; each takes 4 bytes times the width of the site (2 with
        dtype="float16"). It is all that is held of the rows, but for a sample and the batches under way.
    context_length, packing, skip_first, batch_tokens, seed
        As in `harvest`.
    dtype
        Type of the rows in the buffer. With "float16", values that it cannot hold are an error.
    progress
        Whether to show progress while the sample is made: the first rows, which decide the scale.

    Returns
    -------
    ActivationStream
        For `train`, also with a list of configs, and `resume`. The model has not run yet.

    Raises
    ------
    BadInput
        Texts, settings or a site that cannot be used.
    """
    check_inputs(model, texts)
    if iter(texts) is texts:
        raise BadInput(
            f"texts is a {type(texts).__name__}, which can be read only once: give a list, or a data set that can be "
            f"read again from its beginning"
        )
    if not isinstance(site, str):
        raise BadInput(f"site={site!r} cannot be used: a stream reads one site, such as 'layers.9'")
    if isinstance(buffer_rows, bool) or not isinstance(buffer_rows, int) or buffer_rows < 2:
        raise BadInput(f"buffer_rows={buffer_rows!r} cannot be used: give a whole number of at least two batches")
    settings = check_settings(
        model,
        context_length=context_length,
        packing=packing,
        skip_first=skip_first,
        dtype=dtype,
        batch_tokens=batch_tokens,
        seed=seed,
    )
    alias = model.site(site).alias
    d_in = model.activations([[0]], [alias])[alias][0].shape[1]
    return ActivationStream(Passes(model, texts, alias, d_in, settings), buffer_rows, progress)


class ActivationStream:
    """Rows of one site that are made while they are used: see `sl.stream`.

    Attributes
    ----------
    d_in
        Width of a row.
    model, site
        Where the rows come from.
    buffer_rows
        How many rows are shuffled together.
    metadata
        What is read and how, as in `Activations.metadata`.
    path
        None: nothing is stored.
    """

    path = None

    def __init__(self, passes: Passes, buffer_rows: int, progress: bool):
        self._passes = passes
        self._progress = progress
        self.buffer_rows = buffer_rows
        self.d_in = passes.d_in
        self.model: str = passes.model.identity
        self.site = passes.alias
        settings = passes.settings.as_dict()
        settings["model_dtype"] = str(passes.model.dtype).removeprefix("torch.")
        self.metadata: dict[str, Any] = {"model": self.model, "site": self.site, **settings}
        self.metadata |= {"corpus": corpus_name(passes.texts), "buffer_rows": buffer_rows}
        self.metadata["versions"] = installed_versions()

    def __len__(self) -> int:
        """Rows in one pass over the texts; counting them means to read and tokenise all texts, once."""
        if self._passes.length is None:
            for _ in self._passes.one():
                pass
        assert self._passes.length is not None
        return self._passes.length

    @property
    def sources(self) -> tuple[dict[str, Any], ...]:
        """What stands in the columns, as in `Activations.sources`."""
        return ({"name": self.site, "model": self.model, "site": self.site, "width": self.d_in},)

    @cached_property
    def sample(self) -> Activations:
        """The first rows, at most 32,768 and a batch, stored in memory: what scale and thresholds are taken from."""
        wanted = min(SAMPLE_ROWS, self.buffer_rows)
        found: list[Tensor] = []
        batches = self._passes.one()
        with Progress(wanted, f"streaming {self.site}: first rows", "tokens", enabled=self._progress) as bar:
            for batch in batches:
                found.append(self._passes.rows(batch))
                bar.advance(batch.n_rows)
                if batch.end_row >= wanted:
                    break
            next(batches, None)  # whether that was all
        self._passes.known = torch.cat(found)
        rows = Shard.in_memory({"activations": self._passes.known.numpy()})
        return Activations([rows], self.d_in, metadata=self.metadata, vocabulary={})

    @property
    def mean(self) -> Tensor:
        """Mean row of the sample, (d_in,) float32."""
        return self.sample.mean

    @property
    def mean_sq_norm(self) -> float:
        """Mean squared norm of the rows of the sample."""
        return self.sample.mean_sq_norm

    @property
    def mean_squares(self) -> Tensor:
        """Mean square of each column of the sample, (d_in,) float64."""
        return self.sample.mean_squares

    @cached_property
    def fingerprint(self) -> str:
        """Short hash of model, site, settings, and the texts as far as the sample reads them."""
        reader, wanted = CorpusReader(self._passes.texts), min(SAMPLE_ROWS, self.buffer_rows)
        for batch in itertools.takewhile(lambda batch: batch.first_row < wanted, self._passes.one()):
            documents = batch.corpus.documents
        state = reader.read_to(documents)
        known = {key: value for key, value in self.metadata.items() if key not in ("versions", "corpus")}
        return short_hash(json.dumps([known, *state[:2]], sort_keys=True).encode())

    def batches(
        self,
        batch_size: int = 4096,
        *,
        seed: int = 0,
        epochs: int | None = 1,
        drop_last: bool = True,
        skip: int = 0,
        stopped: Callable[[], bool] = lambda: False,
    ) -> Generator[Tensor, None, None]:
        """Yield batches of rows, mixed by the buffer; the model runs in a thread that ends with the iterator.

        Parameters
        ----------
        batch_size
            Rows in a batch, at most half of `buffer_rows`.
        seed
            Decides the order.
        epochs
            How many passes over the texts; None never ends.
        drop_last
            True leaves out the rows at the end of the last pass that do not fill a batch. Those of other passes are
            mixed into the next one.
        skip
            Leave out so many batches at the beginning. The texts are tokenised as far as they reach; the model runs
            only for those of their rows that the buffer holds after them.
        stopped
            Asked now and then; once it says True, the batches end.

        Yields
        ------
        Tensor (batch_size, d_in), float32, on the CPU
            A new one each time.
        """
        self.check(batch_size)
        mixer = Mixer(self._passes, self.buffer_rows, batch_size=batch_size, seed=seed, epochs=epochs, stopped=stopped)
        return mixer.run(skip, drop_last=drop_last)

    def least_rows(self, batch_size: int) -> int:
        """Rows in a pass where the sample has seen them all; else some number that is enough for a batch."""
        seen = len(self.sample)
        return self._passes.length or max(seen, batch_size)

    def check(self, batch_size: int) -> None:
        """Raise `BadInput` where the buffer does not hold two batches."""
        if batch_size < 1:
            raise BadInput(f"batch_size={batch_size} cannot be used: give a positive number")
        if 2 * batch_size > self.buffer_rows:
            raise BadInput(
                f"buffer_rows={self.buffer_rows:,} is less than two batches of {batch_size:,} rows: stream with "
                f"buffer_rows={max(16 * batch_size, 2):,}, or train with a smaller batch_size"
            )

    def __repr__(self) -> str:
        return f"ActivationStream({self.site} of {self.model}, d_in={self.d_in}, buffer of {self.buffer_rows:,} rows)"
