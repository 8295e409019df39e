"""A small server around the serving room, on a real port, with models from folders."""

import json
import shutil
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Collection, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fastapi import FastAPI

from millpond.billing.metering import Meter
from millpond.identity.access import Act, Securable, require
from millpond.identity.credentials import Signer, new_secret
from millpond.identity.directory import DirectoryService
from millpond.identity.domain import Draft, Principal, PrincipalKind
from millpond.identity.middleware import AuthMiddleware
from millpond.identity.service import IdentityService
from millpond.kernel.database import Database
from millpond.kernel.environments import Environments
from millpond.kernel.errors import NotFound
from millpond.kernel.http import install_error_handlers
from millpond.kernel.settings import ServingSettings, Settings
from millpond.secrets.keyring import Keyring
from millpond.secrets.references import References
from millpond.secrets.service import SecretsService
from millpond.serving.canary.routes import router as canary_router
from millpond.serving.capture import Captures
from millpond.serving.domain import ModelVersion
from millpond.serving.ports import Named
from millpond.serving.references import Reference
from millpond.serving.room import open_serving
from millpond.serving.routes import router
from millpond.serving.runtime import ServingRuntime
from millpond.serving.scoring_routes import scoring_router
from millpond.serving.service import ServingService
from millpond.serving.variables import Variables
from tests.applications import address_of, listening, served
from tests.billing.free import quotas_of
from tests.servers import wait_until

ADMIN = "admin@example.com"


class FolderModels:
    """Version 1 of model `name` is the folder `<root>/<name>`; further ones are in `versions`. All are `owner`'s."""

    def __init__(self, root: Path, owner: str = ADMIN) -> None:
        self.root = root
        self.owner = owner
        self.downloads = 0
        self.versions: dict[tuple[str, str], str] = {}
        self.moved: dict[Named, str] = {}
        """What aliases and stages name."""
        self.movers: dict[tuple[Named, str], str] = {}
        """Who let them name a version, where that is known."""
        self.hidden_from_admins = False

    def find_version(self, principal: Principal, name: str, version: str) -> ModelVersion:
        """The folder, if the principal owns the models."""
        folder = name.rsplit(".", 1)[-1]
        if self.hidden_from_admins:
            principal = replace(principal, is_admin=False)
        require(principal, Act.READ, Securable(kind="model", name=name, owners=(self.owner,)))
        folder = self.versions.get((name, version), folder if version == "1" else "no such")
        if not (self.root / folder).is_dir():
            raise NotFound(f"Version {version} of model '{name}' does not exist.")
        return ModelVersion(name=name, version=version, source=folder)

    def find_referenced(self, principal: Principal, name: str, reference: Reference) -> ModelVersion:
        """What was moved there last."""
        if (name, reference) not in self.moved:
            raise NotFound(f"No version of model '{name}' has {reference.words}.")
        return self.find_version(principal, name, self.moved[name, reference])

    def heads(self, asked: Collection[Named]) -> Mapping[Named, str]:
        """What was moved there last."""
        return {name: self.moved[name] for name in asked if name in self.moved}

    def moved_by(self, name: Named, version: str) -> str | None:
        """Whom the test says."""
        return self.movers.get((name, version))

    def find_spec(self, _principal: Principal, _model: ModelVersion) -> str | None:
        """None of them has features."""
        return None

    def describe(self, _principal: Principal, model: ModelVersion) -> str:
        """The folder's file."""
        return (self.root / model.source / "MLmodel").read_text()

    def download(self, model: ModelVersion, destination: Path) -> None:
        """Copy the folder."""
        self.downloads += 1
        shutil.copytree(self.root / model.source, destination, dirs_exist_ok=True)


@dataclass(frozen=True, kw_only=True)
class Answer:
    """Status, headers and body of an HTTP answer."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body parsed."""
        return json.loads(self.body)


@dataclass(frozen=True, kw_only=True)
class ServingServer:
    """The running server and who may use it."""

    url: str
    data_dir: Path
    database: Database
    identity: IdentityService
    runtime: ServingRuntime
    service: ServingService
    source: FolderModels
    secrets: SecretsService
    admin: Principal
    token: str

    def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        token: str | None = None,
        content_type: str = "application/json",
        timeout_s: float = 60,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """One HTTP call; `body` is sent as it is when it is bytes, else as JSON."""
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        sent = {"Authorization": f"Bearer {token or self.token}", "Content-Type": content_type, **(headers or {})}
        request = urllib.request.Request(self.url + path, method=method, headers=sent, data=data)
        try:
            with urllib.request.urlopen(request, timeout=timeout_s) as answer:
                return Answer(status=answer.status, headers=dict(answer.headers), body=answer.read())
        except urllib.error.HTTPError as error:
            return Answer(status=error.code, headers=dict(error.headers), body=error.read())

    def create(self, name: str, *models: str, wait: bool = True, **entity: Any) -> dict[str, Any]:
        """Make an endpoint for models (the first gets all traffic), and wait until the update has ended."""
        entities = [{"entity_name": model, "entity_version": "1", "name": model, **entity} for model in models]
        routes = [{"served_entity_name": m, "traffic_percentage": 0 if i else 100} for i, m in enumerate(models)]
        config = {"served_entities": entities, "traffic_config": {"routes": routes}}
        answer = self.call("POST", "/api/2.0/serving-endpoints", {"name": name, "config": config})
        assert answer.status == 200, answer.body
        return self.settled(name) if wait else answer.json

    def get(self, name: str) -> dict[str, Any]:
        """The endpoint as the API tells it."""
        answer = self.call("GET", f"/api/2.0/serving-endpoints/{name}")
        assert answer.status == 200, answer.body
        return answer.json

    def settled(self, name: str, timeout_s: float = 120) -> dict[str, Any]:
        """The endpoint when no update is under way any more."""
        wait_until(
            lambda: self.get(name)["state"]["config_update"] != "IN_PROGRESS",
            timeout_s=timeout_s,
            what=f"the update of {name}",
        )
        return self.get(name)

    def ready(self, name: str, timeout_s: float = 120) -> dict[str, Any]:
        """The endpoint when all of its workers answer."""
        wait_until(lambda: self.get(name)["state"]["ready"] == "READY", timeout_s=timeout_s, what=f"{name} being ready")
        return self.get(name)

    def ask(self, name: str, order: str, **options: Any) -> Answer:
        """Tell the obedient model what to do."""
        body = {"dataframe_records": [{"do": order}]}
        return self.call("POST", f"/serving-endpoints/{name}/invocations", body, **options)

    def user(self, name: str) -> str:
        """A token of another user, who is no administrator."""
        DirectoryService(self.database).create(
            self.admin, PrincipalKind.USER, Draft(name=name, display_name=name, password="initial-password")
        )
        return self.identity.create_token(self.identity.authenticate_password(name, "initial-password")).secret

    def worker_pid(self, name: str) -> int:
        """The process id of the worker of an endpoint's first served entity."""
        pid = self.worker_pid_or_none(name)
        assert pid is not None
        return pid

    def worker_pid_or_none(self, name: str) -> int | None:
        """The same; None while there is no worker."""
        live = self.runtime.find(name)
        assert live is not None
        workers = live.pools[live.config.entities[0].name].workers
        return workers[0].pid if workers else None


@contextmanager
def serving_server(
    database: Database,
    data_dir: Path,
    models: Path,
    *,
    serving: ServingSettings | None = None,
    captures: Captures | None = None,
    environments: Environments | None = None,
    otlp_endpoint: str | None = None,
    managers_open_network: bool = False,
) -> Iterator[ServingServer]:
    """The serving room behind the door, on a free port, until the block ends."""
    settings = Settings(data_dir=data_dir, serving=serving or ServingSettings(), otlp_endpoint=otlp_endpoint)
    identity = IdentityService(database, Signer(b"k" * 32))
    token = new_secret()
    if not identity.bootstrap(ADMIN, password="a-long-password", secret=token):  # a server that starts again
        token = identity.create_token(identity.authenticate_password(ADMIN, "a-long-password")).secret
    source = FolderModels(models)
    secrets = SecretsService(database, Keyring(data_dir / "keys", settings.secrets))
    find_principal = identity.active_principal
    room = open_serving(
        database,
        settings,
        source,
        Variables(References(secrets), find_principal, managers_open_network=managers_open_network),
        find_principal,
        Meter(database),
        quotas_of(database),
        captures=captures,
        environments=environments,
    )

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        async with room.runtime:
            yield

    app = FastAPI(lifespan=lifespan)
    install_error_handlers(app)
    listener = listening()
    url = address_of(listener)
    app.include_router(router(room.service, room.options, base_url=url))
    app.include_router(canary_router(room.canaries))
    app.include_router(scoring_router(room.by_uri, tables=None))  # nothing here asks for transactions of tables
    app.get("/.well-known/databricks-config")(lambda: {"oidc_endpoint": f"{url}/oidc"})
    with served(AuthMiddleware(app, identity=identity), listener, lifespan="on"):
        yield ServingServer(
            url=url,
            data_dir=data_dir,
            database=database,
            identity=identity,
            runtime=room.runtime,
            service=room.service,
            source=source,
            secrets=secrets,
            admin=identity.authenticate(token),
            token=token,
        )
