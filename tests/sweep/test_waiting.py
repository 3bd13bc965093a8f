"""What a sweep says of trials that wait for a place, and on which nodes their places are."""

from types import SimpleNamespace
from unittest.mock import MagicMock

import pytest

from unirex_ray.distributed.cluster import Placement
from unirex_ray.sweep import tune
from unirex_ray.sweep.tune import TuneCallbackAdapter, place_on


def test_a_trial_without_a_place_for_a_minute_says_once_what_it_waits_for(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, driver = [100.0], MagicMock()
    monkeypatch.setattr(tune.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr("ray.available_resources", lambda: {"CPU": 0.5, "x": 2.0, "memory": 1e9})
    place = place_on({}, {"CPU": 1.0, "GPU": 0.5, "x": 2.0})
    job = SimpleNamespace(trial_id="s1-sgt-0000-s0")
    trial = SimpleNamespace(trial_id="0", status="PENDING", config={"job": job}, placement_group_factory=place)
    placement = Placement(plan="", room=1, concurrency=1, trial={}, worker=None, spare_head=True)
    callback = TuneCallbackAdapter(driver, MagicMock(), placement)
    for seconds in (0, 59, 1, 60):
        clock[0] += seconds
        callback.on_step_end(0, [trial])
        assert driver.on_wait.call_count == (clock[0] >= 160)
    driver.on_wait.assert_called_once_with(
        "s1-sgt-0000-s0",
        "for a node beside the head with 1 CPU, 0.5 GPU, 2 x to spare; "
        "the cluster's nodes have 0.5 CPU, 2 x free in all",
    )


def test_a_place_is_on_a_node_with_the_labels_that_are_wanted() -> None:
    assert place_on({}, {"CPU": 1.0}) == place_on({}, {"CPU": 1.0})
    labelled = place_on({"ray.io/node-id": "!ab"}, {"CPU": 1.0})
    assert labelled != place_on({}, {"CPU": 1.0})
    assert (labelled.bundles, labelled.required_resources) == ([{"CPU": 1.0}], {"CPU": 1.0})
