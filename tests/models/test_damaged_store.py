"""Saved models that are damaged, or ask for too much: named, and refused before they are loaded."""

import contextlib
import json
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.exports import Made, change, vouch
from helpers.marks import slow
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from unirex_ray.errors import UserError
from unirex_ray.models.card import MODEL
from unirex_ray.models.classifier import probe_batch, task_logits
from unirex_ray.models.store import WEIGHTS, load_model
from unirex_ray.models.stored_tensors import read_header, without_memory


@pytest.fixture
def copied(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "copy"))


@pytest.fixture
def copied_old(old: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(old, tmp_path / "old"))


def refused(folder: Path, what: str) -> str:
    with pytest.raises(UserError) as caught:
        load_model(folder)
    line = str(caught.value)
    assert "\n" not in line
    assert line.startswith(f"{str(folder)!r} is damaged: ")
    assert line.endswith("; export the model again")
    assert what in line, line
    return line


@pytest.mark.parametrize(
    ("values", "what"),
    [
        ({"designs": [{"extractor": "magic"}]}, "designs.0.extractor = 'magic'"),
        ({"designs": [{"extractor": "selection", "top_k_percent": 10}]}, "builds on an earlier stage"),
        ({"designs": [{"extractor": "selection", "top_k_percent": 101}]}, "designs.0.top_k_percent = 101"),
        ({"designs": []}, "designs = []"),
        ({"task_metric": "bleu"}, "task_metric = 'bleu'"),
        ({"truncation": "tail"}, "truncation = 'tail'"),
        ({"max_length": -1}, "max_length = -1"),
        ({"max_length": 10**12}, "max_length = 1000000000000: Input should be less than or equal to"),
        ({"max_length": 97}, "max_length = 97 is more than the encoder takes"),
        ({"max_length": "96"}, "max_length = '96'"),
        ({"seed": -1}, "seed = -1"),
        ({"multi_choice": "yes"}, "multi_choice = 'yes'"),
        ({"labels": ["a", "b", "a"]}, "the labels must differ"),
        ({"labels": ["a", "b", ""]}, "labels.2 = ''"),
        ({"labels": ["a", "b", 3]}, "labels.2 = 3"),
        ({"labels": ["a", "b"]}, "has 2 labels (multi_choice = False), but the task model has 3 outputs"),
        ({"multi_choice": True}, "has 3 labels (multi_choice = True), but the task model has 3 outputs"),
        ({"model__layers": 10**9}, "model.layers = 1000000000"),
        ({"model__layers": -1}, "model.layers = -1"),
        ({"model__ig_steps": 10**6}, "model.ig_steps = 1000000"),
        ({"model__head": "mlp-9999999-9"}, "model.head = 'mlp-9999999-9'"),
        ({"model__head": "mlp-2048-2"}, "the weights lack tensor extractor.head"),
        ({"model__trust_remote_code": "true"}, "model.trust_remote_code = 'true'"),
        ({"model": None}, "model. = None"),
        ({"layout__folder": "../.."}, "layout.folder = '../..'"),
        ({"layout__folder": "encoder"}, "encoder/config.json is missing"),
        ({"layout__files": {}}, "task_model/config.json is not the file that was exported"),
        ({"layout__files": {"../x": "0" * 64}}, "layout.files.../x"),
        ({"layout__tensors": {}}, "the weights lack tensor task_model."),
        ({"layout__tensors": {"task_model.head.bias": "bert.x"}}, "names other tensors than there are"),
        ({"colour": "blue"}, "colour = 'blue'"),
    ],
)
def test_a_card_that_cannot_be_right_is_refused(copied: Path, values: dict[str, Any], what: str) -> None:
    change(copied / MODEL, **values)
    refused(copied, what)


@pytest.mark.parametrize("folder", ["copied", "copied_old"])
@pytest.mark.parametrize(
    ("values", "what"),
    [
        ({"num_hidden_layers": 10**6}, "config.json asks for num_hidden_layers = 1e+06, but the weights are"),
        ({"num_labels": 10**9}, "config.json asks for num_labels = 1e+09"),
        ({"vocab_size": 10**12}, "config.json asks for vocab_size = 1e+12"),
        ({"vocab_size": 1 << 20}, "word_embeddings.weight is F32 [144, 32], but the model's [1048576, 32]"),
        ({"hidden_size": 1 << 19, "vocab_size": 1 << 20}, "but the model's [1048576, 524288]"),
        ({"intermediate_size": 1 << 20}, "but the model's"),
        ({"num_hidden_layers": 3}, "the weights lack tensor"),
        ({"num_hidden_layers": 1}, "the weights have an unknown tensor"),
        ({"hidden_size": "big"}, ""),
        ({"model_type": "gpt2"}, ""),
        ({"model_type": "no-such-type"}, ""),
    ],
)
def test_a_configuration_that_asks_for_too_much_is_refused_before_memory_is_taken(
    folder: str, values: dict[str, Any], what: str, request: pytest.FixtureRequest
) -> None:
    place: Path = request.getfixturevalue(folder)
    file = place / ("task_model/config.json" if folder == "copied" else "config.json")
    change(file, **values)
    if folder == "copied":
        refused(place, "task_model/config.json is not the file that was exported")
        vouch(place)
    begun = time.monotonic()
    refused(place, what)
    assert time.monotonic() - begun < 20


def test_modules_are_counted_while_they_are_built(whole: Path) -> None:
    stored = read_header(whole / WEIGHTS)
    with pytest.raises(ValueError, match="many more than the 2 tensors"), without_memory(stored):
        torch.nn.ModuleList(torch.nn.Linear(1, 1) for _ in range(10**6))
    assert torch.nn.Linear(1, 1).weight.device.type == "cpu"


def test_a_file_of_the_tokenizer_that_is_missing_or_changed_is_named(copied: Path) -> None:
    files = json.loads((copied / MODEL).read_text())["layout"]["files"]
    assert {"tokenizer.json", "tokenizer_config.json"} < set(files)
    for name in files:
        file = copied / "task_model" / name
        content = file.read_bytes()
        file.unlink()
        refused(copied, f"task_model/{name} is missing")
        file.write_bytes(content + b" ")
        refused(copied, f"task_model/{name} is not the file that was exported")
        file.write_bytes(content)
    load_model(copied)


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json", "config.json"])
def test_a_missing_file_is_named_in_a_folder_of_the_earlier_version(copied_old: Path, name: str) -> None:
    (copied_old / name).unlink()
    refused(copied_old, f"{name} is missing")


@pytest.mark.parametrize("name", [MODEL, WEIGHTS, "task_model/model.safetensors"])
@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_cut_files_are_refused(copied: Path, name: str, share: float) -> None:
    content = (copied / name).read_bytes()
    (copied / name).write_bytes(content[: int(share * len(content))])
    refused(copied, "")


@pytest.mark.parametrize("name", [WEIGHTS, "task_model/model.safetensors"])
def test_a_changed_bit_of_a_weight_is_refused(copied: Path, name: str) -> None:
    content = bytearray((copied / name).read_bytes())
    content[-8] ^= 1
    (copied / name).write_bytes(content)
    refused(copied, f"{name} is not the file that was exported")


VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 300),
    st.integers(-(10**12), 10**12),
    st.sampled_from([2**31, 2**63, -(2**63), 10**30]),
    st.floats(),
    st.sampled_from(["", "a", "encoder", "task_model", "dlm", "aa-grad", "sdpa", "gelu", "relu", "float16", "roberta"]),
    st.text(max_size=5),
    st.lists(st.integers(-1, 5) | st.text(max_size=2), max_size=4),
    st.dictionaries(st.text(max_size=3), st.integers(0, 3), max_size=2),
)


def mutate(content: Any, data: st.DataObject) -> None:
    """Change, remove or add one field, at any depth."""
    node = content
    while True:
        keys = list(node) if isinstance(node, dict) else list(range(len(node)))
        key = data.draw(st.sampled_from([*keys, None]) if keys else st.none())
        if key is None:
            if isinstance(node, dict):
                node[data.draw(st.text(max_size=4))] = data.draw(VALUES)
            else:
                node.append(data.draw(VALUES))
            return
        if isinstance(node[key], dict | list) and data.draw(st.booleans()):
            node = node[key]
            continue
        if data.draw(st.integers(0, 5)):
            node[key] = data.draw(VALUES)
        else:
            del node[key]
        return


@pytest.mark.slow
@pytest.mark.parametrize("place", ["card", "config", *slow("vouched", "old card", "old config")])
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_one_changed_field_changes_nothing_or_is_refused(
    place: str, data: st.DataObject, whole: Path, old: Path, made: Made, tmp_path: Path
) -> None:
    source, folder = old if "old" in place else whole, tmp_path / "copy"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(source, folder)
    if "card" in place:
        files = [folder / MODEL]
    else:
        part = folder if "old" in place else folder / "task_model"
        files = [part / name for name in ("config.json", "tokenizer_config.json")]
    file = data.draw(st.sampled_from(files))
    content = json.loads(file.read_text())
    mutate(content, data)
    file.write_text(json.dumps(content))
    if place == "vouched":
        vouch(folder)
    begun = time.monotonic()
    with contextlib.suppress(UserError):
        loaded, _, _ = load_model(folder)
        # A changed configuration is found out by its digest, which folders of the earlier version lack.
        if "card" in place or place == "config":
            batch = probe_batch(made.tokenizer, made.model.task_model.encoder, made.card)
            assert torch.equal(*(task_logits(model.task_model, batch) for model in (loaded, made.model)))
    assert time.monotonic() - begun < 20
