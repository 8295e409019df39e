"""The registry room, built: what `app.py` joins to the rest."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter
from sqlalchemy import Connection

from millpond.catalog.domain import SchemaName
from millpond.catalog.service import CatalogService
from millpond.identity.access import Act, Securable, require
from millpond.identity.domain import Principal
from millpond.identity.grants import GrantService
from millpond.kernel.database import Database
from millpond.kernel.environments import Environments
from millpond.kernel.settings import RegistrySettings
from millpond.kernel.work import Handler, Worker
from millpond.notifications.domain import Sealer
from millpond.notifications.mail import Mailer
from millpond.registry import gates as gate_keeping
from millpond.registry import store
from millpond.registry import webhooks as telling
from millpond.registry.bench import Bench, Limits, Query, Replays, TrafficReplays
from millpond.registry.evaluations import Evaluations
from millpond.registry.gate_runs import gate_runs
from millpond.registry.gates import Gates
from millpond.registry.job_starts import JobStarter
from millpond.registry.models import securable_of, securable_with_key
from millpond.registry.policies import policies
from millpond.registry.recorder import Recorder, Serving
from millpond.registry.routes import deliveries_router, evaluations_router, registry_router
from millpond.registry.service import RegistryService
from millpond.registry.store import KEYED
from millpond.registry.webhooks import Announcer, WebhookService
from millpond.registry.wire import request_json
from millpond.tracking.artifact_files import ArtifactFiles
from millpond.tracking.domain import canonical_model_name
from millpond.tracking.model_files import VersionFiles
from millpond.tracking.watch import RegistryEvent, Target, TargetKind

if TYPE_CHECKING:
    from millpond.tracking.embed import Stores

_DELIVERY_ATTEMPTS = 9
"""The last some fifty-five minutes after the first."""


@dataclass(frozen=True, kw_only=True)
class RegistryRoom:
    """The services for routes and pages, who watches MLflow's store, and the work to keep going."""

    database: Database
    service: RegistryService
    gates: Gates
    evaluations: Evaluations
    webhooks: WebhookService
    watch: Recorder
    serving: Serving
    worker: Worker
    scope: Callable[[Principal, str, str], Securable]

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Look at versions and make deliveries while the block runs."""
        with self.worker.at_work():
            yield

    def holders(self, asked: Collection[tuple[str, Target]]) -> Mapping[tuple[str, Target], int]:
        """Which versions of models have which aliases or are the newest in which stages, for rooms that follow them."""
        with self.database.read() as connection:
            found = {(model, target): store.holder(connection, model, target) for model, target in asked}
        return {each: version for each, version in found.items() if version is not None}

    def router(self) -> APIRouter:
        """All routes; they stand before MLflow's own."""
        router = registry_router(self.service, self.gates, self.webhooks, self.scope)
        router.routes.extend(evaluations_router(self.evaluations).routes)
        router.routes.extend(deliveries_router(self.webhooks).routes)
        return router


def open_registry(
    database: Database,
    settings: RegistrySettings,
    *,
    catalog: CatalogService,
    stores: Callable[[], "Stores"],
    files: VersionFiles,
    artifacts: Callable[[], ArtifactFiles],
    principal_named: Callable[[str], Principal],
    sealer: Sealer,
    scratch: Path,
    query: Query,
    replays: Replays,
    traffic_replays: TrafficReplays,
    environments: Environments,
    mailer: Mailer,
    base_url: str,
    jobs: Callable[[], JobStarter],
    told: Callable[[Connection, RegistryEvent], None],
) -> RegistryRoom:
    """The record of the models on a database; `stores` and `files` are MLflow's, once it is loaded.

    `query` runs SQL as somebody, `replays` compares what a version is given offline and online, `traffic_replays` tells
    how it answered recorded requests; `jobs` starts jobs; `told` is called in the transaction of what happened to a
    model.
    """
    find_model, find_by_key = partial(securable_of, catalog), partial(securable_with_key, catalog)
    evaluations = Evaluations(database, find_model, GrantService(database), artifacts)
    bench = Bench(
        scratch=scratch,
        files=files,
        catalog=catalog,
        query=query,
        replays=replays,
        traffic_replays=traffic_replays,
        evaluations=evaluations,
        environments=environments,
        principal_named=principal_named,
        limits=Limits(memory_bytes=settings.trial_memory_bytes, timeout_s=settings.trial_timeout_s),
    )
    gates = Gates(database, find_model, bench, wait_s=settings.gate_wait_s)
    announcer = Announcer()
    webhooks = WebhookService(
        database,
        find_model,
        find_by_key,
        sealer,
        networks=settings.webhook_networks,
        mailer=mailer,
        jobs=jobs,
        base_url=base_url,
    )
    handlers = {
        gate_keeping.WORK: Handler(run=gates.run_item, attempts=3),
        telling.WORK: Handler(run=webhooks.run_item, attempts=_DELIVERY_ATTEMPTS, threads=2),
    }
    service = RegistryService(database, find_model, find_by_key, stores, gates, announcer)
    return RegistryRoom(
        database=database,
        service=service,
        gates=gates,
        evaluations=evaluations,
        webhooks=webhooks,
        watch=Recorder(
            find_model,
            gates,
            partial(_announced, announcer, told),
            partial(_asked, service),
            (*KEYED, gate_runs, policies, telling.webhooks),
        ),
        serving=Serving(find_model),
        worker=Worker(database, handlers),
        scope=partial(_scope, database, catalog),
    )


def _announced(
    announcer: Announcer,
    told: Callable[[Connection, RegistryEvent], None],
    connection: Connection,
    principal: Principal,
    key: str,
    event: RegistryEvent,
) -> None:
    announcer(connection, principal, key, event)
    told(connection, event)


def _asked(service: RegistryService, principal: Principal, name: str, version: str) -> Sequence[Mapping[str, Any]]:
    found = service.list_requests(principal, name, version)
    staged = [request for request in found if request.target.kind is TargetKind.STAGE]
    return [request_json(each, service.actions_on(principal, name, each)) for each in staged]


def _scope(database: Database, catalog: CatalogService, principal: Principal, kind: str, name: str) -> Securable:
    """What has a policy, for somebody who sees it. Raises NotFound."""
    if kind == "catalog":
        return catalog.get_catalog(principal, name).securable
    if kind == "schema":
        return catalog.get_schema(principal, SchemaName(*_two(name))).securable
    with database.read() as connection:
        securable = securable_of(catalog, connection, canonical_model_name(name))
    require(principal, Act.SEE, securable)
    return securable


def _two(name: str) -> tuple[str, str]:
    catalog, _, schema = name.partition(".")
    return catalog, schema
