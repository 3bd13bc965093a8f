"""Which of the recorded sweeps a job reads."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from unirex_ray.config import Config, Tree
from unirex_ray.data.load import check_name
from unirex_ray.errors import UserError
from unirex_ray.methods import get_method
from unirex_ray.metrics.nrg import EQUAL_WEIGHTS, Weights
from unirex_ray.tracking.archive import ArchiveStore
from unirex_ray.tracking.pooled_stores import PooledStores
from unirex_ray.tracking.protocol import Protocol, differing, protocol_hash, protocol_of
from unirex_ray.tracking.store import (
    DATA_DIGEST,
    DATABASE,
    NRG_WEIGHTS,
    PLANNED,
    SWEEP,
    SweepRecord,
    database_file,
    own_database,
    recorded_uri,
    resolve_tracking_uri,
)


def choose_sweeps(
    recorded: Sequence[SweepRecord],
    *,
    sweeps: Sequence[str] = (),
    digest: str | None = None,
    protocol: str | None = None,
    unfinished: bool = False,
) -> list[SweepRecord]:
    """The sweeps to compare: finished, of one data digest, and of one protocol unless they are named.

    Args:
        sweeps: identifiers; empty: all that have a completed trial.
        digest: of the data, or its first digits.
        protocol: hash, or its first digits.
        unfinished: whether they may lack trials.

    Raises:
        UserError: if a named sweep is unknown, or the sweeps are of no such digest or protocol, or of several; lists
            the settings that differ; if one has not finished.
    """
    known = [sweep.sweep_id for sweep in recorded]
    for name in sweeps:
        if name not in known:
            raise UserError(f"unknown sweep {name!r}; choose from {', '.join(known) or 'none: there are no sweeps'}")
    chosen = [sweep for sweep in recorded if sweep.sweep_id in sweeps or (not sweeps and _has_completed(sweep))]
    chosen = _require_one(
        "digest",
        digest,
        {sweep.sweep_id: data_digest(sweep) for sweep in chosen},
        chosen,
        lambda listed: f"runs on different data must not be mixed: choose with --digest or --sweep-id among {listed}",
    )
    if not sweeps:
        chosen = _of_one_protocol(chosen, protocol)
    lacking = unfinished_in_words(chosen)
    if lacking and not unfinished:
        raise UserError(
            f"not finished: {'; '.join(lacking)}. A method's best configuration would be one of fewer: finish it with "
            "--resume, choose others with --sweep-id, or add --unfinished to use what there is"
        )
    return chosen


def unfinished_in_words(sweeps: Sequence[SweepRecord]) -> tuple[str, ...]:
    """Each sweep that has not finished, with the trials that it has so far."""
    return tuple(_trials_of(sweep) for sweep in sweeps if sweep.status != "completed")


def _trials_of(sweep: SweepRecord) -> str:
    counts = Counter(trial.status for trial in sweep.trials)
    told = ", ".join(f"{counts[status]} {status}" for status in sorted(counts)) or "none"
    if sweep.tags.get(PLANNED) == str(len(sweep.trials)) and not {"running", "lost"} & {*counts}:
        return f"sweep {sweep.sweep_id} has all its trials, but was not closed: --resume does that"
    of = f" of up to {sweep.tags[PLANNED]}" if PLANNED in sweep.tags else ""
    trials = "trial" if len(sweep.trials) == 1 and not of else "trials"
    return f"sweep {sweep.sweep_id} has {len(sweep.trials)}{of} {trials} ({told})"


def _of_one_protocol(chosen: Sequence[SweepRecord], protocol: str | None) -> list[SweepRecord]:
    hashes = {sweep.sweep_id: protocol_hash(protocol_of(sweep.settings)) for sweep in chosen}
    protocols = {hashes[sweep.sweep_id]: protocol_of(sweep.settings) for sweep in chosen}
    return _require_one(
        "protocol",
        protocol,
        hashes,
        chosen,
        lambda listed: (
            f"sweeps of different protocols must not be pooled unasked; they differ in {differences(protocols)}; "
            f"choose with --protocol among {listed}; or name the sweeps to pool them all the same, each by --sweep-id"
        ),
    )


def _require_one(
    option: str,
    wanted: str | None,
    values: Mapping[str, str],
    sweeps: Sequence[SweepRecord],
    refusal: Callable[[str], str],
) -> list[SweepRecord]:
    """The sweeps whose value begins as wanted, which must be one value.

    Args:
        values: by sweep identifier.
        refusal: the message, from the list of values with their sweeps.
    """
    by_value: dict[str, list[str]] = defaultdict(list)
    for sweep in sweeps:
        by_value[values[sweep.sweep_id]].append(sweep.sweep_id)
    matching = [value for value in by_value if value.startswith(wanted or "")]
    if len(matching) > 1:
        raise UserError(refusal("; ".join(f"{value}: {', '.join(by_value[value])}" for value in matching)))
    if sweeps and not matching:
        raise UserError(f"no sweep has --{option} {wanted!r}; there are {', '.join(sorted(by_value))}")
    return [sweep for sweep in sweeps if values[sweep.sweep_id] in matching]


def differences(protocols: Mapping[str, Protocol]) -> str:
    """The settings in which protocols differ, side by side: `train.epochs (10 in 1a2b, 1 in 3c4d), ...`."""
    parts = [
        f"{key} ({', '.join(f'{_short(value)} in {name}' for name, value in by_name.items())})"
        for key, by_name in differing(protocols).items()
    ]
    return ", ".join(parts)


def _short(value: str) -> str:
    return value if len(value) <= 60 else f"{value[:57]}..."


def open_sweeps(
    config: Config,
    *,
    also: Sequence[str] = (),
    archives: Sequence[ArchiveStore] = (),
    sweeps: Sequence[str] = (),
    digest: str | None = None,
    protocol: str | None = None,
    unfinished: bool = False,
) -> tuple[PooledStores, list[SweepRecord]]:
    """Connect to the store of a configuration, and choose among its sweeps on `data.name` (see `choose_sweeps`).

    Args:
        also: outputs of further sweeps, whose stores are read as well.
        archives: that are read in place of the configuration's store.

    Raises:
        UserError: also for an unknown corpus or method, and where no trial is recorded.
    """
    check_name(config.data.name)
    get_method(config.method)
    own = [] if archives else [store_of(config)]
    others = [uri_of_output(folder, "also") for folder in also]
    no_trials = UserError(
        f"no finished trials on {config.data.name!r} at {', '.join([*(archive.uri for archive in archives), *own])}: "
        f"run a sweep on {config.data.name!r} first, or give the --output of one"
    )
    # To connect to a database that does not exist would create it.
    if any((file := database_file(uri)) is not None and not file.exists() for uri in own):
        raise no_trials
    store = PooledStores([*own, *others], archives)
    recorded = store.sweeps(config.data.name)
    chosen = choose_sweeps(recorded, sweeps=sweeps, digest=digest, protocol=protocol, unfinished=unfinished)
    if not chosen:
        raise no_trials
    return store, chosen


def store_of(config: Config) -> str:
    """The store of what belongs to an output: as configured, else where the sweep in it was recorded.

    Raises:
        UserError: where that is gone.
    """
    uri = resolve_tracking_uri(config)
    output = Path(config.output)
    if uri == own_database(config) and not (output / DATABASE).exists() and (output / SWEEP).exists():
        return uri_of_output(config.output, "output")
    return uri


def uri_of_output(folder: str, option: str) -> str:
    """Where the runs of an output are recorded.

    Args:
        option: that named it, for errors.

    Raises:
        UserError: if nothing is recorded there.
    """
    output = Path(folder).expanduser()
    try:
        recorded = json.loads((output / SWEEP).read_text(encoding="utf-8")).get("tracking_uri")
    except (OSError, ValueError, AttributeError):
        recorded = None
    uri = recorded_uri(recorded if isinstance(recorded, str) else None, output)
    if uri is None:
        raise UserError(
            f"--{option} {folder!r}: no runs are recorded there; give the --output of a sweep or evaluation"
        )
    return uri


def configured_weights(config: Config, tree: Tree) -> Weights | None:
    """`sweep.nrg_weights` if `tree`, which `config` was built from, sets it, else None."""
    return config.sweep.nrg_weights if "nrg_weights" in tree.get("sweep", {}) else None


def weights_of(sweeps: Sequence[SweepRecord], configured: Weights | None) -> Weights:
    """The weights of FNRG, PNRG and TNRG: as configured (see `configured_weights`), else as the sweeps selected by.

    Raises:
        UserError: if the sweeps differ in their weights and none are configured.
    """
    if configured is not None:
        return configured
    recorded = {sweep.tags[NRG_WEIGHTS]: sweep.sweep_id for sweep in sweeps if NRG_WEIGHTS in sweep.tags}
    if len(recorded) > 1:
        listed = "; ".join(f"{name}: {weights}" for weights, name in recorded.items())
        raise UserError(f"these sweeps selected by different weights ({listed}): give --sweep.nrg_weights")
    if not recorded:
        return EQUAL_WEIGHTS
    fnrg, pnrg, tnrg = json.loads(next(iter(recorded)))
    return fnrg, pnrg, tnrg


def _has_completed(sweep: SweepRecord) -> bool:
    return any(trial.status == "completed" for trial in sweep.trials)


def data_digest(sweep: SweepRecord) -> str:
    """The digest of the data that a sweep's trials ran on; empty if none is recorded.

    Raises:
        UserError: if its trials ran on different data.
    """
    digests = {tags[DATA_DIGEST] for tags in (sweep.tags, *(t.tags for t in sweep.trials)) if DATA_DIGEST in tags}
    if len(digests) > 1:
        raise UserError(f"sweep {sweep.sweep_id!r} holds trials on different data: {', '.join(sorted(digests))}")
    return digests.pop() if digests else ""
