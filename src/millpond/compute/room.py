"""The room as `app.py` opens it."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from fastapi import APIRouter

from millpond.billing.metering import Meter
from millpond.billing.quotas import QuotaService
from millpond.catalog.files import Files
from millpond.compute.clusters import ClusterService
from millpond.compute.commands import CommandService
from millpond.compute.contexts import Runner
from millpond.compute.costs import ClusterQuotas, SliceMeter
from millpond.compute.drivers import Driver
from millpond.compute.interpreters import Interpreters
from millpond.compute.job_clusters import JobClusters
from millpond.compute.libraries import Installer, LibraryService, Read
from millpond.compute.policies import PolicyService
from millpond.compute.pools import CREATE, PoolService
from millpond.compute.processes import machine_of
from millpond.compute.routes import compute_router
from millpond.compute.runtime import Given, Runtime
from millpond.compute.services import ComputeServices
from millpond.home import Home
from millpond.identity.directory import DirectoryService
from millpond.identity.domain import Principal
from millpond.journal import calls
from millpond.journal.calls import Call
from millpond.kernel.database import Database
from millpond.kernel.environments import Environments
from millpond.kernel.errors import MillpondError
from millpond.kernel.http import STATUS_OF_CODE
from millpond.kernel.settings import ComputeSettings
from millpond.secrets.references import References, has_references
from millpond.workspace.service import WorkspaceService

_LARGEST_LIBRARY = 256 << 20
_VOLUMES = "/Volumes/"


@dataclass(frozen=True, kw_only=True)
class ComputeRoom:
    """The services for routes and pages, and the work to keep going."""

    services: ComputeServices
    runtime: Runtime
    for_jobs: JobClusters

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Carry clusters on while the block runs."""
        with self.runtime.at_work():
            yield

    def router(self) -> APIRouter:
        """All routes."""
        return compute_router(self.services)


def open_compute(
    database: Database, settings: ComputeSettings, home: Home, *, server: str, runner: Runner, files: Files,
    workspace: WorkspaceService, environments: Environments, directory: DirectoryService, references: References,
    principal_named: Callable[[str], Principal], run_is_over: Callable[[int], bool],
    job_of: Callable[[int], int | None], meter: Meter, quotas: QuotaService,
) -> ComputeRoom:  # fmt: skip
    """Clusters on a database and this machine."""
    machine, place, logs = machine_of(settings), home.run / "compute", home.logs / "compute"

    def log_of(name: str) -> Path:
        return logs / f"{name}.log"

    def make_driver(name: str) -> Driver:
        logs.mkdir(parents=True, exist_ok=True, mode=0o700)
        return Driver(runner.preload, log_of(name))

    interpreters = Interpreters(database, runner, directory=place, logs=logs, principal_named=principal_named)
    installer = Installer(database, environments, _reading(files, workspace), principal_named, place)
    given = Given(
        make_driver=make_driver, log_of=log_of, resolve=_resolving(references, principal_named),
        environments=environments, directory=place, run_is_over=run_is_over, slices=SliceMeter(meter, job_of),
    )  # fmt: skip
    runtime = Runtime(
        database, server=server, machine=machine, given=given, interpreters=interpreters, installer=installer
    )
    interpreters.wake = runtime.wake
    policies = PolicyService(database, directory.is_entitled)
    pools = PoolService(
        database, machine, lambda who: who.is_admin or directory.is_entitled(who, CREATE), runtime.warm.count,
        runtime.wake,
    )  # fmt: skip
    clusters = ClusterService(
        database, server=server, machine=machine, policies=policies, pools=pools, check_secrets=references.check,
        kind_of=lambda name: found.kind if (found := directory.find_principal(name)) else None,
        quotas=ClusterQuotas(quotas, machine, principal_named), wake=runtime.wake,
    )  # fmt: skip
    services = ComputeServices(
        clusters=clusters, policies=policies, pools=pools,
        commands=CommandService(database, clusters, runtime.wake),
        libraries=LibraryService(database, clusters, policies, runtime.wake),
    )  # fmt: skip
    for_jobs = JobClusters(database, clusters, services.libraries, runtime.place, server)
    return ComputeRoom(services=services, runtime=runtime, for_jobs=for_jobs)


def _reading(files: Files, workspace: WorkspaceService) -> Read:
    def read(principal: Principal, path: str) -> bytes:
        if not path.startswith(_VOLUMES):
            return workspace.script(principal, path)
        return files.read_whole(principal, path, most_bytes=_LARGEST_LIBRARY)

    return read


def _resolving(
    references: References, principal_named: Callable[[str], Principal]
) -> Callable[[str, Mapping[str, str]], tuple[dict[str, str], tuple[str, ...]]]:
    """Puts secrets into texts with somebody's rights, and tells the audit."""

    def resolve(owner: str, texts: Mapping[str, str]) -> tuple[dict[str, str], tuple[str, ...]]:
        referring = [name for name, text in texts.items() if has_references(text)]
        if not referring:
            return dict(texts), ()
        call = Call(door="background", act="start", kind="cluster", name=owner, actor=owner)
        with calls.during(call):
            try:
                principal = principal_named(owner)
                found = {name: references.resolve(principal, texts[name]) for name in referring}
            except MillpondError as error:
                call.end(STATUS_OF_CODE.get(error.code, 500), error.code)
                raise
            call.end(calls.OK)
        told = dict(texts) | {name: resolved.text for name, resolved in found.items()}
        return told, tuple({value for resolved in found.values() for value in resolved.values})

    return resolve
