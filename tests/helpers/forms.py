"""What annotators do with a form, in a browser."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

from unirex_ray.study.answers import Answers, collect, raw_answers
from unirex_ray.study.form import form_page
from unirex_ray.study.manifest import Study
from unirex_ray.study.sheet import sheet_of
from unirex_ray.study.tasks import TASKS, TaskName

Values = dict[str, int]

CONTRASTS = """() => {
  const channels = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const luminance = (colour) => {
    const linear = (v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    const [r, g, b] = channels(colour).slice(0, 3).map((v) => linear(v / 255));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (one) => {
    for (; one; one = one.parentElement) {
      const colour = getComputedStyle(one).backgroundColor;
      if (channels(colour)[3] !== 0) return colour;
    }
  };
  const shown = [...document.querySelectorAll("body *")].filter(
    (one) => one.checkVisibility() && [...one.childNodes].some((node) => node.nodeType === 3 && node.data.trim()));
  return shown.map((one) => {
    const [dark, light] = [luminance(getComputedStyle(one).color), luminance(behind(one))].sort((a, b) => a - b);
    return [one.textContent, (light + 0.05) / (dark + 0.05)];
  });
}"""
"""Each text that is shown, with the contrast (1 to 21) of its colour to what lies behind it."""


def written(folder: Path, study: Study, annotator: str = "a1") -> str:
    """Address of an annotator's form."""
    file = folder / f"{annotator}.html"
    file.write_text(form_page(sheet_of(study, annotator)), encoding="utf-8")
    return file.as_uri()


def drawn_values(study: Study, annotator: str) -> dict[str, Values]:
    """Answers at random to all items, in the order in which the form asks for them."""
    draw = random.Random(annotator)
    return {
        item: {
            question.name: draw.choice(question.allowed(len(study.instances[study.by_id[item].instance].options)))
            for question in TASKS[task].questions
        }
        for task, items in study.sheets[annotator].items()
        for item in items
    }


def task_values(study: Study, annotator: str, task: TaskName) -> dict[str, Values]:
    """Those of one task."""
    values = drawn_values(study, annotator)
    return {item: values[item] for item in study.sheets[annotator][task]}


def press_answers(page: Any, values: dict[str, Values]) -> None:
    """Answer by keyboard from the page that is shown on, and leave the last one."""
    for given in values.values():
        for name, value in given.items():
            page.keyboard.press(str(value + (name == "label")))
        page.keyboard.press("Enter")


def click_answers(page: Any, values: dict[str, Values]) -> None:
    """The same by mouse, the last question first."""
    for given in values.values():
        for name, value in reversed(given.items()):
            page.locator(f"input[name={name}]").nth(value - (name != "label")).click()
        page.get_by_role("button", name="Next", exact=True).click()


def export(page: Any) -> dict[str, Any]:
    """The file that the form gives, and under `name` what it is called."""
    with page.expect_download() as download:
        page.locator("#tools").get_by_role("button", name="Export answers").click()
    content = json.loads(Path(download.value.path()).read_text(encoding="utf-8"))
    return {"name": download.value.suggested_filename, **content}


def exported(page: Any, study: Study) -> Answers:
    """What the study finds in the file."""
    content = export(page)
    return collect(study, raw_answers(content, content["name"]))


def values_of(answers: Answers) -> dict[str, Values]:
    """By item."""
    return {answer.item.id: dict(answer.values) for answer in answers.answers}


def upload(page: Any, content: Any) -> str:
    """Import a file; what the form says."""
    data = content if isinstance(content, bytes) else json.dumps(content).encode()
    page.evaluate("document.getElementById('said').textContent = ''")
    page.locator("#file").set_input_files({"name": "file.json", "mimeType": "application/json", "buffer": data})
    page.locator("#said:not(:empty)").wait_for()  # the page's policy keeps Playwright from waiting for an expression
    return str(page.locator("#said").inner_text())


def title(page: Any) -> str:
    """The heading that is in sight."""
    return str(page.locator("h1:visible").inner_text())


def button(page: Any, name: str) -> Any:
    """One to be pressed, by its words."""
    return page.get_by_role("button", name=name, exact=True)
