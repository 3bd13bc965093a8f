"""Corpora that are broken, or are none: see `bad_inputs`."""

import io
import json
import tarfile
import zipfile

Files = dict[str, str | bytes | None]
Row = tuple[str, str, Files]

GOOD = "text,label\n" + "".join(f"text {number},{('no', 'yes')[number % 2]}\n" for number in range(10))
GRID = "config: {sweep: {searcher: grid}}\n"
TABLE = "--data.name=table --data.labels=no,yes --data.source"


def _archive(kind: str) -> bytes:
    """An archive of a table that lacks its end."""
    buffer = io.BytesIO()
    if kind == "zip":
        with zipfile.ZipFile(buffer, "w") as archive:
            archive.writestr("train.csv", GOOD)
    else:
        with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
            info = tarfile.TarInfo("train.csv")
            info.size = 20_000
            archive.addfile(info, io.BytesIO(bytes(33 + n * n % 90 for n in range(20_000))))
    return buffer.getvalue()[:-40]


def eraser(*, label: str = "yes", end: int = 2, rows: int = 4, first: str | None = None) -> Files:
    """A corpus of one document of three words.

    Args:
        label: of every other instance.
        end: where rationales end.
        rows: of the dev split.
        first: first line of the train split in place of a right one.
    """
    files: Files = {"corpus/docs.jsonl": json.dumps({"docid": "d", "document": "one two three"})}
    for split, size in (("train", 4), ("val", rows), ("test", 4)):
        lines = [
            json.dumps(
                {
                    "annotation_id": f"{split}{number}",
                    "classification": label if number % 2 else "no",
                    "evidences": [[{"docid": "d", "start_token": 0, "end_token": end}]],
                }
            )
            for number in range(size)
        ]
        if first is not None and split == "train":
            lines[0] = first
        files[f"corpus/{split}.jsonl"] = "\n".join(lines)
    return files


CORPORA: list[Row] = [
    (
        "train --data.name=revews",
        "unknown data.name = 'revews' (did you mean 'reviews'?); choose one of reviews, sst",
        {},
    ),
    ("train --data.name=sst", "data.name=sst needs data.source; give trainDevTestTrees_PTB.zip", {}),
    ("train --data.name=sst --data.source=no.zip", "data.source = 'no.zip' does not exist; give trainDevTestTrees", {}),
    ("sweep --space=paper --data.name=sst --data.source=no.zip", "data.source = 'no.zip' does not exist", {}),
    ("benchmark trial --data.name=sst --data.source=no.zip", "data.source = 'no.zip' does not exist", {}),
    ("train --data.name=sst --data.source=a.txt", "it is neither a folder nor a .zip or .tar.gz", {"a.txt": "a"}),
    ("train --data.name=sst --data.source=c", "must hold train.txt, dev.txt, test.txt", {"c/a.md": ""}),
    ("train --data.name=sst --data.source=hf://datasets/a/b", "with all 40 digits of the commit", {}),
    (f"train --data.name=sst --data.source=hf://datasets/a/b@{'0' * 40}", "cannot be downloaded", {}),
    ("train --data.source=c", "data.source = 'c': data.name=reviews is generated and reads no files", {}),
    ("train --data.labels=a,b", "data.labels is for data.name=eraser and table alone; leave it out", {}),
    ("train --data.limit=1", "has no instance of positive within data.limit = 1; raise it", {}),
    ("train --data.train_limit=1", "has no instance of positive within data.train_limit = 1; raise it", {}),
    (
        "sweep --space=space.yaml",
        "has no instance of positive within data.train_limit = 1; raise it",
        {"space.yaml": f"{GRID}parameters: {{data.train_limit: {{choice: [null, 8, 1]}}}}"},
    ),
    ("train --data.train_limit=999999", "data.train_limit = 999999: reviews has 1200 train instances; lower it", {}),
    (
        "sweep --space=space.yaml --data.limit=16",
        "data.train_limit = 17: reviews has 16 train instances; lower it",
        {"space.yaml": f"{GRID}parameters: {{data.train_limit: {{choice: [8, 17]}}}}"},
    ),
    ("train --data.max_length=7", "data.max_length = '7': input should be greater than or equal to 8", {}),
    ("train --data.max_length=999 --model.encoder=$BERT", "data.max_length = 999:", {}),
    ("train --data.cache=a.txt --model.encoder=$BERT", "a.txt' cannot be written: File exists", {"a.txt": ""}),
    ("prepare_data --data.name=irony", "data.name=irony needs data.source; give a folder with the two task A", {}),
    ("prepare_data --data.name=table --data.source=t.csv", "data.name=table needs data.labels", {"t.csv": GOOD}),
    (
        f"prepare_data {TABLE}=t.csv --data.labels=no,no",
        "at least two different labels, but got 'no, no'",
        {"t.csv": GOOD},
    ),
    (
        f"prepare_data {TABLE}=t.csv --data.label_column=class",
        "must have one column 'class', but",
        {"t.csv": GOOD},
    ),
    (f"prepare_data {TABLE}=t.csv --data.text_columns=label", "must be different columns", {"t.csv": GOOD}),
    *(
        (f"prepare_data {TABLE}={file}", says, {file: content})
        for file, content, says in [
            ("t.csv", "text,text,label\na,b,no\n", "must have one column 'text', but has 'text', 'text', 'label'"),
            ("t.csv", f"{GOOD}text,maybe\n", "t.csv, line 12: 'label' must be one of no, yes, but is 'maybe'"),
            ("t.csv", f"{GOOD}text\n", "t.csv, line 12: must have 2 columns, but has 1"),
            ("t.csv", f"{GOOD} ,no\n", "t.csv, line 12: 'text' must be text, but is empty"),
            ("t.csv", GOOD.encode("utf-16-le"), "t.csv, line 1: must be text, but holds a NUL character"),
            ("t.csv", f"{GOOD}\u200b\u00a0,no\n", "t.csv, line 12: 'text' must be text, but is empty"),
            (
                "t.csv",
                f"{GOOD}text,\n",
                "t.csv, line 12: 'label' is missing; take the row out, or give it one of no",
            ),
            (
                "t.csv",
                "review;verdict\na;no\n",
                "has 'review', 'verdict'; for data.name=table, name yours with data.text_columns and",
            ),
            ("t.csv", GOOD.replace("yes", "no"), "the train split of table has no instance of yes"),
            ("t.csv", "text,label\na,no\n", "t.csv has 1 instances, too few to draw dev and test from"),
            ("t.csv", "", "must have one column 'text', but has no columns"),
            ("t.jsonl", '{"text": "a", "label": "no"}\n{"text": ', "t.jsonl, line 2: broken JSON"),
            ("t.json", '[{"text": "a", "label": "no"}, 7]', "t.json, record 2: must be a JSON object, but is 7"),
            ("t.csv.gz", b"\x1f\x8b", "t.csv.gz' cannot be read (Compressed file ended before"),
            ("t.parquet", b"PAR1", "t.parquet, row 1: broken Parquet"),
            ("t.zip", _archive("zip"), "t.zip"),
            ("t.tar.gz", _archive("tar"), "t.tar.gz' cannot be read"),
        ]
    ),
    *(
        (
            f"prepare_data {TABLE}=t.csv --data.rationale_columns=why",
            says,
            {"t.csv": f"text,label,why\na b,no,{why}\n"},
        )
        for why, says in [
            ('"[[0, 4]]"', "line 2: 'why' has the span [0, 4), which must lie within the 3 characters of its text"),
            ("[1]", "line 2: 'why' must have one 0 or 1 for each of the 2 words of its text, but has 1"),
            (
                "a **b",
                "line 2: 'why' must have its marks in pairs, one behind the other, but '**' at character 2 has no",
            ),
            ("7", "line 2: 'why' must be the text of 'text' with marks, but without them it is '7'"),
        ]
    ),
    (
        f"prepare_data {TABLE}=t.csv --data.rationale_columns=a,b",
        "must be one column for each text",
        {"t.csv": GOOD},
    ),
    ("train --data.rationale_columns=why", "data.rationale_columns is for data.name=table alone; leave it out", {}),
    ("prepare_data --data.name=hatexplain", "data.name=hatexplain needs data.source; give a folder with train", {}),
    *(
        (f"{job} --data.name=eraser --data.labels=no,yes --data.source=corpus --model.encoder=$BERT", says, files)
        for job in ("train", "sweep --space=paper --method=unirex-slm-fp --data.limit=null")
        for files, says in [
            (eraser(rows=0), "the dev split of eraser is empty; every split needs instances"),
            (eraser(end=9), "line 1: evidence span [0, 9) must be within the 3 tokens of 'd'"),
            (eraser(label="no"), "the train split of eraser has no instance of yes"),
            (eraser(label="maybe"), "line 2: 'classification' must be one of no, yes, but is 'maybe'"),
            (eraser(first="{"), "train.jsonl, line 1: broken JSON"),
            (
                eraser(end=0),
                "unirex-slm-fp learns from gold rationales, but no train instance of eraser has one",
            ),
        ]
    ),
]
