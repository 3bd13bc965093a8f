"""Methods and corpora that other distributions register."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from helpers.documented import blocks, commands, section
from helpers.installed import install
from helpers.job_module import job_module

from unirex_ray.analysis.selection import in_global_scope
from unirex_ray.config import Config, DataConfig
from unirex_ray.config.plugins import registered_version
from unirex_ray.data.load import load_corpus
from unirex_ray.errors import StoppedError, UserError
from unirex_ray.methods import METHODS, get_method, known_method
from unirex_ray.report.table import method_label
from unirex_ray.sweep.folder import grows
from unirex_ray.sweep.plan import plan_sweep
from unirex_ray.sweep.space import parse_space
from unirex_ray.tracking.protocol import PLUGINS_KEY, plugin_codes, protocol_hash, protocol_of

OWN_METHOD = section("unirex_ray/methods/README.md", "A method of your own")
OWN_ENCODER = section("unirex_ray/methods/README.md", "An encoder of your own")
OWN_READER = section("unirex_ray/data/README.md", "A reader of your own")
HAIKU = "summer\tthe **hot** sun\nwinter\t**snow** falls\n"


def install_documented(text: str, file: str, site: Path, monkeypatch: pytest.MonkeyPatch, *, more: str = "") -> None:
    (module,), (project,) = blocks(text, "python"), blocks(text, "toml")
    install(site, project, {file: module + more}, monkeypatch)


@pytest.fixture
def own_method(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install_documented(OWN_METHOD, "my_methods.py", tmp_path / "site", monkeypatch)


@pytest.fixture
def own_reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    install_documented(OWN_READER, "my_corpora.py", tmp_path / "site", monkeypatch)
    folder = tmp_path / "my-haiku"
    folder.mkdir()
    for split in ("train", "dev", "test"):
        (folder / f"{split}.txt").write_text(HAIKU)
    return folder


def project(kind: str, version: str = "1.0", name: str = "theirs", **entries: str) -> str:
    lines = [f'{key.replace("_", "-")} = "{value}"' for key, value in entries.items()]
    return "\n".join(
        [f'[project]\nname = "{name}"\nversion = "{version}"', f'[project.entry-points."unirex_ray.{kind}"]', *lines]
    )


def settings(*methods: str, **changes: object) -> dict:
    config = Config().changed({"sweep.methods": methods, **changes})
    return plan_sweep(config, parse_space({}, "s.yaml")).settings("digest")


def haiku(folder: Path, tmp_path: Path) -> DataConfig:
    return DataConfig(name="haiku", source=str(folder), cache=str(tmp_path / "cache"))


def test_the_documented_method_is_one_like_any_other(own_method: None) -> None:
    method = get_method("unirex-dlm-sp")
    assert method.criteria == {"task", "suff", "plaus"}
    assert known_method("unirex-dlm-sp") is method
    assert (method_label("unirex-dlm-sp"), in_global_scope("unirex-dlm-sp")) == ("UNIREX (DLM-SP)", False)
    assert "unirex-dlm-sp" not in METHODS
    with pytest.raises(UserError, match=r"\(did you mean 'unirex-dlm-sp'\?\).*, unirex-dlm-sp \(one that another"):
        get_method("unirex-dlm-sq")


@pytest.mark.slow
@pytest.mark.parametrize("text", [OWN_METHOD, OWN_ENCODER], ids=["method", "encoder"])
def test_the_documented_commands_train(
    text: str, own_method: None, encoders: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my-encoder").symlink_to(encoders["bert"])
    ((job, *arguments),) = commands(text)
    tiny = [
        "--model.encoder=my-encoder",
        "--data.limit=16",
        "--data.max_length=16",
        f"--data.cache={tmp_path / 'cache'}",
    ]
    monkeypatch.setattr(sys, "argv", [f"{job}.py", *arguments, *tiny])
    job_module(job).main()
    (result,) = tmp_path.rglob("result.json")
    assert json.loads(result.read_text())["card"]["method"] in ("unirex-dlm-sp", "unirex-slm-fp")


@pytest.mark.slow
def test_the_documented_reader_is_prepared(
    own_reader: Path,
    encoders: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    ((job, *arguments),) = commands(OWN_READER)
    monkeypatch.setattr(sys, "argv", [f"{job}.py", *arguments, f"--model.encoder={encoders['bert']}"])
    job_module(job).main()
    assert "--data.name=haiku" in capsys.readouterr().out


def test_the_documented_reader_reads(own_reader: Path, tmp_path: Path) -> None:
    corpus = load_corpus(haiku(own_reader, tmp_path))
    first = corpus.splits["dev"][0]
    assert (first.id, first.label, first.inputs[0].segments, first.inputs[0].gold) == (
        *("dev-1", 0, ("the hot sun",)),
        ((0, 4, 7),),
    )
    (own_reader / "dev.txt").write_text(f"{HAIKU}spring\tnothing\n")
    with pytest.raises(UserError, match=r"^dev\.txt, line 3: 'label' must be one of summer, winter, but is 'spring'$"):
        load_corpus(haiku(own_reader, tmp_path))
    with pytest.raises(UserError, match=r"data.name=haiku needs data.source; give the folder of the haiku"):
        load_corpus(DataConfig(name="haiku"))
    with pytest.raises(
        UserError, match=r"data.labels is for data.name=eraser and table alone; leave it out for data.name=h"
    ):
        load_corpus(DataConfig(name="haiku", source=str(own_reader), labels=("a", "b")))


def test_what_another_reader_kept_is_not_taken_for_its_own(
    own_reader: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = load_corpus(haiku(own_reader, tmp_path))
    monkeypatch.setattr("unirex_ray.data.load.open_source", None)  # from the cache, without reading
    assert load_corpus(haiku(own_reader, tmp_path)).digest() == before.digest()
    monkeypatch.undo()
    more = "\nLABELS = ('winter', 'summer')\n"
    install_documented(OWN_READER, "my_corpora.py", tmp_path / "other", monkeypatch, more=more)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path != str(tmp_path / "site")])
    after = load_corpus(haiku(own_reader, tmp_path))
    assert (before.labels, after.labels) == (("summer", "winter"), ("winter", "summer"))


@pytest.mark.parametrize(
    ("kind", "entries", "asked", "message"),
    [
        (
            "methods",
            {"mine": "absent:X"},
            "mine",
            r"'mine' of theirs 1\.0 cannot be loaded \(ModuleNotFoundError: No module",
        ),
        (
            "methods",
            {"mine": "theirs:ABSENT"},
            "mine",
            r"of theirs 1\.0 cannot be loaded \(AttributeError: .*; mend or unin",
        ),
        ("methods", {"mine": "theirs.broken:X"}, "mine", r"cannot be loaded \(RuntimeError: two lines\); mend"),
        ("methods", {"mine": "theirs.exits:X"}, "mine", r"of theirs 1\.0 cannot be loaded \(SystemExit: 0\); mend"),
        ("methods", {"mine": "theirs:NUMBER"}, "mine", r"theirs 1\.0 must be a Method, but theirs:NUMBER is a int$"),
        ("methods", {"mine": "theirs:METHOD"}, "mine", "the method 'other' is registered as 'mine'; give it one name"),
        (
            "methods",
            {"aa_ig": "theirs:METHOD"},
            "aa-ig",
            r"'aa-ig' is one of unirex_ray's own, but theirs 1\.0 registers it",
        ),
        ("corpora", {"mine": "absent:X"}, "mine", r"the corpus 'mine' of theirs 1\.0 cannot be loaded"),
        ("corpora", {"mine": "theirs:METHOD"}, "mine", r"theirs 1\.0 must be a Loader, but theirs:METHOD is a Method$"),
        (
            "corpora",
            {"mine": "theirs:LOADER"},
            "mine",
            "data.name=mine reads a corpus that is named 'toy'; give it one name",
        ),
        *(
            (
                "corpora",
                {"mine": f"theirs:{reader}"},
                "mine",
                rf"'mine' of theirs 1\.0 cannot be read \({reason}\); mend",
            )
            for reader, reason in (
                ("RAISES", "KeyError: 'x'"),
                ("EXITS", "SystemExit: 0"),
                ("NOTHING", "TypeError: its reader must return a Corpus, but returns a NoneType"),
                ("LACKS", "KeyError: 'train'"),
            )
        ),
        (
            "corpora",
            {"sst": "theirs:METHOD"},
            "sst",
            r"'sst' is one of unirex_ray's own, but theirs 1\.0 registers it too",
        ),
        ("corpora", {"reviews": "theirs:METHOD"}, "reviews", "'reviews' is one of unirex_ray's own"),
    ],
)
def test_what_is_broken_or_taken_is_one_line_where_it_is_asked_for(
    kind: str, entries: dict[str, str], asked: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = """
from unirex_ray.data.columns import InstanceTable
from unirex_ray.data.load import Loader
from unirex_ray.data.schema import Corpus
from unirex_ray.methods import Method
NUMBER = 7
METHOD = Method(name="other", label="Other", stages=())
LOADER = Loader(read=lambda source, config: Corpus(name="toy", labels=("a", "b"), splits={}))
LACKS = Loader(read=lambda source, config: Corpus(name="mine", labels=("a", "b"), splits={}))
RAISES = Loader(read=lambda source, config: {}["x"])
EXITS = Loader(read=lambda source, config: exit(0))
NOTHING = Loader(read=lambda source, config: None)
"""
    modules = {"theirs/__init__.py": source, "theirs/broken.py": "raise RuntimeError('two\\nlines')"}
    modules["theirs/exits.py"] = "import sys\nsys.exit(0)"
    install(tmp_path / "site", project(kind, **entries), modules, monkeypatch)

    def ask() -> None:
        if kind == "methods":
            get_method(asked)
        else:
            load_corpus(DataConfig(name=asked, source=str(tmp_path / "site") if asked != "reviews" else None))

    with pytest.raises(UserError, match=message) as refused:
        ask()
    assert "\n" not in str(refused.value)
    # Nobody else is troubled.
    assert get_method("fresh") is METHODS["fresh"]
    with pytest.raises(UserError, match=r"unknown method 'm'"):
        get_method("m")
    with pytest.raises(UserError, match=r"data.name=cose needs data.source"):
        load_corpus(DataConfig(name="cose"))


@pytest.mark.parametrize("stop", [KeyboardInterrupt, StoppedError])
def test_what_stops_a_job_is_no_error_of_the_code_that_it_comes_in(
    stop: type[BaseException], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raising = "from unirex_ray.errors import StoppedError\n\ndef read(*_):\n    raise "
    raising += 'StoppedError("", exit_code=143)' if stop is StoppedError else "KeyboardInterrupt"
    modules = {
        "theirs/__init__.py": raising,
        "theirs/reader.py": "from theirs import read\nfrom unirex_ray.data.load import Loader\nX = Loader(read=read)\n",
        "theirs/stopped.py": "from theirs import read\nread()\n",
    }
    entries = {"mine": "theirs.reader:X", "yours": "theirs.stopped:X"}
    install(tmp_path / "site", project("corpora", **entries), modules, monkeypatch)
    for name in entries:
        with pytest.raises(stop):
            load_corpus(DataConfig(name=name, source=str(tmp_path / "site"), cache=str(tmp_path / "cache")))


def test_a_name_of_two_distributions_is_refused(
    own_method: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = project("methods", unirex_dlm_sp="theirs:X")
    install(tmp_path / "other", other, {"theirs.py": ""}, monkeypatch)
    with pytest.raises(UserError, match=r"registered by my-methods 1\.0 and theirs 1\.0; uninstall all but one"):
        get_method("unirex-dlm-sp")


def test_where_it_is_not_installed_the_line_says_so() -> None:
    """As on a node of a cluster that lacks it."""
    with pytest.raises(
        UserError, match=r"unknown method 'unirex-dlm-sp'.*has to be installed on every node"
    ) as refused:
        get_method("unirex-dlm-sp")
    assert "\n" not in str(refused.value)
    with pytest.raises(UserError, match=r"unknown data.name = 'haiku'.*has to be installed on every node"):
        load_corpus(DataConfig(name="haiku"))
    assert (known_method("unirex-dlm-sp"), method_label("unirex-dlm-sp")) == (None, "unirex-dlm-sp")


def test_the_version_is_that_of_the_package_and_of_its_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {"theirs/__init__.py": "", "theirs/deep/recipe.py": "X = 1", "theirs/notes.txt": "a"}
    versions = []
    for number, (version, changed) in enumerate(
        [("1.0", {}), ("1.0", {"theirs/notes.txt": "b"}), ("1.0", {"theirs/__init__.py": "Y = 2"}), ("1.1", {})]
    ):
        with monkeypatch.context() as patch:
            install(
                tmp_path / str(number),
                project("methods", version, mine="theirs.deep.recipe:X"),
                {**files, **changed},
                patch,
            )
            versions.append(registered_version("method", "mine"))
    assert versions[0] == versions[1]
    assert len({*versions}) == 3
    assert str(versions[0]).startswith("theirs 1.0 (")
    assert registered_version("method", "aa-ig") is None


@pytest.mark.parametrize("editable", [False, True])
def test_modules_beside_the_one_that_is_registered_count_where_the_distribution_lists_them(
    editable: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    versions = []
    for number, beside in enumerate(("Y = 1", "Y = 1", "Y = 2")):
        site = tmp_path / str(number)
        with monkeypatch.context() as patch:
            modules = {"theirs.py": "import beside\nX = 1", "beside.py": beside}
            install(site, project("methods", mine="theirs:X"), modules, patch)
            if editable:
                (site / "__editable___theirs_finder.py").write_text(f"MAPPING = {str(site)!r}")
                (site / "theirs-1.0.dist-info" / "RECORD").write_text("__editable___theirs_finder.py,,\n")
            versions.append(registered_version("method", "mine"))
    assert versions[0] == versions[1]
    assert (versions[1] == versions[2]) == editable


def test_a_package_is_the_same_however_it_is_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    versions, listed = set(), "theirs/__init__.py,,\ntheirs/recipe.py,,\n"
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "script.py").write_text("#!/here/bin/python")
    for number, record in enumerate((f"{listed}theirs/gone.py,,\n../bin/script.py,,\n", listed, "", None)):
        site = tmp_path / str(number)
        with monkeypatch.context() as patch:
            install(
                site,
                project("methods", mine="theirs.recipe:X"),
                {"theirs/__init__.py": "", "theirs/recipe.py": "X = 1"},
                patch,
            )
            listing = site / "theirs-1.0.dist-info" / "RECORD"
            listing.unlink() if record is None else listing.write_text(record)
            versions.add(registered_version("method", "mine"))
    assert len(versions) == 1


def test_sweeps_of_two_versions_have_two_protocols_and_others_keep_theirs(
    own_method: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without, with_it = settings("aa-ig"), settings("aa-ig", "unirex-dlm-sp")
    assert PLUGINS_KEY not in without
    assert with_it[PLUGINS_KEY] == f"method unirex-dlm-sp={registered_version('method', 'unirex-dlm-sp')}"
    install_documented(OWN_METHOD, "my_methods.py", tmp_path / "other", monkeypatch, more="# changed\n")
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path != str(tmp_path / "site")])
    changed = settings("aa-ig", "unirex-dlm-sp")
    hashes = {protocol_hash(protocol_of(found)) for found in (without, with_it, changed)}
    assert len(hashes) == 3
    assert protocol_of(settings("aa-ig")) == protocol_of(without)
    assert not grows(PLUGINS_KEY, with_it, changed)


def test_the_reader_of_a_corpus_is_part_of_the_protocol(own_reader: Path) -> None:
    found = settings("aa-ig", **{"data.name": "haiku", "data.source": str(own_reader)})
    assert found[PLUGINS_KEY] == f"corpus haiku={registered_version('corpus', 'haiku')}"


def test_a_sweep_may_grow_by_a_method_of_others() -> None:
    one, two = {PLUGINS_KEY: "b=b 1 (0)"}, {PLUGINS_KEY: "a=a 1 (0), b=b 1 (0)"}
    assert grows(PLUGINS_KEY, {}, one)
    assert grows(PLUGINS_KEY, one, two)
    assert not grows(PLUGINS_KEY, two, one)
    assert not grows(PLUGINS_KEY, one, {PLUGINS_KEY: "a=a 1 (0), b=b 2 (0)"})
    assert not grows(PLUGINS_KEY, one, {})
    assert grows(PLUGINS_KEY, one, {PLUGINS_KEY: "b=b 1 (0) then b 2 (0)"})
    assert not grows(PLUGINS_KEY, one, {PLUGINS_KEY: "b=b 1 (0)1"})


def test_a_corpus_and_a_method_of_one_name_are_both_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    method = "from unirex_ray.methods import Method\nX = Method(name='mine', label='Mine', stages=())\n"
    install(tmp_path / "methods", project("methods", mine="theirs:X"), {"theirs.py": method}, monkeypatch)
    install(tmp_path / "corpora", project("corpora", name="others", mine="others:X"), {"others.py": ""}, monkeypatch)
    plan = plan_sweep(Config().changed({"sweep.methods": ["aa-ig"], "data.name": "mine"}), parse_space({}, "s.yaml"))
    recorded = plugin_codes(replace(plan, budgets={"mine": 1}).plugin_versions())
    assert {name: code.partition(" (")[0] for name, code in recorded.items()} == {
        "corpus mine": "others 1.0",
        "method mine": "theirs 1.0",
    }
