"""What Label Studio's own library says of the files, and what its converter makes of them."""

import json
import random

import pytest
from helpers.pairs_and_choices import in_pairs, of_choices
from helpers.studies import made_study
from helpers.tool_exports import chosen_for, label_studio_export

from unirex_ray.study.label_studio import label_studio_files
from unirex_ray.study.read_files import read_answers

pytest.importorskip(
    "label_studio_sdk", reason="Label Studio's library is not installed: pip install unirex_ray[interop]"
)

ODD = ['=1 <b>"dull"</b>', "a\nb $html {{x}}", "\u202e\u05e9\u05dc\u05d5\u05dd;,\t'"]
STUDIES = [
    made_study(),
    in_pairs(made_study()),
    of_choices(made_study()),
    made_study(texts=ODD, options=("$neg", "option 2", "5")),
]


def exports(study, chosen):
    files = label_studio_files(study)
    for annotator, sheet in study.sheets.items():
        for task in sheet:
            yield files[f"label-studio/{task}.xml"], label_studio_export(files, annotator, task, chosen)


@pytest.mark.parametrize("study", STUDIES, ids=["single", "pairs", "choices", "odd"])
def test_its_schema_accepts_configurations_tasks_and_annotations(study):
    from label_studio_sdk.label_interface import LabelInterface

    chosen = chosen_for(study, random.Random(5).randrange)
    for configuration, export in exports(study, chosen):
        interface = LabelInterface(configuration)
        interface.validate()
        assert all(control.is_output_required for control in interface.controls)
        for task in export:
            assert interface.validate_task({"data": task["data"]})
            (annotation,) = task["annotations"]
            assert len(annotation["result"]) == len(interface.controls)
            assert interface.validate_annotation(annotation)


def test_its_schema_refuses_what_is_wrong():
    """Its validation looks at what the test above relies on."""
    from label_studio_sdk.label_interface import LabelInterface

    study = made_study()
    configuration, export = next(exports(study, chosen_for(study, random.Random(5).randrange)))
    interface = LabelInterface(configuration)
    assert not interface.validate_task({"data": {"study": "s"}})
    annotation = export[0]["annotations"][0]
    for result in annotation["result"]:
        result["value"] = {"choices": ["seven"]}
    assert not interface.validate_annotation(annotation)


@pytest.mark.parametrize("form", ["JSON", "JSON_MIN", "CSV", "TSV"])
@pytest.mark.parametrize("study", STUDIES, ids=["single", "pairs", "choices", "odd"])
def test_what_its_converter_writes_is_read(tmp_path, study, form):
    from label_studio_sdk.converter import Converter

    chosen = chosen_for(study, random.Random(6).randrange)
    left = ("a1", study.sheets["a1"]["forward"][0])
    del chosen[left]
    files = []
    for number, (configuration, export) in enumerate(exports(study, chosen)):
        source = tmp_path / f"{number}.json"
        source.write_text(json.dumps(export))
        Converter(configuration, str(tmp_path)).convert(str(source), str(tmp_path / f"{number}"), form, is_dir=False)
        files += (tmp_path / f"{number}").iterdir()
    answers = read_answers(files, study)
    assert {(answer.annotator, answer.item.id): dict(answer.values) for answer in answers.answers} == chosen
    assert answers.problems == ()
    assert answers.unanswered == {"a1": [left[1]]}
    assert all(answer.seconds and answer.at for answer in answers.answers)
