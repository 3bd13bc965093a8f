"""Which of a comparison's tables are printed."""

from unittest.mock import MagicMock

import pytest

from unirex_ray.errors import UserError
from unirex_ray.report.compared import Compared
from unirex_ray.report.table import ReportTable

NAMES = ("comparison", "pairs", "configurations", "baseline", "table_main", "transfer")
TABLES = {name: ReportTable(title=name, lead={}, scores={}, raw={}) for name in NAMES}


def printed(table: str | None = None, *, without: str = "", configurations: bool = False, pairs: bool = False) -> list:
    tables = {name: one for name, one in TABLES.items() if name != without}
    compared = Compared(
        comparison=MagicMock(), tables=tables, figures={}, sweeps=(), store=MagicMock(), results={}, rationales=""
    )
    return [one.title for one in compared.to_print(configurations=configurations, pairs=pairs, table=table)]


def test_what_is_long_and_the_papers_forms_are_printed_when_asked_for() -> None:
    assert printed() == ["comparison", "baseline", "transfer"]
    assert printed(pairs=True) == ["comparison", "pairs", "baseline", "transfer"]
    assert printed(configurations=True) == ["comparison", "configurations", "baseline", "transfer"]


def test_a_table_of_the_paper_is_printed_with_what_else_was_asked_for() -> None:
    assert printed("main") == ["table_main", "baseline"]
    assert printed("main", without="baseline") == ["table_main"]
    assert printed("2", without="baseline") == ["transfer"]
    assert printed("main", pairs=True, configurations=True) == ["table_main", "configurations", "pairs", "baseline"]
    assert printed("main", without="pairs", pairs=True) == ["table_main", "baseline"]
    with pytest.raises(UserError, match="--table=4: no sweep has results for it"):
        printed("4")
