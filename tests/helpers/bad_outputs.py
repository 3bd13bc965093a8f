"""Outputs, stores, recorded sweeps and models that cannot be used: see `bad_inputs`."""

import json

from helpers.bad_corpora import GOOD, TABLE, Files, Row
from helpers.exports import LABELS

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
    (
        "compare --output=swept --baseline=sgt",
        "--baseline=sgt: no complete configuration of it on reviews; there are: ",
        {},
    ),
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
        (f"evaluate --model=model {TABLE}=t.csv {option}", says, {"t.csv": GOOD})
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
