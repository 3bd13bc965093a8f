"""A study's forms for people who have a link, and their answers: a small web server of this machine's."""

from __future__ import annotations

import asyncio
import errno
import hmac
import ipaddress
import json
import socket
import sys
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, closing, nullcontext
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from unirex_ray.errors import UserError, one_line
from unirex_ray.study.answer_store import AnswerStore
from unirex_ray.study.answers import Answer, check_answer, follows, own_format, raw_answers, time_of
from unirex_ray.study.form import form_page
from unirex_ray.study.manifest import Study, read_study
from unirex_ray.study.sheet import sheet_of
from unirex_ray.study.tokens import tokens_of
from unirex_ray.sweep.ends import Stop, signals_noted

MOST_BYTES = 10_000
"""Of an answer."""

_HEADERS = [
    ("Cache-Control", "no-store"),
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "no-referrer"),  # an address holds a token
    ("X-Frame-Options", "DENY"),
]

_NOTHING = (
    "<!doctype html><title>Nothing here</title><p>There is nothing here. Open the whole link that you were given."
)

_BODY_SECONDS, _GRACE_SECONDS = 5, 8
"""That an answer may take to arrive, and that all requests may once the server is to end."""


def serve(
    folder: str | Path,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    tell: Callable[[str], None] = print,
    next_command: str = "",
) -> None:
    """Serve a study's forms until a signal ends it.

    Args:
        tell: is given a line at a time.
        next_command: what to type afterwards.

    Raises:
        UserError: if there is no study, another process serves it, or the address is not to be had.
        StoppedError: at its end.
    """
    study, folder = read_study(folder), Path(folder).expanduser().absolute()
    with closing(AnswerStore(folder, study)) as store, _bound(host, port) as bound:
        tokens, is_local = tokens_of(folder, study.sheets), _is_loopback(bound)
        if not is_local:
            tell(
                f"warning: {host} can be reached from other machines, and links and answers travel as plain text: put "
                "a proxy with TLS in front, or use this within a network that you trust"
            )
        for annotator, line in progress(study, store).items():
            tell(f"{annotator}  {_address(host, port)}/{tokens[annotator]}/   {line}")
        tell("give each annotator one link; answers are kept, and Ctrl-C ends the server")
        sys.stdout.flush()
        app = application(study, store, tokens, hosts=_local_names(host) if is_local else ["*"], tell=tell)
        with signals_noted(stop := Stop()):
            run(app, bound, stop)
            for annotator, line in progress(study, store).items():
                tell(f"{annotator}  {line}")
            for line in ["next:", f"  {next_command}"] if next_command else []:
                tell(line)


def progress(study: Study, store: AnswerStore) -> dict[str, str]:
    """How far each annotator is, in words."""
    return {
        annotator: f"{len(store.latest(annotator))} of {sum(map(len, sheet.values()))} answered"
        for annotator, sheet in study.sheets.items()
    }


def application(
    study: Study, store: AnswerStore, tokens: Mapping[str, str], *, hosts: list[str], tell: Callable[[str], None]
) -> Starlette:
    """The web application.

    Args:
        tokens: by annotator.
        hosts: names that requests may call this server by; `*` for any. A page elsewhere whose name was made to lead
            here comes with that name.
        tell: is given a line when answers cannot be saved.
    """
    desk = _Desk(study, store, tokens, tell)
    return Starlette(
        routes=[
            Route("/{token}", desk.without_slash),
            Route("/{token}/", desk.form),
            Route("/{token}/answers", desk.answers, methods=["GET"]),
            Route("/{token}/answers", desk.save, methods=["POST"]),
        ],
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=hosts, www_redirect=False)],
        exception_handlers={HTTPException: _nothing, ClientDisconnect: _nothing, OSError: desk.away},
    )


class _Desk:
    """Where annotators' requests arrive; on the event loop's thread, so that one answer is checked and saved at a time.

    Raises:
        HTTPException: for whoever has no token.
    """

    def __init__(
        self, study: Study, store: AnswerStore, tokens: Mapping[str, str], tell: Callable[[str], None]
    ) -> None:
        self._study, self._store, self._tokens, self._tell = study, store, tokens, tell
        self._pages = {annotator: form_page(sheet_of(study, annotator), server=True) for annotator in tokens}
        self._trouble = ""

    def _annotator(self, request: Request) -> str:
        given = request.path_params["token"].encode(errors="replace")
        found = [name for name, token in self._tokens.items() if hmac.compare_digest(token.encode(), given)]
        if not found:
            raise HTTPException(404)
        return found[0]

    async def without_slash(self, request: Request) -> Response:
        """Lead to the form, whose own addresses are relative to the slash."""
        return RedirectResponse(f"{self._tokens[self._annotator(request)]}/")

    async def form(self, request: Request) -> Response:
        """The annotator's page."""
        return HTMLResponse(self._pages[self._annotator(request)])

    async def answers(self, request: Request) -> Response:
        """What the annotator has answered so far."""
        return _json({"answers": self._store.latest(self._annotator(request))})

    async def save(self, request: Request) -> Response:
        """Take an answer, which is on disk once this says so."""
        annotator = self._annotator(request)
        try:
            async with asyncio.timeout(_BODY_SECONDS):
                body = await _body(request)
        except TimeoutError:
            return _refusal(408, f"the answer has not arrived within {_BODY_SECONDS} seconds")
        if body is None:
            return _refusal(413, f"an answer has at most {MOST_BYTES:,} bytes")
        try:
            answer, checked = _checked(self._study, annotator, body)
        except (ValueError, RecursionError) as error:
            return _refusal(400, one_line(error))
        if self._is_over(checked):
            return _refusal(409, "the next task has begun, and answers to this one stay as they are")
        self._store.add(annotator, answer)
        self._trouble = ""
        return _json({"saved": True})

    def _is_over(self, answer: Answer) -> bool:
        """Whether the annotator had begun a task behind the answer's by then: it shows what this one asks for.

        What was given before may come late, where the way to the server was cut for a while.
        """
        tasks = [*self._study.sheets[answer.annotator]]
        behind = tasks[tasks.index(answer.item.task) + 1 :]
        return any(
            self._study.by_id[given["item"]].task in behind and follows(answer.at, time_of(given.get("at")))
            for given in self._store.latest(answer.annotator)
        )

    async def away(self, request: Request, error: Exception) -> Response:
        """The disk does not take or give answers: forms keep theirs, and whoever runs the server hears of it once."""
        full = isinstance(error, OSError) and error.errno == errno.ENOSPC
        trouble = "the disk is full" if full else one_line(error)
        if trouble != self._trouble:
            self._tell(f"answers are not saved: {trouble}; forms keep them, and send them once this is put right")
            sys.stdout.flush()
        self._trouble = trouble
        return _refusal(507 if full else 500, "the server cannot save answers at the moment; keep this page open")


async def _body(request: Request) -> bytes | None:
    """None for one that is too long, of which no more is read."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > MOST_BYTES:
            return None
    return body


def _checked(study: Study, annotator: str, body: bytes) -> tuple[dict[str, Any], Answer]:
    """An answer as it is kept, with nothing but what is known of an answer, and what it means.

    Raises:
        ValueError: saying what is wrong with it.
        RecursionError: for one that is nested deeply.
    """
    given = json.loads(body)
    if not isinstance(given, dict):
        raise ValueError("an answer is one JSON object")
    (raw,) = raw_answers(own_format(study.id, annotator, [given]), "")
    checked = check_answer(study, raw)
    times = {"seconds": checked.seconds, "at": checked.at}
    kept = [*checked.values, *(name for name, time in times.items() if time is not None)]
    return {"item": checked.item.id, **{name: given[name] for name in kept}}, checked


def _json(content: Mapping[str, Any], status: int = 200) -> Response:
    return Response(json.dumps(content), status, media_type="application/json")


def _refusal(status: int, reason: str) -> Response:
    return _json({"saved": False, "reason": reason}, status)


async def _nothing(request: Request, error: Exception) -> Response:
    """One reply for whatever is not there, whatever may not be done, and whoever has left."""
    return HTMLResponse(_NOTHING, 404)


class _Server(uvicorn.Server):
    """Ends when `stop` is asked to, and leaves the signals alone: uvicorn would end the process by the same signal."""

    def __init__(self, settings: uvicorn.Config, stop: Stop) -> None:
        super().__init__(settings)
        self._stop = stop

    def capture_signals(self) -> AbstractContextManager[None]:  # type: ignore[override]
        """Nothing."""
        return nullcontext()

    async def on_tick(self, counter: int) -> bool:
        """Whether to end."""
        return await super().on_tick(counter) or self._stop.asked is not None


def run(app: Starlette, bound: socket.socket, stop: Stop) -> None:
    """Answer requests that come to a socket, until `stop` is asked to."""
    settings = uvicorn.Config(
        app,
        headers=_HEADERS,
        server_header=False,
        access_log=False,  # addresses hold tokens
        log_config=None,
        log_level="error",
        lifespan="off",
        ws="none",
        timeout_graceful_shutdown=_GRACE_SECONDS,
    )
    _Server(settings, stop).run(sockets=[bound])


def _bound(host: str, port: int) -> socket.socket:
    """A socket that has the address.

    Raises:
        UserError: naming what is not to be had.
    """
    if not 0 < port < 65536:
        raise UserError(f"--port must be from 1 to 65535, but got {port}")
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server((str(address[0]), port), family=family)
    except (OSError, UnicodeError) as error:
        if getattr(error, "errno", None) in (errno.EADDRINUSE, errno.EACCES):
            raise UserError(f"--port {port} is not to be had ({error}): choose another one") from None
        raise UserError(
            f"--host {host} is no address of this machine ({one_line(error)}): leave it out for this machine alone, or "
            "give 0.0.0.0 for all of its addresses"
        ) from None


def _is_loopback(bound: socket.socket) -> bool:
    return ipaddress.ip_address(bound.getsockname()[0]).is_loopback


def _in_brackets(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _address(host: str, port: int) -> str:
    name = socket.gethostname() if host in ("0.0.0.0", "::") else host
    return f"http://{_in_brackets(name)}:{port}"


def _local_names(host: str) -> list[str]:
    return [_in_brackets(host), "localhost", "127.0.0.1", "[::1]"]
