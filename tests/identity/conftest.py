"""A real HTTP server of identity alone: its routes behind its door, on each database."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from databricks.sdk import WorkspaceClient
from fastapi import FastAPI, Request, WebSocket

from millpond.identity import routes
from millpond.identity.credentials import Signer, new_secret
from millpond.identity.custody import CustodyService
from millpond.identity.directory import DirectoryService
from millpond.identity.domain import Draft, Principal, PrincipalKind
from millpond.identity.middleware import current_principal, guarded
from millpond.identity.oauth import OAuthService
from millpond.identity.service import IdentityService
from millpond.kernel.database import Database
from millpond.kernel.http import install_error_handlers
from tests.applications import served

ADMIN = "ada@example.com"
PASSWORD = "correct horse battery"


@dataclass(frozen=True, kw_only=True)
class Identity:
    """The services over one database, with a first administrator."""

    database: Database
    signer: Signer
    service: IdentityService
    directory: DirectoryService
    custody: CustodyService
    oauth: OAuthService
    admin: Principal
    admin_token: str

    def user(self, name: str, **draft: Any) -> Principal:
        """A new user who is no administrator."""
        entry = self.directory.create(self.admin, PrincipalKind.USER, Draft(name=name, display_name=name, **draft))
        return self.service.authenticate(self.token_of(entry.account.name))

    def token_of(self, name: str) -> str:
        """A new access token of a user."""
        return self.custody.create_token_for(self.admin, name, kind=PrincipalKind.USER)[1]


def build_identity(database: Database) -> Identity:
    """The services, built as the application builds them."""
    signer = Signer(b"0123456789abcdef0123456789abcdef")
    service = IdentityService(database, signer)
    token = new_secret()
    service.bootstrap(ADMIN, password=PASSWORD, secret=token)
    return Identity(
        database=database,
        signer=signer,
        service=service,
        directory=DirectoryService(database),
        custody=CustodyService(database),
        oauth=OAuthService(database, signer, service),
        admin=service.authenticate(token),
        admin_token=token,
    )


@pytest.fixture
def identity(database: Database) -> Identity:
    """The services over an empty database of each kind."""
    return build_identity(database)


@dataclass(frozen=True, kw_only=True)
class Site:
    """A running server of identity's routes."""

    url: str
    identity: Identity

    def http(self, token: str | None = None, **options: Any) -> httpx.Client:
        """An HTTP client with a token: the administrator's when none is given, "" for no credential."""
        token = self.identity.admin_token if token is None else token
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        return httpx.Client(base_url=self.url, headers=headers | options.pop("headers", {}), timeout=30, **options)

    def client(self, token: str | None = None) -> WorkspaceClient:
        """The unmodified SDK with a token: the administrator's when none is given."""
        token = token or self.identity.admin_token
        return WorkspaceClient(host=self.url, token=token, auth_type="pat", config_file="/nowhere")


@pytest.fixture
def site(identity: Identity) -> Iterator[Site]:
    """Identity's routes behind its door, served by uvicorn on each database."""
    with served(build_site_app(identity)) as url:
        yield Site(url=url, identity=identity)


def build_site_app(identity: Identity, public_url: str | None = None) -> Any:
    """Identity's routes, and a few of the tests' own behind the same door."""
    app = FastAPI()
    install_error_handlers(app)
    app.include_router(
        routes.router(identity.service, identity.directory, identity.custody, identity.oauth, public_url=public_url)
    )

    @app.api_route("/act", methods=["GET", "POST", "HEAD", "OPTIONS", "DELETE"])
    def act() -> dict[str, str]:
        return {"name": current_principal().name}

    @app.get("/health")
    def health() -> dict[str, str]:
        return {"status": "ready"}

    @app.post("/api/2.0/fs/files/{path:path}")
    async def upload(path: str, request: Request) -> dict[str, int]:
        return {"size": sum([len(chunk) async for chunk in request.stream()])}

    @app.post("/echo")
    async def echo(request: Request) -> dict[str, int]:
        return {"size": len(await request.body())}

    @app.api_route("/serving-endpoints/{name}/invocations", methods=["POST"])
    def invoke(name: str) -> dict[str, str]:
        return {"endpoint": name, "name": current_principal().name}

    @app.websocket("/socket")
    async def talk(websocket: WebSocket) -> None:
        await websocket.accept()
        async for text in websocket.iter_text():
            await websocket.send_text(f"{current_principal().name}: {text}")

    return guarded(app, identity=identity.service, public_url=public_url)
