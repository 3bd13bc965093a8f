"""Forms that send their answers to a server, in a browser."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

import pytest
from helpers.answer_server import AnswerServer, answer_server
from helpers.forms import (
    button,
    exported,
    press_answers,
    task_values,
    title,
    values_of,
)

from unirex_ray.study.form import form_page
from unirex_ray.study.manifest import Study
from unirex_ray.study.sheet import sheet_of

slow = pytest.mark.slow


@pytest.fixture
def served(study: Study) -> Iterator[AnswerServer]:
    with answer_server(form_page(sheet_of(study, "a1"), server=True)) as state:
        yield state


def until(page: Any, holds: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < end
        page.wait_for_timeout(20)


def plain(kept: dict[str, dict[str, Any]]) -> dict[str, dict[str, int]]:
    return {item: {k: v for k, v in one.items() if k not in ("item", "seconds", "at")} for item, one in kept.items()}


@slow
def test_a_server_keeps_answers_and_one_that_was_away_gets_them_later(
    browser: Any, page: Any, study: Study, served: AnswerServer
) -> None:
    values = task_values(study, "a1", "forward")
    items = list(values)
    page.goto(served.address)
    button(page, "Start").click()
    press_answers(page, {item: values[item] for item in items[:2]})
    until(page, lambda: served.posts == items[:2])
    for status, item in zip((500, 0), items[2:], strict=True):
        served.status = status
        press_answers(page, {item: values[item]})
        page.locator("#server", has_text="Not saved on the server yet").wait_for()
    assert list(served.kept) == items[:2]
    page.reload()  # what the server lacks is not lost
    page.locator("#server", has_text="Not saved on the server yet").wait_for()
    served.status = 200
    page.locator("#server", has_text="Not saved").wait_for(state="hidden")
    assert plain(served.kept) == values
    page.keyboard.press("Enter")
    press_answers(page, (rated := task_values(study, "a1", "rating")))
    page.locator("#end-saved").wait_for()
    assert plain(served.kept) == {**values, **rated}
    assert values_of(exported(page, study)) == plain(served.kept)
    context = browser.new_context()  # that holds nothing
    other = context.new_page()
    other.goto(served.address)
    button(other, "Go on").click()
    assert title(other) == "Thank you: everything is answered"
    assert values_of(exported(other, study)) == plain(served.kept)
    context.close()


@slow
def test_of_two_answers_the_later_one_counts(page: Any, study: Study, served: AnswerServer) -> None:
    first, second = study.sheets["a1"]["forward"][:2]
    page.goto(served.address)
    button(page, "Start").click()
    for key in ("1", "1", "Enter", "1", "1"):
        page.keyboard.press(key)
    until(page, lambda: served.posts == [first, second])
    served.kept[first] |= {"confidence": 4, "at": "2999-01-01T00:00:00+00:00"}
    served.kept[second] |= {"confidence": 4, "at": "1999-01-01T00:00:00+00:00"}
    served.posts.clear()
    page.reload()
    until(page, lambda: bool(served.posts))
    page.wait_for_timeout(100)
    assert served.posts == [second]
    assert {item: value["confidence"] for item, value in values_of(exported(page, study)).items()} == {
        first: 4,
        second: 1,
    }


@slow
def test_what_waited_replaces_nothing_later(page: Any, study: Study, served: AnswerServer) -> None:
    first = study.sheets["a1"]["forward"][0]
    page.goto(served.address)
    button(page, "Start").click()
    served.status = 500
    page.keyboard.press("1")
    page.keyboard.press("1")
    page.locator("#server", has_text="Not saved").wait_for()
    served.kept[first] = {"item": first, "label": 1, "confidence": 4, "at": "2999-01-01T00:00:00+00:00"}
    served.status = 200
    page.locator("#server", has_text="Not saved").wait_for(state="hidden")
    assert served.posts == []
    assert values_of(exported(page, study)) == {first: {"label": 1, "confidence": 4}}


@slow
def test_what_waits_is_sent_when_the_page_is_left(page: Any, study: Study, served: AnswerServer) -> None:
    page.clock.install()
    page.goto(served.address)
    button(page, "Start").click()
    page.clock.pause_at(datetime.now().timestamp() + 60)  # so that nothing is tried again by itself
    served.status = 500
    page.keyboard.press("1")
    page.keyboard.press("1")
    page.locator("#server", has_text="Not saved").wait_for()
    served.status = 200
    page.goto("about:blank")
    until(page, lambda: served.posts == [study.sheets["a1"]["forward"][0]])
