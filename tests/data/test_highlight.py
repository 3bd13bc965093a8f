"""Highlighted instances on their way through JSON."""

import json
from dataclasses import asdict

from helpers.rationale_pages import instance

from unirex_ray.data.highlight import highlights_from_json, highlights_to_json


def test_they_come_back_as_they_were() -> None:
    shown = (instance("a good film", {"good": 5}, {"film"}, measured={"comp@5": 0.25}), instance("b", {}, label=None))
    written = json.dumps(highlights_to_json(shown))
    assert highlights_from_json(json.loads(written)) == shown
    assert "start" not in written


def test_what_versions_until_0_1_0_wrote_is_read() -> None:
    (content,) = json.loads(json.dumps([asdict(instance("a good film", {"good": 5}, {"film"}))]))
    for name in ("thresholds", "measured"):
        del content[name]
    for token in content["inputs"][0]["tokens"]:
        del token["enters"]
    (found,) = highlights_from_json([content])
    assert [token.selected for token in found.inputs[0].tokens] == [False, True, False]
    assert (found.thresholds, found.measured, found.top_k_percent) == ((), {}, 20)
