"""The Files API on artifacts, for clients of a `databricks` tracking address (`databricks_dialect.py`)."""

import re
from collections.abc import Awaitable, Callable
from functools import partial

from mlflow.exceptions import MlflowException
from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from millpond.identity.access import Act
from millpond.kernel.errors import MillpondError, NotFound
from millpond.kernel.http import Dialect, error_response
from millpond.tracking.artifacts import ArtifactDoors
from millpond.tracking.databricks_dialect import artifact_path

_ADDRESS = re.compile(r"/api/2\.0/fs/(?P<kind>files|directories)(?P<path>/WorkspaceInternal/.*)", re.DOTALL)

Door = Callable[[Scope, Receive], Awaitable[Response]]


class WorkspaceFiles:
    """Finds the door of a request and answers it."""

    def __init__(self, doors: ArtifactDoors) -> None:
        self._doors = doors

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, errors in Databricks' shape."""
        try:
            response = await self._door(scope)(scope, receive)
        except MillpondError as error:
            response = error_response(error.code, error.message, Dialect.DATABRICKS)
        except MlflowException as error:
            response = error_response(error.error_code, error.message, Dialect.DATABRICKS)
        await response(scope, receive, send)

    def _door(self, scope: Scope) -> Door:
        found = _ADDRESS.fullmatch(scope["path"])
        doors: dict[tuple[str, str], Callable[[str, Scope, Receive], Awaitable[Response]]] = {
            ("files", "GET"): self._doors.download,
            ("files", "HEAD"): self._doors.download,
            ("files", "PUT"): self._up,
            ("files", "DELETE"): self._doors.delete,
            ("directories", "GET"): self._list,
            ("directories", "HEAD"): self._exists,
            ("directories", "PUT"): self._make,
        }
        if found is None or (found["kind"], scope["method"]) not in doors:
            raise NotFound(f"Millpond does not serve {scope['method']} {scope['path'][:200]}.")
        return partial(doors[found["kind"], scope["method"]], artifact_path(found["path"]))

    async def _up(self, path: str, scope: Scope, receive: Receive) -> Response:
        await self._doors.upload(path, scope, receive)
        return Response(status_code=204)

    async def _list(self, path: str, scope: Scope, _receive: Receive) -> Response:
        place = scope["path"].partition("/directories")[2].rstrip("/")
        entries = await run_in_threadpool(self._doors.entries, path)
        contents = [
            {"path": f"{place}/{name}", "name": name, "is_directory": is_directory}
            | ({} if size is None else {"file_size": size})
            for name, is_directory, size in entries
        ]
        return JSONResponse({"contents": contents})

    async def _exists(self, path: str, _scope: Scope, _receive: Receive) -> Response:
        if not await run_in_threadpool(self._doors.entries, path):
            raise NotFound(f"Directory '{path}' does not exist.")
        return Response(status_code=200)

    async def _make(self, path: str, _scope: Scope, _receive: Receive) -> Response:
        """Directories come with their files; making one only needs the right to write there."""
        await run_in_threadpool(self._doors.require, Act.WRITE, path)
        return Response(status_code=204)
