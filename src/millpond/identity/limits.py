"""A bound on request bodies, for what is read into memory: JSON and forms. Files stream, without one."""

import re
from collections.abc import Collection

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from millpond.kernel.errors import InvalidArgument
from millpond.kernel.http import dialect_of, error_response

MAX_BODY_BYTES = 64 << 20
MAX_PUBLIC_BODY_BYTES = 64 << 10
"""For who has not shown a credential."""
_STREAMED = re.compile(
    r"/api/2\.0/fs/|(/ml)?/(ajax-)?api/2\.0/(mlflow-artifacts/|mlflow/upload-artifact)"
    r"|/api/2\.0/dbfs/put|/_nicegui/client/"
)
_TOO_LARGE = 413


class BodyTooLarge(InvalidArgument):
    """More bytes arrived than a body of this path may have."""


class BodyLimit:
    """Answers 413 to a body that says it is too large, and stops reading one that turns out to be."""

    def __init__(self, app: ASGIApp, public_paths: Collection[str]) -> None:
        self._app = app
        self._public_paths = public_paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on with its bound."""
        if scope["type"] != "http" or _STREAMED.match(scope["path"]):
            await self._app(scope, receive, send)
            return
        limit = MAX_PUBLIC_BODY_BYTES if scope["path"] in self._public_paths else MAX_BODY_BYTES
        if _announced(scope) > limit:
            error = _too_large(limit, scope["path"])
            response = error_response(error.code, error.message, dialect_of(scope["path"]), status=_TOO_LARGE)
            await response(scope, receive, send)
            return
        seen = 0

        async def counted() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > limit:
                raise _too_large(limit, scope["path"])
            return message

        await self._app(scope, counted, send)


def _too_large(limit: int, path: str) -> BodyTooLarge:
    return BodyTooLarge(f"The request body is larger than {limit >> 10} KiB, the most that {path[:200]} reads.")


def _announced(scope: Scope) -> int:
    for name, value in scope["headers"]:
        if name == b"content-length":
            return int(value) if value.isdigit() else 0
    return 0
