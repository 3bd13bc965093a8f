"""What the file of a form holds."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

import pytest
from helpers.studies import made_study

from unirex_ray.study.answers import own_format
from unirex_ray.study.form import form_page, minutes
from unirex_ray.study.manifest import Study
from unirex_ray.study.sheet import sheet_of
from unirex_ray.study.tasks import FORWARD, RATING


def embedded(html: str) -> Any:
    found = re.search(r'<script type="application/json" id="sheet">(.*?)</script>', html, re.DOTALL)
    assert found
    return json.loads(found.group(1))


def test_the_file_holds_what_the_sheet_holds(study: Study) -> None:
    sheet = sheet_of(study, "a2")
    values = embedded(form_page(sheet))
    assert values["export"] == own_format(study.id, "a2", [])
    assert [part["title"] for part in values["parts"]] == [FORWARD.title, RATING.title]
    for found, part in zip(values["parts"], sheet.parts, strict=True):
        assert [set(question) for question in found["questions"]] == [{"name", "text", "scale", "first"}] * len(
            part.task.questions
        )
        assert found["pages"] == [
            {
                "item": page.item,
                "passages": [
                    {"choice": passage.choice, "runs": [list(run) for run in passage.runs]} for passage in page.passages
                ],
                "options": list(page.options),
                "predicted": page.predicted,
            }
            for page in part.pages
        ]


@pytest.mark.parametrize("server", [False, True])
def test_nothing_tells_whose_rationale_it_is(study: Study, server: bool) -> None:
    html = form_page(sheet_of(study, "a1"), server=server)
    hidden = [condition.name for condition in study.conditions]
    hidden += [value for condition in study.conditions for value in condition.model.values()]
    assert len(hidden) == 8
    assert [name for name in hidden if name.lower() in html.lower()] == []


def test_what_forward_simulation_asks_for_is_not_there() -> None:
    """Two studies whose models predict the opposite give one form."""
    study = made_study(tasks=("forward",))
    other = replace(
        study,
        rationales=tuple(tuple(replace(one, label=1 - one.label) for one in row) for row in study.rationales),
        instances=tuple(replace(one, label=1 - one.label) for one in study.instances),
    )
    same = {"study": "0"}
    assert form_page(replace(sheet_of(study, "a1"), **same)) == form_page(replace(sheet_of(other, "a1"), **same))


@pytest.mark.parametrize(("server", "reached"), [(False, None), (True, "'self'")])
def test_only_a_server_s_form_may_reach_its_server(study: Study, server: bool, reached: str | None) -> None:
    html = form_page(sheet_of(study, "a1"), server=server)
    found = re.search(r'Content-Security-Policy" content="([^"]*)"', html)
    assert found
    policy = dict(rule.strip().split(" ", 1) for rule in found.group(1).split(";"))
    assert policy["default-src"] == "'none'"
    assert policy.get("connect-src") == reached
    assert not re.search(r"\b(?:https?:)?//[a-z]", re.sub(r"(?m)^\s*//.*$|\s// .*$", "", html))


def test_minutes_are_of_characters_and_questions() -> None:
    # 2 x 50 texts of 100 characters are 10 minutes, 3 x 50 questions 18.75, and both together nearly 30.
    study = made_study(annotators=1, texts=["abcd " * 20] * 50)
    assert minutes(sheet_of(study, "a1")) == 30
