"""Who may speak to the reading room: this machine's user, from the page that it served, and nobody else.

A server on 127.0.0.1 is within reach of every web page that is open in a browser of this machine, and of every user who
is logged in on it. Three things keep them out: the address names this machine (a page that rebinds its own name to
127.0.0.1 sends that name as Host), a secret that only the address printed in the terminal holds, and the browser's own
word on who asks (Origin, Sec-Fetch-Site). Nothing here trusts the port: through a tunnel it is another one.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable
from urllib.parse import parse_qs

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import HTMLResponse, PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_NAMES = ("127.0.0.1", "localhost", "[::1]")
_WRITES = ("POST", "PUT", "PATCH", "DELETE")
# Written by the guard itself so that no answer can lack them, an error's neither.
_HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self' blob:; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; connect-src 'self' blob: data:; "
    "font-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}
_LOCKED = (
    '<!doctype html><html lang="en"><meta charset="utf-8"><title>The reading room is locked</title>'
    "<h1>This address lacks its key</h1><p>Open the whole address that <code>segue view</code> printed in the "
    "terminal: it ends in a token. A browser that has opened it once needs it no more as long as the command runs: "
    '<a href="/">try again</a>.</p></html>'
)


class Guard:
    """Refuses foreign Hosts (421), other origins (403) and whoever lacks the token (403); sets the headers.

    The token in the address sets a cookie that scripts cannot read and other sites cannot send, so that the address
    can be cleaned. Its name holds a part of the token's digest: cookies do not tell ports apart, and several rooms may
    be open at once.
    """

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app, self._token = app, token
        self.cookie = f"segue-{hashlib.sha256(token.encode()).hexdigest()[:12]}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            return  # nothing here speaks WebSocket: the server closes it
        headers = Headers(scope=scope)
        given = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[-1]
        by_address = self._right(given)

        async def sent(message: Message) -> None:
            if message["type"] == "http.response.start":
                fields = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    fields[name] = value
                fields.setdefault("cache-control", "no-store")
                if by_address:
                    fields.append("set-cookie", f"{self.cookie}={self._token}; Path=/; HttpOnly; SameSite=Strict")
            await send(message)

        refusal = self._refusal(scope["method"], headers)
        if refusal is not None:
            by_address = False
            await PlainTextResponse(refusal[1], refusal[0])(scope, receive, sent)
        elif not by_address and not any(self._right(value) for value in _cookies(headers, self.cookie)):
            await HTMLResponse(_LOCKED, 403)(scope, receive, sent)
        else:
            await self._app(scope, receive, sent)

    def _right(self, given: str) -> bool:
        return hmac.compare_digest(given.encode("utf-8", "replace"), self._token.encode())

    def _refusal(self, method: str, headers: Headers) -> tuple[int, str] | None:
        hosts = headers.getlist("host")
        if len(hosts) != 1 or not _is_own(hosts[0]):
            return 421, "This is a local server: open it as http://127.0.0.1:PORT or http://localhost:PORT.\n"
        # "none" is a person's own doing (an address typed or a link of the terminal); old browsers do not say.
        asked_by = headers.get("sec-fetch-site", "same-origin")
        if asked_by not in ("same-origin", "none") and headers.get("sec-fetch-mode") != "navigate":
            return 403, "Asked by another page.\n"
        origin = headers.get("origin")
        if (method in _WRITES or origin is not None) and origin != f"http://{hosts[0]}":
            return 403, "Asked by another page, or by none.\n"
        return None


def _is_own(host: str) -> bool:
    name, colon, port = host.lower().rpartition(":") if not host.endswith("]") else (host.lower(), "", "")
    if not colon:
        name, port = host.lower(), "80"
    return name in _NAMES and port.isascii() and port.isdigit()


def _cookies(headers: Headers, name: str) -> Iterable[str]:
    for line in headers.getlist("cookie"):
        for part in line.split(";"):
            key, _, value = part.strip().partition("=")
            if key == name:
                yield value
