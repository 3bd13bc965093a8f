"""Search spaces: what a sweep varies, read from YAML and checked against the configuration tree."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, get_args

from unirex_ray.analysis.selection import TRAIN_LIMIT
from unirex_ray.config import Config, Tree, config_keys, flatten, present_key
from unirex_ray.errors import UserError, did_you_mean
from unirex_ray.files import load_yaml
from unirex_ray.methods import get_method

Kind = Literal["choice", "uniform", "log_uniform", "int"]
Parameters = dict[str, Any]

_KINDS: tuple[Kind, ...] = get_args(Kind)
_REFUSED = ("data.", "tracking.", "sweep.")
_ALLOWED = (TRAIN_LIMIT, "data.gold_percent", "data.gold_batch_factor")
"""Keys of `data` that change no dev or test."""
_REFUSED_KEYS = (
    "output",
    "method",
    "train.seed",
    "train.workers",
    "train.gpu",
    "train.threads",
    "train.resources",
    "train.explain_every",
    "model.trust_remote_code",
)


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """One dimension of a space.

    Attributes:
        key: dotted configuration key.
        kind: `choice` (any values), `uniform` and `log_uniform` (real, both bounds inclusive), `int` (both inclusive).
        values: the choices, or `(low, high)`.
        when: other keys and the values at which this parameter exists; all must hold. `method` is such a key.
    """

    key: str
    kind: Kind
    values: tuple[Any, ...]
    when: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)

    def applies(self, chosen: Mapping[str, Any]) -> bool:
        """Whether this parameter exists, given the values chosen so far."""
        return all(key in chosen and chosen[key] in allowed for key, allowed in self.when.items())

    def describe(self) -> str:
        """One line for people, e.g. `loss.comp_weight: choice 0.5, 0.7, 1.0`."""
        values = ", ".join(map(str, self.values)) if self.kind == "choice" else "{} to {}".format(*self.values)
        when = "".join(f", when {key} is {' or '.join(map(str, allowed))}" for key, allowed in self.when.items())
        return f"{self.key}: {self.kind} {values}{when}"


@dataclass(frozen=True, kw_only=True)
class MethodSpace:
    """The parameters that one method has, each after those that its conditions name."""

    method: str
    parameters: tuple[Parameter, ...]

    def sample(self, draw: Callable[[Parameter], Any]) -> Parameters:
        """One configuration; `draw` gives the value of each parameter that applies."""
        chosen: Parameters = {}
        for parameter in self.parameters:
            if parameter.applies(chosen):
                chosen[parameter.key] = draw(parameter)
        return chosen

    @property
    def finite(self) -> bool:
        """Whether every parameter is a choice."""
        return all(parameter.kind == "choice" for parameter in self.parameters)

    @cached_property
    def grid_size(self) -> int:
        """How many configurations there are: 1, an empty one, without parameters.

        Raises:
            UserError: where a parameter is a range.
        """
        for parameter in self.parameters:
            if parameter.kind != "choice":
                raise UserError(
                    f"a grid needs choices, but {parameter.key!r} is {parameter.kind} {list(parameter.values)}; "
                    "list its values as choice, or use --sweep.searcher=random or tpe"
                )
        return self._count(0, {})

    def grid_point(self, number: int) -> Parameters:
        """The configuration with this number; the last parameter varies fastest.

        Raises:
            IndexError: for a number that is not in [0, `grid_size`).
            UserError: as `grid_size`.
        """
        if not 0 <= number < self.grid_size:
            raise IndexError(f"the grid has points 0 to {self.grid_size - 1}, but got {number}")
        chosen: Parameters = {}
        for index, parameter in enumerate(self.parameters):
            if not parameter.applies(chosen):
                continue
            for value in parameter.values:
                size = self._count(index + 1, {**chosen, parameter.key: value})
                if number < size:
                    chosen[parameter.key] = value
                    break
                number -= size
        return chosen

    def _count(self, first: int, chosen: Parameters) -> int:
        """How many ways there are to choose the parameters from `first` on."""
        conditions = {key for parameter in self.parameters[first:] for key in parameter.when}
        deciding = {key: value for key, value in chosen.items() if key in conditions}
        key = first, json.dumps(deciding, sort_keys=True)
        if key in self._counts:
            return self._counts[key]
        if first == len(self.parameters):
            count = 1
        elif not (parameter := self.parameters[first]).applies(chosen):
            count = self._count(first + 1, chosen)
        elif any(parameter.key in later.when for later in self.parameters[first + 1 :]):
            count = sum(self._count(first + 1, {**deciding, parameter.key: value}) for value in parameter.values)
        else:
            count = len(parameter.values) * self._count(first + 1, chosen)
        self._counts[key] = count
        return count

    @cached_property
    def _counts(self) -> dict[tuple[int, str], int]:
        return {}


@dataclass(frozen=True, kw_only=True)
class Space:
    """A search space file.

    Attributes:
        name: shown in messages.
        presets: a configuration tree that `--config` and the command line override.
        parameters: in the file's order.
    """

    name: str
    presets: Tree
    parameters: tuple[Parameter, ...]

    def without(self, keys: Collection[str]) -> tuple[Space, tuple[str, ...]]:
        """The space without some keys, and those of them that it had."""
        removed = tuple(parameter.key for parameter in self.parameters if parameter.key in keys)
        return replace(self, parameters=tuple(p for p in self.parameters if p.key not in keys)), removed

    def checked(self, config: Config) -> Space:
        """The space with values in the types of `config`, which every choice, bound and condition is tried on.

        Raises:
            UserError: naming the parameter, the value and what is allowed.
        """
        parameters = []
        for parameter in self.parameters:
            values = tuple(_canonical(self.name, config, parameter.key, value) for value in parameter.values)
            if parameter.kind == "choice" and any(value in values[:i] for i, value in enumerate(values)):
                raise UserError(f"{self.name}: the choices of {parameter.key!r} must differ, but got {list(values)}")
            if parameter.kind in ("uniform", "log_uniform"):
                low, high = parameter.values
                values = (float(low), float(high))
                _canonical(self.name, config, parameter.key, low + (high - low) / math.pi)
            when = {
                key: allowed if key == "method" else tuple(_canonical(self.name, config, key, v) for v in allowed)
                for key, allowed in parameter.when.items()
            }
            parameters.append(replace(parameter, values=values, when=when))
        return replace(self, parameters=tuple(parameters))

    def for_method(self, method: str, config: Config) -> MethodSpace:
        """The parameters that `method` reads (a loss weight only with its loss), with conditions on each other only."""
        fixed = config.flat() | {"method": method}
        sampled: set[str] = set()
        parameters: list[Parameter] = []
        open_keys = {parameter.key for parameter in self.parameters}
        for parameter in self.parameters:
            if not get_method(method).reads(parameter.key):
                continue
            settled = {key: allowed for key, allowed in parameter.when.items() if key not in open_keys}
            if not all(fixed[key] in allowed for key, allowed in settled.items()):
                continue
            when = {key: allowed for key, allowed in parameter.when.items() if key in open_keys}
            if not when.keys() <= sampled:
                continue
            sampled.add(parameter.key)
            parameters.append(replace(parameter, when=when))
        return MethodSpace(method=method, parameters=tuple(parameters))


def load_space(path: str | Path) -> Space:
    """Read a search space file.

    Raises:
        UserError: for an unreadable file or a space that makes no sense, naming the file and the key.
    """
    return parse_space(load_yaml(path), str(path))


def parse_space(tree: Tree, name: str) -> Space:
    """Read a search space from its YAML mapping (`config` and `parameters`); values are checked by `Space.checked`.

    Raises:
        UserError: for unknown keys, kinds, methods, empty ranges and conditions on later parameters.
    """
    unknown = [key for key in tree if key not in ("config", "parameters")]
    if unknown:
        raise UserError(f"{name}: unknown key {unknown[0]!r}; allowed here: config, parameters")
    presets, described = tree.get("config") or {}, tree.get("parameters") or {}
    for section, value in (("config", presets), ("parameters", described)):
        if not isinstance(value, dict):
            raise UserError(f"{name}: {section} must be a mapping, but is {value!r}")
    parameters = tuple(_parse_parameter(name, present_key(key), value) for key, value in described.items())
    earlier: set[str] = set()
    searched = {parameter.key for parameter in parameters}
    for parameter in parameters:
        for key in parameter.when:
            if key in searched and key not in earlier:
                raise UserError(f"{name}: {parameter.key!r} depends on {key!r}, which must come before it")
        earlier.add(parameter.key)
    return Space(name=name, presets=presets, parameters=parameters)


def _parse_parameter(name: str, key: str, described: Any) -> Parameter:
    _check_key(name, key)
    if (key.startswith(_REFUSED) and key not in _ALLOWED) or key in _REFUSED_KEYS:
        raise UserError(f"{name}: {key!r} cannot be a parameter of a search: set it for the whole sweep")
    if not isinstance(described, dict):
        raise UserError(f"{name}: {key!r} must be a mapping such as {{choice: [...]}}, but is {described!r}")
    kinds = [kind for kind in described if kind != "when"]
    if len(kinds) != 1 or kinds[0] not in _KINDS:
        raise UserError(f"{name}: {key!r} must have one of {', '.join(_KINDS)}, but has {', '.join(kinds) or 'none'}")
    kind: Kind = kinds[0]
    values = described[kind]
    if not isinstance(values, list) or not values:
        raise UserError(f"{name}: {key!r}: {kind} must be a non-empty list, but is {values!r}")
    if key == TRAIN_LIMIT and (kind != "choice" or described.get("when")):
        raise UserError(
            f"{name}: {key!r} must be a choice without `when`: methods are compared at the largest size, which all of "
            "them have to have"
        )
    if kind != "choice":
        _check_range(name, key, kind, values)
    return Parameter(key=key, kind=kind, values=tuple(values), when=_parse_when(name, key, described.get("when") or {}))


def _check_range(name: str, key: str, kind: Kind, values: list[Any]) -> None:
    allowed = (int,) if kind == "int" else (int, float)
    if len(values) != 2 or not all(type(value) in allowed and -math.inf < value < math.inf for value in values):
        numbers = "whole numbers" if kind == "int" else "finite numbers"
        hint = "; YAML reads 1e-5 as text: write 1.0e-5" if any(isinstance(value, str) for value in values) else ""
        raise UserError(f"{name}: {key!r}: {kind} must be two {numbers}, but is {values}{hint}")
    low, high = values
    if low >= high:
        raise UserError(f"{name}: {key!r}: {kind} must go from low to high, but {values} is empty")
    if kind == "log_uniform" and low <= 0:
        raise UserError(f"{name}: {key!r}: log_uniform must start above 0, but got {low}")


def _parse_when(name: str, key: str, described: Any) -> dict[str, tuple[Any, ...]]:
    if not isinstance(described, dict) or not all(isinstance(v, list) and v for v in described.values()):
        raise UserError(f"{name}: {key!r}: when must map keys to lists of values, but is {described!r}")
    conditions = {present_key(other): tuple(allowed) for other, allowed in described.items()}
    for other, allowed in conditions.items():
        if other == "method":
            for method in allowed:
                get_method(method)
        else:
            _check_key(name, other)
        if other == key:
            raise UserError(f"{name}: {key!r} cannot depend on itself")
    return conditions


def _check_key(name: str, key: Any) -> None:
    if key not in config_keys():
        hint = did_you_mean(str(key), config_keys())
        raise UserError(f"{name}: unknown key {key!r}{hint}; parameters are dotted keys such as train.learning_rate")


def _canonical(name: str, config: Config, key: str, value: Any) -> Any:
    try:
        tree = config.changed({key: value}).model_dump(mode="json")
    except UserError as error:
        raise UserError(f"{name}: {error}") from None
    return dict(flatten(tree))[key]
