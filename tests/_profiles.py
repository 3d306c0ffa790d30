"""Profiles made from nothing: English a reader can judge, latents with one theme each, and hostile tokens.

Widget tests need profiles that look like real ones (so that a screenshot can be judged) without a model,
a corpus or a minute of work. Sentences come from templates, words split the way byte-pair tokenizers split
them, and each latent fires on the words of one theme and a little on what stands beside them.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from sae_lab.evaluation import Profiles

LISTS = {
    "day": "Monday Tuesday Wednesday Thursday Friday Saturday Sunday",
    "month": "January February March April June July September October November December",
    "place": "library harbour station bakery museum bridge hospital market school theatre",
    "city": "Lisbon Glasgow Osaka Toronto Leipzig Nairobi Valencia Bergen Montreal Krakow",
    "dir": "north south east west northern southern eastern western",
    "num": "two three four five seven nine twelve forty sixty ninety",
    "colour": "red blue green yellow grey black white orange",
    "person": "teacher engineer farmer nurse captain lawyer painter sailor editor driver",
    "pace": "slowly quickly suddenly gradually rapidly immediately eventually quietly",
    "thing": "letter engine window garden basket camera ladder lantern violin compass",
    "verb": "repaired painted carried described borrowed measured opened followed watched finished",
    "feel": "proud tired hopeful anxious grateful curious jealous calm",
    "science": "energy protein gravity carbon oxygen neutron enzyme bacteria",
    "money": "price budget profit salary debt loan tax wage",
}
TEMPLATES = """The {person} {verb} the {colour} {thing} before the {place} in {city} closed on {day}.
By {month} the {money} had risen {pace}, and {num} people in the {dir} of {city} were {feel} about it.
"I never said that," the {person} replied {pace}, looking at the {thing} by the {place}.
About {num} percent of the {science} in the sample came from the {dir} shore, the report of {month} says.
If the {money} does not change, the {person} will not be {feel}, because nobody {verb} the {thing}.
They walked {dir} along the {place} wall until the {colour} lights of {city} appeared {pace}.
On {day} morning the {person} was {feel}: the {thing} that she {verb} in {month} was gone.
Researchers in {city} {verb} how {science} moves {pace} through {colour} tissue, the {person} told the {place}.
However, the {person} and the {person} could not agree whether the {thing} was {colour} or {colour}.
Between {day} and {day}, the {place} on the {dir} side lost {num} of its {thing}s to the {money} cuts.
1. Open the {thing} {pace}. 2. Check the {science}. 3. Wait {num} minutes, and never touch the {colour} part.
Dear {person}, thank you for the {thing}; we are {feel} that you {verb} it for the {place} in {city}."""
SUFFIXES = (
    "ary",
    "bour",
    "ital",
    "atre",
    "neer",
    "yer",
    "ways",
    "ually",
    "idly",
    "ately",
    "tern",
    "ings",
    "teria",
    "ein",
)
HOSTILE = (
    "<img src=x onerror=window.__hacked=1>",
    "</script><script>window.__hacked=1</script>",
    "\u202eevil\u202c",
    "a\u200bb",
    "\u05e9\u05dc\u05d5\u05dd",
    "&lt;b&gt;",
    "\u0000",
    "\ufeff",
    "\n\n",
    "\t",
    "<|im_start|>",
    "\u00a0",
    "",
    "\u2028",
    "${x}`",
    "<!--",
)


def split_words(text: str) -> list[str]:
    """Split into pieces that keep their leading space; long words split again, as byte-pair tokens do."""
    pieces: list[str] = []
    word = ""
    for char in text:
        if char.isalnum():
            word += char
            continue
        if word:
            pieces += split_word(word)
        word = ""
        if char == " ":
            word = " "
        else:
            pieces.append(char)
    return pieces + (split_word(word) if word else [])


def split_word(word: str) -> list[str]:
    for suffix in SUFFIXES:
        if word.endswith(suffix) and len(word) > len(suffix) + 3:
            return [word[: -len(suffix)], suffix]
    return [word]


def text_of(documents: int, rng: np.random.Generator) -> list[list[str]]:
    """Documents of a few sentences, as lists of token strings."""
    lists = {name: words.split() for name, words in LISTS.items()}
    out = []
    for _ in range(documents):
        sentences = []
        for _ in range(int(rng.integers(5, 12))):
            template = TEMPLATES.split("\n")[rng.integers(12)]
            while "{" in template:
                name = template[template.index("{") + 1 : template.index("}")]
                template = template.replace("{" + name + "}", str(rng.choice(lists[name])), 1)
            sentences.append(template)
        out.append(split_words(("\n" if rng.random() < 0.4 else " ").join(sentences)))
    return out


def make_profiles(
    d_sae: int = 512,
    *,
    seed: int = 0,
    logits: bool = True,
    tokens: bool = True,
    neighbours: bool = True,
    window: tuple[int, int] = (10, 10),
    hostile: int | None = None,
    dead: tuple[int, ...] = (7,),
    dense: tuple[int, ...] = (11,),
    prompt: Any = "words",
) -> Profiles:
    """Profiles of `d_sae` latents. Latent `hostile` shows hostile tokens; `tokens=False` is as from a bare array."""
    rng = np.random.default_rng(seed)
    documents = text_of(150, rng)
    strings = sorted({piece for document in documents for piece in document})
    vocabulary = dict(enumerate((*strings, *HOSTILE)))
    number = {string: i for i, string in vocabulary.items()}
    stream = np.array([number[piece] for document in documents for piece in document], np.int32)
    document_of = np.repeat(np.arange(len(documents)), [len(d) for d in documents]).astype(np.int32)
    starts = np.cumsum([0, *(len(d) for d in documents)])[document_of]
    position = (np.arange(len(stream)) - starts).astype(np.int32)
    n_rows = 100_000

    themes = [[number[f" {w}"] for w in words.split() if f" {w}" in number] for words in LISTS.values()]
    singles = [[t] for t in rng.permutation(len(strings))]
    weight = {i: themes[i % len(themes)] if i % 3 == 0 else singles[i % len(singles)] for i in range(d_sae)}

    before, after = window
    width = before + 1 + after
    group_names = ["top", "80-100%", "60-80%", "40-60%", "20-40%", "0-20%"]
    example_group = np.repeat(np.arange(6), [20, 5, 5, 5, 5, 5]).astype(np.int32)
    slots = len(example_group)
    density = np.minimum(10 ** rng.normal(-2.6, 0.6, d_sae), 0.09).astype(np.float32)
    maximum = rng.gamma(6, 2.5, d_sae).astype(np.float32) + 1
    density[[d for d in dense if d < d_sae]] = 0.34
    rows = np.full((d_sae, slots), -1, np.int64)
    ids = np.full((d_sae, slots, width), -1, np.int32)
    values = np.zeros((d_sae, slots, width), np.float16)
    histogram = np.zeros((d_sae, 40), np.int32)
    places = {int(t): np.flatnonzero(stream == t) for t in np.unique(stream)}
    offsets = np.arange(-before, after + 1)
    for latent in range(d_sae):
        if latent in dead:
            density[latent] = maximum[latent] = 0
            continue
        peaks = rng.choice(np.concatenate([places[t] for t in weight[latent] if t in places]), slots)
        at = peaks[:, None] + offsets
        inside = (at >= 0) & (at < len(stream))
        at = at.clip(0, len(stream) - 1)
        inside &= document_of[at] == document_of[peaks][:, None]
        ids[latent] = np.where(inside, stream[at], -1)
        size = np.concatenate(
            [
                np.sort(rng.uniform(0.78, 1, 20))[::-1],
                *(np.sort(rng.uniform(lo, lo + 0.2, 5))[::-1] for lo in (0.8, 0.6, 0.4, 0.2, 0.02)),
            ]
        )
        size[0] = 1
        same = np.isin(ids[latent], weight[latent]) & (rng.random(ids[latent].shape) < 0.8)
        near = rng.random(ids[latent].shape) < 0.08
        around = np.where(
            same, rng.uniform(0.3, 0.9, same.shape), np.where(near, rng.uniform(0.02, 0.3, near.shape), 0)
        )
        around[:, before] = 1
        values[latent] = np.where(ids[latent] >= 0, around * size[:, None] * maximum[latent], 0)
        rows[latent] = peaks
        counts = np.exp(-np.arange(40) / rng.uniform(4, 14)) + 0.15 * np.exp(-(((np.arange(40) - 24) / 5) ** 2))
        histogram[latent] = rng.poisson(counts / counts.sum() * density[latent] * n_rows)
    if hostile is not None:
        fill = np.array(
            list(itertools.islice(itertools.cycle(range(len(strings), len(vocabulary))), slots * width)), np.int32
        )
        ids[hostile] = fill.reshape(slots, width)
        values[hostile] = (0.5 * maximum[hostile] * (np.arange(width) % 3 == 0)).astype(np.float16)
        values[hostile, :, before] = maximum[hostile]
    documents_at = np.where(rows >= 0, document_of[rows], -1).astype(np.int32)
    positions_at = np.where(rows >= 0, position[rows], -1).astype(np.int32)
    values[(positions_at[:, :, None] + offsets == 0) & (offsets != 0)] = np.nan  # position 0 is not harvested
    if not tokens:
        ids[:] = -1
        values[:, :, offsets != 0] = np.nan
        vocabulary = {}
        documents_at[:] = positions_at[:] = -1
    shuffled = rng.permutation(d_sae).astype(np.int32)
    ring = (np.arange(d_sae)[:, None] + np.array([3, -3, 6, 42, -42, 9, 1, 84])) % d_sae

    def ranked(low: float, high: float, n: int) -> np.ndarray:
        return -np.sort(-rng.uniform(low, high, (d_sae, n)), axis=1).astype(np.float32)

    words = rng.integers(0, len(strings), (2, d_sae, 10)).astype(np.int32)
    for latent in range(d_sae):
        words[0, latent, : min(6, len(weight[latent]))] = weight[latent][:6]
    return Profiles(
        name="SmolLM2 layers.9",
        model="SmolLM2-135M-Instruct (4-bit dequantised)" if logits else None,
        site="layers.9",
        d_sae=d_sae,
        d_in=576,
        n_rows=n_rows,
        window=window,
        density=density,
        max_activation=maximum,
        mean_activation=(maximum * 0.3).astype(np.float32),
        histogram=histogram,
        group_names=group_names,
        example_group=example_group,
        example_row=rows,
        example_tokens=ids,
        example_values=values,
        example_document=documents_at,
        example_position=positions_at,
        top_logit_ids=words[0] if logits else None,
        top_logits=ranked(0.2, 1.4, 10) if logits else None,
        bottom_logit_ids=words[1] if logits else None,
        bottom_logits=-ranked(0.2, 0.9, 10) if logits else None,
        neighbour_ids=ring.astype(np.int32) if neighbours else np.full((d_sae, 8), -1, np.int32),
        neighbour_cosines=ranked(0.1, 0.8, 8) if neighbours else np.zeros((d_sae, 8), np.float32),
        coactive_ids=shuffled[(np.arange(d_sae)[:, None] + np.arange(1, 9)) % d_sae]
        if neighbours
        else np.full((d_sae, 8), -1, np.int32),
        coactive_scores=ranked(0.02, 0.5, 8) if neighbours else np.zeros((d_sae, 8), np.float32),
        vocabulary=vocabulary,
        prompt=live_words if prompt == "words" else prompt,
    )


def live_words(text: str, latent: int) -> tuple[list[str], np.ndarray]:
    """A stand-in for a model: a word's activation depends on its length and on the latent."""
    pieces = split_words(text)
    return pieces, np.array([max(0.0, (len(p) * 7 + latent) % 11 - 5.0) for p in pieces], np.float32)
