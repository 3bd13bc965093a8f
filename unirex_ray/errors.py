"""The one error that a user can cause, and how jobs end on it."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Callable, Iterable


class UserError(ValueError):
    """Something the user can put right: the message names the value, what is allowed and the remedy."""


class DamagedFileError(UserError):
    """A file of ours is torn, changed, or of something else; the message names it."""


class StoreAwayError(UserError):
    """No run store answers where one is expected."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A hint behind an unknown name, with a blank before it; empty where no known name is close."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


def one_line(error: BaseException, limit: int = 300) -> str:
    """An error's message without line ends, cut to `limit` characters; its type where it has no message."""
    return (" ".join(str(error).split()) or type(error).__name__)[:limit]


def first_line(error: BaseException) -> str:
    """The first line of an error's message, where the others explain it at length."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def exit_on_user_error(main: Callable[[], None]) -> None:
    """Run a job's `main`; a `UserError` becomes one line on stderr and exit code 2."""
    try:
        main()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
