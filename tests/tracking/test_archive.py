"""Sweeps kept in one file: what is in it, and that a comparison of it is the comparison of the runs."""

import io
import json
import zipfile
from dataclasses import replace
from types import SimpleNamespace

import pytest
from helpers.memory_store import MemoryStore
from helpers.recorded_evaluations import evaluation
from helpers.recorded_trials import TRIALS, record
from helpers.simulated import reader, record_simulated
from hypothesis import given, settings
from hypothesis import strategies as st

from unirex_ray.analysis.compare import compare, with_certainty
from unirex_ray.errors import UserError
from unirex_ray.metrics.instance_file import INSTANCES, from_parquet, of_split, to_parquet
from unirex_ray.metrics.table import TrialMetrics
from unirex_ray.report.compared_corpora import AllCompared
from unirex_ray.report.files import comparison_tables
from unirex_ray.tracking.archive import ArchiveStore, to_archive
from unirex_ray.tracking.pooled_stores import PooledStores
from unirex_ray.tracking.records import TrialSpec
from unirex_ray.tracking.store import SweepRecord


def sweeps_of(store: MemoryStore) -> list[SweepRecord]:
    return store.sweeps("reviews")


def results_of(store: MemoryStore) -> dict[str, bytes]:
    read = reader(store)
    return {t.spec.trial_id: d for s in sweeps_of(store) for t in s.trials if (d := read(t)) is not None}


@pytest.fixture(scope="module")
def simulated() -> MemoryStore:
    store = MemoryStore()
    record_simulated(store, instances=60)
    return store


@pytest.fixture(scope="module")
def content(simulated: MemoryStore) -> bytes:
    return to_archive({"reviews": sweeps_of(simulated)}, [], results_of(simulated))


def test_every_table_of_an_archive_is_that_of_the_runs(simulated, content, tmp_path):
    (tmp_path / "kept.zip").write_bytes(content)
    kept = ArchiveStore(tmp_path / "kept.zip")
    assert kept.corpora == ("reviews",)

    def tables(store):
        found = with_certainty(compare("reviews", store.sweeps("reviews")), reader(store))
        assert found.certainty is not None
        return {name: table.csv() for name, table in comparison_tables(found).items()}

    assert tables(kept) == tables(simulated)


def test_trials_of_every_status_come_back(tmp_path):
    store = MemoryStore()
    record(store, TRIALS)
    (tmp_path / "kept.zip").write_bytes(to_archive({"reviews": sweeps_of(store)}, [], {}))
    (kept,), (original,) = ArchiveStore(tmp_path / "kept.zip").sweeps("reviews"), sweeps_of(store)
    assert (kept.seeds, kept.status, kept.settings) == (original.seeds, original.status, original.settings)
    told = [[(t.spec, t.status, t.metrics) for t in sweep.trials] for sweep in (kept, original)]
    assert told[0] == told[1]
    assert any(trial.reason for trial in original.trials)
    assert not any(trial.reason for trial in kept.trials)  # an error's text may hold anything
    assert ArchiveStore(tmp_path / "kept.zip").sweeps("sst") == []


def test_the_same_content_is_the_same_file(simulated, content):
    assert to_archive({"reviews": sweeps_of(simulated)}, [], results_of(simulated)) == content


def test_an_archive_tells_nothing_of_machines_and_people():
    store = MemoryStore()
    places = ("output", "data.source", "data.cache", "sweep.storage", "tracking.uri", "train.resources")
    params = {"train.epochs": 3, **dict.fromkeys(places, "/home/ann/secret")}
    tags = {"data.digest": "d", "mlflow.user": "ann", "host": "ann-pc", "git.version": "abc"}
    sweep = store.open_sweep(experiment="reviews", sweep_id="s", seeds=(0,), params=params, tags=tags)
    spec = TrialSpec(trial_id="s-aa-ig-0", method="aa-ig", configuration=0, seed=0, parameters={})
    sweep.open_trial(spec, params=params, tags=tags)
    sweep.finish_trial(spec.trial_id, "failed", metrics=TrialMetrics(), reason="no /home/ann/secret")
    sweep.finish()
    data = to_archive({"reviews": sweeps_of(store)}, [], {})
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        text = archive.read("archive.json").decode()
    assert not [word for word in ("ann", "secret") if word in text]
    (found,) = json.loads(text)["sweeps"]["reviews"]
    assert (found["tags"], found["settings"]) == ({"data.digest": "d", "git.version": "abc"}, {"train.epochs": "3"})


def test_evaluations_come_back(tmp_path):
    recorded = replace(evaluation("aa-ig", 0, "movies", settings={"data.max_length": "64"}), protocol="abc")
    (tmp_path / "kept.zip").write_bytes(to_archive({}, [recorded], {}))
    kept = ArchiveStore(tmp_path / "kept.zip")
    assert (kept.evaluations("sst"), kept.evaluations("movies"), kept.corpora) == ([recorded], [], ())


@settings(max_examples=60)
@given(st.data())
def test_no_changed_byte_is_a_traceback_or_another_number(content, tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("flipped")
    place, change = data.draw(st.integers(0, len(content) - 1)), data.draw(st.integers(1, 255))
    (folder / "kept.zip").write_bytes(content[:place] + bytes([content[place] ^ change]) + content[place + 1 :])
    (folder / "whole.zip").write_bytes(content)
    try:
        found = ArchiveStore(folder / "kept.zip").sweeps("reviews")
    except UserError:
        return
    assert found == ArchiveStore(folder / "whole.zip").sweeps("reviews")


def cut(data: bytes) -> bytes:
    return data[: len(data) // 2]


def flipped(data: bytes) -> bytes:
    place = data.index(b"PAR1") + 40 if b"PAR1" in data else len(data) // 3
    return data[:place] + bytes([data[place] ^ 255]) + data[place + 1 :]


def other(member: str, text: str) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr(member, text)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (cut, "is no archive of sweeps, or damaged"),
        (flipped, "is no archive of sweeps, or damaged"),
        (lambda data: b"hello", "is no archive of sweeps, or damaged: File is not a zip file"),
        (lambda data: other("a.txt", "a"), "is no archive of sweeps, or damaged: 'archive.json'"),
        (lambda data: other("archive.json", "[]"), "is no archive of sweeps, or damaged"),
        (lambda data: other("archive.json", '{"version": 1, "sweeps": {"a": [{}]}}'), "is no archive of sweeps"),
        (lambda data: other("archive.json", '{"version": 9}'), "is of version 9, but this program reads 1; install"),
    ],
)
def test_what_is_no_archive_is_refused(content, tmp_path, damage, message):
    (tmp_path / "kept.zip").write_bytes(damage(content))
    with pytest.raises(UserError, match=message):
        ArchiveStore(tmp_path / "kept.zip")
    with pytest.raises(UserError, match=r"archive '.*gone\.zip' does not exist"):
        ArchiveStore(tmp_path / "gone.zip")


def test_results_of_one_split(simulated):
    data = next(iter(results_of(simulated).values()))
    test = from_parquet(data)["test"]
    both = to_parquet({"dev": test, "test": test}, ("no", "yes"), {"seed": 1})
    assert [*from_parquet(of_split(both, "test"))] == ["test"]
    (kept,) = from_parquet(of_split(both, "test")).values()
    assert kept.ids == test.ids
    for name, values in from_parquet(both)["test"].measured.items():
        assert kept.measured[name].tolist() == pytest.approx(values.tolist(), abs=0, nan_ok=True)
    with pytest.raises(UserError, match=f"{INSTANCES} is damaged"):
        of_split(b"no", "test")


def test_results_that_are_damaged_are_left_out(simulated, tmp_path):
    whole = results_of(simulated)
    first = next(iter(whole))
    corpus = SimpleNamespace(
        sweeps=sweeps_of(simulated),
        store=SimpleNamespace(evaluations=lambda corpus: []),
        results={**whole, first: whole[first][:-9]},
    )
    found = AllCompared(configs={}, corpora={"reviews": corpus}, several=None)
    assert f"12 trials, {len(whole) - 1} of them with results by instance" in found.write_archive(tmp_path / "a.zip")
    assert ArchiveStore(tmp_path / "a.zip").artifact(first, INSTANCES) is None


def test_an_evaluation_that_lies_in_two_archives_comes_once(tmp_path):
    one, other = evaluation("aa-ig", 0, "movies"), evaluation("aa-ig", 1, "movies")
    for name, kept in (("a", [one]), ("b", [one, other])):
        (tmp_path / f"{name}.zip").write_bytes(to_archive({}, kept, {}))
    pooled = PooledStores([], [ArchiveStore(tmp_path / f"{name}.zip") for name in "ab"])
    assert pooled.evaluations("sst") == [one, other]
