"""The Workspace API, as `databricks-sdk` calls it."""

import base64
import binascii
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ValidationError
from starlette.datastructures import UploadFile

from millpond.identity.domain import Principal
from millpond.identity.middleware import current_principal
from millpond.kernel.clock import epoch_ms
from millpond.kernel.errors import InvalidArgument
from millpond.kernel.http import read_json
from millpond.workspace.domain import Object, ObjectType
from millpond.workspace.formats import format_named
from millpond.workspace.notebooks import Language
from millpond.workspace.service import WorkspaceService

_API = "/api/2.0/workspace"
_Me = Annotated[Principal, Depends(current_principal)]


class ImportInput(BaseModel):
    """`import`, as JSON; a form has the same, and its content as a file."""

    path: str
    content: str | None = None
    format: str | None = None
    language: Language | None = None
    overwrite: bool = False


class PathInput(BaseModel):
    """`mkdirs` and `delete`."""

    path: str
    recursive: bool = False


def workspace_router(service: WorkspaceService) -> APIRouter:
    """All of it."""
    router = APIRouter()
    _add_contents(router, service)

    @router.get(f"{_API}/get-status")
    def get_status(me: _Me, path: str) -> dict[str, Any]:
        return object_json(service.status(me, path))

    @router.get(f"{_API}/list")
    def list_all(me: _Me, path: str, notebooks_modified_after: int | None = None) -> dict[str, Any]:
        found = service.list(me, path)
        told = [object_json(each) for each in found if _is_since(each, notebooks_modified_after)]
        return {"objects": told}

    @router.post(f"{_API}/mkdirs")
    def mkdirs(me: _Me, body: PathInput) -> dict[str, Any]:
        service.make_directories(me, body.path)
        return {}

    @router.post(f"{_API}/delete")
    def delete(me: _Me, body: PathInput) -> dict[str, Any]:
        service.delete(me, body.path, recursive=body.recursive)
        return {}

    return router


def _add_contents(router: APIRouter, service: WorkspaceService) -> None:
    @router.post(f"{_API}/import")
    async def import_object(me: _Me, request: Request) -> dict[str, Any]:
        asked, data = await _imported(request)
        await run_in_threadpool(
            service.import_object, me, asked.path, data, format=format_named(asked.format), language=asked.language,
            overwrite=asked.overwrite,
        )  # fmt: skip
        return {}

    @router.get(f"{_API}/export")
    def export(me: _Me, path: str, format: str | None = None, direct_download: bool = False) -> Response:
        told = service.export(me, path, format_named(format))
        if direct_download:  # never as HTML, which would be a page of ours
            return Response(told.data, media_type="application/octet-stream")
        return JSONResponse({"content": base64.b64encode(told.data).decode(), "file_type": told.file_type})


async def _imported(request: Request) -> tuple[ImportInput, bytes]:
    """What is asked for, and the content. Raises InvalidArgument."""
    try:
        if request.headers.get("content-type", "").startswith("multipart/"):
            async with request.form(max_files=1, max_fields=8) as form:
                given = form.get("content")
                data = await given.read() if isinstance(given, UploadFile) else str(given or "").encode()
                fields = {name: value for name, value in form.items() if name != "content"}
            return ImportInput.model_validate(fields), data
        asked = ImportInput.model_validate(await read_json(request))
        return asked, base64.b64decode(asked.content or "", validate=True)
    except ValidationError as error:
        first = error.errors()[0]
        raise InvalidArgument(f"{'.'.join(map(str, first['loc']))}: {first['msg']}.") from error
    except binascii.Error as error:
        raise InvalidArgument(f"content is not base64: {error}.") from error


def _is_since(found: Object, since_ms: int | None) -> bool:
    return since_ms is None or found.type is not ObjectType.NOTEBOOK or epoch_ms(found.modified_at) > since_ms


def object_json(found: Object) -> dict[str, Any]:
    """ObjectInfo."""
    told: dict[str, Any] = {
        "object_type": found.type.value,
        "path": str(found.path),
        "object_id": found.id,
        "resource_id": str(found.id),
        "created_at": epoch_ms(found.created_at),
        "modified_at": epoch_ms(found.modified_at),
    }
    if found.language is not None:
        told["language"] = found.language.value
    if found.type is not ObjectType.DIRECTORY:
        told["size"] = found.size_bytes
    return told
