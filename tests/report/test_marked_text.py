import re
from collections.abc import Iterator

from helpers.rationale_pages import highlighted
from hypothesis import given, settings
from hypothesis import strategies as st

from unirex_ray.data.highlight import HighlightedInput, HighlightedToken
from unirex_ray.report.marked_text import Fold, Parts, Word, marked_text, pieces

K = (1, 5, 10, 20, 50)


@given(
    st.lists(st.text("ab <&\u00e9\U0001f600", max_size=12), min_size=1, max_size=2),
    st.lists(st.tuples(st.integers(0, 1), st.integers(0, 12), st.integers(0, 12), st.floats(-5, 5)), max_size=6),
)
def test_pieces_keep_every_character(segments: list[str], spans: list[tuple[int, int, int, float]]) -> None:
    overlapping = [
        HighlightedToken(segment=s, start=min(a, b), end=max(a, b), score=score, selected=False, gold=None)
        for s, a, b, score in sorted(spans)
        if s < len(segments) and max(a, b) <= len(segments[s])
    ]
    cut = pieces(HighlightedInput(segments=tuple(segments), tokens=tuple(overlapping)))
    assert ["".join(piece.text for piece in segment) for segment in cut] == segments


def words(parts: Parts, percent: int | None = None) -> Iterator[Word]:
    """Those that are seen at a percent, or all."""
    for part in parts:
        if isinstance(part, Word):
            yield part
        elif percent not in part.percents:
            yield from words(part.parts, percent)


def folds(parts: Parts) -> Iterator[Fold]:
    for part in parts:
        if isinstance(part, Fold):
            yield part
            yield from folds(part.parts)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 300), st.data())
def test_folding_hides_no_mark_and_loses_no_character(count: int, data: st.DataObject) -> None:
    plain = ["bc" if number % 3 else "a" for number in range(count)]
    places = st.lists(st.integers(0, max(0, len(plain) - 1)), max_size=5)
    chosen = {place: data.draw(st.sampled_from(K)) for place in data.draw(places) if plain}
    golden = set(data.draw(places)) if data.draw(st.booleans()) else set()
    named = [f"w{n}" if n in chosen or n in golden else word for n, word in enumerate(plain)]
    text = data.draw(st.sampled_from([" ", "  ", "\n"])).join(named)
    source = highlighted(text, {f"w{n}": k for n, k in chosen.items()}, {f"w{n}" for n in golden})
    (parts,) = marked_text(source, K)
    assert "".join(word.text for word in words(parts)) == text
    starts = [word.start for word in words(parts)]
    assert starts == sorted(set(starts))
    before = None
    for k in K:
        seen = list(words(parts, k))
        marked = {f"w{n}" for n in golden} | {f"w{n}" for n, enters in chosen.items() if enters <= k}
        assert {word.text for word in seen if word.is_marked(k)} == {w for w in marked if w in named}
        visible = {place for word in seen for place in range(word.start, word.start + len(word.text))}
        assert before is None or before <= visible
        before = visible
    for folded in folds(parts):
        assert folded.words == len("".join(word.text for word in words(folded.parts)).split()) >= 40


def test_twelve_words_stay_on_either_side_of_a_mark() -> None:
    text = " ".join([*(f"a{n}" for n in range(100)), "mark", *(f"b{n}" for n in range(100))])
    (parts,) = marked_text(highlighted(text, {"mark": 10}), K)
    seen = {k: re.sub(r"\s+", " ", "".join(word.text for word in words(parts, k))) for k in K}
    lead = " ".join(f"a{n}" for n in range(12))
    around = " ".join([*(f"a{n}" for n in range(88, 100)), "mark", *(f"b{n}" for n in range(12))])
    assert seen[1].strip() == seen[5].strip() == lead
    assert seen[10].strip() == seen[50].strip() == f"{lead}{around}"  # the blank is folded as well
    outer, left, right = folds(parts)
    assert (outer.percents, outer.words) == ((1, 5), 189)
    assert (left.percents, left.words, right.words) == ((10, 20, 50), 76, 88)


def test_a_short_text_is_not_folded_and_shows_every_score() -> None:
    (parts,) = marked_text(highlighted("good film, a word", {"good": 5}, set()), K)
    assert [(w.text, w.kind, w.enters, w.gold) for w in words(parts) if w.text.strip()] == [
        ("good", "token", 5, False),
        ("film,", "token", 0, False),
        ("a", "token", 0, False),
        ("word", "token", 0, False),
    ]
    long = " ".join(["good", *["plain"] * 300])
    kinds = {w.kind for w in words(marked_text(highlighted(long, {"good": 5}), K)[0]) if w.text.strip() == "plain"}
    assert kinds == {"plain"}


def test_a_rationale_with_a_size_of_its_own_is_whole_at_every_percent() -> None:
    source = highlighted("a good film", {"good": 10}, shown=10)
    (parts,) = marked_text(source, K, own=10)
    assert {word.text: word.enters for word in words(parts) if word.enters} == {"good": 1}


def test_a_text_that_is_not_read_is_told_from_blanks() -> None:
    text = HighlightedInput(segments=("read and the rest",), tokens=highlighted("read", {}).tokens)
    (parts,) = marked_text(text, K)
    assert [(word.text, word.kind) for word in words(parts)] == [("read", "token"), (" and the rest", "unread")]
