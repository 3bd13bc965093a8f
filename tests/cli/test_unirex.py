"""The `unirex` command calls each job by its name."""

import subprocess
import sys
from collections.abc import Callable

import pytest
from helpers.job_module import JOBS as FOLDER

from unirex_ray.cli import calls
from unirex_ray.cli.unirex import JOBS, main, usage

NAMES = [job for section in JOBS.values() for job in section]
Unirex = Callable[..., tuple[int, str, str]]


@pytest.fixture
def unirex(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Unirex:
    """Runs the command; returns its exit code and what it printed."""

    def run(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["/somewhere/bin/unirex", *words])
        try:
            main()
        except SystemExit as ended:
            return ended.code, *capsys.readouterr()
        return 0, *capsys.readouterr()

    return run


def test_every_job_has_a_name() -> None:
    assert sorted(NAMES) == sorted(file.stem for file in FOLDER.glob("*.py"))
    assert max(map(len, usage().splitlines())) <= 80
    assert all(f"  {name.replace('_', '-')} " in usage() for name in NAMES)


@pytest.mark.parametrize("words", [(), ("--help",)])
def test_alone_it_lists_them(unirex: Unirex, words: tuple[str, ...]) -> None:
    assert unirex(*words) == (0, f"{usage()}\n", "")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["compar"], "unknown command 'compar' (did you mean 'compare'?); choose from sweep, compare"),
        (["compare", "--ouput=x"], "unknown option --ouput (did you mean 'output'?)"),
        (["export-best", "--train.epochs=1"], "unirex export-best does not read --train.epochs; leave it out"),
        (["export_best", "--train.epochs=1"], "unirex export-best does not read --train.epochs; leave it out"),
        (["ui", "nowhere"], "--output 'nowhere': no runs are recorded there"),
        (["ui", "--port=x"], "argument --port: invalid int value: 'x'"),
    ],
)
def test_what_cannot_be_is_one_line(unirex: Unirex, words: list[str], told: str) -> None:
    code, printed, errors = unirex(*words)
    assert (code, printed) == (2, "")
    assert errors.startswith(f"error: {told}")
    assert errors.count("\n") == 1


@pytest.mark.parametrize("job", NAMES)
def test_help_waits_for_no_library_and_lists_what_is_common_first(job: str) -> None:
    code = f"import sys; sys.argv = ['unirex', {job!r}, '--help']\nfrom unirex_ray.cli.unirex import main\n"
    code += "try: main()\nfinally: print('heavy:', {'torch', 'ray', 'mlflow', 'optuna', 'rich'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={"COLUMNS": "80"})
    lines = done.stdout.splitlines()
    assert lines[-1] == "heavy: set()"
    assert lines[0].startswith(f"usage: unirex {job.replace('_', '-')}")
    assert max(map(len, lines)) <= 80
    if job == "sweep":
        sections = [line for line in lines if line.endswith("options:")]
        assert sections[:2] == ["options:", "further data options:"]
        common = done.stdout[: done.stdout.index(sections[1])]
        assert all(f"--{key} " in common for key in ("space", "resume", "data.name", "output", "sweep.seeds"))
        assert "--loss.comp " not in common


def test_a_next_command_is_typed_as_this_one_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["jobs/sweep.py", "--resume", "--output=my output"])
    assert calls.command("export_best") == "python jobs/export_best.py"
    assert calls.program("export_best") == "export_best.py"
    assert calls.resume_command(sys.argv) == "python jobs/sweep.py '--output=my output' --resume"
    monkeypatch.setattr(sys, "argv", calls.argv_of("sweep", ["--other-code", "--output=my output"]))
    assert calls.command("export_best") == calls.program("export_best") == "unirex export-best"
    assert calls.resume_command(sys.argv) == "unirex sweep '--output=my output' --resume"
