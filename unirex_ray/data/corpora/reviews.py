"""`reviews`: an embedded corpus of short reviews with gold rationales, generated from a seed.

A review holds one or two deciding phrases (the gold rationale) and, most of the time, sentiment that decides nothing.
Four rules make the label, and no other:

1. The reviewer's own statement about the thing under review decides. What others say, what was expected, what another
   product was like, plots, names and quoted titles do not.
2. Under a contrast (`but`, `although`, `still`), the main statement decides, not what is conceded.
3. A negator turns the word after it round.
4. Intensifiers belong to the phrase and change nothing.

A part of the sentiment words, negators, intensifiers, speakers and templates appears in dev and test only: a
pre-trained encoder knows them, a bag of words does not.
"""

from __future__ import annotations

import itertools
import random
import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Literal, TypeVar

from unirex_ray.data.columns import InstanceTable
from unirex_ray.data.corpora import reviews_words as words
from unirex_ray.data.corpora.reviews_words import Kind, Pool
from unirex_ray.data.instance import Input, Instance
from unirex_ray.data.schema import SPLITS, Corpus, Split

SIZES: Mapping[Split, int] = MappingProxyType({"train": 1200, "dev": 100, "test": 160})
"""Instances per split, half of them positive."""

LABELS = ("negative", "positive")

# Shares. They trade what a small encoder learns from some 600 instances against what a bag of words can reach.
_NEGATED = (0.25, 0.12)  # of the phrases, by polarity; as in real reviews, "not good" is commoner than "not bad"
_CONTRASTED = 0.2  # of the reviews
_UNDISTURBED = 0.2  # of the reviews: with a neutral sentence instead of a distractor
_OPPOSED = 0.2  # of the distractors: against the label
_HELD_OUT = 0.2  # of the draws in dev and test

Polarity = Literal[0, 1]
_T = TypeVar("_T")


class _Writer:
    """Writes one review.

    Draws by `Random.random` alone: the one method whose sequence Python promises to keep between versions.
    """

    def __init__(self, key: str, *, held_out: bool) -> None:
        self._rng = random.Random(key)
        self._held_out = held_out
        self._domain = self._choose(words.DOMAINS)
        self._item = self._choose(self._domain.items)

    def review(self, polarity: Polarity) -> str:
        """Text with brackets around the deciding phrases."""
        verdict, subjects = self._verdict(polarity)
        shape = self._rng.random()
        if shape < _CONTRASTED:
            less, _ = self._clause(_flip(polarity), avoid=subjects)
            text = _fill(self._pick(words.CONTRASTS), {"more": verdict, "less": _unmarked(less)})
            extra = self._background(polarity) if self._chance(0.25) else None
        else:
            text = f"{verdict}."
            extra = (
                self._aside(words.FILLERS, polarity)
                if shape < _CONTRASTED + _UNDISTURBED
                else self._background(polarity)
            )
        sentences = [text] if extra is None else [extra, text] if self._chance(0.6) else [text, extra]
        return _articles(" ".join(map(_capitalised, sentences)))

    def _verdict(self, polarity: Polarity) -> tuple[str, tuple[str, ...]]:
        clause, subject = self._clause(polarity)
        subjects: tuple[str, ...] = (subject,)
        if self._chance(0.25):
            second, other = self._clause(polarity, avoid=subjects)
            clause, subjects = f"{clause} and {second}", (subject, other)
        if self._chance(0.25):
            clause = f"{self._pick(words.LEADS)} {clause}"
        return clause, subjects

    def _clause(self, polarity: Polarity, avoid: Sequence[str] = ()) -> tuple[str, str]:
        """A statement about one aspect or the whole thing, and what it is about."""
        whole = self._chance(0.2) and self._item not in avoid
        kind, subject = self._whole() if whole else self._aspect(avoid)
        return _fill(self._pick(words.CLAUSES), self._slots(polarity, kind, subject)), subject

    def _background(self, polarity: Polarity) -> str:
        """A sentence with sentiment that decides nothing."""
        pools = (
            words.HEARSAY,
            words.HEARSAY,
            words.EXPECTATIONS,
            words.OTHERS,
            words.PLOTS if self._domain.has_plot else words.NAMES,
        )
        leaning = _flip(polarity) if self._chance(_OPPOSED) else polarity
        return self._aside(self._choose(pools), leaning)

    def _aside(self, templates: Pool, polarity: Polarity) -> str:
        template = self._pick(templates)
        kind, aspect = self._aspect() if "{aspect}" in template else self._whole()
        return _unmarked(_fill(template, self._slots(polarity, kind, aspect)))

    def _slots(self, polarity: Polarity, kind: Kind, aspect: str) -> dict[str, str]:
        noun = self._pick(words.NOUNS[polarity])
        plain = self._plain(polarity, kind)
        traits = [self._pick(words.GRADABLE["person"][1 if self._chance(0.5) else 0]) for _ in range(2)]
        return {
            "aspect": aspect,
            "item": self._item,
            "tried": self._domain.tried,
            "who": self._pick(words.WHO),
            "day": self._choose(words.DAYS),
            "month": self._choose(words.MONTHS),
            "number": self._choose(words.NUMBERS),
            "bare": self._bare(polarity, kind),
            "plain": f"[{plain}]",
            "adjective": f"[{self._negated(polarity, kind) if self._chance(_NEGATED[polarity]) else plain}]",
            "a_noun": f"a {noun}",
            "noun": self._noun(polarity, noun),
            "felt": f"[{self._verb(polarity, words.FEEL, words.NOT_FEEL)}]",
            "struck": f"[{self._verb(polarity, words.STRIKE, words.NOT_STRIKE)}]",
            "trait": traits[0],
            "trait_2": traits[1],
            "role": self._choose(words.ROLES),
            "role_2": self._choose(words.ROLES),
            "title": f"The {self._bare(polarity, 'any').title()} {self._choose(words.OBJECTS)}",
        }

    def _whole(self) -> tuple[Kind, str]:
        return "any", self._item

    def _aspect(self, avoid: Sequence[str] = ()) -> tuple[Kind, str]:
        kind, aspects = self._choose(self._domain.aspects)
        return kind, self._choose([aspect for aspect in aspects if aspect not in avoid])

    def _bare(self, polarity: Polarity, kind: Kind) -> str:
        pools = (
            (words.GRADABLE["any"], words.EXTREME)
            if kind == "any"
            else (words.GRADABLE[kind], words.GRADABLE["any"], words.EXTREME)
        )
        return self._pick(self._choose(pools)[polarity])

    def _plain(self, polarity: Polarity, kind: Kind) -> str:
        adjective = self._bare(polarity, kind)
        degrees = words.EXTREME_DEGREES if adjective in words.EXTREME[polarity].all else words.GRADABLE_DEGREES
        return f"{self._pick(degrees)} {adjective}" if self._chance(0.75) else adjective

    def _negated(self, polarity: Polarity, kind: Kind) -> str:
        pool = words.GRADABLE[kind if self._chance(0.6) else "any"][_flip(polarity)]
        return f"{self._pick(words.NOT_ADJECTIVE)} {self._pick(pool)}"

    def _noun(self, polarity: Polarity, noun: str) -> str:
        if self._chance(_NEGATED[polarity]):
            return _fill(self._pick(words.NOT_NOUN), {"noun": self._pick(words.NOUNS[_flip(polarity)])})
        return f"a [{self._pick(words.NOUN_DEGREES)} {noun}]" if self._chance(0.75) else f"a [{noun}]"

    def _verb(self, polarity: Polarity, verbs: tuple[Pool, Pool], negators: Pool) -> str:
        if self._chance(_NEGATED[polarity]):
            verb = self._pick(verbs[_flip(polarity)])
            return _fill(self._pick(negators), {"base": verb, "past": words.past(verb)})
        return words.past(self._pick(verbs[polarity]))

    def _pick(self, pool: Pool) -> str:
        return self._choose(pool.held_out if self._held_out and self._chance(_HELD_OUT) else pool.seen)

    def _choose(self, options: Sequence[_T]) -> _T:
        return options[int(self._rng.random() * len(options))]

    def _chance(self, probability: float) -> bool:
        return self._rng.random() < probability


def _flip(polarity: Polarity) -> Polarity:
    return 0 if polarity else 1


def _fill(template: str, slots: Mapping[str, str]) -> str:
    return template.format_map(slots)


def _unmarked(text: str) -> str:
    return text.replace("[", "").replace("]", "")


def _capitalised(sentence: str) -> str:
    return re.sub(r"(?:^|(?<=[.] ))[a-z]", lambda letter: letter[0].upper(), sentence)


def _articles(text: str) -> str:
    return re.sub(r"\b([Aa]) (?=\[?(?!use)[aeiou])", r"\1n ", text)


def _spans(marked: str) -> tuple[tuple[int, int, int], ...]:
    """Bracketed parts, as `(segment, start, end)` in the text without brackets."""
    # The i-th bracketed part has 2 i brackets before its first character.
    return tuple(
        (0, match.start() - 2 * i, match.end() - 2 * i - 2) for i, match in enumerate(re.finditer(r"\[[^]]*\]", marked))
    )


def make_reviews(seed: int = 0, sizes: Mapping[Split, int] = SIZES) -> Corpus:
    """Generate the corpus: the same texts for the same seed on every machine and Python version.

    An instance depends on the seed, its split and its index alone, so that a smaller corpus is a prefix of a larger one
    (but for the rare text that an earlier split has already, which is then written again).

    Args:
        seed: any integer.
        sizes: instances per split, each at least 0; odd indices are positive.

    Returns:
        Binary sentiment with a non-empty gold rationale on word boundaries in every instance; no text occurs twice.
    """
    seen: set[str] = set()
    splits = {s: InstanceTable.from_instances(_instance(seed, s, i, seen) for i in range(sizes[s])) for s in SPLITS}
    return Corpus(name="reviews", labels=LABELS, splits=splits, task_metric="accuracy")


def _instance(seed: int, split: Split, index: int, seen: set[str]) -> Instance:
    label: Polarity = 1 if index % 2 else 0
    for attempt in itertools.count():
        marked = _Writer(f"{seed}-{split}-{index}-{attempt}", held_out=split != "train").review(label)
        text = _unmarked(marked)
        if text not in seen:
            break
    seen.add(text)
    return Instance(id=f"{split}-{index}", inputs=(Input(segments=(text,), gold=_spans(marked)),), label=label)
