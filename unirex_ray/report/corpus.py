"""Size, labels, lengths and gold rationales of a corpus, for people."""

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


def print_corpus(counts: CorpusStatistics, out: Console) -> None:
    """One column per split, then the notes of loading and truncation."""
    title = Text(f"{counts.name}: data digest {counts.digest}, task score {counts.task_metric}", style="bold")
    table = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left")
    table.add_column("")
    for split in SPLITS:
        table.add_column(split, justify="right")
    for name, cell in _rows(counts):
        table.add_row(Text(name), *(cell(counts.splits[split]) for split in SPLITS))
    out.print(table)
    for note in counts.notes:
        out.print(note, markup=False, soft_wrap=True)


def corpus_page(corpus: Corpus, encoded: EncodedCorpus) -> str:
    """An HTML page of train instances with their gold rationales: truncated ones, then the first ones."""
    train = encoded.splits["train"]
    cut = train.truncated.view(-1, train.choices).any(dim=1).nonzero().flatten().tolist()
    chosen = list(dict.fromkeys([*cut[: _ON_PAGE // 2], *range(min(_ON_PAGE, len(train)))]))[:_ON_PAGE]
    instances = highlight_gold(train, corpus.splits["train"], corpus.labels, chosen)
    return rationale_page(instances, title=f"{corpus.name}, train")


def first_instances(corpus: Corpus, encoded: EncodedCorpus, count: int) -> tuple[HighlightedInstance, ...]:
    """The first train instances with their gold rationales."""
    train = encoded.splits["train"]
    return highlight_gold(train, corpus.splits["train"], corpus.labels, range(min(count, len(train))))


def _rows(counts: CorpusStatistics) -> list[tuple[str, _Cell]]:
    return [
        ("instances", lambda s: f"{s.instances:,}"),
        *((f"  {label}", _label(label)) for label in counts.labels),
        ("with a gold rationale", lambda s: _of(s.with_gold, s.instances)),
        ("rationale's share of the tokens", lambda s: "" if s.rationale_share is None else f"{s.rationale_share:.1%}"),
        ("tokens per input, shortest", lambda s: f"{s.lengths.shortest:,}"),
        ("  median", lambda s: f"{s.lengths.median:,.0f}"),
        ("  mean", lambda s: f"{s.lengths.mean:,.1f}"),
        ("  95% have at most", lambda s: f"{s.lengths.percentile_95:,.0f}"),
        ("  longest", lambda s: f"{s.lengths.longest:,}"),
        (f"inputs cut to {counts.max_length:,} tokens", lambda s: f"{s.cut:,}"),
        *(_CUT if any(split.cut for split in counts.splits.values()) else ()),
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


def _of(part: int, total: int) -> str:
    share = f"{part / total:.0%}"
    # 0% and 100% mean none and all.
    return f"{part:,} ({f'{part / total:.1%}' if share in ('0%', '100%') and 0 < part < total else share})"
