"""A stage that trials have in common is trained once, and nobody's numbers tell who trained it."""

import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest
import torch
from helpers.tiny import Group, tiny_config, tiny_corpus, trained_model

from unirex_ray.config import Config
from unirex_ray.data.schema import Corpus
from unirex_ray.methods import METHODS, Method, Stage
from unirex_ray.metrics.instance_file import INSTANCES, from_parquet
from unirex_ray.metrics.table import TIED_COMP_RANGE, TIED_SUFF_RANGE
from unirex_ray.models.design import Design
from unirex_ray.training.checkpoint import CheckpointStore
from unirex_ray.training.learner import Learner
from unirex_ray.training.runtime import LocalRuntime
from unirex_ray.training.setup import prepare_trial
from unirex_ray.training.shared import stage_identity, stage_lock
from unirex_ray.training.state import TrialFiles, TrialResult, TrialState
from unirex_ray.training.trial import train_trial


class SharingRuntime(LocalRuntime):
    """One of several trials; remembers which stages reported."""

    def __init__(self, folder: Path, shared: Path | None) -> None:
        super().__init__(folder)
        self.shared = None if shared is None else str(shared)
        self.reports: list[tuple[str, int]] = []

    def report(self, metrics, *, epoch, stage=""):
        self.reports.append((stage, epoch))


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return tiny_corpus((16, 8, 8))


@pytest.fixture(scope="module")
def config(encoders) -> Config:
    return tiny_config(encoders["bert"], train__epochs=2, train__seed=3)


@pytest.fixture
def epochs(monkeypatch) -> list[str]:
    """Stages by the epochs that are trained."""
    trained: list[str] = []
    run_epoch = Learner.run_epoch
    monkeypatch.setattr(
        Learner, "run_epoch", lambda self, *save: (trained.append(self.stage.name), run_epoch(self, *save))[1]
    )
    return trained


def lasting(result: TrialResult) -> dict[str, float]:
    return {key: value for key, value in result.metrics.flat().items() if not key.startswith("time/")}


@pytest.mark.slow
def test_a_shared_stage_is_trained_once_and_changes_no_number(config, corpus, epochs, tmp_path):
    methods = ("aa-deeplift", "aa-ig", "l2e", "fresh", "unirex-dlm-p", "fresh-p", "unirex-slm-fp")
    methods += ("unirex-slm-fp-two-stage", "reference-gold", "reference-rand")
    reports, probabilities = {}, {}
    for method in methods:
        mine = config.changed({"method": method})
        runtime = SharingRuntime(tmp_path / "together" / method, tmp_path / "stages")
        together = train_trial(mine, corpus, runtime)
        reports[method] = runtime.reports
        trained = list(epochs)
        probabilities[method] = from_parquet(runtime.checkpoints.read(INSTANCES))["test"].probability.tolist()
        alone = train_trial(mine, corpus, SharingRuntime(tmp_path / "alone" / method, None))
        epochs[:] = trained
        measured = {metric.on("dev") for metric in (TIED_COMP_RANGE, TIED_SUFF_RANGE)}
        if method in (
            "aa-ig",
            "reference-gold",
        ):  # taken over from aa-deeplift: its own comprehensiveness in tied epochs is not known
            assert lasting(alone).keys() - lasting(together).keys() == measured
        unmeasured = lasting(alone).keys() - lasting(together).keys()
        assert unmeasured <= measured
        assert lasting(together) == {key: value for key, value in lasting(alone).items() if key not in unmeasured}
        assert (together.epoch, together.highlights) == (alone.epoch, alone.highlights)
        assert together.metrics.flat()["time/wait_s"] < 5
    assert epochs == ["task-model"] * 2 + ["imitate"] * 2 + ["predict"] * 2 + ["dlm-p"] * 2 + ["predict"] * 2 + (
        ["joint"] * 4 + ["task-model"] * 2
    )
    # The random reference trains its own task model, and it is the same one.
    assert probabilities["reference-rand"] == probabilities["reference-gold"] == probabilities["aa-ig"]
    assert reports["aa-deeplift"] == [("", 1), ("", 2)]
    assert len(reports["aa-ig"]) == 1  # taken over: evaluated once with an extractor of its own
    assert reports["l2e"] == reports["fresh"] == [("", 1), ("", 2)]
    assert len(list((tmp_path / "stages").iterdir())) == 2
    # Whose only stage is shared has no weights of its own.
    of_methods = [tmp_path / "together" / method / "best.pt" for method in ("aa-deeplift", "aa-ig", "reference-gold")]
    (shared,) = [stage for stage in tmp_path.glob("stages/*/best.pt") if stage.samefile(of_methods[0])]
    assert all(map(shared.samefile, of_methods))
    assert shared.stat().st_nlink == 4


def first_identity(config: Config, corpus: Corpus) -> str:
    setup = prepare_trial(config, corpus, torch.device("cpu"))
    return stage_identity(setup.config, setup.method.stages[0], setup.encoded.digest)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "same"),
    [
        ({}, True),
        ({"method": "fresh", "model.ig_steps": 7, "loss.comp_weight": 0.1, "model.convergence_delta": True}, True),
        ({"method": "aa-grad", "model.head": "mlp-2048-2"}, True),
        ({"method": "unirex-dlm-fp-two-stage", "loss.warmup": 0.5}, True),
        ({"train.seed": 4}, False),
        ({"train.learning_rate": 1e-4}, False),
        ({"model.layers": 1}, False),
        ({"data.limit": 5}, False),
        ({"method": "unirex-dlm-p"}, False),
    ],
)
def test_what_a_stage_learns_decides_whether_it_is_the_same(config, corpus, changes, same):
    def identity(changes) -> str:
        return first_identity(config.changed(changes), corpus)

    assert (identity({"method": "aa-ig"}) == identity({"method": "aa-ig", **changes})) == same
    other = first_identity(config.changed({"method": "aa-ig"}), tiny_corpus((16, 8, 8), seed=1))
    assert other != identity({"method": "aa-ig"})


def test_a_stage_of_dlm_p_depends_on_its_head_and_its_weight(config, corpus):
    def identity(method: str, **changes) -> str:
        mine = config.changed({"method": method, **{key.replace("__", "."): v for key, v in changes.items()}})
        return first_identity(mine, corpus)

    reference = identity("unirex-dlm-p")
    assert identity("fresh-p", loss__comp_weight=0.3, model__ig_steps=9) == reference
    for changes in ({"loss__plaus_weight": 0.3}, {"loss__plaus": "kl"}, {"model__head": "mlp-2048-2"}):
        assert identity("fresh-p", **changes) != reference


def test_the_whole_design_is_part_of_what_a_stage_learns(config, corpus, monkeypatch):
    def identity(design: Design, *criteria) -> str:
        stage = Stage(name="shared", criteria=criteria, design=design, shared=True)
        monkeypatch.setitem(METHODS, "probe", Method(name="probe", label="Probe", stages=(stage,)))
        return first_identity(config.changed({"method": "probe"}), corpus)

    designs = (
        Design(extractor="dlm"),
        Design(extractor="slm"),
        Design(extractor="dlm", predicts_from="rationale"),
        Design(extractor="dlm", predicts_from="rationale", attention_predictor=True),
    )
    assert len({identity(design, "task", "plaus") for design in designs}) == 4
    # The task alone learns nothing from scores.
    assert identity(designs[0], "task") == identity(designs[1], "task") != identity(designs[2], "task")


@pytest.mark.slow
def test_with_rungs_every_trial_trains_the_stage_that_they_judge(config, corpus, epochs, tmp_path):
    for method in ("aa-grad", "aa-ig", "l2e"):
        mine = config.changed({"method": method, "sweep.rungs": [1]})
        runtime = SharingRuntime(tmp_path / method, tmp_path / "stages")
        train_trial(mine, corpus, runtime)
        assert [epoch for stage, epoch in runtime.reports if not stage] == [1, 2]
    assert epochs == ["task-model"] * 6 + ["imitate"] * 2


@pytest.mark.slow
def test_one_holds_a_stage_and_the_others_wait(tmp_path):
    inside: list[int] = []
    most: list[int] = []

    def work(number: int) -> None:
        runtime = SharingRuntime(tmp_path / str(number), tmp_path / "stages")
        with stage_lock(runtime, str(tmp_path / "stages"), "abc") as store:
            inside.append(number)
            most.append(len(inside))
            store.write("seen", str(number).encode())
            time.sleep(0.2)
            inside.remove(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1, 1, 1]
    assert (tmp_path / "stages" / "abc" / "seen").exists()


@pytest.mark.slow
def test_all_workers_of_a_trial_enter_together(tmp_path):
    group = Group(3, tmp_path / "trial")
    holder = SharingRuntime(tmp_path / "other", tmp_path / "stages")
    entered: list[float] = []

    def work(rank: int) -> None:
        with stage_lock(group.runtime(rank), str(tmp_path / "stages"), "abc"):
            entered.append(time.monotonic())

    with stage_lock(holder, str(tmp_path / "stages"), "abc"):
        thread = threading.Thread(target=lambda: group.run(work))
        thread.start()
        time.sleep(0.8)
        assert not entered
        left = time.monotonic()
    thread.join()
    assert len(entered) == 3
    assert min(entered) > left


@pytest.mark.slow
def test_a_process_that_dies_lets_the_next_one_in(tmp_path):
    script = f"""
        import os, sys
        from unirex_ray.training.runtime import LocalRuntime
        from unirex_ray.training.shared import stage_lock
        with stage_lock(LocalRuntime({str(tmp_path / "a")!r}), {str(tmp_path / "stages")!r}, "abc"):
            print("inside", flush=True)
            sys.stdin.read()
    """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)], stdout=subprocess.PIPE, stdin=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"inside\n"
    process.kill()
    process.wait()
    with stage_lock(LocalRuntime(tmp_path / "b"), str(tmp_path / "stages"), "abc") as store:
        assert store.load("best.pt") is None


@pytest.mark.parametrize("lies", ["{}", "file://{}"])
def test_two_that_train_the_same_stage_at_once_keep_what_each_has_evaluated(config, tmp_path, lies):
    """As they may where the storage has no locks; on unlike machines their last digits differ."""
    store = CheckpointStore(lies.format(tmp_path / "stages"))
    one, two = (trained_model(config, "aa-ig", tiny_corpus((16, 8, 8), seed=seed)) for seed in (0, 1))
    state = TrialState(best_epoch=2, epoch=2, tied=[[], []])

    def files(name: str) -> tuple[TrialFiles, CheckpointStore]:
        runtime = LocalRuntime(tmp_path / name)
        return TrialFiles(runtime, "identity"), runtime.checkpoints

    (first, of_first), (second, of_second), (later, of_later) = map(files, ("first", "second", "later"))
    assert later.take_shared(store) is None
    first.share(store, one, state)
    taken = later.take_shared(store)
    assert taken is not None
    assert taken[1:] == (2, 2)
    second.share(store, two, state)
    later.keep_shared(state)
    for kept, model in ((of_first, one), (of_second, two), (of_later, one), (store, two)):
        stored = kept.load("best.pt" if kept is store else "best-0-2.pt")
        assert all(torch.equal(stored["model"][name], value) for name, value in model.state_dict().items())
        assert len(kept.names()) == 1


def test_a_storage_without_locks_shares_stages_all_the_same(config, corpus, epochs, tmp_path):
    for method in ("aa-deeplift", "aa-ig", "l2e"):
        runtime = SharingRuntime(tmp_path / method, None)
        runtime.shared = f"file://{tmp_path}/stages"
        train_trial(config.changed({"method": method, "train.epochs": 1}), corpus, runtime)
    assert epochs == ["task-model", "imitate"]


def test_two_that_share_a_stage_at_once_lose_and_tear_nothing(tmp_path, monkeypatch):
    """Where a file system has neither locks nor links."""

    def refuse(*_: object) -> None:
        raise OSError("no links")

    monkeypatch.setattr("os.link", refuse)
    shared = CheckpointStore(tmp_path / "stages")
    owns = [CheckpointStore(tmp_path / str(number)) for number in range(2)]
    for number, own in enumerate(owns):
        own.save("best-0-1.pt", {"w": torch.full((20_000,), float(number))})
    errors: list[BaseException] = []

    def share(own: CheckpointStore) -> None:
        try:
            for _ in range(15):
                shared.link("best.pt", own, "best-0-1.pt")
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=share, args=(own,)) for own in owns]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        state = shared.load("best.pt")
        assert state is None or len(set(state["w"].tolist())) == 1
    assert errors == []
    assert shared.names() == ["best.pt"]


@pytest.mark.slow
def test_workers_take_the_same_stage_while_others_write_it(config, corpus, tmp_path, monkeypatch):
    """On a storage without locks: what one of them finds, all of them take."""
    config = config.changed({"method": "l2e", "train.epochs": 1, "train.workers": 2})
    group = Group(2, tmp_path / "trial")
    runtimes = [group.runtime(rank) for rank in range(2)]
    for runtime in runtimes:
        runtime.shared = f"file://{tmp_path}/stages"
    other = SharingRuntime(tmp_path / "other", None)
    other.shared = runtimes[0].shared
    link = CheckpointStore.link

    def late(self, name, source, of):
        """Another trial shares its stage right after this one has found none."""
        try:
            link(self, name, source, of)
        except FileNotFoundError:
            monkeypatch.setattr(CheckpointStore, "link", link)
            train_trial(config, corpus, other)
            raise

    monkeypatch.setattr(CheckpointStore, "link", late)
    results = group.run(lambda rank: train_trial(config, corpus, runtimes[rank]))
    assert lasting(results[0]) == lasting(results[1])
    assert len(list((tmp_path / "stages").iterdir())) == 1
