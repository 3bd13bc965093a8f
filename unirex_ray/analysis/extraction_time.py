"""What extraction costs per instance, measured by itself (paper, Table 4): from a benchmark to a comparison."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from unirex_ray.errors import UserError, first_line
from unirex_ray.files import replace_text, writable_folder

EXTRACTION = "extraction.json"
SETTINGS = (
    "data.digest",
    "data.max_length",
    "model.encoder",
    "model.layers",
    "model.head",
    "model.ig_steps",
    "train.precision",
)
"""What the times depend on, beside what a row of the table says."""

_IN_TRIALS = (
    "as it took in the trials' evaluation of up to 64 texts, whatever ran beside them: the benchmark `extraction`, "
    "with the same --output, measures it alone"
)


@dataclass(frozen=True, kw_only=True)
class ExtractionTimes:
    """Of rows of Table 4.

    Attributes:
        seconds: per instance, of each run, by the row's name; lower is better; empty: what the trials took counts.
        settings: those of `SETTINGS`, as text.
        conditions: how it was measured, in words.
    """

    seconds: Mapping[str, Sequence[float]]
    settings: Mapping[str, str]
    conditions: str

    def write(self, output: str | Path) -> Path:
        """Put it into an output folder, where `read_times` finds it."""
        return replace_text(writable_folder(str(output)) / EXTRACTION, json.dumps(asdict(self), indent=2))


NO_TIMES = ExtractionTimes(seconds={}, settings={}, conditions=f"{_IN_TRIALS}.")


def read_times(output: str | Path, sweeps: Sequence[Mapping[str, str]]) -> ExtractionTimes:
    """Those in an output folder, if they are of all these sweeps, given by their settings as text; else the trials'.

    Raises:
        UserError: where the file is damaged.
    """
    file = Path(output).expanduser() / EXTRACTION
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        times = ExtractionTimes(
            seconds={str(row): [float(run) for run in runs] for row, runs in found["seconds"].items()},
            settings={key: str(found["settings"][key]) for key in SETTINGS},
            conditions=str(found["conditions"]),
        )
    except FileNotFoundError:
        return NO_TIMES
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        reason = f"{file} holds no extraction times ({first_line(error)})"
        raise UserError(f"{reason}: delete it, or measure again") from None
    differences = {
        f"{key} {times.settings[key]}, in the sweep {settings.get(key, 'not recorded')}"
        for settings in sweeps
        for key in SETTINGS
        if times.settings[key] != settings.get(key)
    }
    if differences:
        reason = f"{_IN_TRIALS}; {EXTRACTION} there is of others: {'; '.join(sorted(differences))}."
        return replace(NO_TIMES, conditions=reason)
    return times
