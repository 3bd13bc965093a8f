"""Tables as other software writes them: dialects, encodings, compression, spellings of labels."""

import bz2
import gzip
import json
import lzma
from collections.abc import Sequence
from typing import Any

import pytest
from helpers.labelled_corpora import refused, rows, sizes
from helpers.tables import KINDS, LABELS, as_jsonl, load_yes_or_no, table

from unirex_ray.data.corpora.table import load_table
from unirex_ray.data.schema import SPLITS
from unirex_ray.errors import UserError


def whole(name: str, content: str | bytes, labels: Sequence[str] = LABELS, **options: Any) -> list[tuple[str, int]]:
    """Texts and labels of a single file, in its order."""
    found = table({name: content}, labels, **options)
    return [(text, label) for _, (text,), label in sorted(rows(found), key=lambda row: int(row[0].split("-")[1]))]


TEN = [(f"text {n}", n % 2) for n in range(10)]


def lines(delimiter: str = ",", header: str = "text,label") -> str:
    return "".join(f"{header}\n".replace(",", delimiter) + "".join(f"{t}{delimiter}{LABELS[n]}\n" for t, n in TEN))


@pytest.mark.parametrize("kind", ["csv", "tsv"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_the_delimiter_is_the_one_that_gives_the_columns(kind, delimiter):
    assert whole(f"a.{kind}", lines(delimiter)) == TEN


@pytest.mark.parametrize("header", ["text , label", " text,label ", "\ufefftext\u00a0, label"])
def test_blanks_around_names_and_values_do_not_count(header):
    assert whole("a.csv", lines(", ", header.replace(",", "\0")).replace("\0", ",")) == TEN
    quoted = 'text , label\n "one, two" , yes\n'.replace('" ,', '",') + lines(", ").partition("\n")[2]
    assert whole("a.csv", quoted)[0] == ("one, two", 1)


def test_a_column_named_as_wanted_stands_before_one_with_blanks():
    assert whole("a.csv", "text ,text,label\n" + "".join(f"x,{t},{LABELS[n]}\n" for t, n in TEN)) == TEN


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "utf-8-sig"])
@pytest.mark.parametrize("kind", ["csv", "jsonl", "json"])
def test_files_are_read_by_the_mark_that_they_begin_with(kind, encoding):
    records = [{"text": f"{text} \u2713\u0a0d", "label": LABELS[label]} for text, label in TEN]
    text = KINDS[kind](records).decode() if kind != "json" else json.dumps(records, ensure_ascii=False, indent=1)
    assert whole(f"a.{kind}", text.encode(encoding)) == [(f"{text} \u2713\u0a0d", label) for text, label in TEN]


@pytest.mark.parametrize("pack", [("gz", gzip.compress), ("bz2", bz2.compress), ("XZ", lzma.compress)])
@pytest.mark.parametrize("kind", KINDS)
def test_compressed_tables_are_unpacked(kind, pack):
    records = [{"text": text, "label": LABELS[label]} for text, label in TEN]
    ending, compress = pack
    files = {f"{split}-00000-of-00001.{kind}.{ending}": compress(KINDS[kind](records)) for split in SPLITS}
    assert [(text, label) for _, (text,), label in rows(table(files), "dev")] == TEN


def test_what_unfolds_to_far_more_than_it_is_is_refused():
    bomb = gzip.compress(bytes(64 << 20))
    found = refused(load_yes_or_no, {"train.csv.gz": bomb})
    assert found.startswith("corpus: train.csv.gz: cannot be unpacked (it unfolds to more than 16 MiB")


@pytest.mark.parametrize("indent", [None, 2])
def test_an_array_of_records_is_a_table_and_so_are_lines_of_them(indent):
    records = [{"text": text, "label": LABELS[label]} for text, label in TEN]
    assert whole("a.json", json.dumps(records, indent=indent)) == TEN
    assert whole("a.json", as_jsonl(records)) == TEN


def test_json_beside_tables_is_none():
    files = {"reviews.csv": lines(), "config.json": "{}", "dataset_infos.json": "{}"}
    assert sum(sizes(table(files))) == 10
    assert sum(sizes(table({"reviews.json": as_jsonl([{"text": t, "label": LABELS[n]} for t, n in TEN])}))) == 10


@pytest.mark.parametrize("labels", [("0", "1"), ("0.0", "1.0"), ("1", "0")])
def test_whole_numbers_are_the_same_label_however_they_are_written(labels):
    expected = [(text, int(float(labels[1])) == value) for text, value in TEN]
    for value in (int, float, str, lambda n: f"{n}.0", lambda n: f" {n}."):
        records = [{"text": text, "label": value(n)} for text, n in TEN]
        for kind, write in KINDS.items():
            assert whole(f"a.{kind}", write(records), labels) == expected


@pytest.mark.parametrize("labels", [("false", "true"), ("False", "True"), ("FALSE", "TRUE")])
def test_truth_is_the_same_label_however_it_is_written(labels):
    for value in (bool, lambda n: str(bool(n)), lambda n: str(bool(n)).lower()):
        records = [{"text": text, "label": value(n)} for text, n in TEN]
        for kind, write in KINDS.items():
            assert whole(f"a.{kind}", write(records), labels) == TEN


def test_labels_that_differ_in_spelling_alone_are_told_apart():
    body = "text,label\n" + "".join(f"t{n},{('1', '1.0', 'true', 'True')[n % 4]}\n" for n in range(40))
    assert [label for _, label in whole("a.csv", body, ("1", "1.0", "true", "True"))] == [n % 4 for n in range(40)]
    found = refused(lambda *given: load_table(*given, ("1", "1.0")), {"a.csv": "text,label\na,1.00\n"})
    assert found.endswith("line 2: 'label' must be one of 1, 1.0, but is '1.00'")


def test_quotes_in_tabs_are_text_where_one_does_not_close():
    """As in GLUE's files; where all of them come in pairs, they are quotes."""
    body = 'text\tlabel\nplain\tno\n"stray\tyes\nother\tno\nend"\tyes\n"a" b\tno\n""c""\tyes\n'
    stray = [("plain", 0), ('"stray', 1), ("other", 0), ('end"', 1), ('"a" b', 0), ('""c""', 1)]
    assert whole("a.tsv", body + "".join(f"{t}\t{LABELS[n]}\n" for t, n in TEN)) == stray + TEN
    assert whole("a.csv", body + "".join(f"{t}\t{LABELS[n]}\n" for t, n in TEN)) == stray + TEN
    paired = 'text\tlabel\n"a ""b"" c"\tno\n' + "".join(f"{t}\t{LABELS[n]}\n" for t, n in TEN)
    assert whole("a.tsv", paired) == [('a "b" c', 0), *TEN]


def test_a_quote_that_would_swallow_rows_of_tabs_is_refused():
    body = 'text\tlabel\nplain\tno\n"stray\tyes\nother\nend"\tyes\n'
    with pytest.raises(UserError, match=r"train\.tsv, line 3: must be a row on one line, but a quote that opens here"):
        table({"train.tsv": body.encode(), "dev.tsv": b"", "test.tsv": b""})


def test_too_few_rows_to_draw_splits_from_are_refused():
    body = "text,label\na,yes\nb,no\nc,no\n"
    with pytest.raises(UserError, match=r"reviews\.csv has 3 instances, too few to draw dev and test from them"):
        table({"reviews.csv": body.encode()})
