"""A study in the run store: what is written, and that comparisons do not see it."""

import json
import re
from dataclasses import replace

from helpers.memory_store import MemoryStore
from helpers.recorded_trials import TRIALS
from helpers.recorded_trials import record as record_trials
from helpers.studies import answered, made_study

from unirex_ray.analysis.compare import compare
from unirex_ray.report.files import comparison_tables
from unirex_ray.study.analysis import analyse
from unirex_ray.study.answers import collect, raw_answers
from unirex_ray.study.record import answer_files, condition_keys, metrics_of, record
from unirex_ray.study.tables import study_tables


def recorded(store, *, simulated: bool = False, study=None):
    study = study or made_study(annotators=4, raters=2, instances=8)
    answers = answered(study, simulated=simulated)
    analysis = analyse(study, answers, draws=20)
    tables = study_tables(study, answers, analysis)
    return study, answers, analysis, record(store, study, answers, analysis, tables, "the page")


def compared(store: MemoryStore) -> list[str]:
    return [table.csv() for table in comparison_tables(compare("reviews", store.sweeps("reviews"))).values()]


def test_the_run_holds_the_report_the_study_and_the_answers():
    store = MemoryStore()
    study, answers, analysis, run = recorded(store)
    files = store.runs[run]["artifacts"]
    assert files["report.html"] == b"the page"
    assert {"study.md", "table3.csv", "table5.csv", "pairs.csv", "agreement.csv", "annotators.csv"} < set(files)
    assert json.loads(files["study.json"])["id"] == study.id
    again = [raw for values in json.loads(files["answers.json"]).values() for raw in raw_answers(values, "file")]
    assert collect(study, again).answers == answers.answers
    metrics = store.runs[run]["metrics"]
    assert metrics["study/accuracy/aa-ig"] == analysis.cells["label"][1].mean
    assert metrics["study/alignment/gold"] == analysis.cells["alignment"][2].mean
    assert metrics["study/confidence/no-rationale"] == analysis.cells["confidence"][3].mean
    assert metrics["study/kappa/label"] == analysis.agreement["label"].kappa
    assert metrics["study/alpha/alignment"] == analysis.agreement["alignment"].alpha
    assert store.runs[run]["params"]["annotators"] == 4
    assert store.runs[run]["description"].startswith("Method ")
    assert recorded(store)[3] == run  # the same answers replace it
    assert len(store.runs) == 1


def test_simulated_answers_are_parted_from_those_of_people():
    store = MemoryStore()
    study, _, analysis, run = recorded(store, simulated=True)
    assert {key.partition("/")[0] for key in metrics_of(study, analysis)} == {"study_simulated"}
    assert store.runs[run]["description"].startswith("SIMULATED annotators, no people:")
    assert all(values["simulated"] for values in json.loads(store.runs[run]["artifacts"]["answers.json"]).values())


def test_what_people_make_of_a_model_stands_beside_its_trial_and_comparisons_do_not_see_it():
    store = MemoryStore()
    record_trials(store, TRIALS)
    before = compared(store)
    trial = next(run for run in store.runs.values() if "spec" in run and run["spec"].method == "aa-ig")
    study = made_study(annotators=4, raters=2, instances=8)
    about = {"method": "aa-ig", "trial_id": trial["spec"].trial_id, "trained_on": "reviews", "trained_digest": "abc1"}
    conditions = (study.conditions[0], replace(study.conditions[1], model=about), *study.conditions[2:])
    study = replace(study, conditions=conditions)
    recorded(store, simulated=True, study=study)
    assert not any(key.startswith("study") for key in trial["metrics"])
    _, _, analysis, _ = recorded(store, study=study)
    assert trial["metrics"]["study/accuracy"] == analysis.cells["label"][1].mean
    assert {key for key in trial["metrics"] if key.startswith("study")} == {
        "study/accuracy",
        "study/confidence",
        "study/alignment",
    }
    assert compared(store) == before


def test_names_of_conditions_are_such_as_mlflow_takes():
    study = made_study(methods=("aa-ig", "aa-ig"))
    other = replace(study.conditions[1], model={**study.conditions[1].model, "trial_id": "s-aa-ig-0001-s0"})
    study = replace(study, conditions=(study.conditions[0], other, *study.conditions[2:]))
    assert condition_keys(study) == ["aa-ig.s-aa-ig-0000-s0", "aa-ig.s-aa-ig-0001-s0", "gold", "no-rationale"]
    odd = replace(study.conditions[0], model={"method": "my method (ü)?"})
    study = replace(study, conditions=(odd, *study.conditions[1:]))
    assert re.fullmatch(r"[A-Za-z0-9_.-]+", condition_keys(study)[0])


def test_answers_without_times_have_none():
    study = made_study()
    files = answer_files(study, answered(study, seconds=None))
    assert {key for values in files.values() for one in values["answers"] for key in one} == {
        "item",
        "label",
        "confidence",
        "alignment",
    }
