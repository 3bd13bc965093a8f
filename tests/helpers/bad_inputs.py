"""What users get wrong, a row each: a command, a part of the line that it ends in, and files that it finds.

The files lie in the command's working directory, None for one that is missing there. `model` is an exported model,
`swept` the output of a sweep, `$BERT` an encoder.
"""

import io
import json
import tarfile
import zipfile

from helpers.exports import LABELS

Files = dict[str, str | bytes | None]
Row = tuple[str, str, Files]

TEN = "1" + "0" * 20
HUGE = "input should be less than or equal to 4294967295"

OPTIONS: list[Row] = [
    (command, says, {})
    for command, says in [
        ("sweep --train.epoch=3", "unknown option --train.epoch (did you mean 'train.epochs'?)"),
        ("sweep --spaec=paper", "unknown option --spaec (did you mean 'space'?)"),
        ("explain --model=model --text=t --txt=t", "unknown option --txt (did you mean 'text'?)"),
        ("sweep paper", "'paper' belongs to no option; options begin with --"),
        ("sweep --train.epochs", "argument --train.epochs: expected one argument"),
        # Keys that another job reads.
        ("sweep --train.seed=1", "sweep.py does not read --train.seed; leave it out"),
        ("train --sweep.seeds=1", "train.py does not read --sweep.seeds; leave it out"),
        ("train --tracking.uri=http://h", "train.py does not read --tracking.uri; leave it out"),
        ("compare --train.epochs=3", "compare.py does not read --train.epochs; leave it out"),
        ("compare --method=aa-ig", "compare.py does not read --method; leave it out"),
        ("export_best --sweep.seeds=1", "export_best.py does not read --sweep.seeds; leave it out"),
        ("parameters --method=aa-ig", "parameters.py does not read --method; leave it out"),
        ("prepare_data --train.epochs=3", "prepare_data.py does not read --train.epochs; leave it out"),
        ("prepare_data --data.gold_percent=5", "prepare_data.py does not read --data.gold_percent; leave it out"),
        ("evaluate --model=model --model.layers=1", "evaluate.py does not read --model.layers; leave it out"),
        ("evaluate --model=model --data.gold_percent=5", "evaluate.py does not read --data.gold_percent; leave it"),
        ("sync --train.epochs=3", "sync.py does not read --train.epochs; leave it out"),
        ("benchmark engine --data.name=sst", "benchmark.py does not read --data.name; leave it out"),
        ("benchmark search --train.epochs=3", "benchmark.py does not read --train.epochs; leave it out"),
        # Values.
        ("train --train.epochs=many", "train.epochs = 'many': input should be a valid integer"),
        ("train --train.epochs=2.5", "train.epochs = '2.5': input should be a valid integer"),
        ("train --train.epochs=0", "train.epochs = '0': input should be greater than or equal to 1"),
        ("train --train.batch_size=-8", "train.batch_size = '-8': input should be greater than or equal to 1"),
        ("train --train.learning_rate=nan", "train.learning_rate = 'nan': input should be a finite number"),
        ("train --train.learning_rate=inf", "train.learning_rate = 'inf': input should be a finite number"),
        ("train --train.gpu=perhaps", "train.gpu = 'perhaps': must be true, false, or"),
        ("train --train.threads=100000", "train.threads = '100000': input should be less than or equal to 1024"),
        ("train --loss.comp=kl", "loss.comp = 'kl': input should be 'margin' or 'diff'"),
        ("train --loss.comp_weight=1e308", "loss.comp_weight = '1e308': input should be less than or equal to 100"),
        ("train --loss.top_k_percents=5,10,5", "loss.top_k_percents must be distinct, but got [5, 10, 5]"),
        ("train --loss.top_k_percents=101", "loss.top_k_percents = '101': input should be less than or equal to 100"),
        ("train --loss.sampled_top_k=9", "loss.sampled_top_k = 9: loss.top_k_percents has 5 to draw from"),
        ("train --model.dropout=1", "model.dropout = '1': input should be less than 1"),
        (
            "train --method=unirex-slm-pf --data.name=sst",
            "unknown method 'unirex-slm-pf' (did you mean 'unirex-slm-p'?)",
        ),
        (f"train --train.seed={TEN}", f"train.seed = '{TEN}': {HUGE}"),
        (f"train --train.batch_size={TEN}", f"train.batch_size = '{TEN}': {HUGE}"),
        (f"train --train.workers={TEN}", f"train.workers = '{TEN}': {HUGE}"),
        (f"prepare_data --data.limit={TEN}", f"data.limit = '{TEN}': {HUGE}"),
        ("prepare_data --data.seed=4294967296", f"data.seed = '4294967296': {HUGE}"),
        (f"sweep --sweep.configurations={TEN}", f"sweep.configurations = '{TEN}': {HUGE}"),
        ("sweep --sweep.seed=4294967296", f"sweep.seed = '4294967296': {HUGE}"),
        (
            "sweep --sweep.seeds=1,1",
            "sweep.seeds must be distinct and at least 0, and at most 4294967295, but got [1, 1]",
        ),
        ("sweep --sweep.seeds=0,4294967296", "at most 4294967295, but got [0, 4294967296]"),
        ("sweep --sweep.seeds=-1", "sweep.seeds must be distinct and at least 0"),
        ("sweep --sweep.seeds=", "sweep.seeds = []: tuple should have at least 1 item"),
        ("sweep --sweep.concurrency=0", "sweep.concurrency = '0': input should be greater than or equal to 1"),
        ("sweep --sweep.nrg_weights=0,0,0", "sweep.nrg_weights must be at least 0, not all 0"),
        ("sweep --sweep.nrg_weights=1,1e308,1", "and at most 1e+06, but got [1.0, 1e+308, 1.0]"),
        ("sweep --sweep.nrg_weights=1,1", "sweep.nrg_weights = ['1', '1']: field required"),
        ("sweep --sweep.hours=0", "sweep.hours = '0': input should be greater than 0"),
        ("sweep --sweep.patience=0", "sweep.patience = '0': input should be greater than or equal to 1"),
        ("sweep --sweep.spare_head=maybe", "sweep.spare_head = 'maybe': input should be a valid boolean"),
        ("sweep --sweep.autoscale=true", "set sweep.concurrency as well"),
        ("sweep --sweep.storage=s3://me:secret@bucket/x", "must hold no keys; set AWS_ACCESS_KEY_ID"),
        ("sweep --sweep.storage=s3://bucket/x?secret_key=secret", "must hold no keys; set AWS_ACCESS_KEY_ID"),
        ("sweep --sweep.storage=s3:/bucket/x", "a URI has two slashes, as s3://bucket/folder has"),
        ("sweep --sweep.storage=nonsense://bucket/x", "cannot write sweep.storage = 'nonsense://bucket/x'"),
        ("sweep --train.resources=x", "'x' must be NAME=AMOUNT"),
        ("sweep --train.resources=GPU=1", "set train.gpu instead"),
        ("train --train.gpu=1.5", "train.gpu = '1.5': must be true, false, or"),
        ("sweep --sweep.rungs=2,1", "sweep.rungs must be increasing epochs from 1, but got [2, 1]"),
        ("sweep --train.epochs=2 --sweep.rungs=1,2", "sweep.rungs = [1, 2]: a rung at or beyond train.epochs = 2"),
        ("sweep --sweep.methods=aa-ig,aa-ig", "sweep.methods must be distinct, but got ['aa-ig', 'aa-ig']"),
        ("sweep --sweep.methods=aa-ig,fresh-q", "unknown method 'fresh-q' (did you mean 'fresh-p'?)"),
        ("sweep --sweep.searcher=bayes", "sweep.searcher = 'bayes': input should be 'tpe', 'grid', 'random'"),
        ("compare --sweep.nrg_weights=0,0,0", "sweep.nrg_weights must be at least 0, not all 0"),
        ("export_best --method=x", "unknown method 'x'"),
        # A job's own options.
        ("compare --table=3", "argument --table: invalid choice: '3' (choose from 'main', '1', '2', '4')"),
        ("prepare_data --show=-1", "--show must be at least 0, but got -1"),
        ("benchmark", "the following arguments are required: what"),
        ("benchmark engines", "invalid choice: 'engines' (choose from 'engine', 'trial'"),
        ("benchmark engine --runs=1", "--runs must be at least 5, --instances 3, but are 1 and 549309"),
        ("benchmark engine --runs=many", "argument --runs: invalid int value: 'many'"),
        ("benchmark engine --lengths=long", "invalid choice: 'long' (choose from 'sst', 'movies')"),
        ("benchmark engine --method=x", "unknown method 'x'"),
        ("benchmark data --instances=2", "--runs must be at least 5, --instances 3, but are 7 and 2"),
        ("explain --model=model", "the following arguments are required: --text"),
        ("explain --model=model --text=' '", "the text is empty; give a text to explain"),
        ("explain --model=model --text='\u200b \ufe0f'", "the text is empty; give a text to explain"),
        ("explain --model=model --text=t --second=u", "'model' was trained on single texts; leave the second one out"),
        ("explain --model=model --text=t --top-k-percent=0", "--top-k-percent must be from 1 to 100, but got 0"),
        ("explain --model=model --text=t --html=absent/p.html", "cannot write --html 'absent/p.html'"),
        ("evaluate", "the following arguments are required: --model"),
        ("evaluate --model=model --split=tset", "invalid choice: 'tset' (choose from 'train', 'dev', 'test')"),
    ]
]

_LAUGHS = "a0: &a0 [1, 1]\n" + "".join(
    f"a{n}: &a{n} [{', '.join(f'*a{n - 1}' for _ in range(9))}]\n" for n in range(1, 12)
)

CONFIGURATIONS: list[Row] = [
    *((f"train --config={file}", f"cannot read '{file}'", {}) for file in ("absent.yaml", ".")),
    ("compare --config=my.yaml", "'my.yaml' must hold a YAML mapping of keys, but holds str", {"my.yaml": "reviews"}),
    ("sync --config=my.yaml", "output = 3: input should be a valid string", {"my.yaml": "output: 3"}),
    *(
        ("train --config=my.yaml", says, {"my.yaml": text})
        for text, says in [
            (b"method: caf\xe9", "cannot read 'my.yaml': 'utf-8' codec can't decode byte 0xe9"),
            ("", "'my.yaml' must hold a YAML mapping of keys, but holds NoneType"),
            ("[1, 2]", "'my.yaml' must hold a YAML mapping of keys, but holds list"),
            ("a: [", "'my.yaml' is not valid YAML: while parsing a flow node"),
            ("a: 1\na: 2", "'my.yaml' is not valid YAML: the key 'a' stands there twice"),
            ("x: {a: 1, b: 2, a: 1}", "the key 'a' stands there twice"),
            ("a: &x {b: *x}", "what an anchor names holds itself"),
            ("a: &x [1, [*x]]", "what an anchor names holds itself"),
            (_LAUGHS, "'my.yaml' is not valid YAML: it holds more than 100,000 values, anchors unfolded"),
            ("[" * 2_000, "'my.yaml' is not valid YAML: maximum recursion depth exceeded"),
            ("a: \0", "'my.yaml' is not valid YAML: unacceptable character #x0000"),
            ("a: !!python/object/apply:os.getcwd []", "'my.yaml' is not valid YAML: could not determine a constructor"),
            ("a: !!bool x", "'my.yaml' is not valid YAML: 'x'"),
            ("a: !!timestamp 2020-99-99", "'my.yaml' is not valid YAML: month must be in 1..12"),
            (f"train: {{epochs: {'9' * 5000}}}", "'my.yaml' is not valid YAML: Exceeds the limit"),
            (
                "train: {epoch: 3}",
                "unknown key 'train.epoch' (did you mean 'train.epochs'?); allowed here: train.epochs",
            ),
            ("7: 8", "unknown key '7'; allowed here: method, output"),
            ("train: 3", "train = 3: input should be a valid dictionary"),
            ("train: 3\ntrain.epochs: 3", "'train' in 'train.epochs' must be a section of keys, but is 3"),
            ("train: {epochs: [3]}", "train.epochs = [3]: input should be a valid integer"),
            ("train: {learning_rate: .nan}", "train.learning_rate = nan: input should be a finite number"),
            (f"train: {{learning_rate: 1{'0' * 400}}}", "train.learning_rate = 1000"),
            ("model: {trust_remote_code: true}", "'my.yaml' asks to run Python code that ships with an encoder"),
        ]
    ),
]

_GRID = "config: {sweep: {searcher: grid}}\n"
_SIXTY = [round(0.1 + number / 100, 2) for number in range(60)]
_WEIGHTS = ("comp_weight", "suff_weight", "plaus_weight", "comp_margin", "suff_margin")
VAST = f"parameters: {{{', '.join(f'loss.{key}: {{choice: {_SIXTY}}}' for key in _WEIGHTS)}}}"

SPACES: list[Row] = [
    ("sweep --data.name=sst", "data.name=sst needs a search space: give --space paper, or another of ablation-", {}),
    ("sweep --data.name=revews", "unknown data.name = 'revews' (did you mean 'reviews'?)", {}),
    ("sweep --space=papr", "--space 'papr' is no file and no space (did you mean 'paper'?); choose from ablation-", {}),
    *(
        (
            "sweep --space=space.yaml --data.limit=16 --model.encoder=$BERT --method=unirex-dlm-fp",
            says,
            {"space.yaml": text},
        )
        for text, says in [
            ("[1]", "'space.yaml' must hold a YAML mapping of keys, but holds list"),
            ("parameter: {}", "space.yaml: unknown key 'parameter'; allowed here: config, parameters"),
            ("config: 3", "space.yaml: config must be a mapping, but is 3"),
            ("config: {tain: {epochs: 3}}", "unknown key 'tain' (did you mean 'train"),
            (
                "parameters: {loss.cmp_weight: {choice: [1]}}",
                "unknown key 'loss.cmp_weight' (did you mean 'loss.comp_w",
            ),
            ("parameters: {model.head: {chioce: [linear]}}", "must have one of choice, uniform, log_uniform, int, but"),
            ("parameters: {model.head: {choice: [cubic]}}", "model.head = 'cubic': input should be 'linear'"),
            ("parameters: {loss.comp_weight: {uniform: [1, 0.5]}}", "must go from low to high, but [1, 0.5] is empty"),
            ("parameters: {loss.comp_weight: {uniform: [0, .nan]}}", "must be two finite numbers, but is [0, nan]"),
            (f"parameters: {{loss.comp_weight: {{uniform: [0, 1{'0' * 400}]}}}}", "loss.comp_weight = 1000"),
            ("parameters: {train.seed: {choice: [1, 2]}}", "'train.seed' cannot be a parameter of a search"),
            ("parameters: {data.limit: {choice: [10, 100]}}", "'data.limit' cannot be a parameter of a search"),
            ("parameters: {data.gold_percent: {choice: [0, 100]}}", "data.gold_percent = 0: input should be greater"),
            ("parameters: {model.layers: {choice: [1, 12]}}", "has 2 layers"),
            (
                f"{_GRID}parameters: {{train.learning_rate: {{uniform: [0.1, 0.2]}}}}",
                "a grid needs choices, but 'train.l",
            ),
            (f"{_GRID}{VAST}", "the grid of unirex-dlm-fp has 777,600,000 configurations"),
        ]
    ),
]

_GOOD = "text,label\n" + "".join(f"text {number},{('no', 'yes')[number % 2]}\n" for number in range(10))
_TABLE = "--data.name=table --data.labels=no,yes --data.source"


def _archive(kind: str) -> bytes:
    """An archive of a table that lacks its end."""
    buffer = io.BytesIO()
    if kind == "zip":
        with zipfile.ZipFile(buffer, "w") as archive:
            archive.writestr("train.csv", _GOOD)
    else:
        with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
            info = tarfile.TarInfo("train.csv")
            info.size = 20_000
            archive.addfile(info, io.BytesIO(bytes(33 + n * n % 90 for n in range(20_000))))
    return buffer.getvalue()[:-40]


def _eraser(*, label: str = "yes", end: int = 2, rows: int = 4, first: str | None = None) -> Files:
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


_REVIEWS = "sweep --space=space.yaml --data.limit=16 --model.encoder=$BERT"
_UNTRAINED = "model.pooling = 'mlp' is trained by a plausibility loss, and"

METHODS: list[Row] = [
    *(
        (f"{_REVIEWS} --method={method}", f"{_UNTRAINED} {method} has none where it pools", {"space.yaml": space})
        for space in ("parameters: {model.pooling: {choice: [sum, mlp]}}",)
        for method in ("aa-ig", "fresh")
    ),
    (
        f"{_REVIEWS} --method=unirex-slm-fp --train.batch_size=1",
        "train.batch_size = 1 leaves no room beside it",
        {"space.yaml": "parameters: {data.gold_percent: {choice: [5, 100]}}"},
    ),
    (
        "sweep --data.name=eraser --data.labels=no,yes --data.source=corpus --space=space.yaml --method=aa-ig "
        "--sweep.nrg_weights=0,1,0",
        "there are no gold rationales",
        {**_eraser(end=0), "space.yaml": "{}"},
    ),
]

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
    ("train --data.max_length=7", "data.max_length = '7': input should be greater than or equal to 8", {}),
    ("train --data.max_length=999 --model.encoder=$BERT", "data.max_length = 999:", {}),
    ("train --data.cache=a.txt --model.encoder=$BERT", "a.txt' cannot be written: File exists", {"a.txt": ""}),
    ("prepare_data --data.name=irony", "data.name=irony needs data.source; give a folder with the two task A", {}),
    ("prepare_data --data.name=table --data.source=t.csv", "data.name=table needs data.labels", {"t.csv": _GOOD}),
    (
        f"prepare_data {_TABLE}=t.csv --data.labels=no,no",
        "at least two different labels, but got 'no, no'",
        {"t.csv": _GOOD},
    ),
    (f"prepare_data {_TABLE}=t.csv --data.label_column=class", "must have one column 'class', but", {"t.csv": _GOOD}),
    (f"prepare_data {_TABLE}=t.csv --data.text_columns=label", "must be different columns", {"t.csv": _GOOD}),
    *(
        (f"prepare_data {_TABLE}={file}", says, {file: content})
        for file, content, says in [
            ("t.csv", "text,text,label\na,b,no\n", "must have one column 'text', but has 'text', 'text', 'label'"),
            ("t.csv", f"{_GOOD}text,maybe\n", "t.csv, line 12: 'label' must be one of no, yes, but is 'maybe'"),
            ("t.csv", f"{_GOOD}text\n", "t.csv, line 12: must have 2 columns, but has 1"),
            ("t.csv", f"{_GOOD} ,no\n", "t.csv, line 12: 'text' must be text, but is empty"),
            ("t.csv", _GOOD.encode("utf-16-le"), "t.csv, line 1: must be text, but holds a NUL character"),
            ("t.csv", f"{_GOOD}\u200b\u00a0,no\n", "t.csv, line 12: 'text' must be text, but is empty"),
            ("t.csv", f"{_GOOD}text,\n", "t.csv, line 12: 'label' is missing; take the row out, or give it one of no"),
            (
                "t.csv",
                "review;verdict\na;no\n",
                "has 'review', 'verdict'; for data.name=table, name yours with data.text_columns and",
            ),
            ("t.csv", _GOOD.replace("yes", "no"), "the train split of table has no instance of yes"),
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
            f"prepare_data {_TABLE}=t.csv --data.rationale_columns=why",
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
    (f"prepare_data {_TABLE}=t.csv --data.rationale_columns=a,b", "must be one column for each text", {"t.csv": _GOOD}),
    ("train --data.rationale_columns=why", "data.rationale_columns is for data.name=table alone; leave it out", {}),
    ("prepare_data --data.name=hatexplain", "data.name=hatexplain needs data.source; give a folder with train", {}),
    *(
        (f"{job} --data.name=eraser --data.labels=no,yes --data.source=corpus --model.encoder=$BERT", says, files)
        for job in ("train", "sweep --space=paper --method=unirex-slm-fp --data.limit=null")
        for files, says in [
            (_eraser(rows=0), "the dev split of eraser is empty; every split needs instances"),
            (_eraser(end=9), "line 1: evidence span [0, 9) must be within the 3 tokens of 'd'"),
            (_eraser(label="no"), "the train split of eraser has no instance of yes"),
            (_eraser(label="maybe"), "line 2: 'classification' must be one of no, yes, but is 'maybe'"),
            (_eraser(first="{"), "train.jsonl, line 1: broken JSON"),
            (_eraser(end=0), "unirex-slm-fp learns from gold rationales, but no train instance of eraser has one"),
        ]
    ),
]

ENCODERS: list[Row] = [
    (f"{job} --model.encoder={encoder} --data.limit=16", f"cannot load model.encoder = {shown}", files)
    for encoder, shown, files in [
        ("./absent", "'./absent'", {}),
        ("nobody/nothing", "'nobody/nothing'", {}),
        ("folder", "", {"folder/config.json": "{}"}),
        ("folder", "", {"folder/config.json": "nul"}),
        ("a.txt", "", {"a.txt": "no encoder"}),
    ]
    for job in ("prepare_data", "train", "sweep")
]
ENCODERS += [
    ("train --model.encoder=e", "Error no file named model.safetensors", {"e/config.json": '{"model_type": "bert"}'}),
    ("train --model.encoder=$BERT --model.layers=99", "has 2 layers", {}),
]

HARDWARE: list[Row] = [
    (command, says, {})
    for command, says in [
        ("sweep --train.gpu=true", "1 worker x 1 GPU = 1 GPU per trial, but"),
        ("sweep --train.workers=9999", "9999 workers x 1 CPU = 9999 CPUs per trial, but"),
        ("sweep --train.threads=999", "1 worker x 999 CPUs = 999 CPUs per trial, but"),
        ("train --model.encoder=$BERT --data.limit=16 --train.workers=999 --train.threads=1", "999 workers x 1 CPU"),
        ("train --model.encoder=$BERT --data.limit=16 --train.gpu=true", "this machine has no GPU that torch can use"),
        ("benchmark engine --model.encoder=$BERT --train.gpu=true", "this machine has no GPU that torch can use"),
    ]
]

OUTPUTS: list[Row] = [
    *(
        (f"{job} --output={output}", says, {"a.txt": ""})
        for job in ("train", "sweep", "prepare_data", "benchmark extraction")
        for output, says in [
            ("a.txt", "a.txt': File exists; choose another --output"),
            ("a.txt/below", "a.txt/below': Not a directory; choose another --output"),
        ]
    ),
    ("train --output=s3://bucket/x", "output must be a folder (shared by all nodes of a cluster), but got 's3://", {}),
    ("train --output=", "output = '': string should have at least 1 character", {}),
    (f"train --output={'x' * 300}", "File name too long; choose another --output", {}),
    *(
        (f"{job} --output={output}", f"/{output}': MLflow misreads a database path with ? or %; choose another --", {})
        for job in ("compare", "export_best", "parameters")
        for output in ("really?", "50%")
    ),
    ("sweep --output=swept", "already holds the sweep s1; add --resume to continue it, or choose another", {}),
    (
        "sweep --output=swept --resume --model.encoder=$BERT",
        "cannot resume s1 with other settings: data.digest was",
        {},
    ),
    (
        "sweep --output=swept --resume --model.encoder=$BERT",
        "journal.jsonl is damaged: line 1",
        {"swept/journal.jsonl": "x\ny\n"},
    ),
    ("sweep --output=swept --resume", "sweep.json'", {"swept/sweep.json": "null"}),
    ("sweep --output=swept --resume", "sweep.json'", {"swept/sweep.json": '{"sweep_id": "s1", "settings": {'}),
    ("sweep --output=swept --resume", "sweep.json'", {"swept/sweep.json": '{"sweep_id": "s1", "settings": null}'}),
    ("sweep --warm-start=no --model.encoder=$BERT", "--warm-start: 'no' holds no readable sweep", {}),
    ("sweep --warm-start=swept --model.encoder=$BERT", "--warm-start: the sweep in 'swept' has not finished", {}),
    ("ui absent", "--output 'absent': no runs are recorded there", {}),
    ("ui swept --port=0", "--port must be from 1 to 65535, but got 0", {}),
    ("ui folder", "--output 'folder': no runs are recorded there", {"folder/sweep.json": "{"}),
    ("sync --output=absent", "no folder 'absent'; --output names the output of a sweep", {}),
    ("sync --output=folder", "'folder' holds no sweep; --output names the output of a sweep", {"folder/a.txt": ""}),
    ("sync --output=swept", "sweep.json'", {"swept/sweep.json": "[]"}),
    ("sync --output=swept", "'swept' holds no journal.jsonl", {}),
]

_DATABASE = "sqlite:///a.txt"
_SILENT = "http://127.0.0.1:9"

STORES: list[Row] = [
    *(
        (f"{job} --tracking.uri={uri}", says, {"a.txt": "no database " * 99})
        for job in ("sweep --model.encoder=$BERT", "compare", "export_best", "parameters", "sync --output=swept")
        for uri, says in [
            ("http://host/?token=secret", "tracking.uri must hold no ?...; set MLFLOW_TRACKING_TOKEN"),
            ("http://me:secret@host", "tracking.uri must hold no user and no password; set MLFLOW_TRACKING_USERNAME"),
            ("http://[::1", "tracking.uri is no address: Invalid IPv6 URL"),
        ]
    ),
    *(
        (f"{job} --tracking.uri={uri}", says, {"a.txt": "no database " * 99})
        for job in ("sweep --model.encoder=$BERT", "compare", "export_best", "parameters")
        for uri, says in [
            (
                "ftp://host",
                "tracking.uri must be sqlite:///FILE, or http:// or https:// of an MLflow server, but got 'ftp",
            ),
            ("runs", "MLflow keeps no runs in plain folders: use sqlite:///"),
            (_DATABASE, "is it a writable MLflow database? (file is not a database)"),
            (_SILENT, f"cannot use tracking.uri = '{_SILENT}': is an MLflow server running there?"),
        ]
    ),
    ("compare --tracking.uri=http://host.invalid:5000", "is an MLflow server running there?", {}),
    ("compare --tracking.uri=http://h:99999", "is an MLflow server running there? (Invalid url: http://h:99999", {}),
]

SWEPT = {"sweep_id": "s1", "status": "completed", "settings": {"data.name": "reviews", "data.digest": "d"}}


def _finished(rows: str) -> Files:
    board = f"rank,method,configuration,seeds\n{rows}"
    return {"swept/sweep.json": json.dumps(SWEPT), "swept/leaderboard.csv": board}


RECORDED: list[Row] = [
    *(
        (f"{job} {option}", says, {})
        for job in ("compare", "export_best", "parameters")
        for option, says in [
            ("--output=no", "no finished trials on 'reviews' at sqlite:///"),
            ("--output=swept --data.name=sst", "run a sweep on 'sst' first, or give the --output of one"),
            ("--output=swept --data.name=revews", "unknown data.name = 'revews' (did you mean 'reviews'?)"),
            ("--output=swept --sweep-id=s9", "unknown sweep 's9'; choose from s1"),
            ("--output=swept --digest=ffff", "no sweep has --digest 'ffff'; there are abc1"),
            (
                "--output=swept --also=no",
                "--also 'no': no runs are recorded there; give the --output of a sweep or evaluation",
            ),
        ]
    ),
    ("compare --output=o", "--output 'o': no runs are recorded there", {"o/sweep.json": "null"}),
    ("compare --data.name=sst,movie", "unknown data.name = 'movie' (did you mean 'movies'?)", {}),
    ("compare --output=swept --protocol=zz", "no sweep has --protocol 'zz'; there are ", {}),
    ("compare --output=swept --data.name=sst,movies --sweep-id=s1", "--sweep-id chooses among the sweeps of one", {}),
    ("compare --output=swept --table=2", "--table=2: no sweep has results for it", {}),
    ("compare --published", "no table of data.name = 'reviews'; it has sst, movies", {}),
    ("compare --output=swept --data.name=movies", "not finished: sweep s2 has 2 trials (2 completed)", {}),
    ("export_best --output=swept --data.name=movies", "finish it with --resume", {}),
    ("parameters --output=swept", "has two complete configurations that differ in a searched setting", {}),
    ("parameters --output=swept --data.name=movies --unfinished --storage=x:y", "cannot write to --storage 'x:y'", {}),
    ("export_best --output=swept --method=l2e", "no configuration of method 'l2e' has completed all its seeds", {}),
    (
        "export_best --output=swept",
        "result.json is damaged: ",
        {"swept/trials/s1-unirex-dlm-fp-0001-s0/result.json": "{"},
    ),
    ("export_best --output=swept --even-if-not-better", "the weights of trial s1-", {}),
    ("export_best --output=swept --even-if-not-better --folder=swept", "is not empty; choose another --folder", {}),
    *(
        (f"export_best --output=swept --register{option}", says, {})
        for option, says in [
            ("", "argument --register: expected one argument"),
            ("=", "digits, '_', '-' and '.', and not begin with '-' or '.', but got --register=''"),
            ("=a/b", "a registered model's name must hold up to 256 letters"),
            ("=models:/reviews/1", "but got --register='models:/reviews/1'"),
            (f"={'x' * 257}", "a registered model's name must hold up to 256 letters"),
            ("=m --model.trust_remote_code", "--register=m: a served model runs no code that an encoder ships with"),
        ]
    ),
    ("evaluate --model=absent", "'absent' is neither an exported model", {}),
    ("evaluate --model=swept", "the sweep in 'swept' has not finished; finish it with --resume", {}),
    ("evaluate --model=swept", "'swept' holds no readable sweep", _finished("1,aa-ig,0,5\n")),
    ("evaluate --model=swept", "'swept' holds no readable sweep", _finished("1,aa-ig,x,[0]\n")),
    ("evaluate --model=swept", "has no complete configuration to evaluate", _finished("")),
    ("evaluate --model=swept", "holds no completed trial; give the folder", _finished('1,aa-ig,0,"[0]"\n')),
]

_CARD = "model/rationale_model.json"
_FIT = "--data.name=table --data.labels=negative,positive,neither --data.source=fit.csv"
_FITTING: Files = {"fit.csv": "text,label\n" + "".join(f"w{n} w{n + 1},{LABELS[n % 3]}\n" for n in range(15))}

MODELS: list[Row] = [
    ("explain --model=absent --text=t", "'absent' is not an exported model (no rationale_model.json); export one", {}),
    ("explain --model=swept --text=t", "'swept' is not an exported model (no rationale_model.json); export one", {}),
    *(
        (f"{job}", f"'model' is damaged: {what}", {**_FITTING, name: content})
        for job in ("explain --model=model --text=t", f"evaluate --model=model {_FIT}")
        for name, content, what in [
            (_CARD, "null", "rationale_model.json: a mapping is wanted, but there is NoneType"),
            (_CARD, "[]", "rationale_model.json: a mapping is wanted, but there is list"),
            (_CARD, '{"method": "aa', "rationale_model.json: Unterminated string"),
            (_CARD, b"\xff\xfe", "rationale_model.json: 'utf-8' codec can't decode"),
            ("model/rationale_model.safetensors", None, "rationale_model.safetensors is not the file"),
            ("model/task_model/model.safetensors", b"\0" * 100, "task_model/model.safetensors is not the file"),
            ("model/task_model/tokenizer.json", None, "task_model/tokenizer.json is missing"),
            ("model/task_model/tokenizer_config.json", None, "task_model/tokenizer_config.json is missing"),
        ]
    ),
    *(
        ("evaluate --model=model", "'model' is damaged: provenance.json or best_config.yaml: ", {name: content})
        for name, content in [
            ("model/provenance.json", None),
            ("model/provenance.json", "null"),
            ("model/best_config.yaml", "[1"),
            ("model/best_config.yaml", "- 1"),
        ]
    ),
    ("evaluate --model=model --method=l2e", "no model of method 'l2e' here; choose --method among aa-ig", {}),
    ("evaluate --model=model --data.name=revews", "unknown data.name = 'revews'", {}),
    (f"evaluate --model=model {_FIT} --train.gpu=true", "this machine has no GPU that torch can use", _FITTING),
    (f"evaluate --model=model {_FIT} --tracking.uri={_SILENT}", "is an MLflow server running there?", _FITTING),
    *(
        (f"evaluate --model=model {_TABLE}=t.csv {option}", says, {"t.csv": _GOOD})
        for option, says in [
            (
                "",
                "the model has the labels negative, positive, neither, the corpus no, yes: say which stands for which",
            ),
            ("--map=negative=nay", "--map: unknown label 'nay' (the corpus has no, yes)"),
            ("--map=negative=no", "--map lacks the model's label 'positive'"),
            ("--map=negative", "--map must be MODEL_LABEL=CORPUS_LABEL,..., each of the model's once"),
        ]
    ),
]

ROWS = [
    *(OPTIONS + CONFIGURATIONS + SPACES + METHODS + CORPORA + ENCODERS),
    *(HARDWARE + OUTPUTS + STORES + RECORDED + MODELS),
]
