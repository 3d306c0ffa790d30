"""Which tables of `sae-probes` are prose, and how a text of theirs is cleaned and judged.

Everything here decides what the demo corpus holds: after a change its digests in `_corpus.py` change too.
All patterns are plain ASCII, so that no Unicode table of some Python version can alter the outcome.
"""

from __future__ import annotations

import html
import re
import string

MIN_CHARACTERS = 120

# Left out: code and mixed tables (158 to 163); papers, essays, tickets and film reviews whose capitals or
# punctuation were removed (92, 94, 98, 103, 113); snippets of a line (65 to 85); pairs of sentences that say
# the same (89, 91, 93) and multiple-choice templates (42, 44, 47, 55, 86); headlines, names, tweets and single
# short sentences; paraphrases by a machine (110); tables whose texts stand in a chosen one (112, 114 to 156).
TABLES = {
    "45_context_ans": "stories, news and blog posts, each under several questions",
    "48_cm_correct": "people telling of a conflict",
    "49_cm_isshort": "the same, more of them",
    "56_wikidatasex_or_gender": "web text that leads up to a person's name: articles, books, forums, court records",
    "57_wikidatais_alive": "the same, other persons",
    "58_wikidatapolitical_party": "the same, other persons",
    "59_wikidata_occupation_isjournalist": "the same, other persons",
    "60_wikidata_occupation_isathlete": "the same, other persons",
    "61_wikidata_occupation_isactor": "the same, other persons",
    "62_wikidata_occupation_ispolitician": "the same, other persons",
    "63_wikidata_occupation_issinger": "the same, other persons",
    "64_wikidata_occupation_isresearcher": "the same, other persons",
    "88_glue_mnli": "speech, fiction, letters, reports, travel guides, each with a claim about it",
    "90_glue_qnli": "a question and a sentence of an encyclopaedia",
    "97_news_class": "news in brief",
    "99_sci_cat": "forum posts on science",
    "100_news_fake": "news articles, sound and false",
    "101_disease_class": "medical abstracts",
    "111_yelp_data": "reviews of places",
    "157_amazon_5star": "reviews of things",
}

SENTENCE_END = re.compile(r"[.!?][\"\u201d\u2019')]*(?:\s|$)")
ONE_CHARACTER_RUN = re.compile(r"([^\s.])\1{9}")
LETTERS = string.ascii_letters.encode()
CAPITALS = string.ascii_uppercase.encode()
CODE = b"{}<>|\\=_^~"


def clean(table: str, text: str) -> str:
    """The text without its table's template and without what its way through the web left in it."""
    text = _without_template(table, text)
    if "\\" in text:  # written as escapes, or, in the news, for a line's end
        text = re.sub(r"\\u([0-9a-f]{4})", lambda match: chr(int(match[1], 16)), text)
        text = text.replace("\\n", "\n").replace("\\r", "").replace("\\", " " if table == "97_news_class" else "")
    if ";" in text:  # HTML entities, some of which lost their ampersand: " #39;s", " quot;"
        text = re.sub(r"(?:[ &]|\b)?#([0-9]{2,5});", lambda match: html.unescape(f"&#{match[1]};"), text)
        text = re.sub(r"[ &](amp|quot|lt|gt|nbsp);", lambda match: html.unescape(f"&{match[1]};"), text)
    text = re.sub(r"<br ?/?>", "\n", text)
    text = text.replace("\r", "").replace("\u00a0", " ").replace("\u200b", "").replace("\u00ad", "")
    text = re.sub(r"[ \t]{2,}", " ", text)
    text = re.sub(r" ?\n ?", "\n", text)
    return re.sub(r"\n{3,}", "\n\n", text).strip()


def _without_template(table: str, text: str) -> str:
    match table.split("_")[0]:
        case "45":  # the last two lines are a question and its choices
            return text.rsplit("\n", 2)[0]
        case "48" | "49" | "90":
            return text.replace(" | ", "\n", 1)
        case "88":  # the claim repeats the text's words
            return text.split(" | ")[0]
        case "157":
            return text.removeprefix("Title: ").replace("\nReview: ", "\n", 1)
    return text


def is_prose(text: str) -> bool:
    """Whether a cleaned text is long enough and made of sentences, not of tables, lists, links or markup."""
    plain, length = text.encode("ascii", "ignore"), len(text)
    words = text.split()
    return (
        length >= MIN_CHARACTERS
        and _count(plain, LETTERS) >= 0.7 * length
        and _count(plain, CAPITALS) >= length / 250
        and _count(plain, CODE) <= length / 200
        and len(SENTENCE_END.findall(text)) >= length / 400
        and text.count("http") <= length / 500
        and max(map(len, words)) <= 60
        and len(set(words)) >= 0.25 * len(words)
        and not ONE_CHARACTER_RUN.search(text)
    )


def _count(plain: bytes, characters: bytes) -> int:
    return len(plain) - len(plain.translate(None, characters))
