"""The doors to artifacts: up, down, list and delete, streamed, each after its permission check.

Clients use the artifact proxy (`/api/2.0/mlflow-artifacts/artifacts/<path>`); the UI asks by run, model version or
logged model. Presigned and multipart addresses are not served: they would lead past this server.
"""

import re
import shutil
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from mlflow.exceptions import MlflowException
from mlflow.utils.mime_type_utils import _guess_mime_type
from starlette.background import BackgroundTask
from starlette.concurrency import run_in_threadpool
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.types import Receive, Scope, Send

from millpond.identity.access import Act
from millpond.kernel.errors import InvalidArgument, MillpondError, NotFound, PermissionDenied, StorageFull
from millpond.kernel.http import Dialect, error_response
from millpond.tracking.artifact_files import ArtifactFiles, ArtifactWriter
from millpond.tracking.domain import ARTIFACT_SCHEME, check_relative_path, parse_artifact_path
from millpond.tracking.model_files import artifact_path_of
from millpond.tracking.stores.registry import OwnedRegistryStore
from millpond.tracking.stores.tracking import OwnedTrackingStore

CHUNK_BYTES = 1 << 20
_UPLOAD_FROM_UI_BYTES = 10 << 20  # MLflow's limit for this door
_PROXY = re.compile(r"/(?:ajax-)?api/2\.0/mlflow-artifacts/artifacts(?:/(?P<path>.*))?", re.DOTALL)
_LOGGED_MODEL_FILE = re.compile(r"/ajax-api/2\.0/mlflow/logged-models/(?P<model_id>[^/]+)/artifacts/files")

Door = Callable[[Scope, Receive], Awaitable[Response]]


class _Download(FileResponse):
    chunk_size = CHUNK_BYTES


class ArtifactDoors:
    """Finds the door of a request and answers it."""

    def __init__(self, files: ArtifactFiles, tracking: OwnedTrackingStore, registry: OwnedRegistryStore) -> None:
        self._files = files
        self._tracking = tracking
        self._registry = registry

    def door(self, scope: Scope) -> Door | None:
        """The door for this request, or None when it asks for something else."""
        path, method = scope["path"], scope["method"]
        if match := _PROXY.fullmatch(path):
            return self._proxy_door(method, match["path"])
        if match := _LOGGED_MODEL_FILE.fullmatch(path):
            return partial(self._down_logged_model, match["model_id"]) if method in {"GET", "HEAD"} else None
        return {
            ("GET", "/get-artifact"): self._down_run,
            ("GET", "/model-versions/get-artifact"): self._down_model_version,
            ("POST", "/ajax-api/2.0/mlflow/upload-artifact"): self._up_from_ui,
        }.get((method, path))

    def _proxy_door(self, method: str, path: str | None) -> Door | None:
        if not path:
            return self._list if method == "GET" else None
        doors = {"GET": self.download, "HEAD": self.download, "PUT": self.upload, "DELETE": self.delete}
        return partial(doors[method], path) if method in doors else None

    async def answer(self, door: Door, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer the request, errors in MLflow's shape."""
        try:
            response = await door(scope, receive)
        except StorageFull as error:  # not 429, which MLflow's client repeats for minutes
            response = error_response(error.code, error.message, Dialect.MLFLOW, status=507)
        except MillpondError as error:
            response = error_response(error.code, error.message, Dialect.MLFLOW)
        except MlflowException as error:
            status = error.get_http_status_code()
            response = error_response(error.error_code, error.message, Dialect.MLFLOW, status=status)
        await response(scope, receive, send)

    # The proxy

    async def download(self, path: str, _scope: Scope, _receive: Receive) -> Response:
        """A file."""
        return await run_in_threadpool(self._send, path)

    async def upload(self, path: str, _scope: Scope, receive: Receive) -> Response:
        """Write a file from the request's body."""
        writer = await run_in_threadpool(self._begin, path)
        await _write_body(receive, writer)
        return JSONResponse({})

    async def delete(self, path: str, _scope: Scope, _receive: Receive) -> Response:
        """Delete a file or a directory with all below it."""

        def delete() -> None:
            self.require(Act.WRITE, path)
            self._files.delete(path)

        await run_in_threadpool(delete)
        return JSONResponse({})

    async def _list(self, scope: Scope, _receive: Receive) -> Response:
        entries = await run_in_threadpool(self.entries, _query(scope).get("path", ""))
        return JSONResponse({"files": [_file_info(*entry) for entry in entries]})

    def entries(self, path: str) -> list[tuple[str, bool, int | None]]:
        """Base name, whether a directory, and size in bytes, of what lies directly in a directory."""
        self.require(Act.READ, path)
        return self._files.list(path)

    def _begin(self, path: str) -> ArtifactWriter:
        if path.endswith("/"):
            raise InvalidArgument("An artifact path must end with a file name.")
        self.require(Act.WRITE, path)
        return self._files.writer(path)

    def _send(self, path: str) -> Response:
        self.require(Act.READ, path)
        return self._response(path)

    def require(self, act: Act, path: str) -> None:
        """Pass if the principal may do this to an artifact. Raises NotFound, PermissionDenied, InvalidArgument."""
        place = parse_artifact_path(path)
        try:
            if not place.experiment_id:  # a model version's: its model says who reads, and nobody writes here
                raise NotFound(f"Artifact '{place.path[:200]}' does not exist.")
            self._tracking.require_artifact(act, place.experiment_id, place.kind, place.item_id)
        except (NotFound, PermissionDenied):
            if act is not Act.READ or not self._registry.may_read_artifact(place.path):
                raise

    # By run, model version, logged model (the object's own permission has been checked by its store)

    async def _down_run(self, scope: Scope, _receive: Receive) -> Response:
        query = _query(scope)

        def send() -> Response:
            run = self._tracking.get_run(query.get("run_id") or query.get("run_uuid") or "")
            return self._response(_below(run.info.artifact_uri, query.get("path", "")))

        return await run_in_threadpool(send)

    async def _down_model_version(self, scope: Scope, _receive: Receive) -> Response:
        query = _query(scope)

        def send() -> Response:
            uri = self._registry.get_model_version_download_uri(query.get("name", ""), query.get("version", ""))
            root = artifact_path_of(uri, self._tracking)
            return self._response(f"{root}/{check_relative_path(query.get('path', ''))}")

        return await run_in_threadpool(send)

    async def _down_logged_model(self, model_id: str, scope: Scope, _receive: Receive) -> Response:
        def send() -> Response:
            model = self._tracking.get_logged_model(model_id)
            return self._response(_below(model.artifact_location, _query(scope).get("artifact_file_path", "")))

        return await run_in_threadpool(send)

    async def _up_from_ui(self, scope: Scope, receive: Receive) -> Response:
        query = _query(scope)

        def begin() -> ArtifactWriter:
            run = self._tracking.get_run(query.get("run_uuid", ""))
            if not self._tracking.may_write_run(run):
                raise PermissionDenied(f"You may not change run '{run.info.run_id}'.")
            return self._files.writer(_below(run.info.artifact_uri, query.get("path", "")))

        await _write_body(receive, await run_in_threadpool(begin), limit=_UPLOAD_FROM_UI_BYTES)
        return JSONResponse({})

    def _response(self, path: str) -> Response:
        place, is_copy = self._files.fetch(path)
        cleanup = BackgroundTask(shutil.rmtree, place.parent, ignore_errors=True) if is_copy else None
        name = path.rsplit("/", 1)[-1]
        # always an attachment: content that users wrote must not run as a page of ours
        return _Download(
            place,
            media_type=_guess_mime_type(Path(name)),
            filename=name,
            headers={"X-Content-Type-Options": "nosniff", "Cache-Control": "no-cache"},
            background=cleanup,
        )


async def _write_body(receive: Receive, writer: ArtifactWriter, limit: int | None = None) -> None:
    """Stream a request's body into a file in pieces of about CHUNK_BYTES; nothing remains of a broken upload."""
    size, pending, waiting = 0, bytearray(), True
    try:
        while waiting:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise InvalidArgument("The upload broke off.")
            pending += message.get("body", b"")
            waiting = message.get("more_body", False)
            if len(pending) >= CHUNK_BYTES or not waiting:
                size += len(pending)
                if limit is not None and size > limit:
                    raise InvalidArgument(f"The file is larger than {limit >> 20} MiB.")
                await run_in_threadpool(writer.write, bytes(pending))
                pending.clear()
        await run_in_threadpool(writer.commit)
    except BaseException:
        await run_in_threadpool(writer.abort)
        raise


def _query(scope: Scope) -> dict[str, str]:
    return {key: values[-1] for key, values in parse_qs(scope["query_string"].decode("utf-8", "replace")).items()}


def _below(uri: str, path: str) -> str:
    """The path below the artifact root of a relative path in an object's artifact location."""
    parts = urlsplit(uri)
    if parts.scheme != ARTIFACT_SCHEME:
        raise InvalidArgument(f"The artifacts at '{uri[:200]}' are not kept by this server.")
    return f"{parts.path.strip('/')}/{check_relative_path(path)}"


def _file_info(name: str, is_dir: bool, size: int | None) -> dict[str, object]:
    return {"path": name, "is_dir": True} if is_dir else {"path": name, "is_dir": False, "file_size": size}
