"""Record what sweeps of this checkout's code leave behind, for `test_recorded_sweep.py` to read with later code.

    python tests/helpers/record_sweep.py --output tests/recorded/sweep-VERSION.tar.xz

makes a tiny encoder and sweeps four methods with it, at a fixed place, twice: `finished` is a whole sweep and its
comparison, `interrupted` the same sweep with all its processes killed while the first L2E trial was in the middle of an
epoch of its second stage, the AA (IG) and FRESH trials were done, and the others had not begun. The archive holds both
as they were left, without the cache of the corpus and Ray's own files, and the options that they were made with.

What is recorded is what a user of that version may still have: it is made once per version, with that version's code,
and never made again to please a test.
"""

import argparse
import fcntl
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib.metadata import version
from pathlib import Path

import torch
import yaml
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from torch import Tensor, nn
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

import unirex_ray
from unirex_ray.config import build_config
from unirex_ray.data.load import load_corpus

ROOT = Path("/tmp/unirex-ray-recorded-sweep")
"""Paths of encoders are part of what a trial is known by, and MLflow keeps those of artifacts whole."""

FINISHED, INTERRUPTED, OPTIONS = "finished", "interrupted", "options.json"
SPACE = {"parameters": {"loss.plaus_weight": {"choice": [0.5, 4.0]}}}
CHECKOUT = Path(__file__).resolve().parents[2]

_LEFT_OUT = ("cache", ".ray", "__pycache__")
_WORDS, _LONGEST = 300, 48
_TRIES = 5


class PlaceTakenError(RuntimeError):
    """`ROOT` cannot be used: another user's, or another process works in it."""


@contextmanager
def empty_root(wait_s: float) -> Iterator[Path]:
    """`ROOT`, empty, for this process alone; it is removed in the end.

    Args:
        wait_s: how long to wait for another process that uses it.

    Raises:
        PlaceTakenError: if it cannot be used.
    """
    file = ROOT.with_name(f"{ROOT.name}.lock")
    try:
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise PlaceTakenError(f"cannot open {file}: {error.strerror}") from None
    with open(descriptor) as lock:
        deadline = time.monotonic() + wait_s
        while True:
            with suppress(BlockingIOError):
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            if time.monotonic() > deadline:
                raise PlaceTakenError(f"another process uses {ROOT}")
            time.sleep(0.2)
        if ROOT.is_symlink() or (ROOT.exists() and not (ROOT.is_dir() and ROOT.stat().st_uid == os.getuid())):
            raise PlaceTakenError(f"{ROOT} is another user's, or no folder")
        try:
            if ROOT.exists():
                shutil.rmtree(ROOT)
            ROOT.mkdir(mode=0o700)
        except OSError as error:
            raise PlaceTakenError(f"cannot empty {ROOT}: {error.strerror}") from None
        try:
            yield ROOT
        finally:
            shutil.rmtree(ROOT, ignore_errors=True)


def corpus_options() -> list[str]:
    """Which corpus: for the jobs that read it."""
    return ["--data.name=reviews", "--data.limit=12", f"--data.cache={ROOT / 'cache'}"]


def sweep_options() -> list[str]:
    """Everything that jobs/sweep.py is given, but `--output`."""
    return [
        f"--space={ROOT / 'space.yaml'}",
        *corpus_options(),
        f"--model.encoder={ROOT / 'encoder'}",
        "--train.epochs=3",
        "--train.batch_size=2",
        "--train.learning_rate=0.05",
        "--train.checkpoint_steps=2",
        "--sweep.methods=aa-ig,fresh,l2e,unirex-slm-fp",
        "--sweep.searcher=grid",
        "--sweep.seeds=0,1",
        "--sweep.keep_weights=all",
        "--sweep.concurrency=1",
    ]


def save_encoder(folder: Path) -> None:
    """An encoder of one small layer that knows the most frequent words of `reviews`, and a little of what they say."""
    train = load_corpus(build_config({"data": {"name": "reviews"}}).data).splits["train"]
    texts = [instance.inputs[0].segments[0] for instance in train]
    counts = Counter(word for text in texts for word in re.findall(r"\w+|[^\w\s]", text.lower()))
    frequent = sorted(counts, key=lambda word: (-counts[word], word))[:_WORDS]
    vocabulary = {word: number for number, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *frequent])}
    engine = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    engine.normalizer = normalizers.Lowercase()
    engine.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    engine.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(name, vocabulary[name]) for name in ("[CLS]", "[SEP]")],
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=engine,
        cls_token="[CLS]",
        sep_token="[SEP]",
        pad_token="[PAD]",
        unk_token="[UNK]",
        model_max_length=_LONGEST,
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    )
    torch.manual_seed(0)
    shape = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        initializer_range=0.3,
        max_position_embeddings=_LONGEST,
        pad_token_id=vocabulary["[PAD]"],
    )
    encoder = BertModel(shape)
    _learn_sentiment(encoder, tokenizer(texts, padding=True, return_tensors="pt"), torch.tensor(train.labels))
    tokenizer.save_pretrained(folder)
    encoder.save_pretrained(folder)


def _learn_sentiment(encoder: BertModel, inputs: Mapping[str, Tensor], labels: Tensor) -> None:
    """Without it, nothing that a sweep on a dozen texts does would change its metrics by much."""
    head = nn.Linear(encoder.config.hidden_size, 2)
    optimizer = torch.optim.AdamW([*encoder.parameters(), *head.parameters()], lr=0.02)
    encoder.train()
    for _ in range(10):
        for rows in torch.randperm(len(labels)).split(32):
            states = encoder(**{name: values[rows] for name, values in inputs.items()}).last_hidden_state
            loss = nn.functional.cross_entropy(head(states[:, 0]), labels[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()


def job(name: str, *options: str) -> list[str]:
    """The command line of one of this checkout's jobs."""
    return [sys.executable, str(CHECKOUT / "jobs" / f"{name}.py"), *options]


def interrupt(output: Path, environment: dict[str, str]) -> bool:
    """Kill a sweep and every process that it started at the moment that is wanted; returns whether it was met."""
    driver = subprocess.Popen(job("sweep", *sweep_options(), f"--output={output}"), env=environment)
    try:
        while driver.poll() is None:
            for last in output.glob("trials/*-l2e-*/last.pt"):
                if _in_the_middle(last):
                    _signal(driver.pid, signal.SIGSTOP)
                    if _in_the_middle(last):
                        return True
                    _signal(driver.pid, signal.SIGCONT)
            time.sleep(0.002)
        return False
    finally:
        _signal(driver.pid, signal.SIGKILL)
        driver.wait()


def _in_the_middle(last: Path) -> bool:
    """Whether a checkpoint is of a second stage's second or third epoch, some steps into it."""
    try:
        progress = torch.load(last, weights_only=True)["progress"]
    except FileNotFoundError:
        return False
    return progress["stage"] == 1 and progress["epoch"] >= 1 and progress["step"] > 0


def _signal(ancestor: int, number: signal.Signals) -> None:
    """Send a signal to a process and all its descendants."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            children.setdefault(int(stat.read_text().rpartition(")")[2].split()[1]), []).append(int(stat.parent.name))
    left = [ancestor]
    while left:
        process = left.pop()
        left += children.get(process, [])
        with suppress(ProcessLookupError):
            os.kill(process, number)


def record(root: Path, scratch: str) -> None:
    """Put everything into `root`.

    Args:
        scratch: for Ray; short, as the paths of its sockets have room for little more.
    """
    left_out = ("RAY_ADDRESS", "MLFLOW_TRACKING_URI")
    environment = {name: value for name, value in os.environ.items() if name not in left_out}
    environment |= {"PYTHONPATH": str(CHECKOUT), "OMP_NUM_THREADS": "1", "RAY_TMPDIR": scratch}
    save_encoder(root / "encoder")
    (root / "space.yaml").write_text(yaml.safe_dump(SPACE))
    made_with = {name: version(name) for name in ("torch", "transformers", "ray", "mlflow")}
    options = {"sweep": sweep_options(), "corpus": corpus_options(), "python": platform.python_version(), **made_with}
    (root / OPTIONS).write_text(json.dumps(options, indent=2))

    finished, interrupted = root / FINISHED, root / INTERRUPTED
    subprocess.run(job("sweep", *sweep_options(), f"--output={finished}"), env=environment, check=True)
    subprocess.run(job("compare", "--data.name=reviews", f"--output={finished}"), env=environment, check=True)
    for _ in range(_TRIES):
        if interrupt(interrupted, environment):
            break
        shutil.rmtree(interrupted)
    else:
        raise SystemExit(f"the moment to interrupt the sweep was missed {_TRIES} times; try again")
    done = sorted(file.parent.name for file in interrupted.glob("trials/*/result.json"))
    assert len(done) == 4, done
    print(f"interrupted after {', '.join(done)}")


def pack(root: Path, output: Path) -> None:
    """Write the archive, without what a run does not depend on."""

    def plain(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
        member.uid = member.gid = 0
        member.uname = member.gname = ""
        return None if Path(member.name).name in _LEFT_OUT else member

    output.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(output, "w:xz", preset=9) as archive:
        for path in sorted(root.iterdir()):
            archive.add(path, path.name, filter=plain)


def main() -> None:
    """Record and pack."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", required=True, metavar="FILE.tar.xz", help="The archive to write.")
    output = Path(parser.parse_args().output).absolute()
    imported = Path(unirex_ray.__file__).parents[1]
    if imported != CHECKOUT:
        raise SystemExit(f"unirex_ray is imported from {imported}: run this with PYTHONPATH={CHECKOUT}")
    if output.exists():
        raise SystemExit(f"{output} is there already")
    try:
        with empty_root(wait_s=0) as root, tempfile.TemporaryDirectory(prefix="ray-") as scratch:
            record(root, scratch)
            pack(root, output)
    except PlaceTakenError as error:
        raise SystemExit(str(error)) from None
    print(f"wrote {output}: {output.stat().st_size / 1000:.0f} KB")


if __name__ == "__main__":
    main()
