"""`harvest`: run texts through a model, keep the activations of one or more sites.

This file is the door: it checks everything that can be checked before work begins, opens a writer for each
site and hands them to `_run`. `_plan` says which tokens run when, `_writer` keeps what comes out.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from sae_lab._errors import BadInput
from sae_lab.activations._corpus import CorpusReader, check_inputs, corpus_name
from sae_lab.activations._folders import check_path, check_space, folder_of, stored_batch_tokens
from sae_lab.activations._lock import folder_lock
from sae_lab.activations._manifest import describe, installed_versions
from sae_lab.activations._run import Run
from sae_lab.activations._settings import Settings, check_max_tokens, check_settings
from sae_lab.activations._store import Activations
from sae_lab.activations._writer import ShardWriter


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
    gradients: bool = False,
    progress: bool = True,
) -> Any:  # Activations, or a dict of them; a union would have to be narrowed by every caller
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
    gradients
        True keeps beside each row the gradient of the model's loss there, for `acts.gradients` and
        `acts.with_gradients()`: one pass back through the frozen model for each batch, several times the work. The
        loss is the sum over the sequence of the cross-entropies of its next tokens, in nats. So the gradient at a
        position holds its effect on all later predictions, and is made with the tokens that follow: whoever uses
        it knows something of the labels. At the last position of a sequence it is 0.
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
    check_inputs(model, texts)
    names = [site] if isinstance(site, str) else list(site)
    if not names:
        raise BadInput("site is an empty list: name at least one site")
    sites = [*dict.fromkeys(model.site(name).alias for name in names)]
    folders = {alias: folder_of(path, alias, isinstance(site, str)) for alias in sites}
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
        gradients=gradients,
    )
    tried = model.gradients([[0, 0]], sites)[0] if gradients else model.activations([[0]], sites)
    widths = {alias: x[0].shape[1] for alias, x in tried.items()}
    if path is not None:
        check_space(Path(path), sum(widths.values()), settings, max_tokens)
    with contextlib.ExitStack() as stack:
        for folder in filter(None, folders.values()):
            folder.mkdir(parents=True, exist_ok=True)
            stack.enter_context(folder_lock(folder))
        writers = {
            alias: ShardWriter(folders[alias], _header(model, alias, width, settings, texts), model.token_strings)
            for alias, width in widths.items()
        }
        Run(model, texts, settings, writers, max_tokens, progress).run()
    found = {alias: _result(writer, max_tokens) for alias, writer in writers.items()}
    return found if not isinstance(site, str) else next(iter(found.values()))


def _header(model: Any, alias: str, width: int, settings: Settings, texts: Any) -> dict[str, Any]:
    """The fields of the manifest that say what the rows are."""
    return {
        "model": model.identity,
        "site": alias,
        "d_in": width,
        "settings": {**settings.as_dict(), "model_dtype": str(model.dtype).removeprefix("torch.")},
        "corpus_name": corpus_name(texts),
        "corpus": CorpusReader(()).state._asdict(),
        "versions": installed_versions(),
    }


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
