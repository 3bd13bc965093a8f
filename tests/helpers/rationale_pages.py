"""Instances to show, and what a page shows of them: as it is written, and as a browser makes it."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path

from helpers.browser import browser_program

from unirex_ray.data.highlight import HighlightedInput, HighlightedInstance, HighlightedToken, highlights_to_json
from unirex_ray.training.result_file import seal

K = (1, 5, 10, 20, 50)
VOID = ("meta", "br", "input", "img", "link")


def highlighted(
    text: str, enters: Mapping[str, int], gold: Set[str] | None = None, *, shown: int = 20, segment: int = 0
) -> HighlightedInput:
    """A text whose words are tokens.

    Args:
        enters: by word, see `HighlightedToken`.
    """
    tokens = tuple(
        HighlightedToken(
            segment=segment,
            start=match.start(),
            end=match.end(),
            score=len(match.group()) / 4 - 1,
            selected=0 < enters.get(match.group(), 0) <= shown,
            gold=None if gold is None else match.group() in gold,
            enters=enters.get(match.group(), 0),
        )
        for match in re.finditer(r"\S+", text)
    )
    return HighlightedInput(segments=(text,), tokens=tokens)


def instance(
    text: str,
    enters: Mapping[str, int],
    gold: Set[str] | None = None,
    *,
    name: str = "test-1",
    label: str | None = "pos",
    predicted: str | None = "pos",
    probability: float = 0.875,
    shown: int = 20,
    thresholds: tuple[int, ...] = K,
    measured: Mapping[str, float] | None = None,
) -> HighlightedInstance:
    return HighlightedInstance(
        id=name,
        inputs=(highlighted(text, enters, gold, shown=shown),),
        label=label,
        predicted=predicted,
        probability=probability,
        top_k_percent=shown,
        thresholds=thresholds,
        measured=measured or {},
    )


def result_file(text: str) -> bytes:
    """`result.json` of a trial that shows one instance."""
    content = {"identity": "i", "card": {}, "metrics": {}, "epoch": 1, "perturbation": "dropped"}
    highlights = highlights_to_json([instance(text, dict.fromkeys(text.split(), 5), set())])
    return seal({**content, "highlights": highlights}, {})


@dataclass
class Element:
    tag: str
    attributes: dict[str, str] = field(default_factory=dict)
    children: list[Element | str] = field(default_factory=list)

    def walk(self) -> Iterator[Element]:
        yield self
        for child in self.children:
            if isinstance(child, Element):
                yield from child.walk()

    def all(self, tag: str, **attributes: str) -> list[Element]:
        """Descendants with these attributes; `class_` is one of the classes."""
        wanted = attributes.pop("class_", None)
        return [
            one
            for one in self.walk()
            if one.tag == tag
            and attributes.items() <= one.attributes.items()
            and (wanted is None or wanted in one.attributes.get("class", "").split())
        ]

    @property
    def text(self) -> str:
        return "".join(child if isinstance(child, str) else child.text for child in self.children)


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open = [Element("document")]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        element = Element(tag, {name: value or "" for name, value in attrs})
        self.open[-1].children.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop().tag == tag

    def handle_data(self, data: str) -> None:
        self.open[-1].children.append(data)


def parse(page: str) -> Element:
    reader = _Reader()
    reader.feed(page)
    assert len(reader.open) == 1
    return reader.open[0]


def marks(page: Element) -> list[tuple[str, str]]:
    """What is marked in the instances' texts: kind and text."""
    return [(one.attributes["class"], one.text) for text in page.all("p", class_="text") for one in text.all("mark")]


def numbers(page: Element) -> dict[str, list[str]]:
    """The numbers of the instances by name, from the top."""
    found: dict[str, list[str]] = {}
    for pair in (pair for one in page.all("dl") for pair in one.all("div")):
        found.setdefault(pair.all("dt")[0].text, []).append(pair.all("dd")[0].text)
    return found


def in_browser(page: str, folder: Path, fragment: str = "", script: str = "") -> Element:
    """The page as a browser has it when its script has run.

    Args:
        script: what a visitor does.
    """
    browser = browser_program()
    if script:  # of ours, which the page's policy would refuse
        page = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page)
        page = page.replace("</body>", f"<script>{script}</script></body>")
    file = folder / "page.html"
    file.write_text(page, encoding="utf-8")
    command = (browser, "--headless", "--disable-gpu", "--no-first-run", f"--user-data-dir={folder / 'profile'}")
    sandbox = ("--no-sandbox",) if os.geteuid() == 0 else ()
    done = subprocess.run(
        [*command, *sandbox, "--virtual-time-budget=2000", "--dump-dom", f"{file.as_uri()}{fragment}"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return parse(done.stdout)
