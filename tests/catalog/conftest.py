"""The catalog over each database, and its routes behind the real door, served by uvicorn."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from databricks.sdk import WorkspaceClient
from fastapi import FastAPI
from sqlalchemy import delete, select

from millpond.catalog import routes
from millpond.catalog.domain import Column, ObjectName, Table, TableType
from millpond.catalog.files import Files
from millpond.catalog.service import CatalogService
from millpond.catalog.storage import ConfiguredStorages, Storages
from millpond.catalog.store.schema import (
    catalogs,
    dropped_tables,
    functions,
    models,
    policies,
    purges,
    schemas,
    staged,
    tables,
    tag_policies,
    tags,
    uploads,
    volumes,
)
from millpond.identity import routes as identity_routes
from millpond.identity.credentials import Signer, new_secret
from millpond.identity.custody import CustodyService
from millpond.identity.directory import DirectoryService
from millpond.identity.domain import Draft, Principal, PrincipalKind
from millpond.identity.middleware import guarded
from millpond.identity.oauth import OAuthService
from millpond.identity.routes.access import access_router
from millpond.identity.service import IdentityService
from millpond.kernel.database import Database
from millpond.kernel.http import install_error_handlers
from millpond.kernel.settings import S3Settings
from tests.applications import served
from tests.databases import BACKENDS, Databases

LONG = Column(name="id", type_text="bigint", type_json='"long"', nullable=False, position=0)
TEXT = Column(name="name", type_text="string", type_json='"string"', comment="What it is called", position=1)


@dataclass(frozen=True, kw_only=True)
class People:
    """An administrator and two users, with their access tokens."""

    identity: IdentityService
    directory: DirectoryService
    custody: CustodyService
    signer: Signer
    admin: Principal
    alice: Principal
    bob: Principal
    tokens: dict[str, str]

    def add(self, name: str) -> Principal:
        """One more user, with a token."""
        self.directory.create(self.admin, PrincipalKind.USER, Draft(name=name, display_name=name))
        self.tokens[name] = self.custody.create_token_for(self.admin, name, kind=PrincipalKind.USER)[1]
        return self.identity.authenticate(self.tokens[name])


@dataclass(frozen=True, kw_only=True)
class Site:
    """A running server of the catalog's routes."""

    url: str
    people: People
    catalog: CatalogService
    files: Files

    def client(self, who: Principal | None = None) -> WorkspaceClient:
        """The unmodified SDK as somebody; the administrator when nobody is named."""
        token = self.people.tokens[(who or self.people.admin).name]
        return WorkspaceClient(host=self.url, token=token, auth_type="pat", config_file="/nowhere")

    def http(self, who: Principal | None = None) -> httpx.Client:
        """A plain HTTP client as somebody."""
        token = self.people.tokens[(who or self.people.admin).name]
        return httpx.Client(base_url=self.url, headers={"Authorization": f"Bearer {token}"}, timeout=60)


def build_people(database: Database) -> People:
    """Accounts made as the application makes them."""
    signer = Signer(b"0123456789abcdef0123456789abcdef")
    identity, directory = IdentityService(database, signer), DirectoryService(database)
    secret = new_secret()
    identity.bootstrap("ada@example.com", password="correct horse battery", secret=secret)
    admin = identity.authenticate(secret)
    people = People(
        identity=identity,
        directory=directory,
        custody=CustodyService(database),
        signer=signer,
        admin=admin,
        alice=admin,
        bob=admin,
        tokens={admin.name: secret},
    )
    alice, bob = people.add("alice@example.com"), people.add("bob@example.com")
    return People(**{**vars(people), "alice": alice, "bob": bob})


def build_catalog(
    database: Database,
    people: People,
    data_dir: Path,
    *,
    storages: Storages | None = None,
    storage_root: str | None = None,
) -> CatalogService:
    """The catalog as `open_catalog` makes it, with the parts that a test chooses."""

    def find_owner(name: str) -> str | None:
        account = people.directory.find_principal(name)
        return account.name if account else None

    return CatalogService(
        database,
        storages=storages or ConfiguredStorages(S3Settings()),
        storage_root=storage_root or (data_dir / "tables").as_uri(),
        private_locations=[str(data_dir)],
        find_owner=find_owner,
    )


def build_site(people: People, catalog: CatalogService, *, s3: S3Settings | None = None) -> tuple[Any, Files]:
    """The application, with identity's routes beside the catalog's, and its files."""
    app = FastAPI()
    install_error_handlers(app)
    oauth = OAuthService(catalog.database, people.signer, people.identity)
    app.include_router(identity_routes.router(people.identity, people.directory, people.custody, oauth))
    files = Files(catalog, catalog.database)
    app.include_router(
        routes.router(
            catalog,
            files,
            signer=people.signer,
            workspace_id=people.directory.workspace_id(),
            s3=s3 or S3Settings(),
        )
    )
    app.include_router(access_router(catalog.grants, catalog.finders(), catalog.narrowed))
    return guarded(app, identity=people.identity), files


@pytest.fixture(scope="session", params=BACKENDS)
def database(
    request: pytest.FixtureRequest, databases: Databases, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Database]:
    """A database of each kind, kept for the session; each test leaves it as it was (see `catalog`)."""
    with databases.new(request.param, tmp_path_factory.mktemp("catalog")) as database:
        yield database


@pytest.fixture(scope="session")
def people(database: Database) -> People:
    """An administrator and two users."""
    return build_people(database)


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """A data directory."""
    path = tmp_path / "data"
    path.mkdir()
    return path


@pytest.fixture
def catalog(database: Database, people: People, data_dir: Path) -> Iterator[CatalogService]:
    """The catalog as it is in the beginning, with a data directory of the test's own."""
    yield build_catalog(database, people, data_dir)
    with database.write() as connection:
        for table in (tables, dropped_tables, volumes, functions, models, staged, purges, uploads, tags, policies):
            connection.execute(delete(table))
        connection.execute(delete(tag_policies).where(tag_policies.c.key.not_like("system.%")))
        built_in = select(catalogs.c.id).where(catalogs.c.name.in_(["main", "system"]))
        connection.execute(delete(schemas).where(schemas.c.catalog_id.not_in(built_in)))
        connection.execute(delete(catalogs).where(catalogs.c.name.not_in(["main", "system"])))


@pytest.fixture
def site(people: People, catalog: CatalogService) -> Iterator[Site]:
    """The catalog's routes, served."""
    app, files = build_site(people, catalog)
    with served(app) as url:
        yield Site(url=url, people=people, catalog=catalog, files=files)


def make_table(catalog: CatalogService, who: Principal, name: str, **options: Any) -> Table:
    """A managed table of two columns."""
    staged = catalog.stage_table(who, ObjectName.parse(name))
    return catalog.register_table(who, staged, [LONG, TEXT], TableType.MANAGED, **options)
