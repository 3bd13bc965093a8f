"""A study in Label Studio: projects to import, and answers from what it exports.

An annotator gets a project per task: the community edition assigns tasks to nobody.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any
from xml.etree import ElementTree

from unirex_ray.study.answers import RawAnswer
from unirex_ray.study.manifest import Study
from unirex_ray.study.markup import as_html, escaped
from unirex_ray.study.sheet import Page, sheet_of
from unirex_ray.study.tasks import QUESTIONS, Question, Task

FOLDER = "label-studio"

_OPTION = re.compile(r"option ([0-9]{1,9})")
"""What is exported of a chosen label: a label's own words may be a number, or stand there twice."""

_NUMBER = re.compile(r"[0-9]{1,9}")
_DURATION = re.compile(r"[0-9]{1,9}(\.[0-9]{1,20})?")

_README = """\
# The study in Label Studio

The community edition assigns tasks to nobody, so each annotator gets a project per task. For each `NAME-TASK.json`:

1. Create a project, named after the file.
2. Settings, Labeling Interface, Code: paste the content of `TASK.xml`, and save.
3. Import `NAME-TASK.json`; leave the sampling of tasks sequential, as it is by default.
4. Tell the annotator NAME which project is theirs; `forward` comes before `rating`, which shows what `forward` asks.
5. When they are done, export the project as JSON (JSON-MIN and CSV do as well), and give the file to the analysis.

Whoever works in a project answers as the NAME in its tasks, whatever their account is called. Skipped tasks count as
unanswered.
"""


def label_studio_files(study: Study) -> dict[str, str]:
    """What is imported, by path: a labelling configuration per task, tasks per annotator and task, instructions."""
    files = {f"{FOLDER}/README.md": _README}
    files |= {f"{FOLDER}/{task.name}.xml": _configuration(task) for task in study.tasks}
    for annotator in study.sheets:
        sheet = sheet_of(study, annotator)
        for part in sheet.parts:
            tasks = [{"data": _data(study.id, annotator, page)} for page in part.pages]
            files[f"{FOLDER}/{annotator}-{part.task.name}.json"] = json.dumps(tasks, indent=1)
    return files


def label_studio_answers(values: Iterable[Any], source: str) -> list[RawAnswer]:
    """What an export holds: tasks with annotations (JSON), or a record per annotation (JSON-MIN, CSV)."""
    found = list[RawAnswer]()
    for value in values:
        if not isinstance(value, dict):
            found.append(RawAnswer(annotator=None, item=value, values={}, source=source))
        elif "data" in value:
            found += _of_task(value, source)
        elif value.get("annotation_id") not in (None, ""):
            found.append(_answer(value, value, value, source))
    return found


def is_label_studio(value: Mapping[str, Any]) -> bool:
    """Whether an export's first value is of one of the formats that `label_studio_answers` reads."""
    return isinstance(value.get("data"), dict) or {"annotation_id", "lead_time"} <= value.keys()


def _configuration(task: Task) -> str:
    """As XML; a label's options come with each task, as instances may offer different ones."""
    view = ElementTree.Element("View")
    ElementTree.SubElement(view, "Header", value=task.title)
    ElementTree.SubElement(view, "Header", value=task.instruction, size="5", underline="false")
    ElementTree.SubElement(view, "HyperText", name="text", value="$html", inline="true", selectionEnabled="false")
    for question in task.questions:
        ElementTree.SubElement(view, "Header", value=question.text, size="4", underline="false")
        choices = ElementTree.SubElement(view, "Choices", {**_CHOICES, **_asked(question)})
        for number, words in enumerate(question.scale, start=1):
            ElementTree.SubElement(choices, "Choice", value=f"{number}: {words}", alias=str(number))
    ElementTree.indent(view)
    return ElementTree.tostring(view, encoding="unicode") + "\n"


_CHOICES = {"toName": "text", "choice": "single-radio", "required": "true"}


def _asked(question: Question) -> dict[str, str]:
    asked = {"name": question.name, "requiredMessage": f"Please answer: {question.text}"}
    return {**asked, "showInline": "true"} if question.scale else {**asked, "value": "$options"}


def _data(study: str, annotator: str, page: Page) -> dict[str, Any]:
    """A task's data, under names that exports do not use themselves: JSON-MIN has an `annotator` of its own."""
    options = [
        {"alias": f"option {number}", "value": option, "html": escaped(option)}
        for number, option in enumerate(page.options, start=1)
    ]
    shown = {} if page.predicted is None else {"predicted": page.predicted}
    return {
        "study": study,
        "sheet": annotator,
        "item": page.item,
        "html": as_html(page),
        "options": options,
        **shown,
    }


def _of_task(value: Mapping[str, Any], source: str) -> list[RawAnswer]:
    data, annotations = value["data"], value.get("annotations", [])
    if not isinstance(data, dict) or not isinstance(annotations, list):
        return [RawAnswer(annotator=None, item=None, values={}, source=source)]
    kept = [annotation for annotation in annotations if not _is_skipped(annotation)]
    return [_answer(data, _results(annotation), annotation, source) for annotation in kept]


def _is_skipped(annotation: Any) -> bool:
    return isinstance(annotation, dict) and annotation.get("was_cancelled") is True


def _results(annotation: Any) -> dict[str, Any]:
    """By question, what was chosen: one value, or all of them where a question was answered more than once."""
    results = annotation.get("result") if isinstance(annotation, dict) else None
    found: dict[str, list[Any]] = {}
    for result in results if isinstance(results, list) else []:
        name, value = (result.get("from_name"), result.get("value")) if isinstance(result, dict) else (None, None)
        if isinstance(name, str) and isinstance(value, dict):
            chosen = value.get("choices")
            found.setdefault(name, []).extend(chosen if isinstance(chosen, list) else [chosen])
    return {name: chosen[0] if len(chosen) == 1 else chosen for name, chosen in found.items()}


def _answer(data: Mapping[str, Any], values: Mapping[str, Any], about: Any, source: str) -> RawAnswer:
    about = about if isinstance(about, dict) else {}
    seconds = about.get("lead_time")
    return RawAnswer(
        annotator=data.get("sheet"),
        item=data.get("item"),
        values={one.name: _number(one, values[one.name]) for one in QUESTIONS if one.name in values},
        seconds=float(seconds) if isinstance(seconds, str) and _DURATION.fullmatch(seconds) else seconds,
        at=about.get("updated_at") or about.get("created_at"),
        source=source,
        study=data.get("study"),
    )


def _number(question: Question, value: Any) -> Any:
    if not isinstance(value, str):
        return value
    if question.scale:
        return int(value) if _NUMBER.fullmatch(value) else value
    option = _OPTION.fullmatch(value)
    return int(option[1]) - 1 if option else value
