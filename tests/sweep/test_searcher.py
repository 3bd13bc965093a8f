import random
from hashlib import sha256

import optuna
import pytest
from helpers.grid import whole_grid
from optuna.distributions import FloatDistribution
from optuna.trial import TrialState

from unirex_ray.config import Config
from unirex_ray.errors import UserError
from unirex_ray.metrics.table import NRG_METRICS
from unirex_ray.sweep.searcher import (
    MAX_RESULTS,
    OptunaSearcher,
    ScoredConfiguration,
    StoppedConfiguration,
    StudyHistory,
    TriedConfiguration,
    identity,
    make_searcher,
    population_cnrg,
    raw_metrics,
)
from unirex_ray.sweep.space import MethodSpace, parse_space

KINDS = ("tpe", "grid", "random", "pareto")
CHOICES = {
    "parameters": {
        "loss.comp_weight": {"choice": [0.5, 0.7, 1.0]},
        "model.head": {"choice": ["linear", "mlp-2048-2"]},
        "loss.comp_margin": {"choice": [0.1, 0.2], "when": {"model.head": ["mlp-2048-2"]}},
        "loss.top_k_percents": {"choice": [[10], [20, 50]]},
    }
}
RANGES = {
    "parameters": {
        "train.learning_rate": {"log_uniform": [1.0e-6, 1.0e-3]},
        "train.warmup": {"uniform": [0, 0.5]},
        "train.batch_size": {"int": [8, 64]},
        "model.head": {"choice": ["linear", "mlp-2048-2"]},
        "loss.comp_margin": {"uniform": [0.1, 0.2], "when": {"model.head": ["mlp-2048-2"]}},
    }
}


def method_space(tree: dict, method: str = "unirex-dlm-fp") -> MethodSpace:
    return parse_space(tree, "test").checked(Config()).for_method(method, Config())


def metrics_of(parameters: dict) -> dict[str, float]:
    rng = random.Random(identity(parameters))
    return {metric.key: rng.random() for metric in NRG_METRICS}


def run(kind: str, space: MethodSpace, budget: int, seed: int = 0, lag: int = 0) -> list[dict]:
    """Suggest until the budget or the space is used up; results come `lag` suggestions late."""
    searcher = make_searcher(kind, space, budget=budget, seed=seed)
    suggested: list[dict] = []
    for index in range(budget):
        done, running = suggested[: max(0, index - lag)], suggested[max(0, index - lag) :]
        history = StudyHistory(
            population=[ScoredConfiguration(parameters=p, metrics=metrics_of(p)) for p in done],
            running=[TriedConfiguration(parameters=p) for p in running],
        )
        parameters = searcher.suggest(index, history)
        if parameters is None:
            break
        suggested.append(parameters)
    return suggested


def assert_in_space(space: MethodSpace, parameters: dict) -> None:
    for parameter in space.parameters:
        assert parameter.applies(parameters) == (parameter.key in parameters)
        if parameter.key in parameters:
            value = parameters[parameter.key]
            if parameter.kind == "choice":
                assert value in parameter.values
            else:
                assert parameter.values[0] <= value <= parameter.values[1]
                assert isinstance(value, int) == (parameter.kind == "int")
    assert parameters.keys() <= {parameter.key for parameter in space.parameters}


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("lag", [0, 3])
def test_contract_on_choices(kind: str, lag: int) -> None:
    space = method_space(CHOICES)
    suggested = run(kind, space, budget=50, lag=lag)
    for parameters in suggested:
        assert_in_space(space, parameters)
    # 3 weights x (linear | mlp x 2 margins) x 2 lists, each exactly once, then the space is exhausted
    assert len(suggested) == 18
    assert sorted(map(identity, suggested)) == sorted(map(identity, whole_grid(space)))
    assert suggested == run(kind, space, budget=50, lag=lag)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "grid"])
@pytest.mark.parametrize("lag", [0, 3])
def test_contract_on_ranges(kind: str, lag: int) -> None:
    space = method_space(RANGES)
    suggested = run(kind, space, budget=14, lag=lag)
    assert len({identity(parameters) for parameters in suggested}) == 14
    for parameters in suggested:
        assert_in_space(space, parameters)
    assert suggested == run(kind, space, budget=14, lag=lag)
    assert suggested != run(kind, space, budget=14, lag=lag, seed=1)


@pytest.mark.parametrize("kind", KINDS)
def test_a_space_without_parameters_has_one_configuration(kind: str) -> None:
    assert run(kind, method_space({}), budget=5) == [{}]


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "grid"])
def test_methods_have_studies_of_their_own(kind: str) -> None:
    tree = {"parameters": {"train.learning_rate": {"log_uniform": [1.0e-6, 1.0e-3]}}}
    assert run(kind, method_space(tree, "aa-ig"), 3) != run(kind, method_space(tree, "unirex-slm-p"), 3)


@pytest.mark.parametrize("kind", KINDS)
def test_stopped_and_failed_configurations_are_not_tried_again(kind: str) -> None:
    space = method_space(CHOICES)
    searcher = make_searcher(kind, space, budget=18)
    first, second = run(kind, space, budget=2)
    stopped = StoppedConfiguration(parameters=first, epoch=2, trial_id="t")
    third = searcher.suggest(2, StudyHistory(stopped=[(stopped, 0.5)], failed=[TriedConfiguration(parameters=second)]))
    assert third not in (None, first, second)


@pytest.mark.slow
def test_tpe_learns_from_what_stopped_configurations_had_at_their_rung() -> None:
    space = method_space({"parameters": {"train.warmup": {"uniform": [0, 1]}}})
    searcher = make_searcher("tpe", space, budget=60)
    scored = [ScoredConfiguration(parameters={"train.warmup": 0.5}, metrics=metrics_of({"x": n})) for n in range(2)]

    def mean(best: float) -> float:
        """Of what is suggested where those near `best` had the highest CNRG at the rung."""
        warmups = [0.02 + 0.04 * number for number in range(25)]
        stopped = [
            StoppedConfiguration(parameters={"train.warmup": warmup}, epoch=2, trial_id="t") for warmup in warmups
        ]
        cnrg = [1 - abs(warmup - best) for warmup in warmups]
        history = StudyHistory(population=scored, stopped=list(zip(stopped, cnrg, strict=True)))
        suggested = [searcher.suggest(index, history) for index in range(20)]
        return sum(parameters["train.warmup"] for parameters in suggested) / len(suggested)

    assert mean(0.1) < 0.4 < 0.6 < mean(0.9)


def test_random_does_not_depend_on_results() -> None:
    assert run("random", method_space(RANGES), 6, lag=0) == run("random", method_space(RANGES), 6, lag=4)


def test_grid_smaller_than_the_space_is_a_seeded_sample_in_order() -> None:
    space = method_space({"parameters": {"loss.comp_weight": {"choice": list(range(50))}}})
    values = [parameters["loss.comp_weight"] for parameters in run("grid", space, budget=10)]
    assert len(set(values)) == 10
    assert values == sorted(values)
    assert values != [parameters["loss.comp_weight"] for parameters in run("grid", space, budget=10, seed=1)]


def test_grid_refuses_ranges() -> None:
    with pytest.raises(UserError, match=r"'train.learning_rate' is log_uniform"):
        make_searcher("grid", method_space(RANGES), budget=3)


def test_tpe_values_are_the_populations_cnrg_now() -> None:
    def scored(value: float) -> ScoredConfiguration:
        return ScoredConfiguration(parameters={}, metrics={metric.key: value for metric in NRG_METRICS})

    objective = population_cnrg((1.0, 1.0, 1.0))
    # sufficiency is lower-is-better: of the extremes, the high one gets FNRG 1/2, PNRG 1, TNRG 1, the low one 1/2, 0, 0
    directions, values = objective([scored(0.0), scored(1.0)])
    assert directions == ["maximize"]
    assert values == [[pytest.approx(0.5 / 3)], [pytest.approx(2.5 / 3)]]
    # a new extreme changes the score of the old one: FNRG stays (0.5 + 0.5) / 2, PNRG and TNRG halve
    assert objective([scored(0.0), scored(1.0), scored(2.0)])[1][1] == [pytest.approx(0.5)]


def test_pareto_directions_follow_the_metric_table() -> None:
    metrics = {"comprehensiveness": 0.3, "sufficiency": 0.1, "task_score": 80.0}
    directions, values = raw_metrics([ScoredConfiguration(parameters={}, metrics=metrics)])
    assert directions == ["maximize", "minimize", "maximize"]
    assert values == [[0.3, 0.1, 80.0]]


@pytest.mark.slow
def test_tpe_learns_where_random_does_not() -> None:
    space = method_space(
        {"parameters": {"train.warmup": {"uniform": [0, 1]}, "train.weight_decay": {"uniform": [0, 1]}}}
    )

    def error(kind: str, seed: int) -> float:
        searcher = make_searcher(kind, space, budget=30, seed=seed)
        population: list[ScoredConfiguration] = []
        for index in range(30):
            parameters = searcher.suggest(index, StudyHistory(population=population))
            assert parameters is not None
            distance = abs(parameters["train.warmup"] - 0.3) + abs(parameters["train.weight_decay"] - 0.8)
            metrics = {m.key: distance * (-1 if m.higher_is_better else 1) for m in NRG_METRICS}
            population.append(ScoredConfiguration(parameters=parameters, metrics=metrics))
        return sum(o.metrics["sufficiency"] for o in population[15:]) / 15

    seeds = range(4)
    assert sum(error("tpe", s) for s in seeds) < 0.75 * sum(error("random", s) for s in seeds)


def fresh_suggestion(space: MethodSpace, history: StudyHistory, seed: int, index: int, startup: int) -> dict:
    """What TPE suggests from a study to which every trial was added."""
    study = optuna.create_study(
        direction="maximize",
        sampler=optuna.samplers.TPESampler(
            n_startup_trials=startup,
            multivariate=True,
            group=True,
            constant_liar=True,
            seed=int.from_bytes(sha256(repr((seed, space.method, index, 0)).encode()).digest()[:4], "big"),
        ),
    )

    def add(tried: TriedConfiguration, state: TrialState, **values: object) -> None:
        used = {parameter.key: parameter for parameter in space.parameters if parameter.key in tried.parameters}
        low_high = {key: parameter.values for key, parameter in used.items()}
        study.add_trial(
            optuna.trial.create_trial(
                state=state,
                params=dict(tried.parameters),
                distributions={key: FloatDistribution(*low_high[key]) for key in used},
                **values,
            )
        )

    for scored, (value,) in zip(history.population, population_cnrg((1, 1, 1))(history.population)[1], strict=True):
        add(scored, TrialState.COMPLETE, value=value)
    for stopped, cnrg in history.stopped:
        add(stopped, TrialState.PRUNED, intermediate_values={stopped.epoch: cnrg})
    for running in history.running:
        add(running, TrialState.RUNNING)
    trial = study.ask()
    return space.sample(lambda parameter: trial.suggest_float(parameter.key, *parameter.values))


PLANE = {"parameters": {"train.warmup": {"uniform": [0, 1]}, "train.weight_decay": {"uniform": [0, 1]}}}


def random_history(scored: int, stopped: int, running: int, seed: int = 0) -> StudyHistory:
    rng = random.Random(seed)

    def parameters() -> dict[str, float]:
        return {"train.warmup": rng.random(), "train.weight_decay": rng.random()}

    points = [parameters() for _ in range(scored)]
    return StudyHistory(
        population=[ScoredConfiguration(parameters=p, metrics=metrics_of(p)) for p in points],
        stopped=[
            (StoppedConfiguration(parameters=parameters(), epoch=n % 3, trial_id="t"), rng.random())
            for n in range(stopped)
        ],
        running=[TriedConfiguration(parameters=parameters()) for _ in range(running)],
    )


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
@pytest.mark.parametrize("sizes", [(0, 0, 0), (3, 0, 2), (40, 0, 3), (12, 25, 0), (0, 30, 2), (5, 995, 4)])
def test_tpe_suggests_what_a_study_with_every_trial_would(sizes: tuple[int, int, int]) -> None:
    space = method_space(PLANE)
    searcher = make_searcher("tpe", space, budget=60, seed=7)
    # One searcher for all: what it kept from one history changes nothing in the next.
    for index, seed in enumerate((0, 1, 0)):
        history = random_history(*sizes, seed=seed)
        assert searcher.suggest(index, history) == fresh_suggestion(space, history, 7, index, startup=10)


def told_to_tpe(kind: str, history: StudyHistory) -> list[dict]:
    """Parameters of the trials of a study, in order."""
    told: list[list[dict]] = []

    class Watched(OptunaSearcher):
        def _study_trials(self, *arguments: object) -> list:
            trials = super()._study_trials(*arguments)
            told.append([trial.params for trial in trials])
            return trials

    objective = population_cnrg((1, 1, 1)) if kind == "tpe" else raw_metrics
    Watched(method_space(PLANE), 0, 10, objective).suggest(0, history)
    (only,) = told
    return only


@pytest.mark.slow
@pytest.mark.parametrize(
    ("scored", "stopped", "latest_scored", "latest_stopped"),
    [
        (MAX_RESULTS + 500, 0, 900, 0),
        (1000, 2000, 300, 600),  # of the 900 that are not the best, in proportion
        (50, 2000, 0, 900),  # all 50 are among the best
        (1500, 20, 888, 12),
        (940, 65, 840, 60),  # all of the scored ones
    ],
)
def test_of_many_results_the_best_and_the_latest_are_taken_into_account(
    scored: int, stopped: int, latest_scored: int, latest_stopped: int
) -> None:
    many = random_history(scored, stopped, 3)
    values = [value for (value,) in population_cnrg((1, 1, 1))(many.population)[1]]

    def chosen(order: list[int], best: int, latest: int) -> list[int]:
        kept = order[:best]
        others = [number for number in range(len(order)) if number not in kept]
        return sorted([*kept, *(others[-latest:] if latest else [])])

    best = min(100, scored)
    by_value = sorted(range(scored), key=lambda number: -values[number])
    by_rung = sorted(range(stopped), key=lambda n: (-many.stopped[n][0].epoch, -many.stopped[n][1]))
    expected = [
        *(many.population[n].parameters for n in chosen(by_value, best, latest_scored)),
        *(many.stopped[n][0].parameters for n in chosen(by_rung, 100 - best, latest_stopped)),
        *(running.parameters for running in many.running),
    ]
    assert len(expected) == MAX_RESULTS + 3
    assert told_to_tpe("tpe", many) == expected


@pytest.mark.slow
def test_of_several_objectives_the_mean_rank_tells_the_best() -> None:
    many = random_history(MAX_RESULTS + 500, 7, 0)
    told = told_to_tpe("pareto", many)
    assert len(told) == MAX_RESULTS
    ranks = [0] * len(many.population)
    for metric in NRG_METRICS:
        sign = -1 if metric.higher_is_better else 1
        order = sorted(range(len(ranks)), key=lambda n: sign * many.population[n].metrics[metric.key])
        for rank, number in enumerate(order):
            ranks[number] += rank
    best = sorted(range(len(ranks)), key=lambda number: ranks[number])[:100]
    assert all(many.population[number].parameters in told for number in best)


def test_the_last_of_a_space_are_found() -> None:
    space = method_space({"parameters": {"loss.comp_weight": {"choice": list(range(40))}}})
    for kind in ("tpe", "random", "pareto"):
        suggested = run(kind, space, budget=41)
        assert sorted(parameters["loss.comp_weight"] for parameters in suggested) == list(range(40))
