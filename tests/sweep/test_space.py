from pathlib import Path

import pytest
import yaml
from helpers.grid import whole_grid
from hypothesis import given
from hypothesis import strategies as st

from unirex_ray.config import Config, build_config
from unirex_ray.errors import UserError
from unirex_ray.methods import METHODS, REFERENCES
from unirex_ray.methods.recipe import WEIGHT_KEYS
from unirex_ray.sweep.space import MethodSpace, Parameter, Space, load_space, parse_space


def space(text: str, config: Config | None = None) -> Space:
    return parse_space(yaml.safe_load(text), "s.yaml").checked(config or Config())


WEIGHTS = """
parameters:
  loss.comp_weight: {choice: [0.5, 0.7, 1]}
  loss.suff_weight: {choice: [0.5, 0.7, 1]}
  loss.plaus_weight: {choice: [0.5, 0.7, 1]}
"""


@pytest.mark.parametrize(
    ("method", "size"),
    [
        ("aa-ig", 1),
        ("unirex-aa-f", 9),
        ("unirex-dlm-p", 3),
        ("unirex-dlm-fp", 27),
        ("unirex-slm-p", 3),
        ("unirex-slm-fp", 27),
    ],
)
def test_a_method_has_the_weights_of_its_losses_only(method: str, size: int) -> None:
    grid = whole_grid(space(WEIGHTS).for_method(method, Config()))
    assert len(grid) == size
    assert {key for parameters in grid for key in parameters} == {
        key for key in WEIGHT_KEYS.values() if METHODS[method].reads(key)
    }


def test_grid_order_is_the_files_order_last_fastest() -> None:
    grid = whole_grid(space(WEIGHTS).for_method("unirex-aa-f", Config()))
    assert [tuple(p.values()) for p in grid[:4]] == [(0.5, 0.5), (0.5, 0.7), (0.5, 1.0), (0.7, 0.5)]
    assert all(type(value) is float for parameters in grid for value in parameters.values())


CONDITIONS = """
parameters:
  model.ig_steps: {choice: [3, 10], when: {method: [aa-ig, unirex-aa-f]}}
  model.head: {choice: [linear, mlp-2048-2], when: {method: [unirex-dlm-p]}}
  loss.plaus_margin: {choice: [0.1, 0.2], when: {model.head: [mlp-2048-2]}}
"""


def test_conditions_on_method_and_on_another_parameter() -> None:
    conditional = space(CONDITIONS)
    assert whole_grid(conditional.for_method("aa-ig", Config())) == [{"model.ig_steps": 3}, {"model.ig_steps": 10}]
    assert whole_grid(conditional.for_method("unirex-dlm-p", Config())) == [
        {"model.head": "linear"},
        {"model.head": "mlp-2048-2", "loss.plaus_margin": 0.1},
        {"model.head": "mlp-2048-2", "loss.plaus_margin": 0.2},
    ]
    assert whole_grid(conditional.for_method("unirex-slm-p", Config())) == [{}]


@pytest.mark.parametrize(("head", "size"), [("linear", 1), ("mlp-2048-2", 2)])
def test_a_fixed_key_leaves_and_settles_conditions_on_it(head: str, size: int) -> None:
    smaller, removed = space(CONDITIONS).without({"model.head", "train.epochs"})
    assert removed == ("model.head",)
    fixed = Config().changed({"model.head": head})
    assert smaller.for_method("unirex-dlm-p", fixed).grid_size == size


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("parameter: {}", "unknown key 'parameter'; allowed here: config, parameters"),
        ("parameters: {loss.cmp_weight: {choice: [1]}}", "'loss.cmp_weight' .did you mean 'loss.comp_weight'"),
        ("parameters: {loss: {choice: [1]}}", "unknown key 'loss'"),
        ("parameters: {loss.comp_weight: [1]}", "must be a mapping such as"),
        ("parameters: {loss.comp_weight: {chioce: [1]}}", "one of choice, uniform, log_uniform, int, but has chioce"),
        ("parameters: {loss.comp_weight: {choice: [1], uniform: [0, 1]}}", "one of choice.* but has choice, uniform"),
        ("parameters: {loss.comp_weight: {choice: []}}", "non-empty list"),
        ("parameters: {loss.comp_weight: {choice: [1, 1.0]}}", "choices of 'loss.comp_weight' must differ"),
        ("parameters: {loss.comp_weight: {choice: [0.5, 101]}}", "s.yaml: loss.comp_weight = 101: .*less than"),
        ("parameters: {loss.comp_weight: {uniform: [0.5, 200]}}", "less than or equal to 100"),
        ("parameters: {loss.comp_weight: {uniform: [1, 0.5]}}", r"\[1, 0.5\] is empty"),
        ("parameters: {loss.comp_weight: {uniform: [1, 1]}}", "is empty"),
        ("parameters: {loss.comp_weight: {uniform: [1]}}", "two finite numbers"),
        ("parameters: {loss.comp_weight: {uniform: [0, .inf]}}", "two finite numbers"),
        ("parameters: {train.learning_rate: {log_uniform: [1e-5, 1e-3]}}", "YAML reads 1e-5 as text: write 1.0e-5"),
        ("parameters: {train.learning_rate: {log_uniform: [0, 0.1]}}", "must start above 0"),
        ("parameters: {train.batch_size: {int: [8, 16.5]}}", "two whole numbers"),
        ("parameters: {train.epochs: {uniform: [1, 9]}}", "train.epochs = 3.54.*integer"),
        ("parameters: {model.head: {choice: [linear, cubic]}}", "model.head = 'cubic'"),
        ("parameters: {train.seed: {choice: [1, 2]}}", "'train.seed' cannot be a parameter"),
        ("parameters: {train.workers: {int: [1, 2]}}", "cannot be a parameter"),
        ("parameters: {data.limit: {int: [10, 20]}}", "cannot be a parameter"),
        ("parameters: {sweep.seed: {int: [1, 2]}}", "cannot be a parameter"),
        ("parameters: {method: {choice: [aa-ig]}}", "cannot be a parameter"),
        ("parameters: {model.head: {choice: [linear], when: {method: [aa-gi]}}}", "unknown method 'aa-gi'"),
        ("parameters: {model.head: {choice: [linear], when: {method: aa-ig}}}", "when must map keys to lists"),
        ("parameters: {model.head: {choice: [linear], when: {modle.layers: [1]}}}", "unknown key 'modle.layers'"),
        ("parameters: {model.head: {choice: [linear], when: {model.layers: [x]}}}", "model.layers = 'x'"),
        ("parameters: {model.head: {choice: [linear], when: {model.head: [linear]}}}", "cannot depend on itself"),
        (
            "parameters: {model.head: {choice: [linear], when: {model.layers: [1]}}, model.layers: {choice: [1, 2]}}",
            "depends on 'model.layers', which must come before it",
        ),
    ],
)  # fmt: skip
def test_nonsense_is_refused_in_one_line(text: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        space(text)
    assert "\n" not in str(caught.value)


def test_lists_are_values_too() -> None:
    lists = space("parameters: {loss.top_k_percents: {choice: [[10], [20, 50]]}}").for_method("unirex-aa-f", Config())
    assert whole_grid(lists) == [
        {"loss.top_k_percents": [10]},
        {"loss.top_k_percents": [20, 50]},
    ]


@pytest.mark.slow
@given(st.lists(st.floats(0, 100), min_size=1, max_size=5, unique=True), st.floats(0, 50), st.floats(50.5, 100))
def test_every_sample_builds_a_config(choices: list[float], low: float, high: float) -> None:
    tree = {"parameters": {"loss.comp_weight": {"choice": choices}, "loss.suff_weight": {"uniform": [low, high]}}}
    method = parse_space(tree, "s").checked(Config()).for_method("unirex-aa-f", Config())
    chosen = method.sample(lambda parameter: parameter.values[-1])
    config = Config().changed(chosen)
    assert (config.loss.comp_weight, config.loss.suff_weight) == (choices[-1], high)


SPACES = sorted(path.stem for path in (Path(__file__).parents[2] / "search_spaces").glob("*.yaml"))

# Configurations by method; the paper's grids are products over the weights that a method has.
SIZES = {
    "paper": {
        **dict.fromkeys(("aa-grad", "aa-input-x-grad", "aa-deeplift", "aa-ig", "l2e", "fresh"), 1),
        **dict.fromkeys(("sgt", "a2r", "fresh-p", "unirex-dlm-p"), 3),
        **dict.fromkeys(("unirex-aa-f", "sgt-p", "a2r-p"), 9),
        **dict.fromkeys(("unirex-aa-fp", "unirex-dlm-fp", "unirex-slm-fp"), 27),
    },
    "ablation-extractor-f": dict.fromkeys(
        ("unirex-aa-f-rand", "unirex-aa-f-gold", "unirex-aa-f-inv", "unirex-aa-f"), 1
    ),
    "ablation-extractor-fp": {"unirex-aa-fp": 2, "unirex-dlm-fp": 1, "unirex-slm-fp": 1},
    "ablation-faithfulness-losses": {"unirex-slm-fp": 3},
    "ablation-suff-criterion": {"unirex-slm-fp": 3},
    "ablation-head": {"unirex-slm-fp": 3},
    "gold-efficiency": {
        **dict.fromkeys(("aa-ig", "unirex-aa-f"), 1),
        **dict.fromkeys(("unirex-aa-fp", "unirex-dlm-fp", "unirex-slm-fp"), 6),
    },
    "transfer": dict.fromkeys(
        ("aa-ig", "unirex-aa-f-rand", "unirex-aa-f", "unirex-dlm-p", "unirex-dlm-fp", "unirex-slm-fp"), 1
    ),
    "gentle-start": {
        **dict.fromkeys(("unirex-dlm-fp", "unirex-slm-fp"), 2),
        **dict.fromkeys(("unirex-dlm-fp-two-stage", "unirex-slm-fp-two-stage"), 1),
    },
    "references": dict.fromkeys(("aa-ig", *REFERENCES), 1),
    "sst-learning-curve": dict.fromkeys(
        ("aa-ig", "unirex-aa-f", "unirex-slm-p", "unirex-slm-fp", "unirex-dlm-p", "unirex-dlm-fp"), 4
    ),
    "ablation-ig-steps": {"aa-ig": 9, "unirex-aa-f": 1, "unirex-dlm-fp": 1, "unirex-slm-fp": 1},
}


@pytest.mark.parametrize("name", SPACES)
def test_the_shipped_spaces_are_valid_and_as_large_as_they_say(name: str, pytestconfig: pytest.Config) -> None:
    shipped = load_space(pytestconfig.rootpath / "search_spaces" / f"{name}.yaml")
    config = build_config(shipped.presets)
    checked = shipped.checked(config)
    assert config.sweep.methods is not None
    spaces = {method: checked.for_method(method, config) for method in config.sweep.methods}
    if name in SIZES:
        assert {method: space.grid_size for method, space in spaces.items()} == SIZES[name]
    sixteen = {method for method in METHODS if METHODS[method].in_global_nrg} - {"unirex-slm-p"}
    if name == "all-methods":
        assert set(spaces) == sixteen
    if name == "sst-main":
        assert set(spaces) == {*sixteen, *REFERENCES}
        assert (config.data.train_limit, config.sweep.seeds) == (1500, (0, 1, 2))


def test_the_ablation_of_losses_never_drops_both(pytestconfig: pytest.Config) -> None:
    shipped = load_space(pytestconfig.rootpath / "search_spaces" / "ablation-faithfulness-losses.yaml")
    config = build_config(shipped.presets)
    of_method = shipped.checked(config).for_method("unirex-slm-fp", config)
    grid = [config.changed(c).loss for c in whole_grid(of_method)]
    assert [(loss.comp_weight, loss.suff_weight) for loss in grid] == [(0.5, 0), (0, 0.5), (0.5, 0.5)]


def test_the_former_name_of_a_key_is_read() -> None:
    parameters = (
        "parameters: {train.stream: {choice: [true, false]}, loss.comp_weight: {choice: [1], when: {%s: [true]}}}"
    )
    first, second = space(parameters % "train.stream").parameters
    assert (first.key, list(second.when)) == ("train.activation_checkpointing", ["train.activation_checkpointing"])


VALUES = st.lists(st.integers(0, 5), min_size=1, max_size=3, unique=True).map(tuple)


@st.composite
def conditional_spaces(draw: st.DrawFn) -> MethodSpace:
    """Choices, some of which exist at some values of earlier ones only."""
    parameters: list[Parameter] = []
    for number in range(draw(st.integers(0, 5))):
        earlier = draw(st.lists(st.sampled_from(parameters), max_size=2, unique_by=id)) if parameters else []
        when = {other.key: draw(VALUES) for other in earlier}
        parameters.append(Parameter(key=f"p{number}", kind="choice", values=draw(VALUES), when=when))
    return MethodSpace(method="aa-ig", parameters=tuple(parameters))


@given(conditional_spaces())
def test_grid_points_are_those_of_a_grid_that_is_built(conditional: MethodSpace) -> None:
    built: list[dict] = [{}]
    for parameter in conditional.parameters:
        built = [
            {**chosen, **extra}
            for chosen in built
            for extra in ([{parameter.key: v} for v in parameter.values] if parameter.applies(chosen) else [{}])
        ]
    assert whole_grid(conditional) == built


def test_a_large_grid_is_counted_and_not_built() -> None:
    choices = tuple(range(100))
    large = MethodSpace(
        method="aa-ig", parameters=tuple(Parameter(key=f"p{n}", kind="choice", values=choices) for n in range(6))
    )
    assert large.grid_size == 10**12
    assert list(large.grid_point(10**12 - 2).values()) == [99, 99, 99, 99, 99, 98]
    for number in (-1, 10**12):
        with pytest.raises(IndexError, match=f"points 0 to 999999999999, but got {number}"):
            large.grid_point(number)
