"""What a corpus holds, for people."""

from __future__ import annotations

from collections.abc import Callable

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from unirex_ray.data.encoded import EncodedCorpus
from unirex_ray.data.highlight import HighlightedInstance, highlight_gold
from unirex_ray.data.schema import SPLITS, Corpus
from unirex_ray.data.statistics import CorpusStatistics, SplitStatistics
from unirex_ray.report.html import rationale_page

_ON_PAGE = 60
_Cell = Callable[[SplitStatistics], str]


def print_corpus(found: CorpusStatistics, out: Console) -> None:
    """One column per split, then what loading and truncation found worth telling."""
    title = Text(f"{found.name}: data digest {found.digest}, task score {found.task_metric}", style="bold")
    table = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left")
    table.add_column("")
    for split in SPLITS:
        table.add_column(split, justify="right")
    for name, cell in _rows(found):
        table.add_row(Text(name), *(cell(found.splits[split]) for split in SPLITS))
    out.print(table)
    for note in found.notes:
        out.print(note, markup=False, soft_wrap=True)


def corpus_page(corpus: Corpus, encoded: EncodedCorpus) -> str:
    """An HTML page of train instances with their gold rationales: some that are cut, then the first ones."""
    train = encoded.splits["train"]
    cut = train.truncated.view(-1, train.choices).any(dim=1).nonzero().flatten().tolist()
    chosen = list(dict.fromkeys([*cut[: _ON_PAGE // 2], *range(min(_ON_PAGE, len(train)))]))[:_ON_PAGE]
    shown = highlight_gold(train, corpus.splits["train"], corpus.labels, chosen)
    return rationale_page(shown, title=f"{corpus.name}, train")


def first_instances(corpus: Corpus, encoded: EncodedCorpus, count: int) -> tuple[HighlightedInstance, ...]:
    """The first train instances with their gold rationales."""
    train = encoded.splits["train"]
    return highlight_gold(train, corpus.splits["train"], corpus.labels, range(min(count, len(train))))


def _rows(found: CorpusStatistics) -> list[tuple[str, _Cell]]:
    return [
        ("instances", lambda s: f"{s.instances:,}"),
        *((f"  {label}", _label(label)) for label in found.labels),
        ("with a gold rationale", lambda s: _of(s.with_gold, s.instances)),
        ("rationale's share of the tokens", lambda s: "" if s.rationale_share is None else f"{s.rationale_share:.1%}"),
        ("tokens per input, shortest", lambda s: f"{s.lengths.shortest:,}"),
        ("  median", lambda s: f"{s.lengths.median:,.0f}"),
        ("  mean", lambda s: f"{s.lengths.mean:,.1f}"),
        ("  95% have at most", lambda s: f"{s.lengths.percentile_95:,.0f}"),
        ("  longest", lambda s: f"{s.lengths.longest:,}"),
        (f"inputs cut to {found.max_length:,} tokens", lambda s: f"{s.cut:,}"),
        *(_CUT if any(split.cut for split in found.splits.values()) else ()),
        ("texts that come again in the split", lambda s: f"{s.repeated:,}"),
        ("texts that are in train as well", lambda s: f"{s.seen_in['train']:,}" if "train" in s.seen_in else ""),
        ("texts that are in dev as well", lambda s: f"{s.seen_in['dev']:,}" if "dev" in s.seen_in else ""),
    ]


_CUT: tuple[tuple[str, _Cell], ...] = (
    ("  to their last window", lambda s: f"{s.last_windows:,}"),
    ("  gold tokens cut off", lambda s: f"{s.gold_cut:,}"),
    ("  inputs left without gold", lambda s: f"{s.gold_lost:,}"),
)


def _label(label: str) -> _Cell:
    return lambda s: _of(s.labels[label], s.instances)


def _of(part: int, whole: int) -> str:
    shown = f"{part / whole:.0%}"
    # Neither all nor none, where it is not quite that.
    return f"{part:,} ({f'{part / whole:.1%}' if shown in ('0%', '100%') and 0 < part < whole else shown})"
