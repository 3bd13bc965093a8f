"""A browser, and a study whose forms it visits."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from helpers.browser import chromium
from helpers.studies import made_study

from unirex_ray.study.manifest import Study


@pytest.fixture(scope="module")
def kind() -> Iterator[Any]:
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def browser(kind: Any) -> Iterator[Any]:
    launched, options = kind
    opened = launched.launch(**options)
    yield opened
    opened.close()


@pytest.fixture
def context(browser: Any) -> Iterator[Any]:
    context = browser.new_context()
    context.set_default_timeout(30_000)
    yield context
    context.close()


@pytest.fixture
def page(context: Any) -> Iterator[Any]:
    """Whose scripts raise nothing."""
    page, errors = context.new_page(), list[str]()
    page.on("pageerror", lambda error: errors.append(str(error)))
    yield page
    assert not errors


@pytest.fixture(scope="module")
def study() -> Study:
    return made_study(instances=4, annotators=5, raters=2)
