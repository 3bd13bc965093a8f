import re
from collections.abc import Set
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from unirex_ray.data.highlight import HighlightedInput, HighlightedInstance, HighlightedToken
from unirex_ray.report.html import pieces, rationale_page, rationale_text

HOSTILE = "<script>alert(1)</script> & \"q\" 'a' [bold]x[/bold] {{ 7 * 7 }}"


def tokens(text: str, *, selected: Set[str], gold: Set[str] | None, segment: int = 0) -> tuple[HighlightedToken, ...]:
    return tuple(
        HighlightedToken(
            segment=segment,
            start=match.start(),
            end=match.end(),
            score=float(len(match.group())),
            selected=match.group() in selected,
            gold=None if gold is None else match.group() in gold,
        )
        for match in re.finditer(r"\S+", text)
    )


def instance(
    text: str, *, selected: Set[str] = frozenset(), gold: Set[str] | None = None, label: str | None = "pos"
) -> HighlightedInstance:
    highlighted = HighlightedInput(segments=(text,), tokens=tokens(text, selected=selected, gold=gold))
    return HighlightedInstance(
        id="test-1", inputs=(highlighted,), label=label, predicted="pos", probability=0.875, top_k_percent=20
    )


class Reader(HTMLParser):
    """Which elements a page has, and the text inside elements of a class."""

    def __init__(self) -> None:
        super().__init__()
        self.elements: list[str] = []
        self.classes: dict[str, list[str]] = {}
        self.attributes: set[str] = set()
        self.all_text = ""
        self._open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(tag)
        self.attributes |= {name for name, _ in attrs}
        if tag not in ("meta", "br"):
            self._open.append(dict(attrs).get("class") or "")

    def handle_endtag(self, tag: str) -> None:
        self._open.pop()

    def handle_data(self, data: str) -> None:
        self.all_text += data
        if self._open:
            self.classes.setdefault(self._open[-1], []).append(data)


def read(page: str) -> Reader:
    reader = Reader()
    reader.feed(page)
    return reader


def test_selected_and_gold_tokens_are_marked() -> None:
    page = read(rationale_page([instance("a dull good film", selected={"good", "film"}, gold={"good"})], title="T"))
    assert page.classes["s"][1:] == ["good", "film"]
    assert page.classes["g"][1:] == ["good"]
    assert "87.5%" in page.all_text


def test_texts_labels_and_titles_are_escaped() -> None:
    hostile = HighlightedInstance(
        id=HOSTILE,
        inputs=instance(HOSTILE, selected={"&"}, gold={"&"}).inputs,
        label=HOSTILE,
        predicted=HOSTILE,
        probability=0.5,
        top_k_percent=20,
    )
    source = rationale_page([hostile], title=HOSTILE, subtitle=HOSTILE)
    page = read(source)
    assert "script" not in page.elements
    assert "<script" not in source
    assert not any(name.startswith("on") for name in page.attributes)
    assert page.all_text.count("{{ 7 * 7 }}") == 8
    assert "49" not in page.all_text


def test_the_page_is_self_contained() -> None:
    source = rationale_page([instance("good film", gold={"good"})], title="T")
    assert not {"script", "link", "img", "iframe"} & set(read(source).elements)
    assert "http" not in source.replace("http-equiv", "")


def test_an_instance_without_gold_or_label_says_so() -> None:
    page = read(rationale_page([instance("good film", selected={"good"}, label=None)], title="T"))
    assert "no gold rationale" in page.all_text
    assert "label" not in page.all_text
    with_gold = read(rationale_page([instance("good film", gold=set())], title="T"))
    assert "no gold rationale" not in with_gold.all_text


def test_pairs_show_both_segments() -> None:
    first, second = "a good film", "was it good"
    highlighted = HighlightedInput(
        segments=(first, second),
        tokens=tokens(first, selected=set(), gold={"good"}) + tokens(second, selected={"was"}, gold={"was"}, segment=1),
    )
    pair = HighlightedInstance(
        id="p", inputs=(highlighted, highlighted), label="a", predicted="b", probability=0.5, top_k_percent=5
    )
    page = read(rationale_page([pair], title="T"))
    assert page.classes["g"][1:] == ["good", "was", "good", "was"]


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
    assert all(0.0 <= piece.strength <= 1.0 for segment in cut for piece in segment)


def test_strength_is_relative_to_the_input() -> None:
    (cut,) = pieces(instance("a abc abcde").inputs[0])
    assert [(p.text, p.strength) for p in cut if p.token] == [("a", 0.0), ("abc", 0.5), ("abcde", 1.0)]
    (equal,) = pieces(instance("ab cd").inputs[0])
    assert {p.strength for p in equal} == {0.0}


@pytest.mark.parametrize(
    ("selected", "expected"),
    [
        ({"good", "film"}, "a [good film] here"),
        ({"a", "film"}, "[a] good [film] here"),
        ({"here"}, "a good film [here]"),
        (set(), "a good film here"),
    ],
)
def test_plain_text_has_brackets(selected: set[str], expected: str) -> None:
    lines = rationale_text(instance("a good film here", selected=selected), plain=True).plain.splitlines()
    assert lines == ["prediction: pos (87.5%)   label: pos", "rationale (top 20%): [in brackets]", expected]


def test_adjacent_tokens_share_a_bracket_and_blanks_stay_outside() -> None:
    text = "great(!) film"
    spans = [(0, 5, True), (5, 6, False), (6, 8, True), (9, 13, False)]
    highlighted = HighlightedInput(
        segments=(text,),
        tokens=tuple(
            HighlightedToken(segment=0, start=a, end=b, score=0.0, selected=s, gold=None) for a, b, s in spans
        ),
    )
    one = HighlightedInstance(
        id="i", inputs=(highlighted,), label=None, predicted="pos", probability=1.0, top_k_percent=50
    )
    assert rationale_text(one, plain=True).plain.splitlines()[-1] == "[great]([!)] film"


def test_the_terminal_gets_no_commands_from_a_text() -> None:
    text = "a \x1b[31mred\x07 \x9b1m [bold]b[/bold]"
    rendered = rationale_text(instance(text, selected={"[bold]b[/bold]"}))
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", rendered.plain)
    assert "[bold]b[/bold]" in rendered.plain
    console = Console(record=True, width=200, force_terminal=True, color_system="truecolor", file=None, quiet=True)
    with console.capture() as captured:
        console.print(rendered)
    assert "\x1b[31m" not in captured.get()


def test_without_a_prediction_the_gold_rationale_stands_alone() -> None:
    highlighted = HighlightedInput(
        segments=("a good film",),
        tokens=tokens("a good film", selected={"good"}, gold={"good"}),
        note="7 tokens are cut",
    )
    bare = HighlightedInstance(id="train-1", inputs=(highlighted,), label="pos")
    page = read(rationale_page([bare], title="T"))
    assert page.classes["g"][1:] == ["good"]
    assert "7 tokens are cut" in page.all_text
    assert "prediction" not in page.all_text
    assert "Extracted" not in page.all_text
    lines = rationale_text(bare, plain=True).plain.splitlines()
    assert lines == ["train-1   label: pos", "gold rationale: [in brackets]", "(7 tokens are cut)", "a [good] film"]
    none = HighlightedInstance(id="i", inputs=instance("a good film").inputs, label="pos")
    assert rationale_text(none, plain=True).plain.splitlines()[1] == "gold rationale: none"


def test_what_the_model_does_not_read_is_left_out_of_plain_text() -> None:
    highlighted = HighlightedInput(
        segments=("a good film here",), tokens=tokens("a good", selected={"good"}, gold=None)
    )
    one = HighlightedInstance(
        id="i", inputs=(highlighted,), label="pos", predicted="pos", probability=1.0, top_k_percent=50
    )
    assert rationale_text(one, plain=True).plain.splitlines()[-1] == "a [good] [...] "
    assert rationale_text(one).plain.splitlines()[-1] == "a good film here"


def test_choices_are_named() -> None:
    text = instance("a good film", gold={"good"}).inputs[0]
    choices = tuple(replace(text, choice=name) for name in "AB")
    bare = HighlightedInstance(id="i", inputs=choices, label="B")
    assert [line[:3] for line in rationale_text(bare, plain=True).plain.splitlines()[2:]] == ["A: ", "B: "]
    assert "<b>A</b>" in rationale_page([bare], title="T")
