import time
from dataclasses import asdict

import pytest
from helpers.marks import slow
from helpers.tiny import tiny_config, tiny_corpus

from unirex_ray.benchmarks.table import trial_table
from unirex_ray.benchmarks.trial import measure_trial
from unirex_ray.training.checkpoint import CheckpointStore
from unirex_ray.training.learner import Learner


def slowed(monkeypatch: pytest.MonkeyPatch, owner: object, name: str) -> None:
    """Put a tenth of a second into each call of a function of the trial's modules."""
    call = getattr(owner, name)

    def slow(*arguments: object, **options: object) -> object:
        time.sleep(0.1)
        return call(*arguments, **options)

    monkeypatch.setattr(owner, name, slow)


@pytest.mark.parametrize("method", slow("aa-ig", "fresh"))
def test_every_second_of_a_trial_is_told_once(encoders: dict[str, str], method: str) -> None:
    config = tiny_config(encoders["bert"], method=method, train__epochs=2)
    started = time.perf_counter()
    cost = measure_trial(config, tiny_corpus((9, 5, 5)))
    assert 0 < cost.total < time.perf_counter() - started
    parts = asdict(cost)
    assert min(parts.values()) >= 0
    spent = {name for name, seconds in parts.items() if seconds > 0}
    scores = {"scores"} if method == "fresh" else set()
    assert spent - {"other"} == set(parts) - {"other", "scores"} | scores
    assert cost.other < cost.total / 2


@pytest.mark.slow
@pytest.mark.parametrize(
    ("owner", "name", "part", "calls"),
    [
        (Learner, "gradients", "steps", 4),  # two epochs of two batches
        (CheckpointStore, "write", "checkpoints", 2),  # configuration and result
    ],
)
def test_what_is_slowed_is_told_by_its_name(
    encoders: dict[str, str], monkeypatch: pytest.MonkeyPatch, owner: type, name: str, part: str, calls: int
) -> None:
    config, corpus = tiny_config(encoders["bert"], method="aa-ig", train__epochs=2), tiny_corpus((9, 5, 5))
    slowed(monkeypatch, owner, name)
    assert getattr(measure_trial(config, corpus), part) >= 0.1 * calls


@pytest.mark.slow
def test_the_table_has_every_part(encoders: dict[str, str]) -> None:
    config = tiny_config(encoders["bert"], method="aa-ig", train__epochs=1)
    table = trial_table({"aa-ig": config.changed({"data.limit": 8})})
    (record,) = table.records
    parts = [name for name in record if name not in ("method", "total")]
    assert record["total"] == pytest.approx(sum(record[part] for part in parts))
    assert [header.lower() for header in table.raw] == parts
    assert table.lead["Method"] == ["AA (IG)"]
