"""The Databricks Files API, with the multipart and presigned-URL calls of the SDK and of MLflow's client.

The clients send parts and fetch presigned URLs without their own credential; so the URLs that we give them are those of
this API, with an Authorization header beside them, which the clients send along: a token for an hour and one path.
Source: `databricks/sdk/mixins/files.py` (0.156), `mlflow/store/artifact/presigned_url_artifact_repo.py` (3.17).
"""

import re
from datetime import timedelta
from email.utils import format_datetime, parsedate_to_datetime
from typing import Annotated, Any
from urllib.parse import quote, unquote_to_bytes, urlencode

import anyio
from fastapi import APIRouter, Depends, Header, Query, Request
from fastapi.responses import Response, StreamingResponse
from starlette.concurrency import run_in_threadpool

from millpond.catalog.files import Files, shown
from millpond.catalog.storage import FileStatus, Writer
from millpond.identity.credentials import Claims, Signer
from millpond.identity.domain import Principal
from millpond.identity.middleware import current_principal
from millpond.kernel.clock import epoch_ms, utc_now
from millpond.kernel.errors import InvalidArgument, PermissionDenied
from millpond.kernel.http import Dialect, error_response, read_json

_FILES = "/api/2.0/fs/files"
_DIRECTORIES = "/api/2.0/fs/directories"
_WRITE_BYTES = 1 << 20
PRESIGNED_TTL = timedelta(hours=1)
_MAX_PART_URLS = 1000
_OCTETS = "application/octet-stream"

Who = Annotated[Principal, Depends(current_principal)]


def _exact_path(path: str, request: Request) -> str:
    """The path of a request; one that is not UTF-8 is refused, since its decoding could name another file."""
    try:
        unquote_to_bytes(request.scope["raw_path"]).decode()
    except UnicodeDecodeError as error:
        raise InvalidArgument("The path of the request is not UTF-8.") from error
    return shown(path)


At = Annotated[str, Depends(_exact_path)]


def files_router(files: Files, *, signer: Signer, base_url: str | None) -> APIRouter:
    """`signer` makes the tokens of presigned URLs; `base_url` is their address, where not the one the client used."""
    router = APIRouter()
    _add_reading(router, files)
    _add_writing(router, files)
    _add_uploads(router, files)
    _add_directories(router, files)
    _add_presigned(router, files, signer, base_url)
    return router


def _add_reading(router: APIRouter, files: Files) -> None:
    @router.head(_FILES + "/{path:path}")
    def head(principal: Who, path: At) -> Response:
        found = _file(files.status(principal, path), path)
        return Response(headers={**_headers(found), "Content-Length": str(found.size_bytes)})

    @router.get(_FILES + "/{path:path}")
    def download(
        principal: Who,
        path: At,
        range: Annotated[str | None, Header()] = None,
        if_unmodified_since: Annotated[str | None, Header()] = None,
    ) -> Response:
        found = _file(files.status(principal, path), path)
        if if_unmodified_since and _is_modified(found, if_unmodified_since):
            message = f"'{path}' has changed since {if_unmodified_since}."
            return error_response("ABORTED", message, Dialect.DATABRICKS, status=412)
        span = _span(range, found.size_bytes)
        if span is None:
            return Response(status_code=416, headers={"Content-Range": f"bytes */{found.size_bytes}"})
        start, length = span
        content = files.read(principal, path, start=start, length=length)
        headers = {**_headers(found), "Content-Length": str(length)}
        if range is not None and length != found.size_bytes:
            headers["Content-Range"] = f"bytes {start}-{start + length - 1}/{found.size_bytes}"
            return StreamingResponse(content, status_code=206, headers=headers, media_type=_OCTETS)
        return StreamingResponse(content, headers=headers, media_type=_OCTETS)


def _add_writing(router: APIRouter, files: Files) -> None:
    @router.put(_FILES + "/{path:path}")
    async def upload(
        request: Request,
        principal: Who,
        path: At,
        overwrite: bool = False,
        session_token: str | None = None,
        part_number: int | None = None,
    ) -> Response:
        if session_token is None:
            writer = await run_in_threadpool(files.writer, principal, path, overwrite=overwrite)
            etag = await _receive(request, writer, overwrite=overwrite)
            return Response(status_code=204, headers={"ETag": etag})
        if part_number is None:
            raise InvalidArgument("part_number is missing; it goes with session_token.")
        number = part_number
        part = await run_in_threadpool(
            lambda: files.part_writer(principal, path, session_token=session_token, number=number)
        )
        return Response(status_code=200, headers={"ETag": await _receive(request, part, overwrite=True)})

    @router.delete(_FILES + "/{path:path}")
    def delete(principal: Who, path: At, action: str | None = None, session_token: str = "") -> Response:
        if action == "abort-upload":
            files.abort_upload(principal, path, session_token=session_token)
            return Response(status_code=200)
        files.remove_file(principal, path)
        return Response(status_code=204)


def _add_uploads(router: APIRouter, files: Files) -> None:
    @router.post(_FILES + "/{path:path}")
    async def post(
        request: Request, principal: Who, path: At, action: str = "", overwrite: bool = False, session_token: str = ""
    ) -> Any:
        if action == "initiate-upload":
            token = await run_in_threadpool(files.begin_upload, principal, path, overwrite=overwrite)
            return {"multipart_upload": {"session_token": token}}
        if action == "complete-upload":
            etags = _etags(await read_json(request))
            await run_in_threadpool(
                lambda: files.complete_upload(principal, path, session_token=session_token, etags=etags)
            )
            return {}
        if action == "abort-upload":  # databricks-sdk 0.162; earlier ones send DELETE
            await run_in_threadpool(lambda: files.abort_upload(principal, path, session_token=session_token))
            return {}
        raise InvalidArgument(f"action '{action}' is not one of initiate-upload, complete-upload, abort-upload.")


def _add_directories(router: APIRouter, files: Files) -> None:
    @router.get(_DIRECTORIES + "/{path:path}")
    def entries(
        principal: Who, path: At, page_size: Annotated[int | None, Query(ge=0)] = None, page_token: str | None = None
    ) -> dict[str, Any]:
        listing = files.list_directory(principal, path, page_token=page_token or None, limit=page_size)
        contents = []
        for entry in listing.entries:
            item: dict[str, Any] = {
                "path": f"{path.rstrip('/')}/{entry.name}", "name": entry.name, "is_directory": entry.is_directory,
            }  # fmt: skip
            if entry.size_bytes is not None:
                item["file_size"] = entry.size_bytes
            if entry.modified_at is not None:
                item["last_modified"] = epoch_ms(entry.modified_at)
            contents.append(item)
        return {"contents": contents} | ({"next_page_token": listing.next_token} if listing.next_token else {})

    @router.head(_DIRECTORIES + "/{path:path}")
    def exists(principal: Who, path: At) -> Response:
        found = files.status(principal, path)
        if not found.is_directory:
            raise InvalidArgument(f"'{path}' is a file, not a directory.")
        return Response(headers={"Last-Modified": format_datetime(found.modified_at, usegmt=True)})

    @router.put(_DIRECTORIES + "/{path:path}")
    def make(principal: Who, path: At) -> Response:
        files.make_directory(principal, path)
        return Response(status_code=204)

    @router.delete(_DIRECTORIES + "/{path:path}")
    def remove(principal: Who, path: At) -> Response:
        files.remove_directory(principal, path)
        return Response(status_code=204)


def _add_presigned(router: APIRouter, files: Files, signer: Signer, base_url: str | None) -> None:
    def link(
        request: Request, principal: Principal, path: str, methods: tuple[str, ...], **query: Any
    ) -> dict[str, Any]:
        if not principal.may_call(_FILES + path):
            raise PermissionDenied(f"The access token of this call is not good for '{path}'.")
        base = base_url or str(request.base_url).rstrip("/")
        url = f"{base}{_FILES}{quote(path)}" + (f"?{urlencode(query)}" if query else "")
        now = utc_now()
        expires_at = now + PRESIGNED_TTL
        claims = Claims(principal_id=principal.id, expires_at=expires_at, paths=(_FILES + path,), methods=methods)
        return {"url": url, "headers": [{"name": "Authorization", "value": f"Bearer {signer.sign(claims, now=now)}"}]}

    @router.post("/api/2.0/fs/create-download-url")
    async def download_url(request: Request, principal: Who, path: str = "") -> dict[str, Any]:
        path = await _path_of(request, path)
        found = await run_in_threadpool(files.status, principal, path)
        return link(request, principal, _path_of_file(found, path), ("GET", "HEAD"))

    @router.post("/api/2.0/fs/create-upload-url")
    async def upload_url(request: Request, principal: Who, path: str = "") -> dict[str, Any]:
        path = await _path_of(request, path)
        await run_in_threadpool(files.check_writable, principal, path)
        return link(request, principal, path, ("PUT",), overwrite="true")

    @router.post("/api/2.0/fs/create-upload-part-urls")
    async def part_urls(request: Request, principal: Who) -> dict[str, Any]:
        body = await read_json(request)
        path, token = _text(body, "path"), _text(body, "session_token")
        await run_in_threadpool(files.check_writable, principal, path)
        first, count = _number(body, "start_part_number"), min(_number(body, "count"), _MAX_PART_URLS)
        part = {"session_token": token, "upload_type": "multipart"}
        urls = [
            link(request, principal, shown(path), ("PUT",), **part, part_number=number) | {"part_number": number}
            for number in range(first, first + count)
        ]
        return {"upload_part_urls": urls}

    @router.post("/api/2.0/fs/create-abort-upload-url")
    async def abort_url(request: Request, principal: Who) -> dict[str, Any]:
        body = await read_json(request)
        path, query = (
            shown(_text(body, "path")),
            {"action": "abort-upload", "session_token": _text(body, "session_token")},
        )
        await run_in_threadpool(files.check_writable, principal, path)
        return {"abort_upload_url": link(request, principal, path, ("DELETE", "POST"), **query)}


async def _receive(request: Request, writer: Writer, *, overwrite: bool) -> str:
    """Write the body in pieces of some size and make it visible; leave nothing when it breaks off."""
    pending = bytearray()
    try:
        async for chunk in request.stream():
            pending += chunk
            if len(pending) >= _WRITE_BYTES:
                await run_in_threadpool(writer.write, bytes(pending))
                pending.clear()
        await run_in_threadpool(writer.write, bytes(pending))
        return await run_in_threadpool(lambda: writer.commit(overwrite=overwrite))
    finally:
        with anyio.CancelScope(shield=True):
            await run_in_threadpool(writer.abort)


def _file(found: FileStatus, path: str) -> FileStatus:
    if found.is_directory:
        raise InvalidArgument(f"'{path}' is a directory, not a file.")
    return found


def _path_of_file(found: FileStatus, path: str) -> str:
    _file(found, path)
    return path


def _headers(found: FileStatus) -> dict[str, str]:
    """As a download, never as a page: a file of a volume must not run in our origin."""
    return {
        "Content-Type": _OCTETS,
        "X-Content-Type-Options": "nosniff",
        "Accept-Ranges": "bytes",
        "Last-Modified": format_datetime(found.modified_at, usegmt=True),
        "ETag": found.etag,
    }


def _span(header: str | None, size: int) -> tuple[int, int] | None:
    """Start and length of a Range header (RFC 9110, 14.1.2); all of the file for none, or for one that is not a single
    range of bytes; None when it cannot be satisfied."""
    match = re.fullmatch(r"bytes=(\d*)-(\d*)", header.strip()) if header else None
    if match is None or match.groups() == ("", ""):
        return 0, size
    if not match[1]:
        length = min(int(match[2]), size)
        return (size - length, length) if length else None
    start, end = int(match[1]), int(match[2]) if match[2] else size - 1
    if match[2] and end < start:
        return 0, size
    return (start, min(end, size - 1) - start + 1) if start < size else None


def _is_modified(found: FileStatus, header: str) -> bool:
    try:
        moment = parsedate_to_datetime(header)
    except ValueError:
        return False
    return int(found.modified_at.timestamp()) > int(moment.timestamp())


def _etags(body: dict[str, Any]) -> list[tuple[int, str]]:
    parts = body.get("parts")
    if not isinstance(parts, list):
        raise InvalidArgument("parts is missing; it lists part_number and etag of each part.")
    return [(_number(part, "part_number"), _text(part, "etag")) for part in parts if isinstance(part, dict)]


async def _path_of(request: Request, query: str) -> str:
    """The path of a presigning call: MLflow sends it in the body, the SDK in the query."""
    body = await read_json(request)
    return shown(_text(body, "path") if "path" in body else _text({"path": query}, "path"))


def _text(body: dict[str, Any], key: str) -> str:
    value = body.get(key)
    if not isinstance(value, str) or not value:
        raise InvalidArgument(f"{key} is missing.")
    return value


def _number(body: dict[str, Any], key: str) -> int:
    value = body.get(key)
    if isinstance(value, str) and value.isdecimal():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= 10_000:
        raise InvalidArgument(f"{key} must be a number from 1 to 10000.")
    return value
