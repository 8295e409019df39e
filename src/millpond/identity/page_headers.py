"""Response headers that keep browsers from doing with our pages and files what their authors did not mean.

The policy lets a page load only what this server gives, be shown only in a frame of ours, and send forms only here.
`unsafe-inline` and `unsafe-eval` are needed: NiceGUI compiles its templates in the browser, and MLflow's UI evaluates
code of its charts. Files that users stored are never run: a page among them is shown as in a sandbox, without scripts.

Source: OWASP HTTP Headers Cheat Sheet.
"""

import re

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
_FILES = re.compile(r"/+((ml/+)?(api|ajax-api|get-artifact|model-versions|graphql|v1)\b|ml/+(?!static-files/).)")
"""Where data is answered, stored files among it; the only page below `/ml` is MLflow's own, which is `/ml/`."""


class PageHeaders:
    """Adds the headers to each HTTP response that does not bring its own."""

    def __init__(self, app: ASGIApp, *, https_only: bool = False) -> None:
        """`https_only` tells browsers to come by https from then on; for a host name that is ours alone."""
        self._app = app
        self._https_only = https_only

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, and its answer back with the headers."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        policy = _FILE_POLICY if _FILES.match(scope["path"]) else _PAGE_POLICY

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["X-Content-Type-Options"] = "nosniff"
                headers["Content-Security-Policy"] = policy
                headers["X-Frame-Options"] = "SAMEORIGIN"
                if self._https_only:
                    headers["Strict-Transport-Security"] = "max-age=31536000"
                headers.setdefault("Referrer-Policy", "same-origin")
                headers.setdefault("Cross-Origin-Opener-Policy", "same-origin")
                headers.setdefault("Cross-Origin-Resource-Policy", "same-origin")
            await send(message)

        await self._app(scope, receive, send_with_headers)
