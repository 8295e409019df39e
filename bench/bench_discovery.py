"""What a search costs over 10,000 tables of ten columns with comments and tags: for all, and for who sees one in ten.

The peer of each search is the first page of a listing of the same schema.
"""

import random
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from sqlalchemy import insert
from tests.postgres import fresh_database, postgres_server

from bench.report import heading, median, row
from millpond.catalog.domain import Column, Schema, SchemaName
from millpond.catalog.search import Wanted
from millpond.catalog.service import open_catalog
from millpond.catalog.service.base import new_values
from millpond.catalog.store.rows import columns_values
from millpond.catalog.store.schema import tables, tags
from millpond.identity.domain import SYSTEM, Grants, Principal, PrincipalKind
from millpond.identity.privileges import Privilege
from millpond.kernel.clock import utc_now
from millpond.kernel.database import Database
from millpond.kernel.migrations import ensure_schema
from millpond.kernel.settings import Settings

TABLES, CALLS = 10_000, 30
PLACE = SchemaName("big", "all")
_WORDS = [f"{first}{last}" for first in ("order", "client", "price", "visit", "stock", "claim", "route", "batch")
          for last in ("", "s", "_id", "_date", "_sum", "_name", "_kind", "_code")]  # fmt: skip
ADMIN = Principal(id="1", name="admin@example.com", kind=PrincipalKind.USER, groups=frozenset(), is_admin=True)


def main() -> None:
    """On SQLite and on PostgreSQL."""
    with tempfile.TemporaryDirectory() as directory:
        _measure("SQLite", f"sqlite:///{directory}/millpond.db", Path(directory))
    with postgres_server() as server, fresh_database(server) as url, tempfile.TemporaryDirectory() as directory:
        _measure("PostgreSQL", url, Path(directory))


def _measure(kind: str, url: str, directory: Path) -> None:
    database = Database(url)
    ensure_schema(database)
    catalog = open_catalog(database, Settings(data_dir=directory), lambda name: name)
    catalog.create_catalog(ADMIN, name=PLACE.catalog)
    schema = catalog.create_schema(ADMIN, catalog=PLACE.catalog, name=PLACE.schema)
    ids = _fill(database, schema.id)
    reader = _reader(ids[::10], schema)
    heading(f"Search on {kind}: {TABLES} tables (median of {CALLS})")
    peer = _median_ms(lambda: catalog.list_tables(ADMIN, PLACE, max_results=20))
    for name, wanted in (
        ("a name", Wanted(text="t0999")),
        ("a word of many columns and comments", Wanted(text="order")),
        ("two words, one in a tag", Wanted(text="client_id gold")),
        ("a word that is nowhere", Wanted(text="zebra")),
        ("a tag", Wanted(tag="tier=gold")),
    ):
        for who, words in ((ADMIN, "all"), (reader, "one in ten")):
            row(f"{name}, {words}", _median_ms(lambda w=wanted, p=who: catalog.search(p, w)), peer, "ms")
    database.dispose()


def _fill(database: Database, schema_id: str) -> list[str]:
    chance = random.Random(1)
    rows = []
    for number in range(TABLES):
        columns = [
            Column(name=name, type_text="string", type_json='"string"', position=at, comment=_sentence(chance))
            for at, name in enumerate(chance.sample(_WORDS, 10))
        ]
        rows.append(
            new_values(SYSTEM, f"t{number:05}_{chance.choice(_WORDS)}", _sentence(chance))
            | {"schema_id": schema_id, "table_type": "MANAGED", "data_source_format": "DELTA", "properties": {},
               "storage_location": f"file:///nowhere/{number}", "view_definition": None, "constraints": []}
            | columns_values(columns)
        )  # fmt: skip
    ids = [each["id"] for each in rows]
    told = {"column_key": "", "key": "tier", "updated_at": utc_now(), "updated_by": "bench"}
    with database.write() as connection:
        connection.execute(insert(tables), rows)
        connection.execute(
            insert(tags), [told | {"object_id": each, "value": chance.choice(("gold", "silver"))} for each in ids[::5]]
        )
    return ids


def _sentence(chance: random.Random) -> str:
    return " ".join(chance.choices(_WORDS, k=8)).replace("_", " ")


def _reader(ids: list[str], schema: Schema) -> Principal:
    """Somebody with grants on some of the tables."""
    held = [("table", each, Privilege.SELECT) for each in ids]
    held += [("schema", schema.id, Privilege.USE_SCHEMA), ("catalog", schema.catalog_id, Privilege.USE_CATALOG)]
    return Principal(
        id="2", name="reader@example.com", kind=PrincipalKind.USER, groups=frozenset(), is_admin=False,
        grants=Grants(held),
    )  # fmt: skip


def _median_ms(act: Callable[[], object]) -> float:
    times = []
    for _ in range(CALLS):
        began = time.perf_counter()
        act()
        times.append((time.perf_counter() - began) * 1000)
    return median(times)


if __name__ == "__main__":
    main()
