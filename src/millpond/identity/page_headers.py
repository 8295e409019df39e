"""Response headers that keep browsers from doing with our pages and files what their authors did not mean.

The policy lets a page load only what this server gives, be shown only in a frame of ours, and send forms only here.
`unsafe-inline` and `unsafe-eval` are needed: NiceGUI compiles its templates in the browser, and MLflow's UI evaluates
code of its charts. Files that users stored are never run: a page among them is shown as in a sandbox, without scripts.

Source: OWASP HTTP Headers Cheat Sheet.
"""

import re
from collections.abc import Mapping

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_PAGE_POLICY = "; ".join([
    "default-src 'self'",
    "script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:",
    "style-src 'self' 'unsafe-inline'",
    "img-src 'self' data: blob:",
    "font-src 'self' data:",
    "worker-src 'self' blob:",
    "frame-src 'self' blob:",
    "media-src 'self' blob:",
    "object-src 'none'",
    "base-uri 'self'",
    "form-action 'self'",
    "frame-ancestors 'self'",
])  # fmt: skip
_FILE_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; sandbox; frame-ancestors 'self'"
_UNLESS_GIVEN = {
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_FILES = re.compile(r"/+((ml/+)?(api|ajax-api|get-artifact|model-versions|graphql|v1)\b|ml/+(?!static-files/).)")
"""Where data is answered, stored files among it; the only page below `/ml` is MLflow's own, which is `/ml/`."""


class PageHeaders:
    """Adds the headers to each HTTP response that does not bring its own."""

    def __init__(self, app: ASGIApp, *, https_only: bool = False) -> None:
        """`https_only` tells browsers to come by https from then on; for a host name that is ours alone."""
        self._app = app
        self._always = {policy: _always(policy, https_only) for policy in (_PAGE_POLICY, _FILE_POLICY)}
        self._encoded = {policy: _encoded({**given, **_UNLESS_GIVEN}) for policy, given in self._always.items()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, and its answer back with the headers."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        policy = _FILE_POLICY if _FILES.match(scope["path"]) else _PAGE_POLICY

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._add(message, policy)
            await send(message)

        await self._app(scope, receive, send_with_headers)

    def _add(self, message: Message, policy: str) -> None:
        given, ours = message.get("headers", ()), self._encoded[policy]
        if ours.keys().isdisjoint(name for name, _ in given):
            message["headers"] = [*given, *ours.items()]
            return
        headers = MutableHeaders(scope=message)
        headers.update(self._always[policy])
        for name, value in _UNLESS_GIVEN.items():
            headers.setdefault(name, value)


def data_headers(*, https_only: bool) -> list[tuple[bytes, bytes]]:
    """The headers of an answer to a program, which showed a token as no page's link or form does: none of them tells
    how a page is shown. Each costs a client in Python as much as a feature."""
    return list(_encoded(_of_data(https_only)).items())


def _of_data(https_only: bool) -> dict[str, str]:
    return {
        "X-Content-Type-Options": "nosniff",
        **({"Strict-Transport-Security": "max-age=31536000"} if https_only else {}),
    }


def _always(policy: str, https_only: bool) -> dict[str, str]:
    return {**_of_data(https_only), "X-Frame-Options": "SAMEORIGIN", "Content-Security-Policy": policy}


def is_https(public_url: str | None) -> bool:
    """Whether browsers reach the server by https."""
    return (public_url or "").startswith("https://")


def _encoded(headers: Mapping[str, str]) -> dict[bytes, bytes]:
    return {name.lower().encode(): value.encode() for name, value in headers.items()}
