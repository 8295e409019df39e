"""The gateway process: Spark Connect in front of the engines. Started by the supervisor."""

import asyncio
import gc
import signal
import sys
import threading
from dataclasses import replace
from functools import partial

import uvloop

from millpond.audit.drain import Drain
from millpond.audit.table import AuditTable
from millpond.billing.metering import Meter
from millpond.billing.prices import PriceService
from millpond.billing.quotas import FRESH_S, QuotaService, storage_check
from millpond.billing.spending import Spending
from millpond.billing.table import PRICES_NAME, USAGE_NAME, PricesTable, UsageTable
from millpond.billing.usage import UsageService
from millpond.catalog.domain import ObjectName
from millpond.catalog.service import CatalogService, open_catalog
from millpond.compute.processes import machine_of
from millpond.compute.slices import ClusterSlices
from millpond.engine import proto
from millpond.engine.costs import tracked
from millpond.engine.engines import ApiDoor
from millpond.engine.gateway import GatewayOptions, serve
from millpond.engine.lean import keep_out
from millpond.engine.lineage.capture import close_spool as close_lineage_spool
from millpond.engine.lineage.capture import open_spool as open_lineage_spool
from millpond.engine.lineage.reading import note_reader
from millpond.engine.system_tables import SystemTable
from millpond.home import Home
from millpond.identity.credentials import Signer, load_signing_key
from millpond.identity.directory import DirectoryService
from millpond.identity.service import IdentityService
from millpond.journal.calls import open_spool
from millpond.kernel.child import report_ready
from millpond.kernel.database import Database, driver_url
from millpond.kernel.freshness import change_mark
from millpond.kernel.logs import configure_logs, get_logger
from millpond.kernel.migrations import ensure_schema
from millpond.kernel.rounds import rounds
from millpond.kernel.settings import Settings, load_settings
from millpond.lineage.drain import LineageDrain
from millpond.lineage.service import LineageService
from millpond.lineage.table import LineageTable
from millpond.registry.dropped import RecordedModels
from millpond.registry.table import HistoryTable as ModelHistoryTable
from millpond.sql.history import TABLE_NAME, HistoryTable, SparkHistory
from millpond.tracking.catalog_models import MlflowRows, artifact_root

log = get_logger(__name__)
_DRAIN_S = 20.0
_RECURSION_LIMIT = 12_000
"""Python's frames, of which the walk over a plan takes two for each level of nesting."""

# All that MLflow's client in a user's function and ai_query need, in the user's engine; its token cannot make
# another one, nor do anything else.
_ENGINE_PATHS = (
    "/api/2.0/mlflow", "/api/2.0/mlflow-artifacts", "/api/3.0/mlflow", "/version",
    *(f"/api/2.0/fs/{kind}/{place}" for kind in ("files", "directories") for place in ("Models", "WorkspaceInternal")),
    "/api/2.0/fs/create-download-url", "/api/millpond/scoring/invocations", "/serving-endpoints",
)  # fmt: skip


def main() -> None:
    """Serve Spark Connect until SIGTERM; then finish what runs."""
    gc.disable()  # imports make garbage collection run for nothing
    threading.stack_size(proto.STACK_BYTES)
    sys.setrecursionlimit(_RECURSION_LIMIT)
    keep_out("pandas")
    settings = load_settings()
    configure_logs(settings.log_level, process="gateway")
    gc.enable()
    gc.freeze()
    uvloop.run(_serve(settings))


async def _serve(settings: Settings) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    home = Home(settings.data_dir)
    database = Database(settings.effective_database_url)
    ensure_schema(database)
    open_spool(home.spools)
    identity = IdentityService(database, Signer(load_signing_key(home.root)))
    directory = DirectoryService(database)
    catalog = open_catalog(database, settings, directory.find_exact_name)
    catalog.on_models(RecordedModels(catalog, MlflowRows(catalog, artifact_root(settings))))
    api = ApiDoor(socket_path=home.api_socket, port=settings.port, mint=identity.mint, paths=_ENGINE_PATHS)
    audit = AuditTable(database, Drain(database, home.spools), workspace_id=directory.workspace_id())
    history = SparkHistory(database, home.history)
    catalog.keep_computed(ObjectName(*TABLE_NAME), HistoryTable(database, history))
    usage, prices = UsageService(database), PriceService(database, settings.billing.currency)
    quotas, meter = QuotaService(database, directory.members_below, Spending()), Meter(database)
    open_lineage_spool(home.lineage)
    workspace_id = directory.workspace_id()
    catalog.keep_computed(ObjectName(*USAGE_NAME), UsageTable(usage, workspace_id=workspace_id))
    catalog.keep_computed(ObjectName(*PRICES_NAME), PricesTable(prices, workspace_id=workspace_id))
    catalog.on_new_tables(storage_check(database, quotas))
    system_tables: list[SystemTable] = [
        audit,
        *_lineage_tables(database, home, catalog, workspace_id),
        ModelHistoryTable(database, workspace_id=workspace_id),
    ]
    options = replace(gateway_options(settings, api), observe=history.note, admit=quotas.check_lately)
    looked = rounds(quotas.look, name="quotas", interval_s=FRESH_S, log=log, failure="quotas were not looked at")
    with history.at_work(), looked:
        gateway = await serve(
            options,
            catalog=catalog,
            authenticate=partial(identity.authenticate, path=f"/{proto.SERVICE}"),
            find_owner=identity.find_owner,
            system_tables=system_tables,
            clusters=ClusterSlices(
                database, machine_of(settings.compute), home.run / "compute", server=home.server_name()
            ),
        )
        meter.watch(lambda: tracked(gateway.engines()))
        with meter.at_work(settings.billing.interval_s):
            report_ready({"port": gateway.port})
            await stop.wait()
        await gateway.stop(_DRAIN_S)
    close_lineage_spool()


def _lineage_tables(database: Database, home: Home, catalog: CatalogService, workspace_id: int) -> list[LineageTable]:
    drain = LineageDrain(LineageService(database, catalog), home.lineage, lambda: note_reader(catalog))
    return [
        LineageTable(
            database, drain.run_once, workspace_id=workspace_id, metastore_id=catalog.metastore_id, columns=columns
        )
        for columns in (False, True)
    ]


def gateway_options(settings: Settings, api: ApiDoor | None = None) -> GatewayOptions:
    """The gateway's part of the settings."""
    home = Home(settings.data_dir)
    on_s3 = settings.effective_storage_root.startswith("s3://")
    return GatewayOptions(
        host=settings.host,
        port=settings.spark_port,
        run_dir=home.run / "gateway",
        log_dir=home.logs,
        storage_root=settings.effective_storage_root,
        remote=settings.engine.remote,
        idle_timeout_s=settings.engine.idle_timeout_s,
        memory_limit_bytes=settings.engine.memory_limit_bytes,
        store=settings.s3.variables if on_s3 else None,
        storage_options=settings.s3.variables,
        api=api,
        certificate=settings.certificate,
        socket_path=home.spark_socket,
        mark=change_mark(driver_url(settings.effective_database_url)),
    )


if __name__ == "__main__":
    main()
