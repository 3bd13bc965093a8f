"""How a sweep ends before it is done: by a signal, or with its cluster."""

from __future__ import annotations

import errno
import math
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from unirex_ray.errors import StoppedError, one_line

_SIGNALS = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM", signal.SIGHUP: "the end of its terminal"}
_LOOK_SECONDS, _LOOKS = 2.0, 5


@contextmanager
def signals_stop() -> Iterator[None]:
    """Turn the signals that ask a process to end into a `StoppedError`, wherever it is.

    To be entered again behind `ray.init`, which has handlers of its own.
    """

    def stop(stopped: StoppedError) -> None:
        raise stopped

    with _on_signals(stop):
        yield


class Stop:
    """What is to end a sweep at the next check, as an error in the middle of Tune's code becomes another one.

    Args:
        hours: when it is to end in any case; None: never.

    Attributes:
        asked: what `check` raises; None: nothing.
    """

    def __init__(self, hours: float | None = None) -> None:
        self.asked: BaseException | None = None
        self._hours, self._until = hours, math.inf if hours is None else time.monotonic() + 3600 * hours

    def ask(self, error: BaseException) -> None:
        """Have `check` raise this."""
        self.asked = error

    def look_at_the_clock(self) -> None:
        """Have `check` raise that the time is over, where it is; to be called while there is something left to do."""
        if self.asked is None and time.monotonic() >= self._until:
            self.ask(StoppedError(f"stopped by sweep.hours = {self._hours:g}", exit_code=3))

    @contextmanager
    def instead_of_disk_errors(self) -> Iterator[None]:
        """Have `check` raise what journal and storage meet: a full disk as it is."""
        try:
            yield
        except OSError as error:
            full = error.errno == errno.ENOSPC
            self.ask(error if full else StoppedError(f"stopped, as {one_line(error)},", exit_code=1))

    def check(self) -> None:
        """To be called now and then."""
        if self.asked is not None:
            raise self.asked


@contextmanager
def signals_noted(stop: Stop) -> Iterator[None]:
    """The same where code of others is at work: `stop` raises it where it is checked, at the end at the latest."""
    with _on_signals(stop.ask):
        yield
    stop.check()


@contextmanager
def _on_signals(act: Callable[[StoppedError], None]) -> Iterator[None]:
    """In the main thread; ignored signals stay ignored, and a second one ends the process as usual."""

    def handle(number: int, frame: FrameType | None) -> None:
        for again in before:
            signal.signal(again, signal.SIG_DFL)
        act(StoppedError(f"stopped by {_SIGNALS[signal.Signals(number)]}", exit_code=128 + number))

    before = {}
    if threading.current_thread() is threading.main_thread():
        before = {n: signal.getsignal(n) for n in _SIGNALS if signal.getsignal(n) is not signal.SIG_IGN}
    for number in before:
        signal.signal(number, handle)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)


@contextmanager
def cluster_watched(answers: Callable[[], bool], stop: Stop, on_loss: Callable[[StoppedError], None]) -> Iterator[None]:
    """End this process when the cluster is lost: in the middle of a call to Ray, no exception reaches it.

    Args:
        answers: whether the cluster does; asked in a thread of its own, every other second.
        stop: may be what has taken the cluster away, as with a signal to a group of processes.
        on_loss: what is to be done before, in that thread.
    """
    ended = threading.Event()

    def watch() -> None:
        silent = 0
        while silent < (_LOOKS if stop.asked is None else 1):
            if ended.wait(_LOOK_SECONDS):
                return
            silent = 0 if answers() else silent + 1
        lost = StoppedError("stopped, as its Ray cluster does not answer any more", exit_code=1)
        if isinstance(stop.asked, StoppedError):
            lost = stop.asked
        try:
            on_loss(lost)
        finally:
            os._exit(lost.exit_code)

    threading.Thread(target=watch, name="cluster-watch", daemon=True).start()
    try:
        yield
    finally:
        ended.set()
