"""Examples of the documentation, taken out of its pages to be run."""

import re
import shlex
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent


def section(page: str, heading: str) -> str:
    """One section of a page, e.g. `A method of your own`, up to the next of the same level."""
    text = (ROOT / page).read_text(encoding="utf-8")
    (found,) = re.findall(rf"^## {re.escape(heading)}$(.*?)(?=^## |\Z)", text, flags=re.MULTILINE | re.DOTALL)
    return str(found)


def blocks(text: str, language: str) -> list[str]:
    """Fenced blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)


def commands(text: str) -> list[list[str]]:
    """Commands that run jobs: a job's name, and its arguments."""
    found = re.findall(r"^ {4}python jobs/(\w+)\.py(.*)$", text.replace("\\\n", " "), flags=re.MULTILINE)
    return [[job, *shlex.split(arguments, comments=True)] for job, arguments in found]
