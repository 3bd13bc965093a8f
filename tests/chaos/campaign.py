"""Disturb sweeps for long, and tell what came of it.

    PYTHONPATH=.:tests python tests/chaos/campaign.py --injections=100 --results=FILE

The file gets a line per injection as they come; the same command goes on behind those that it has. On Linux, and as
root where full disks are to be tried.
"""

import argparse
import json
import os
import signal
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

from helpers.chaos import disturb, plan
from helpers.chaos_kinds import KINDS
from helpers.chaos_place import Place, can_mount, small_disk
from helpers.mlflow_server import Server


def table(rows: list[dict]) -> str:
    """Kinds and what came of them, in Markdown."""
    by_kind = defaultdict(list)
    for row in rows:
        by_kind[row["kind"]].append(row)
    lines = ["| kind | tried | equal | exit codes of its run | what its user saw last |", "|---|---|---|---|---|"]
    for kind in KINDS:
        tried = [row for row in by_kind[kind] if row["detail"] != "missed"]
        if tried:
            codes = sorted({row["codes"][0] for row in tried}, key=str)
            saw = max((row["saw"] for row in tried), key=lambda text: (bool(text), -len(text)))
            equal = sum(not row["faults"] for row in tried)
            told = saw.replace("|", "/")[:160]
            lines.append(f"| {kind} | {len(tried)} | {equal} | {', '.join(map(str, codes))} | {told} |")
    tried = [row for row in rows if row["detail"] != "missed"]
    equal = sum(not row["faults"] for row in tried)
    return "\n".join([*lines, f"| all | {len(tried)} | {equal} | | |"])


def main() -> None:
    """Go on with the campaign."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--injections", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--results", type=Path, default=Path("chaos.jsonl"), help="default: %(default)s")
    parser.add_argument("--kinds", help="these alone, with commas between them; default: all")
    parser.add_argument("--sweep", metavar="SEED", help="that of this seed alone, as its results have it")
    parser.add_argument("--keep", type=Path, help="an empty folder for what the sweeps leave where something is wrong")
    options = parser.parse_args()
    kinds = options.kinds.split(",") if options.kinds else list(KINDS)
    if unknown := {*kinds} - {*KINDS}:
        parser.error(f"unknown kinds {', '.join(sorted(unknown))}; choose from {', '.join(KINDS)}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that its sweeps end with it
    known = [json.loads(line) for line in options.results.read_text().splitlines()] if options.results.exists() else []
    with tempfile.TemporaryDirectory(prefix="ray-") as ray, tempfile.TemporaryDirectory(prefix="chaos-") as scratch:
        root = (options.keep or Path(scratch)).absolute()
        root.mkdir(exist_ok=True)
        if not can_mount(root):
            kinds = [kind for kind in kinds if not KINDS[kind].needs_disk]
            print("no full disks: this process may not mount a file system", flush=True)
        with small_disk(Path(ray), 256):
            place = Place(root, Path(ray))
            server = Server(root / "server", place.environment(root))
            try:
                for episode in plan(options.seed, options.injections, kinds):
                    done = any(row["seed"] == episode.seed for row in known)
                    if done or options.sweep not in (None, episode.seed):
                        continue
                    began = time.monotonic()
                    rows, faults = disturb(place, episode, server)
                    for row in rows:
                        row |= {"faults": faults, "seconds": round(time.monotonic() - began, 1)}
                        print(json.dumps(row), flush=True)
                    with options.results.open("a") as results:
                        results.writelines(f"{json.dumps(row)}\n" for row in rows)
                        os.fsync(results.fileno())
                    known += rows
            finally:
                for fault in place.staying(wait=True):
                    print(fault, flush=True)
                    known.append({"kind": "", "detail": "", "faults": [fault]})
                server.stop()
                place.close()
    print(table(known))
    if any(row["faults"] for row in known):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
