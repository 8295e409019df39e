"""A user who types commands, on a real catalog over a real database, for the tests."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake
from tests.catalog.conftest import People, build_catalog, build_people
from tests.databases import Databases

from millpond.catalog.domain import Table
from millpond.catalog.service import CatalogService
from millpond.engine.commands import CommandContext, execute
from millpond.engine.errors import SparkError
from millpond.engine.statements import parse_command


@dataclass
class FakeSession:
    """The part of a gateway's session that commands use."""

    current_catalog: str = "main"
    current_schema: str = "default"
    settings: dict[str, str] = field(default_factory=dict)
    temp_views: dict[str, bytes] = field(default_factory=dict)

    def setting(self, key: str) -> str | None:
        return self.settings.get(key)


@dataclass(frozen=True)
class Sql:
    """Runs statements as somebody."""

    context: CommandContext
    people: People

    def __call__(self, text: str) -> pa.Table:
        command = parse_command(text)
        assert command is not None, f"not a command: {text}"
        return execute(command, self.context)

    def rows(self, text: str) -> list[tuple[Any, ...]]:
        return [tuple(row.values()) for row in self(text).to_pylist()]

    def refuses(self, text: str, error_class: str) -> None:
        with pytest.raises(SparkError) as caught:
            self(text)
        assert caught.value.error_class == error_class, str(caught.value)

    def as_bob(self) -> "Sql":
        return replace(self, context=replace(self.context, principal=self.people.bob))

    def table(self, name: str) -> Table:
        full = self.context.object_name(tuple(name.split(".")))
        return self.context.catalog.get_table(self.context.principal, full)

    def delta(self, name: str) -> DeltaTable:
        return DeltaTable(self.table(name).storage_location)

    def insert(self, name: str, **columns: list[Any]) -> None:
        """Append rows as another engine would."""
        table = self.delta(name)
        schema = pa.schema(table.schema().to_arrow())
        rows = pa.table({key: pa.array(values, schema.field(key).type) for key, values in columns.items()})
        write_deltalake(table, rows, mode="append")

    def select(self, name: str) -> list[dict[str, Any]]:
        return pa.table(self.delta(name).scan().read_all()).to_pylist()


@contextmanager
def open_room(backend: str, databases: Databases, data_dir: Path) -> Iterator[tuple[CatalogService, People]]:
    """One catalog service over one kind of database; each test makes a catalog of its own in it."""
    with databases.new(backend, data_dir) as database:
        people = build_people(database)
        yield build_catalog(database, people, data_dir), people


@contextmanager
def signed_in(room: tuple[CatalogService, People]) -> Iterator[Sql]:
    """Alice, in an empty catalog of her own with an empty schema."""
    catalog, people = room
    made = Sql(CommandContext(principal=people.alice, catalog=catalog, session=FakeSession()), people)
    for statement in ("CREATE CATALOG shop COMMENT 'mine'", "USE CATALOG shop", "CREATE SCHEMA sales", "USE sales"):
        made(statement)
    yield made
    made("DROP CATALOG IF EXISTS shop CASCADE")


ORDERS = """CREATE TABLE orders (
    id BIGINT NOT NULL COMMENT 'the key', day DATE, amount DECIMAL(10,2) DEFAULT 1.5, note VARCHAR(20),
    CONSTRAINT positive CHECK (ID > 0)) PARTITIONED BY (day) COMMENT 'all orders' TBLPROPERTIES ('team' = 'risk')"""
