"""Rationales of a given size, and the characters that they cover."""

from hypothesis import given
from hypothesis import strategies as st

from unirex_ray.study.rationales import is_tied, joined, of_size, parts_word, runs

TOKENS = st.lists(st.tuples(st.sampled_from([-1.0, 0.0, 0.5, 0.5000001, 2.0]), st.booleans()), max_size=12)


def by_hand(scores: list[float], eligible: list[bool], size: int) -> set[int]:
    """One token after the other: the best of those that are left, the first of equal ones."""
    left, kept = [index for index, may in enumerate(eligible) if may], set()
    while left and len(kept) < size:
        best = left[0]
        for index in left:
            if scores[index] > scores[best]:
                best = index
        kept.add(best)
        left.remove(best)
    return kept


@given(TOKENS, st.integers(0, 14))
def test_the_highest_scores_are_kept_and_of_equal_ones_the_lower_index(
    tokens: list[tuple[float, bool]], size: int
) -> None:
    scores, eligible = [score for score, _ in tokens], [may for _, may in tokens]
    kept = of_size(scores, eligible, size)
    assert {index for index, keep in enumerate(kept) if keep} == by_hand(scores, eligible, size)
    assert sum(kept) == min(size, sum(eligible))


def test_size_and_ties_by_hand() -> None:
    scores, eligible = [9.0, 0.5, 0.5, 0.7, 0.5], [False, True, True, True, True]
    assert of_size(scores, eligible, 2) == [False, True, False, True, False]
    assert is_tied(scores, eligible, of_size(scores, eligible, 2))
    assert not is_tied(scores, eligible, of_size(scores, eligible, 1))
    assert not is_tied(scores, eligible, of_size(scores, eligible, 4))
    assert not is_tied(scores, eligible, of_size(scores, eligible, 0))


def test_spans_that_only_blanks_part_are_one() -> None:
    text = "a very  good film, good"
    assert joined(text, [(8, 12), (2, 6), (19, 23)]) == [(2, 12), (19, 23)]
    assert joined(text, [(2, 6), (4, 12)]) == [(2, 12)]
    assert runs(text, [(2, 12), (19, 23)]) == [("a ", False), ("very  good", True), (" film, ", False), ("good", True)]
    assert runs(text, []) == [(text, False)]


def test_spans_within_words_are_told_from_whole_words() -> None:
    text = "lai-ssez passer ."
    assert not any(parts_word(text, [span]) for span in [(0, 3), (0, 8), (9, 15), (16, 17), (0, 17)])
    assert all(parts_word(text, [(0, 3), span]) for span in [(0, 2), (4, 6), (10, 15), (9, 12)])
    assert not parts_word(text, [])


@given(st.text("ab ", max_size=12), st.lists(st.tuples(st.integers(0, 11), st.integers(1, 4)), max_size=5))
def test_runs_are_the_text_and_mark_what_the_spans_cover(text: str, drawn: list[tuple[int, int]]) -> None:
    spans = [(start, min(start + size, len(text))) for start, size in drawn if start < len(text)]
    found = runs(text, joined(text, spans))
    assert "".join(part for part, _ in found) == text
    marked = [flag for part, flag in found for _ in part]
    covered = [any(start <= place < end for start, end in spans) for place in range(len(text))]
    assert all(flag or not cover for flag, cover in zip(marked, covered, strict=True))
    for place, (flag, cover) in enumerate(zip(marked, covered, strict=True)):
        assert flag == cover or text[place] == " "
