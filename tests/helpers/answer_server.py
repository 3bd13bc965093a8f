"""A server that keeps a form's answers, and is away when it is told to be."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class AnswerServer:
    """What a test sees of it.

    Attributes:
        status: that POST replies with; 0 closes the connection.
        kept: latest answer by item.
        posts: items in the order in which their answers came.
    """

    page: str
    status: int = 200
    address: str = ""
    kept: dict[str, dict[str, Any]] = field(default_factory=dict)
    posts: list[str] = field(default_factory=list)


@contextmanager
def answer_server(page: str) -> Iterator[AnswerServer]:
    """On loopback, until the context ends."""
    state = AnswerServer(page=page)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/token/":
                self._reply(200, state.page.encode(), "text/html; charset=utf-8")
            elif self.path == "/token/answers" and state.status == 200:
                self._reply(200, json.dumps({"answers": [*state.kept.values()]}).encode())
            elif state.status:
                self._reply(503, b"away", "text/plain")

        def do_POST(self) -> None:
            assert self.path == "/token/answers"
            answer = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if state.status == 200:
                state.kept[answer["item"]] = answer
                state.posts.append(answer["item"])
                self._reply(200, b'{"saved": true}')
            elif state.status:
                self._reply(state.status, b"no")

        def _reply(self, status: int, body: bytes, kind: str = "application/json") -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        state.address = f"http://127.0.0.1:{server.server_port}/token/"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield state
        finally:
            server.shutdown()
            thread.join()
