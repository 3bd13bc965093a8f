"""A study's folder, and what `make` says of it."""

import pytest
from helpers.studies import made_study

from unirex_ray.errors import UserError
from unirex_ray.study.describe import conditions_table, design_in_words
from unirex_ray.study.folder import write_folder
from unirex_ray.study.manifest import read_study


def test_a_folder_holds_the_key_and_what_annotators_get(tmp_path):
    study = made_study()
    write_folder(tmp_path / "study", study, None)
    assert read_study(tmp_path / "study") == study
    names = {str(file.relative_to(tmp_path / "study")) for file in tmp_path.rglob("*") if file.is_file()}
    for annotator in study.sheets:
        assert f"forms/{annotator}.html" in names
        for task in ("forward", "rating"):
            kinds = ("label-studio/{}-{}.json", "argilla/{}-{}.json", "csv/{}-{}.csv")
            assert {kind.format(annotator, task) for kind in kinds} <= names


def test_a_folder_that_holds_something_is_left_alone(tmp_path):
    (tmp_path / "mine").write_text("text")
    with pytest.raises(UserError, match="is not empty; choose another --output"):
        write_folder(tmp_path, made_study(), None)
    assert [file.name for file in tmp_path.iterdir()] == ["mine"]


def test_who_judges_how_much_in_words():
    study = made_study(instances=6, annotators=3, tasks=("rating",))
    assert design_in_words(study) == [
        "Does the rationale fit the prediction? 3 annotators judge 6 items each, every text once: 18 of the 18 pairs "
        "of text and condition, each by 1."
    ]
    # No Rationale is nothing to be rated.
    assert conditions_table(study).lead["Method"] == ["Method unirex-dlm-fp", "Method aa-ig", "Gold"]
    both = made_study(instances=6, annotators=3)
    assert "18 of the 24 pairs" in design_in_words(both)[0]
    assert conditions_table(both).lead["Method"][-1] == "No Rationale"
