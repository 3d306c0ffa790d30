"""`harvest`: run texts through a model, keep the activations of one or more sites.

The loop is short because its parts are elsewhere: `_settings` checks, `_plan` says which tokens run when,
`_writer` keeps what comes out, `_interrupt` turns Ctrl-C into a request. What is left is to skip what an
earlier call has stored, to check what the model gives, and to end well.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import shutil
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, overload

import torch
from torch import Tensor

from sae_lab._errors import BadInput, Mismatch, SaeLabError, Unavailable
from sae_lab._progress import Progress
from sae_lab.activations._corpus import CorpusReader, CorpusState, check_texts, corpus_name
from sae_lab.activations._interrupt import stop_on_interrupt
from sae_lab.activations._lock import folder_lock
from sae_lab.activations._plan import Batch, plan
from sae_lab.activations._rows import Provenance, provenance
from sae_lab.activations._settings import Settings, check_max_tokens, check_settings, end_of_text
from sae_lab.activations._store import Activations, describe
from sae_lab.activations._writer import ShardWriter, check_path, stored_batch_tokens

_PACKAGES = ("torch", "transformers", "nnsight")


@overload
def harvest(model: Any, texts: Iterable[Any], *, site: str, **options: Any) -> Activations: ...
@overload
def harvest(model: Any, texts: Iterable[Any], *, site: Sequence[str], **options: Any) -> dict[str, Activations]: ...
def harvest(
    model: Any,
    texts: Iterable[Any],
    *,
    site: str | Sequence[str],
    path: Path | str | None = None,
    max_tokens: int | None = None,
    context_length: int = 256,
    packing: str = "documents",
    skip_first: int = 1,
    dtype: str = "float16",
    batch_tokens: int | str = "auto",
    seed: int = 0,
    progress: bool = True,
) -> Activations | dict[str, Activations]:
    """Run texts through a model and keep the activations at one or more sites.

    Parameters
    ----------
    model
        A `Model`, from `sl.load_model`.
    texts
        Documents: a list of strings, a corpus, or rows with a field "text". They are read one after the other,
        no further than `max_tokens` asks, and in the order given.
    site
        Where to read: "layers.9", or several sites for one pass over the model.
    path
        Folder to write to; with several sites, a folder of folders. The same call goes on where an earlier one
        stopped, and opens what is complete. None keeps the rows in memory.
    max_tokens
        How many rows to keep, exactly; None keeps all. With a larger number, a complete folder is
        extended; with a smaller one, its first rows are returned.
    context_length
        Tokens that the model reads at once, at most.
    packing
        "documents": each sequence is of one document, long documents are cut into successive windows.
        "blocks": documents back to back, an end-of-text token between two, cut into sequences of equal length;
        attention reaches across documents.
    skip_first
        Positions to drop at the beginning of each sequence. Position 0 is an attention sink in most models, with a
        norm far beyond all others.
    dtype
        "float16" or "float32" on disk and in memory. Shards with values that float16 cannot hold become
        float32, with a warning.
    batch_tokens
        Tokens in a batch, padding counted; "auto" is 4096 on a CPU and 32768 on a GPU.
    seed
        Order of the batches among their neighbours: sequences are sorted by length for speed, and this keeps the
        short ones from coming first. It does not choose documents.
    progress
        Whether to show progress.

    Returns
    -------
    Activations, or a dict of them by site where a list of sites was given
        After Ctrl-C: what was kept until then.

    Raises
    ------
    BadInput
        Texts, settings or sites that cannot be used; NaN or inf from the model (with document and position).
    Mismatch
        `path` holds a harvest of another model, of other texts, or with other settings.
    CorruptFile
        What `path` holds is damaged.
    Unavailable
        The disk is full. What was written is a valid prefix.
    """
    max_tokens = check_max_tokens(max_tokens)
    check_texts(texts)
    names = [site] if isinstance(site, str) else list(site)
    if not names:
        raise BadInput("site is an empty list: name at least one site")
    sites = [*dict.fromkeys(model.site(name).alias for name in names)]
    folders = {alias: _folder(path, alias, isinstance(site, str)) for alias in sites}
    if path is not None:
        check_path(Path(path), sites, single=isinstance(site, str))
        if batch_tokens == "auto":  # what "auto" meant when the harvest began
            batch_tokens = stored_batch_tokens(folders.values()) or "auto"
    settings = check_settings(
        model,
        context_length=context_length,
        packing=packing,
        skip_first=skip_first,
        dtype=dtype,
        batch_tokens=batch_tokens,
        seed=seed,
    )
    widths = {alias: x[0].shape[1] for alias, x in model.activations([[0]], sites).items()}  # also tries the sites
    if path is not None:
        _check_space(Path(path), sum(widths.values()), settings, max_tokens)
    with contextlib.ExitStack() as stack:
        for folder in filter(None, folders.values()):
            folder.mkdir(parents=True, exist_ok=True)
            stack.enter_context(folder_lock(folder))
        writers = {
            alias: ShardWriter(folders[alias], _header(model, alias, width, settings, texts), model.token_strings)
            for alias, width in widths.items()
        }
        _Run(model, texts, settings, writers, max_tokens, progress).run()
    found = {alias: _result(writer, max_tokens) for alias, writer in writers.items()}
    return found if not isinstance(site, str) else next(iter(found.values()))


class _Run:
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
            except KeyboardInterrupt:  # the second Ctrl-C: whatever is on disk is valid as it is
                stopped = True
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
        found = self.model.activations(batch.ids, list(needy))
        rows = provenance(batch, self.settings.skip_first, self.model.special_ids)
        for alias, writer in needy.items():
            begin = writer.rows - batch.first_row
            kept = torch.cat([x[self.settings.skip_first :] for x in found[alias]])[begin : end - batch.first_row]
            part = rows.part(begin, end - batch.first_row)
            writer.add(kept, part, _peak(kept, part, alias), batch.corpus)
        return end - before

    def _wants_more(self, writer: ShardWriter) -> bool:
        if not writer.complete:
            return self.max_tokens is None or writer.rows < self.max_tokens
        # A complete store can go on only where max_tokens cut it off; otherwise its texts were at their end.
        return writer.rows == writer.manifest["max_tokens"] and (
            self.max_tokens is None or writer.rows < self.max_tokens
        )

    def _check_begun(self, batch: Batch) -> None:
        """At the batch in which an earlier call stopped: were its texts the same?"""
        for alias, (rows, corpus) in self.begun.items():
            if batch.first_row < rows <= batch.end_row and batch.corpus != corpus:
                raise _other_texts(self.writers[alias], corpus)

    def _check_ended(self, rows: int) -> None:
        """At the end of the texts: was there anything, and as much as an earlier call had?"""
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


def _peak(values: Tensor, rows: Provenance, alias: str) -> float:
    """The largest magnitude; NaN and inf are an error that says where they stand."""
    low, high = torch.aminmax(values)
    peak = max(-float(low), float(high))
    if peak < float("inf"):  # false for NaN too: aminmax hands NaN on
        return peak
    row = int((~torch.isfinite(values)).any(dim=1).int().argmax())
    raise BadInput(
        f"the model gives NaN or inf at {alias}, in document {rows.columns['documents'][row]} at position "
        f"{rows.columns['positions'][row]} of its sequence: load the model in float32 (or bfloat16), or leave that document out"
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
        f"{writer.folder} was harvested from other texts ({count} documents were read, and they differ from those given "
        f"now): give the same texts in the same order, or another path"
    )


def _warn_of_versions(writers: Iterable[ShardWriter]) -> None:
    now = _versions()
    for writer in writers:
        there = writer.manifest["versions"]
        changed = [f"{name} {there.get(name)} -> {now.get(name)}" for name in now if there.get(name) != now[name]]
        if changed and writer.rows:
            warnings.warn(
                f"{writer.folder} was begun with other versions ({', '.join(changed)}): the rows to come may differ in "
                f"their last digits from what those would have given",
                stacklevel=5,
            )


def _versions() -> dict[str, str]:
    from sae_lab import __version__

    found = {"sae_lab": __version__}
    for package in _PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    return found


def _header(model: Any, alias: str, width: int, settings: Settings, texts: Any) -> dict[str, Any]:
    """The fields of the manifest that say what the rows are."""
    return {
        "model": model.identity,
        "site": alias,
        "d_in": width,
        "settings": {**settings.as_dict(), "model_dtype": str(model.dtype).removeprefix("torch.")},
        "corpus_name": corpus_name(texts),
        "corpus": CorpusReader(()).state._asdict(),
        "versions": _versions(),
    }


def _folder(path: Path | str | None, alias: str, single: bool) -> Path | None:
    if path is None:
        return None
    return Path(path) if single else Path(path) / alias


def _check_space(path: Path, width: int, settings: Settings, max_tokens: int | None) -> None:
    """Raise `Unavailable` when the rows asked for cannot fit on the disk."""
    if max_tokens is None or path.exists():
        return  # nobody knows how much will come, or how much of it is there
    parent = next(folder for folder in path.absolute().parents if folder.exists())
    needed = max_tokens * (width * (2 if settings.dtype == "float16" else 4) + 17)
    free = shutil.disk_usage(parent).free
    if needed > free:
        raise Unavailable(
            f"{max_tokens:,} rows need {needed / 1e9:.1f} GB at {path}, and {free / 1e9:.1f} GB are free: "
            f"free some space, choose another path, or a smaller max_tokens"
        )


def _result(writer: ShardWriter, max_tokens: int | None) -> Activations:
    """What the caller gets: the store, or its first rows where it holds more than was asked for."""
    if writer.folder is not None:
        found = Activations.open(writer.folder)
    else:
        manifest = writer.manifest
        found = Activations(
            writer.shards,
            manifest["d_in"],
            metadata=describe(manifest),
            vocabulary=writer.vocabulary,
            skip_first=manifest["settings"]["skip_first"],
        )
    return found if max_tokens is None or len(found) <= max_tokens else found.view(slice(0, max_tokens))
