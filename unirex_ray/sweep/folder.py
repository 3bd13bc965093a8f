"""A sweep's output folder: it holds one sweep, which `sweep.json` names from the start."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from unirex_ray.errors import UserError, one_line
from unirex_ray.files import read_holder, replace_text, try_lock, writable_folder, write_holder
from unirex_ray.tracking.protocol import (
    CODE_KEY,
    ENCODERS_KEY,
    GROWING,
    PLUGINS_KEY,
    THEN,
    budget_of,
    plugin_codes,
    plugins_text,
    recorded_settings,
)
from unirex_ray.tracking.store import LOCK, SWEEP
from unirex_ray.training.checkpoint import CheckpointStore, below

LEADERBOARD = "leaderboard.csv"
TRIALS = "trials"
STORAGE = "storage"
"""The key in `sweep.json` of where its trials lie, where that is not its own folder."""


_REFUSED = (OSError, ValueError, NotImplementedError)
"""What pyarrow raises on storage that does not answer, an address that is none, and one that it knows nothing of."""


class SweepFolder:
    """Opens (and makes) the folder; no other process can open it until this one closes it or ends.

    Args:
        storage: folder or URI where the trials' checkpoints and results are to lie; None: in the folder itself.

    Raises:
        UserError: if one of them cannot be written, or another process works in the folder; names that one.
    """

    def __init__(self, output: str, storage: str | None = None) -> None:
        self.path = writable_folder(output)
        file = self.path / LOCK
        lock = try_lock(file)
        if lock is None:
            holder = read_holder(file)
            raise UserError(
                f"another process{holder and f' ({holder})'} works in {str(self.path)!r}; "
                "wait for it or stop it, or choose another --output"
            )
        self._lock, self._storage, self._begun = lock, storage, ""
        write_holder(lock)
        if storage is not None:
            _check_storage(storage)

    def close(self) -> None:
        """Let other processes in."""
        self._lock.close()

    def trial(self, trial_id: str) -> str:
        """Where a trial's checkpoints lie."""
        return below(self.trials, trial_id)

    def results(self, trial_id: str) -> str:
        """Where a completed trial's results lie: the same folder, unless its weights lie elsewhere."""
        return str(self.path / TRIALS / trial_id)

    @property
    def apart(self) -> str | None:
        """Where on `storage` this sweep has its part, once it has begun; None where all lies in the folder."""
        return None if self._storage is None else below(self._storage, self._begun)

    @property
    def trials(self) -> str:
        """Where trials have their folders."""
        return below(self.apart or str(self.path), TRIALS)

    @property
    def shared(self) -> str:
        """Where the stages lie that trials have in common."""
        return below(self.apart or str(self.path), "stages")

    @property
    def scratch(self) -> str:
        """Where Ray keeps its own files."""
        return below(self.apart or str(self.path), ".ray")

    def delete_scratch(self) -> None:
        """Delete what is of no use after the sweep."""
        for folder in (self.scratch, self.shared):
            with suppress(OSError):
                CheckpointStore(folder).delete_all()

    def write(self, name: str, text: str) -> Path:
        """Write a file as a whole: a reader sees the old one or the new one."""
        return replace_text(self.path / name, text)

    def find(self, *, resume: bool) -> dict[str, Any] | None:
        """The contents of `sweep.json`; None without one, also with `resume`: one command starts and continues a sweep.

        Raises:
            UserError: if there is a sweep and `resume` is false, or the file is broken.
        """
        file = self.path / SWEEP
        if not file.exists():
            return None
        try:
            stored: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
            sweep_id, _ = stored["sweep_id"], {**stored["settings"]}
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(f"cannot read {str(file)!r} ({error}); choose another --output") from None
        if not resume:
            raise UserError(
                f"{str(self.path)!r} already holds the sweep {sweep_id}; "
                "add --resume to continue it, or choose another --output"
            )
        self._begun = sweep_id
        return stored

    def begin(self, settings: Mapping[str, Any], stored: dict[str, Any] | None, tracking_uri: str) -> dict[str, Any]:
        """Continue the sweep that `find` returned, or begin a new one.

        Args:
            settings: everything that decides the sweep's numbers; of a sweep that goes on, as `check` returned them.
            tracking_uri: where it is recorded.

        Returns:
            The contents of `sweep.json`: `sweep_id` and `settings` at least.
        """
        begins = json.loads(json.dumps(settings))
        if stored is None:
            sweep_id = f"{begins['data.name']}-{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"
            stored = {"sweep_id": sweep_id, "status": "running", "settings": begins}
            self.write(SWEEP, json.dumps(stored, indent=2))
        self._begun = stored["sweep_id"]
        begun = {**stored, "tracking_uri": tracking_uri, **({STORAGE: self.apart} if self.apart else {})}
        if _changed(stored["settings"], begins):
            begun |= {"status": "running", "settings": begins}
        if begun != stored:
            self.write(SWEEP, json.dumps(begun, indent=2))
        return begun

    def check(
        self, settings: Mapping[str, Any], stored: Mapping[str, Any], *, other_code: bool = False
    ) -> dict[str, Any]:
        """The settings with which the sweep that `find` returned goes on.

        Args:
            other_code: whether the sweep may have been begun by other code, which stays on record.

        Raises:
            UserError: if they differ from the stored ones, unless the sweep only grows (see `grows`); names the keys.
        """
        begins: dict[str, Any] = json.loads(json.dumps(settings))
        before = _of_sweep(stored["settings"])
        begins[CODE_KEY] = _codes(before[CODE_KEY], begins[CODE_KEY], other_code)
        if plugins := _plugins(before.get(PLUGINS_KEY, ""), begins.get(PLUGINS_KEY, ""), other_code):
            begins[PLUGINS_KEY] = plugins
        now = _of_sweep(begins)
        refused = [key for key in _changed(stored["settings"], begins) if not grows(key, before, now)]
        if refused:
            differences = "; ".join(_difference(key, before.get(key), now.get(key)) for key in refused)
            only = (
                " (methods, seeds and configurations can be added, none taken away)" if {*refused} & {*GROWING} else ""
            )
            of_code = {*refused} <= {CODE_KEY, PLUGINS_KEY}
            code = " add --other-code to go on with this code all the same," if of_code else ""
            raise UserError(
                f"cannot resume {stored['sweep_id']} with other settings: {differences}{only}; "
                f"restore the settings,{code} or choose another --output"
            )
        return begins


def open_trial(output: Path, trial_id: str) -> CheckpointStore:
    """The files of a trial of the sweep in an output, wherever they lie.

    Raises:
        UserError: if they lie on storage that cannot be read; names it.
    """
    try:
        storage = json.loads((output / SWEEP).read_text(encoding="utf-8")).get(STORAGE)
    except (OSError, ValueError, AttributeError):
        storage = None
    folder = below(below(storage or str(output), TRIALS), trial_id)
    try:
        store = CheckpointStore(folder)
        store.names()
    except _REFUSED as error:
        raise UserError(f"cannot read {folder!r}, where the sweep left its weights: {one_line(error)}") from None
    return store


def _check_storage(storage: str) -> None:
    try:
        store = CheckpointStore(storage)
        store.write(".writable", b"")
        store.delete(".writable")
    except _REFUSED as error:
        raise UserError(
            f"cannot write sweep.storage = {storage!r}: {one_line(error)}; "
            "give a folder that all nodes share, or a URI such as s3://bucket/folder"
        ) from None


def _of_sweep(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {CODE_KEY: "not recorded", **recorded_settings(settings)}


def _changed(stored: Mapping[str, Any], begins: Mapping[str, Any]) -> list[str]:
    before, now = _of_sweep(stored), _of_sweep(begins)
    return [key for key in sorted({*now, *before}) if now.get(key) != before.get(key)]


def grows(key: str, before: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    """Whether a setting only adds trials to a sweep: more configurations, seeds behind its own, or more methods.

    Which state encoders are in may be added where the sweep did not record it; what is behind added methods as well.
    """
    if key == CODE_KEY:
        return str(now[key]).startswith(f"{before[key]}, ")
    if key == ENCODERS_KEY:
        return key not in before
    if key == PLUGINS_KEY:
        earlier, later = (plugin_codes(settings.get(key, "")) for settings in (before, now))
        return all(f"{later.get(name)}{THEN}".startswith(f"{code}{THEN}") for name, code in earlier.items())
    if key not in GROWING or key not in before:
        return False
    if key == "sweep.configurations":
        return budget_of(now) >= budget_of(before)
    if key == "sweep.patience":
        return now[key] is None or (before[key] is not None and now[key] >= before[key])
    if key == "sweep.seeds":
        return bool(now[key][: len(before[key])] == before[key])
    return {*before[key]} <= {*now[key]}


def _codes(before: str, now: str, other_code: bool, between: str = ", ") -> str:
    """The versions of code that a sweep has run with; the one that runs now is the last."""
    if before.rpartition(between)[2] == now:
        return before
    return f"{before}{between}{now}" if other_code else now


def _plugins(before: str, now: str, other_code: bool) -> str:
    """The same of the code of other distributions; what is no longer registered stays on record."""
    earlier, later = plugin_codes(before), plugin_codes(now)
    codes = {name: _codes(earlier.get(name, code), code, other_code, THEN) for name, code in later.items()}
    return plugins_text({**earlier, **codes} if other_code else codes)


def _difference(key: str, before: Any, now: Any) -> str:
    if key == PLUGINS_KEY:
        codes = [plugin_codes(text or "").items() for text in (before, now)]
        before, now = (plugins_text(dict(some - others)) for some, others in (codes, codes[::-1]))
    return f"{key} was {_short(before)}, now {_short(now)}"


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
