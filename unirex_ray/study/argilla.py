"""A study in Argilla 2: settings and records of datasets, and answers from the records that it exports.

An annotator gets a dataset per task, in a workspace of their own.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from unirex_ray.study.answers import RawAnswer
from unirex_ray.study.manifest import Study
from unirex_ray.study.markup import as_html
from unirex_ray.study.sheet import Page, sheet_of
from unirex_ray.study.tasks import QUESTIONS, Question, Task

FOLDER = "argilla"

_NUMBER = re.compile(r"[0-9]{1,9}")

_README = """\
# The study in Argilla

Each annotator gets a workspace, and a dataset per task in it. With `pip install "argilla>=2.8"`, in this folder:

```python
import argilla as rg

client = rg.Argilla(api_url="http://localhost:6900", api_key="...")
for annotator in [{annotators}]:
    workspace = rg.Workspace(name=annotator, client=client).create()
    workspace.add_user(annotator)  # an account that you have created, with the role annotator
    for task in [{tasks}]:
        settings = rg.Settings.from_json(f"{{task}}-settings.json")
        dataset = rg.Dataset(name=task, workspace=annotator, settings=settings, client=client).create()
        dataset.records.from_json(f"{{annotator}}-{{task}}.json")
```

`forward` comes before `rating`, which shows what `forward` asks. When they are done:

```python
for annotator in [{annotators}]:
    for task in [{tasks}]:
        client.datasets(name=task, workspace=annotator).records.to_json(f"answers-{{annotator}}-{{task}}.json")
```

Give these files to the analysis. Only submitted responses are answers; drafts and discarded ones are not.
"""


def argilla_files(study: Study) -> dict[str, str]:
    """What is pushed to a server, by path: settings per task, records per annotator and task, instructions."""
    names = {"annotators": study.sheets, "tasks": [task.name for task in study.tasks]}
    readme = _README.format_map({name: ", ".join(map(json.dumps, of)) for name, of in names.items()})
    files = {f"{FOLDER}/README.md": readme}
    shared = _shared_options(study)
    for task in study.tasks:
        files[f"{FOLDER}/{task.name}-settings.json"] = json.dumps(_settings(study, task, shared), indent=1)
    for annotator in study.sheets:
        sheet = sheet_of(study, annotator)
        for part in sheet.parts:
            listed = not shared and part.task.asks_for_label
            records = [_record(study.id, annotator, page, listed=listed) for page in part.pages]
            files[f"{FOLDER}/{annotator}-{part.task.name}.json"] = json.dumps(records, indent=1)
    return files


def argilla_answers(values: Iterable[Any], source: str) -> list[RawAnswer]:
    """What exported records hold: an answer per annotator who submitted one.

    Records do not say which responses are submitted, but which records have as many as they need, and one is enough.
    """
    found = list[RawAnswer]()
    for value in values:
        if not is_argilla(value):
            found.append(RawAnswer(annotator=None, item=value, values={}, source=source))
        elif value.get("status") == "completed":
            found += [_answer(value, answered, source) for answered in _by_user(value["responses"])]
    return found


def is_argilla(value: Any) -> bool:
    """Whether a value is a record."""
    return isinstance(value, dict) and all(isinstance(value.get(name), dict) for name in ("fields", "responses"))


def _shared_options(study: Study) -> tuple[str, ...]:
    """The labels that all instances offer; empty where they offer different ones."""
    first = study.instances[0].options
    return first if all(instance.options == first for instance in study.instances) else ()


def _settings(study: Study, task: Task, shared: Sequence[str]) -> dict[str, Any]:
    """Settings of a dataset.

    Args:
        shared: what all instances offer; where there is none, the record lists its options and they are chosen by
            number.
    """
    most = max(len(instance.options) for instance in study.instances)
    options = shared or [""] * most
    fields = [_field("text", "Text", use_markdown=True)]
    if not shared and task.asks_for_label:
        fields.append(_field("options", "Options", use_markdown=False))
    return {
        "guidelines": task.instruction,
        "fields": fields,
        "questions": [_question(question, question.scale or options) for question in task.questions],
        "metadata": [
            {
                "name": name,
                "title": name,
                "settings": {"type": "terms", "values": None},
                "visible_for_annotators": False,
            }
            for name in ("study", "annotator")
        ],
        "vectors": [],
        "allow_extra_metadata": False,
        "distribution": {"strategy": "overlap", "min_submitted": 1},
        "mapping": None,
    }


def _field(name: str, title: str, *, use_markdown: bool) -> dict[str, Any]:
    return {
        "name": name,
        "title": title,
        "required": True,
        "settings": {"type": "text", "use_markdown": use_markdown},
    }


def _question(question: Question, answers: Sequence[str]) -> dict[str, Any]:
    """A choice among numbers from 1."""
    options = [
        {"value": str(number), "text": f"{number}: {words}" if words else str(number)}
        for number, words in enumerate(answers, start=1)
    ]
    return {
        "name": question.name,
        "title": question.text,
        "required": True,
        "settings": {"type": "label_selection", "options": options},
    }


def _record(study: str, annotator: str, page: Page, *, listed: bool) -> dict[str, Any]:
    numbered = "\n".join(f"{number}: {option}" for number, option in enumerate(page.options, start=1))
    return {
        "id": page.item,
        "fields": {"text": as_html(page), **({"options": numbered} if listed else {})},
        "metadata": {"study": study, "annotator": annotator},
        "suggestions": {},
        "responses": {},
        "vectors": {},
    }


def _by_user(responses: Mapping[Any, Any]) -> list[dict[str, Any]]:
    """What each user answered, by question."""
    found: dict[str, dict[str, Any]] = {}
    for question in QUESTIONS:
        given = responses.get(question.name, [])
        for response in given if isinstance(given, list) else [given]:
            known = isinstance(response, dict)
            user = json.dumps(response.get("user_id")) if known else ""
            value = response.get("value") if known else response
            found.setdefault(user, {})[question.name] = _number(question, value)
    return list(found.values())


def _number(question: Question, value: Any) -> Any:
    """The index of a label, or the number of an answer of a scale."""
    number = int(value) if isinstance(value, str) and _NUMBER.fullmatch(value) else value
    return number - 1 if not question.scale and number is not value else number


def _answer(record: Mapping[str, Any], answered: Mapping[str, Any], source: str) -> RawAnswer:
    metadata = record.get("metadata")
    metadata = metadata if isinstance(metadata, dict) else {}
    return RawAnswer(
        annotator=metadata.get("annotator"),
        item=record.get("id"),
        values=answered,
        study=metadata.get("study"),
        source=source,
    )
