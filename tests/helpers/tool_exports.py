"""What other tools export once a study is answered in them, built as their documentation shows it."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from typing import Any
from xml.etree import ElementTree

from unirex_ray.study.manifest import Study

Chosen = Mapping[tuple[str, str], Mapping[str, int]]
"""By annotator and item: by question, the index of a label or the number of an answer of a scale."""


def chosen_for(study: Study, numbers: Any) -> dict[tuple[str, str], dict[str, int]]:
    """An answer to everything.

    Args:
        numbers: draws a number from 0 to below its argument.
    """
    found: dict[tuple[str, str], dict[str, int]] = {}
    for annotator, sheet in study.sheets.items():
        for task, ids in sheet.items():
            for name in ids:
                options = len(study.instances[study.by_id[name].instance].options)
                found[annotator, name] = (
                    {"label": numbers(options), "confidence": 1 + numbers(4)}
                    if task == "forward"
                    else {"alignment": 1 + numbers(5)}
                )
    return found


def label_studio_export(files: Mapping[str, str], annotator: str, task: str, chosen: Chosen) -> list[dict[str, Any]]:
    """The JSON of a project in which the tasks of a file were labelled, those without an answer left alone."""
    view = ElementTree.fromstring(files[f"label-studio/{task}.xml"])
    controls = view.findall("Choices")
    export = []
    for number, one in enumerate(json.loads(files[f"label-studio/{annotator}-{task}.json"]), start=1):
        answer = chosen.get((annotator, one["data"]["item"]))
        results = [] if answer is None else [_result(control, one["data"], answer) for control in controls]
        annotation = {
            "id": 100 + number,
            "completed_by": 7,
            "result": results,
            "was_cancelled": False,
            "ground_truth": False,
            "created_at": f"2026-03-01T10:00:{number % 60:02}.123456Z",
            "updated_at": f"2026-03-01T10:01:{number % 60:02}.123456Z",
            "draft_created_at": None,
            "lead_time": 10.5 + number,
            "prediction": {},
            "result_count": len(results),
            "unique_id": "d4ba6a08-8f5c-4ad4-a2c5-0a4f9d2f2b7a",
            "task": number,
        }
        export.append(
            {
                "id": number,
                "annotations": [] if answer is None else [annotation],
                "file_upload": "0a1b2c3d-tasks.json",
                "drafts": [],
                "predictions": [],
                "data": one["data"],
                "meta": {},
                "created_at": "2026-03-01T09:00:00.000000Z",
                "updated_at": "2026-03-01T10:01:00.000000Z",
                "inner_id": number,
                "total_annotations": int(answer is not None),
                "cancelled_annotations": 0,
                "project": 1,
            }
        )
    return export


def _result(control: ElementTree.Element, data: Mapping[str, Any], answer: Mapping[str, int]) -> dict[str, Any]:
    name, source = control.attrib["name"], control.get("value")
    if source is None:
        (pick,) = [one for one in control if one.attrib["value"].startswith(f"{answer[name]}:")]
        picked: Mapping[str, Any] = pick.attrib
    else:
        picked = data[source.removeprefix("$")][answer[name]]
    value = {"choices": [picked.get("alias", picked["value"])]}
    return {
        "id": "Zk3", "type": "choices", "value": value, "origin": "manual", "to_name": "text", "from_name": name
    }  # fmt: skip


def json_min(export: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The JSON-MIN of a project: a record per annotation, and one for a task without any."""
    records = []
    for task in export:
        for annotation in task["annotations"] or [{"result": []}]:
            given = {result["from_name"]: result["value"]["choices"][0] for result in annotation["result"]}
            about = {name: annotation.get(name) for name in ("created_at", "updated_at", "lead_time")}
            records.append(
                {
                    **task["data"],
                    "id": task["id"],
                    **given,
                    "annotator": annotation.get("completed_by", {}),
                    "annotation_id": annotation.get("id"),
                    **about,
                }
            )
    return records


def argilla_export(files: Mapping[str, str], annotator: str, task: str, chosen: Chosen) -> list[dict[str, Any]]:
    """What `records.to_json` writes of a dataset in which everything but the records without an answer is submitted."""
    settings = json.loads(files[f"argilla/{task}-settings.json"])
    export = []
    for one in json.loads(files[f"argilla/{annotator}-{task}.json"]):
        answer = chosen.get((annotator, one["id"]))
        responses: dict[str, list[dict[str, Any]]] = {}
        for question in settings["questions"] if answer is not None else []:
            options = question["settings"]["options"]
            place = answer[question["name"]] - (question["name"] != "label")
            responses[question["name"]] = [{"value": options[place]["value"], "user_id": "8c4d2a3e"}]
        export.append(
            {
                **one,
                "responses": responses,
                "status": "pending" if answer is None else "completed",
                "_server_id": "2f6d9b0e-5a0c-4e0c-9a55-0d1c3e7b8a11",
            }
        )
    return export


def filled_table(
    content: str, chosen: Chosen, *, delimiter: str = ",", decimals: str = "", quoting: int = csv.QUOTE_MINIMAL
) -> str:
    """A table as a spreadsheet saves it once answers were typed into it.

    Args:
        decimals: that the spreadsheet puts behind each number.
    """
    rows = list(csv.DictReader(io.StringIO(content.removeprefix("\ufeff"), newline="")))
    out = io.StringIO(newline="")
    writer = csv.DictWriter(out, list(rows[0]), delimiter=delimiter, quoting=quoting)
    writer.writeheader()
    for row in rows:
        answer = chosen.get((row["annotator"], row["item"].split(" ", 1)[1]), {})
        typed = {name: f"{value + (name == 'label')}{decimals}" for name, value in answer.items()}
        writer.writerow({**row, **typed})
    return out.getvalue()
