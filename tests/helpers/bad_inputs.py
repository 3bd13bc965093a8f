"""What users get wrong, a row each: a command, a part of the line that it ends in, and files that it finds.

The files lie in the command's working directory, None for one that is missing there. `model` is an exported model,
`swept` the output of a sweep, `$BERT` an encoder.
"""

from helpers.bad_corpora import CORPORA, GRID, Row, eraser
from helpers.bad_outputs import MODELS, OUTPUTS, RECORDED, STORES

TEN = "1" + "0" * 20
HUGE = "input should be less than or equal to 4294967295"

OPTIONS: list[Row] = [
    (command, says, {})
    for command, says in [
        ("sweep --train.epoch=3", "unknown option --train.epoch (did you mean 'train.epochs'?)"),
        ("sweep --spaec=paper", "unknown option --spaec (did you mean 'space'?)"),
        ("study", "the following arguments are required: what, --model"),
        ("study mkae --model=model", "argument what: invalid choice: 'mkae' (choose from"),
        ("study make --model=model --rater=1", "unknown option --rater (did you mean 'raters'?)"),
        ("study make --model=model --tasks=forwrad", "unknown task 'forwrad' in --tasks (did you mean 'forward'?)"),
        ("study make --model=model --annotators=0", "--annotators must be from 1 to 1000, but got 0"),
        ("study make --model=model --raters=6", "--raters must be from 1 to the 5 annotators, but got 6"),
        (
            "study make --model=model",
            "the model has the labels negative, positive, neither, the corpus negative, positive",
        ),
        ("study make --model=model --simulate=-1", "--simulate must be at least 0, but got -1"),
        ("study make --model=model --methods=l2e", "no model of method 'l2e' lies in model; choose --methods among"),
        ("study make --model=model --output=model", "/model' is not empty; choose another --output"),
        ("study make --model=absent", "'absent' is neither an exported model"),
        ("study serve --output=absent", "'absent' is no study (no study.json); make one first"),
        ("study serve --train.epochs=3", "study.py does not read --train.epochs; leave it out"),
        ("study analyse --output=absent", "'absent' is no study (no study.json); make one first"),
        ("explain --model=model --text=t --txt=t", "unknown option --txt (did you mean 'text'?)"),
        ("sweep train.epochs=3", "'train.epochs=3' has no dashes: write --train.epochs=3"),
        ("compare baseline=aa-ig", "'baseline=aa-ig' has no dashes: write --baseline=aa-ig"),
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
        (
            "compare --archive=gone.zip",
            "--archive writes tables to --output, and reads no runs there: give a folder",
        ),
        ("compare --archive=gone.zip --output=o", "archive 'gone.zip' does not exist"),
        ("compare --archive=gone.zip --output=o --tracking.uri=http://x", "--archive is read in place of tracking.uri"),
        ("evaluate --model=model --data.train_limit=5", "evaluate.py does not read --data.train_limit; leave it"),
        ("study make --model=model --data.train_limit=5", "study.py does not read --data.train_limit; leave it out"),
        ("prepare_data --data.train_limit=5", "prepare_data.py does not read --data.train_limit; leave it out"),
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
        ("train --loss.warmup=1.5", "loss.warmup = '1.5': input should be less than or equal to 1"),
        ("train --loss.warmup=-0.1", "loss.warmup = '-0.1': input should be greater than or equal to 0"),
        ("train --loss.warmup=nan", "loss.warmup = 'nan': input should be a finite number"),
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
        ("sweep --sweep.nrg_weights=1,1", "sweep.nrg_weights = ['1', '1']: too few values"),
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
        ("explain --model=model", "give --text, or --choice for each text of a choice"),
        ("explain --model=model --text=t --second=u --choice=a", "--second belongs to a pair"),
        ("explain --model=model --text=t --choice=a", "'model' was trained on single texts; leave --choice out"),
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
            ("parameters: {data.train_limit: {int: [10, 100]}}", "'data.train_limit' must be a choice without `when`"),
            (
                "parameters: {data.train_limit: {choice: [10, 100], when: {method: [aa-ig]}}}",
                "'data.train_limit' must be a choice without `when`",
            ),
            ("parameters: {data.train_limit: {choice: [10, 100]}}", "each method has to try its whole grid: use"),
            ("parameters: {data.gold_percent: {choice: [0, 100]}}", "data.gold_percent = 0: input should be greater"),
            (
                "parameters: {loss.warmup: {uniform: [0, 2]}}",
                "loss.warmup = 2: input should be less than or equal to 1",
            ),
            ("parameters: {model.layers: {choice: [1, 12]}}", "has 2 layers"),
            (
                f"{GRID}parameters: {{train.learning_rate: {{uniform: [0.1, 0.2]}}}}",
                "a grid needs choices, but 'train.l",
            ),
            (f"{GRID}{VAST}", "the grid of unirex-dlm-fp has 777,600,000 configurations"),
        ]
    ),
]


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
        {**eraser(end=0), "space.yaml": "{}"},
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

ROWS = [
    *(OPTIONS + CONFIGURATIONS + SPACES + METHODS + CORPORA + ENCODERS),
    *(HARDWARE + OUTPUTS + STORES + RECORDED + MODELS),
]
