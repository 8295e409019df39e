"""The composition root: builds the rooms, joins them, returns the ASGI application; the only place that knows all."""

import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial

from fastapi import APIRouter, FastAPI, Request
from starlette.types import ASGIApp

from millpond.audit import routes as audit_routes
from millpond.audit.door import AuditDoor
from millpond.audit.drain import Drain
from millpond.audit.service import AuditService
from millpond.billing.room import open_billing, rename_holder
from millpond.catalog import routes as catalog_routes
from millpond.catalog.files import Files
from millpond.catalog.service import CatalogService, open_catalog
from millpond.catalog.service import rename_owner as rename_owner_in_catalog
from millpond.catalog.work import Janitor
from millpond.compute import permissions as compute_permissions
from millpond.compute.contexts import Runner
from millpond.compute.room import open_compute
from millpond.discovery.routes import discovery_router
from millpond.discovery.service import DiscoveryService
from millpond.discovery.sources import sources
from millpond.engine.client import GatewayClient
from millpond.engine.reader import TableReader
from millpond.engine.sql_client import SqlClient
from millpond.express import Express
from millpond.feature_serving.service import FeatureServing
from millpond.feature_tables.room import open_feature_tables
from millpond.feature_tables.routes import router as feature_tables_router
from millpond.health import Measured, health_router
from millpond.home import Home, make_credentials
from millpond.identity import routes as identity_routes
from millpond.identity.credentials import Signer, load_signing_key, new_secret
from millpond.identity.custody import CustodyService
from millpond.identity.directory import DirectoryService
from millpond.identity.domain import SYSTEM
from millpond.identity.federation import open_federation
from millpond.identity.middleware import guarded
from millpond.identity.oauth import OAuthService
from millpond.identity.permissions import PermissionService
from millpond.identity.routes.access import access_router
from millpond.identity.routes.permissions import permissions_router
from millpond.identity.seen_tokens import SeenTokens
from millpond.identity.service import IdentityService
from millpond.identity.whole import WholeRoute
from millpond.inference_tables.room import open_inference_tables
from millpond.jobs.carrying import PRELOADED
from millpond.jobs.launching import CODE_PATHS
from millpond.jobs.room import open_jobs
from millpond.journal.calls import open_spool
from millpond.kernel.database import Database
from millpond.kernel.doors import Doors
from millpond.kernel.environments import Environments
from millpond.kernel.errors import FailedPrecondition, NotImplementedHere
from millpond.kernel.http import Straight, install_error_handlers, join
from millpond.kernel.logs import get_logger
from millpond.kernel.migrations import ensure_schema
from millpond.kernel.settings import Settings
from millpond.lifespan import lifespan_of
from millpond.lineage import routes as lineage_routes
from millpond.lineage.domain import NodeKind
from millpond.lineage.drain import Read
from millpond.lineage.room import open_lineage
from millpond.notifications.domain import Sealer
from millpond.notifications.mail import Mailer, known_user
from millpond.notifications.room import open_notifications
from millpond.online.room import open_online
from millpond.parity.room import open_parity
from millpond.pipelines.room import open_pipelines
from millpond.registry.dropped import RecordedModels
from millpond.registry.room import open_registry
from millpond.replay.room import open_replay
from millpond.reproduction.room import open_reproduction
from millpond.secrets import routes as secrets_routes
from millpond.secrets.envelope import Key, Unreadable
from millpond.secrets.keyring import Keyring
from millpond.secrets.references import References
from millpond.secrets.service import SecretsService
from millpond.serving import routes as serving_routes
from millpond.serving.canary import routes as canary_routes
from millpond.serving.features import ServedFeatures
from millpond.serving.lineage import deployed
from millpond.serving.metrics import render_pools
from millpond.serving.registry import RegistryModels
from millpond.serving.room import open_serving
from millpond.serving.scoring_routes import scoring_router
from millpond.serving.variables import Variables
from millpond.sql import permissions as sql_permissions
from millpond.sql import routes as sql_routes
from millpond.sql.room import open_sql
from millpond.sql.room import rename_owner as rename_owner_in_sql
from millpond.tracking import permissions as tracking_permissions
from millpond.tracking.catalog_models import MlflowRows, artifact_root
from millpond.tracking.embed import MlflowRoute, open_mlflow
from millpond.tracking.lineage import run_seer
from millpond.tracking.model_files import VersionFiles
from millpond.tracking.routes import model_router
from millpond.tracking.service import ModelService
from millpond.ui.install import install as install_pages
from millpond.ui.preferences import Preferences
from millpond.ui.services import Services
from millpond.ui.tracking import Tracking
from millpond.waste.routes import waste_router
from millpond.waste.service import WasteService
from millpond.workspace import permissions as workspace_permissions
from millpond.workspace.routes import workspace_router
from millpond.workspace.service import WorkspaceService

FIRST_ADMINISTRATOR = "admin@millpond.local"

log = get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class Application:
    """What a server serves, and when it is ready."""

    asgi: ASGIApp
    express: Express
    """What answers small requests of a few routes before `asgi` would."""
    wait_ready: Callable[[], Awaitable[object]]
    """Returns when every part answers. Raises Unavailable when one cannot."""


def build_app(settings: Settings) -> Application:
    """Everything that answers HTTP, behind the one door."""
    home = Home(settings.data_dir)
    database = Database(settings.effective_database_url)
    ensure_schema(database)
    open_spool(home.spools)
    drain = Drain(database, home.spools, retention_days=settings.audit.retention_days)
    signing_key = load_signing_key(home.root)
    signer = Signer(signing_key)
    identity = IdentityService(database, signer)
    bootstrap(home, identity)
    identity.end_lent(home.server_name())
    directory = DirectoryService(database, group_renamed=[rename_owner_in_catalog, rename_owner_in_sql, rename_holder])
    federation = open_federation(database, identity, directory, settings.oidc, key=signing_key)
    secrets = SecretsService(database, Keyring(home.keys, settings.secrets))
    catalog = open_catalog(database, settings, directory.find_exact_name)
    files = Files(catalog, database)
    workspace = WorkspaceService(database, directory.find_exact_name)
    versions = VersionFiles(lambda: mlflow.stores, lambda: mlflow.files)
    gateway = GatewayClient(home.spark_socket, identity.mint)
    statements = SqlClient(gateway)
    environments = Environments(home.environments, settings.environments)
    sealer = _sealer(signing_key)
    mailer = Mailer(
        settings=settings.smtp,
        is_user=known_user(identity.active_principal),
        reveal=lambda text: References(secrets).resolve(SYSTEM, text).text,
    )
    notifications = open_notifications(
        database,
        mailer=mailer,
        sealer=sealer,
        networks=settings.registry.webhook_networks,
        base_url=settings.base_url,
        workspace_id=directory.workspace_id(),
    )
    billing = open_billing(
        database,
        settings.billing,
        catalog=catalog,
        check_target=notifications.service.check_target,
        members=directory.members_below,
        find=directory.find_principal,
        workspace_id=directory.workspace_id(),
    )
    registry = open_registry(
        database,
        settings.registry,
        catalog=catalog,
        stores=lambda: mlflow.stores,
        files=versions,
        artifacts=lambda: mlflow.files,
        principal_named=identity.active_principal,
        sealer=sealer,
        scratch=home.run / "registry",
        query=statements.rows,
        replays=lambda *asked: parity.service.look(*asked),
        traffic_replays=lambda *asked: replay.service.of_version(*asked),
        environments=environments,
        told=lambda connection, event: jobs.watcher.model_changed(connection, event),
        mailer=mailer,
        base_url=settings.base_url,
        jobs=lambda: jobs.starts,
    )
    catalog.on_models(RecordedModels(catalog, MlflowRows(catalog, artifact_root(settings))))
    mlflow = open_mlflow(database, settings, catalog, workspace_id=directory.workspace_id(), watch=registry.watch)
    files.register("Models", lambda *asked: mlflow.uploads.resolve(*asked))
    models = ModelService(catalog, lambda: mlflow.stores, lambda: mlflow.uploads)
    variables = Variables(
        References(secrets),
        identity.active_principal,
        managers_open_network=settings.serving.network != "administrators",
    )
    online = open_online(database, catalog, settings, billing.meter)
    features = FeatureServing(catalog, online.tables)
    inference_tables = open_inference_tables(
        database,
        catalog,
        settings,
        sql=statements,
        serving=lambda: serving.service,
        lineage=lambda: lineage.lineage,
        models=lambda: mlflow.lineage,
        principal_named=identity.active_principal,
    )
    serving = open_serving(
        database,
        settings,
        RegistryModels(versions, catalog, registry.holders, registry.service.mover),
        variables,
        identity.active_principal,
        meter=billing.meter,
        quotas=billing.quotas,
        features=ServedFeatures(features, identity.active_principal),
        deployed=deployed(mlflow.lineage),
        served=registry.serving,
        mail=mailer,
        captures=inference_tables.captures,
        environments=environments,
        find_node=lambda name, version: mlflow.lineage.version_node(name, version),
    )
    lineage = open_lineage(database, catalog, settings.lineage, home.lineage, lambda: _note_reader(catalog))
    lineage.lineage.on_kind(NodeKind.RUN, run_seer(mlflow.visible_runs))
    lineage.lineage.on_kind(NodeKind.MODEL_VERSION, mlflow.lineage.see_versions)
    lineage.lineage.on_kind(NodeKind.ENDPOINT, serving.service.see_nodes)
    reproduction = open_reproduction(
        database,
        settings,
        catalog=catalog,
        environments=environments,
        stores=lambda: mlflow.stores,
        files=lambda: mlflow.files,
        models=mlflow.lineage,
        catch_up=lineage.drain.run_once,
        identity=identity,
    )
    sql = open_sql(
        database, gateway, settings, find_name=directory.find_exact_name, principal_named=identity.active_principal,
        check_target=notifications.service.check_target, quotas=billing.quotas,
    )  # fmt: skip
    doors = Doors(
        api_socket=home.api_socket, api_port=settings.port, spark_socket=home.spark_socket,
        spark_port=settings.spark_port,
    )  # fmt: skip
    compute = open_compute(
        database,
        settings.compute,
        home,
        server=home.server_name(),
        runner=Runner(
            module="millpond.jobs.repl_process",
            preload=PRELOADED,
            paths=CODE_PATHS,
            file_bytes=settings.jobs.file_limit_bytes,
            ways_out=doors.ways_out,
            variables=doors.variables,
            lend=partial(identity.lent, by=home.server_name()),
        ),
        files=files,
        workspace=workspace,
        environments=environments,
        directory=directory,
        references=References(secrets),
        principal_named=identity.active_principal,
        run_is_over=lambda run_id: jobs.is_over(run_id),
        job_of=lambda run_id: jobs.job_of(run_id),
        meter=billing.meter,
        quotas=billing.quotas,
    )
    jobs = open_jobs(
        database,
        settings,
        catalog=catalog,
        files=files,
        workspace=workspace,
        sql=sql,
        environments=environments,
        clusters=compute.for_jobs,
        billing=billing,
        doors=doors,
        destinations=notifications.service,
        lineage=lineage.lineage,
        identity=identity,
        updates=lambda: pipelines.updates,
    )
    pipelines = open_pipelines(
        database, settings, files=files, workspace=workspace, jobs=jobs,
        destinations=notifications.service, references=References(secrets), identity=identity,
    )  # fmt: skip
    lineage.lineage.on_kind(NodeKind.ONLINE_TABLE, online.see_nodes)
    lineage.lineage.on_jobs(jobs.views.names_of)
    parity = open_parity(
        database, catalog, features=features, online=online, sql=statements, stores=lambda: mlflow.stores,
        files=versions, principal_named=identity.active_principal, scratch=home.run / "parity",
    )  # fmt: skip
    replay = open_replay(
        database, catalog, serving=serving, predictions=inference_tables.service, sql=statements,
        principal_named=identity.active_principal,
    )  # fmt: skip
    tables = TableReader(catalog, gateway, settings.s3.variables)
    feature_tables = open_feature_tables(catalog, lineage, mlflow.lineage, online.service, tables, statements)

    waste = WasteService(
        usage=billing.usage, clusters=compute.services.clusters, serving=serving.service, warehouses=sql.warehouses,
        features=feature_tables.service, online=online.service,
    )  # fmt: skip

    app = FastAPI(
        title="Millpond",
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        lifespan=lifespan_of(
            database,
            mlflow,
            serving.runtime,
            online.tables,
            (
                drain,
                billing,
                lineage,
                Janitor(catalog, database),
                sql,
                registry,
                reproduction,
                online,
                parity,
                notifications,
                compute,
                jobs,
                pipelines,
                inference_tables,
                replay,
            ),
        ),
    )
    install_error_handlers(app)
    join(
        app,
        health_router(database, mlflow, settings, lambda: render_pools(serving.runtime)),
        identity_routes.router(
            identity,
            directory,
            CustodyService(database),
            OAuthService(database, signer, identity, federation),
            public_url=settings.public_url,
        ),
        catalog_routes.router(
            catalog,
            files,
            signer=signer,
            workspace_id=directory.workspace_id(),
            s3=settings.s3,
            base_url=settings.public_url,
        ),
        catalog_routes.version_credentials_router(models.version_location, settings.s3),
        model_router(models),
        serving_routes.router(serving.service, serving.options, base_url=settings.base_url),
        canary_routes.router(serving.canaries),
        scoring_router(serving.by_uri, tables),
    )
    leveled = (
        *tracking_permissions.permission_types(),
        *serving.service.permission_types(),
        *sql_permissions.permission_types(),
        *jobs.service.permission_types(),
        *pipelines.service.permission_types(),
        *workspace_permissions.permission_types(),
        *compute_permissions.permission_types(),
    )
    audit = AuditService(database)
    tracking = Tracking(lambda: mlflow.stores)
    discovery = DiscoveryService(catalog, sources(tracking, serving.service, sql, jobs.views))
    finders = catalog.finders() | {each.path: each.finding for each in leveled}
    join(
        app,
        permissions_router(PermissionService(database, leveled)),
        access_router(catalog.grants, finders, catalog.narrowed),
        audit_routes.router(audit, workspace_id=directory.workspace_id()),
        secrets_routes.router(secrets),
        lineage_routes.router(lineage, workspace_id=directory.workspace_id(), metastore_id=catalog.metastore_id),
        sql_routes.router(sql, identity, public_url=settings.public_url),
        discovery_router(discovery),
        reproduction.router(),
        online.router(),
        parity.router(),
        feature_tables_router(feature_tables),
        compute.router(),
        jobs.router(),
        pipelines.router(),
        workspace_router(workspace),
        notifications.router(),
        inference_tables.router(),
        replay.router(),
        billing.router(),
        waste_router(waste),
    )
    pages = Services(
        identity=identity,
        directory=directory,
        audit=audit,
        secrets=secrets,
        catalog=catalog,
        finders=finders,
        files=files,
        tables=tables,
        tracking=tracking,
        discovery=discovery,
        models=models,
        model_files=versions,
        registry=registry,
        reproduction=reproduction,
        serving=serving.service,
        endpoint_options=serving.options,
        canaries=serving.canaries,
        predictions=inference_tables.service,
        replays=replay.service,
        online=online.service,
        parity=parity.service,
        billing=billing,
        waste=waste,
        feature_tables=feature_tables,
        jobs=jobs,
        pipelines=pipelines,
        compute=compute,
        sql=sql,
        destinations=notifications.service,
        lineage=lineage,
        model_lineage=mlflow.lineage,
        preferences=Preferences(database),
        public_url=settings.public_url,
        spark_port=settings.spark_port,
        spark_tls=settings.certificate is not None,
        federation=federation,
    )
    install_pages(app, pages)
    # before the Files API, of which MLflow serves the artifacts' part; before MLflow, what it lacks of its own API
    app.router.routes[:0] = [*registry.router().routes, mlflow_route := MlflowRoute(mlflow)]
    join(app, _unknown_api_router())
    asked_most = [route for route in app.router.routes if isinstance(route, WholeRoute)]
    seen, public_url = SeenTokens(identity), settings.public_url
    door = guarded(Straight(app, asked_most, mlflow_route.alone), identity=identity, seen=seen, public_url=public_url)
    return Application(
        asgi=Measured(AuditDoor(door)),
        express=Express(asked_most, identity=identity, seen=seen, public_url=public_url),
        wait_ready=mlflow.ready,
    )


def _note_reader(catalog: CatalogService) -> Read:
    from millpond.engine.lineage.reading import note_reader  # with sqlglot, which the server's start need not wait for

    return note_reader(catalog)


def bootstrap(home: Home, identity: IdentityService) -> None:
    """Make the first administrator; its credentials are in a file before they count."""
    credentials = make_credentials(home, FIRST_ADMINISTRATOR, new_secret())
    identity.bootstrap(credentials.user, password=credentials.password, secret=credentials.token)


def _sealer(signing_key: bytes) -> Sealer:
    """Seals what webhooks are signed with, under a key that follows from the server's own."""
    key = Key(hashlib.sha256(b"millpond registry webhooks\0" + signing_key).digest())

    def opened(sealed: str, context: str) -> str:
        try:
            return key.open(bytes.fromhex(sealed), context).decode()
        except Unreadable as error:
            raise FailedPrecondition("The webhook's secret was sealed under another key; set it again.") from error

    return Sealer(seal=lambda text, context: key.seal(text.encode(), context).hex(), open=opened)


def _unknown_api_router() -> APIRouter:
    """What no room answers is named, with 501, and never a fake success."""
    router = APIRouter()

    @router.api_route("/api/{rest:path}", methods=["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD"])
    def unknown(request: Request) -> None:
        raise NotImplementedHere(f"Millpond does not implement {request.method} {request.url.path}.")

    return router
