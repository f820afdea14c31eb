"""Who may ask this server, and what may show it: checked before every route, page, upload and socket.

1. The host that a request names must be on the list: 127.0.0.1, localhost and [::1] at the served port, and the hosts that were named when
   the server was started. A page elsewhere that points its own name at this machine is refused by that name.
2. An `Origin` must be the host that is asked: a page of another server can neither read an answer nor send a change. A socket must
   have one.
3. The socket, through which pages start jobs, must also repeat Streamlit's own token, which a page elsewhere cannot read.
4. Every answer forbids to be shown in a frame.
5. Refusals are 403 with one sentence; nothing of the app is asked before them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from urllib.parse import urlsplit

from starlette.requests import Request, cookie_parser
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from streamlit.web.server.starlette.starlette_app_utils import validate_xsrf_token

from steering.errors import BadInput

VARIABLE = "STEERING_HOSTS"
"""Environment variable with the hosts that were named, separated by commas."""
LOCAL = ("127.0.0.1", "localhost", "::1")
XSRF = "_streamlit_xsrf"
HEADERS = [
    (b"content-security-policy", b"frame-ancestors 'none'"),
    (b"x-frame-options", b"DENY"),
    (b"x-content-type-options", b"nosniff"),
]
"""Sent with every answer."""
_HOST = re.compile(r"(?P<name>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?)\.?(:(?P<port>[0-9]{1,5}))?")
_PORTS = {"http": 80, "ws": 80, "https": 443, "wss": 443}
Host = tuple[str, int | None]


def parse_host(text: str) -> Host | None:
    """Name, in small letters and without brackets, and port of `name[:port]`; None for anything else."""
    found = _HOST.fullmatch(text)
    if found is None:
        return None
    port = None if found["port"] is None else int(found["port"])
    return found["name"].strip("[]").lower(), port


def read_hosts(names: Iterable[str]) -> list[str]:
    """Hosts as they were named, checked. Raises BadInput for one that is no `name` or `name:port`."""
    found = [name.strip() for name in names]
    for name in found:
        if parse_host(name) is None:
            raise BadInput(
                f"--allow-host {name!r}: give a host as the browser's address line has it, without http:// and path, such as "
                "steer.example.org or localhost:9000."
            )
    return found


def may_ask(host: str | None, served: int | None, named: Iterable[str]) -> bool:
    """Whether a `Host` header is on the list. A named host without a port stands for every port of it."""
    asked = None if host is None else parse_host(host)
    if asked is None:
        return False
    name, port = asked
    if name in LOCAL and (port or 80) == served:
        return True
    return any(name == allowed[0] and allowed[1] in (None, port) for allowed in map(parse_host, named) if allowed)


def same_place(origin: str, host: str) -> bool:
    """Whether an `Origin` is of the host that is asked."""
    try:
        parts = urlsplit(origin)
        theirs = parse_host(parts.netloc)
    except ValueError:
        return False
    mine = parse_host(host)
    if parts.scheme not in ("http", "https") or theirs is None or mine is None or parts.path or parts.query:
        return False
    usual = _PORTS[parts.scheme]
    return (theirs[0], theirs[1] or usual) == (mine[0], mine[1] or usual)


class Gate:
    """The check, around the whole app. `named` are hosts beside those of this machine; by default those of the environment."""

    def __init__(self, app: ASGIApp, named: Iterable[str] | None = None):
        self.app = app
        if named is None:
            named = filter(None, os.environ.get(VARIABLE, "").split(","))
        self.named = read_hosts(named)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        trouble = self.trouble(scope)
        if trouble and scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008, "reason": trouble[:120]})
            return

        async def unframed(message: Message) -> None:
            if message["type"] in ("http.response.start", "websocket.http.response.start"):
                message = {**message, "headers": [*message.get("headers", []), *HEADERS]}
            await send(message)

        if trouble:
            body = (trouble + "\n").encode()
            headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", str(len(body)).encode())]
            await unframed({"type": "http.response.start", "status": 403, "headers": headers})
            await unframed({"type": "http.response.body", "body": body})
            return
        await self.app(scope, receive, unframed)

    def trouble(self, scope: Scope) -> str:
        """Why a request is refused, in one sentence; empty when it is not."""
        sent: dict[bytes, list[str]] = {}
        for name, value in scope.get("headers", []):
            sent.setdefault(name.lower(), []).append(value.decode("latin-1"))
        hosts, origins = sent.get(b"host", []), sent.get(b"origin", [])
        served = scope["server"][1] if scope.get("server") else None
        if len(hosts) != 1 or not may_ask(hosts[0], served, self.named):
            said = repr(hosts[0][:100]) if hosts else "no host"
            return (
                f"This server is not asked as {said}: use the address that it printed, or start it with --allow-host."
            )
        if len(origins) > 1 or any(not same_place(origin, hosts[0]) for origin in origins):
            return f"A page of {origins[0][:100]!r} may not ask this server: ask from a page of this server."
        if scope["type"] == "websocket":
            if not origins:
                return "A socket needs the Origin header that every browser sends."
            if not _knows_token(sent):
                return "The socket needs the token of this server's own pages: load the page again."
        return ""


async def failed(request: Request, error: Exception) -> Response:
    """The answer of a request that failed in this server; it is made outside the gate, so it carries the headers by itself."""
    headers = {name.decode(): value.decode() for name, value in HEADERS}
    return PlainTextResponse("The server could not answer this; its log says why.", 500, headers)


def _knows_token(sent: dict[bytes, list[str]]) -> bool:
    """Whether a socket's protocols repeat the token of Streamlit's cookie: `streamlit, TOKEN[, SESSION]`."""
    words = [word.strip() for line in sent.get(b"sec-websocket-protocol", []) for word in line.split(",")]
    cookie = cookie_parser("; ".join(sent.get(b"cookie", []))).get(XSRF)
    return len(words) > 1 and bool(validate_xsrf_token(words[1], cookie))
