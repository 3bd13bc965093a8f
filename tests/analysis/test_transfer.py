import csv
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from helpers.grid import whole_grid
from helpers.recorded_evaluations import IRONY, OURS, compared, evaluation, record, store_of, values

from unirex_ray.analysis.transfer import evaluation_rows, transfer_rows
from unirex_ray.config import build_config
from unirex_ray.metrics.table import TrialMetrics
from unirex_ray.report.transfer import transfer_table
from unirex_ray.sweep.space import load_space
from unirex_ray.tracking.mlflow_store import MlflowStore
from unirex_ray.tracking.records import Evaluation


def test_means_and_deviations_by_corpus_and_method() -> None:
    store = store_of(OURS)
    rows = transfer_rows(compared(store), store.evaluations("sst"))
    assert [(row.task, row.dataset, row.method, row.seeds, row.missing) for row in rows] == [
        ("SA", "sst", "aa-ig", (0, 1, 2), ()),
        ("SA", "sst", "unirex-slm-fp", (0, 1, 2), ()),
        ("SA", "sst", "unirex-aa-f-rand", (0, 1, 2), ()),
        ("SA", "yelp", "unirex-slm-fp", (0, 1, 2), ()),
        ("ID", "irony", "aa-ig", (0, 1, 2), ()),
        ("ID", "irony", "unirex-slm-fp", (0, 1), (2,)),
        ("", "target", "unirex-aa-f-rand", (0,), (1, 2)),
    ]
    # At home the selected configuration's own test metrics; the other configuration of SLM-FP has 20 where it has 40.
    at_home = rows[1]
    assert at_home.mean == pytest.approx(
        {"csd": -3.0, "comprehensiveness": 43.0, "sufficiency": 46.0, "auprc": 40.0, "task_score": 49.0}
    )
    # Seeds differ by 0, 3 and 6 times the factors 1, 1, 2, 0, 3: sqrt((9 + 0 + 9) / 2) = 3.
    assert at_home.std == pytest.approx(
        {"csd": 3.0, "comprehensiveness": 3.0, "sufficiency": 6.0, "auprc": 0.0, "task_score": 9.0}
    )
    slm = rows[5]
    assert slm.mean == pytest.approx({"csd": -1.5, "comprehensiveness": 51.5, "sufficiency": 53.0, "task_score": 54.5})
    # Two seeds, 3 apart: sqrt(2 * 1.5^2 / 1).
    assert slm.std["comprehensiveness"] == pytest.approx(math.sqrt(4.5))
    assert math.isnan(rows[6].std["csd"])


def test_labels_and_the_metric_behind_the_task_score() -> None:
    store = store_of(OURS)
    rows = {(row.dataset, row.method): row for row in transfer_rows(compared(store), store.evaluations("sst"))}
    assert rows["sst", "aa-ig"].labels == ()
    assert rows["irony", "aa-ig"].labels == ("negative for no, positive for yes",)
    assert {dataset: row.task_metric for (dataset, _), row in rows.items()} == {
        "sst": "Accuracy",
        "yelp": "Accuracy",
        "irony": "Binary F1",
        "target": "Accuracy",
    }
    # Where two metrics have the score's value, either may be meant.
    both = replace(
        OURS[0], metrics=TrialMetrics(test={**OURS[0].metrics.test, "macro_f1": OURS[0].metrics.test["accuracy"]})
    )
    assert evaluation_rows([both])[0].task_metric == ""
    assert evaluation_rows([both, replace(OURS[0], method="aa-ig", trial_id="t")])[0].task_metric == "Accuracy"
    odd = replace(OURS[1], labels="negative for yes, positive for no")
    assert evaluation_rows([odd, OURS[2]])[0].labels == (odd.labels, OURS[2].labels)


@pytest.mark.parametrize(
    "other",
    [
        evaluation("unirex-slm-fp", 0, "irony", index=0),  # not the selected configuration
        evaluation("unirex-slm-fp", 0, "irony", index=1, split="dev"),
        replace(IRONY[0], trained_digest="other"),
        replace(IRONY[0], trained_on="movies"),
        replace(IRONY[0], corpus="sst", digest="abc1"),  # what is known already
    ],
)
def test_what_does_not_count(other: Evaluation) -> None:
    comparison = compared(store_of([]))
    assert transfer_rows(comparison, []) == ()
    assert transfer_rows(comparison, [other]) == ()
    assert transfer_rows(comparison, [*OURS, other]) == transfer_rows(comparison, OURS)


def test_two_states_of_a_corpus_are_kept_apart() -> None:
    comparison = compared(store_of([]))
    first = evaluation("aa-ig", 0, "b", 10.0, digest="0a1b2c3d4e5f6071")
    second = evaluation("aa-ig", 0, "b", 90.0, digest="ffffffff4e5f6071")
    home = evaluation("aa-ig", 0, "sst", 70.0, digest="333333334e5f6071")
    known = evaluation("aa-ig", 0, "offenseval", 60.0)
    rows = transfer_rows(comparison, [first, evaluation("aa-ig", 0, "a"), second, home, known])
    found = [(row.dataset, row.corpus, row.digest, row.mean["task_score"]) for row in rows if row.method == "aa-ig"]
    assert found == [
        ("sst (abc1)", "sst", "abc1", pytest.approx(19.0)),
        ("sst (33333333)", "sst", "333333334e5f6071", 70.0),
        ("offenseval", "offenseval", "0a1b2c3d4e5f6071", 60.0),
        ("b (0a1b2c3d)", "b", "0a1b2c3d4e5f6071", 10.0),
        ("b (ffffffff)", "b", "ffffffff4e5f6071", 90.0),
        ("a", "a", "0a1b2c3d4e5f6071", 10.0),
    ]


def test_what_was_evaluated_otherwise_stands_in_a_row_of_its_own() -> None:
    one = {"data.max_length": "128", "train.precision": "fp32", "version.metrics": "2"}
    half = {**one, "train.precision": "bf16"}
    evaluations = [
        *(evaluation("aa-ig", seed, "irony", 10.0, settings=one) for seed in (0, 1)),
        evaluation("aa-ig", 2, "irony", 10.0, settings=half),
        *(evaluation("aa-ig", seed, "yelp", 10.0, settings=one) for seed in (0, 1, 2)),
        evaluation("unirex-slm-fp", 0, "irony", 10.0, index=1),
    ]
    store = store_of(evaluations)
    rows = [row for row in transfer_rows(compared(store), store.evaluations("sst")) if row.dataset != "sst"]
    everything = "data.max_length 128, train.precision {}, version.metrics 2"
    unknown = "data.max_length not recorded, train.precision not recorded, version.metrics not recorded"
    assert [(row.dataset, row.method, row.seeds, row.missing) for row in rows] == [
        ("yelp", "aa-ig", (0, 1, 2), ()),
        (f"irony, {everything.format('fp32')}", "aa-ig", (0, 1), (2,)),
        (f"irony, {everything.format('bf16')}", "aa-ig", (2,), (0, 1)),
        (f"irony, {unknown}", "unirex-slm-fp", (0,), (1, 2)),
    ]


@pytest.mark.parametrize(
    ("ps", "expected"), [((0.05, 0.01), True), ((0.05, 0.051), False), ((0.01, None), None), ((None, None), None)]
)
def test_models_of_every_seed_have_to_be_better_than_the_majority(ps: tuple[float, ...], expected: bool | None) -> None:
    rows = evaluation_rows([evaluation("aa-ig", seed, "irony", p=p) for seed, p in enumerate(ps)])
    assert [row.better_than_majority for row in rows] == [expected]
    printed = transfer_table(rows).markdown()
    assert ("AA (IG) †" in printed, "† not better than the majority class of that dataset" in printed) == (
        expected is False,
        expected is False,
    )


def test_plain_evaluations() -> None:
    assert evaluation_rows([]) == ()
    dev = [evaluation("unirex-slm-fp", seed, "irony", split="dev") for seed in (1, 0)]
    rows = evaluation_rows([*dev, *OURS])
    assert [(row.dataset, row.method, row.seeds, row.missing) for row in rows] == [
        ("yelp", "unirex-slm-fp", (0, 1, 2), ()),
        ("irony, dev", "unirex-slm-fp", (0, 1), ()),
        ("irony", "aa-ig", (0, 1, 2), ()),
        ("irony", "unirex-slm-fp", (0, 1), ()),
        ("target", "unirex-aa-f-rand", (0,), ()),
    ]
    assert rows[1].mean["comprehensiveness"] == 11.5
    # On the data that the model was trained on, its labels are its own.
    (home,) = evaluation_rows([replace(IRONY[0], corpus="sst", digest="abc1", labels="the same")])
    assert home.labels == ()


def test_of_a_trial_evaluated_twice_the_later_one_counts() -> None:
    again = replace(IRONY[0], metrics=TrialMetrics.from_flat(values(90.0, 0, gold=False)))
    (row,) = evaluation_rows([IRONY[0], again])
    assert row.mean["comprehensiveness"] == 90.0
    with pytest.raises(ValueError, match=r"unirex-slm-fp on irony must have one trial per seed.*\[0, 0\]"):
        evaluation_rows([IRONY[0], replace(IRONY[0], trial_id="another")])


def test_the_shipped_space_is_table_2(pytestconfig: pytest.Config) -> None:
    shipped = load_space(pytestconfig.rootpath / "search_spaces" / "transfer.yaml")
    config = build_config(shipped.presets)
    assert config.sweep.methods == (
        "aa-ig",
        "unirex-aa-f-rand",
        "unirex-aa-f",
        "unirex-dlm-p",
        "unirex-dlm-fp",
        "unirex-slm-fp",
    )
    assert all(whole_grid(shipped.checked(config).for_method(m, config)) == [{}] for m in config.sweep.methods)
    assert config.sweep.seeds == (0, 1, 2)


@pytest.mark.slow
def test_job(tmp_path: Path, pytestconfig: pytest.Config) -> None:
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    record(MlflowStore(uri), [*IRONY, evaluation("unirex-slm-fp", 0, "irony")])
    job = [sys.executable, str(pytestconfig.rootpath / "jobs" / "compare.py"), "--data.name=sst"]
    done = subprocess.run(
        [*job, f"--output={tmp_path}", f"--tracking.uri={uri}"], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    with (tmp_path / "transfer.csv").open(newline="") as stream:
        rows = [(row["corpus"], row["method"], float(row["task_score"])) for row in csv.DictReader(stream)]
    assert rows == [
        ("sst", "aa-ig", 19.0),
        ("sst", "unirex-slm-fp", 49.0),
        ("sst", "unirex-aa-f-rand", 14.0),
        ("irony", "unirex-slm-fp", 54.5),
    ]
    with (tmp_path / "gold_efficiency.csv").open(newline="") as stream:
        points = [(row["method"], row["gold_percent"], float(row["test/auprc"])) for row in csv.DictReader(stream)]
    assert points == [
        ("aa-ig", "", 10.0),
        ("unirex-slm-fp", "5.0", 20.0),
        ("unirex-slm-fp", "100.0", 40.0),
        ("unirex-aa-f-rand", "", 5.0),
    ]
    assert (tmp_path / "gold_efficiency.png").read_bytes().startswith(b"\x89PNG")
    printed, text = done.stdout, (tmp_path / "comparison.md").read_text()
    for told in (
        "Test AUPRC ↑ by the share of train instances",
        "Trained on sst: faithfulness and task score by corpus",
    ):
        assert told in printed
        assert told in text
    assert "gold_efficiency.csv, transfer.csv" in printed
