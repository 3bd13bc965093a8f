"""Sweeps that are disturbed at seeded moments, again and again until they are complete, and then compared."""

import random
import shutil
import time
from collections.abc import Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from signal import SIGKILL

from helpers.chaos_kinds import KINDS, Disturbed
from helpers.chaos_place import Place, small_disk
from helpers.chaos_remains import Remains
from helpers.mlflow_server import Server
from helpers.processes import RUN_SECONDS, Run, kill, processes

from unirex_ray.errors import UserError
from unirex_ray.training.checkpoint import CheckpointStore
from unirex_ray.training.completed import completed_model

CODES = {0, 1, 3, 129, 130, 143, -SIGKILL}
"""How a sweep may end that is disturbed; 2 only where an injection says so."""

_POLL_SECONDS, _MOST_RUNS = 0.03, 8


@dataclass(frozen=True, kw_only=True)
class Injection:
    """What is done to a sweep, and when.

    Attributes:
        kind: key of `KINDS`.
        share: of the lines that the journal of an undisturbed sweep has, which are waited for; 0: for the start alone.
        delay: seconds behind it.
    """

    kind: str
    share: float
    delay: float


@dataclass(frozen=True, kw_only=True)
class Episode:
    """One sweep with its injections, in their order."""

    seed: str
    searcher: str
    injections: tuple[Injection, ...]


def plan(seed: int, injections: int, kinds: Sequence[str], *, together: int = 3) -> list[Episode]:
    """Every kind equally often, in random order, at random moments.

    Args:
        together: injections of one sweep, at most.
    """
    draw, order = random.Random(seed), list[str]()
    while len(order) < injections:
        order += draw.sample(kinds, len(kinds))
    del order[injections:]
    episodes: list[Episode] = []
    while order:
        chosen = _next_ones(order, together)
        drawn = []
        for place, kind in enumerate(chosen):
            share = 0.9 * (place + draw.random()) / len(chosen)
            at_start = place == 0 and draw.random() < 0.2
            delay = draw.uniform(0, 6) if at_start else draw.uniform(0, 0.4)
            drawn.append(Injection(kind=kind, share=0 if at_start else round(share, 3), delay=round(delay, 2)))
        number, searcher = len(episodes), ("grid", "random")[len(episodes) % 2]
        episodes.append(Episode(seed=f"{seed}-{number}", searcher=searcher, injections=tuple(drawn)))
    return episodes


def _next_ones(order: list[str], most: int) -> list[str]:
    """Take kinds from the front that go together: a sweep has a server, or a database of its own."""
    chosen: list[str] = []
    for kind in [*order]:
        tracked = {KINDS[other].tracking for other in (*chosen, kind)} - {"any"}
        if len(chosen) < most and len(tracked) < 2:
            chosen.append(kind)
            order.remove(kind)
    return chosen


def disturb(place: Place, episode: Episode, server: Server | None) -> tuple[list[dict], list[str]]:
    """Run a sweep to its end through its injections.

    Returns:
        What is known of each injection, and what is wrong in the end.
    """
    reference = place.reference(episode.searcher)
    kinds = {injection.kind: KINDS[injection.kind] for injection in episode.injections}
    home = place.root / f"episode-{episode.seed}"
    home.mkdir()
    server = server if any(kind.tracking == "server" for kind in kinds.values()) else None
    if server is not None:
        server.start()
    with small_disk(home, 48) if any(kind.needs_disk for kind in kinds.values()) else nullcontext():
        shutil.copytree(place.root / f"undisturbed-{episode.searcher}" / "cache", home / "cache")
        sweep = Disturbed(
            place=place,
            home=home,
            draw=random.Random(episode.seed),
            command=place.command(home, episode.searcher, server.uri if server else None),
            environment=place.environment(home, clock=any(kind.needs_clock for kind in kinds.values())),
            server=server,
        )
        rows, faults = _run_to_the_end(sweep, episode, reference.lines), sweep.faults
        if not faults:
            database = server.database if server else sweep.out / "mlflow.db"
            faults = Remains(home, database).faults(reference) + _taken_for_whole(sweep)
        if server is not None:
            server.stop()
        if faults and home.is_mount():
            shutil.copytree(home, place.root / f"{home.name}-faulty", ignore_dangling_symlinks=True)
    if not faults:
        shutil.rmtree(home)
    return rows, faults + place.staying()


def _run_to_the_end(sweep: Disturbed, episode: Episode, lines: int) -> list[dict]:
    done: list[tuple[Injection, str, int]] = []
    pending, again_at = list(episode.injections), 0
    while len(sweep.runs) < _MOST_RUNS and not sweep.faults:
        sweep.expected = []
        run = sweep.place.start(sweep.command, sweep.environment, f"{sweep.home.name}-{len(sweep.runs)}")
        sweep.runs.append(run)
        if sweep.runs[1:] and sweep.draw.random() < 0.7:  # else a moment that has passed would always be its start
            again_at = max(again_at, sweep.written() + sweep.draw.randint(2, 8))
        while run.poll() is None and time.monotonic() - run.began < RUN_SECONDS:
            if pending and sweep.written() >= max(round(pending[0].share * lines), again_at):
                time.sleep(pending[0].delay)
                if run.poll() is not None:
                    break
                detail = KINDS[pending[0].kind].act(sweep)
                if detail is None:  # there is nothing to do it to: somewhat later, then
                    again_at = sweep.written() + sweep.draw.randint(1, 3)
                else:
                    done.append((pending.pop(0), detail, len(sweep.runs) - 1))
                    again_at = 0
            time.sleep(_POLL_SECONDS)
        for mend in sweep.mend:
            mend()
        sweep.mend = []
        _look_at(sweep, run)
        if run.poll() == 0:  # it may have been faster than the next moment
            done += [(injection, "missed", len(sweep.runs) - 1) for injection in pending]
            break
        if "NOT IN MLFLOW" in run.errors() and "NOT ALL COMPLETED" not in run.errors() and not pending:
            sweep.needs_sync = True
            break
    else:
        sweep.faults = sweep.faults or [f"not complete after {len(sweep.runs)} runs: {sweep.run.saw()}"]
    if sweep.needs_sync:
        uri = [f"--tracking.uri={sweep.server.uri}"] if sweep.server else []
        synced = sweep.job("sync", f"--output={sweep.out}", *uri)
        if synced.wait() != 0:
            sweep.faults.append(f"sync: {synced.saw()}")
    return [
        {
            **vars(injection),
            "seed": episode.seed,
            "searcher": episode.searcher,
            "detail": detail,
            "codes": [run.poll() for run in sweep.runs[number:]],
            "saw": sweep.runs[number].saw(),
        }
        for injection, detail, number in done
    ]


def _look_at(sweep: Disturbed, run: Run) -> None:
    """Whether a run ended as it may."""
    code, errors = run.poll(), run.errors()
    told = any(words in errors for words in sweep.expected)
    if code is None:
        sweep.faults.append(f"no end after {RUN_SECONDS} s: {run.saw()}")
        kill(processes(run.session))
    elif code not in CODES and not (code == 2 and told):
        sweep.faults.append(f"exit code {code}: {run.saw()}")
    if "Traceback" in errors + run.printed():
        sweep.faults.append(f"a traceback: {run.saw()}")


def _taken_for_whole(sweep: Disturbed) -> list[str]:
    """Damaged files of completed trials that are read nevertheless; those that are gone, or made again, are none."""
    found = []
    for file, data in sweep.damaged.items():
        if file.exists() and file.read_bytes() == data and (file.parent / "best.pt").exists():
            with suppress(UserError):
                completed_model(CheckpointStore(file.parent))
                found.append(f"{file.name} is damaged, and read")
    return found
