"""Searchers: which configuration of a method to try next. Beside `study`, the only module that imports optuna.

A suggestion follows from the seed, the method, the suggestion's index and the history of the method's study alone. What
a searcher keeps of earlier histories saves time and changes no suggestion. So a resumed sweep suggests what the
undisturbed one would have.
"""

from __future__ import annotations

import hashlib
import json
import math
import random
import warnings
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from heapq import nlargest
from typing import Any, Literal, Protocol, TypeVar

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState, create_trial

from unirex_ray.metrics.nrg import EQUAL_WEIGHTS, Weights, score_population
from unirex_ray.metrics.table import NRG_METRICS
from unirex_ray.sweep.space import MethodSpace, Parameter, Parameters

SearcherKind = Literal["tpe", "grid", "random", "pareto"]

MAX_RESULTS = 1000
"""Results that TPE takes into account: of more, see `_best_and_latest`."""
_ATTEMPTS = 16
"""Draws before a searcher looks for an unseen configuration in another way."""

_T = TypeVar("_T")

optuna.logging.set_verbosity(optuna.logging.ERROR)


def identity(parameters: Mapping[str, Any]) -> str:
    """Text that is equal for equal configurations."""
    return json.dumps(parameters, sort_keys=True)


@dataclass(frozen=True, kw_only=True)
class TriedConfiguration:
    """A configuration that was suggested before."""

    parameters: Mapping[str, Any]

    @cached_property
    def identity(self) -> str:
        """See the function of this name."""
        return identity(self.parameters)


@dataclass(frozen=True, kw_only=True)
class ScoredConfiguration(TriedConfiguration):
    """A configuration all of whose seeds completed.

    Attributes:
        metrics: raw dev metrics by key without split (`auprc`), averaged over seeds.
    """

    metrics: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class StoppedConfiguration(TriedConfiguration):
    """A configuration that lost at a rung.

    Attributes:
        epoch: of the last rung that it reached.
        trial_id: of the trial that was judged there.
    """

    epoch: int
    trial_id: str


@dataclass(frozen=True, kw_only=True)
class StudyHistory:
    """A method's configurations so far, in the order of suggestion.

    Attributes:
        population: those with scores.
        running: those that may still get scores.
        stopped: those that lost at a rung, each with its CNRG at the last one that it reached, among all configurations
            that have reached it by now; higher is better.
        failed: those without scores for another reason.
    """

    population: Sequence[ScoredConfiguration] = ()
    running: Sequence[TriedConfiguration] = ()
    stopped: Sequence[tuple[StoppedConfiguration, float]] = ()
    failed: Sequence[TriedConfiguration] = ()

    def seen(self) -> set[str]:
        """Identity of every configuration that was suggested before."""
        stopped = (configuration for configuration, _ in self.stopped)
        return {tried.identity for tried in (*self.population, *stopped, *self.running, *self.failed)}


class Searcher(Protocol):
    """A method's study."""

    def suggest(self, index: int, history: StudyHistory) -> Parameters | None:
        """The configuration with number `index` (from 0), different from all earlier ones; None without one."""


def make_searcher(
    kind: SearcherKind, space: MethodSpace, *, budget: int, seed: int = 0, weights: Weights = EQUAL_WEIGHTS
) -> Searcher:
    """Build a method's searcher.

    Args:
        budget: how many configurations will be asked for.

    Raises:
        UserError: if a grid is asked for and a parameter is a range.
    """
    if kind == "grid":
        return GridSearcher(space, budget, seed)
    if kind == "random":
        return RandomSearcher(space, seed)
    # A third of the budget at random, so that a small study also learns something from its population.
    startup = max(2, min(10, budget // 3))
    return OptunaSearcher(space, seed, startup, population_cnrg(weights) if kind == "tpe" else raw_metrics)


class GridSearcher:
    """The space's grid in order; a seeded sample of it, in the same order, where the budget is smaller.

    What a sweep tried before it grew is passed over.
    """

    def __init__(self, space: MethodSpace, budget: int, seed: int) -> None:
        self._space, self._next = space, 0
        everything = range(space.grid_size)
        rng = random.Random(_derived_seed(seed, space.method))
        self._numbers = everything if budget >= len(everything) else sorted(rng.sample(everything, budget))

    def suggest(self, index: int, history: StudyHistory) -> Parameters | None:
        """See `Searcher`."""
        seen = history.seen()
        while self._next < len(self._numbers):
            parameters = self._space.grid_point(self._numbers[self._next])
            if identity(parameters) not in seen:
                return parameters
            self._next += 1
        return None


class RandomSearcher:
    """Independent uniform draws."""

    def __init__(self, space: MethodSpace, seed: int) -> None:
        self._space, self._seed = space, seed

    def suggest(self, index: int, history: StudyHistory) -> Parameters | None:
        """See `Searcher`."""

        def draw(seed: int) -> Parameters:
            return _sample(self._space, optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed)))

        return _first_unseen(self._space, self._seed, index, history, draw)


Direction = Literal["minimize", "maximize"]
Objective = Callable[[Sequence[ScoredConfiguration]], tuple[list[Direction], list[list[float]]]]
"""Directions, and the values of each member of a population."""


def population_cnrg(weights: Weights) -> Objective:
    """CNRG of each member relative to the whole population, to be maximised."""

    def objective(population: Sequence[ScoredConfiguration]) -> tuple[list[Direction], list[list[float]]]:
        raw = {str(number): scored.metrics for number, scored in enumerate(population)}
        return ["maximize"], score_population(raw, weights).cnrg[:, None].tolist()

    return objective


def raw_metrics(population: Sequence[ScoredConfiguration]) -> tuple[list[Direction], list[list[float]]]:
    """The raw metrics of NRG that the population has, each in its own direction."""
    metrics = [m for m in NRG_METRICS if all(m.key in scored.metrics for scored in population)]
    directions: list[Direction] = ["maximize" if metric.higher_is_better else "minimize" for metric in metrics]
    return directions, [[scored.metrics[metric.key] for metric in metrics] for scored in population]


class OptunaSearcher:
    """TPE on a new study for every suggestion, in which the configurations have their present values."""

    def __init__(self, space: MethodSpace, seed: int, startup: int, objective: Objective) -> None:
        self._space, self._seed, self._startup, self._objective = space, seed, startup, objective
        self._trials: dict[str, optuna.trial.FrozenTrial] = {}

    def suggest(self, index: int, history: StudyHistory) -> Parameters | None:
        """See `Searcher`."""
        directions, values = self._objective(history.population)
        trials = self._study_trials(history, directions, values)

        def draw(seed: int) -> Parameters:
            study = optuna.create_study(storage=_History(trials), directions=directions, sampler=self._sampler(seed))
            return _sample(self._space, study)

        return _first_unseen(self._space, self._seed, index, history, draw)

    def _study_trials(
        self, history: StudyHistory, directions: Sequence[Direction], values: list[list[float]]
    ) -> list[optuna.trial.FrozenTrial]:
        """What a study is made of: at most `MAX_RESULTS` configurations with results, and all that are running."""
        scored = list(zip(history.population, values, strict=True))
        # TPE ranks them behind the completed ones: by their rung, then by what they had there.
        stopped = list(history.stopped) if len(directions) == 1 else []
        if len(scored) + len(stopped) > MAX_RESULTS:
            scored, stopped = _best_and_latest(scored, stopped, directions)
        trials = []
        for configuration, value in scored:
            trials.append(self._trial(configuration, TrialState.COMPLETE))
            trials[-1].values = value
        for loser, cnrg in stopped:
            trials.append(self._trial(loser, TrialState.PRUNED))
            trials[-1].intermediate_values = {loser.epoch: cnrg}
        trials += [self._trial(running, TrialState.RUNNING) for running in history.running]
        for number, trial in enumerate(trials, start=1):
            trial.number = number
        return trials

    def _trial(self, tried: TriedConfiguration, state: TrialState) -> optuna.trial.FrozenTrial:
        known = self._trials.get(tried.identity)
        if known is not None and known.state == state:
            return known
        used = [parameter for parameter in self._space.parameters if parameter.key in tried.parameters]
        trial = create_trial(
            state=state,
            params={parameter.key: _to_optuna(parameter, tried.parameters[parameter.key]) for parameter in used},
            distributions={parameter.key: _distribution(parameter) for parameter in used},
            values=[0.0] if state == TrialState.COMPLETE else None,
        )
        self._trials[tried.identity] = trial
        return trial

    def _sampler(self, seed: int) -> optuna.samplers.TPESampler:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            return optuna.samplers.TPESampler(
                n_startup_trials=self._startup, multivariate=True, group=True, constant_liar=True, seed=seed
            )


class _History(optuna.storages.InMemoryStorage):
    """A study's storage that shows trials without taking copies of them, which would take most of a suggestion.

    Args:
        trials: numbered from 1; the trial that is asked for has number 0.
    """

    def __init__(self, trials: Sequence[optuna.trial.FrozenTrial]) -> None:
        super().__init__()
        self._history = trials

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[optuna.trial.FrozenTrial]:
        """See optuna's."""
        asked = super().get_all_trials(study_id, deepcopy, states)
        return [trial for trial in self._history if states is None or trial.state in states] + asked


_Scored = list[tuple[ScoredConfiguration, list[float]]]
_Stopped = list[tuple[StoppedConfiguration, float]]


def _best_and_latest(scored: _Scored, stopped: _Stopped, directions: Sequence[Direction]) -> tuple[_Scored, _Stopped]:
    """`MAX_RESULTS` of them in their order: the best tenth, and of both the latest, in proportion to their numbers.

    The best completed ones are those with the lowest mean rank over the objectives; stopped ones come behind them.
    """
    signs = np.array([1.0 if direction == "minimize" else -1.0 for direction in directions])
    losses = signs * np.array([value for _, value in scored]).reshape(-1, len(directions))
    order = losses.argsort(axis=0, kind="stable").argsort(axis=0).sum(axis=1).argsort(kind="stable")
    best = set(order[: MAX_RESULTS // 10].tolist())
    wanted = MAX_RESULTS // 10 - len(best)
    best_stopped = set(nlargest(wanted, range(len(stopped)), key=lambda n: (stopped[n][0].epoch, stopped[n][1])))
    rest = MAX_RESULTS - len(best) - len(best_stopped)
    share = round(rest * len(scored) / (len(scored) + len(stopped)))
    share = min(max(share, rest - (len(stopped) - len(best_stopped))), len(scored) - len(best))
    return _latest(scored, best, share), _latest(stopped, best_stopped, rest - share)


def _latest(results: list[_T], kept: set[int], more: int) -> list[_T]:
    """Those that are kept, and so many more, the latest ones."""
    others = [index for index in range(len(results)) if index not in kept]
    return [results[index] for index in sorted({*kept, *others[len(others) - more :]})]


def _first_unseen(
    space: MethodSpace, seed: int, index: int, history: StudyHistory, draw: Callable[[int], Parameters]
) -> Parameters | None:
    """What is drawn; where that was seen before, the first unseen point behind a random one of the grid."""
    seen = history.seen()
    size = space.grid_size if space.finite else math.inf
    if len(seen) < size * (1 - 1 / _ATTEMPTS):
        for attempt in range(_ATTEMPTS):
            parameters = draw(_derived_seed(seed, space.method, index, attempt))
            if identity(parameters) not in seen:
                return parameters
    if math.isinf(size):
        return None
    first = random.Random(_derived_seed(seed, space.method, index, _ATTEMPTS)).randrange(space.grid_size)
    points = (space.grid_point((first + step) % space.grid_size) for step in range(space.grid_size))
    return next((parameters for parameters in points if identity(parameters) not in seen), None)


def _derived_seed(*parts: object) -> int:
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:4], "big")


def _distribution(parameter: Parameter) -> BaseDistribution:
    if parameter.kind == "choice":
        # By index: optuna takes scalars only, a configuration key may be a list.
        return CategoricalDistribution(range(len(parameter.values)))
    low, high = parameter.values
    if parameter.kind == "int":
        return IntDistribution(low, high)
    return FloatDistribution(low, high, log=parameter.kind == "log_uniform")


def _to_optuna(parameter: Parameter, value: Any) -> Any:
    return parameter.values.index(value) if parameter.kind == "choice" else value


def _sample(space: MethodSpace, study: optuna.Study) -> Parameters:
    trial = study.ask()
    return space.sample(lambda parameter: _suggest(trial, parameter))


def _suggest(trial: optuna.Trial, parameter: Parameter) -> Any:
    if parameter.kind == "choice":
        return parameter.values[trial.suggest_categorical(parameter.key, range(len(parameter.values)))]
    low, high = parameter.values
    if parameter.kind == "int":
        return trial.suggest_int(parameter.key, low, high)
    return trial.suggest_float(parameter.key, low, high, log=parameter.kind == "log_uniform")
