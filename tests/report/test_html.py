import re
from collections.abc import Set
from dataclasses import replace

import pytest
from rich.console import Console

from unirex_ray.data.highlight import HighlightedInput, HighlightedInstance, HighlightedToken
from unirex_ray.report.html import rationale_text


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


def test_the_terminal_marks_the_rationale_alone_whatever_the_scores() -> None:
    styles = {str(span.style) for span in rationale_text(instance("a dull good film", selected={"good"})).spans}
    assert styles <= {"bold", "bold underline"}
