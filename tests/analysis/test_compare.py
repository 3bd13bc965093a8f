import csv
import json
import math
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.memory_store import MemoryStore
from helpers.recorded_trials import OURS, PAPER, TRIALS, raw, record
from helpers.simulated import record_simulated
from mlflow import MlflowClient

from unirex_ray.analysis.compare import compare, write_back
from unirex_ray.analysis.paper import compare_with_paper
from unirex_ray.config import build_config
from unirex_ray.errors import UserError
from unirex_ray.methods import METHODS
from unirex_ray.metrics.instance_file import to_parquet
from unirex_ray.tracking.choose import choose_sweeps, open_sweeps, weights_of
from unirex_ray.tracking.mlflow_store import MlflowStore
from unirex_ray.tracking.store import DATA_DIGEST, NRG_WEIGHTS, SweepRecord, recorded_uri

JOB = Path(__file__).parents[2] / "jobs" / "compare.py"


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


def test_beside_the_paper_both_are_scored_over_the_common_methods() -> None:
    beside = compare_with_paper(OURS, PAPER)
    dlm, aa_f, aa = beside.rows
    assert [row.method for row in beside.rows] == ["unirex-dlm-fp", "unirex-aa-f", "aa-ig"]
    # Ours: DLM-FP has FNRG (1/2 + 1)/2, PNRG 1, TNRG 1/2; AA-F (1 + 2/3)/2, (1/2 + 1/4)/2, 0; AA 0, 0, 1.
    assert [row.cnrg for row in beside.rows] == pytest.approx([0.75, (5 / 6 + 3 / 8) / 3, 1 / 3])
    # The paper's: DLM-FP (1/2 + 0)/2, 1, 1/2; AA-F 1, 0, 1; AA (0 + 1/2)/2, (1/5 + 1/2)/2, 0.
    assert [row.paper_cnrg for row in beside.rows] == pytest.approx([1.75 / 3, 2 / 3, 0.2])
    assert [(row.rank, row.paper_rank, row.moved) for row in beside.rows] == [(1, 2, 1), (2, 1, -1), (3, 3, 0)]
    assert beside.spearman is None
    assert (beside.only_ours, beside.only_paper) == (("mine",), ("sgt",))
    assert dlm.ours["auprc"] == 80.0
    assert dlm.paper["auprc"] == 90.0
    # Task performance alone.
    only_task = {row.method: row for row in compare_with_paper(OURS, PAPER, (0.0, 0.0, 1.0)).rows}
    assert [only_task[row.method].rank for row in (dlm, aa_f, aa)] == [2, 3, 1]
    assert [only_task[row.method].paper_rank for row in (dlm, aa_f, aa)] == [2, 1, 3]


def test_the_rank_correlation_by_hand() -> None:
    paper = {method: {**PAPER["aa-ig"], "task_score": 70.0 + n} for n, method in enumerate(list(METHODS)[:5])}
    ours = {method: {**row, "task_score": -row["task_score"]} for method, row in paper.items()}
    assert compare_with_paper(ours, paper).spearman == pytest.approx(-1.0)
    ours = dict(paper)
    first, second = list(paper)[:2]
    ours[first], ours[second] = paper[second], paper[first]
    assert compare_with_paper(ours, paper).spearman == pytest.approx(1 - 6 * 2 / (5 * 24))


def test_beside_the_paper_equal_scores_share_a_rank() -> None:
    same = {**OURS, "unirex-aa-f": OURS["aa-ig"]}
    assert [row.rank for row in compare_with_paper(same, PAPER).rows] == [1, 2, 2]
    flat = dict.fromkeys(PAPER, OURS["aa-ig"])
    beside = compare_with_paper(flat, PAPER)
    assert {row.rank for row in beside.rows} == {1}
    assert beside.spearman is None


def test_beside_the_paper_with_few_methods_in_common() -> None:
    two = compare_with_paper({m: OURS[m] for m in ("aa-ig", "unirex-dlm-fp")}, PAPER)
    assert [row.method for row in two.rows] == ["unirex-dlm-fp", "aa-ig"]
    assert two.spearman is None
    none = compare_with_paper({"mine": OURS["mine"]}, PAPER)
    assert (none.rows, none.only_ours, none.only_paper) == ((), ("mine",), tuple(PAPER))


def test_beside_the_paper_without_gold_its_plausibility_is_left_out_too() -> None:
    ours = {m: {k: v for k, v in row.items() if k not in ("auprc", "token_f1")} for m, row in OURS.items()}
    rows = {row.method: row for row in compare_with_paper(ours, PAPER).rows}
    assert rows["unirex-aa-f"].cnrg == pytest.approx(5 / 12)
    assert rows["unirex-aa-f"].paper_cnrg == 1.0
    assert rows["aa-ig"].paper_cnrg == pytest.approx(0.125)


def run_job(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(JOB), *arguments], capture_output=True, text=True, timeout=120)


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An output folder whose database holds `TRIALS`."""
    folder = tmp_path_factory.mktemp("output")
    record(MlflowStore(f"sqlite:///{folder}/mlflow.db"), TRIALS)
    return folder


@pytest.mark.slow
def test_job(output: Path) -> None:
    done = run_job(f"--output={output}", f"--tracking.uri=sqlite:///{output}/mlflow.db")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0].startswith("reviews: test, mean ± std over 2 seeds")
    assert "jobs/export_best.py" in done.stdout.splitlines()[-1]
    assert max(len(line) for line in done.stdout.splitlines()) <= 240
    assert "Searched in several sweeps" not in done.stdout
    with (output / "comparison.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["method"] for row in rows] == ["unirex-slm-p", "unirex-dlm-fp", "aa-ig", "some-ablation"]
    assert json.loads(rows[1]["seeds"]) == [0, 1]
    text = (output / "comparison.md").read_text()
    assert text.partition("in the form of the paper")[0].count("\n|") == 6
    assert {p.name for p in output.glob("*.png")} == {"comparison_cnrg.png", "comparison_desiderata.png"}
    (sweep,) = MlflowStore(f"sqlite:///{output}/mlflow.db").sweeps("reviews")
    assert sum("cnrg" in trial.metrics.nrg for trial in sweep.trials) == 6


@pytest.mark.slow
def test_job_without_runs_ends_with_one_line(output: Path) -> None:
    done = run_job(f"--output={output}", f"--tracking.uri=sqlite:///{output}/mlflow.db", "--data.name=sst")
    assert done.returncode == 2
    assert done.stderr.startswith("error: no finished trials on 'sst'")
    assert done.stderr.count("\n") == 1


@pytest.mark.slow
def test_job_beside_the_paper(tmp_path: Path) -> None:
    record(MlflowStore(f"sqlite:///{tmp_path}/mlflow.db"), TRIALS, corpus="sst")
    arguments = (f"--output={tmp_path}", f"--tracking.uri=sqlite:///{tmp_path}/mlflow.db", "--data.name=sst")
    done = run_job(*arguments, "--published")
    assert done.returncode == 0, done.stderr
    assert "Only here: UNIREX (SLM-P), some-ablation." in done.stdout
    assert "configurations.csv, comparison_published.csv" in done.stdout
    assert "Spearman" not in done.stdout
    with (tmp_path / "comparison_published.csv").open(newline="") as stream:
        dlm, aa = csv.DictReader(stream)
    assert (dlm["method"], dlm["rank"], dlm["paper_rank"], dlm["moved"]) == ("unirex-dlm-fp", "1", "1", "0")
    assert (float(dlm["cnrg"]), float(aa["cnrg"])) == (1.0, 0.0)
    # SST: DLM-FP is better on all but the task, where both have 93.81.
    assert float(dlm["paper_cnrg"]) == pytest.approx(2 / 3)
    assert (float(aa["test/auprc"]), float(aa["paper/auprc"])) == (0.2, 49.94)
    text = (tmp_path / "comparison.md").read_text()
    assert text.startswith("sst: test, ")
    assert "| UNIREX (DLM-FP) | 1.000 | 0.667 | 1 | 1 | same | 0.400 | 0.319 |" in text


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


@pytest.fixture(scope="module")
def recorded_outputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Databases of two sweeps of one protocol; together they hold `TRIALS`."""
    folder = tmp_path_factory.mktemp("recorded")
    for number, methods in enumerate((("aa-ig", "some-ablation"), ("unirex-slm-p", "unirex-dlm-fp"))):
        (folder / f"output {number}").mkdir()
        store = MlflowStore(f"sqlite:///{folder}/output {number}/mlflow.db")
        record(store, [trial for trial in TRIALS if trial[0] in methods], sweep=f"s{number}")
    return folder


@pytest.fixture
def outputs(recorded_outputs: Path, tmp_path: Path) -> list[str]:
    """The outputs of the two sweeps, each with a store of its own."""
    folders = [tmp_path / f"output {number}" for number in range(2)]
    for number, folder in enumerate(folders):
        shutil.copytree(recorded_outputs / folder.name, folder)
        uri = f"sqlite:///{folder}/mlflow.db"
        (folder / "sweep.json").write_text(json.dumps({"sweep_id": f"s{number}", "tracking_uri": uri}))
    return [str(folder) for folder in folders]


@pytest.mark.slow
def test_sweeps_of_several_outputs_give_the_numbers_of_one(outputs: list[str], store: MemoryStore) -> None:
    config, whole = build_config({"output": outputs[0]}), compare("reviews", store.sweeps("reviews"))
    pooled, sweeps = open_sweeps(config, also=[outputs[1], outputs[1], outputs[0]])
    assert [sweep.sweep_id for sweep in sweeps] == ["s0", "s1"]
    assert [pooled.uri_of(sweep) for sweep in sweeps] == [f"sqlite:///{output}/mlflow.db" for output in outputs]
    parted = compare("reviews", sweeps)
    assert [(row.method, row.scores, row.dev_cnrg) for row in parted.rows] == [
        (row.method, row.scores, row.dev_cnrg) for row in whole.rows
    ]
    write_back(pooled.log_scores, parted)
    written = [
        {trial.spec.method for trial in sweep.trials if "cnrg" in trial.metrics.nrg}
        for output in outputs
        for sweep in MlflowStore(f"sqlite:///{output}/mlflow.db").sweeps("reviews")
    ]
    assert written == [{"aa-ig"}, {"unirex-slm-p", "unirex-dlm-fp"}]


@pytest.mark.slow
def test_a_copy_of_an_output_has_a_database_of_its_own(outputs: list[str], tmp_path: Path) -> None:
    shutil.copytree(outputs[0], tmp_path / "copy")
    original, copy = (f"sqlite:///{folder}/mlflow.db" for folder in (outputs[0], tmp_path / "copy"))
    assert recorded_uri(original, tmp_path / "copy") == copy
    assert recorded_uri("http://server", tmp_path / "copy") == copy
    # What lies beside a folder that is no sweep's output may be anybody's.
    (tmp_path / "copy" / "sweep.json").unlink()
    assert recorded_uri(original, tmp_path / "copy") == original
    assert recorded_uri(f"sqlite:///{tmp_path}/gone.db", tmp_path / "copy") == copy
    assert recorded_uri(f"sqlite:///{tmp_path}/gone.db", tmp_path) is None


@pytest.mark.slow
def test_a_copy_of_an_output_counts_once(outputs: list[str], tmp_path: Path) -> None:
    shutil.copytree(outputs[0], tmp_path / "copy")
    (tmp_path / "copy" / "sweep.json").write_text("{}")  # its own database is taken
    _, sweeps = open_sweeps(build_config({"output": outputs[0]}), also=[str(tmp_path / "copy")])
    assert [sweep.sweep_id for sweep in sweeps] == ["s0"]


@pytest.mark.slow
@pytest.mark.parametrize("content", [None, "{", "[]", "{}"])
def test_an_output_without_a_sweep_is_refused(outputs: list[str], tmp_path: Path, content: str | None) -> None:
    (tmp_path / "empty").mkdir()
    if content is not None:
        (tmp_path / "empty" / "sweep.json").write_text(content)
    with pytest.raises(UserError, match=r"--also '.*empty': no sweep is recorded there"):
        open_sweeps(build_config({"output": outputs[0]}), also=[str(tmp_path / "empty")])


@pytest.mark.slow
def test_job_over_several_outputs(outputs: list[str]) -> None:
    done = run_job(f"--output={outputs[0]}", f"--also={outputs[1]}")
    assert done.returncode == 0, done.stderr
    assert "Sweeps: s0, s1;" in done.stdout
    assert f"--also='{outputs[1]}'" in done.stdout.splitlines()[-1]


@pytest.mark.slow
def test_a_copy_that_was_continued_is_refused(outputs: list[str], tmp_path: Path) -> None:
    shutil.copytree(outputs[0], tmp_path / "copy")
    uri = f"sqlite:///{tmp_path}/copy/mlflow.db"
    (tmp_path / "copy" / "sweep.json").write_text(json.dumps({"tracking_uri": uri}))
    record(MlflowStore(uri), [("l2e", 0, 0, raw(0.5, 0.5))], sweep="s0")
    with pytest.raises(UserError, match=r"the sweep s0 lies at .* with other trials, .* a copy that was continued"):
        open_sweeps(build_config({"output": outputs[0]}), also=[str(tmp_path / "copy")])


@pytest.mark.slow
def test_a_sweep_that_was_recorded_elsewhere_is_found_by_its_output(outputs: list[str], tmp_path: Path) -> None:
    (tmp_path / "moved").mkdir()
    shutil.move(f"{outputs[0]}/mlflow.db", tmp_path / "moved" / "mlflow.db")
    uri = f"sqlite:///{tmp_path}/moved/mlflow.db"
    (Path(outputs[0]) / "sweep.json").write_text(json.dumps({"tracking_uri": uri}))
    store, sweeps = open_sweeps(build_config({"output": outputs[0]}))
    assert (store.uri, [sweep.sweep_id for sweep in sweeps]) == (uri, ["s0"])
    assert not (Path(outputs[0]) / "mlflow.db").exists()


@pytest.mark.slow
def test_job_over_several_corpora(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    for corpus in ("sst", "movies"):
        record_simulated(MlflowStore(uri), corpus=corpus, sweep=f"of-{corpus}", instances=60)
    done = run_job(f"--output={tmp_path}", "--data.name=sst,movies", "--published")
    assert done.returncode == 0, done.stderr
    assert "Dataset means of NRG: sst, movies" in done.stdout
    assert "The paper's raw results, dataset means of NRG: sst, movies" in done.stdout
    assert "next:" in done.stdout
    for folder in (tmp_path, tmp_path / "sst", tmp_path / "movies"):
        assert (folder / "report.html").is_file()
    assert "sst, movies: rationale extraction methods compared" in (tmp_path / "report.html").read_text()
    with (tmp_path / "corpora.csv").open(newline="") as stream:
        rows = {row["method"]: row for row in csv.DictReader(stream)}
    cnrg = {}
    for corpus in ("sst", "movies"):
        with (tmp_path / corpus / "comparison.csv").open(newline="") as stream:
            cnrg[corpus] = {row["method"]: float(row["nrg/cnrg"]) for row in csv.DictReader(stream)}
    for method, row in rows.items():
        assert float(row["mean/cnrg"]) == pytest.approx((cnrg["sst"][method] + cnrg["movies"][method]) / 2)
        assert float(row["sst/cnrg"]) == cnrg["sst"][method]
    # Each sweep's run carries the page of its corpus, and says what was found.
    for corpus in ("sst", "movies"):
        store = MlflowStore(uri)
        (sweep,) = store.sweeps(corpus)
        page = store.artifact(sweep.run_id, "report.html")
        assert page == (tmp_path / corpus / "report.html").read_bytes()
        run = MlflowClient(uri).get_run(sweep.run_id)
        assert "has the highest CNRG in " in run.data.tags["mlflow.note.content"]


@pytest.mark.slow
def test_job_names_the_corpus_that_it_does_not_know(tmp_path: Path) -> None:
    done = run_job(f"--output={tmp_path}", "--data.name=sst,movie")
    assert done.returncode == 2
    assert done.stderr.startswith("error: unknown data.name = 'movie'")


@pytest.mark.slow
def test_job_on_a_copy_whose_artifacts_are_out_of_reach(tmp_path: Path) -> None:
    results = record_simulated(MlflowStore(f"sqlite:///{tmp_path}/one/mlflow.db"), instances=60)
    for method, runs in results.items():
        for seed, found in enumerate(runs):
            folder = tmp_path / "one" / "trials" / f"s1-{method}-0000-s{seed}"
            folder.mkdir(parents=True)
            (folder / "instances.parquet").write_bytes(to_parquet({"test": found}, ("no", "yes"), {}))
    shutil.copytree(tmp_path / "one", tmp_path / "copy")
    shutil.rmtree(tmp_path / "one")
    (tmp_path / "one").write_text("no folder any more")
    done = run_job(f"--output={tmp_path}/copy", "--data.name=reviews")
    assert done.returncode == 0, done.stderr
    assert "2,000 bootstrap draws of 60 test instances" in done.stdout
    assert "The report is not in the run of s1: artifact report.html of run" in done.stdout
    assert (tmp_path / "copy" / "report.html").is_file()


@pytest.mark.slow
def test_job_refuses_what_it_cannot_do_before_anything_is_written(tmp_path: Path) -> None:
    record_simulated(MlflowStore(f"sqlite:///{tmp_path}/mlflow.db"), instances=60)
    done = run_job(f"--output={tmp_path}", "--data.name=reviews", "--table=2")
    assert done.stderr.startswith("error: --table=2: no sweep has results for it")
    done = run_job(f"--output={tmp_path}", "--data.name=sst,movies", "--sweep-id=s1")
    assert done.stderr.startswith("error: --sweep-id chooses among the sweeps of one corpus")
    assert not list(tmp_path.glob("comparison*"))
