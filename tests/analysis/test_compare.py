import math
import re

import pytest
from helpers.memory_store import MemoryStore
from helpers.recorded_trials import TRIALS, raw, record

from unirex_ray.analysis.compare import compare, write_back
from unirex_ray.errors import UserError
from unirex_ray.report.corpus_page import answer
from unirex_ray.report.files import comparison_tables
from unirex_ray.tracking.choose import choose_sweeps, weights_of
from unirex_ray.tracking.store import DATA_DIGEST, NRG_WEIGHTS, PLANNED, STATUS, SweepRecord


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
        "some-ablation": "outside the global scope, the paper's sixteen and SLM-P; --baseline compares raw metrics",
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


def test_a_sweep_that_lacks_trials_is_read_on_demand_alone(store: MemoryStore) -> None:
    record(store, [("aa-ig", 0, 0, raw(0.9, 0.5)), ("aa-ig", 0, 1, raw(0.9, 0.5))], sweep="s2")
    tags = store.runs["reviews/s2"]["tags"]
    tags |= {STATUS: "running", PLANNED: "18"}
    words = "sweep s2 has 2 of up to 18 trials (2 completed)"
    with pytest.raises(UserError, match=rf"not finished: {re.escape(words)}\. .*--resume.*--sweep-id.*--unfinished"):
        choose_sweeps(store.sweeps("reviews"))
    with pytest.raises(UserError, match="not finished"):
        choose_sweeps(store.sweeps("reviews"), sweeps=["s2"])
    assert [s.sweep_id for s in choose_sweeps(store.sweeps("reviews"), sweeps=["s1"])] == ["s1"]
    comparison = compare("reviews", choose_sweeps(store.sweeps("reviews"), unfinished=True))
    assert comparison.unfinished == (words,)
    expected = f"UNFINISHED: {words}: a method's configuration may be the best of fewer than planned."
    assert all(expected in table.remarks for table in comparison_tables(comparison).values())
    assert answer(comparison)[0] == expected
    assert compare("reviews", choose_sweeps(store.sweeps("reviews"), sweeps=["s1"])).unfinished == ()
    tags[PLANNED] = "2"
    with pytest.raises(UserError, match="sweep s2 has all its trials, but was not closed: --resume does that"):
        choose_sweeps(store.sweeps("reviews"))


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
    write_back(store.log_scores, compare("reviews", store.sweeps("reviews")))
    of = {trial.spec.trial_id: trial.metrics.flat() for trial in store.sweeps("reviews")[0].trials}
    assert of["s1-unirex-slm-p-0000-s1"]["nrg/cnrg"] == 1.0
    assert of["s1-unirex-dlm-fp-0001-s0"]["nrg/cnrg"] == pytest.approx(0.25)
    assert "nrg/cnrg" not in of["s1-unirex-dlm-fp-0000-s0"]
    assert "nrg/cnrg" not in of["s1-some-ablation-0000-s0"]

    weights = (1.0, 1.0, 1.0)
    record(store, [("unirex-dlm-fp", 0, seed, raw(0.99, 0.9)) for seed in (0, 1)], sweep="s2")
    write_back(store.log_scores, compare("reviews", store.sweeps("reviews"), weights))
    of = {t.spec.trial_id: t.metrics.flat() for sweep in store.sweeps("reviews") for t in sweep.trials}
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
    assert set(comparison.rows[0].scores.by_key()) == {
        "cnrg",
        "fnrg",
        "tnrg",
        "comprehensiveness",
        "sufficiency",
        "task_score",
    }


def test_sweeps_are_compared_by_the_weights_that_they_selected_by() -> None:
    def swept(name: str, weights: str | None) -> SweepRecord:
        tags = {} if weights is None else {NRG_WEIGHTS: weights}
        return SweepRecord(sweep_id=name, status="completed", seeds=(0,), trials=(), run_id=name, tags=tags)

    faithful, equal, old = swept("f", "[1.0, 0.0, 0.0]"), swept("e", "[1.0, 1.0, 1.0]"), swept("o", None)
    assert weights_of([faithful, faithful], None) == (1.0, 0.0, 0.0)
    assert weights_of([old], None) == (1.0, 1.0, 1.0)
    assert weights_of([faithful, equal], (0.0, 1.0, 0.0)) == (0.0, 1.0, 0.0)
    with pytest.raises(UserError, match=r"selected by different weights .*f.*e.*--sweep\.nrg_weights"):
        weights_of([faithful, equal], None)
