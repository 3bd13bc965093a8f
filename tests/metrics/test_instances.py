"""Results by instance: the split's metrics follow from them, and a file of them gives them back."""

import io
import json
import math
from dataclasses import replace

import numpy as np
import pandas
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from unirex_ray.errors import UserError
from unirex_ray.metrics.instance_file import from_parquet, to_parquet
from unirex_ray.metrics.instances import COMP, PREDICTED_AT, SUFF, InstanceResults, split_metrics

LABELS = ("bad", "good")


def results(**measured) -> InstanceResults:
    """Four instances; the last has no gold rationale."""
    zeros = np.zeros(4)
    return InstanceResults(
        ids=("a", "b", "c", "d"),
        labels=np.array([0, 0, 1, 1]),
        predicted=np.array([0, 1, 1, 1]),
        probability=np.array([0.9, 0.6, 0.7, 0.8]),
        tokens=np.array([5, 6, 7, 8]),
        gold_rows=np.array([1, 1, 1, 0]),
        measured={**dict.fromkeys((*COMP, *SUFF), zeros), **measured},
        classes=2,
        task_metric="accuracy",
    )


def test_metrics_by_hand():
    found = split_metrics(
        results(
            **{"comp@1": np.array([0.6, 0.0, 0.0, 0.0]), "comp@50": np.array([0.6, 0.6, 0.0, -0.6])},
            auprc=np.array([50.0, 60.0, 100.0, math.nan]),
            token_f1=np.array([40.0, 40.0, 40.0, math.nan]),
            loss=np.array([0.1, 0.2, 0.3, 0.4]),
        )
    )
    # (1.2 + 0.6 + 0 - 0.6) / 6 over four instances; three of four are right.
    assert found["comprehensiveness"] == pytest.approx(0.05)
    assert (found["sufficiency"], found["csd"]) == (0.0, pytest.approx(0.05))
    assert (found["auprc"], found["token_f1"]) == (pytest.approx(70.0), 40.0)
    assert (found["accuracy"], found["task_score"]) == (75.0, 75.0)
    assert found["loss"] == pytest.approx(0.25)
    assert found["macro_f1"] == pytest.approx(100 * (2 / 3 + 4 / 5) / 2)
    assert found["auprc_se"] == pytest.approx(np.std([50, 60, 100], ddof=1) / math.sqrt(3))
    assert found["task_score_se"] == pytest.approx(100 * math.sqrt(0.75 * 0.25 / 4))


def test_a_model_that_predicts_from_every_rationale_scores_their_mean():
    votes = [
        np.array(row, dtype=float) for row in ([0, 0, 1, 1], [0, 0, 1, 1], [1, 1, 0, 0], [0, 1, 1, 1], [0, 0, 1, 0])
    ]
    found = split_metrics(results(**dict(zip(PREDICTED_AT, votes, strict=True))))
    assert found["accuracy"] == pytest.approx(100 * (1 + 1 + 0 + 0.75 + 0.75) / 5)


def test_without_rationales_there_are_task_metrics_alone():
    found = split_metrics(replace(results(), measured={}))
    assert set(found) == {"accuracy", "macro_f1", "task_score"}


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 20), st.booleans(), st.booleans(), st.integers(0, 2**31))
def test_a_file_gives_back_what_went_in(count, several, gold, seed):
    draw = np.random.default_rng(seed)

    def made(instances: int) -> InstanceResults:
        gold_rows = draw.integers(0, 3, instances) * gold
        measured = {name: draw.normal(size=instances) for name in (*COMP, *SUFF, "loss")}
        if gold_rows.any():
            measured["auprc"] = np.where(gold_rows > 0, draw.uniform(0, 100, instances), np.nan)
        if several:
            measured |= {name: draw.integers(0, 2, instances).astype(float) for name in PREDICTED_AT}
        return InstanceResults(
            ids=tuple(f'{number}/ü,"' for number in range(instances)),
            labels=draw.integers(0, 2, instances),
            predicted=draw.integers(0, 2, instances),
            probability=draw.uniform(size=instances),
            tokens=draw.integers(3, 500, instances),
            gold_rows=gold_rows,
            measured=measured,
            classes=2,
            task_metric="macro_f1",
        )

    given_ = {"dev": made(count), "test": made(count + 1)}
    found = from_parquet(to_parquet(given_, LABELS, {"seed": 3}))
    assert list(found) == ["dev", "test"]
    for split, expected in given_.items():
        for name in ("ids", "classes", "task_metric"):
            assert getattr(found[split], name) == getattr(expected, name)
        for name in ("labels", "predicted", "probability", "tokens", "gold_rows"):
            assert getattr(found[split], name) == pytest.approx(getattr(expected, name), rel=1e-6)
        assert set(found[split].measured) == set(expected.measured)
        for name, values in expected.measured.items():
            assert found[split].measured[name] == pytest.approx(values, rel=1e-6, nan_ok=True)


def test_other_programs_read_the_file_as_it_is():
    data = to_parquet({"test": results(auprc=np.array([50.0, 60.0, 100.0, math.nan]))}, LABELS, {"seed": 3})
    frame = pandas.read_parquet(io.BytesIO(data))
    assert frame["predicted"].tolist() == ["bad", "good", "good", "good"]
    assert frame.query("label != predicted")["id"].tolist() == ["b"]
    assert frame["auprc"].mean() == 70.0
    assert parquet.read_table(io.BytesIO(data))["auprc"].null_count == 1
    about = json.loads(parquet.read_schema(io.BytesIO(data)).metadata[b"unirex_ray"])
    assert about == {"metrics_version": 1, "labels": ["bad", "good"], "task_metric": "accuracy", "seed": 3}


def test_a_changed_bit_is_noticed_or_changes_no_number():
    data = to_parquet({"test": results()}, LABELS, {})
    expected = split_metrics(from_parquet(data)["test"])
    noticed = 0
    for place in range(4, len(data) - 8, max(1, len(data) // 400)):
        changed = bytearray(data)
        changed[place] ^= 1
        try:
            assert split_metrics(from_parquet(bytes(changed))["test"]) == expected
        except (UserError, KeyError):
            noticed += 1
    assert noticed > 100


def test_a_damaged_file_is_refused_by_name():
    data = to_parquet({"test": results()}, LABELS, {})
    frame = io.BytesIO()
    pandas.DataFrame({"a": [1]}).to_parquet(frame)
    for damaged in (b"", data[:-30], frame.getvalue()):
        with pytest.raises(UserError, match=r"trial-7.parquet is damaged, or holds no results by instance"):
            from_parquet(damaged, "trial-7.parquet")
