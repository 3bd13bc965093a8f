"""What `--help` of each job says, and that the commands of the documentation are accepted."""

import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from helpers.job_module import JOBS, job_module
from helpers.marks import slow

from unirex_ray.cli.parser import ChooseSpace, Parser, job_parser, parse_job
from unirex_ray.config import Config, build_config, config_keys, to_yaml
from unirex_ray.errors import exit_on_user_error
from unirex_ray.sweep.shipped import shipped_spaces
from unirex_ray.sweep.space import load_space

ROOT = JOBS.parent
CONFIGURED = ("sweep", "train", "compare", "export_best", "evaluate", "prepare_data", "benchmark")
Help = Callable[..., str]


@pytest.fixture
def help_of(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Help:
    """Runs a job with `--help`; returns its text in one line."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "1000")  # argparse breaks lines at hyphens

    def run(job: str, *arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", [f"{job}.py", *arguments, "--help"])
        with pytest.raises(SystemExit) as ended:
            exit_on_user_error(job_module(job).main)
        assert ended.value.code == 0
        text = capsys.readouterr().out.partition("options:\n")[2]
        return " ".join(text.split())

    return run


def default(text: str, key: str) -> str:
    """What help says in brackets of a key's default."""
    described = re.split(r" --[\w.]+ ", text.partition(f"--{key} ")[2])[0]
    return "".join(re.findall(r"\(default: ([^()]*)\)", described)[-1:])


def test_a_sweeps_help_has_the_defaults_of_the_space_that_it_takes(help_of: Help, tmp_path: Path) -> None:
    demo = help_of("sweep")
    assert default(demo, "data.limit") == "320, from quick.yaml"
    assert default(demo, "train.epochs") == "1, from quick.yaml"
    assert default(demo, "loss.top_k_percents") == "20,50, from quick.yaml"
    assert default(demo, "sweep.methods") == "aa-ig,unirex-dlm-p,unirex-slm-fp, from quick.yaml"
    assert default(demo, "train.learning_rate") == "searched, as quick.yaml says"
    assert default(demo, "train.patience") == "5"
    assert default(demo, "train.gpu") == "false"
    assert "--space NAME What to search, with presets: ablation-extractor-f, " in demo

    paper = help_of("sweep", "--space", "paper", "--data.name=sst")
    assert default(paper, "data.limit") == ""
    assert default(paper, "train.epochs") == "10, from paper.yaml"
    assert default(paper, "train.learning_rate") == "2e-05, from paper.yaml"
    assert default(paper, "loss.comp_weight") == "searched, as paper.yaml says"

    (tmp_path / "my.yaml").write_text("train: {epochs: 7, learning_rate: 1.0e-3}\nsweep: {rungs: []}\noutput: 50%")
    both = help_of("sweep", "--config=my.yaml")
    assert default(both, "train.epochs") == "7, from my.yaml"
    assert default(both, "train.learning_rate") == "0.001, from my.yaml"  # what is set is not searched
    assert default(both, "output") == "50%, from my.yaml"
    assert default(both, "train.batch_size") == "8, from quick.yaml"
    assert default(both, "sweep.rungs") == "none, from my.yaml"


def test_the_defaults_in_help_are_those_that_are_used(help_of: Help) -> None:
    for name, file in shipped_spaces().items():
        text, space = help_of("sweep", f"--space={name}"), load_space(file)
        config = build_config(space.presets).flat()
        for parameter in space.parameters:
            config[parameter.key] = f"searched, as {name}.yaml says"
        for key, value in config.items():
            if key in ("method", "train.seed") or value is None:
                continue
            words = ",".join(map(str, value)) or "none" if isinstance(value, list) else str(value)
            assert default(text, key).lower().removesuffix(f", from {name}.yaml") == words.lower(), (name, key)


def test_help_without_a_space_says_what_is_missing(help_of: Help) -> None:
    text = help_of("sweep", "--data.name=sst")
    assert "this command is refused: data.name=sst needs a search space" in text
    assert default(text, "train.epochs") == "10"


@pytest.mark.parametrize("job", CONFIGURED)
def test_every_job_tells_the_defaults_of_its_configuration_file(help_of: Help, tmp_path: Path, job: str) -> None:
    (tmp_path / "my.yaml").write_text(
        to_yaml(Config().changed({"data.name": "irony", "model.layers": 2, "data.max_length": 9}))
    )
    text = help_of(job, "--config", "my.yaml", *(["--space=quick"] if job == "sweep" else []))
    shown = {key for key in config_keys() if f" --{key} " in text}
    assert shown
    changed = {"data.name": "irony", "model.layers": "2", "data.max_length": "9"}
    for key in shown & changed.keys():
        assert default(text, key) == f"{changed[key]}, from my.yaml"


@pytest.mark.parametrize(
    ("job", "shown", "hidden"),
    [
        ("compare", {"data.name", "output", "tracking.uri", "sweep.nrg_weights"}, None),
        (
            "export_best",
            {"data.name", "output", "tracking.uri", "sweep.nrg_weights", "method", "model.trust_remote_code"},
            None,
        ),
        *slow(("train", {"train.seed", "sweep.max_failures"}, {"sweep.seeds", "sweep.methods", "tracking.uri"})),
        ("sweep", {"sweep.seeds", "tracking.uri", "train.epochs"}, {"train.seed"}),
        *slow(
            ("prepare_data", {"data.labels", "model.encoder"}, {"train.epochs", "model.head", "data.gold_percent"}),
            ("evaluate", {"data.labels", "train.gpu", "method"}, {"train.epochs", "model.head", "data.gold_percent"}),
            ("benchmark", {"method", "model.encoder", "loss.comp"}, {"data.name", "train.epochs", "output"}),
        ),
    ],
)
def test_help_shows_what_a_job_reads(help_of: Help, job: str, shown: set[str], hidden: set[str] | None) -> None:
    found = {key for key in config_keys() if f" --{key} " in help_of(job)}
    assert shown <= found
    if hidden is None:
        assert found == shown
    else:
        assert not found & hidden


def test_help_of_a_default_that_the_job_makes(help_of: Help) -> None:
    assert default(help_of("compare"), "sweep.nrg_weights") == "as the sweeps did"
    assert default(help_of("evaluate"), "output") == "where the models lie"


def test_help_needs_no_heavy_library(tmp_path: Path) -> None:
    code = "import sys, runpy; sys.argv = ['sweep.py', '--help']\n"
    code += f"try: runpy.run_path({str(JOBS / 'sweep.py')!r}, run_name='__main__')\n"
    code += "finally: print('heavy:', {'torch', 'ray', 'mlflow'} & set(sys.modules))"
    told = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert "heavy: set()" in told.stdout


def test_what_a_job_does_not_read_is_left_out_of_a_file(tmp_path: Path) -> None:
    file = tmp_path / "resolved.yaml"
    file.write_text(to_yaml(Config().changed({"train.epochs": 3, "data.name": "sst"})))
    parser = job_parser("compare.py", "", reads=["data.name", "sweep.nrg"])
    _, tree = parse_job(parser, [f"--config={file}"])
    assert tree == {"data": {"name": "sst"}, "sweep": {"nrg_weights": [1.0, 1.0, 1.0]}}


def documented() -> Iterator[str]:
    """Every job's command of the documentation, each once."""
    pages = [ROOT / "README.md", *(file for folder in FOLDERS for file in (ROOT / folder).rglob("*.md"))]
    for file in [*pages, *(ROOT / "search_spaces").glob("*.yaml")]:
        text = file.read_text(encoding="utf-8").replace("\\\n", " ")
        indented = [line for line in text.splitlines() if re.match(r"#? {2,}", line)]
        yield from (found for line in indented for found in re.findall(r"python (jobs/\w+\.py.*)", line))


FOLDERS = ("jobs", "search_spaces", "unirex_ray", "tests", ".github")
COMMANDS = sorted(set(documented()))


class Parsed(Exception):  # noqa: N818
    """Ends a job once it has parsed."""


def test_there_are_commands_of_every_job() -> None:
    assert {command.split()[0] for command in COMMANDS} == {f"jobs/{file.name}" for file in JOBS.glob("*.py")}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_documented_command_is_accepted(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    job, *arguments = shlex.split(command, comments=True)
    module = job_module(Path(job).stem)

    def parse(parser: Parser, argv: list[str], choose_space: ChooseSpace | None = None) -> None:
        own, tree = parse_job(parser, argv, choose_space)
        build_config(tree)
        if choose_space:
            choose_space(own, tree)
        raise Parsed

    def load_model(*arguments: object, **options: object) -> None:
        raise Parsed

    monkeypatch.chdir(ROOT)
    monkeypatch.setattr("unirex_ray.cli.parser.load_yaml", lambda file: {})  # what --config names is not there
    monkeypatch.setattr("unirex_ray.load_model", load_model)
    monkeypatch.setattr("unirex_ray.tracking.choose.uri_of_output", load_model)
    monkeypatch.setattr(module, "parse_job", parse, raising=False)
    monkeypatch.setattr(sys, "argv", [job, *arguments])
    with pytest.raises(Parsed):
        module.main()
