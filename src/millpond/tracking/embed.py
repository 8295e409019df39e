"""The embedded MLflow as one ASGI application: API, artifact doors and MLflow's own pages under `/ml/`.

MLflow is imported in a thread while the rest of the server already answers; requests to MLflow wait for it. It must
stand inside the middleware that authenticates.
"""

import asyncio
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from starlette.routing import BaseRoute, Match
from starlette.types import ASGIApp, Receive, Scope, Send

from millpond.catalog import locations
from millpond.catalog.service import CatalogService
from millpond.identity.domain import Principal
from millpond.identity.middleware import current_principal
from millpond.kernel.database import Database
from millpond.kernel.errors import Unavailable
from millpond.kernel.http import Dialect, error_response
from millpond.kernel.logs import get_logger
from millpond.kernel.settings import S3Settings, Settings
from millpond.tracking.bridge import WsgiBridge
from millpond.tracking.catalog_models import CatalogModels, artifact_root
from millpond.tracking.databricks_dialect import ADDRESSES, DatabricksDialect, speaks_databricks
from millpond.tracking.lineage import ModelLineage
from millpond.tracking.loading import load_mlflow
from millpond.tracking.mlflow_schema import ensure_mlflow_schema
from millpond.tracking.pages import UI_PREFIX, MlflowPages
from millpond.tracking.watch import RegistryWatch

if TYPE_CHECKING:
    from millpond.tracking.artifact_files import ArtifactFiles
    from millpond.tracking.artifacts import ArtifactDoors
    from millpond.tracking.stores.registry import OwnedRegistryStore
    from millpond.tracking.stores.tracking import OwnedTrackingStore
    from millpond.tracking.version_uploads import VersionUploads

log = get_logger(__name__)

_SERVED_PREFIXES = ("/api/2.0/mlflow", "/api/3.0/mlflow", "/ajax-api/", f"{UI_PREFIX}/", *ADDRESSES)
_SERVED_PATHS = frozenset({UI_PREFIX, "/graphql", "/get-artifact", "/model-versions/get-artifact", "/v1/traces"})
ALONE = tuple(
    f"/api/2.0/mlflow/{name}/" for name in ("experiments", "runs", "metrics", "registered-models", "model-versions")
)
"""What paths begin with that are MLflow's and no other route's."""
_OWN_SCHEME = "millpond"


@dataclass(frozen=True, kw_only=True)
class Stores:
    """MLflow's two stores, limited to the current principal at each call."""

    tracking: "OwnedTrackingStore"
    registry: "OwnedRegistryStore"


@dataclass(frozen=True, kw_only=True)
class _Loaded:
    stores: Stores
    files: "ArtifactFiles"
    doors: "ArtifactDoors"
    uploads: "VersionUploads"
    handlers: WsgiBridge
    databricks_handlers: WsgiBridge
    workspace_files: ASGIApp
    spans: ASGIApp


class MlflowRoute(BaseRoute):
    """Routes MLflow's paths to it, wherever it stands among an application's routes."""

    path = "/mlflow"

    def __init__(self, app: "MlflowApp") -> None:
        self._app = app
        self.alone: Mapping[str, BaseRoute] = dict.fromkeys(ALONE, self)

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Full for MLflow's paths, with this route for the metrics."""
        served = scope["type"] == "http" and self._app.serves(scope["path"])
        return (Match.FULL, {"route": self}) if served else (Match.NONE, {})

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer the request."""
        await self._app(scope, receive, send)


class MlflowApp:
    """An ASGI application. Call `start` once, in the event loop that will serve."""

    def __init__(
        self,
        *,
        database: Database,
        catalog: CatalogModels,
        workspace_id: int,
        s3: S3Settings,
        principal: Callable[[], Principal] = current_principal,
        watch: RegistryWatch | None = None,
    ) -> None:
        self._database = mlflow_database(database)
        self._catalog = catalog
        self._workspace_id = workspace_id
        self._s3 = s3
        self._principal = principal
        self._watch = watch
        self._done = asyncio.Event()
        self._loaded: _Loaded | None = None
        self._failure: BaseException | None = None
        self._pages = MlflowPages()

    def start(self) -> None:
        """Begin to load MLflow in a thread."""
        loop = asyncio.get_running_loop()
        threading.Thread(target=self._load, args=(loop,), name="load-mlflow", daemon=True).start()

    async def ready(self) -> Stores:
        """Wait until MLflow is loaded. Raises Unavailable when it could not be."""
        return (await self._wait()).stores

    @property
    def state(self) -> str:
        """`ok`, `loading`, or what went wrong."""
        if self._failure is not None:
            return f"failed: {self._failure}"
        return "loading" if self._loaded is None else "ok"

    @property
    def stores(self) -> Stores:
        """The stores. Raises Unavailable while MLflow is not loaded."""
        if self._loaded is None:
            raise Unavailable("MLflow is still being loaded; try again in a moment.")
        return self._loaded.stores

    @property
    def lineage(self) -> ModelLineage:
        """What runs and models tell lineage."""
        return self._catalog.lineage

    def visible_runs(self, principal: Principal, run_ids: Sequence[str]) -> Mapping[str, str]:
        """Of some runs those that a principal may read, by id, with their names; none while MLflow is not loaded."""
        return {} if self._loaded is None else self._loaded.stores.tracking.visible_runs(principal, run_ids)

    @property
    def files(self) -> "ArtifactFiles":
        """The artifacts. Raises Unavailable while MLflow is not loaded."""
        if self._loaded is None:
            raise Unavailable("MLflow is still being loaded; try again in a moment.")
        return self._loaded.files

    @property
    def uploads(self) -> "VersionUploads":
        """Versions whose clients bring the files. Raises Unavailable while MLflow is not loaded."""
        if self._loaded is None:
            raise Unavailable("MLflow is still being loaded; try again in a moment.")
        return self._loaded.uploads

    def serves(self, path: str) -> bool:
        """Whether a request path is one of MLflow's."""
        return path.startswith(_SERVED_PREFIXES) or path in _SERVED_PATHS

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
            return
        if (page := self._pages.find(scope)) is not None:
            await page(scope, receive, send)
            return
        try:
            loaded = await self._wait()
        except Unavailable as error:
            await error_response(error.code, error.message, Dialect.MLFLOW)(scope, receive, send)
            return
        inner = _without_prefix(scope)
        if (door := loaded.doors.door(inner)) is not None:
            await loaded.doors.answer(door, inner, receive, send)
        elif inner["path"] == "/v1/traces":
            await loaded.spans(inner, receive, send)
        elif inner["path"].startswith(ADDRESSES):
            await loaded.workspace_files(inner, receive, send)
        elif speaks_databricks(inner["headers"]):
            await loaded.databricks_handlers(inner, receive, send)
        else:
            await loaded.handlers(inner, receive, send)

    async def _wait(self) -> _Loaded:
        await self._done.wait()
        if self._loaded is None:
            raise Unavailable(f"MLflow could not be loaded: {self._failure}. See the server's log.")
        return self._loaded

    def _load(self, loop: asyncio.AbstractEventLoop) -> None:
        try:
            load_mlflow()
            ensure_mlflow_schema(self._database)
            self._loaded = _build(
                self._database, self._catalog, self._s3, self._principal, self._workspace_id, self._watch
            )
        except BaseException as error:  # the boundary of this thread: requests tell the failure
            self._failure = error
            log.error("MLflow could not be loaded", exc_info=error)
        loop.call_soon_threadsafe(self._done.set)


def mlflow_database(database: Database) -> Database:
    """An engine of its own for MLflow on the same database: its queries need functions that ours do not."""
    own = Database(database.url)
    if own.is_sqlite:
        from millpond.tracking.sqlite_functions import install

        install(own.engine)
    return own


def _build(
    database: Database,
    catalog: CatalogModels,
    s3: S3Settings,
    principal: Callable[[], Principal],
    workspace_id: int,
    watch: RegistryWatch | None,
) -> _Loaded:
    from mlflow.server import handlers
    from mlflow.tracking._model_registry import utils as registry_utils
    from mlflow.tracking._tracking_service import utils as tracking_utils

    from millpond.tracking.artifacts import ArtifactDoors
    from millpond.tracking.mlflow_routes import flask_app
    from millpond.tracking.plain_reads import PlainReads
    from millpond.tracking.stores.registry import OwnedRegistryStore
    from millpond.tracking.stores.tracking import OwnedTrackingStore
    from millpond.tracking.version_uploads import VersionUploads
    from millpond.tracking.workspace_files import WorkspaceFiles

    tracking = OwnedTrackingStore(database, principal, catalog.lineage)
    registry = OwnedRegistryStore(database, principal, catalog, tracking, watch)
    stores = Stores(tracking=tracking, registry=registry)
    files, handlers._artifact_repo = _artifact_files(catalog.root, s3)
    handlers._tracking_store, handlers._model_registry_store = stores.tracking, stores.registry
    # where MLflow's own code makes a client inside the server, that client reaches the same guarded stores
    tracking_utils._tracking_store_registry.register(_OWN_SCHEME, lambda *_args, **_values: stores.tracking)
    registry_utils._get_store_registry().register(_OWN_SCHEME, lambda *_args, **_values: stores.registry)
    tracking_utils.set_tracking_uri(f"{_OWN_SCHEME}://server")
    registry_utils.set_registry_uri(f"{_OWN_SCHEME}://server")
    doors = ArtifactDoors(files, stores.tracking, stores.registry)
    uploads = VersionUploads(catalog, stores)
    app = PlainReads(flask_app(uploads), stores)
    return _Loaded(
        stores=stores,
        files=files,
        doors=doors,
        uploads=uploads,
        handlers=WsgiBridge(app),
        databricks_handlers=WsgiBridge(DatabricksDialect(app, workspace_id)),
        workspace_files=WorkspaceFiles(doors),
        spans=_span_receiver(),
    )


def _span_receiver() -> ASGIApp:
    """MLflow's OTLP endpoint, to which its clients send the spans of traces."""
    from fastapi import FastAPI
    from mlflow.server.otel_api import otel_router

    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    app.include_router(otel_router)
    return app


def open_mlflow(
    database: Database,
    settings: Settings,
    catalog: CatalogService,
    *,
    workspace_id: int,
    watch: RegistryWatch | None = None,
) -> MlflowApp:
    """The embedded MLflow of a Millpond, on its catalog; `watch` is told what happens to models."""
    root = artifact_root(settings)
    models = CatalogModels(catalog, root)
    return MlflowApp(database=database, catalog=models, workspace_id=workspace_id, s3=settings.s3, watch=watch)


def _artifact_files(root: str, s3: S3Settings) -> tuple[Any, Any]:
    """Our files and MLflow's repository (which lists artifacts for its handlers) on the same root."""
    from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository

    from millpond.tracking.artifact_files import LocalFiles, RepositoryFiles

    if locations.is_local(root):
        path = locations.local_path(root)
        path.mkdir(parents=True, exist_ok=True)
        return LocalFiles(path), LocalArtifactRepository(path.resolve().as_uri())
    from millpond.tracking.s3 import s3_repository

    repository = s3_repository(root, s3)
    return RepositoryFiles(repository), repository


def _without_prefix(scope: Scope) -> Scope:
    path = scope["path"]
    if not path.startswith(f"{UI_PREFIX}/"):
        return scope
    return {**scope, "path": path.removeprefix(UI_PREFIX), "raw_path": None}
