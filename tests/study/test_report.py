"""What a study's report says: in the terminal, in Markdown, LaTeX, HTML and CSV."""

import csv
import io
import re
from dataclasses import replace

import pytest
from helpers.studies import answered, made_study
from rich.console import Console

from unirex_ray.report.table import ReportTable
from unirex_ray.study.analysis import Analysis, Cell, Pair, analyse
from unirex_ray.study.answers import Answers
from unirex_ray.study.in_words import findings, interval_remarks, pair_sentence
from unirex_ray.study.manifest import Study, Text
from unirex_ray.study.report import problem_lines, study_page, write_report
from unirex_ray.study.tables import SIMULATED_REMARK, study_tables
from unirex_ray.study.tasks import TASKS


def analysed(*, simulated: bool = False, instances: int = 8, **options) -> tuple[Study, Answers, Analysis]:
    study = made_study(instances=instances, annotators=4, raters=2, **options)
    answers = answered(study, simulated=simulated)
    return study, answers, analyse(study, answers, draws=50)


@pytest.fixture(scope="module")
def some() -> tuple[Study, Answers, Analysis]:
    return analysed()


def printed(table: ReportTable, width: int = 240) -> str:
    out = Console(width=width, file=io.StringIO(), highlight=False)
    table.print(out)
    return out.file.getvalue()


def records(table: ReportTable) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(table.csv())))


def cell(mean: float, std: float | None = 1.0, answers: int = 8) -> Cell:
    return Cell(mean=mean, std=std, interval=(mean - 2, mean + 3), annotators=2, instances=4, answers=answers)


def test_table_3_has_the_papers_order_and_columns(some):
    study, answers, analysis = some
    cells = {
        "label": {3: cell(92.0), 0: cell(80.8, 9.73), 1: cell(41.2)},
        "confidence": {3: cell(3.02), 0: cell(2.34, None)},
        "alignment": {0: cell(3.64), 2: cell(4.0)},
    }
    table = study_tables(study, answers, replace(analysis, cells=cells))["table3"]
    lines = [line for line in table.markdown().splitlines() if line.startswith("|")]
    assert lines[0] == (
        "| Method | Accuracy (%) | Accuracy, 95 % | Confidence (1-4) | Confidence, 95 % | Alignment (1-5) | "
        "Alignment, 95 % | Forward | Rating |"
    )
    assert lines[2:] == [
        "| No Rationale | 92.00 ± 1.00 | 90.00 to 95.00 | 3.02 ± 1.00 | 1.02 to 6.02 | - |  | 8 by 2 |  |",
        "| Method unirex-dlm-fp | **80.80 ± 9.73** | 78.80 to 83.80 | 2.34 | 0.34 to 5.34 | 3.64 ± 1.00 | "
        "1.64 to 6.64 | 8 by 2 | 8 by 2 |",
        "| Method aa-ig | 41.20 ± 1.00 | 39.20 to 44.20 | - |  | - |  | 8 by 2 |  |",
        "| Gold | - |  | - |  | 4.00 ± 1.00 | 2.00 to 7.00 |  | 8 by 2 |",
    ]
    first, *_, gold = records(table)
    assert (first["method"], first["kind"], first["accuracy"], first["alignment"]) == (
        "No Rationale",
        "none",
        "92.0",
        "",
    )
    assert (gold["alignment_low"], gold["accuracy_answers"]) == ("2.0", "0")


def pair(condition: int, other: int, difference: float, p: float, question: str = "label") -> Pair:
    interval = (difference - 5.1, difference + 5)
    return Pair(question=question, condition=condition, other=other, difference=difference, interval=interval, p=p)


def test_pairs_in_words(some):
    study, _, analysis = some
    assert pair_sentence(study, pair(0, 1, 2.1, 0.4)) == (
        "Method unirex-dlm-fp and Method aa-ig cannot be told apart in accuracy (difference 2.10 points, 95 % interval "
        "-3.00 to 7.10, p = 0.40 by Holm)."
    )
    assert pair_sentence(study, pair(0, 1, -20.0, 0.004, "alignment")) == (
        "Method aa-ig is ahead of Method unirex-dlm-fp in alignment (difference 20.00, 95 % interval 15.00 to 25.10, "
        "p < 0.01 by Holm)."
    )
    cells = {"label": {0: cell(60.0), 1: cell(40.0), 2: cell(80.0)}, "confidence": {}, "alignment": {0: cell(3.0)}}
    pairs = (pair(0, 1, 20.0, 0.01), pair(2, 0, 20.0, 0.02), pair(3, 0, 9.0, 0.9))
    assert findings(study, replace(analysis, cells=cells, pairs=pairs)) == [
        "Method unirex-dlm-fp has the highest mean accuracy of the methods (60.00 %).",
        "In accuracy it cannot be told apart from No Rationale (difference -9.00 points, 95 % interval -14.00 to "
        "-3.90, p = 0.90 by Holm).",
        "In accuracy it is ahead of Method aa-ig (difference 20.00 points, 95 % interval 14.90 to 25.00, "
        "p = 0.01 by Holm).",
        "In accuracy it is behind Gold (difference -20.00 points, 95 % interval -25.00 to -14.90, p = 0.02 by Holm).",
        "Method unirex-dlm-fp has a mean alignment of 3.00.",
    ]


def test_nobody_answered():
    study = made_study()
    answers = Answers(answers=(), simulated=False, unanswered={"a1": ["forward-0-0"]})
    analysis = analyse(study, answers)
    assert findings(study, analysis) == ["No rationale of a method has been judged yet."]
    tables = study_tables(study, answers, analysis)
    assert "1 of 1 answers are missing (a1: 1)." in tables["table3"].remarks
    assert "No two conditions have enough answers" in tables["pairs"].markdown()
    assert "No rationale of a method has been judged yet." in study_page(study, answers, analysis, tables)


@pytest.mark.parametrize(
    ("annotators", "says"),
    [(1, "WITH ONE ANNOTATOR"), (2, "2 annotators tell little of how far people differ"), (5, None)],
)
def test_what_intervals_leave_out(annotators, says):
    study = made_study(annotators=annotators, instances=30)
    remarks = interval_remarks(analyse(study, answered(study), draws=20))
    assert remarks[0].startswith("95 % intervals and p: 20 bootstrap draws of ")
    assert ("draws of instances" in remarks[0]) == (annotators == 1)
    found = [remark for remark in remarks[1:] if "annotator" in remark.lower()]
    assert [says in remark for remark in found] == ([True] if says else [])


def test_highlights_in_every_form(some):
    study, answers, analysis = some
    texts = (Text(segments=("a <b>film</b> of 50% & more", "so *dull*|")),)
    marked = replace(study.rationales[0][0], marks=((0, 0, 5, 9), (0, 1, 0, 2)))
    study = replace(
        study,
        instances=tuple(replace(one, texts=texts) for one in study.instances),
        rationales=tuple((marked, *(replace(one, marks=()) for one in of[1:])) for of in study.rationales),
    )
    table = study_tables(study, answers, analysis)["table5"]
    plain, page = printed(table), study_page(study, answers, analysis, {"table5": table})
    assert "a <b>[film]</b> of 50% & more" in plain
    assert "[so] *dull*|" in plain
    assert "a &lt;b>**film**&lt;/b> of 50% & more **so** *dull*\\|" in table.markdown()
    assert r"a $<$b$>$\textbf{film}$<$/b$>$ of 50\% \& more \textbf{so} *dull*|" in table.latex()
    assert "a &lt;b&gt;<mark>film</mark>&lt;/b&gt; of 50% &amp; more\n<mark>so</mark> *dull*|" in page
    first = records(table)[0]
    assert first["highlighted"] == '[["film"], ["so"]]'
    assert first["texts"].startswith('["a <b>film')


def test_long_stretches_without_a_highlight_are_cut_and_control_characters_are_not_passed_on(some):
    study, answers, analysis = some
    text = f"{'x ' * 400}end \x1b[31m red"
    start = text.index("end")
    marked = replace(study.rationales[0][0], marks=((0, 0, start, start + 3),))
    study = replace(
        study,
        instances=tuple(replace(one, texts=(Text(segments=(text,)),)) for one in study.instances),
        rationales=tuple((marked, *of[1:]) for of in study.rationales),
    )
    cells = study_tables(study, answers, analysis)["table5"].columns["Rationale"]
    assert " [...] " in str(cells[0])
    assert len(str(cells[0])) < 250
    assert "\x1b" not in "".join(map(str, cells))


def test_table_5_says_how_many_conditions_were_rated(some):
    study, answers, analysis = some
    table = study_tables(study, answers, analysis)["table5"]
    assert len(records(table)) == 6 * 3  # three instances twice, two methods and Gold
    rated = {sum(bool(given) for given in one.ratings.values()) for one in (*analysis.highest, *analysis.widest)}
    assert any(f"of the 3 conditions, {' or '.join(map(str, sorted(rated)))} were rated" in r for r in table.remarks)
    everything = replace(
        analysis,
        highest=[replace(one, ratings={number: [3, 4] for number in range(3)}) for one in analysis.highest],
        widest=[],
    )
    whole = study_tables(study, answers, everything)["table5"]
    assert not any("were rated" in remark for remark in whole.remarks)
    assert "3.50 ± 0.71 (2)" in whole.markdown()


def test_simulated_is_said_everywhere():
    study, answers, analysis = analysed(simulated=True)
    tables = study_tables(study, answers, analysis)
    for table in tables.values():
        assert table.title.startswith("SIMULATED ANNOTATORS, NO PEOPLE: ")
        assert table.remarks[0] == SIMULATED_REMARK
        assert all(row["simulated"] == "true" for row in records(table))
    page = study_page(study, answers, analysis, tables)
    assert "<title>SIMULATED ANNOTATORS, NO PEOPLE: User study" in page
    assert findings(study, analysis)[0] == "SIMULATED annotators, no people:"


def test_students_stand_in_a_table_of_their_own(some):
    study, answers, analysis = some
    without = study_tables(study, answers, analysis)
    tables = study_tables(study, answers, analysis, simulated={"Gold": [0.5, 0.75], "Method aa-ig": [1.0]})
    assert {name: table for name, table in tables.items() if name != "simulated"} == without
    assert tables["simulated"].title == "SIMULATED annotators (a model, no people): accuracy of forward simulation"
    assert tables["simulated"].columns["Accuracy (%)"] == ["100.00", "62.50 ± 17.68"]
    assert not any("SIMULATED" in table.title for table in without.values())


def test_problems_are_few_in_the_terminal_and_all_on_the_page(some):
    study, answers, analysis = some
    problems = tuple(f"f{number}.json: <script>\n{number}" for number in range(14))
    ids = {task: study.sheets["a1"][task][0] for task in TASKS}
    answers = replace(answers, problems=problems, unanswered={"a1": list(ids.values())})
    lines = problem_lines(answers)
    assert (len(lines), lines[0]) == (12, "f0.json: <script> 0")
    assert lines[-2:] == [
        "... and 4 more problems: see report.html",
        f"2 of {len(answers.answers) + 2} answers are missing (a1: 2).",
    ]
    page = study_page(study, answers, analysis, study_tables(study, answers, analysis))
    assert "<script>" not in page
    assert all(f"f{number}.json: &lt;script&gt; {number}<" in page for number in range(14))
    assert f"a1, forward: {ids['forward']}" in page
    assert "% f13" not in "\n".join(table.latex() for table in study_tables(study, answers, analysis).values())


def test_the_page_says_where_it_comes_from(some):
    study, answers, analysis = some
    page = study_page(study, answers, analysis, study_tables(study, answers, analysis))
    for part in (study.id, analysis.digest, "trial_id s-aa-ig-0000-s0", "4 annotators, 8 instances", "bootstrap draws"):
        assert part in page
    assert not re.search(r"https?:|<script|<link|src=", page)


def test_files(some, tmp_path):
    study, answers, analysis = some
    tables = study_tables(study, answers, analysis)
    names = write_report(tmp_path / "report", tables, "page")
    assert sorted(names) == sorted(path.name for path in (tmp_path / "report").iterdir())
    assert {"report.html", "study.md", "study.tex", "table3.csv", "table5.csv", "pairs.csv"} < set(names)
    assert (tmp_path / "report" / "study.tex").read_text().count(r"\begin{tabular}") == len(tables)


def test_one_task_alone():
    for task, absent in (("forward", "Alignment"), ("rating", "Accuracy")):
        study, answers, analysis = analysed(tasks=(task,))
        tables = study_tables(study, answers, analysis)
        assert ("table5" in tables) == (task == "rating")
        assert not any(header.startswith(absent) for header in tables["table3"].columns)
        assert ("No Rationale" in tables["table3"].columns["Method"]) == (task == "forward")
