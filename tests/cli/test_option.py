import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from unirex_ray.cli.next_steps import after_prepare, after_sweep
from unirex_ray.cli.option import option, type_in_words
from unirex_ray.cli.parser import job_parser, parse_job
from unirex_ray.config import Config, build_config, unflatten
from unirex_ray.errors import UserError


@dataclass(frozen=True)
class NamedCorpus:
    """All of a corpus that the next command depends on."""

    name: str
    gold: bool

    def has_gold(self, split: str) -> bool:
        return self.gold


def parse(*argv: str) -> Config:
    return build_config(parse_job(job_parser("job", ""), argv)[1])


words = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=6)
paths = words.filter(bool).map(lambda word: f"./{word}")
data_values = st.fixed_dictionaries(
    {},
    optional={
        "data.name": st.sampled_from(["table", "eraser"]),
        "data.source": st.one_of(st.none(), paths, st.just("null")),
        "data.labels": st.one_of(st.none(), st.lists(words, max_size=3)),
        "data.text_columns": st.lists(words, min_size=1, max_size=2),
        "data.label_column": words,
        "data.rationale_columns": st.lists(words, min_size=1, max_size=2),
        "data.limit": st.one_of(st.none(), st.integers(1, 99)),
        "data.cache": paths,
        "model.encoder": paths,
        "model.trust_remote_code": st.booleans(),
    },
)


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(data_values, st.booleans())
@example({"data.labels": ["None", "null"]}, True)
@example({"data.labels": ["null"]}, True)
@example({"data.labels": []}, True)
@example({"data.labels": ["a, b", "c"]}, False)
@example({"data.labels": ['"a"', "[b]", "'c'"]}, False)
@example({"data.labels": ["true", "007", "1.0"]}, False)
@example({"data.label_column": "null"}, False)
@example({"data.label_column": '"a"'}, False)
@example({"data.source": None, "data.limit": None}, True)
def test_the_command_after_prepare_data_means_the_same_corpus(values: dict[str, Any], gold: bool) -> None:
    tree = unflatten({"output": "elsewhere", **values})
    (command,) = after_prepare(NamedCorpus("table", gold), tree)  # type: ignore[arg-type]
    assert command.isprintable()  # a terminal shows it as it is
    _, job, *arguments = shlex.split(command)
    expected = build_config(tree).changed({"output": "output"})
    if gold:
        assert (job, arguments[0]) == ("jobs/sweep.py", "--space=all-methods")
        assert parse(*arguments[1:]) == expected
    else:
        assert job == "jobs/train.py"
        assert parse(*arguments) == expected.changed({"method": "unirex-aa-f"})


@pytest.mark.slow
@settings(max_examples=100, deadline=None)
@given(paths, st.one_of(st.none(), words.map(lambda word: f"http://host/{word.replace('?', '')}")))
@example("null", None)
def test_the_commands_after_a_sweep_find_its_runs(output: str, uri: str | None) -> None:
    from unirex_ray.analysis.leaderboard import leaderboard
    from unirex_ray.sweep.finish import SweepOutcome

    config = Config().changed({"output": output, "tracking.uri": uri or "http://host"})
    board, settings = leaderboard({}), {"data.digest": "d"}
    outcome = SweepOutcome(
        sweep_id="s", settings=settings, leaderboard=board, best=config, statuses={}, output=Path(output)
    )
    for command in after_sweep(outcome, config)[:2]:
        parsed = parse(*shlex.split(command)[2:-1])
        assert (parsed.output, parsed.tracking.uri) == (config.output, config.tracking.uri)


def test_plain_values_stand_plainly() -> None:
    assert option("data.labels", ["no", "yes"]) == "--data.labels=no,yes"
    assert option("data.labels", ["sí", "a, b"]) == """--data.labels='["sí", "a, b"]'"""
    assert option("data.labels", ["a\n"]) == """--data.labels='["a\\n"]'"""
    assert option("data.source", None) == "--data.source=null"
    assert option("data.source", "my corpus") == "--data.source='my corpus'"


@pytest.mark.parametrize("form", ["a, b,c", '["a", "b", "c"]', "[a,b, c]", '"a",b,"c"', " a ,b,c"])
def test_lists_are_read_in_every_form(form: str) -> None:
    assert parse(f"--data.labels={form}").data.labels == ("a", "b", "c")


def test_labels_on_the_command_line_keep_their_spelling() -> None:
    assert parse("--data.labels=[007, 1.0]").data.labels == ("007", "1.0")
    assert parse("--data.labels=[7, 1.50, true]").data.labels == ("7", "1.50", "true")
    assert parse('--data.labels="a, b", "c, d"').data.labels == ("a, b", "c, d")
    assert parse("--sweep.rungs=[]").sweep.rungs == ()


def test_a_list_that_cannot_be_read_is_refused() -> None:
    with pytest.raises(UserError, match=r"data\.labels = 'a\\nb' is no list"):
        parse("--data.labels=a\nb")


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("train.epochs", "int"),
        ("output", "str"),
        ("data.source", "str"),
        ("data.labels", "str,..."),
        ("loss.top_k_percents", "int,..."),
        ("loss.suff", "{margin,diff,kl,mae}"),
        ("loss.comp_weight", "float"),
        ("train.gpu", "bool or float"),
    ],
)
def test_what_an_option_takes_in_words(key: str, words: str) -> None:
    assert type_in_words(key) == words


@pytest.mark.parametrize("value", ["--", ["--"], ["--", "a"]])
def test_two_dashes_are_a_value_like_another(value: str | list[str]) -> None:
    key = "data.text_columns" if isinstance(value, list) else "data.label_column"
    tree = {"data": {key.partition(".")[2]: value}}
    for typed in (option(key, value), f"--{key}={value}" if isinstance(value, str) else f"--{key}={','.join(value)}"):
        (word,) = shlex.split(typed)
        assert parse_job(job_parser("job", ""), [word])[1] == tree
