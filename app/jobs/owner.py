"""Who a browser is: a random token in a cookie that only this server reads, and the public id that jobs carry.

1. The token stays in the cookie (HttpOnly, SameSite=Strict); a job knows only its hash, so seeing a job does not make one its owner.
2. A request that changes something must also say, in a header, a word that is made from the token (`change_word`). A page of this server is
   given it by its script; a browser never sends it by itself.
3. The cookie outlives reloads and the server, and every browser context has its own.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Mapping

from starlette.types import ASGIApp, Message, Receive, Scope, Send

COOKIE = "steer_owner"
HEADER = "x-steer-token"
"""The header of a request that changes something."""
_DAYS = 30


def owner_id(token: str) -> str:
    """The public id of a token's bearer."""
    return hashlib.sha256(token.encode()).hexdigest()[:12]


def owner_of(cookies: Mapping[str, str]) -> str | None:
    """The id of the browser that sent these cookies; None without one."""
    token = cookies.get(COOKIE)
    return owner_id(token) if token else None


def change_word(token: str) -> str:
    """What the bearer of a token says to change something: 64 hexadecimal digits, from which neither the token nor the id follows."""
    return hmac.new(token.encode(), b"change", hashlib.sha256).hexdigest()


def may_change(cookies: Mapping[str, str], said: str | None) -> bool:
    """Whether a request with these cookies and this header is the bearer's own."""
    token = cookies.get(COOKIE)
    return bool(token and said) and hmac.compare_digest(change_word(str(token)).encode(), str(said).encode())


class OwnerCookie:
    """Gives every browser that opens a page a token, unless it has one."""

    def __init__(self, app: ASGIApp):
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = {name: value for name, value in scope.get("headers", [])}
        document = scope["type"] == "http" and b"text/html" in headers.get(b"accept", b"")
        if not document or f"{COOKIE}=".encode() in headers.get(b"cookie", b""):
            await self.app(scope, receive, send)
            return
        cookie = f"{COOKIE}={secrets.token_urlsafe(24)}; Path=/; Max-Age={_DAYS * 86_400}; HttpOnly; SameSite=Strict"

        async def with_cookie(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", []), (b"set-cookie", cookie.encode())]}
            await send(message)

        await self.app(scope, receive, with_cookie)
