"""What extraction costs per instance, measured by itself (paper, Table 4): from a benchmark to a comparison."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from unirex_ray.errors import UserError, first_line

EXTRACTION = "extraction.json"
DECIDES = ("data.name", "data.max_length", "model.encoder", "model.layers")
"""Settings that a time belongs to: it is not that of other models' rationales."""


@dataclass(frozen=True, kw_only=True)
class ExtractionTimes:
    """Of rows of Table 4.

    Attributes:
        seconds: per instance, of each run, by the row's name; lower is better.
        settings: those of `DECIDES`, as text.
        conditions: batch size and machine, in words.
    """

    seconds: Mapping[str, Sequence[float]]
    settings: Mapping[str, str]
    conditions: str

    def write(self, output: str | Path) -> Path:
        """Put it into an output folder, where `read_times` finds it."""
        file = Path(output) / EXTRACTION
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(asdict(self), indent=2), encoding="utf-8")
        return file


def read_times(output: str | Path, settings: Mapping[str, str]) -> ExtractionTimes | None:
    """Those that lie in an output folder; None without any of this corpus.

    Args:
        settings: of a sweep, as text.

    Raises:
        UserError: where the file is damaged, or of other models on this corpus.
    """
    file = Path(output).expanduser() / EXTRACTION
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        times = ExtractionTimes(
            seconds={str(row): [float(run) for run in runs] for row, runs in found["seconds"].items()},
            settings={key: str(found["settings"][key]) for key in DECIDES},
            conditions=str(found["conditions"]),
        )
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        reason = f"{file} holds no extraction times ({first_line(error)})"
        raise UserError(f"{reason}: delete it, or measure again") from None
    if times.settings["data.name"] != settings.get("data.name"):
        return None
    for key in DECIDES:
        if times.settings[key] != settings.get(key):
            raise UserError(
                f"{file} was measured with {key}={times.settings[key]}, but the sweep has {settings.get(key)}: "
                "measure again with the settings of the sweep, or delete it"
            )
    return times
