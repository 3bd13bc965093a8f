"""Which weights of a sweep lie on the disk, and how much room they need."""

import shutil
from collections import namedtuple
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from helpers.tiny import tiny_config, tiny_corpus

from unirex_ray.analysis.selection import configurations
from unirex_ray.config import Config, ModelConfig
from unirex_ray.errors import UserError
from unirex_ray.metrics.table import NRG_METRICS, TrialMetrics
from unirex_ray.models.encoder import Encoder
from unirex_ray.sweep.disk import DiskPlan, SelectableWeights, check_disk, disk_plan, drop_unselected_weights
from unirex_ray.sweep.plan import plan_sweep
from unirex_ray.sweep.schedule import Schedule, SweepExtent
from unirex_ray.sweep.space import parse_space
from unirex_ray.tracking.records import TrialRecord, TrialSpec, TrialStatus
from unirex_ray.training import size
from unirex_ray.training.runtime import LocalRuntime
from unirex_ray.training.size import trial_size
from unirex_ray.training.trial import train_trial

SEEDS = (3, 1)


def metrics(value: float, **more: float) -> TrialMetrics:
    values = {m.key: value if m.higher_is_better else 1 - value for m in NRG_METRICS}
    return TrialMetrics(dev={**values, **more})


def record(
    index: int, seed: int, status: TrialStatus, values: TrialMetrics | None = None, method: str = "aa-ig"
) -> TrialRecord:
    extent = SweepExtent(sweep_id="s1", budgets={method: 9}, seeds=SEEDS)
    trial_id = extent.trial_id(method, index, seed)
    spec = TrialSpec(trial_id=trial_id, method=method, configuration=index, seed=seed, parameters={"a": index})
    return TrialRecord(spec=spec, status=status, metrics=values or TrialMetrics())


class Sweep:
    """Trials of one method with files, without anything else of a sweep."""

    def __init__(self, folder: Path, before: Mapping[int, float] = {}) -> None:
        extent = SweepExtent(sweep_id="s1", budgets={"aa-ig": 9}, seeds=SEEDS)
        earlier = [record(i, seed, "completed", metrics(value)) for i, value in before.items() for seed in SEEDS]
        self.folder = folder
        self.schedule = Schedule(extent, {}, earlier)
        self.weights = SelectableWeights(self.schedule, self.trial)
        for one in earlier:
            self.make(one, "best.pt")

    def trial(self, trial_id: str) -> str:
        return str(self.folder / trial_id)

    def make(self, of: TrialRecord, *names: str) -> None:
        Path(self.trial(of.spec.trial_id)).mkdir(parents=True, exist_ok=True)
        for name in (*names, "result.json"):
            Path(self.trial(of.spec.trial_id), name).touch()

    def end(self, index: int, seed: int, status: TrialStatus, values: TrialMetrics | None = None) -> None:
        ended = record(index, seed, status, values)
        self.make(ended, "best.pt" if status == "completed" else "last.pt")
        self.schedule._remember(ended)
        self.weights.trial_ended(ended.spec)

    def kept(self) -> dict[int, list[int]]:
        found: dict[int, list[int]] = {}
        for file in sorted(self.folder.glob("*/*.pt")):
            *_, index, seed = file.parent.name.split("-")
            found.setdefault(int(index), []).append(int(seed[1:]))
        return {index: sorted(seeds) for index, seeds in found.items()}


def test_weights_go_once_nothing_can_select_them(tmp_path: Path) -> None:
    sweep = Sweep(tmp_path)
    for seed in SEEDS:
        sweep.end(0, seed, "completed", metrics(0.5))
    sweep.end(1, 3, "completed", metrics(0.6))
    assert sweep.kept() == {0: [1, 3], 1: [3]}  # one seed says nothing of its mean with the other
    sweep.end(1, 1, "completed", metrics(0.6))
    assert sweep.kept() == {1: [1, 3]}
    for seed in SEEDS:
        sweep.end(2, seed, "completed", metrics(0.4))
        sweep.end(3, seed, "completed", metrics(0.4, auprc=0.9))
    assert sweep.kept() == {1: [1, 3], 3: [1, 3]}
    assert len([*tmp_path.glob("*/result.json")]) == 8


def test_a_configuration_with_a_failed_seed_keeps_no_weights_and_one_that_goes_on_all(tmp_path: Path) -> None:
    sweep = Sweep(tmp_path)
    sweep.end(0, 3, "completed", metrics(0.5))
    sweep.end(0, 1, "failed")
    sweep.end(1, 3, "lost")
    sweep.end(2, 3, "stopped")
    assert sweep.kept() == {1: [3], 2: [3]}
    # The other way round, and a seed that still runs.
    sweep.make(record(4, 1, "running"), "last.pt")
    sweep.schedule._remember(record(4, 1, "running"))
    sweep.end(4, 3, "failed")
    sweep.end(5, 3, "lost")
    assert sweep.kept() == {1: [3], 2: [3], 4: [1], 5: [3]}
    sweep.end(4, 1, "completed", metrics(0.9))
    assert sweep.kept() == {1: [3], 2: [3], 5: [3]}


def test_a_resumed_sweep_knows_what_ended_before(tmp_path: Path) -> None:
    sweep = Sweep(tmp_path, before={0: 0.7, 1: 0.5})
    for seed in SEEDS:
        sweep.end(2, seed, "completed", metrics(0.6))
    assert sweep.kept() == {0: [1, 3]}


def test_what_cannot_be_deleted_stops_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sweep = Sweep(tmp_path, before={0: 0.7})

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError("no")

    monkeypatch.setattr("unirex_ray.sweep.disk.drop_weights", refuse)
    for seed in SEEDS:
        sweep.end(1, seed, "completed", metrics(0.6))


@pytest.mark.parametrize("keep_all", [False, True])
def test_which_weights_stay_in_the_end(tmp_path: Path, keep_all: bool) -> None:
    values = {"unirex-slm-p": (0.5, 0.9, 0.7), "aa-ig": (0.6, 0.1, None)}
    sweep, tried = Sweep(tmp_path), []
    for method, of_method in values.items():
        for index, value in enumerate(of_method):
            of = [
                record(index, seed, "failed" if value is None else "completed", metrics(value or 0), method)
                for seed in SEEDS
            ]
            for one in of:
                sweep.make(one, "best.pt", "best-0-2.pt", "last.pt")
            tried += configurations(of, seeds=SEEDS)[method]
    # Best in one metric alone.
    for one in tried[0].records:
        one.metrics.dev["auprc"] = 0.99
    drop_unselected_weights(tried, sweep.trial, keep_all=keep_all)
    kept = {path.parent.name for path in tmp_path.glob("*/best.pt")}
    every = {f"s1-{method}-{index:04d}-s{seed}" for method in values for index in range(3) for seed in SEEDS}
    names = ("unirex-slm-p-0000", "unirex-slm-p-0001", "aa-ig-0000")
    assert kept == (every if keep_all else {f"s1-{name}-s{seed}" for name in names for seed in SEEDS})
    assert not [*tmp_path.glob("*/last.pt"), *tmp_path.glob("*/best-*")]
    assert len(list(tmp_path.glob("*/result.json"))) == 12


@pytest.mark.slow
@pytest.mark.parametrize("method", ["aa-ig", "l2e", "a2r-p", "fresh-p", "unirex-slm-fp", "unirex-dlm-fp"])
def test_the_size_of_a_trial_is_that_of_its_files(
    encoders: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    config, corpus = tiny_config(encoders["bert"], method=method, train__epochs=2), tiny_corpus((16, 8, 8))
    monkeypatch.setattr("unirex_ray.training.stage.CHECKPOINT_SECONDS", 0.0)
    runtime = LocalRuntime(tmp_path)
    seen: list[int] = []
    save = type(runtime.checkpoints).save

    def watched(store: object, name: str, state: dict) -> None:
        save(store, name, state)  # type: ignore[arg-type]
        seen.append(sum(file.stat().st_size for file in tmp_path.rglob("*.pt")))

    monkeypatch.setattr(type(runtime.checkpoints), "save", watched)
    train_trial(config, corpus, runtime)
    needed = trial_size(config, corpus)
    (best,) = tmp_path.rglob("best.pt")
    # Names and alignment take some space of their own, of which tiny weights have more than others.
    assert best.stat().st_size == pytest.approx(needed.ended, rel=0.2)
    assert 0.4 * needed.running < max(seen) < 1.2 * needed.running


def test_the_room_for_a_sweep_counts_running_and_ended_trials(encoders: dict[str, str]) -> None:
    space = parse_space({"parameters": {"model.head": {"choice": ["linear", "mlp-2048-2"]}}}, "s")
    config = tiny_config(encoders["bert"], sweep__methods=("aa-ig", "unirex-slm-fp"), sweep__seeds=(0, 1))
    corpus = tiny_corpus((16, 8, 8))
    plan = plan_sweep(config.changed({"sweep.configurations": 4, "sweep.searcher": "random"}), space)
    assert plan.budgets == {"aa-ig": 1, "unirex-slm-fp": 2}
    plain = trial_size(config.changed({"method": "aa-ig"}), corpus)
    headed = trial_size(config.changed({"method": "unirex-slm-fp", "model.head": "mlp-2048-2"}), corpus)
    assert headed.ended > 2 * plain.ended
    needed = disk_plan(plan, corpus, 3)
    assert needed.running == headed.running
    assert needed.least == 3 * headed.running + 2 * (plain.ended + headed.ended)
    assert needed.most == 3 * headed.running + 2 * (plain.ended + 2 * headed.ended)
    kept = plan_sweep(plan.config.changed({"sweep.keep_weights": "all"}), space)
    assert disk_plan(kept, corpus, 3) == replace(needed, least=needed.most)
    # Both have the plain task model alone, and as one file.
    two = plan_sweep(plan.config.changed({"sweep.methods": ["aa-ig", "aa-grad"]}), space)
    assert disk_plan(two, corpus, 1).least == plain.running + 2 * plain.ended


def test_each_encoder_is_asked_for_once(encoders: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """One from the hub is a request each time."""
    asked: list[tuple[str, int | None]] = []
    sketch = size.load_encoder

    def counted(config: ModelConfig, *, weights: bool) -> Encoder:
        asked.append((config.encoder, config.layers))
        return sketch(config, weights=weights)

    monkeypatch.setattr(size, "load_encoder", counted)
    space = parse_space({"parameters": {"model.layers": {"choice": [1, 2]}}}, "s")
    config = tiny_config(encoders["bert"], sweep__methods=("aa-ig", "l2e", "unirex-dlm-fp"))
    plan = plan_sweep(config.changed({"sweep.searcher": "random"}), space)
    disk_plan(plan, tiny_corpus((16, 8, 8)), 1)
    assert asked == [(encoders["bert"], 1), (encoders["bert"], 2)]


def test_a_sweep_that_does_not_fit_is_refused_before_it_begins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    needed = DiskPlan(concurrency=2, running=10**9, least=3 * 10**9, most=8 * 10**9)

    def told(free: float) -> str:
        monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(0, 0, int(free)))
        return check_disk(needed, str(tmp_path), (str(tmp_path / "trials"), str(tmp_path / "missing")))

    assert told(9e9) == ("disk: 3.0 GB to 8.0 GB of weights, 1.0 GB of them for each of 2 trials at once; 9.0 GB free")
    assert "IT MAY BECOME FULL" in told(4e9)
    with pytest.raises(UserError, match=r"2\.9 GB free in .* too little; make room, choose another --output, or lower"):
        told(2.9e9)
    # What it wrote before it was stopped is a part of what it needs.
    (tmp_path / "trials" / "a").mkdir(parents=True)
    (tmp_path / "trials" / "a" / "best.pt").write_bytes(b"0" * 1000)
    (tmp_path / "trials" / "b.pt").hardlink_to(tmp_path / "trials" / "a" / "best.pt")
    assert "IT MAY BECOME FULL" in told(3e9 - 1000)
    with pytest.raises(UserError):
        told(3e9 - 1001)
    small = replace(needed, concurrency=1, running=10**6, least=2 * 10**6)
    assert str(small) == "2 MB to 8.0 GB of weights, 1 MB of them for 1 trial at once"


def test_disk_of_the_default_encoder() -> None:
    """By hand: 22.7M parameters of 4 bytes; two checkpoints with two more of each, two times the best weights."""
    needed = trial_size(Config(method="aa-ig"), tiny_corpus((16, 8, 8)))
    assert needed.ended == pytest.approx(22.7e6 * 4, rel=0.01)
    assert needed.running == pytest.approx(8 * 22.7e6 * 4, rel=0.01)
