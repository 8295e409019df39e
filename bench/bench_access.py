"""What grants cost with 10,000 tables, 1,000 users, 200 groups and 50,000 grants: a check, a credential, a list.

The peer of each call is the same call by an administrator, for whom grants do not count.
"""

import random
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from sqlalchemy import insert
from tests.postgres import fresh_database, postgres_server

from bench.report import heading, line, median, row
from millpond.catalog.domain import ObjectName, SchemaName
from millpond.catalog.search import Wanted
from millpond.catalog.service import CatalogService, open_catalog
from millpond.catalog.service.base import new_values
from millpond.catalog.store.schema import tables
from millpond.identity.access import Act, allows
from millpond.identity.credentials import Signer, new_secret
from millpond.identity.custody import CustodyService
from millpond.identity.directory import DirectoryService
from millpond.identity.domain import SYSTEM, Draft, Principal, PrincipalKind
from millpond.identity.grants import Change
from millpond.identity.privileges import Privilege
from millpond.identity.service import IdentityService
from millpond.identity.store.grants import grants
from millpond.identity.store.groups import join
from millpond.identity.store.tables import principals
from millpond.kernel.clock import utc_now
from millpond.kernel.database import Database
from millpond.kernel.migrations import ensure_schema
from millpond.kernel.settings import Settings

TABLES, USERS, GROUPS, GRANTS = 10_000, 1_000, 200, 50_000
MEMBERSHIPS = 5
CALLS = 200
PLACE = SchemaName("big", "all")


def main() -> None:
    """On SQLite and on PostgreSQL."""
    with tempfile.TemporaryDirectory() as directory:
        _measure("SQLite", f"sqlite:///{directory}/millpond.db", Path(directory))
    with postgres_server() as server, fresh_database(server) as url, tempfile.TemporaryDirectory() as directory:
        _measure("PostgreSQL", url, Path(directory))


def _measure(kind: str, url: str, directory: Path) -> None:
    world = _World(url, directory)
    heading(f"Access on {kind}: {TABLES} tables, {USERS} users, {GROUPS} groups, {GRANTS} grants (median of {CALLS})")
    _checks(world)
    _credentials(world)
    _lists(world)
    world.database.dispose()


class _World:
    """The services over one database that is full."""

    def __init__(self, url: str, directory: Path) -> None:
        self.chance = random.Random(1)
        self.database = Database(url)
        ensure_schema(self.database)
        self.identity = IdentityService(self.database, Signer(b"0123456789abcdef0123456789abcdef"))
        self.admin_token = new_secret()
        self.identity.bootstrap("admin@example.com", password="correct horse battery", secret=self.admin_token)
        self.admin = self.identity.authenticate(self.admin_token)
        directory_service = DirectoryService(self.database)
        self.catalog: CatalogService = open_catalog(
            self.database, Settings(data_dir=directory), directory_service.find_exact_name
        )
        self._fill(directory_service)

    def _fill(self, directory: DirectoryService) -> None:
        self.catalog.create_catalog(self.admin, name=PLACE.catalog)
        schema = self.catalog.create_schema(self.admin, catalog=PLACE.catalog, name=PLACE.schema)
        ids = self._insert_tables(schema.id)
        groups = [_account(directory, self.admin, PrincipalKind.GROUP, f"g{number}") for number in range(GROUPS)]
        users = self._insert_users()
        with self.database.write() as connection:
            for user in users:
                for group in self.chance.sample(groups, MEMBERSHIPS):
                    join(connection, group, [user])
            rows = {
                (self.chance.choice(ids), int(self.chance.choice(groups + users)), self.chance.choice(_ON_TABLES).value)
                for _ in range(GRANTS)
            }
            connection.execute(insert(grants), [_grant_row(*each) for each in rows])
        way_in = frozenset({Privilege.USE_CATALOG, Privilege.USE_SCHEMA})
        self.catalog.change_grants(self.admin, "catalog", PLACE.catalog, [Change(grantee="users", add=way_in)])
        wide = Change(grantee="u1@example.com", add=frozenset({Privilege.SELECT}))
        self.catalog.change_grants(self.admin, "schema", str(PLACE), [wide])
        custody = CustodyService(self.database)
        self.tokens = [
            custody.create_token_for(self.admin, f"u{number}@example.com", kind=PrincipalKind.USER)[1]
            for number in range(20)
        ]

    def _insert_tables(self, schema_id: str) -> list[str]:
        rows = []
        for number in range(TABLES):
            rows.append(
                new_values(SYSTEM, f"t{number:05}", None)
                | {"schema_id": schema_id, "table_type": "MANAGED", "data_source_format": "DELTA",
                   "storage_location": f"file:///nowhere/{number}", "columns": [_COLUMN] * 10,
                   "column_words": "a\n" * 10, "properties": {}, "view_definition": None, "constraints": []}
            )  # fmt: skip
        with self.database.write() as connection:
            connection.execute(insert(tables), rows)
        return [each["id"] for each in rows]

    def _insert_users(self) -> list[str]:
        rows = [
            {"kind": "user", "name": f"u{number}@example.com", "name_key": f"u{number}@example.com",
             "display_name": f"u{number}", "display_key": f"u{number}", "active": True, "profile": {},
             "created_at": utc_now()}
            for number in range(USERS)
        ]  # fmt: skip
        with self.database.write() as connection:
            return [
                str(each) for each in connection.execute(insert(principals).returning(principals.c.id), rows).scalars()
            ]

    def who(self, number: int) -> Principal:
        return self.identity.authenticate(self.tokens[number])


_ON_TABLES = (Privilege.SELECT, Privilege.MODIFY, Privilege.APPLY_TAG, Privilege.MANAGE)
_COLUMN = {"name": "a", "type_text": "bigint", "type_json": '"long"', "nullable": True, "comment": None, "position": 0,
           "partition_index": None}  # fmt: skip


def _account(directory: DirectoryService, admin: Principal, kind: PrincipalKind, name: str) -> str:
    return directory.create(admin, kind, Draft(name=name, display_name=name)).account.id


def _grant_row(securable_id: str, grantee_id: int, privilege: str) -> dict[str, Any]:
    return {"securable_id": securable_id, "grantee_id": grantee_id, "privilege": privilege, "securable_kind": "table",
            "granted_by": "bench", "granted_at": utc_now()}  # fmt: skip


def _checks(world: _World) -> None:
    found = world.catalog.list_tables(world.admin, PLACE, max_results=1000).items
    who = world.who(2)
    line("a check (allows)", _median_ms(lambda n: allows(who, Act.WRITE, found[n].securable)), "ms", goal="goal < 0.2")


def _credentials(world: _World) -> None:
    def renew(number: int) -> None:
        world.identity._snapshots._kept.clear()
        world.who(number % 20)

    ours = _median_ms(lambda number: world.who(number % 20))
    peer = _median_ms(lambda _: world.identity.authenticate(world.admin_token))
    row("authenticate, grants as they were", ours, peer, "ms")
    row("authenticate, first after a grant changed", _median_ms(renew), peer, "ms")


def _lists(world: _World) -> None:
    def page(who: Principal) -> Callable[[int], object]:
        return lambda _: world.catalog.list_tables(who, PLACE, max_results=100)

    peer = _median_ms(page(world.admin))
    row("first page, SELECT on the schema", _median_ms(page(world.who(1))), peer, "ms", goal="goal < 50 ms")
    row("first page, grants on some tables", _median_ms(page(world.who(2))), peer, "ms", goal="goal < 50 ms")
    last = ObjectName(PLACE.catalog, PLACE.schema, "t09999")
    name = world.who(3).name
    with world.database.write() as connection:
        connection.execute(grants.delete().where(grants.c.privilege.in_([each.value for each in _ON_TABLES])))
    change = Change(grantee=name, add=frozenset({Privilege.SELECT}))
    world.catalog.change_grants(world.admin, "table", str(last), [change])
    assert len(world.catalog.list_tables(world.who(3), PLACE, max_results=100).items) == 1
    row("first page, the last table alone", _median_ms(page(world.who(3))), peer, "ms", goal="goal < 50 ms")
    row(
        "search",
        _median_ms(lambda _: world.catalog.search(world.who(3), Wanted(text="t0999"))),
        _median_ms(lambda _: world.catalog.search(world.admin, Wanted(text="t0999"))),
        "ms",
    )


def _median_ms(act: Callable[[int], object]) -> float:
    times = []
    for number in range(CALLS):
        began = time.perf_counter()
        act(number)
        times.append((time.perf_counter() - began) * 1000)
    return median(times)


if __name__ == "__main__":
    main()
