import string
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from unirex_ray.cli.parser import job_parser, parse_job
from unirex_ray.config import (
    Config,
    build_config,
    config_hash,
    config_keys,
    flatten,
    merge,
    to_yaml,
    unflatten,
    with_added_keys,
)
from unirex_ray.errors import UserError, exit_on_user_error
from unirex_ray.files import load_yaml

PROMISED_KEYS = [
    "data.name",
    "data.source",
    "data.limit",
    "data.seed",
    "method",
    "model.encoder",
    "model.layers",
    "model.head",
    "loss.comp_weight",
    "loss.suff_weight",
    "loss.plaus_weight",
    "train.epochs",
    "train.batch_size",
    "train.learning_rate",
    "train.patience",
    "train.workers",
    "train.gpu",
    "train.seed",
    "tracking.uri",
    "output",
]


def parse(*argv: str) -> Config:
    return build_config(parse_job(job_parser("job", "A job."), argv)[1])


def test_promised_keys_exist_and_defaults_are_the_papers():
    assert set(PROMISED_KEYS) <= set(config_keys())
    config = Config()
    assert (config.train.learning_rate, config.train.weight_decay, config.train.warmup) == (2e-5, 0.0, 0.1)
    assert (config.train.batch_size, config.train.epochs, config.train.patience) == (32, 10, 5)
    assert (config.loss.comp, config.loss.comp_margin) == ("margin", 1.0)
    assert (config.loss.suff, config.loss.suff_margin) == (None, 0.1)  # the method has its own
    assert (config.loss.plaus, config.loss.plaus_margin, config.loss.agreement_weight) == ("bce", 0.1, 0.5)
    assert config.loss.top_k_percents == (1, 5, 10, 20, 50)
    assert config.model.ig_steps == 3
    assert config.sweep.seeds == (0, 1, 2)


def test_the_tree_is_frozen():
    config = Config()
    with pytest.raises(ValidationError):
        config.train.epochs = 3  # type: ignore[misc]


@pytest.mark.parametrize(
    ("tree", "parts"),
    [
        ({"trian": {"epochs": 3}}, ["unknown key 'trian'"]),
        ({"train": {"epochs": 0}}, ["train.epochs = 0", "greater than or equal to 1"]),
        ({"train": {"epochs": "many"}}, ["train.epochs = 'many'", "integer"]),
        ({"train": {"learning_rate": 0}}, ["train.learning_rate = 0", "greater than 0"]),
        ({"train": {"precision": "fp16"}}, ["train.precision = 'fp16'", "'fp32'", "'bf16'"]),
        ({"loss": {"comp_weight": -1}}, ["loss.comp_weight = -1"]),
        ({"loss": {"top_k_percents": []}}, ["loss.top_k_percents = []"]),
        ({"loss": {"top_k_percents": [0]}}, ["loss.top_k_percents = 0"]),
        ({"model": {"layers": 0}}, ["model.layers = 0"]),
        ({"model": {"head": "mlp"}}, ["model.head = 'mlp'", "mlp-2048-2"]),
        ({"train": None}, ["train = None"]),
    ],
)
def test_wrong_values_are_refused_by_name(tree, parts):
    with pytest.raises(UserError) as caught:
        build_config(tree)
    message = str(caught.value)
    assert all(part in message for part in parts), message
    assert "\n" not in message


def test_every_wrong_key_is_named_at_once():
    with pytest.raises(UserError, match=r"loss\.suff_weight = -2.*; train\.epochs = 0"):
        build_config({"train": {"epochs": 0}, "loss": {"suff_weight": -2}})


def test_a_changed_config_comes_back_from_yaml(tmp_path):
    config = parse(
        "--method=aa-ig",
        "--data.source=null",
        "--data.limit=7",
        "--model.layers=2",
        "--loss.top_k_percents=5,20",
        "--train.learning_rate=1e-4",
        "--train.gpu=true",
        "--sweep.methods=aa-ig,unirex-dlm-p",
    )
    path = tmp_path / "config.yaml"
    path.write_text(to_yaml(config))
    assert build_config(load_yaml(path)) == config
    assert parse(f"--config={path}") == config
    assert yaml.safe_load(to_yaml(Config())).keys() == Config().model_dump().keys()


def test_dotted_options_override_the_file_which_overrides_the_defaults(tmp_path):
    path = tmp_path / "my.yaml"
    path.write_text("data: {name: sst, source: corpus.zip}\ntrain:\n  epochs: 4\n  batch_size: 8\n")
    config = parse("--config", str(path), "--train.epochs=3", "--data.source", "null")
    assert (config.train.epochs, config.train.batch_size, config.train.patience) == (3, 8, 5)
    assert (config.data.name, config.data.source) == ("sst", None)


@pytest.mark.parametrize("form", ["5,20", "[5, 20]", "[5,20]"])
def test_tuples_are_read(form):
    assert parse(f"--loss.top_k_percents={form}").loss.top_k_percents == (5, 20)


def test_tuples_of_one_and_of_words_are_read():
    assert parse("--loss.top_k_percents=10").loss.top_k_percents == (10,)
    assert parse("--sweep.seeds=3").sweep.seeds == (3,)
    assert parse("--data.labels=no,yes").data.labels == ("no", "yes")
    assert parse("--sweep.nrg_weights=1,0.5,2").sweep.nrg_weights == (1.0, 0.5, 2.0)


def test_help_lists_every_key(capsys):
    with pytest.raises(SystemExit) as caught:
        parse("--help")
    assert caught.value.code == 0
    text = capsys.readouterr().out
    assert all(f"--{key}" in text for key in config_keys())


def test_anchors_and_merges_are_read(tmp_path):
    path = tmp_path / "anchors.yaml"
    path.write_text("a: &x {b: 1, c: 2}\nd: {<<: *x, b: 3}\ne: *x")
    assert load_yaml(path) == {"a": {"b": 1, "c": 2}, "d": {"b": 3, "c": 2}, "e": {"b": 1, "c": 2}}


def test_overrides_are_validated_again():
    config = Config().changed({"train.epochs": 3, "loss.comp_weight": 0.5})
    assert (config.train.epochs, config.loss.comp_weight) == (3, 0.5)
    with pytest.raises(UserError, match=r"train\.epochs"):
        config.changed({"train.epochs": -1})
    with pytest.raises(UserError, match="unknown key"):
        config.changed({"train.epoch": 1})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("output", "elsewhere"),
        ("tracking.uri", "http://host"),
        ("data.cache", "/tmp/x"),
        ("data.source", "copy.zip"),
        ("sweep.seeds", (5,)),
        ("sweep.configurations", 3),
        ("train.resources", ["tpu=1"]),
    ],
)
def test_paths_and_the_search_do_not_change_the_hash(key, value):
    assert config_hash(Config().changed({key: value})) == config_hash(Config())


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("method", "aa-ig"),
        ("data.name", "sst"),
        ("data.limit", 10),
        ("data.seed", 1),
        ("data.max_length", 64),
        ("model.encoder", "other"),
        ("model.layers", 3),
        ("model.dropout", 0.0),
        ("loss.plaus_weight", 0.7),
        ("train.epochs", 9),
        ("train.learning_rate", 1e-5),
        ("train.seed", 1),
        ("train.workers", 2),
    ],
)
def test_science_changes_the_hash(key, value):
    assert config_hash(Config().changed({key: value})) != config_hash(Config())


def test_the_hash_is_that_of_the_values_not_of_how_they_were_written():
    assert config_hash(build_config({"train": {"learning_rate": "2e-5"}})) == config_hash(Config())
    assert config_hash(build_config({"loss": {"comp_weight": 1}})) == config_hash(Config())


def test_the_hash_knows_no_shares_of_a_gpu_and_is_what_it_was_before_there_were_any():
    assert (config_hash(Config()), Config().flat()["train.gpu"]) == ("82bbb0de97b4", False)
    for share in (True, 1.0, 0.5, 0.0001):
        assert config_hash(Config().changed({"train.gpu": share})) == "1c25122f918d"


@pytest.mark.parametrize(
    ("text", "value"),
    [("true", True), ("yes", True), ("1", True), ("1.0", True), ("off", False), ("0", False), ("0.5", 0.5)],
)
def test_a_gpu_is_taken_wholly_in_part_or_not(text: str, value: object):
    gpu = parse(f"--train.gpu={text}").train.gpu
    assert (gpu, type(gpu)) == (value, type(value))


@pytest.mark.parametrize("text", ["1.5", "-0.5", "0.00001", "0.99999", "nan", "null", "half"])
def test_another_share_of_a_gpu_is_refused(text: str):
    with pytest.raises(UserError, match=r"^train\.gpu = .*: must be true, false, or .* a share of a GPU, 0.0001 to 1"):
        parse(f"--train.gpu={text}")


def test_shares_of_a_gpu_are_for_one_worker():
    with pytest.raises(
        UserError, match=r"train\.gpu = 0\.5: .* for one worker, but train\.workers = 2; set --train.gpu=true"
    ):
        parse("--train.gpu=0.5", "--train.workers=2")
    assert parse("--train.gpu=true", "--train.workers=2").train.gpu is True


@pytest.mark.parametrize(
    ("resources", "message"),
    [
        ("tpu", "'tpu' must be NAME=AMOUNT"),
        ("=1", "'=1' must be NAME=AMOUNT"),
        ("tpu=many", "'tpu=many' must be NAME=AMOUNT"),
        ("tpu=0", "'tpu=0': the amount must be from 0.0001 to 1, or a whole number"),
        ("tpu=1.5", "'tpu=1.5': the amount must be"),
        ("tpu=inf", "'tpu=inf': the amount must be"),
        ("GPU=1", "'GPU=1': set train.gpu instead"),
        ("cpu=2", "'cpu=2': set train.threads instead"),
        ("memory=1", "'memory=1': must be a custom resource"),
        ("tpu=1,tpu=2", "must name each resource once"),
    ],
)
def test_resources_that_are_none_are_refused(resources: str, message: str):
    with pytest.raises(UserError, match=rf"^train\.resources:? {message}"):
        parse(f"--train.resources={resources}")


def test_sections_and_leaves_do_not_mix():
    with pytest.raises(UserError, match=r"'train' in 'train\.epochs' must be a section"):
        unflatten({"train": 3, "train.epochs": 3})


names = st.text(string.ascii_lowercase, min_size=1, max_size=4)
leaves = st.one_of(st.none(), st.integers(), st.text(max_size=3), st.lists(st.integers(), max_size=2))
trees = st.recursive(
    st.dictionaries(names, leaves, min_size=1, max_size=3),
    lambda inner: st.dictionaries(names, st.one_of(leaves, inner), min_size=1, max_size=3),
    max_leaves=8,
)


@settings(max_examples=50, deadline=None)
@given(trees)
def test_flattening_and_back_is_the_same_tree(tree):
    assert unflatten(dict(flatten(tree))) == tree
    assert merge(tree) == tree
    assert merge(tree, tree) == tree


flat_trees = st.dictionaries(st.sampled_from(["a.x", "a.y", "a.b.z", "c", "d.w"]), leaves, max_size=5)


@settings(max_examples=50, deadline=None)
@given(flat_trees, flat_trees, flat_trees)
def test_later_trees_win_key_by_key(one, two, three):
    merged = merge(unflatten(one), unflatten(two), unflatten(three))
    assert dict(flatten(merged)) == {**one, **two, **three}


def test_user_errors_end_a_job_with_one_line_and_code_2(capsys):
    def main() -> None:
        raise UserError("train.epochs = 0: must be at least 1")

    with pytest.raises(SystemExit) as caught:
        exit_on_user_error(main)
    assert caught.value.code == 2
    assert capsys.readouterr().err == "error: train.epochs = 0: must be at least 1\n"

    def broken() -> None:
        raise ValueError("a defect")

    with pytest.raises(ValueError, match="a defect"):
        exit_on_user_error(broken)


def test_a_method_that_is_asked_for_beats_the_methods_of_a_resolved_configuration(tmp_path):
    file = tmp_path / "resolved.yaml"
    file.write_text(to_yaml(Config().changed({"sweep.methods": ["aa-ig", "unirex-slm-p"], "method": "aa-ig"})))

    def parsed(*argv: str) -> Config:
        return build_config(parse_job(job_parser("job", "A job."), ["--config", str(file), *argv])[1])

    assert parsed().sweep.methods == ("aa-ig", "unirex-slm-p")
    one = parsed("--method=unirex-slm-fp")
    assert (one.method, one.sweep.methods) == ("unirex-slm-fp", None)
    both = parsed("--method=unirex-slm-fp", "--sweep.methods=a2r,fresh")
    assert both.sweep.methods == ("a2r", "fresh")


def test_labels_are_text_however_they_are_written() -> None:
    for labels in ([0, 1], ["0", "1"]):
        assert build_config({"data": {"labels": labels}}).data.labels == ("0", "1")
    with pytest.raises(UserError, match=r"data\.labels: .*True is of type bool; write it in quotes"):
        build_config({"data": {"labels": ["a", True]}})
    parser = job_parser("job", "")
    assert build_config(parse_job(parser, ["--data.labels=true,false"])[1]).data.labels == ("true", "false")


@pytest.mark.parametrize("labels", ["no, yes", "NO, SE", "False, True", "true, off", "007, 12:30", "2020-01-01, 1_0"])
def test_labels_in_yaml_keep_their_spelling(labels: str, tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(
        f"data: {{labels: [{labels}]}}\ntrain: {{gpu: yes, epochs: 007}}\nmodel: {{convergence_delta: off}}"
    )
    config = parse("--config", str(file))
    assert config.data.labels == tuple(labels.split(", "))
    assert (config.train.gpu, config.train.epochs, config.model.convergence_delta) == (True, 7, False)
    file.write_text(to_yaml(config))
    assert parse("--config", str(file)) == config


def test_a_label_whose_spelling_yaml_loses_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    for label, kind in (("1.50", "float"), ("~", "NoneType"), ("[a]", "list")):
        file.write_text(f"data: {{labels: [{label}, x]}}")
        with pytest.raises(UserError, match=f"is of type {kind}; write it in quotes"):
            parse("--config", str(file))


def test_a_job_may_have_an_option_of_a_sections_name() -> None:
    parser = job_parser("job", "")
    parser.add_argument("--model", dest="folder")
    options, tree = parse_job(parser, ["--model", "some/folder", "--model.layers=2"])
    assert (options.folder, build_config(tree).model.layers) == ("some/folder", 2)


def test_a_renamed_key_keeps_the_hash_that_it_had_and_is_still_read_by_its_former_name():
    changed = Config().changed({"train.activation_checkpointing": True})
    # Literals of version 0.1.0, of the defaults and of train.stream = true; its warm-up began at 0.
    assert config_hash(Config().changed({"train.warmup_from_zero": True})) == "43264b111ffd"
    assert config_hash(changed.changed({"train.warmup_from_zero": True})) == "330f8e0b32fc"
    assert config_hash(Config()) == "82bbb0de97b4"
    assert build_config({"train": {"stream": True}}) == changed
    assert Config().changed({"train.stream": True}) == changed
    for option in ("--train.stream=true", "--train.activation_checkpointing=true"):
        _, tree = parse_job(job_parser("job.py", ""), [option])
        assert build_config(tree) == changed


def test_keys_that_came_later_are_hashed_where_they_differ_from_what_earlier_versions_went_by():
    assert config_hash(Config().changed({"model.log_odds": True})) != config_hash(Config())
    assert with_added_keys({"train.epochs": 3, "train.stream": True}) == {
        "train.epochs": 3,
        "train.activation_checkpointing": True,
        "train.warmup_from_zero": True,
        "model.log_odds": False,
        "loss.sampled_top_k": None,
        "loss.warmup": 0.0,
        "data.rationale_columns": None,
        "data.train_limit": None,
    }
    assert with_added_keys({"train.warmup_from_zero": False})["train.warmup_from_zero"] is False


def test_paths_are_absolute_once_the_configuration_is_read(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("encoder", "embedded", "corpus"):
        (tmp_path / name).mkdir()
    trees = ({"data": {"cache": "new", "source": "corpus"}}, {"model": {"encoder": "encoder"}})
    config = build_config(*trees)
    assert (config.data.cache, config.data.source) == (str(tmp_path / "new"), str(tmp_path / "corpus"))
    assert config.model.encoder == str(tmp_path / "encoder")
    monkeypatch.chdir(tmp_path / "encoder")
    (tmp_path / "encoder" / "encoder").mkdir()
    assert build_config(config.model_dump(mode="json")) == config
    for name in ("embedded", "owner/name", "bert-base-uncased"):
        assert build_config({"model": {"encoder": name}}).model.encoder == name
    uris = {"sqlite:///x.db": f"sqlite:///{tmp_path}/encoder/x.db", "sqlite:////y.db": "sqlite:////y.db"}
    for uri, expected in {**uris, "http://host:5000": "http://host:5000"}.items():
        assert build_config({"tracking": {"uri": uri}}).tracking.uri == expected
    assert build_config({"data": {"source": "hf://datasets/a/b@c"}}).data.source == "hf://datasets/a/b@c"


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--train.epochs=abc", r"train\.epochs = 'abc': input should be a valid integer"),
        ("--loss.top_k_percents=5,x", r"loss\.top_k_percents = 'x'"),
        ("--train.batch_size=0", r"train\.batch_size = .0.: input should be greater than or equal to 1"),
    ],
)
def test_a_value_that_is_wrong_by_itself_is_refused_while_the_command_line_is_parsed(option: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        parse_job(job_parser("job", "A job."), [option])


def test_a_value_that_is_wrong_beside_a_default_waits_for_the_presets() -> None:
    _, tree = parse_job(job_parser("job", "A job."), ["--loss.sampled_top_k=6"])
    with pytest.raises(UserError, match="has 5 to draw from"):
        build_config(tree)
    build_config({"loss": {"top_k_percents": [1, 2, 3, 4, 5, 6]}}, tree)


def test_an_item_that_is_wrong_is_told_without_the_list_that_it_leaves_empty() -> None:
    with pytest.raises(UserError) as error:
        build_config({"sweep": {"seeds": ["a"]}, "train": {"epochs": "x"}})
    told = str(error.value).split("; ")
    assert [line.split(":")[0] for line in told] == ["train.epochs = 'x'", "sweep.seeds = 'a'"]
