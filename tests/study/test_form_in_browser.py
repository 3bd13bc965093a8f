"""Forms as annotators meet them: whole ones filled in, in a browser."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from helpers.forms import (
    CONTRASTS,
    button,
    click_answers,
    drawn_values,
    export,
    exported,
    press_answers,
    task_values,
    title,
    upload,
    values_of,
    written,
)

from unirex_ray.study.answers import own_format
from unirex_ray.study.form import form_page
from unirex_ray.study.manifest import Study
from unirex_ray.study.sheet import Page, Part, Passage, Sheet
from unirex_ray.study.tasks import FORWARD, RATING

HOSTILE = (
    "<img src=x onerror=alert(1)> </script><script>alert(2)</script> <!-- & \"quoted\" 'single' \u2028 {{ 7 * 7 }}",
    "\u202eright to left\u202c \u05e9\u05dc\u05d5\u05dd \u05e2\u05d5\u05dc\u05dd  <b>bold</b>\n\ttabbed",
)


slow = pytest.mark.slow


# ---- whole forms


@slow
def test_five_annotators_answer_by_keyboard_and_by_mouse(browser: Any, study: Study, tmp_path: Path) -> None:
    for number, annotator in enumerate(study.sheets):
        context = browser.new_context(accept_downloads=True)
        page = context.new_page()
        page.goto(written(tmp_path, study, annotator))
        answer = press_answers if number % 2 else click_answers
        if number % 2:
            page.keyboard.press("Enter")
        else:
            button(page, "Start").click()
        answer(page, task_values(study, annotator, "forward"))
        assert title(page) == RATING.title
        if number % 2:
            page.keyboard.press("Enter")
        else:
            button(page, "Begin part 2").click()
        answer(page, task_values(study, annotator, "rating"))
        assert title(page) == "Thank you: everything is answered"
        content = export(page)
        assert content.pop("name") == f"answers-{annotator}.json"
        assert {**content, "answers": []} == own_format(study.id, annotator, [])
        answers = exported(page, study)
        assert answers.problems == ()
        assert annotator not in answers.unanswered
        assert not answers.simulated
        assert values_of(answers) == drawn_values(study, annotator)
        for found in answers.answers:
            assert found.seconds is not None
            assert 0 <= found.seconds < 20
            assert found.at is not None
            assert abs((datetime.now(found.at.tzinfo) - found.at).total_seconds()) < 60
        context.close()


@slow
def test_a_form_goes_on_where_the_browser_was_closed(kind: Any, study: Study, tmp_path: Path) -> None:
    launched, options = kind
    address, values = written(tmp_path, study), drawn_values(study, "a1")
    context = launched.launch_persistent_context(tmp_path / "profile", **options)
    page = context.pages[0]
    page.goto(address)
    button(page, "Start").click()
    items = list(values)
    press_answers(page, {item: values[item] for item in items[:2]})
    page.keyboard.press(str(values[items[2]]["label"] + 1))
    context.close()
    context = launched.launch_persistent_context(tmp_path / "profile", **options)
    page = context.pages[0]
    page.goto(address)
    assert title(page) == "Text 3 of 4"
    assert page.locator("input:checked[name=label]").input_value() == str(values[items[2]]["label"])
    page.keyboard.press(str(values[items[2]]["confidence"]))
    page.keyboard.press("Enter")
    press_answers(page, {items[3]: values[items[3]]})
    page.keyboard.press("Enter")
    press_answers(page, task_values(study, "a1", "rating"))
    assert values_of(exported(page, study)) == values
    context.close()


@slow
def test_an_unfinished_export_says_what_is_missing_and_leaves_half_answers_out(
    page: Any, study: Study, tmp_path: Path
) -> None:
    page.goto(written(tmp_path, study))
    button(page, "Start").click()
    values = task_values(study, "a1", "forward")
    first, second = list(values)[:2]
    press_answers(page, {first: values[first]})
    page.keyboard.press("1")
    answers = exported(page, study)
    assert answers.problems == ()
    assert values_of(answers) == {first: values[first]}
    assert second in answers.unanswered["a1"]
    assert page.locator("#said").inner_text() == (
        "Exported 1 answer to answers-a1.json. 7 of 8 texts are still missing."
    )


# ---- the way through


@slow
def test_rating_waits_for_forward_simulation_and_settles_it(page: Any, study: Study, tmp_path: Path) -> None:
    page.goto(written(tmp_path, study))
    assert "the answers of part 1 can no longer be changed" in page.locator("#start").inner_text()
    button(page, "Start").click()
    values = task_values(study, "a1", "forward")
    for _ in range(4):
        button(page, "Next").click()
    assert page.locator("#left").inner_text() == "4 texts of part 1 still wait for an answer."
    page.keyboard.press("Enter")
    assert title(page) == "Text 1 of 4"
    press_answers(page, values)
    assert page.locator("#warning").is_visible()
    button(page, "Back").click()
    page.locator("input[name=confidence]").nth(0).click()  # as long as part 2 has not begun
    button(page, "Next unanswered").click()
    assert not page.locator("#page").is_visible()
    button(page, "Begin part 2").click()
    assert page.locator("#predicted").is_visible()
    page.keyboard.press("p")
    page.keyboard.press("p")
    assert title(page) == "Text 4 of 4"
    assert page.locator("#settled").is_visible()
    assert page.locator("#questions input:enabled").count() == 0
    page.keyboard.press("4")
    page.reload()  # without an answer to part 2
    assert page.locator("#questions input:enabled").count() == 0
    last = list(values)[-1]
    assert values_of(exported(page, study)) == {**values, last: {**values[last], "confidence": 1}}


@slow
def test_keys(page: Any, study: Study, tmp_path: Path) -> None:
    page.goto(written(tmp_path, study))
    page.keyboard.press("Enter")
    focused = "document.activeElement"
    assert page.evaluate(f"{focused}.id") == "title"
    page.keyboard.press("Enter")
    assert title(page) == "Text 1 of 4"
    assert page.locator("#said").inner_text().startswith("Answer the questions first")
    for keys in ("Control+1", "Alt+2", "Meta+1", "9", "5", "0"):
        page.keyboard.press(keys)
    assert page.locator("[type=radio]:checked").count() == 0
    page.keyboard.press("1")
    page.keyboard.press("ArrowDown")
    assert page.evaluate(f"[{focused}.name, {focused}.value]") == ["label", "1"]
    page.keyboard.press("3")
    page.keyboard.press("2")  # all are answered: of the question that has the focus
    assert page.locator("[type=radio]:checked").evaluate_all("all => all.map((one) => one.value)") == ["1", "2"]
    assert page.locator("#count").inner_text() == "1 of 4 answered"
    page.keyboard.press("Enter")
    assert title(page) == "Text 2 of 4"
    page.keyboard.press("Backspace")
    assert title(page) == "Text 1 of 4"
    page.keyboard.press("Enter")
    button(page, "Back").focus()
    page.keyboard.press("Enter")  # is the button's own
    assert title(page) == "Text 1 of 4"
    page.keyboard.press("Enter")
    assert title(page) == "Text 2 of 4"
    page.locator("#keys").uncheck()
    for key in ("1", "p", "Backspace"):
        page.keyboard.press(key)
    assert title(page) == "Text 2 of 4"
    assert page.locator("[type=radio]:checked").count() == 0
    page.reload()
    assert not page.locator("#keys").is_checked()


@slow
def test_next_unanswered_comes_round(page: Any, study: Study, tmp_path: Path) -> None:
    page.goto(written(tmp_path, study))
    button(page, "Start").click()
    button(page, "Next").click()
    page.keyboard.press("1")
    page.keyboard.press("1")
    seen = []
    for _ in range(3):
        button(page, "Next unanswered").click()
        seen.append(title(page))
    assert seen == ["Text 3 of 4", "Text 4 of 4", "Text 1 of 4"]


@slow
def test_seconds_are_those_in_sight_and_long_pauses_count_little(page: Any, study: Study, tmp_path: Path) -> None:
    page.clock.install()
    page.goto(written(tmp_path, study))
    button(page, "Start").click()
    hide = "state => { Object.defineProperty(document, 'hidden', { get: () => state, configurable: true });"
    hide += " document.dispatchEvent(new Event('visibilitychange')); }"
    page.clock.fast_forward(10_000)
    page.evaluate(hide, True)
    page.clock.fast_forward(500_000)
    page.evaluate(hide, False)
    page.clock.fast_forward(5_000)
    page.keyboard.press("1")
    page.keyboard.press("1")
    assert export(page)["answers"][0]["seconds"] == pytest.approx(15, abs=1)
    page.clock.fast_forward(1_000_000)
    page.locator("input[name=label]").nth(1).click()
    assert export(page)["answers"][0]["seconds"] == pytest.approx(135, abs=2)


# ---- what the browser keeps


@slow
def test_without_storage_a_banner_says_so(page: Any, study: Study, tmp_path: Path) -> None:
    page.add_init_script("Object.defineProperty(window, 'localStorage', { get() { throw new Error('none'); } });")
    page.goto(written(tmp_path, study))
    assert "export them before you close this page" in page.locator("#keeps").inner_text()
    button(page, "Start").click()
    page.keyboard.press("1")
    page.keyboard.press("1")
    asked = []
    page.on("dialog", lambda dialog: (asked.append(dialog.type), dialog.accept()))
    page.reload()
    assert asked == ["beforeunload"]


@slow
def test_two_tabs_know_of_each_other(context: Any, page: Any, study: Study, tmp_path: Path) -> None:
    address = written(tmp_path, study)
    page.goto(address)
    button(page, "Start").click()
    other = context.new_page()
    other.goto(address)
    press_answers(other, (values := task_values(study, "a1", "forward")))
    page.locator("#count", has_text="4 of 4 answered").wait_for()
    other.keyboard.press("Enter")
    page.locator("#settled").wait_for()
    assert values_of(exported(page, study)) == values


@slow
def test_an_export_goes_on_in_another_browser(browser: Any, page: Any, study: Study, tmp_path: Path) -> None:
    address, values = written(tmp_path, study), task_values(study, "a1", "forward")
    page.goto(address)
    button(page, "Start").click()
    press_answers(page, values)
    earlier = export(page)
    context = browser.new_context()
    other = context.new_page()
    other.goto(address)
    assert upload(other, earlier) == "Read 4 answers. 4 of 8 texts are answered."
    assert values_of(exported(other, study)) == values
    button(other, "Go on").click()
    assert title(other) == RATING.title
    button(other, "Back").click()
    other.locator("input[name=confidence]").nth(values[earlier["answers"][-1]["item"]]["confidence"] % 4).click()
    changed = values_of(exported(other, study))
    assert changed != values
    upload(other, earlier)  # which is older
    assert values_of(exported(other, study)) == changed
    later = [{**answer, "label": 1 - answer["label"], "at": "2999-01-01T00:00:00Z"} for answer in earlier["answers"]]
    button(other, "Next").click()
    button(other, "Begin part 2").click()
    upload(other, {**earlier, "answers": later})  # settled by now
    assert values_of(exported(other, study)) == changed
    context.close()


@slow
def test_foreign_files_are_refused(page: Any, study: Study, tmp_path: Path) -> None:
    page.goto(written(tmp_path, study))
    forward, rating = (items[0] for items in study.sheets["a1"].values())
    right = own_format(study.id, "a1", [{"item": forward, "label": 1, "confidence": 2}])
    refused = {
        "another study": {**right, "study": "0" * 16},
        "the answers of <b>a2</b>, and this is the form of a1": {**right, "annotator": "<b>a2</b>"},
        "another version": {**right, "version": 2},
        "are simulated": {**right, "simulated": True},
        "no export": {**right, "format": "other"},
        "This file is no export": b"\xff\x00 no JSON",
        "is no export of such": {**right, "answers": {}},
    }
    for message, content in refused.items():
        said = upload(page, content)
        assert said.startswith("Nothing was read: ")
        assert message in said
    bad = [
        {"item": forward, "label": 2, "confidence": 1e400},
        {"item": rating, "alignment": "5"},
        {"item": "__proto__", "label": 0},
        {"item": forward, "label": True},
        None,
    ]
    strange = upload(page, json.dumps({**right, "answers": bad}).replace("Infinity", "1e400").encode())
    assert strange == "Read 0 answers; 5 did not fit this form and were left out. 0 of 8 texts are answered."
    assert export(page)["answers"] == []
    assert upload(page, right) == "Read 1 answer. 1 of 8 texts are answered."


# ---- what is shown


def shown_sheet() -> Sheet:
    """A pair, choices with texts of their own, and hostile texts and options."""
    pair = Page(
        item="pair",
        passages=(
            Passage(choice="", runs=(("One  man", True), (" sleeps.\n", False))),
            Passage(choice="", runs=(("He is awake.", False),)),
        ),
        options=HOSTILE,
        predicted=None,
    )
    choices = Page(
        item="choices",
        passages=tuple(Passage(choice=text, runs=((text, False),)) for text in HOSTILE),
        options=("a", "b"),
        predicted=None,
    )
    rated = Page(
        item="rated", passages=(Passage(choice="", runs=((HOSTILE[0], True),)),), options=HOSTILE, predicted=HOSTILE[0]
    )
    parts = (Part(task=FORWARD, pages=(pair, choices)), Part(task=RATING, pages=(rated,)))
    return Sheet(study="<i>", annotator="<b>&'\"", parts=parts)


@slow
def test_hostile_texts_are_texts_and_nothing_is_asked_of_a_network(context: Any, page: Any, tmp_path: Path) -> None:
    events: list[str] = []
    context.on("request", lambda request: events.append(request.url))
    page.on("dialog", lambda dialog: (events.append("dialog"), dialog.dismiss()))
    file = tmp_path / "form.html"
    file.write_text(form_page(shown_sheet()), encoding="utf-8")
    page.goto(file.as_uri())
    assert "form of <b>&'\"" in page.locator("#start").inner_text()
    button(page, "Start").click()
    texts = page.locator("#texts .text")
    assert texts.evaluate_all("all => all.map((one) => one.textContent)") == ["One  man sleeps.\n", "He is awake."]
    assert (
        texts.evaluate_all("all => all.map((one) => [one.dir, getComputedStyle(one).whiteSpace])")
        == [["auto", "pre-wrap"]] * 2
    )
    assert page.locator("#texts mark").evaluate_all("all => all.map((one) => one.textContent)") == ["One  man"]
    assert (
        tuple(page.locator("fieldset >> nth=0").locator("bdi").evaluate_all("all => all.map((one) => one.textContent)"))
        == HOSTILE
    )
    assert not page.locator("#nothing").is_visible()
    assert not page.locator("#predicted").is_visible()
    for key in ("1", "1", "Enter"):
        page.keyboard.press(key)
    assert page.locator("#nothing").inner_text() == "Nothing is highlighted here: go by the text."
    assert tuple(page.locator(".choice").evaluate_all("all => all.map((one) => one.textContent)")) == HOSTILE
    assert tuple(texts.evaluate_all("all => all.map((one) => one.textContent)")) == HOSTILE
    for key in ("1", "1", "Enter", "Enter"):
        page.keyboard.press(key)
    assert page.locator("#label").evaluate("one => one.textContent") == HOSTILE[0]
    assert page.locator("mark:visible").evaluate("one => one.textContent") == HOSTILE[0]
    assert page.locator("#page img, #page script, #texts b").count() == 0
    assert events == [file.as_uri()]


@slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_everybody_can_read_it(browser: Any, study: Study, tmp_path: Path, scheme: str) -> None:
    """Contrasts of at least 4.5, a label for each radio button, nothing wider than a small screen."""
    context = browser.new_context(color_scheme=scheme, viewport={"width": 400, "height": 800})
    page = context.new_page()
    page.goto(written(tmp_path, study))
    button(page, "Start").click()
    page.keyboard.press("1")
    texts = dict(page.evaluate(CONTRASTS))
    assert {"Next", "Back", "1", "negative", "Export answers", "0 of 4 answered"} <= texts.keys()
    radios = page.locator("input[type=radio]")
    assert radios.evaluate_all("all => all.map((one) => one.labels[0].textContent)") == [
        *("1 negative", "2 positive"),
        *("1 not at all", "2 slightly", "3 fairly", "4 very"),
    ]
    assert page.locator("fieldset > legend").count() == 2
    page.keyboard.press("1")
    page.keyboard.press("Enter")
    values = task_values(study, "a1", "forward")
    screens = [texts]
    press_answers(page, {item: values[item] for item in list(values)[1:]})
    for _ in range(2):
        screens.append(dict(page.evaluate(CONTRASTS)))
        page.keyboard.press("Enter")
    page.keyboard.press("p")
    page.keyboard.press("p")
    screens.append(dict(page.evaluate(CONTRASTS)))
    page.evaluate("document.getElementById('keeps').hidden = false")
    screens.append(dict(page.evaluate(CONTRASTS)))
    button(page, "Back").click()
    for _ in range(3):
        page.keyboard.press("p")
    screens.append(dict(page.evaluate(CONTRASTS)))
    assert title(page).startswith("Which words")
    faint = {text: round(contrast, 2) for one in screens for text, contrast in one.items() if contrast < 4.5}
    assert not faint
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
    context.close()
