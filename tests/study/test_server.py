"""The server of a study: who has a link gets one form, and an answer that it says is saved is on disk."""

import http.client
import json
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from signal import SIGINT, SIGKILL, SIGTERM, Signals
from typing import Any

import pytest
from helpers.processes import Run, free_ports
from helpers.python_path import with_helpers
from helpers.studies import made_study

from unirex_ray.errors import StoppedError, UserError
from unirex_ray.study import server as module
from unirex_ray.study.answer_store import ANSWERS, AnswerStore, stored_answers
from unirex_ray.study.answers import RawAnswer, collect
from unirex_ray.study.form import form_page
from unirex_ray.study.manifest import write_study
from unirex_ray.study.server import MOST_BYTES, application, run, serve
from unirex_ray.study.sheet import sheet_of
from unirex_ray.study.tokens import TOKENS
from unirex_ray.sweep.ends import Stop

STUDY = made_study(annotators=5, texts=["<script>alert(1)</script> was dull", "a moving plot", "the plot felt dull"])
TOKENS_OF = {name: f"token-of-{name}-{'x' * 10}" for name in STUDY.sheets}
FORWARD, RATING = STUDY.sheets["a1"]["forward"], STUDY.sheets["a1"]["rating"]


@dataclass
class Reply:
    status: int
    text: str
    headers: dict[str, str]

    @property
    def json(self) -> Any:
        return json.loads(self.text)


@dataclass
class Served:
    folder: Path
    port: int
    told: list[str] = field(default_factory=list)
    store: AnswerStore | None = None

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> Reply:
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)) as connection:
            connection.request(method, path, body, headers)
            reply = connection.getresponse()
            return Reply(reply.status, reply.read().decode(), {k.lower(): v for k, v in reply.getheaders()})

    def get(self, annotator: str) -> list[dict[str, Any]]:
        return list(self.ask("GET", f"/{TOKENS_OF[annotator]}/answers").json["answers"])

    def post(self, annotator: str, answer: Any) -> Reply:
        return self.ask("POST", f"/{TOKENS_OF[annotator]}/answers", json.dumps(answer))

    @property
    def raw(self) -> list[RawAnswer]:
        return stored_answers(self.folder / ANSWERS)


@contextmanager
def running(folder: Path, hosts: tuple[str, ...] = ("127.0.0.1", "localhost")) -> Iterator[Served]:
    """The application on a port of its own, in a thread."""
    stop, bound, ready = Stop(), socket.create_server(("127.0.0.1", 0)), threading.Event()
    served = Served(folder, bound.getsockname()[1])

    def work() -> None:
        with closing(AnswerStore(folder, STUDY)) as store:
            served.store = store
            app = application(STUDY, store, TOKENS_OF, hosts=[*hosts], tell=served.told.append)
            ready.set()
            run(app, bound, stop)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        assert ready.wait(60)
        yield served
    finally:
        stop.ask(StoppedError("", exit_code=0))
        thread.join(60)
        assert not thread.is_alive()


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    with running(tmp_path) as found:
        yield found


def forward(item: str, second: int | None = 0, **other: Any) -> dict[str, Any]:
    time = {} if second is None else {"at": f"2026-01-01T10:00:{second:02}.000Z"}
    return {"item": item, "label": 1, "confidence": 3, "seconds": 2.5, **time, **other}


def rating(item: str, second: int = 30) -> dict[str, Any]:
    return {"item": item, "alignment": 4, "seconds": 1, "at": f"2026-01-01T10:00:{second:02}.000Z"}


def test_who_has_a_link_gets_one_form_and_its_answers(served: Served) -> None:
    for annotator, token in TOKENS_OF.items():
        page = served.ask("GET", f"/{token}/")
        assert (page.status, page.text) == (200, form_page(sheet_of(STUDY, annotator), server=True))
        assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert served.get("a1") == []
    given = [forward(FORWARD[0]), forward(FORWARD[1], label=0)]
    for answer in given:
        reply = served.post("a1", answer)
        assert (reply.status, reply.json) == (200, {"saved": True})
    assert served.get("a1") == given
    assert served.get("a2") == []
    kept = collect(STUDY, served.raw)
    assert [(one.annotator, one.item.id, one.values["label"]) for one in kept.answers] == [
        ("a1", FORWARD[0], 1),
        ("a1", FORWARD[1], 0),
    ]
    assert not kept.problems


def test_a_changed_answer_replaces_and_a_repeated_one_does_not_count_again(served: Served) -> None:
    first, second = forward(FORWARD[0], 1), forward(FORWARD[0], 2, label=0)
    for answer in (first, second, first, second):
        assert served.post("a1", answer).status == 200
    assert served.get("a1") == [second]
    assert [one.at for one in served.raw] == [second["at"]]


def test_a_lost_slash_leads_to_the_form(served: Served) -> None:
    reply = served.ask("GET", f"/{TOKENS_OF['a1']}")
    assert (reply.status, reply.headers["location"]) == (307, f"{TOKENS_OF['a1']}/")


TOKEN = TOKENS_OF["a1"]
NOWHERE = [
    ("GET", "/"),
    ("GET", "//"),
    ("GET", "/answers"),
    ("GET", "/nobody"),
    ("GET", "/nobody/"),
    ("GET", "/nobody/answers"),
    ("POST", "/nobody/answers"),
    ("GET", "/%ff%00/"),
    ("GET", f"/{TOKEN[:-1]}/"),
    ("GET", f"/{TOKEN}x/"),
    ("GET", f"/{TOKEN.upper()}/"),
    ("GET", "/a1/"),
    ("GET", f"/{TOKEN}/study.json"),
    ("GET", f"/{TOKEN}/../study.json"),
    ("GET", f"/{TOKEN}/%2e%2e/{TOKENS}"),
    ("DELETE", f"/{TOKEN}/answers"),
    ("PUT", f"/{TOKEN}/answers"),
    ("POST", f"/{TOKEN}/"),
    ("POST", f"/{TOKEN}"),
]


def test_everything_else_is_one_page_that_tells_nothing(served: Served) -> None:
    replies = [served.ask(method, path, body="{}" if method == "POST" else None) for method, path in NOWHERE]
    assert {reply.status for reply in replies} == {404}
    assert len({reply.text for reply in replies}) == 1
    assert len({(*sorted({**reply.headers, "date": ""}.items()),) for reply in replies}) == 1
    assert "Nothing here" in replies[0].text


def test_every_reply_says_how_browsers_are_to_treat_it(served: Served) -> None:
    path = f"/{TOKEN}/answers"
    replies = [
        served.ask("GET", f"/{TOKEN}/"),
        served.ask("GET", path),
        served.post("a1", forward(FORWARD[0])),
        served.post("a1", {}),
        served.ask("GET", "/"),
        served.ask("GET", "/", host="elsewhere.example"),
    ]
    assert [reply.status for reply in replies] == [200, 200, 200, 400, 404, 400]
    for reply in replies:
        assert reply.headers["cache-control"] == "no-store"
        assert reply.headers["x-content-type-options"] == "nosniff"
        assert reply.headers["referrer-policy"] == "no-referrer"
        assert reply.headers["x-frame-options"] == "DENY"
        assert "server" not in reply.headers


def item_of_another() -> str:
    mine = {*FORWARD, *RATING}
    return next(item.id for item in STUDY.items if item.id not in mine)


REFUSED: dict[str, tuple[Any, str]] = {
    "no JSON": ("nonsense", "Expecting value"),
    "nothing": ("", "Expecting value"),
    "no text": (b"\xff\xfe\xfd", "decode"),
    "deep nesting": ("[" * 9000, "recursion"),
    "deep nesting within": (json.dumps(forward(FORWARD[0]))[:-1] + ', "x": ' + '{"x":' * 1500, "recursion"),
    "a list": ("[]", "one JSON object"),
    "a number": ("7", "one JSON object"),
    "a number of very many digits": ("9" * 9000, "digits"),
    "no item": ({}, "unknown item null"),
    "a list for an item": ({"item": [1]}, "unknown item"),
    "HTML for an item": ({"item": "<script>alert(1)</script>"}, "unknown item"),
    "half a character": ('{"item": "\\ud800"}', "unknown item"),
    "an unknown item": (forward("none"), 'unknown item "none"'),
    "an item of another": (forward(item_of_another()), "was not given to a1"),
    "no confidence": ({"item": FORWARD[0], "label": 1}, "confidence = null must be from 1 to 4"),
    "a label too high": (forward(FORWARD[0], label=2), "label = 2 must be from 0 to 1"),
    "a huge label": (forward(FORWARD[0], label=10**4000), "must be from 0 to 1"),
    "true for a label": (forward(FORWARD[0], label=True), "label = true must be"),
    "a broken number": (forward(FORWARD[0], confidence=2.5), "confidence = 2.5 must be from 1 to 4"),
    "not a number": (forward(FORWARD[0], confidence=float("nan")), "confidence = NaN must be from 1 to 4"),
    "HTML for a label": (forward(FORWARD[0], label="<b>positive</b>"), "label = "),
}


def test_what_the_study_did_not_ask_for_is_refused_with_a_reason(served: Served) -> None:
    for what, (content, reason) in REFUSED.items():
        body = content if isinstance(content, str | bytes) else json.dumps(content)
        reply = served.ask("POST", f"/{TOKEN}/answers", body)
        assert reply.status == 400, what
        assert reply.json["saved"] is False
        assert reason in reply.json["reason"], (what, reply.json)
        assert "\n" not in reply.json["reason"]
        assert reply.headers["content-type"] == "application/json"
    assert served.get("a1") == []
    assert served.post("a1", forward(FORWARD[0])).status == 200


def test_nothing_but_an_answer_is_kept(served: Served) -> None:
    odd = {"label": "positive", "note": "<script>", "annotator": "a2", "study": "other", "seconds": float("inf")}
    assert served.post("a1", forward(FORWARD[0], None, **odd, at="<b>")).status == 200
    big = served.ask(
        "POST", f"/{TOKEN}/answers", json.dumps(forward(FORWARD[1], seconds=0))[:-1] + ', "seconds": 1e999}'
    )
    assert big.status == 200
    assert served.post("a1", forward(FORWARD[2], seconds=10**1000, at="2026-01-01\ud80010:00:00Z")).status == 200
    first, second, third = served.get("a1")
    assert first == {"item": FORWARD[0], "label": "positive", "confidence": 3}
    assert second == {"item": FORWARD[1], "label": 1, "confidence": 3, "at": "2026-01-01T10:00:00.000Z"}
    assert {*third} == {"item", "label", "confidence", "at"}


def test_a_body_has_a_limit_whatever_it_says_of_its_length(served: Served) -> None:
    fits = json.dumps(forward(FORWARD[0])).ljust(MOST_BYTES)
    path = f"/{TOKEN}/answers"
    assert served.ask("POST", path, fits).status == 200
    assert served.ask("POST", path, f"{fits} ").status == 413
    assert served.ask("POST", path, (b"x" * 1000 for _ in range(11))).status == 413
    assert served.ask("POST", "/nobody/answers", f"{fits} ").status == 404


def test_the_first_task_is_over_once_the_second_has_begun(served: Served) -> None:
    assert served.post("a1", forward(FORWARD[0], 10)).status == 200
    assert served.post("a1", rating(RATING[0], 20)).status == 200
    for late in (forward(FORWARD[0], 21, label=0), forward(FORWARD[1], 20), forward(FORWARD[1], None)):
        reply = served.post("a1", late)
        assert (reply.status, reply.json["saved"]) == (409, False)
        assert "the next task has begun" in reply.json["reason"]
    assert [one["item"] for one in served.get("a1")] == [FORWARD[0], RATING[0]]
    assert served.post("a1", rating(RATING[1], 25)).status == 200
    assert served.post("a2", forward(STUDY.sheets["a2"]["forward"][0], 25)).status == 200


def test_what_was_given_before_the_second_task_may_come_late(served: Served) -> None:
    assert served.post("a1", rating(RATING[0], 20)).status == 200
    assert served.post("a1", forward(FORWARD[1], 19)).status == 200
    assert [one["item"] for one in served.get("a1")] == [RATING[0], FORWARD[1]]


def test_a_page_that_leads_here_by_another_name_gets_nothing(tmp_path: Path) -> None:
    with running(tmp_path, ("127.0.0.1", "localhost", "[::1]")) as served:
        hosts = ["127.0.0.1", "localhost:8000", "[::1]:1", "elsewhere.example", "127.0.0.1.elsewhere.example:80", ""]
        replies = [served.ask("GET", f"/{TOKEN}/answers", host=host).status for host in hosts]
        assert replies == [200, 200, 200, 400, 400, 400]
        reply = served.ask("POST", f"/{TOKEN}/answers", json.dumps(forward(FORWARD[0])), host="elsewhere.example")
        assert reply.status == 400
        assert served.raw == []


def test_five_annotators_answer_at_once(served: Served) -> None:
    def work(annotator: str) -> list[int]:
        sheet = STUDY.sheets[annotator]
        answers = [forward(item, n) for n, item in enumerate(sheet["forward"])]
        answers += [rating(item, 30 + n) for n, item in enumerate(sheet["rating"])]
        return [served.post(annotator, answer).status for answer in answers for _ in range(2)]

    with ThreadPoolExecutor(5) as pool:
        statuses = [status for found in pool.map(work, STUDY.sheets) for status in found]
    assert statuses == [200] * 5 * 2 * 6
    kept = collect(STUDY, served.raw)
    assert (len(kept.answers), kept.unanswered, kept.problems) == (30, {}, ())


def answers_fail(served: Served, monkeypatch: pytest.MonkeyPatch, error: OSError) -> Callable[[], None]:
    """Make the store raise an error; returns what ends that."""
    assert served.store is not None

    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(served.store, "add", fail)
    return monkeypatch.undo


@pytest.mark.parametrize(
    ("error", "status", "told"),
    [
        (OSError(28, "No space left on device"), 507, "the disk is full"),
        (OSError(5, "attempt to write a readonly database"), 500, "attempt to write a readonly database"),
    ],
)
def test_what_the_disk_does_not_take_is_said_and_the_server_lives_on(
    served: Served, monkeypatch: pytest.MonkeyPatch, error: OSError, status: int, told: str
) -> None:
    end = answers_fail(served, monkeypatch, error)
    for _ in range(2):
        reply = served.post("a1", forward(FORWARD[0]))
        assert (reply.status, reply.json["saved"]) == (status, False)
        assert "keep this page open" in reply.json["reason"]
    (line,) = served.told
    assert told in line
    end()
    assert served.post("a1", forward(FORWARD[0])).status == 200
    answers_fail(served, monkeypatch, error)
    served.post("a1", forward(FORWARD[1]))
    assert len(served.told) == 2  # it is news again


def test_a_client_that_leaves_in_the_middle_harms_nobody(served: Served, caplog: pytest.LogCaptureFixture) -> None:
    with socket.create_connection(("127.0.0.1", served.port)) as client:
        head = f"POST /{TOKEN}/answers HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 500\r\n\r\n"
        client.sendall(head.encode() + b'{"item"')
    with socket.create_connection(("127.0.0.1", served.port)) as client:
        client.sendall(b"nonsense\r\n\r\n")
    assert served.post("a1", forward(FORWARD[0])).status == 200
    assert len(served.get("a1")) == 1
    assert not caplog.records


# ---- the whole, in a process of its own

SERVE = """
import sys
from unirex_ray.errors import exit_on_user_error
from unirex_ray.study.server import serve
exit_on_user_error(lambda: serve(sys.argv[1], port=int(sys.argv[2]), next_command="analyse it"))
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "study"
    made.mkdir()
    write_study(made, STUDY)
    return made


class Process(Run):
    """A server, and the links that it printed."""

    def __init__(self, folder: Path) -> None:
        self.folder, (self.port,) = folder, free_ports(1)
        command = [sys.executable, "-c", SERVE, str(folder), str(self.port)]
        super().__init__(command, {**os.environ, "PYTHONPATH": with_helpers()}, folder.parent / "log")
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and self.poll() is None and "Ctrl-C ends" not in self.printed():
            time.sleep(0.05)
        lines = [line.split() for line in self.printed().splitlines()]
        self.links = {words[0]: words[1] for words in lines if len(words) > 1 and words[1].startswith("http")}

    def ask(self, method: str, annotator: str, path: str, body: Any = None) -> Reply:
        route = self.links[annotator].partition(str(self.port))[2]
        return Served(self.folder, self.port).ask(method, f"{route}{path}", body)

    def end(self, number: Signals = SIGTERM) -> int | None:
        with suppress(ProcessLookupError):
            os.kill(self.session, number)
        return self.wait(60)


@pytest.mark.slow
def test_a_killed_server_goes_on_with_the_same_links_and_all_that_it_took(folder: Path) -> None:
    first = Process(folder)
    for number in range(3):
        assert first.ask("POST", "a1", "answers", json.dumps(forward(FORWARD[number], number))).status == 200
    assert first.end(SIGKILL) == -SIGKILL
    second = Process(folder)
    try:
        assert second.links == {
            name: link.replace(str(first.port), str(second.port)) for name, link in first.links.items()
        }
        assert second.printed().splitlines()[0].endswith("/   3 of 6 answered")
        again = forward(FORWARD[2], 2)
        assert second.ask("POST", "a1", "answers", json.dumps(again)).status == 200
        found = second.ask("GET", "a1", "answers").json["answers"]
        assert found == [forward(FORWARD[number], number) for number in range(3)]
        assert second.ask("GET", "a1", "").status == 200
    finally:
        second.end(SIGKILL)
    assert len(stored_answers(folder / ANSWERS)) == 3


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code", "name"), [(SIGINT, 130, "Ctrl-C"), (SIGTERM, 143, "SIGTERM")])
def test_a_signal_ends_it_with_what_there_is_and_what_comes_next(
    folder: Path, number: Signals, code: int, name: str
) -> None:
    process = Process(folder)
    assert process.ask("POST", "a2", "answers", json.dumps(forward(STUDY.sheets["a2"]["forward"][0]))).status == 200
    with socket.create_connection(
        ("127.0.0.1", process.port)
    ) as slow:  # whoever never ends a request is not waited for
        path = f"/{process.links['a1'].split('/')[3]}/answers"
        slow.sendall(f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 9\r\n\r\n{{".encode())
        time.sleep(0.2)
        assert process.end(number) == code
    lines = process.printed().splitlines()
    assert len(lines) == 5 + 1 + 5 + 2
    assert lines[6:] == [
        "a1  0 of 6 answered",
        "a2  1 of 6 answered",
        *(f"a{n}  0 of 6 answered" for n in (3, 4, 5)),
        "next:",
        "  analyse it",
    ]
    assert process.errors() == f"\nstopped by {name}\n"
    tokens = json.loads((folder / TOKENS).read_text())
    assert {*process.links.values()} == {f"http://127.0.0.1:{process.port}/{token}/" for token in tokens.values()}
    printed = process.printed() + process.errors()
    assert all(printed.count(token) == 1 for token in tokens.values())


@pytest.mark.slow
def test_a_second_server_of_a_study_is_refused(folder: Path) -> None:
    first = Process(folder)
    try:
        second = Process(folder)
        assert second.wait(60) == 2
        assert f"pid {first.session}, since" in second.errors()
        assert second.errors().startswith("error: another process (host ")
    finally:
        first.end(SIGKILL)


def test_what_cannot_be_served_is_said_in_one_line(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=f"--port {port} is not to be had .*: choose another one"):
            serve(folder, port=port, tell=print)
    with pytest.raises(UserError, match="--port must be from 1 to 65535, but got 0"):
        serve(folder, port=0)
    with pytest.raises(UserError, match=r"--host 192\.0\.2\.1 is no address of this machine"):
        serve(folder, host="192.0.2.1", port=free_ports(1)[0])
    with pytest.raises(UserError, match="is no study"):
        serve(folder / "other")


@pytest.mark.parametrize(
    ("host", "name", "warns"),
    [
        ("127.0.0.1", "127.0.0.1", False),
        ("localhost", "localhost", False),
        ("0.0.0.0", socket.gethostname(), True),
    ],
)
def test_links_and_warning_fit_the_address(
    folder: Path, monkeypatch: pytest.MonkeyPatch, host: str, name: str, warns: bool
) -> None:
    hosts: list[list[str]] = []
    made = module.application
    monkeypatch.setattr(
        module, "application", lambda *given, **named: (hosts.append(named["hosts"]), made(*given, **named))[1]
    )
    monkeypatch.setattr(module, "run", lambda app, bound, stop: None)
    (port,), told = free_ports(1), list[str]()
    serve(folder, host=host, port=port, tell=told.append)
    links = [line for line in told if "http://" in line]
    assert len(links) == 5
    assert all(f"  http://{name}:{port}/" in line for line in links)
    assert told[0].startswith(f"warning: {host} can be reached from other machines") == warns
    assert ("*" in hosts[0]) == warns
    assert told[-1] == "a5  0 of 6 answered"
