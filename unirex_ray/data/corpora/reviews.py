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
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, TypeVar

from unirex_ray.data.columns import InstanceTable
from unirex_ray.data.instance import Input, Instance
from unirex_ray.data.schema import SPLITS, Corpus
from unirex_ray.metrics.table import Split

SIZES: Mapping[Split, int] = MappingProxyType({"train": 1200, "dev": 100, "test": 160})
"""Instances per split, half of them positive."""

LABELS = ("negative", "positive")

# Shares. They trade what a small encoder learns from some 600 instances against what a bag of words can reach.
_NEGATED = (0.25, 0.12)  # of the phrases, by polarity; as in real reviews, "not good" is commoner than "not bad"
_CONTRASTED = 0.2  # of the reviews
_UNDISTURBED = 0.2  # of the reviews: with a neutral sentence instead of a distractor
_OPPOSED = 0.2  # of the distractors: against the label
_HELD_OUT = 0.2  # of the draws in dev and test

Kind = Literal["any", "tale", "person", "dish", "place", "part", "sound"]
Polarity = Literal[0, 1]
_T = TypeVar("_T")


@dataclass(frozen=True)
class _Pool:
    """Choices for every split, and choices for dev and test only."""

    seen: tuple[str, ...]
    held_out: tuple[str, ...]

    @property
    def all(self) -> tuple[str, ...]:
        return self.seen + self.held_out


def _words(text: str) -> _Pool:
    """Single words; those after the bar are held out."""
    seen, _, held_out = text.partition("|")
    return _Pool(tuple(seen.split()), tuple(held_out.split()))


def _phrases(text: str) -> _Pool:
    """One phrase a line; those after the bar are held out. A phrase that stands twice is drawn twice as often."""
    seen, _, held_out = text.partition("|")
    return _Pool(_lines(seen), _lines(held_out))


def _lines(text: str) -> tuple[str, ...]:
    return tuple(line.strip() for line in text.strip().splitlines())


# Every pair is (negative, positive), as the labels are.

_GRADABLE: Mapping[Kind, tuple[_Pool, _Pool]] = {
    "any": (
        _words("""bad poor weak mediocre disappointing unpleasant annoying lame tiresome shoddy
            | lousy irritating unsatisfying underwhelming lacklustre"""),
        _words("""good nice decent pleasant solid likeable satisfying enjoyable impressive lovely
            | appealing agreeable commendable worthwhile gratifying"""),
    ),
    "tale": (
        _words("""dull boring predictable silly clumsy confusing shallow slow tedious pretentious
            | incoherent plodding contrived unconvincing"""),
        _words("""gripping clever witty original moving thoughtful exciting funny absorbing subtle
            | engrossing inventive suspenseful insightful"""),
    ),
    "person": (
        _words("""rude lazy arrogant careless impatient cold grumpy unfriendly sloppy dismissive
            | surly incompetent condescending hostile"""),
        _words("""friendly polite helpful charming patient kind attentive talented warm gracious
            | courteous considerate skilful sincere"""),
    ),
    "dish": (
        _words("""bland stale greasy soggy salty burnt dry rubbery tasteless watery
            | mushy rancid insipid overcooked"""),
        _words("""tasty fresh tender crisp juicy fragrant appetising hearty zesty wholesome
            | delectable succulent aromatic flavourful"""),
    ),
    "place": (
        _words("""dirty cramped noisy shabby gloomy smelly filthy damp draughty dingy
            | grimy musty squalid stuffy"""),
        _words("""clean cosy spacious tidy bright inviting comfortable quiet elegant relaxing
            | airy stylish restful picturesque"""),
    ),
    "part": (
        _words("""flimsy fragile unreliable wobbly fiddly faulty stiff sluggish rickety awkward
            | brittle cumbersome defective unwieldy"""),
        _words("""sturdy reliable precise durable smooth robust handy responsive dependable practical
            | intuitive sleek ergonomic resilient"""),
    ),
    "sound": (
        _words("""tinny shrill muffled harsh monotonous grating muddy distorted tuneless lifeless
            | jarring screechy deafening discordant"""),
        _words("""rich clear catchy soothing lively melodic powerful beautiful vibrant haunting
            | stirring harmonious uplifting resonant"""),
    ),
}
_EXTREME = (
    _words("""awful terrible horrible dreadful appalling atrocious hopeless useless worthless ghastly pathetic abysmal
        | horrendous wretched deplorable hideous abominable"""),
    _words("""great excellent wonderful fantastic brilliant amazing superb perfect outstanding terrific marvellous
        fabulous | magnificent phenomenal splendid sublime exquisite"""),
)
_NOUNS = (
    _words("""disaster mess failure letdown disgrace nightmare bore chore fiasco flop shambles
        | catastrophe embarrassment travesty ordeal"""),
    _words("""triumph delight joy treat gem masterpiece marvel wonder pleasure success hit
        | revelation treasure jewel blessing"""),
)
_FEEL = (
    _words("hate dislike loathe resent detest despise | deplore curse"),
    _words("love enjoy like adore admire appreciate relish | cherish savour"),
)
_STRIKE = (
    _words("bore annoy disappoint irk frustrate disgust bother | infuriate exasperate dishearten"),
    _words("delight charm impress thrill amaze please comfort dazzle | captivate enchant astonish"),
)

_GRADABLE_DEGREES = _words("very really so truly extremely | remarkably exceptionally incredibly")
_EXTREME_DEGREES = _words("absolutely simply utterly truly | positively thoroughly")
_NOUN_DEGREES = _words("real true complete total genuine | utter sheer")
_NOT_ADJECTIVE = _phrases("""not
    not at all
    not remotely
    never
    | far from
    not even slightly""")
_NOT_FEEL = _phrases("""did not {base}
    could not {base}
    never {past}
    | did not once {base}""")
_NOT_STRIKE = _phrases("""did not {base}
    never {past}
    | did not once {base}""")
_NOT_NOUN = _phrases("""[no {noun}]
    [not a {noun}]
    [not at all a {noun}]
    | [far from a {noun}]
    [not remotely a {noun}]""")


@dataclass(frozen=True)
class _Domain:
    """What is reviewed: its names, how one meets it, and its aspects by kind (`Kind`: nouns)."""

    items: tuple[str, ...]
    tried: str
    aspects: tuple[tuple[Kind, tuple[str, ...]], ...]
    has_plot: bool = False


def _domain(items: str, tried: str, *, has_plot: bool = False, **aspects: str) -> _Domain:
    def split(text: str) -> tuple[str, ...]:
        return tuple(part.strip() for part in text.split(","))

    kinds: tuple[Kind, ...] = ("tale", "person", "dish", "place", "part", "sound")
    by_kind = tuple((kind, split(aspects[kind])) for kind in kinds if kind in aspects)
    return _Domain(split(items), tried, by_kind, has_plot)


_DOMAINS = (
    _domain(
        "film, movie, thriller, comedy",
        "saw",
        has_plot=True,
        tale="plot, ending, dialogue, script, opening scene, middle act, final twist",
        person="lead actor, villain, director, heroine, stunt crew",
        sound="soundtrack, score, sound mix",
    ),
    _domain(
        "novel, book, mystery",
        "read",
        has_plot=True,
        tale="plot, first chapter, prologue, ending, love story, dialogue, translation",
        person="narrator, detective, author, editor",
    ),
    _domain(
        "play, show, musical",
        "watched",
        has_plot=True,
        tale="first act, second act, monologue, finale, humour",
        person="leading lady, understudy, conductor, usher",
        sound="chorus, orchestra, overture",
        place="theatre, foyer, balcony",
    ),
    _domain(
        "game, puzzle game, platformer",
        "played",
        has_plot=True,
        tale="story, tutorial, side quest, final level, mission design",
        part="controller support, menu, camera control, save system",
        sound="music, voice acting, battle theme",
    ),
    _domain(
        "restaurant, bistro, diner, pizzeria",
        "visited",
        dish="soup, pasta, curry, salad, bread, steak, risotto, grilled fish, lunch menu",
        person="waiter, hostess, chef, bartender, cashier",
        place="dining room, terrace, bar, courtyard",
    ),
    _domain(
        "hotel, hostel, guesthouse, resort",
        "booked",
        place="room, lobby, bathroom, pool, sauna, breakfast hall, roof garden",
        person="receptionist, porter, concierge, night manager, cleaner",
        dish="breakfast, buffet, room service dinner, coffee",
    ),
    _domain(
        "laptop, phone, tablet, camera",
        "bought",
        part="keyboard, hinge, screen, battery, charger, touchpad, case, power button",
        sound="speaker, microphone, ringtone",
        person="support agent, courier, technician",
    ),
    _domain(
        "backpack, jacket, tent, suitcase",
        "ordered",
        part="zip, strap, lining, buckle, frame, seam, handle, side pocket",
        person="shop assistant, courier, store manager",
    ),
    _domain(
        "concert, festival, recital",
        "attended",
        sound="encore, first song, guitar solo, string section, closing number, choir",
        person="singer, drummer, pianist, support act, doorman",
        place="concert hall, bar, cloakroom",
    ),
    _domain(
        "gym, climbing hall, dance studio",
        "joined",
        place="changing room, weights area, shower, entrance hall, yoga room",
        person="trainer, coach, instructor, manager",
        part="treadmill, rowing machine, locker, booking app",
    ),
)

_WHO = _phrases("""my sister
    my brother
    my neighbour
    a colleague
    my flatmate
    my uncle
    a friend
    my boss
    the critics
    the couple beside us
    | my dentist
    our landlord
    a stranger online
    my old teacher
    two bloggers""")
_ROLES = _words("""baker king nurse sailor widow spy gardener judge teacher farmer pirate painter lawyer queen butler
    hunter soldier priest thief princess""").seen
_OBJECTS = _words("""River Garden Window Mountain Island Clock Letter Bridge Summer Winter Station Tower Harbour Forest
    Piano""").seen
_DAYS = _words("Monday Tuesday Wednesday Thursday Friday Saturday Sunday").seen
_MONTHS = _words("January February March April May June July August September October November December").seen
_NUMBERS = _words("ten twelve fifteen twenty thirty forty fifty sixty eighty ninety").seen

_CLAUSES = _phrases("""the {aspect} was {adjective}
    the {aspect} was {adjective}
    the {aspect} was {adjective}
    the {aspect} was {adjective}
    I found the {aspect} {plain}
    the {aspect} was {noun}
    I {felt} the {aspect}
    the {aspect} {struck} me
    | the {aspect} turned out to be {plain}
    the {aspect} proved {plain}
    the {aspect} seemed {plain} to me
    I personally {felt} the {aspect}""")
_LEADS = _phrases("""overall,
    for me,
    all in all,
    in the end,
    | on balance,
    to my mind,
    if you ask me,""")
_CONTRASTS = _phrases("""{less}, but {more}.
    {less}, but {more}.
    {less}, but {more}.
    although {less}, {more}.
    {less}. Still, {more}.
    | {less}, yet {more}.
    while {less}, {more}.
    {less}; even so, {more}.""")
_HEARSAY = _phrases("""{who} found the {aspect} {plain}.
    {who} said the {aspect} was {adjective}.
    {who} called the {item} {plain}.
    {who} {felt} the {aspect}.
    according to {who}, the {aspect} was {adjective}.
    | {who} insisted that the {aspect} was {adjective}.
    in the opinion of {who}, the {aspect} was {noun}.
    {who} went on about how {plain} the {aspect} was.""")
_EXPECTATIONS = _phrases("""I had expected the {aspect} to be {plain}.
    the advert had promised a {bare} {item}.
    I had been told to expect {a_noun}.
    from the pictures, I imagined a {bare} {aspect}.
    | beforehand, I was sure that the {aspect} would be {plain}.
    the leaflet spoke of {a_noun}.""")
_OTHERS = _phrases("""the last {item} I {tried} was {adjective}.
    their previous {item} was {noun}.
    a different {item} that I {tried} had a {bare} {aspect}.
    last year I {tried} a {item} that was {adjective}.
    | an earlier {item} from the same people was {adjective}.
    a rival {item} is known for a {bare} {aspect}.""")
_PLOTS = _phrases("""it is about a {trait} {role} who meets a {trait_2} {role_2}.
    the story follows a {trait} {role} and a {trait_2} {role_2}.
    | the hero, a {trait} {role}, is chased by a {trait_2} {role_2}.""")
_NAMES = _phrases("""I first read about it in "{title}".
    they were playing a song called "{title}".
    a poster for "{title}" hung by the door.
    I had just finished a book called "{title}".
    | the receipt was tucked into my copy of "{title}".
    the man behind me wore a shirt that said "{title}".""")
_FILLERS = _phrases("""I {tried} it on a {day}.
    I {tried} this {item} in {month}.
    it cost about {number} euros.
    {who} told me about it on a {day}.
    | that was on a {day} in {month}.
    my receipt says {number} euros.""")


def _past(verb: str) -> str:
    return f"{verb}d" if verb.endswith("e") else f"{verb}ed"


def _forms(held_out_only: bool) -> frozenset[str]:
    def words(*pools: _Pool) -> list[str]:
        return [word for pool in pools for word in (pool.held_out if held_out_only else pool.all)]

    verbs = words(*_FEEL, *_STRIKE)
    adjectives = words(*_EXTREME, *(pool for pair in _GRADABLE.values() for pool in pair))
    return frozenset([*adjectives, *words(*_NOUNS), *verbs, *map(_past, verbs)])


POLARITY_WORDS = _forms(held_out_only=False)
"""Every sentiment word of the generator, lower-case, in all its forms."""

HELD_OUT_WORDS = _forms(held_out_only=True)
"""The sentiment words that dev and test have and train lacks."""

HELD_OUT_TEMPLATES = tuple(
    template
    for pool in (_CLAUSES, _CONTRASTS, _HEARSAY, _EXPECTATIONS, _OTHERS, _PLOTS, _NAMES, _FILLERS)
    for template in pool.held_out
)
"""The sentence patterns that dev and test have and train lacks; slots in braces."""


class _Writer:
    """Writes one review.

    Draws by `Random.random` alone: the one method whose sequence Python promises to keep between versions.
    """

    def __init__(self, key: str, *, held_out: bool) -> None:
        self._rng = random.Random(key)
        self._held_out = held_out
        self._domain = self._choose(_DOMAINS)
        self._item = self._choose(self._domain.items)

    def review(self, polarity: Polarity) -> str:
        """Text with brackets around the deciding phrases."""
        verdict, subjects = self._verdict(polarity)
        shape = self._rng.random()
        if shape < _CONTRASTED:
            less, _ = self._clause(_flip(polarity), avoid=subjects)
            text = _fill(self._pick(_CONTRASTS), {"more": verdict, "less": _unmarked(less)})
            extra = self._background(polarity) if self._chance(0.25) else None
        else:
            text = f"{verdict}."
            extra = (
                self._aside(_FILLERS, polarity) if shape < _CONTRASTED + _UNDISTURBED else self._background(polarity)
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
            clause = f"{self._pick(_LEADS)} {clause}"
        return clause, subjects

    def _clause(self, polarity: Polarity, avoid: Sequence[str] = ()) -> tuple[str, str]:
        """A statement about one aspect or the whole thing, and what it is about."""
        whole = self._chance(0.2) and self._item not in avoid
        kind, subject = self._whole() if whole else self._aspect(avoid)
        return _fill(self._pick(_CLAUSES), self._slots(polarity, kind, subject)), subject

    def _background(self, polarity: Polarity) -> str:
        """A sentence with sentiment that decides nothing."""
        pools = (_HEARSAY, _HEARSAY, _EXPECTATIONS, _OTHERS, _PLOTS if self._domain.has_plot else _NAMES)
        leaning = _flip(polarity) if self._chance(_OPPOSED) else polarity
        return self._aside(self._choose(pools), leaning)

    def _aside(self, templates: _Pool, polarity: Polarity) -> str:
        template = self._pick(templates)
        kind, aspect = self._aspect() if "{aspect}" in template else self._whole()
        return _unmarked(_fill(template, self._slots(polarity, kind, aspect)))

    def _slots(self, polarity: Polarity, kind: Kind, aspect: str) -> dict[str, str]:
        noun = self._pick(_NOUNS[polarity])
        plain = self._plain(polarity, kind)
        traits = [self._pick(_GRADABLE["person"][1 if self._chance(0.5) else 0]) for _ in range(2)]
        return {
            "aspect": aspect,
            "item": self._item,
            "tried": self._domain.tried,
            "who": self._pick(_WHO),
            "day": self._choose(_DAYS),
            "month": self._choose(_MONTHS),
            "number": self._choose(_NUMBERS),
            "bare": self._bare(polarity, kind),
            "plain": f"[{plain}]",
            "adjective": f"[{self._negated(polarity, kind) if self._chance(_NEGATED[polarity]) else plain}]",
            "a_noun": f"a {noun}",
            "noun": self._noun(polarity, noun),
            "felt": f"[{self._verb(polarity, _FEEL, _NOT_FEEL)}]",
            "struck": f"[{self._verb(polarity, _STRIKE, _NOT_STRIKE)}]",
            "trait": traits[0],
            "trait_2": traits[1],
            "role": self._choose(_ROLES),
            "role_2": self._choose(_ROLES),
            "title": f"The {self._bare(polarity, 'any').title()} {self._choose(_OBJECTS)}",
        }

    def _whole(self) -> tuple[Kind, str]:
        return "any", self._item

    def _aspect(self, avoid: Sequence[str] = ()) -> tuple[Kind, str]:
        kind, aspects = self._choose(self._domain.aspects)
        return kind, self._choose([aspect for aspect in aspects if aspect not in avoid])

    def _bare(self, polarity: Polarity, kind: Kind) -> str:
        pools = (_GRADABLE["any"], _EXTREME) if kind == "any" else (_GRADABLE[kind], _GRADABLE["any"], _EXTREME)
        return self._pick(self._choose(pools)[polarity])

    def _plain(self, polarity: Polarity, kind: Kind) -> str:
        adjective = self._bare(polarity, kind)
        degrees = _EXTREME_DEGREES if adjective in _EXTREME[polarity].all else _GRADABLE_DEGREES
        return f"{self._pick(degrees)} {adjective}" if self._chance(0.75) else adjective

    def _negated(self, polarity: Polarity, kind: Kind) -> str:
        pool = _GRADABLE[kind if self._chance(0.6) else "any"][_flip(polarity)]
        return f"{self._pick(_NOT_ADJECTIVE)} {self._pick(pool)}"

    def _noun(self, polarity: Polarity, noun: str) -> str:
        if self._chance(_NEGATED[polarity]):
            return _fill(self._pick(_NOT_NOUN), {"noun": self._pick(_NOUNS[_flip(polarity)])})
        return f"a [{self._pick(_NOUN_DEGREES)} {noun}]" if self._chance(0.75) else f"a [{noun}]"

    def _verb(self, polarity: Polarity, verbs: tuple[_Pool, _Pool], negators: _Pool) -> str:
        if self._chance(_NEGATED[polarity]):
            verb = self._pick(verbs[_flip(polarity)])
            return _fill(self._pick(negators), {"base": verb, "past": _past(verb)})
        return _past(self._pick(verbs[polarity]))

    def _pick(self, pool: _Pool) -> str:
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
    (but for the rare text that an earlier split has already, which is then written anew).

    Args:
        seed: any integer.
        sizes: instances per split, each at least 0; odd indices are positive.

    Returns:
        Binary sentiment with a non-empty gold rationale on word boundaries in every instance; no text occurs twice.
    """
    seen: set[str] = set()
    splits = {s: InstanceTable.of(_instance(seed, s, i, seen) for i in range(sizes[s])) for s in SPLITS}
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
