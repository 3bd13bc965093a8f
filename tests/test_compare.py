import csv
import json
import math
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from memory_store import MemoryStore

from unirex_ray.compare import choose_sweeps, compare, score_metrics, write_back
from unirex_ray.errors import UserError
from unirex_ray.tracking.mlflow_store import MlflowStore
from unirex_ray.tracking.records import TrialSpec, TrialStatus
from unirex_ray.tracking.store import DATA_DIGEST, RunStore

KEYS = ("comprehensiveness", "sufficiency", "auprc", "token_f1", "task_score")
JOB = Path(__file__).parents[1] / "jobs" / "compare.py"


def raw(dev: float, test: float) -> dict[str, float]:
    def of(split: str, value: float) -> dict[str, float]:
        return {f"{split}/{key}": 1 - value if key == "sufficiency" else value for key in KEYS}

    return {**of("dev", dev), **of("test", test), "time/total_s": 1.0}


Trials = Sequence[tuple[str, int, int, Mapping[str, float] | str]]

TRIALS: Trials = [
    ("aa-ig", 0, 0, raw(0.2, 0.1)),
    ("aa-ig", 0, 1, raw(0.4, 0.3)),
    ("unirex-dlm-fp", 0, 0, raw(0.5, 0.6)),
    ("unirex-dlm-fp", 0, 1, raw(0.5, 0.6)),
    # Best on dev, worst on test: selected all the same.
    ("unirex-dlm-fp", 1, 0, raw(0.6, 0.4)),
    ("unirex-dlm-fp", 1, 1, raw(0.6, 0.4)),
    ("unirex-dlm-fp", 2, 0, raw(0.9, 0.9)),
    ("unirex-dlm-fp", 2, 1, "failed"),
    ("unirex-dlm-fp", 3, 0, "stopped"),
    ("unirex-slm-p", 0, 0, raw(0.5, 1.0)),
    ("unirex-slm-p", 0, 1, raw(0.5, 1.0)),
    ("some-ablation", 0, 0, raw(0.9, 2.0)),
    ("some-ablation", 0, 1, raw(0.9, 2.0)),
    ("unirex-slm-fp", 0, 0, "failed"),
]


def record(
    store: RunStore, trials: Trials, *, sweep: str = "s1", digest: str = "abc1", corpus: str = "reviews"
) -> None:
    tags = {DATA_DIGEST: digest}
    store.open_sweep(experiment=corpus, sweep_id=sweep, seeds=(0, 1), params={}, tags=tags)
    for method, index, seed, outcome in trials:
        spec = TrialSpec(
            trial_id=f"{sweep}-{method}-{index:04d}-s{seed}",
            method=method,
            configuration=index,
            seed=seed,
            parameters={"train.learning_rate": 2e-5},
        )
        store.open_trial(spec, params={}, tags=tags)
        status: TrialStatus = "completed" if not isinstance(outcome, str) else outcome  # type: ignore[assignment]
        metrics = {} if isinstance(outcome, str) else outcome
        store.finish_trial(spec.trial_id, status, metrics=metrics, reason="loss is nan" if metrics == {} else None)
    store.finish_sweep(metrics={}, tags={})


@pytest.fixture
def store() -> MemoryStore:
    store = MemoryStore()
    record(store, TRIALS)
    return store


def test_selects_on_dev_and_scores_on_test(store: MemoryStore) -> None:
    comparison = compare("reviews", store.sweeps("reviews"))
    assert [row.method for row in comparison.rows] == ["unirex-slm-p", "unirex-dlm-fp", "aa-ig", "some-ablation"]
    slm, dlm, aa, ablation = comparison.rows
    assert (dlm.configuration.key, dlm.candidates, dlm.dev_cnrg) == ("1", 2, 1.0)
    assert slm.scores is not None
    assert aa.scores is not None
    assert dlm.scores is not None
    # Test means are 1.0, 0.4 and 0.2 on every metric: hand-computed (0.4 - 0.2) / (1.0 - 0.2).
    assert (slm.scores.cnrg, aa.scores.cnrg) == (1.0, 0.0)
    assert dlm.scores.cnrg == pytest.approx(0.25)
    assert ablation.scores is None
    assert aa.configuration.std("test")["auprc"] == pytest.approx(math.sqrt(0.02))
    assert comparison.digest == "abc1"


def test_tells_what_is_unscored_and_why(store: MemoryStore) -> None:
    unscored = dict(compare("reviews", store.sweeps("reviews")).unscored)
    assert unscored == {
        "unirex-dlm-fp 2": "seed 1 failed: loss is nan",
        "unirex-dlm-fp 3": "seed 0 stopped: loss is nan",
        "unirex-slm-fp 0": "seed 0 failed: loss is nan",
        "some-ablation": "outside the global scope (an ablation, or a method that this version does not know)",
    }


def test_sweeps_on_the_same_data_are_pooled(store: MemoryStore) -> None:
    record(store, [("aa-ig", 0, 0, raw(0.9, 0.5)), ("aa-ig", 0, 1, raw(0.9, 0.5))], sweep="s2")
    comparison = compare("reviews", choose_sweeps(store.sweeps("reviews")))
    (aa,) = [row for row in comparison.rows if row.method == "aa-ig"]
    assert (aa.configuration.key, aa.candidates) == ("s2:0", 2)
    assert comparison.sweeps == ("s1", "s2")


def test_sweeps_on_different_data_are_not_mixed(store: MemoryStore) -> None:
    record(store, TRIALS, sweep="s2", digest="def2")
    found = store.sweeps("reviews")
    with pytest.raises(UserError, match=r"--digest or --sweep-id among abc1: s1; def2: s2"):
        choose_sweeps(found)
    assert [s.sweep_id for s in choose_sweeps(found, digest="de")] == ["s2"]
    assert [s.sweep_id for s in choose_sweeps(found, sweeps=["s1"])] == ["s1"]
    with pytest.raises(UserError, match="different data"):
        choose_sweeps(found, sweeps=["s1", "s2"])
    with pytest.raises(UserError, match="there are abc1, def2"):
        choose_sweeps(found, digest="fff")
    with pytest.raises(UserError, match="unknown sweep 's3'; choose from s1, s2"):
        choose_sweeps(found, sweeps=["s3"])


def test_a_sweep_that_completed_nothing_is_in_nobodys_way(store: MemoryStore) -> None:
    record(store, [("aa-ig", 0, 0, "failed")], sweep="s2", digest="def2")
    assert [s.sweep_id for s in choose_sweeps(store.sweeps("reviews"))] == ["s1"]
    assert choose_sweeps([]) == []


def test_a_sweep_on_two_data_sets_is_refused(store: MemoryStore) -> None:
    store.runs["reviews/s1"]["tags"][DATA_DIGEST] = "other"
    with pytest.raises(UserError, match="'s1' holds trials on different data: abc1, other"):
        choose_sweeps(store.sweeps("reviews"))


def test_nothing_complete_names_the_remedy() -> None:
    store = MemoryStore()
    record(store, [("aa-ig", 0, 0, raw(0.1, 0.1))])
    with pytest.raises(UserError, match="--resume"):
        compare("reviews", store.sweeps("reviews"))


def test_scores_are_written_back_and_old_ones_withdrawn(store: MemoryStore) -> None:
    write_back(store, compare("reviews", store.sweeps("reviews")))
    of = {trial.spec.trial_id: trial.metrics for trial in store.trials()}
    assert of["s1-unirex-slm-p-0000-s1"]["nrg/cnrg"] == 1.0
    assert of["s1-unirex-dlm-fp-0001-s0"]["nrg/cnrg"] == pytest.approx(0.25)
    assert "nrg/cnrg" not in of["s1-unirex-dlm-fp-0000-s0"]
    assert "nrg/cnrg" not in of["s1-some-ablation-0000-s0"]

    weights = (1.0, 1.0, 1.0)
    record(store, [("unirex-dlm-fp", 0, seed, raw(0.99, 0.9)) for seed in (0, 1)], sweep="s2")
    write_back(store, compare("reviews", store.sweeps("reviews"), weights))
    of = {t.spec.trial_id: t.metrics for sweep in store.sweeps("reviews") for t in sweep.trials}
    assert of["s2-unirex-dlm-fp-0000-s0"]["nrg/cnrg"] == pytest.approx(0.875)
    assert math.isnan(of["s1-unirex-dlm-fp-0001-s0"]["nrg/cnrg"])
    # A withdrawn score changes no later comparison.
    assert compare("reviews", store.sweeps("reviews")).rows[0].scores is not None


def test_score_metrics_without_gold() -> None:
    store = MemoryStore()
    no_gold = {key: value for key, value in raw(0.5, 0.5).items() if "auprc" not in key and "token_f1" not in key}
    record(store, [("aa-ig", 0, seed, no_gold) for seed in (0, 1)])
    comparison = compare("reviews", store.sweeps("reviews"))
    assert comparison.rows[0].scores is not None
    assert set(score_metrics(comparison.rows[0].scores)) == {
        "nrg/cnrg",
        "nrg/fnrg",
        "nrg/tnrg",
        "nrg/comprehensiveness",
        "nrg/sufficiency",
        "nrg/task_score",
    }


def run_job(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(JOB), *arguments], capture_output=True, text=True, timeout=120)


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An output folder whose database holds `TRIALS`."""
    folder = tmp_path_factory.mktemp("output")
    record(MlflowStore(f"sqlite:///{folder}/mlflow.db"), TRIALS)
    return folder


def test_job(output: Path) -> None:
    done = run_job(f"--output={output}", f"--tracking.uri=sqlite:///{output}/mlflow.db")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0].startswith("reviews: test, mean ± std over 2 seeds")
    assert "jobs/export_best.py" in done.stdout.splitlines()[-1]
    assert max(len(line) for line in done.stdout.splitlines()) <= 240
    with (output / "comparison.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["method"] for row in rows] == ["unirex-slm-p", "unirex-dlm-fp", "aa-ig", "some-ablation"]
    assert json.loads(rows[1]["seeds"]) == [0, 1]
    assert (output / "comparison.md").read_text().count("\n|") == 6
    assert {p.name for p in output.glob("*.png")} == {"comparison_cnrg.png", "comparison_desiderata.png"}
    (sweep,) = MlflowStore(f"sqlite:///{output}/mlflow.db").sweeps("reviews")
    assert sum("nrg/cnrg" in trial.metrics for trial in sweep.trials) == 6


def test_job_without_runs_ends_with_one_line(output: Path) -> None:
    done = run_job(f"--output={output}", f"--tracking.uri=sqlite:///{output}/mlflow.db", "--data.name=sst")
    assert done.returncode == 2
    assert done.stderr.startswith("error: no finished trials on 'sst'")
    assert done.stderr.count("\n") == 1
