"""How a job ends, and the hint behind an unknown name."""

import signal
import subprocess
import sys

import pytest

from unirex_ray.errors import did_you_mean

JOB = """
import atexit, time
def slow():  # as Ray's shutdown, which is registered where Ray is imported
    print("down", flush=True)
    time.sleep(1)
    print("up", flush=True)
def main():
    atexit.register(slow)
    raise SystemExit(3)
from unirex_ray.errors import exit_on_user_error
exit_on_user_error(main)
"""


def test_ctrl_c_while_libraries_shut_down_is_no_traceback():
    job = subprocess.Popen([sys.executable, "-c", JOB], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert job.stdout.readline() == "down\n"
    job.send_signal(signal.SIGINT)
    out, err = job.communicate(timeout=60)
    assert (out, err, job.returncode) == ("up\n", "", 3)


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("train.lr", " (did you mean 'train.learning_rate'?)"),
        ("LR", " (did you mean 'train.learning_rate'?)"),
        ("train.epoch", " (did you mean 'train.epochs'?)"),
        ("l", ""),
        ("colour", ""),
    ],
)
def test_an_unknown_name_is_a_slip_or_an_abbreviation(name: str, meant: str) -> None:
    assert did_you_mean(name, ("train.gpu", "train.epochs", "train.learning_rate", "loss.top_k")) == meant
