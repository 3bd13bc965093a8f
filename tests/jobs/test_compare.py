"""The comparison as its users run it: one corpus, several, outputs that were copied, and what is refused."""

import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.memory_store import MemoryStore
from helpers.rationale_pages import parse, result_file
from helpers.recorded_evaluations import evaluation
from helpers.recorded_trials import TRIALS, raw, record
from helpers.simulated import TRUE, record_simulated
from mlflow import MlflowClient

from unirex_ray.analysis.compare import compare, write_back
from unirex_ray.config import build_config
from unirex_ray.errors import UserError
from unirex_ray.metrics.instance_file import to_parquet
from unirex_ray.tracking.archive import ArchiveStore
from unirex_ray.tracking.choose import open_sweeps
from unirex_ray.tracking.mlflow_store import MlflowStore
from unirex_ray.tracking.store import recorded_uri

JOB = Path(__file__).parents[2] / "jobs" / "compare.py"


def run_job(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(JOB), *arguments], capture_output=True, text=True, timeout=120)


@pytest.fixture
def store() -> MemoryStore:
    store = MemoryStore()
    record(store, TRIALS)
    return store


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
    with pytest.raises(UserError, match=r"--also '.*empty': no runs are recorded there"):
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
        assert "What the columns mean" in (folder / "report.html").read_text()
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
def test_job_where_artifacts_are_out_of_reach(tmp_path: Path) -> None:
    results = record_simulated(MlflowStore(f"sqlite:///{tmp_path}/one/mlflow.db"), instances=60)
    for method, runs in results.items():
        for seed, found in enumerate(runs):
            folder = tmp_path / "one" / "trials" / f"s1-{method}-0000-s{seed}"
            folder.mkdir(parents=True)
            (folder / "instances.parquet").write_bytes(to_parquet({"test": found}, ("no", "yes"), {}))
            if method != "aa-grad":
                (folder / "result.json").write_bytes(result_file(f"{method} {seed}"))
    shutil.rmtree(tmp_path / "one" / "mlartifacts")
    (tmp_path / "one" / "mlartifacts").write_text("no folder any more")
    done = run_job(f"--output={tmp_path}/one", "--data.name=reviews")
    assert done.returncode == 0, done.stderr
    assert "2,000 bootstrap draws of 60 test instances" in done.stdout
    assert "NOT to the sweeps' own runs: artifact report.html of run" in " ".join(done.stdout.split())
    assert 'href="rationales.html"' in (tmp_path / "one" / "report.html").read_text()
    page = parse((tmp_path / "one" / "rationales.html").read_text())
    assert page.all("a")[0].attributes["href"] == "report.html"
    assert "without AA (Grad): result.json is gone" in page.text
    # Each method as in the comparison, by its first seed.
    (card,) = page.all("article")
    shown = {view.all("h3")[0].text: view.all("p", class_="text")[0].text for view in card.all("section")}
    methods = {"UNIREX (SLM-FP)": "unirex-slm-fp", "UNIREX (DLM-FP)": "unirex-dlm-fp", "AA (IG)": "aa-ig"}
    assert shown == {label: f"{method} 0" for label, method in methods.items()}


@pytest.mark.slow
def test_job_from_archives(tmp_path: Path) -> None:
    """What is kept of a comparison prints it again elsewhere, writes to no run, and grows by another sweep."""
    for number, methods in enumerate((("unirex-slm-fp", "aa-grad"), ("unirex-dlm-fp", "aa-ig"))):
        folder = tmp_path / f"output{number}"
        store = MlflowStore(f"sqlite:///{folder}/mlflow.db")
        true = {method: TRUE[method] for method in methods}
        true |= {"refer-slm-fp": TRUE["unirex-dlm-fp"]} if number == 0 else {}  # which NRG does not count
        record_simulated(store, true, instances=60, corpus="sst", sweep=f"s{number}")
        (folder / "sweep.json").write_text(json.dumps({"tracking_uri": store.uri}))
    first, both = tmp_path / "first.zip", tmp_path / "both.zip"
    for index in (0, 7):  # of a trial that is compared, and of none of these sweeps
        store.log_evaluation(evaluation("aa-ig", 0, "movies", index=index), params={}, tags={}, files={})
    done = run_job(f"--output={tmp_path}/output0", "--data.name=sst", f"--write-archive={first}")
    assert f"Wrote {first}: 9 trials, 9 of them with results by instance" in " ".join(done.stdout.split())
    done = run_job(
        f"--output={tmp_path}/a", f"--archive={first}", f"--also={tmp_path}/output1", f"--write-archive={both}"
    )
    assert done.returncode == 0, done.stderr
    assert "15 trials, 15 of them with results by instance" in " ".join(done.stdout.split())
    assert [one.trial_id for one in ArchiveStore(both).evaluations("sst")] == ["s1-aa-ig-0000-s0"]
    before = both.read_bytes()
    done = run_job(f"--output={tmp_path}/b", f"--archive={both}", "--baseline=unirex-slm-fp")
    assert done.returncode == 0, done.stderr
    assert f"nothing to runs: {both} stays as it is" in " ".join(done.stdout.split())
    assert "export_best" not in done.stdout
    assert "sst: differences to UNIREX (SLM-FP) on test" in done.stdout
    with (tmp_path / "b" / "baseline.csv").open(newline="") as stream:
        assert {row["method"] for row in csv.DictReader(stream)} == {
            "aa-grad",
            "refer-slm-fp",
            "unirex-dlm-fp",
            "aa-ig",
        }
    assert both.read_bytes() == before
    assert (tmp_path / "a" / "comparison.csv").read_text() == (tmp_path / "b" / "comparison.csv").read_text()
    assert (tmp_path / "a" / "certainty.csv").read_text() == (tmp_path / "b" / "certainty.csv").read_text()
    assert not (tmp_path / "b" / "mlflow.db").exists()
    # The sweep that lies in both counts once, as one that can be written to.
    done = run_job(f"--output={tmp_path}/c", f"--archive={both}", f"--also={tmp_path}/output1")
    assert f"NRG to the runs at sqlite:///{tmp_path}/output1/mlflow.db;" in " ".join(done.stdout.split())
    assert (tmp_path / "c" / "comparison.csv").read_text() == (tmp_path / "b" / "comparison.csv").read_text()
    done = run_job(f"--output={tmp_path}/d", f"--archive={both}", "--data.name=movies")
    assert done.returncode == 2
    assert f"no finished trials on 'movies' at {both}" in done.stderr
