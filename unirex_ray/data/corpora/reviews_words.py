"""The words of `reviews`: sentiment, domains and sentence patterns.

Of each pool, a part appears in dev and test only: a pre-trained encoder knows those words, a bag of words does not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Kind = Literal["any", "tale", "person", "dish", "place", "part", "sound"]
"""What an aspect is, so that adjectives fit it."""


@dataclass(frozen=True)
class Pool:
    """Choices for every split, and choices for dev and test only."""

    seen: tuple[str, ...]
    held_out: tuple[str, ...]

    @property
    def all(self) -> tuple[str, ...]:
        """For dev and test."""
        return self.seen + self.held_out


def _words(text: str) -> Pool:
    """Single words; those after the bar are held out."""
    seen, _, held_out = text.partition("|")
    return Pool(tuple(seen.split()), tuple(held_out.split()))


def _phrases(text: str) -> Pool:
    """One phrase a line; those after the bar are held out. A phrase that stands twice is drawn twice as often."""
    seen, _, held_out = text.partition("|")
    return Pool(_lines(seen), _lines(held_out))


def _lines(text: str) -> tuple[str, ...]:
    return tuple(line.strip() for line in text.strip().splitlines())


# Every pair is (negative, positive), as the labels are.

GRADABLE: Mapping[Kind, tuple[Pool, Pool]] = {
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
EXTREME = (
    _words("""awful terrible horrible dreadful appalling atrocious hopeless useless worthless ghastly pathetic abysmal
        | horrendous wretched deplorable hideous abominable"""),
    _words("""great excellent wonderful fantastic brilliant amazing superb perfect outstanding terrific marvellous
        fabulous | magnificent phenomenal splendid sublime exquisite"""),
)
NOUNS = (
    _words("""disaster mess failure letdown disgrace nightmare bore chore fiasco flop shambles
        | catastrophe embarrassment travesty ordeal"""),
    _words("""triumph delight joy treat gem masterpiece marvel wonder pleasure success hit
        | revelation treasure jewel blessing"""),
)
FEEL = (
    _words("hate dislike loathe resent detest despise | deplore curse"),
    _words("love enjoy like adore admire appreciate relish | cherish savour"),
)
STRIKE = (
    _words("bore annoy disappoint irk frustrate disgust bother | infuriate exasperate dishearten"),
    _words("delight charm impress thrill amaze please comfort dazzle | captivate enchant astonish"),
)

GRADABLE_DEGREES = _words("very really so truly extremely | remarkably exceptionally incredibly")
EXTREME_DEGREES = _words("absolutely simply utterly truly | positively thoroughly")
NOUN_DEGREES = _words("real true complete total genuine | utter sheer")
NOT_ADJECTIVE = _phrases("""not
    not at all
    not remotely
    never
    | far from
    not even slightly""")
NOT_FEEL = _phrases("""did not {base}
    could not {base}
    never {past}
    | did not once {base}""")
NOT_STRIKE = _phrases("""did not {base}
    never {past}
    | did not once {base}""")
NOT_NOUN = _phrases("""[no {noun}]
    [not a {noun}]
    [not at all a {noun}]
    | [far from a {noun}]
    [not remotely a {noun}]""")


@dataclass(frozen=True)
class Domain:
    """What is reviewed: its names, how one meets it, and its aspects by kind (`Kind`: nouns)."""

    items: tuple[str, ...]
    tried: str
    aspects: tuple[tuple[Kind, tuple[str, ...]], ...]
    has_plot: bool = False


def _domain(items: str, tried: str, *, has_plot: bool = False, **aspects: str) -> Domain:
    def split(text: str) -> tuple[str, ...]:
        return tuple(part.strip() for part in text.split(","))

    kinds: tuple[Kind, ...] = ("tale", "person", "dish", "place", "part", "sound")
    by_kind = tuple((kind, split(aspects[kind])) for kind in kinds if kind in aspects)
    return Domain(split(items), tried, by_kind, has_plot)


DOMAINS = (
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

WHO = _phrases("""my sister
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
ROLES = _words("""baker king nurse sailor widow spy gardener judge teacher farmer pirate painter lawyer queen butler
    hunter soldier priest thief princess""").seen
OBJECTS = _words("""River Garden Window Mountain Island Clock Letter Bridge Summer Winter Station Tower Harbour Forest
    Piano""").seen
DAYS = _words("Monday Tuesday Wednesday Thursday Friday Saturday Sunday").seen
MONTHS = _words("January February March April May June July August September October November December").seen
NUMBERS = _words("ten twelve fifteen twenty thirty forty fifty sixty eighty ninety").seen

CLAUSES = _phrases("""the {aspect} was {adjective}
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
LEADS = _phrases("""overall,
    for me,
    all in all,
    in the end,
    | on balance,
    to my mind,
    if you ask me,""")
CONTRASTS = _phrases("""{less}, but {more}.
    {less}, but {more}.
    {less}, but {more}.
    although {less}, {more}.
    {less}. Still, {more}.
    | {less}, yet {more}.
    while {less}, {more}.
    {less}; even so, {more}.""")
HEARSAY = _phrases("""{who} found the {aspect} {plain}.
    {who} said the {aspect} was {adjective}.
    {who} called the {item} {plain}.
    {who} {felt} the {aspect}.
    according to {who}, the {aspect} was {adjective}.
    | {who} insisted that the {aspect} was {adjective}.
    in the opinion of {who}, the {aspect} was {noun}.
    {who} went on about how {plain} the {aspect} was.""")
EXPECTATIONS = _phrases("""I had expected the {aspect} to be {plain}.
    the advert had promised a {bare} {item}.
    I had been told to expect {a_noun}.
    from the pictures, I imagined a {bare} {aspect}.
    | beforehand, I was sure that the {aspect} would be {plain}.
    the leaflet spoke of {a_noun}.""")
OTHERS = _phrases("""the last {item} I {tried} was {adjective}.
    their previous {item} was {noun}.
    a different {item} that I {tried} had a {bare} {aspect}.
    last year I {tried} a {item} that was {adjective}.
    | an earlier {item} from the same people was {adjective}.
    a rival {item} is known for a {bare} {aspect}.""")
PLOTS = _phrases("""it is about a {trait} {role} who meets a {trait_2} {role_2}.
    the story follows a {trait} {role} and a {trait_2} {role_2}.
    | the hero, a {trait} {role}, is chased by a {trait_2} {role_2}.""")
NAMES = _phrases("""I first read about it in "{title}".
    they were playing a song called "{title}".
    a poster for "{title}" hung by the door.
    I had just finished a book called "{title}".
    | the receipt was tucked into my copy of "{title}".
    the man behind me wore a shirt that said "{title}".""")
FILLERS = _phrases("""I {tried} it on a {day}.
    I {tried} this {item} in {month}.
    it cost about {number} euros.
    {who} told me about it on a {day}.
    | that was on a {day} in {month}.
    my receipt says {number} euros.""")


def past(verb: str) -> str:
    """The past tense of a regular verb."""
    return f"{verb}d" if verb.endswith("e") else f"{verb}ed"


def _forms(held_out_only: bool) -> frozenset[str]:
    def words(*pools: Pool) -> list[str]:
        return [word for pool in pools for word in (pool.held_out if held_out_only else pool.all)]

    verbs = words(*FEEL, *STRIKE)
    adjectives = words(*EXTREME, *(pool for pair in GRADABLE.values() for pool in pair))
    return frozenset([*adjectives, *words(*NOUNS), *verbs, *map(past, verbs)])


POLARITY_WORDS = _forms(held_out_only=False)
"""Every sentiment word of the generator, lower-case, in all its forms."""

HELD_OUT_WORDS = _forms(held_out_only=True)
"""The sentiment words that dev and test have and train lacks."""

HELD_OUT_TEMPLATES = tuple(
    template
    for pool in (CLAUSES, CONTRASTS, HEARSAY, EXPECTATIONS, OTHERS, PLOTS, NAMES, FILLERS)
    for template in pool.held_out
)
"""The sentence patterns that dev and test have and train lacks; slots in braces."""
