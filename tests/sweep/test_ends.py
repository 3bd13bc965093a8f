"""How a sweep ends before it is done, at the level of signals; `test_run` has it with a cluster."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from unirex_ray.config import ModelConfig
from unirex_ray.errors import StoppedError, exit_on_user_error
from unirex_ray.models.encoder import load_encoder
from unirex_ray.sweep.ends import Stop, cluster_watched, signals_noted, signals_stop

ENDS = [(signal.SIGINT, "Ctrl-C"), (signal.SIGTERM, "SIGTERM"), (signal.SIGHUP, "the end of its terminal")]


@pytest.fixture(autouse=True)
def none_is_ignored() -> Iterator[None]:
    """As some would be where the tests run in the background."""
    before = {number: signal.signal(number, signal.SIG_DFL) for number, _ in ENDS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize(("number", "name"), ENDS)
def test_a_signal_stops_at_once_or_at_the_next_check(number: signal.Signals, name: str) -> None:
    before, done = signal.getsignal(number), list[str]()

    @signals_stop()
    def at_once() -> None:
        os.kill(os.getpid(), number)
        done.append("more")

    def at_a_check() -> None:
        stop = Stop()
        with signals_noted(stop):
            stop.check()
            os.kill(os.getpid(), number)
            done.append("what was in its middle")
            stop.check()
            done.append("more")

    def at_the_end() -> None:
        with signals_noted(Stop()):
            os.kill(os.getpid(), number)
            done.append("the rest")

    for stops in (at_once, at_a_check, at_the_end):
        with pytest.raises(StoppedError, match=f"stopped by {name}") as stopped:
            stops()
        assert stopped.value.exit_code == 128 + number
        assert signal.getsignal(number) is before
    assert done == ["what was in its middle", "the rest"]


def test_a_signal_in_the_middle_of_a_library_is_no_error_of_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    def from_pretrained(*_: object, **__: object) -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr("transformers.AutoConfig.from_pretrained", from_pretrained)
    with pytest.raises(StoppedError, match="stopped by SIGTERM"), signals_stop():
        load_encoder(ModelConfig(encoder="anything"))


def test_a_second_signal_ends_as_usual_and_an_ignored_one_stays_ignored() -> None:
    def stops() -> None:
        with signals_noted(Stop()):
            os.kill(os.getpid(), signal.SIGTERM)
            assert signal.getsignal(signal.SIGTERM) is signal.getsignal(signal.SIGINT) is signal.SIG_DFL

    with pytest.raises(StoppedError):
        stops()
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with signals_stop():
            os.kill(os.getpid(), signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)


def test_in_another_thread_signals_are_left_alone() -> None:
    seen = []
    before = signal.getsignal(signal.SIGTERM)

    def other() -> None:
        with signals_stop(), signals_noted(Stop()):
            seen.append(signal.getsignal(signal.SIGTERM) is before)

    thread = threading.Thread(target=other)
    thread.start()
    thread.join()
    assert seen == [True]


def test_a_full_disk_ends_a_sweep_at_the_next_check_and_another_error_at_once() -> None:
    stop = Stop()
    with stop.instead_of_disk_errors():
        raise OSError(28, "No space left on device")
    with pytest.raises(OSError, match="No space left"):
        stop.check()
    with pytest.raises(KeyError), Stop().instead_of_disk_errors():
        raise KeyError


WATCHED = """
import sys, time
from unirex_ray.sweep import ends
ends._LOOK_SECONDS = 0.02
answers = iter([True, False, False, True] + [False] * 100)
stop = ends.Stop()
if "SIGTERM" in sys.argv:
    stop.ask(ends.StoppedError("stopped by SIGTERM", exit_code=143))
with ends.cluster_watched(lambda: next(answers), stop, lambda why: print(why, flush=True)):
    time.sleep(90)
print("goes on")
"""


@pytest.mark.parametrize(
    ("asked", "code", "told"),
    [("", 1, "stopped, as its Ray cluster does not answer any more\n"), ("SIGTERM", 143, "stopped by SIGTERM\n")],
)
def test_a_process_ends_with_its_cluster(asked: str, code: int, told: str) -> None:
    done = subprocess.run([sys.executable, "-c", WATCHED, asked], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (code, told, "")


def test_a_cluster_that_answers_again_is_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unirex_ray.sweep.ends._LOOK_SECONDS", 0.001)
    answers, enough = iter([False] * 4 + [True] + [False] * 4 + [True] * 10**6), threading.Event()
    asked = []

    def answer() -> bool:
        asked.append(next(answers))
        if len(asked) == 12:
            enough.set()
        return asked[-1]

    with cluster_watched(answer, Stop(), lambda why: pytest.fail("lost")):
        assert enough.wait(60)


@pytest.mark.parametrize(
    ("error", "code", "told"),
    [
        (
            StoppedError("stopped by SIGTERM after 2 of 6 trials", exit_code=143),
            143,
            "\nstopped by SIGTERM after 2 of 6",
        ),
        (KeyboardInterrupt(), 130, "\nstopped by Ctrl-C\n"),
        (
            OSError(28, "No space left on device"),
            1,
            "error: the disk is full (the output's, or that of temporary files)",
        ),
        (OSError(28, "No space left on device", "/x/y"), 1, "error: the disk is full at '/x/y': free some space, and"),
    ],
)
def test_what_a_user_sees_of_an_end(
    capsys: pytest.CaptureFixture[str], error: BaseException, code: int, told: str
) -> None:
    def main() -> None:
        raise error

    with pytest.raises(SystemExit) as ended:
        exit_on_user_error(main)
    assert ended.value.code == code
    assert capsys.readouterr().err.startswith(told)


def test_other_errors_of_the_system_are_not_a_full_disk() -> None:
    def main() -> None:
        raise PermissionError(13, "Permission denied")

    with pytest.raises(PermissionError):
        exit_on_user_error(main)
