"""The one error that a user can cause, and how jobs end on it."""

from __future__ import annotations

import sys
from collections.abc import Callable


class UserError(ValueError):
    """Something the user can put right: the message names the value, what is allowed and the remedy."""


def exit_on_user_error(main: Callable[[], None]) -> None:
    """Run a job's `main`; a `UserError` becomes one line on stderr and exit code 2."""
    try:
        main()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
