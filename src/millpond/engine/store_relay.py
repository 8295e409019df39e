"""The way from an engine to the object store: the engine has no key, this process beside it has.

Started by `engines.py` through `kernel.process` for each engine whose data is on S3. It takes S3 requests from the
engine, refuses those that lead outside of what the engine may reach, signs the others with the server's key and passes
bytes through as they are. Users' functions run inside the engine, so nothing that the engine sends is believed.
"""

import json
import os
import socket
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit
from xml.sax.saxutils import escape

import httpx
import uvicorn
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.session import Session
from starlette.background import BackgroundTask
from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from millpond.catalog import locations
from millpond.home import socket_address
from millpond.kernel.child import report_ready
from millpond.kernel.errors import InvalidArgument, MillpondError, PermissionDenied

_MAX_DELETE_BYTES = 2 << 20
"""The list of a DeleteObjects call names at most 1,000 keys of 1 KiB."""
_SENT_ON = ("content-length", "content-type", "content-md5", "range", "if-match", "if-none-match",
            "if-modified-since", "if-unmodified-since")  # fmt: skip
_NOT_SENT_ON = ("x-amz-date", "x-amz-security-token")
_NOT_SENT_BACK = {"connection", "transfer-encoding", "keep-alive"}
_READS = {"GET", "HEAD"}


@dataclass(frozen=True, kw_only=True)
class Reach:
    """The `s3://` places that an engine may read, and those that it may write."""

    readable: tuple[str, ...]
    writable: tuple[str, ...]

    def check(self, bucket: str, key: str, *, write: bool) -> None:
        """Raises PermissionDenied for an object, or a listing by prefix, outside."""
        place = locations.canonical(f"s3://{bucket}/{key}")
        places = self.writable if write else (*self.readable, *self.writable)
        if not any(locations.lies_in(place, container) for container in places):
            raise PermissionDenied(f"This engine may not {'write' if write else 'read'} {place}.")


def check(reach: Reach, method: str, path: str, query: QueryParams, copied_from: str | None, body: bytes) -> None:
    """Refuse a request that leads outside, by whatever an S3 request can name an object with.

    Raises PermissionDenied and InvalidArgument. Source: Amazon S3 API reference, path-style requests.
    """
    bucket, _, key = unquote(path, errors="strict").lstrip("/").partition("/")
    if copied_from is not None:
        source_bucket, _, source_key = unquote(copied_from.partition("?")[0]).lstrip("/").partition("/")
        reach.check(source_bucket, source_key, write=False)
    if key:
        reach.check(bucket, key, write=method not in _READS)
    elif method == "GET" and "list-type" in query:
        reach.check(bucket, query.get("prefix", ""), write=False)
    elif method == "POST" and "delete" in query:
        for deleted in _deleted_keys(body):
            reach.check(bucket, deleted, write=True)
    else:
        raise PermissionDenied("An engine may read, write, list and delete objects, and nothing else.")


def _deleted_keys(body: bytes) -> Iterator[str]:
    try:
        tree = ElementTree.fromstring(body)  # noqa: S314 - expat bounds expansion, and its sender has this process alone
    except ElementTree.ParseError as error:
        raise InvalidArgument("The list of objects to delete is no XML.") from error
    for element in tree.iter():
        if element.tag.rpartition("}")[2] == "Key":
            yield element.text or ""


class _Signature(S3SigV4Auth):  # type: ignore[misc] # botocore ships no types
    """Vouches for the checksum of the body that the sender gave, since the body is not read here."""

    def payload(self, request: Any) -> str:
        return str(request.context["checksum"])


class Relay:
    """An ASGI application."""

    def __init__(self, reach: Reach, *, secret: str, endpoint: str, region: str) -> None:
        self._reach = reach
        self._secret = secret
        self._endpoint = endpoint.rstrip("/")
        self._region = region
        self._session = Session()  # finds keys in the environment, and roles of the machine
        timeout = httpx.Timeout(60, connect=10)
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=64)
        self._client = httpx.AsyncClient(timeout=timeout, limits=limits, trust_env=False)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        request = Request(scope, receive)
        try:
            response = await self._passed_on(request)
        except MillpondError as error:
            response = _refusal(403, "AccessDenied", error.message)
        except httpx.HTTPError as error:
            response = _refusal(503, "ServiceUnavailable", f"The object store cannot be reached: {error!r}.")
        await response(scope, receive, send)

    async def _passed_on(self, request: Request) -> Response:
        if f"Credential={self._secret}/" not in request.headers.get("authorization", ""):
            raise PermissionDenied("This relay serves its own engine only.")
        path = request.scope["raw_path"].decode("latin-1").partition("?")[0]
        body = await _whole(request) if "delete" in request.query_params else b""
        check(self._reach, request.method, path, request.query_params, request.headers.get("x-amz-copy-source"), body)
        query = request.scope["query_string"].decode("latin-1")
        url = self._endpoint + path + (f"?{query}" if query else "")
        content = body or request.stream()
        outgoing = self._client.build_request(
            request.method, url, headers=self._signed(request, url), content=content if _has_body(request) else None
        )
        answer = await self._client.send(outgoing, stream=True)
        headers = {name: value for name, value in answer.headers.items() if name not in _NOT_SENT_BACK}
        return StreamingResponse(_raw(answer), answer.status_code, headers, background=BackgroundTask(answer.aclose))

    def _signed(self, request: Request, url: str) -> dict[str, str]:
        kept = {
            name: value
            for name, value in request.headers.items()
            if name in _SENT_ON or (name.startswith("x-amz-") and name not in _NOT_SENT_ON)
        }
        signing = AWSRequest(request.method, url, headers={**kept, "host": urlsplit(url).netloc})
        signing.context["checksum"] = kept.get("x-amz-content-sha256", "UNSIGNED-PAYLOAD")
        _Signature(self._session.get_credentials(), "s3", self._region).add_auth(signing)
        return {"accept-encoding": "identity", **{name.lower(): value for name, value in signing.headers.items()}}


def _has_body(request: Request) -> bool:
    return request.headers.get("content-length", "0") != "0"


async def _whole(request: Request) -> bytes:
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > _MAX_DELETE_BYTES:
            raise InvalidArgument("The list of objects to delete is too long.")
    return body


async def _raw(answer: httpx.Response) -> AsyncIterator[bytes]:
    async for chunk in answer.aiter_raw():
        yield chunk


def _refusal(status: int, code: str, message: str) -> Response:
    text = f"<Error><Code>{code}</Code><Message>{escape(message)}</Message></Error>"
    # a body that was announced may still come, or never
    return Response(text, status, {"connection": "close"}, media_type="application/xml")


class _Server(uvicorn.Server):
    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        report_ready({"port": sockets[0].getsockname()[1] if sockets else 0})


def main() -> None:
    """`store_relay SOCKET REACH`: serve on a free port of the loopback device, and on a Unix socket.

    The engine knows the port alone; in a network of its own its forwarder leads from there to the socket.
    """
    reach = Reach(**{name: tuple(places) for name, places in json.loads(sys.argv[2]).items()})
    region = os.environ.get("AWS_REGION", "us-east-1")
    endpoint = os.environ.get("AWS_ENDPOINT_URL") or f"https://s3.{region}.amazonaws.com"
    relay = Relay(reach, secret=os.environ["MILLPOND_RELAY_SECRET"], endpoint=endpoint, region=region)
    config = uvicorn.Config(
        relay, log_config=None, access_log=False, lifespan="off", http="httptools", server_header=False,
        date_header=False, timeout_keep_alive=600,
    )  # fmt: skip
    unix = socket.socket(socket.AF_UNIX)
    with socket_address(Path(sys.argv[1])) as address:
        unix.bind(address)
    _Server(config).run(sockets=[socket.create_server(("127.0.0.1", 0)), unix])


if __name__ == "__main__":
    main()
