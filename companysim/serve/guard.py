"""Who may ask what: reading only, from the names this page goes by, with the token where one is asked for."""

from __future__ import annotations

import hmac
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qsl, urlencode

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

COOKIE = "companysim"
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}


class Guard:
    """ASGI middleware around the page.

    Parameters
    ----------
    app : ASGI application
    hosts : frozenset of str, optional
        Names in the Host header that are answered, without their port. A page elsewhere whose name is made to point
        here (DNS rebinding) sends its own name and is refused. None answers any name; only with a token.
    token : str, optional
        Asked of every request: ``Authorization: Bearer TOKEN``, or once as ``?token=TOKEN``, which becomes a cookie.
    """

    def __init__(self, app: ASGIApp, hosts: frozenset[str] | None = LOOPBACK, token: str | None = None) -> None:
        assert hosts is not None or token, "any name may ask only with a token"
        self.app, self.hosts, self.token = app, hosts, token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, refuse, or hand on."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            return

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        refusal = self._refusal(scope)
        await (refusal or self.app)(scope, receive, sending)

    def _refusal(self, scope: Scope) -> Response | None:
        """Give the response to a request that is not to be answered, or None."""
        headers = Headers(scope=scope)
        if scope["method"] not in ("GET", "HEAD"):
            return PlainTextResponse("this page only reads: use GET", 405, {"allow": "GET, HEAD"})
        if self.hosts is not None and hostname(headers.get("host", "")) not in self.hosts:
            return PlainTextResponse("this page does not go by that name: open it by the address it printed", 403)
        if self.token is None:
            return None
        query = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        given = dict(query).get("token")
        if given is not None and self._is_token(given):
            rest = urlencode([(name, value) for name, value in query if name != "token"])
            answer = RedirectResponse(_local(scope["path"]) + (f"?{rest}" if rest else ""), 303)
            answer.set_cookie(COOKIE, given, httponly=True, samesite="strict")
            return answer
        bearer = headers.get("authorization", "")
        if self._is_token(bearer.removeprefix("Bearer ")) or self._is_token(_cookie(headers.get("cookie", ""))):
            return None
        return PlainTextResponse("a token is needed: open the address with ?token=...", 401)

    def _is_token(self, given: str) -> bool:
        return self.token is not None and hmac.compare_digest(given.encode(), self.token.encode())


def hostname(header: str) -> str:
    """Name of a Host header without its port, in lower case; of ``[::1]:80`` it is ``::1``."""
    text = header.strip().lower()
    if text.startswith("["):
        return text[1:].partition("]")[0]
    return text.partition(":")[0]


def _local(path: str) -> str:
    """Path of a redirect that stays on this page: ``//elsewhere`` would leave it."""
    return "/" + path.lstrip("/\\")


def _cookie(header: str) -> str:
    try:
        found = SimpleCookie(header).get(COOKIE)
    except CookieError:
        return ""
    return found.value if found else ""
