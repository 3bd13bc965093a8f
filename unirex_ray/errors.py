"""The one error that a user can cause, and how jobs end on it."""

from __future__ import annotations

import atexit
import difflib
import errno
import signal
import sys
from collections.abc import Callable, Iterable


class UserError(ValueError):
    """Something the user can put right: the message names the value, what is allowed and the remedy."""


class DamagedFileError(UserError):
    """A file of ours is torn, changed, or of something else; the message names it."""


class StoreAwayError(UserError):
    """No run store answers where one is expected."""


class StoppedError(BaseException):
    """A job was ended before it was done, by its user or by what it runs on; what it did by then is kept.

    No `Exception`, as `KeyboardInterrupt` is none: a signal comes wherever the process is, also where whatever a
    library raises is taken for its error.

    Attributes:
        exit_code: 128 and the number of the signal; 1, or 3 where the user wanted it to end there.
    """

    def __init__(self, message: str, *, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A hint behind an unknown name, with a blank before it; empty where no known name is close."""
    candidates, short = list(known), _last(name).lower()
    abbreviated = [one for one in candidates if len(short) > 1 and _initials(one) == short]  # lr: learning_rate
    close = [*abbreviated, *difflib.get_close_matches(name, candidates, n=1)]
    return f" (did you mean {close[0]!r}?)" if close else ""


def _last(key: str) -> str:
    return key.rpartition(".")[2]


def _initials(key: str) -> str:
    return "".join(word[:1] for word in _last(key).split("_"))


def one_line(error: BaseException, limit: int = 300) -> str:
    """An error's message without line ends, cut to `limit` characters; its type where it has no message."""
    return (" ".join(str(error).split()) or type(error).__name__)[:limit]


def first_line(error: BaseException) -> str:
    """The first line of an error's message, where the others explain it at length."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def exit_on_user_error(main: Callable[[], None]) -> None:
    """Run a job's `main`; a `UserError` becomes one line on stderr and exit code 2, what stops it a line as well."""
    try:
        main()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    except StoppedError as stopped:
        print(f"\n{stopped}", file=sys.stderr)
        raise SystemExit(stopped.exit_code) from None
    except KeyboardInterrupt:
        print("\nstopped by Ctrl-C", file=sys.stderr)
        raise SystemExit(130) from None
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        # Writing to an open file names none: Ray's temporary folder may be the full one while the output has room.
        where = f" at {error.filename!r}" if error.filename else " (the output's, or that of temporary files)"
        print(
            f"error: the disk is full{where}: free some space, and repeat the command (a sweep with --resume)",
            file=sys.stderr,
        )
        raise SystemExit(1) from None
    finally:
        # All is said: a Ctrl-C while libraries shut down, Ray its cluster, would be told as their traceback.
        atexit.register(signal.signal, signal.SIGINT, signal.SIG_IGN)
