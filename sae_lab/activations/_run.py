"""One run of harvest: batches of the plan through the model into the writers.

The loop skips what an earlier call has stored, checks what the model gives and that the texts are still the
same, and ends well whatever happens: at `max_tokens`, at the end of the texts, on Ctrl-C, on an error.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterable, Sized
from typing import Any

import torch
from torch import Tensor

from sae_lab._errors import BadInput, Mismatch, SaeLabError
from sae_lab._interrupt import stop_on_interrupt
from sae_lab._memory import OutOfMemory, is_memory_error
from sae_lab._progress import Progress
from sae_lab.activations._corpus import CorpusReader, CorpusState
from sae_lab.activations._manifest import installed_versions
from sae_lab.activations._plan import Batch, plan
from sae_lab.activations._rows import Provenance, provenance
from sae_lab.activations._settings import Settings, end_of_text
from sae_lab.activations._writer import ShardWriter


class Run:
    """One call of harvest over its writers, one a site."""

    def __init__(
        self,
        model: Any,
        texts: Iterable[Any],
        settings: Settings,
        writers: dict[str, ShardWriter],
        max_tokens: int | None,
        progress: bool,
    ):
        self.model = model
        self.texts = texts
        self.settings = settings
        self.writers = writers
        self.max_tokens = max_tokens
        self.progress = progress
        self.waiting = {alias: writer for alias, writer in writers.items() if self._wants_more(writer)}
        self.begun = {alias: (writer.rows, writer.corpus) for alias, writer in self.waiting.items()}

    def run(self) -> None:
        """Bring every writer to `max_tokens` rows or to the end of the texts."""
        settled = [writer for alias, writer in self.writers.items() if alias not in self.waiting]
        _check_same_texts(self.texts, settled, alone=not self.waiting)
        for writer in settled:
            if not writer.complete and writer.rows == self.max_tokens:  # killed between the last shard and the end
                writer.finish(self.max_tokens, writer.corpus)
        if not self.waiting:
            return
        _warn_of_versions(self.waiting.values())
        for writer in self.waiting.values():
            if writer.complete:
                writer.reopen()
        title = f"harvesting {', '.join(self.waiting)}"
        with Progress(self.max_tokens, title, "tokens", enabled=self.progress) as bar:
            bar.start_at(min(writer.rows for writer in self.waiting.values()))
            try:
                stopped = self._loop(bar)
            except KeyboardInterrupt:  # the second Ctrl-C: what is on disk is valid as it is, what is in memory is kept
                stopped = True
                for writer in self.waiting.values():
                    if writer.folder is None:
                        writer.flush()
            except BaseException:
                with contextlib.suppress(SaeLabError, OSError):  # the first error is the one to report
                    self._flush()
                raise
        if stopped:
            self._say_stopped()

    def _loop(self, bar: Progress) -> bool:
        """Work until all is done (False) or somebody asks to stop (True)."""
        reader = CorpusReader(self.texts)
        batches = plan(reader, self.model.tokenize, self.settings, end_of_text(self.model))
        rows = 0
        with stop_on_interrupt() as request:
            for batch in batches:
                rows = batch.end_row
                self._check_begun(batch)
                self._expect(bar, batch)
                bar.advance(self._take(batch))
                if self.max_tokens is not None and batch.end_row >= self.max_tokens:
                    self._finish(batch.corpus)
                    return False
                if request.asked:
                    self._flush()
                    return True
        self._check_ended(rows)
        self._finish(reader.state)
        return False

    def _take(self, batch: Batch) -> int:
        """Run a batch for the writers that need rows of it; return how many rows are new to all of them."""
        end = batch.end_row if self.max_tokens is None else min(batch.end_row, self.max_tokens)
        needy = {alias: writer for alias, writer in self.waiting.items() if writer.rows < end}
        if not needy:
            return 0
        before = min(writer.rows for writer in needy.values())
        found, slopes = self._rows(batch, list(needy))
        rows = provenance(batch, self.settings.skip_first, self.model.special_ids)
        for alias, writer in needy.items():
            begin = writer.rows - batch.first_row
            kept = self._kept(found[alias])
            if slopes is not None:
                gradients = self._kept(slopes[alias]).float()
                kept = torch.cat([kept.float(), gradients * writer.gradient_factor(gradients)], dim=1)
            kept = kept[begin : end - batch.first_row]
            part = rows.part(begin, end - batch.first_row)
            writer.add(kept, part, peak(kept, part, alias), batch.corpus)
        return end - before

    def _rows(self, batch: Batch, sites: list[str]) -> tuple[dict[str, list[Tensor]], dict[str, list[Tensor]] | None]:
        """What the model gives at the sites, and the gradients there where they are wanted."""
        try:
            if self.settings.gradients:
                return self.model.gradients(batch.ids, sites)
            return self.model.activations(batch.ids, sites), None
        except (MemoryError, RuntimeError) as error:
            if not is_memory_error(error):
                raise
            tokens = self.settings.batch_tokens
            smaller = f"batch_tokens={tokens // 2}" if tokens > 1 else "a smaller context_length"
            raise OutOfMemory(
                f"a batch of {tokens:,} tokens does not fit into the memory of {self.model.device}: free some memory "
                f"and make the same call again, which goes on where a path was given; or harvest anew with {smaller}"
            ) from error

    def _kept(self, values: list[Tensor]) -> Tensor:
        return torch.cat([x[self.settings.skip_first :] for x in values])

    def _expect(self, bar: Progress, batch: Batch) -> None:
        """Where no number of rows was asked for, say how many the texts will probably give."""
        if self.max_tokens is None and isinstance(self.texts, Sized):
            bar.expect(round(batch.window_end * len(self.texts) / batch.corpus.documents))

    def _wants_more(self, writer: ShardWriter) -> bool:
        if not writer.complete:
            return self.max_tokens is None or writer.rows < self.max_tokens
        # A complete store can go on only where max_tokens cut it off; otherwise its texts were at their end.
        return writer.rows == writer.manifest["max_tokens"] and (
            self.max_tokens is None or writer.rows < self.max_tokens
        )

    def _check_begun(self, batch: Batch) -> None:
        """Compare the texts with those of an earlier call, at the batch in which it stopped."""
        for alias, (rows, corpus) in self.begun.items():
            if batch.first_row < rows <= batch.end_row and batch.corpus != corpus:
                raise _other_texts(self.writers[alias], corpus)

    def _check_ended(self, rows: int) -> None:
        """See at the end of the texts that there was something, and as much as an earlier call had."""
        if rows == 0:
            raise BadInput(
                f"no document is longer than skip_first={self.settings.skip_first} tokens, so there is no row to keep: "
                f"give longer texts or a smaller skip_first"
            )
        for alias, (begun, corpus) in self.begun.items():
            if begun > rows:
                raise _other_texts(self.writers[alias], corpus)
        if self.max_tokens is not None:
            warnings.warn(f"the texts hold {rows:,} rows, fewer than max_tokens={self.max_tokens:,}", stacklevel=4)

    def _finish(self, corpus: CorpusState) -> None:
        for writer in self.waiting.values():
            writer.finish(self.max_tokens, corpus)

    def _flush(self) -> None:
        for writer in self.waiting.values():
            writer.flush()

    def _say_stopped(self) -> None:
        rows = min(writer.rows for writer in self.waiting.values())
        if rows == 0:
            raise KeyboardInterrupt
        folder = next(iter(self.waiting.values())).folder
        where = (
            f"{folder} holds a valid beginning; make the same call again to go on"
            if folder
            else ("they are in memory only; give a path to be able to go on")
        )
        of = "" if self.max_tokens is None else f" of {self.max_tokens:,}"
        warnings.warn(f"the harvest was stopped at {rows:,}{of} rows: {where}", stacklevel=4)


def peak(values: Tensor, rows: Provenance, alias: str) -> float:
    """The largest magnitude; NaN and inf are an error that says where they stand."""
    low, high = torch.aminmax(values)
    peak = max(-float(low), float(high))
    if peak < float("inf"):  # false for NaN too: aminmax hands NaN on
        return peak
    row = int((~torch.isfinite(values)).any(dim=1).int().argmax())
    raise BadInput(
        f"the model gives NaN or inf at {alias}, in document {rows.columns['documents'][row]} at position "
        f"{rows.columns['positions'][row]} of its sequence: load the model in float32 (or bfloat16), or leave that "
        f"document out"
    )


def _check_same_texts(texts: Iterable[Any], writers: list[ShardWriter], *, alone: bool) -> None:
    """Raise `Mismatch` when finished stores were made of other texts; reads as many documents as they did."""
    if not alone and iter(texts) is texts:
        return  # texts that can be read only once are left to the writers that need them
    reader = CorpusReader(texts)
    for writer in sorted(writers, key=lambda writer: writer.corpus.documents):
        if reader.read_to(writer.corpus.documents)[:2] != writer.corpus[:2]:
            raise _other_texts(writer, writer.corpus)
    if writers and any(writer.corpus.exhausted for writer in writers) and not reader.at_end():
        raise _other_texts(writers[0], writers[0].corpus)


def _other_texts(writer: ShardWriter, corpus: CorpusState) -> Mismatch:
    count = f"all {corpus.documents:,}" if corpus.exhausted else f"the first {corpus.documents:,}"
    return Mismatch(
        f"{writer.folder} was harvested from other texts ({count} documents were read, and they differ from those "
        f"given now): give the same texts in the same order, or another path"
    )


def _warn_of_versions(writers: Iterable[ShardWriter]) -> None:
    now = installed_versions()
    for writer in writers:
        there = writer.manifest["versions"]
        changed = [f"{name} {there.get(name)} -> {now.get(name)}" for name in now if there.get(name) != now[name]]
        if changed and writer.rows:
            warnings.warn(
                f"{writer.folder} was begun with other versions ({', '.join(changed)}): the rows to come may differ in "
                f"their last digits from what those would have given",
                stacklevel=5,
            )
