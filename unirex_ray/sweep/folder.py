"""A sweep's output folder: it holds one sweep, which `sweep.json` names from the start."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from unirex_ray.config import Config, flatten
from unirex_ray.errors import UserError
from unirex_ray.files import replace_text, try_lock, writable_folder
from unirex_ray.sweep.space import Space

SWEEP = "sweep.json"
LEADERBOARD = "leaderboard.csv"
BEST_CONFIG = "best_config.yaml"

_FREE = (
    "method",
    "output",
    "tracking.",
    "data.source",
    "data.cache",
    "sweep.concurrency",
    "sweep.max_failures",
    "sweep.keep_weights",
)
"""Keys that may change when a sweep is resumed: they change no number, or something else stands for them."""


class SweepFolder:
    """Opens (and makes) the folder; no other process can open it until this one closes it or ends.

    Raises:
        UserError: if it cannot be written, or another process works in it.
    """

    def __init__(self, output: str) -> None:
        self.path = writable_folder(output)
        lock = try_lock(self.path / ".sweep.lock")
        if lock is None:
            raise UserError(f"another process runs a sweep in {str(self.path)!r}; choose another --output")
        self._lock = lock

    def close(self) -> None:
        """Let other processes in."""
        self._lock.close()

    def trial(self, trial_id: str) -> str:
        """Where a trial's checkpoints lie."""
        return str(self.path / "trials" / trial_id)

    @property
    def shared(self) -> Path:
        """Where the stages lie that trials have in common; of no use after the sweep."""
        return self.path / "stages"

    @property
    def scratch(self) -> Path:
        """Ray's own files; of no use after the sweep."""
        return self.path / ".ray"

    def write(self, name: str, text: str) -> Path:
        """Put a file in place as a whole."""
        return replace_text(self.path / name, text)

    def find(self, *, resume: bool) -> dict[str, Any] | None:
        """The contents of `sweep.json`; None where there is none (also with `resume`: one command starts and goes on).

        Raises:
            UserError: if there is a sweep and `resume` is false, or the file is broken.
        """
        file = self.path / SWEEP
        if not file.exists():
            return None
        try:
            found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
            sweep_id, _ = found["sweep_id"], found["settings"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(f"cannot read {str(file)!r} ({error}); choose another --output") from None
        if not resume:
            raise UserError(
                f"{str(self.path)!r} already holds the sweep {sweep_id}; "
                "add --resume to go on with it, or choose another --output"
            )
        return found

    def begin(self, settings: Mapping[str, Any], found: dict[str, Any] | None) -> dict[str, Any]:
        """Go on with the sweep that `find` found, or begin a new one.

        Args:
            settings: see `settings_of`.

        Returns:
            The contents of `sweep.json`: `sweep_id` and `settings` at least.

        Raises:
            UserError: if the settings differ from the found ones; names the keys.
        """
        settings = json.loads(json.dumps(settings))
        if found is None:
            sweep_id = f"{settings['data.name']}-{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"
            found = {"sweep_id": sweep_id, "status": "running", "settings": settings}
            self.write(SWEEP, json.dumps(found, indent=2))
        before = found["settings"]
        changed = [key for key in sorted({*settings, *before}) if settings.get(key) != before.get(key)]
        if changed:
            differences = "; ".join(f"{k} was {_short(before.get(k))}, now {_short(settings.get(k))}" for k in changed)
            raise UserError(
                f"cannot resume {found['sweep_id']} with other settings: {differences}; "
                "give the same ones, or choose another --output"
            )
        return found


def settings_of(config: Config, space: Space, *, methods: tuple[str, ...], digest: str) -> dict[str, Any]:
    """Everything that decides a sweep's numbers, flat: configuration, search space, corpus."""
    flat = {k: v for k, v in flatten(config.model_dump(mode="json")) if not k.startswith(_FREE)}
    flat["sweep.methods"] = list(methods)
    flat["data.digest"] = digest
    return flat | {f"space {parameter.key}": parameter.describe() for parameter in space.parameters}


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
