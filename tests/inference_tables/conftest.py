"""A database with a catalog and an inference table, without a server."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from deltalake import DeltaTable

from millpond.catalog.domain import ObjectName, Table
from millpond.catalog.service import CatalogService, open_catalog
from millpond.identity.credentials import Signer, new_secret
from millpond.identity.directory import DirectoryService
from millpond.identity.domain import Draft, Principal, PrincipalKind
from millpond.identity.service import IdentityService
from millpond.inference_tables.captures import InferenceTables
from millpond.inference_tables.committer import Committer
from millpond.inference_tables.making import TableMaker
from millpond.inference_tables.payload_log import PayloadLog
from millpond.kernel.database import Database
from millpond.kernel.settings import InferenceTableSettings, Settings
from millpond.serving.capture import Answered, Asked, AutoCapture
from tests.databases import BACKENDS, Databases

ADMIN = "admin@example.com"


@dataclass(frozen=True, kw_only=True)
class Captured:
    """An inference table of an endpoint, and all that writes to it."""

    data_dir: Path
    database: Database
    catalog: CatalogService
    identity: IdentityService
    admin: Principal

    def captures(self, payload_log: PayloadLog, **settings: Any) -> InferenceTables:
        """What serving is given."""
        maker = TableMaker(self.catalog, Settings().s3)
        return InferenceTables(self.database, payload_log, maker, InferenceTableSettings(**settings))

    def log(self, **options: Any) -> PayloadLog:
        """The payload log, as a server that starts opens it."""
        return PayloadLog(self.data_dir / "payloads", **options)

    def committer(self, payload_log: PayloadLog, compact_every: int = 100) -> Committer:
        """What commits it."""
        return Committer(
            self.database,
            self.catalog,
            payload_log,
            Settings().s3,
            principal_named=self.identity.active_principal,
            compact_every=compact_every,
        )

    def user(self, name: str) -> Principal:
        """Another user, who is no administrator."""
        draft = Draft(name=name, display_name=name, password="initial-password")
        DirectoryService(self.database).create(self.admin, PrincipalKind.USER, draft)
        return self.identity.active_principal(name)

    def table(self, kept: AutoCapture, suffix: str = "") -> Table:
        """In the catalog."""
        name = ObjectName(kept.catalog, kept.schema, f"{kept.prefix}_payload{suffix}")
        return self.catalog.get_table(self.admin, name)

    def rows(self, kept: AutoCapture, suffix: str = "") -> list[dict[str, Any]]:
        """Of the table."""
        return DeltaTable(self.table(kept, suffix).storage_location).to_pyarrow_table().to_pylist()


def wanted(prefix: str = "churn") -> AutoCapture:
    """An inference table in the schema that is there from the start."""
    return AutoCapture(catalog="main", schema="default", prefix=prefix, enabled=True)


def asked(number: int = 0, body: bytes = b'{"inputs": [1]}') -> Asked:
    """A request."""
    return Asked(
        id=f"id-{number}",
        client_id=None,
        requester=ADMIN,
        content_type="application/json",
        body=body,
        time_ms=1_700_000_000_000 + number,
        is_direct=False,
    )


def answered(body: bytes = b'{"predictions": [1]}', status: int = 200) -> Answered:
    """What became of it."""
    return Answered(entity="m", model="main.s.m", version="1", config_version=1, status=status, body=body, seconds=0.01)


@pytest.fixture(params=BACKENDS)
def captured(request: pytest.FixtureRequest, databases: Databases, tmp_path: Path) -> Iterator[Captured]:
    """On each kind of database."""
    with databases.new(request.param, tmp_path) as database:
        yield opened(database, tmp_path)


def opened(database: Database, data_dir: Path) -> Captured:
    """As a server that starts opens all of it."""
    identity = IdentityService(database, Signer(b"k" * 32))
    identity.bootstrap(ADMIN, password="a-long-password", secret=new_secret())
    catalog = open_catalog(database, Settings(data_dir=data_dir), lambda name: name)
    admin = identity.active_principal(ADMIN)
    return Captured(data_dir=data_dir, database=database, catalog=catalog, identity=identity, admin=admin)
