"""What Argilla's own client makes of the files, and that what it writes is read; a server that answers nothing more
than who asks stands behind it."""

import json
import random
from uuid import uuid4

import pytest
from helpers.pairs_and_choices import in_pairs, of_choices
from helpers.studies import made_study
from helpers.tool_exports import argilla_export, chosen_for

from unirex_ray.study.argilla import argilla_files
from unirex_ray.study.read_files import read_answers

pytest.importorskip("argilla", reason="Argilla's client is not installed: pip install unirex_ray[interop]")

ODD = ['=1 <b>"dull"</b>', "a\nb $html {{x}}", "\u202e\u05e9\u05dc\u05d5\u05dd;,\t'"]
STUDIES = [
    made_study(),
    in_pairs(made_study()),
    of_choices(made_study()),
    made_study(texts=ODD, options=("$neg", "option 2", "5")),
]
IDS = ["single", "pairs", "choices", "odd"]


@pytest.fixture(scope="module", autouse=True)
def client():
    import argilla
    import httpx

    me = {"id": str(uuid4()), "username": "a1", "role": "owner", "first_name": "A"}
    transport = httpx.MockTransport(lambda request: httpx.Response(200, json=me))
    return argilla.Argilla(api_url="http://argilla.test", api_key="key", mounts={"all://": transport})


@pytest.fixture
def written(tmp_path):
    def write(study):
        for path, content in argilla_files(study).items():
            file = tmp_path / path
            file.parent.mkdir(exist_ok=True)
            file.write_text(content)
        return tmp_path / "argilla"

    return write


@pytest.mark.parametrize("study", STUDIES, ids=IDS)
def test_it_reads_settings_and_writes_the_same(tmp_path, written, study):
    import argilla

    folder = written(study)
    for task in ("forward", "rating"):
        settings = argilla.Settings.from_json(folder / f"{task}-settings.json")
        settings.validate()
        asked = {"forward": ["label", "confidence"], "rating": ["alignment"]}[task]
        assert [question.name for question in settings.questions] == asked
        assert all(question.required for question in settings.questions)
        assert settings.distribution.min_submitted == 1
        settings.to_json(tmp_path / f"{task}.json")
        assert argilla.Settings.from_json(tmp_path / f"{task}.json") == settings


@pytest.mark.parametrize("study", STUDIES, ids=IDS)
def test_what_it_writes_of_submitted_records_is_read(tmp_path, written, study):
    """Records as a server gives them, through the models and the writer that `records.to_json` uses."""
    import argilla
    from argilla._models import RecordModel
    from argilla.records._io import JsonIO

    folder = written(study)
    chosen = chosen_for(study, random.Random(7).randrange)
    draft, discarded = (("a1", name) for name in study.sheets["a1"]["forward"][:2])
    files = argilla_files(study)
    (tmp_path / "answers").mkdir()
    for annotator, sheet in study.sheets.items():
        for task in sheet:
            settings = argilla.Settings.from_json(folder / f"{task}-settings.json")
            dataset = argilla.Dataset(name=f"{annotator}-{task}", settings=settings)
            records = []
            for one in argilla_export(files, annotator, task, chosen):
                status = {draft: "draft", discarded: "discarded"}.get((annotator, one["id"]), "submitted")
                record = argilla.Record.from_dict(one, dataset=dataset)
                assert {*record.fields} == {field.name for field in settings.fields}
                values = {name: {"value": of[0]["value"]} for name, of in one["responses"].items()}
                model = RecordModel(
                    id=uuid4(),
                    external_id=record.id,
                    fields=dict(record.fields),
                    metadata=record.metadata.api_models(),
                    responses=[{"values": values, "status": status, "user_id": str(uuid4())}],
                    status="completed" if status == "submitted" else "pending",
                )
                records.append(argilla.Record.from_model(model, dataset))
            JsonIO.to_json(records, tmp_path / "answers" / f"{annotator}-{task}.json")
    answers = read_answers([tmp_path / "answers"], study)
    del chosen[draft], chosen[discarded]
    assert {(answer.annotator, answer.item.id): dict(answer.values) for answer in answers.answers} == chosen
    assert answers.problems == ()


@pytest.mark.parametrize("study", STUDIES, ids=IDS)
def test_it_takes_every_record_as_it_is(written, study):
    from argilla.records._io import JsonIO

    folder = written(study)
    for file in folder.glob("a*.json"):
        records = JsonIO._records_from_json(file)
        for record, one in zip(records, json.loads(file.read_text()), strict=True):
            assert (record.id, dict(record.fields), dict(record.metadata)) == (
                one["id"],
                one["fields"],
                one["metadata"],
            )
            record.api_model()
