"""Where sweeps are disturbed: what they read, how they are started, and disks that can be filled.

A sweep is the real command with real training, on an encoder and a corpus that are tiny.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

import yaml
from helpers.chaos_remains import Remains
from helpers.processes import Run, kill, processes
from helpers.tiny import save_encoder, tiny_corpus

CHECKOUT = Path(__file__).resolve().parents[2]
_ENDED_SECONDS = 90
_CLOCK = '''"""Every Python process of a sweep sees the clock jump once a file says by how much."""
import os, time
_real, _file, _known = time.time, os.environ["CHAOS_CLOCK"], [0.0, 0.0]
def _jumped():
    now = time.monotonic()
    if not _known[1] and now - _known[0] > 0.2:
        _known[0] = now
        try:
            with open(_file) as file:
                _known[1] = float(file.read())
        except (OSError, ValueError):
            pass
    return _real() + _known[1]
time.time = _jumped
'''


class Place:
    """A folder for sweeps, with what all of them read; `root` holds no sweep yet.

    Args:
        ray: for Ray's own files; short, as the paths of its sockets have room for little more.
    """

    def __init__(self, root: Path, ray: Path) -> None:
        self.root, self.ray = root, ray
        save_encoder(root / "encoder", "bert")
        (root / "clock").mkdir()
        (root / "logs").mkdir()
        (root / "clock" / "sitecustomize.py").write_text(_CLOCK)
        self._write_corpus(root / "corpus")
        spaces = {"grid": {"choice": [2e-3, 3e-3, 6e-3]}, "random": {"log_uniform": [1.5e-3, 6e-3]}}
        for searcher, domain in spaces.items():
            (root / f"{searcher}.yaml").write_text(yaml.safe_dump({"parameters": {"train.learning_rate": domain}}))
        self._references: dict[str, Remains] = {}
        self._runs: list[Run] = []

    def _write_corpus(self, folder: Path) -> None:
        """In ERASER's format, with gold rationales."""
        folder.mkdir()
        documents = []
        for split, table in tiny_corpus((40, 40, 40), gold=1).splits.items():
            lines = []
            for instance in table:
                (text,) = instance.inputs[0].segments
                # Few different words, so that a dozen steps on few texts teach something.
                text = re.sub(r"\d+", lambda digits: str(int(digits[0]) % 2), text)
                documents.append({"docid": instance.id, "document": text})
                words = [n for n, word in enumerate(text.split()) if not word.startswith("w")]
                spans = [[{"docid": instance.id, "start_token": n, "end_token": n + 1}] for n in words]
                label = ("NEG", "POS")[instance.label]
                lines.append({"annotation_id": instance.id, "classification": label, "query": None, "evidences": spans})
            name = {"dev": "val"}.get(split, split)
            (folder / f"{name}.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
        (folder / "docs.jsonl").write_text("".join(f"{json.dumps(document)}\n" for document in documents))

    def command(self, home: Path, searcher: str, uri: str | None) -> list[str]:
        """Sweeps into `home`; the same command begins and goes on."""
        options = [
            f"--space={self.root / searcher}.yaml",
            "--data.name=eraser",
            f"--data.source={self.root / 'corpus'}",
            "--data.labels=NEG,POS",
            f"--data.cache={home / 'cache'}",
            f"--model.encoder={self.root / 'encoder'}",
            "--train.epochs=4",
            "--train.batch_size=4",
            "--train.checkpoint_steps=2",
            "--train.precision=fp32",
            "--sweep.methods=aa-ig,l2e",
            f"--sweep.searcher={searcher}",
            "--sweep.configurations=3",
            "--sweep.seeds=0,1",
            "--sweep.max_failures=1",
            "--sweep.concurrency=2",
            f"--output={home / 'out'}",
            *([f"--tracking.uri={uri}"] if uri else []),
        ]
        return [sys.executable, str(CHECKOUT / "jobs" / "sweep.py"), *options, "--resume"]

    def environment(self, home: Path, *, clock: bool = False) -> dict[str, str]:
        """For every process of a sweep."""
        left_out = ("RAY_ADDRESS", "MLFLOW_TRACKING_URI")
        kept = {name: value for name, value in os.environ.items() if name not in left_out}
        path = os.pathsep.join([*([str(self.root / "clock")] if clock else []), str(CHECKOUT)])
        own = {"PYTHONPATH": path, "OMP_NUM_THREADS": "1", "RAY_TMPDIR": str(self.ray), "COLUMNS": "200"}
        return {**kept, **own, "CHAOS_CLOCK": str(home / "clock.txt")}

    def reference(self, searcher: str) -> Remains:
        """What an undisturbed sweep leaves."""
        if searcher not in self._references:
            home = self.root / f"undisturbed-{searcher}"
            home.mkdir()
            run = self.start(self.command(home, searcher, None), self.environment(home), home.name)
            code = run.wait()
            assert code == 0, run.errors()
            self._references[searcher] = Remains(home, home / "out" / "mlflow.db")
            assert self._references[searcher].best_config, "no configuration is selected, which would test less"
        return self._references[searcher]

    def start(self, command: list[str], environment: dict[str, str], name: str) -> Run:
        """Start a command, whose processes are accounted for (see `staying`)."""
        run = Run(command, environment, self.root / "logs" / name)
        self._runs.append(run)
        return run

    def staying(self, *, wait: bool = False) -> list[str]:
        """Processes of commands that ended more than a minute and a half ago; they are killed.

        Args:
            wait: for those of commands that ended just now as well.
        """
        found: list[str] = []
        while ended := [run for run in self._runs if run.poll() is not None]:
            for run in ended:
                left, seconds = processes(run.session), time.monotonic() - run.ended
                if left and seconds < _ENDED_SECONDS:
                    continue
                self._runs.remove(run)
                if left:
                    kill(left)
                    found.append(
                        f"{len(left)} processes {seconds:.0f} s behind {run.saw()}: {sorted(left.values())[:3]}"
                    )
            if not wait:
                break
            time.sleep(1)
        return found

    def close(self) -> None:
        """Kill what still runs."""
        for run in self._runs:
            kill(processes(run.session))


@contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[bool]:
    """Mount a file system of its own at a folder, where this process may; says whether it could."""
    folder.mkdir(parents=True, exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "none", str(folder)]
    mounted = shutil.which("mount") is not None and not subprocess.run(command, capture_output=True).returncode
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", "-l", str(folder)], check=True)


def can_mount(folder: Path) -> bool:
    """Whether `small_disk` can."""
    with small_disk(folder / "disk", 1) as mounted:
        return mounted


def fill(folder: Path) -> Path:
    """Take all the room of the file system mounted at a folder; returns the file that has it."""
    assert folder.is_mount(), folder
    ballast = folder / "ballast"

    def write(size: int, stream: IO[bytes]) -> None:
        with suppress(OSError):
            while stream.write(b"0" * size):
                pass

    with open(ballast, "wb", buffering=0) as stream:
        for size in (1 << 20, 4096, 1):
            write(size, stream)
    return ballast
