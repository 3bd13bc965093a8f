"""Which trial is exported: dev alone decides, and the earlier one wins a tie."""

import shlex
from dataclasses import replace
from pathlib import Path

import pytest

from unirex_ray.analysis.leaderboard import leaderboard
from unirex_ray.analysis.selection import configurations, rank_on_dev, select_variants
from unirex_ray.config import Config, to_yaml
from unirex_ray.errors import UserError
from unirex_ray.files import load_yaml
from unirex_ray.inference.export import export, model_card, provenance_of, select_trial
from unirex_ray.metrics.nrg import EQUAL_WEIGHTS
from unirex_ray.metrics.table import TrialMetrics
from unirex_ray.models.card import ModelCard
from unirex_ray.tracking.protocol import protocol_hash
from unirex_ray.tracking.records import TrialRecord, TrialSpec, trial_name
from unirex_ray.tracking.store import SweepRecord
from unirex_ray.training.checkpoint import CONFIG, CheckpointStore

KEYS = ("comprehensiveness", "sufficiency", "auprc", "token_f1", "task_score")

# LEFT and RIGHT are each the better one on one metric of faithfulness and one of plausibility: their CNRG is the same,
# by themselves and beside WORSE.
LEFT = {"comprehensiveness": 0.5, "sufficiency": 0.25, "auprc": 60.0, "token_f1": 50.0, "task_score": 80.0}
RIGHT = {"comprehensiveness": 0.25, "sufficiency": 0.0, "auprc": 50.0, "token_f1": 70.0, "task_score": 80.0}
WORSE = {"comprehensiveness": 0.0, "sufficiency": 0.5, "auprc": 40.0, "token_f1": 30.0, "task_score": 70.0}
MIRRORED = pytest.mark.parametrize(("first", "second"), [(LEFT, RIGHT), (RIGHT, LEFT), (LEFT, LEFT)])


def trial(
    method: str, index: int, seed: int, dev: float | dict, test: float | dict = 0.5, sweep: str = "s1"
) -> TrialRecord:
    """A completed trial; a number stands for every metric as good as that, in [0, 1]."""

    def metrics(value: float | dict) -> dict[str, float]:
        return value if isinstance(value, dict) else {k: 1 - value if k == "sufficiency" else value for k in KEYS}

    spec = TrialSpec(
        trial_id=trial_name(sweep, method, index, seed), method=method, configuration=index, seed=seed, parameters={}
    )
    return TrialRecord(spec=spec, status="completed", metrics=TrialMetrics(dev=metrics(dev), test=metrics(test)))


def swept(*trials: TrialRecord, sweep: str = "s1", seeds: tuple[int, ...] = (0,)) -> SweepRecord:
    return SweepRecord(sweep_id=sweep, status="completed", seeds=seeds, trials=trials, run_id=f"run of {sweep}")


def exported(*sweeps: SweepRecord, weights=EQUAL_WEIGHTS, method: str | None = None) -> str:
    return select_trial(sweeps, weights, method).record.spec.trial_id


# On dev, each next line is better than the one before; on test, each is worse.
RISING = swept(
    trial("aa-ig", 0, 0, 0.10, 0.99),
    trial("aa-ig", 0, 1, 0.15, 0.95),
    trial("aa-ig", 1, 0, 0.20, 0.90),
    trial("aa-ig", 1, 1, 0.25, 0.85),
    trial("unirex-slm-fp", 0, 0, 0.50, 0.60),
    trial("unirex-slm-fp", 0, 1, 0.55, 0.55),
    trial("unirex-slm-fp", 1, 0, 0.60, 0.30),
    trial("unirex-slm-fp", 1, 1, 0.80, 0.10),
    seeds=(0, 1),
)


def test_method_configuration_and_seed_are_chosen_on_dev_where_test_says_the_opposite() -> None:
    assert exported(RISING) == "s1-unirex-slm-fp-0001-s1"
    assert exported(RISING, method="unirex-slm-fp") == "s1-unirex-slm-fp-0001-s1"
    assert exported(RISING, method="aa-ig") == "s1-aa-ig-0001-s1"
    chosen = select_trial([RISING], EQUAL_WEIGHTS, None)
    assert [record.spec.seed for record in chosen.configuration.records] == [0, 1]
    assert chosen.sweep is RISING


def test_variants_and_the_best_method_are_chosen_on_dev_where_test_says_the_opposite() -> None:
    selected = select_variants(configurations(RISING.trials, seeds=(0, 1)))
    assert {method: config.index for method, config in selected.items()} == {"aa-ig": 1, "unirex-slm-fp": 1}
    best = rank_on_dev(selected, EQUAL_WEIGHTS).best
    assert best is selected["unirex-slm-fp"]


def test_the_seed_is_chosen_by_its_task_score_alone() -> None:
    better_explained, better_at_the_task = dict(LEFT, auprc=99.0, comprehensiveness=0.9), dict(LEFT, task_score=81.0)
    trials = [trial("aa-ig", 0, 0, better_explained), trial("aa-ig", 0, 1, better_at_the_task)]
    assert exported(swept(*trials, seeds=(0, 1))) == "s1-aa-ig-0000-s1"


def test_the_earlier_seed_wins_a_tie_in_whatever_order_they_were_recorded() -> None:
    trials = [trial("aa-ig", 0, seed, LEFT, 0.1 * seed) for seed in (2, 1, 7)]
    for order in (trials, trials[::-1]):
        assert exported(swept(*order, seeds=(1, 2, 7))) == "s1-aa-ig-0000-s1"


@MIRRORED
def test_the_earlier_configuration_wins_a_tie(first: dict, second: dict) -> None:
    trials = [trial("aa-ig", 2, 0, second), trial("aa-ig", 1, 0, first), trial("aa-ig", 0, 0, WORSE)]
    for chosen in (trials, trials[:2]):
        assert select_variants(configurations(chosen, seeds=(0,)))["aa-ig"].index == 1
        assert exported(swept(*chosen)) == "s1-aa-ig-0001-s0"


@MIRRORED
@pytest.mark.parametrize("methods", [("aa-ig", "unirex-slm-fp"), ("unirex-slm-fp", "aa-ig")])
def test_the_method_that_stands_first_in_the_papers_tables_wins_a_tie(
    methods: tuple[str, str], first: dict, second: dict
) -> None:
    trials = [trial(methods[0], 0, 0, first), trial(methods[1], 0, 0, second)]
    best = rank_on_dev(select_variants(configurations(trials, seeds=(0,))), EQUAL_WEIGHTS).best
    assert best is not None
    assert best.method == "aa-ig"
    assert exported(swept(*trials)) == "s1-aa-ig-0000-s0"
    board = leaderboard(configurations(trials, seeds=(0,)))
    assert board.best is not None
    assert board.best.configuration == best


def test_the_earlier_sweep_wins_a_tie_and_is_the_one_that_is_named() -> None:
    sweeps = [swept(trial("aa-ig", 0, 0, LEFT, sweep=name), sweep=name) for name in ("s9", "s1")]
    for order in (sweeps, sweeps[::-1]):
        chosen = select_trial(order, EQUAL_WEIGHTS, None)
        assert chosen.sweep is order[0]
        assert chosen.record is order[0].trials[0]
    better = swept(trial("aa-ig", 0, 0, {**LEFT, "auprc": 61.0}, sweep="s3"), sweep="s3")
    assert select_trial([*sweeps, better], EQUAL_WEIGHTS, None).sweep is better


def test_weights_count_among_configurations_and_among_methods() -> None:
    explains, predicts = dict(LEFT, task_score=70.0), dict(WORSE, task_score=90.0)
    for methods, indices in ((("aa-ig", "aa-ig"), (0, 1)), (("aa-ig", "unirex-slm-fp"), (0, 0))):
        one = trial(methods[0], indices[0], 0, explains)
        other = trial(methods[1], indices[1], 0, predicts)
        assert exported(swept(one, other)) == one.spec.trial_id
        assert exported(swept(one, other), weights=(0.0, 0.0, 1.0)) == other.spec.trial_id


def test_a_configuration_that_lacks_a_seed_is_refused_by_name() -> None:
    lacking = swept(trial("aa-ig", 0, 0, LEFT), trial("unirex-slm-fp", 0, 0, RIGHT), seeds=(0, 1))
    with pytest.raises(UserError, match=r"no configuration of the sweeps has completed all its seeds"):
        exported(lacking)
    whole = swept(*(trial("aa-ig", 0, seed, WORSE) for seed in (0, 1)), *lacking.trials[1:], seeds=(0, 1))
    assert exported(whole) == "s1-aa-ig-0000-s0"
    with pytest.raises(UserError, match=r"no configuration of method 'unirex-slm-fp' has completed .* --resume"):
        exported(whole, method="unirex-slm-fp")


def test_models_that_learned_nothing_are_exported_on_demand_alone() -> None:
    dead = swept(trial("aa-ig", 0, 0, {**LEFT, "majority_p": 0.4}))
    with pytest.raises(UserError, match=r"the sweeps has models that are better than the majority class on dev.*add "):
        select_trial([dead], EQUAL_WEIGHTS, None)
    with pytest.raises(UserError, match="no configuration of method 'aa-ig'"):
        select_trial([dead], EQUAL_WEIGHTS, "aa-ig")
    chosen = select_trial([dead], EQUAL_WEIGHTS, None, even_if_not_better=True)
    assert chosen.record is dead.trials[0]


CARD = ModelCard(
    method="aa-ig",
    designs=(),
    labels=("a", "b"),
    task_metric="accuracy",
    multi_choice=False,
    max_length=8,
    truncation="head",
)


@pytest.mark.parametrize(("p", "answer"), [(0.01, "dev: yes"), (0.4, "dev: **no**"), (None, "dev: not recorded")])
def test_the_card_tells_the_protocol_and_whether_the_model_learned_anything(p: float | None, answer: str) -> None:
    verdict = {} if p is None else {"majority_p": p}
    swept_once = swept(trial("aa-ig", 0, 0, {**LEFT, **verdict}))
    selected = select_trial([swept_once], EQUAL_WEIGHTS, None, even_if_not_better=True)
    provenance = provenance_of(selected, "sqlite:////x")
    assert provenance["protocol"] == protocol_hash(provenance["protocol_settings"])
    text = model_card(selected, Config(), CARD, provenance)
    shown = [line.split(" (")[0].strip("| ") for line in text.splitlines() if " is better) |" in line]
    assert shown == ["Comp", "Suff", "AUPRC", "TF1", "Task"]  # what was not measured has no row
    assert f"| better than the majority class | {answer}, test:" in text
    assert f"| protocol | protocol {provenance['protocol']}: reviews" in text
    assert "| selected from | finished sweeps |" in text


@pytest.mark.parametrize(
    ("segments", "reads", "option"),
    [(1, "one text", ""), (2, "a pair of texts", ' --second "..."'), (None, "texts", "")],
)
def test_the_card_tells_how_many_texts_an_input_has(segments: int | None, reads: str, option: str) -> None:
    selected = select_trial([swept(trial("aa-ig", 0, 0, LEFT))], EQUAL_WEIGHTS, None, even_if_not_better=True)
    text = model_card(selected, Config(), replace(CARD, segments=segments), provenance_of(selected, "sqlite:////x"))
    assert f"A task model that reads {reads} and predicts one of a, b" in text
    assert f'    unirex explain --model FOLDER --text "..."{option}\n' in text
    assert "jobs/" not in text  # the folder travels without the repository


def test_the_card_tells_that_the_sweep_lacked_trials() -> None:
    lacking = replace(swept(trial("aa-ig", 0, 0, LEFT)), status="failed")
    selected = select_trial([lacking, replace(lacking, sweep_id="s2", trials=())], EQUAL_WEIGHTS, None)
    words = ["sweep s1 has 1 trial (1 completed)", "sweep s2 has 0 trials (none)"]
    provenance = provenance_of(selected, "sqlite:////x")
    assert provenance["unfinished"] == words
    assert f"| selected from | {'; '.join(words)} |" in model_card(selected, Config(), CARD, provenance)


def test_weights_that_the_sweep_did_not_keep_are_explained_with_the_command_that_trains_them_again(
    tmp_path: Path,
) -> None:
    selected = select_trial([RISING], EQUAL_WEIGHTS, "aa-ig")
    trials, model = tmp_path / "its trials" / "trials", tmp_path / "model"
    store = CheckpointStore(trials / selected.record.spec.trial_id)

    def refused() -> str:
        with pytest.raises(UserError) as caught:
            export(selected, trials.parent, model, tracking_uri="sqlite:///x.db")
        return str(caught.value)

    assert f"are not in {store.folder}; give the sweep's --output" in refused()
    store.write(CONFIG, to_yaml(Config(output="elsewhere")).encode())
    line = refused()
    assert (
        "keeps those that some weights of NRG may select, by the seeds that it has (sweep.keep_weights=all: of all)"
        in line
    )
    *job, given, output = shlex.split(line.partition("train it again with ")[2].replace("--config ", "--config="))
    assert (" ".join(job), output) == ("the job `train`:", f"--output={store.folder}-again")
    assert load_yaml(given.removeprefix("--config="))["output"] == "elsewhere"
    assert not model.exists()
