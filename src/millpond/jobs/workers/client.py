"""A worker's calls of its server."""

import json
import ssl
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlencode, urlsplit

from millpond.jobs.workers.domain import LONGEST_PART
from millpond.kernel.errors import Conflict, InvalidArgument, MillpondError, NotFound, PermissionDenied, Unavailable

_PATH = "/api/millpond/worker"
_QUICK_S = 10.0
_PATIENT_S = 600.0
"""For code, which a server may have to fetch first."""
_TRY_AGAIN = (429, 502, 503, 504)
_KINDS: Mapping[int, type[MillpondError]] = {
    400: InvalidArgument, 401: PermissionDenied, 403: PermissionDenied, 404: NotFound, 409: Conflict,
}  # fmt: skip


class ServerClient:
    """A server, as a worker. Each call raises Unavailable where it may work later, and what else the server said."""

    def __init__(self, url: str, token: str, certificate: Path | None = None) -> None:
        """`certificate` is trusted besides those that the system trusts."""
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise InvalidArgument(f"'{url[:100]}' is no address of a server, such as http://10.0.0.5:8484.")
        self.host, self.is_tls = parts.hostname, parts.scheme == "https"
        self.port = parts.port or (443 if self.is_tls else 80)
        self._url = f"{parts.scheme}://{parts.netloc}"
        self._token = token
        self._certificate = certificate
        self._trust = self.trust()

    def trust(self, *protocols: str) -> ssl.SSLContext:
        """What is trusted over TLS, with the protocols that are spoken then."""
        context = ssl.create_default_context()
        if self._certificate is not None:
            context.load_verify_locations(self._certificate)
        if protocols:
            context.set_alpn_protocols(protocols)
        return context

    def ask(self, act: str, **body: Any) -> dict[str, Any]:
        """JSON for JSON."""
        with self._open("POST", act, json.dumps(body).encode()) as answer:
            return _json(answer)

    def download(self, act: str, **body: Any) -> IO[bytes]:
        """A file, to be read and closed."""
        return self._open("POST", act, json.dumps(body).encode(), timeout_s=_PATIENT_S)

    def tell(self, data: bytes, **query: str | int) -> int:
        """Bytes of an output; where the next of them begin."""
        with self._open("PUT", "output?" + urlencode(query), data[:LONGEST_PART]) as answer:
            return int(_json(answer)["next"])

    def _open(self, method: str, path: str, data: bytes, *, timeout_s: float = _QUICK_S) -> IO[bytes]:
        request = urllib.request.Request(f"{self._url}{_PATH}/{path}", data=data, method=method)  # noqa: S310 - checked
        request.add_header("Authorization", f"Bearer {self._token}")
        request.add_header("Content-Type", "application/json" if method == "POST" else "application/octet-stream")
        try:
            answer: IO[bytes] = urllib.request.urlopen(request, timeout=timeout_s, context=self._trust)  # noqa: S310
        except urllib.error.HTTPError as error:
            raise _said(error) from None
        except OSError as error:
            raise Unavailable(f"{self._url} does not answer: {getattr(error, 'reason', error)}.") from error
        return answer


def _json(answer: IO[bytes]) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(answer.read())
    except (OSError, ValueError) as error:
        raise Unavailable(f"The server's answer was cut off: {error}.") from error
    return found


def _said(error: urllib.error.HTTPError) -> MillpondError:
    with error:
        try:
            message = str(json.load(error)["message"])
        except (OSError, ValueError, KeyError, TypeError):
            message = f"The server answered with {error.code}."
    if error.code >= 500 or error.code in _TRY_AGAIN:
        return Unavailable(message)
    return _KINDS.get(error.code, InvalidArgument)(message)
