"""An encoder's own Python code runs where the command line says so, whatever a file says."""

import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from helpers.exports import Made, change, make, save_old, vouch
from helpers.job_module import job_module
from helpers.marks import slow
from helpers.tiny import tiny_config, tiny_corpus
from helpers.trained_sweep import trained_sweep

from unirex_ray.cli.next_steps import after_export
from unirex_ray.cli.parser import job_parser, parse_job
from unirex_ray.config import Config, to_yaml
from unirex_ray.errors import UserError
from unirex_ray.inference.evaluate import evaluate
from unirex_ray.inference.export import PROVENANCE
from unirex_ray.inference.find import find_models
from unirex_ray.inference.model import SETTINGS, load_model
from unirex_ray.models.card import MODEL, ModelCard
from unirex_ray.models.design import Design
from unirex_ray.models.encoder import load_tokenizer
from unirex_ray.models.store import save_model
from unirex_ray.training.checkpoint import CheckpointStore
from unirex_ray.training.completed import completed_model

CONFIG = """from pathlib import Path

from transformers import BertConfig


def tell():
    Path({marker!r}).touch()


tell()


class OwnConfig(BertConfig):
    model_type = "own-bert"
"""
MODEL_CODE = """from transformers import BertModel

from .own_config import OwnConfig, tell

tell()


class OwnModel(BertModel):
    config_class = OwnConfig

    def __init__(self, config, **options):
        tell()
        super().__init__(config, **options)
"""
AUTO_MAP = {"AutoConfig": "own_config.OwnConfig", "AutoModel": "own_model.OwnModel"}
CORPUS = tiny_corpus((20, 8, 12))
Run = Callable[..., str]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("remote")


@pytest.fixture(scope="module")
def marker(place: Path) -> Path:
    return place / "the code has run"


def give_code(folder: Path, marker: Path) -> None:
    """Make an encoder's configuration name Python code beside it, which leaves a marker whenever it runs."""
    change(folder / "config.json", auto_map=AUTO_MAP, model_type="own-bert")
    (folder / "own_config.py").write_text(CONFIG.format(marker=str(marker)))
    (folder / "own_model.py").write_text(MODEL_CODE)


def rewrite(exported: Path, values: dict[str, dict]) -> None:
    """Give files of settings some keys, take the code's names from the others, and vouch for all of them."""
    for name in ("config.json", "tokenizer_config.json"):
        file = exported / "encoder" / name
        content = json.loads(file.read_text())
        content.pop("auto_map", None)
        file.write_text(json.dumps(content | values.get(name, {})))
    vouch(exported)


@pytest.fixture(scope="module")
def config(encoders: dict[str, str], place: Path, marker: Path) -> Config:
    encoder = shutil.copytree(encoders["bert"], place / "encoder")
    give_code(encoder, marker)
    return tiny_config(str(encoder), train__epochs=1, model__trust_remote_code=True)


@pytest.fixture(scope="module")
def swept(config: Config, place: Path, marker: Path) -> Path:
    """What a sweep left whose user allowed the code."""
    folder = place / "swept"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(place / "modules"))
        patch.syspath_prepend(place / "modules")
        folder.mkdir()
        trained_sweep(folder, config, CORPUS, ("unirex-slm-fp",), (0,))
    assert marker.exists()
    return folder


@pytest.fixture(autouse=True)
def _own_cache(swept: Path, place: Path, marker: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(place / "modules"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    marker.unlink(missing_ok=True)


def store_of(swept: Path) -> CheckpointStore:
    return CheckpointStore(swept / "trials" / "s1-unirex-slm-fp-0003-s0")


@pytest.fixture
def exported(swept: Path, marker: Path, tmp_path: Path) -> Path:
    config, model, card = completed_model(store_of(swept), trust_remote_code=True) or pytest.fail("no trial")
    folder = tmp_path / "model"
    save_model(folder, model, load_tokenizer(config.model), config.model, card)
    (folder / SETTINGS).write_text(to_yaml(config))
    provenance = {"trial_id": "t", "data_digest": "abc", "tracking_uri": "sqlite:////nowhere/mlflow.db"}
    (folder / PROVENANCE).write_text(json.dumps(provenance))
    assert marker.exists()
    marker.unlink()
    return folder


@pytest.fixture
def refused(marker: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a job that has to be refused without the code being run; returns the line."""

    def run(job: str, *arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", [f"{job}.py", *arguments])
        with pytest.raises(UserError, match="asks to run Python code that ships with an encoder") as caught:
            job_module(job).main()
        assert not marker.exists()
        line = str(caught.value)
        assert "\n" not in line
        assert "add --model.trust_remote_code to the command line" in line
        return line

    return run


@pytest.mark.slow
def test_an_exported_model_runs_no_code_unless_told_to(
    exported: Path, marker: Path, refused: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert {path.name for path in (exported / "encoder").glob("*.py")} == {"own_config.py", "own_model.py"}
    text = (f"--model={exported}", "--text=good1 w1")
    assert str(exported / MODEL) in refused("explain", *text)
    assert str(exported / MODEL) in refused("explain", *text, "--model.trust_remote_code=false")
    assert str(exported / MODEL) in refused("evaluate", f"--model={exported}", "--data.name=reviews")
    with pytest.raises(UserError, match="asks to run Python code"):
        find_models(exported)  # before a corpus is read
    for option in ("--model.trust_remote_code", "--model.trust_remote_code=true"):
        monkeypatch.setattr(sys, "argv", ["explain.py", *text, option])
        job_module("explain").main()
        assert "prediction: " in capsys.readouterr().out
        assert marker.exists()
        marker.unlink()


@pytest.mark.slow
def test_a_sweeps_output_runs_no_code_unless_told_to(swept: Path, config: Config, marker: Path) -> None:
    with pytest.raises(UserError, match=r"config\.yaml' asks to run Python code .* add --model.trust_remote_code"):
        list(evaluate(find_models(swept).models, CORPUS, config))
    assert not marker.exists()
    (trusted,) = evaluate(find_models(swept, trust_remote_code=True).models, CORPUS, config)
    assert trusted.evaluation.method == "unirex-slm-fp"
    assert marker.exists()


@pytest.mark.slow
@pytest.mark.parametrize("key", ["config.json", "tokenizer_config.json"])
def test_code_that_only_a_configuration_names_is_refused_as_well(
    exported: Path, key: str, marker: Path, refused: Run
) -> None:
    change(exported / MODEL, model__trust_remote_code=False)
    rewrite(exported, {key: {"auto_map": AUTO_MAP}})
    line = refused("explain", f"--model={exported}", "--text=good1 w1")
    assert f"encoder/{key}' asks" in line
    assert "(auto_map)" in line
    (trained,) = find_models(exported).models
    with pytest.raises(UserError, match=rf"{key}' asks to run Python code .* \(auto_map\)"):
        trained.load()
    assert not marker.exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    "values", [{"attn_implementation": "somebody/attention"}, {"text": [{"attn_implementation": "a/b"}]}]
)
def test_an_attention_kernel_from_the_hub_is_code(values: dict, exported: Path, refused: Run) -> None:
    change(exported / MODEL, model__trust_remote_code=False)
    rewrite(exported, {"config.json": values})
    assert "(attn_implementation)" in refused("explain", f"--model={exported}", "--text=good1 w1")


@pytest.mark.slow
def test_code_that_did_not_run_is_not_named_by_an_export(config: Config, marker: Path, tmp_path: Path) -> None:
    encoder = shutil.copytree(config.model.encoder, tmp_path / "encoder")
    change(encoder / "config.json", model_type="bert")  # the library has a class of its own
    change(encoder / "tokenizer_config.json", auto_map={"AutoTokenizer": [None, "own_model.OwnTokenizer"]})
    save_model(tmp_path / "model", *make(str(encoder)))
    assert load_model(tmp_path / "model").explain("good1 w1")[0].predicted
    assert not marker.exists()


@pytest.mark.parametrize("asks", [True, False])
def test_folders_of_the_earlier_version_run_no_code(
    swept: Path, asks: bool, marker: Path, tmp_path: Path, refused: Run
) -> None:
    config, model, card = completed_model(store_of(swept), trust_remote_code=True) or pytest.fail("no trial")
    settings = config.model.model_copy(update={"trust_remote_code": asks})
    save_old(tmp_path / "old", Made(model, load_tokenizer(config.model), settings, card))
    give_code(tmp_path / "old", marker)
    marker.unlink()
    refused("explain", f"--model={tmp_path / 'old'}", "--text=good1 w1")
    if asks:
        assert load_model(tmp_path / "old", trust_remote_code=True).explain("good1 w1")[0].predicted
        assert marker.exists()


@pytest.mark.parametrize("job", ["train", "compare", *slow("sweep", "export_best", "evaluate", "prepare_data")])
def test_no_configuration_file_can_allow_it(exported: Path, job: str, refused: Run) -> None:
    own = (f"--model={exported}",) if job == "evaluate" else ()
    assert SETTINGS in refused(job, f"--config={exported / SETTINGS}", *own)


def test_an_encoder_runs_no_code_unless_told_to(config: Config, refused: Run, tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump({"model": {"encoder": config.model.encoder}, "data": {"limit": 8}}))
    line = refused("train", f"--config={file}", f"--output={tmp_path / 'out'}")
    assert f"{config.model.encoder!r} asks" in line


@pytest.mark.parametrize("presets", [{"model": {"trust_remote_code": "yes"}}, {"model.trust_remote_code": 1}])
def test_no_search_space_can_allow_it(presets: dict, tmp_path: Path, refused: Run) -> None:
    space = tmp_path / "space.yaml"
    space.write_text(yaml.safe_dump({"config": presets}))
    assert str(space) in refused("sweep", f"--space={space}", "--data.name=sst", f"--output={tmp_path / 'out'}")


def test_it_is_no_parameter_of_a_search(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    space = tmp_path / "space.yaml"
    space.write_text(yaml.safe_dump({"parameters": {"model.trust_remote_code": {"choice": [True]}}}))
    monkeypatch.setattr(sys, "argv", ["sweep.py", f"--space={space}", "--data.name=sst"])
    with pytest.raises(UserError, match=r"'model\.trust_remote_code' cannot be a parameter of a search"):
        job_module("sweep").main()


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["--model.trust_remote_code"], "true"),
        (["--model.trust_remote_code", "--train.epochs=1"], "true"),
        (["--model.trust_remote_code", "true"], "true"),
        (["--model.trust_remote_code=true"], "true"),
        (["--model.trust_remote_code=false"], "false"),
    ],
)
def test_the_command_line_decides_over_a_file(given: list[str], expected: str, tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("model: {trust_remote_code: true}")
    _, tree = parse_job(job_parser("train.py", ""), [f"--config={file}", *given])
    assert str(tree["model"]["trust_remote_code"]).lower() == expected


CARD = ModelCard(
    method="aa-ig",
    designs=(Design(extractor="aa-ig"),),
    labels=("no", "yes"),
    task_metric="accuracy",
    multi_choice=False,
    max_length=96,
    truncation="head",
)


def test_the_next_commands_say_it_again(config: Config) -> None:
    assert all(command.endswith(" --model.trust_remote_code") for command in after_export("model", config, CARD))
    plain = config.changed({"model.trust_remote_code": False})
    assert not any("trust" in command for command in after_export("model", plain, CARD))
    choosing = [{"multi_choice": True, "segments": segments} for segments in (1, 2)]
    explained = [
        [command for command in after_export("model", plain, replace(CARD, **changes)) if "explain.py" in command]
        for changes in ({"segments": 1}, {"segments": 2}, {"segments": None}, *choosing)
    ]
    single = 'python jobs/explain.py --model model --text "..."'
    choices = '--choice "..." --choice "..."'
    choice = f"python jobs/explain.py --model model {choices}"
    assert explained == [[single], [f'{single} --second "..."'], [single], [choice], [f"{single} {choices}"]]
