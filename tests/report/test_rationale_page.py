"""The page of rationales: what it says, that it is safe and readable, and what its script does in a browser."""

import base64
import hashlib
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from helpers.rationale_pages import K, in_browser, instance, marks, numbers, parse

from unirex_ray.data.highlight import HighlightedInput, HighlightedInstance
from unirex_ray.report.html import methods_page, rationale_page

HOSTILE = (
    "</script><script>document.title='owned'</script><img src=x onerror=alert(1)> & \"q\" 'a' \u202e\u2066 {{ 7 * 7 }}"
)
RANKED = {"good": 1, "film": 5, "dull": 20, "a": 50}


def test_overlap_missed_and_extra_words_are_marked() -> None:
    page = parse(rationale_page([instance("a dull good film", RANKED, {"good", "film", "a"}, shown=20)], title="T"))
    assert marks(page) == [("missed", "a"), ("extra", "dull"), ("both", "good"), ("both", "film")]
    page = parse(rationale_page([instance("a dull good film", RANKED, shown=5)], title="T"))
    assert marks(page) == [("chosen", "good"), ("chosen", "film")]
    page = parse(rationale_page([instance("a dull film", {}, {"dull"}, predicted=None)], title="T"))
    assert marks(page) == [("gold", "dull")]
    assert not page.all("form")
    assert "prediction" not in page.text


def test_numbers_stand_with_each_instance() -> None:
    measured = {"comp@20": 0.5, "suff@20": 0.25, "comprehensiveness": 0.3, "auprc": 50.0}
    page = parse(rationale_page([instance("good film", RANKED, {"good"}, measured=measured)], title="T"))
    assert {name: shown for name, (shown,) in numbers(page).items()} == {
        "p(x)": "0.875",
        "p(x \\ r)": "0.375",
        "p(r)": "0.625",
        "Comp": "0.300",
        "Suff": "n/a",
        "AUPRC": "50.00",
        "TF1": "n/a",
        "distance to gold": "0.50",
    }
    assert "✓ right" in page.text
    wrong = parse(rationale_page([instance("good film", RANKED, label="neg")], title="T"))
    assert "✗ wrong" in wrong.text
    assert "No gold rationale." in wrong.text


def test_scores_are_raw_whatever_the_other_tokens_have() -> None:
    page = parse(rationale_page([instance("a good", RANKED)], title="T"))
    scores = {one.text: one.attributes["data-s"] for one in page.walk() if "data-s" in one.attributes}
    assert scores == {"a": "-0.75", "good": "0"}
    assert "Scores from -0.75 to 0." in page.text


def test_texts_labels_and_titles_are_escaped() -> None:
    word = HOSTILE.split()[0]
    hostile = replace(
        instance(HOSTILE, {word: 5}, {word}, name=HOSTILE, label=HOSTILE, predicted=HOSTILE),
        inputs=tuple(
            replace(text, choice=HOSTILE, note=HOSTILE) for text in instance(HOSTILE, {word: 5}, {word}).inputs
        ),
    )
    source = methods_page({HOSTILE: [hostile], "Other": [hostile]}, title=HOSTILE, subtitle=HOSTILE, back=HOSTILE)
    page = parse(source)
    assert len(page.all("script")) == 2
    assert not page.all("img")
    assert not any(name.startswith("on") for one in page.walk() for name in one.attributes)
    assert "49" not in page.text
    assert HOSTILE.replace("{{ 7 * 7 }}", "").strip() in page.all("title")[0].text
    # Marks that turn the direction of what follows end with the text, and with each name.
    assert {one.attributes["dir"] for one in page.all("p", class_="text")} == {"auto"}
    assert all(one.tag != "h2" or one.all("bdi") for one in page.walk())
    assert "unicode-bidi: isolate" in source


def test_the_page_needs_nothing_from_elsewhere_and_only_its_own_script_may_run() -> None:
    source = methods_page({"One": [instance("good film", RANKED)]}, title="T")
    page = parse(source)
    assert not {"link", "img", "iframe"} & {one.tag for one in page.walk()}
    assert not re.search(r"https?:|url\(|@import|localStorage|sessionStorage|cookie|fetch\(|\btop\b\.", source)
    data, script = page.all("script")
    assert data.attributes == {"type": "application/json", "id": "values"}
    json.loads(data.text)
    digest = base64.b64encode(hashlib.sha256(script.text.encode()).digest()).decode()
    (policy,) = page.all("meta", **{"http-equiv": "Content-Security-Policy"})
    assert policy.attributes["content"] == (
        f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; base-uri 'none'; "
        "form-action 'none'"
    )


def test_what_needs_the_script_is_hidden_without_it() -> None:
    long = " ".join(["good", *["plain"] * 200])
    page = parse(rationale_page([instance(long, RANKED)], title="T"))
    controls = [*page.all("form"), *page.all("span", class_="fold")[0].all("button")]
    assert all("hidden" in one.attributes for one in controls)
    assert not any("hidden" in one.attributes for text in page.all("p", class_="text") for one in text.all("span"))


def test_every_control_has_a_name_and_none_a_place_of_its_own_in_the_order() -> None:
    one = instance("good film", RANKED, {"film"})
    page = parse(methods_page({"One": [one], "Other": [one]}, title="T"))
    labelled = {id(control) for label in page.all("label") for control in label.walk()}
    controls = [one for one in page.walk() if one.tag in ("select", "input", "fieldset")]
    assert len(controls) == 13
    assert all(id(control) in labelled or control.attributes.get("aria-label") for control in controls)
    assert not any("tabindex" in one.attributes for one in page.walk())
    assert page.all("output", **{"aria-live": "polite"})
    names = {one.attributes["id"] for one in page.all("h2")}
    assert {one.attributes["aria-labelledby"] for one in page.all("article")} == names


def test_one_text_has_nothing_to_sort_and_filter() -> None:
    def hidden(texts: int) -> set[str]:
        read = [replace(instance("a good", RANKED), id=str(number)) for number in range(texts)]
        page = parse(rationale_page(read, title="T"))
        boxes = [one for one in page.walk() if "hidden" in one.attributes and one.attributes.get("id") != "tools"]
        return {one.attributes.get("name") or one.attributes.get("id") for box in boxes for one in box.walk()} - {None}

    assert hidden(1) == {"sort", "order", "show", "where", "is", "value", "count"}
    assert hidden(2) == set()


def test_pairs_choices_and_notes_are_shown() -> None:
    text = instance("a good film", RANKED, {"good"}).inputs[0]
    tokens = (*text.tokens, *(replace(token, segment=1) for token in text.tokens))
    pair = HighlightedInput(
        segments=(*text.segments, "a good film"), tokens=tokens, note="7 tokens are cut", choice="A"
    )
    both = replace(instance("x", {}), inputs=(pair, replace(pair, choice="B")))
    page = parse(rationale_page([both], title="T"))
    assert len(page.all("p", class_="text")) == 4
    assert len([text for kind, text in marks(page) if (kind, text) == ("both", "good")]) == 4
    assert [one.text for one in page.all("bdi") if one.text in "AB"] == ["A", "B"]
    assert page.text.count("7 tokens are cut. ") == 2


def luminance(colour: str) -> float:
    channels = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return sum(weight * c for weight, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(one: str, other: str) -> float:
    """WCAG 2.2's contrast ratio, from 1 to 21."""
    lighter, darker = sorted((luminance(one), luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def test_contrast_of_known_colours() -> None:
    assert contrast("#ffffff", "#000000") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.005)


TEXT = [
    *((ink, back) for ink in ("ink", "soft", "link") for back in ("page", "card")),
    ("bad", "card"),
    ("good", "card"),
    ("ink", "both-back"),
    ("ink", "extra-back"),
]
SHAPES = [(shape, "card") for shape in ("both", "extra", "missed", "edge", "link")]
SHAPES += [(shape, "page") for shape in ("both", "extra", "missed")]


@pytest.mark.parametrize("mode", ["light", "dark"])
def test_contrast_is_that_of_wcag_aa(mode: str) -> None:
    style = parse(rationale_page([], title="T")).all("style")[0].text
    roots = re.findall(r":root \{([^}]*)\}", style)
    colours = dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6})", roots[["light", "dark"].index(mode)]))
    for ink, back in TEXT:
        assert contrast(colours[ink], colours[back]) >= 4.5, (ink, back)
    for shape, back in SHAPES:
        assert contrast(colours[shape], colours[back]) >= 3, (shape, back)
    # Nothing else gives text a colour.
    used = set(re.findall(r"(?<![-a-z])color: ([^;}]+)", style.replace("color-scheme", "")))
    assert used <= {f"var(--{ink})" for ink, _ in TEXT} | {"inherit"}
    assert not re.search(r"opacity: (?!1;)", style)


def test_marks_differ_in_shape_in_both_modes() -> None:
    style = parse(rationale_page([], title="T")).all("style")[0].text
    lines = dict(re.findall(r"mark\.(both|extra|missed)[^{:+]*\{[^}]*border-bottom: \S+ (\w+)", style))
    assert lines == {"both": "double", "extra": "solid", "missed": "dashed"}
    for kind in ("both", "extra", "missed", "chosen", "gold"):
        assert re.search(rf"mark\.{kind}::before {{ content: ", style)


def several() -> list[HighlightedInstance]:
    """Instances that differ in what they can be sorted and filtered by."""

    def one(name: str, comp: float | None, **options: object) -> HighlightedInstance:
        measured = {} if comp is None else {"comprehensiveness": comp, "auprc": 100 * comp, "comp@5": 0.25}
        return instance("a dull good film", RANKED, {"good", "film"}, name=name, measured=measured, **options)

    return [
        one("first", 0.25, probability=0.6),
        one("second", None, probability=0.9),
        one("third", 0.75, label="neg", probability=0.7),
        one("fourth", 0.5, probability=0.8),
    ]


def order(page) -> list[str]:
    return [one.all("h2")[0].text for one in page.all("article") if "hidden" not in one.attributes]


@pytest.mark.slow
@pytest.mark.parametrize("k", K)
def test_in_a_browser_each_threshold_marks_what_the_page_of_that_threshold_has(k: int, tmp_path: Path) -> None:
    text = " ".join(["a", *["plain"] * 80, "dull", *["plain"] * 80, "good", *["plain"] * 80, "film"])
    source = {
        shown: instance(text, RANKED, {"film"}, shown=shown, measured={f"comp@{n}": n / 100 for n in K})
        for shown in (k, 20)
    }
    page = in_browser(rationale_page([source[20]], title="T"), tmp_path, f"#k={k}")
    wanted = parse(rationale_page([source[k]], title="T"))
    assert marks(page) == marks(wanted)
    assert numbers(page) == numbers(wanted)
    assert "hidden" not in page.all("form")[0].attributes
    folds = page.all("span", class_="fold")
    for fold in folds:
        button, body = fold.children
        folded = str(k) in fold.attributes["data-folds"].split()
        assert ("hidden" in body.attributes, "hidden" not in button.attributes) == (folded, folded)
        assert button.attributes["aria-expanded"] == ("false" if folded else "true")
    # `good` and, as gold, `film` are always marked; `dull` parts the first fold in two.
    closed = [fold for fold in folds if "hidden" in fold.children[1].attributes]
    assert len(closed) == {1: 2, 5: 2, 10: 2, 20: 3, 50: 3}[k]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fragment", "expected"),
    [
        ("", ["first", "second", "third", "fourth"]),
        ("#sort=comprehensiveness", ["third", "fourth", "first", "second"]),
        ("#sort=comprehensiveness&order=up", ["first", "fourth", "third", "second"]),
        ("#sort=p", ["second", "fourth", "third", "first"]),
        ("#show=wrong", ["third"]),
        ("#show=right&sort=p&order=up", ["first", "fourth", "second"]),
        ("#where=auprc&is=least&value=50", ["third", "fourth"]),
        ("#where=auprc&is=most&value=50", ["first", "fourth"]),
        ("#where=gold&is=most&value=0&k=5", ["first", "second", "third", "fourth"]),
        ("#where=gold&is=most&value=0&k=20", []),
        ("#k=7&sort=nonsense&value=x", ["first", "second", "third", "fourth"]),
    ],
)
def test_in_a_browser_instances_are_sorted_and_filtered(fragment: str, expected: list[str], tmp_path: Path) -> None:
    page = in_browser(rationale_page(several(), title="T"), tmp_path, fragment)
    assert order(page) == expected
    assert page.all("output")[0].text == f"{len(expected)} of 4 instances"


@pytest.mark.slow
def test_in_a_browser_the_one_text_of_a_page_is_shown_whatever_its_link_asks_for(tmp_path: Path) -> None:
    page = in_browser(rationale_page(several()[:1], title="T"), tmp_path, "#show=wrong&value=9&k=5")
    assert order(page) == ["first"]
    assert [one.text for one in page.all("span", class_="percent")] == ["5", "5"]  # on paper, and where it is explained
    assert page.all("p", class_="printed")


@pytest.mark.slow
def test_in_a_browser_methods_are_sorted_by_and_hidden(tmp_path: Path) -> None:
    ones, others = several(), several()
    others[1] = replace(others[1], predicted="neg", inputs=instance("a dull good film", {"a": 1}, {"film"}).inputs)
    source = methods_page({"One": ones, "Other": others, "Third": ones, "Fourth": ones}, title="T")
    page = in_browser(source, tmp_path, "#sort=apart")
    assert order(page)[0] == "second"
    first = page.all("article")[0]
    assert [section.all("h3")[0].text for section in first.all("section") if "hidden" not in section.attributes] == [
        "One",
        "Other",
        "Third",
    ]
    page = in_browser(source, tmp_path, "#show=differ&column1=0&column3=1")
    assert order(page) == ["second"]
    shown = [section for section in page.all("section") if "hidden" not in section.attributes]
    assert {section.attributes["data-method"] for section in shown} == {"0", "2", "3"}
    assert order(in_browser(source, tmp_path, "#show=wrong&method=1")) == ["second", "third"]


@pytest.mark.slow
def test_in_a_browser_a_visitor_changes_what_is_shown(tmp_path: Path) -> None:
    long = instance(" ".join(["good", *["plain"] * 200]), RANKED, {"good"}, name="long")
    source = rationale_page([*several(), long], title="T")
    change = """
    const field = (name) => document.querySelector(`[name=${name}]`);
    field("k").value = "5"; field("sort").value = "p"; field("scores").checked = true;
    field("sort").dispatchEvent(new Event("input", { bubbles: true }));
    document.querySelector(".fold > button").click();
    document.title = location.hash;
    """
    page = in_browser(source, tmp_path, script=change)
    assert page.all("title")[0].text == "#k=5&sort=p&scores=1"
    assert order(page)[0] == "second"
    assert page.all("body", class_="scores")
    (button,) = page.all("span", class_="fold")[0].all("button")
    assert button.attributes["aria-expanded"] == "true"
    assert "hidden" not in page.all("span", class_="fold")[0].children[1].attributes
    reset = in_browser(source, tmp_path, "#sort=p", script="document.querySelector('[type=reset]').click()")
    assert order(reset)[0] == "first"


@pytest.mark.slow
def test_in_a_browser_a_hostile_text_stays_a_text(tmp_path: Path) -> None:
    word = HOSTILE.split()[0]
    page = in_browser(
        rationale_page([instance(HOSTILE, {word: 50}, {word}, label=HOSTILE)], title="T"), tmp_path, "#k=50"
    )
    assert page.all("title")[0].text == "T"
    assert marks(page) == [("both", word)]
    assert page.all("p", class_="text")[0].text == HOSTILE


@pytest.mark.slow
def test_in_a_browser_it_works_in_a_frame_that_may_only_run_scripts(tmp_path: Path) -> None:
    source = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", rationale_page(several(), title="T"))
    tell = "<script>parent.postMessage(document.getElementById('count').textContent, '*')</script></body>"
    (tmp_path / "inner.html").write_text(source.replace("</body>", tell))
    frame = (
        "<!DOCTYPE html><html><head><title>waits</title></head><body><script>addEventListener('message', (event) => "
        "{ document.title = event.data; });</script>"
        '<iframe sandbox="allow-scripts" src="inner.html#show=wrong"></iframe></body></html>'
    )
    assert in_browser(frame, tmp_path).all("title")[0].text == "1 of 4 instances"
