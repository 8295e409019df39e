"""One call of the server's API, with errors as Python's own."""

import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from http.client import HTTPResponse
from typing import Any
from urllib.parse import quote, urlencode

_TIMEOUT_S = 600
_ERRORS: Mapping[int, type[Exception]] = {403: PermissionError, 404: FileNotFoundError, 409: FileExistsError}


class Api:
    """The server, as whoever the task runs as."""

    def __init__(self, host: str, token: str) -> None:
        self._host = host.rstrip("/")
        self._token = token

    def ask(self, path: str, /, **query: str | None) -> dict[str, Any]:
        """The JSON of a GET. Raises FileNotFoundError, PermissionError, RuntimeError with the server's words."""
        with self.open("GET", path, query=query) as answer:
            told: dict[str, Any] = json.load(answer)
        return told

    def open(
        self, method: str, path: str, *, query: Mapping[str, str | None] | None = None, data: Any = None,
        headers: Mapping[str, str] | None = None,
    ) -> HTTPResponse:  # fmt: skip
        """The answer to a call, to be read and closed. `data` is bytes, or a stream whose length a header says."""
        given = urlencode({key: value for key, value in (query or {}).items() if value is not None})
        url = self._host + quote(path) + ("?" + given if given else "")
        request = urllib.request.Request(url, data=data, method=method, headers=dict(headers or {}))  # noqa: S310 - our server
        request.add_header("Authorization", f"Bearer {self._token}")
        if data is not None and not request.has_header("Content-type"):
            request.add_header("Content-Type", "application/octet-stream")
        try:
            answer: HTTPResponse = urllib.request.urlopen(request, timeout=_TIMEOUT_S)  # noqa: S310
        except urllib.error.HTTPError as error:
            raise _ERRORS.get(error.code, RuntimeError)(_said(error)) from None
        return answer


def _said(error: urllib.error.HTTPError) -> str:
    try:
        return str(json.load(error)["message"])
    except (ValueError, KeyError, TypeError):
        return f"The server answered with {error.code}."
