"""Real Delta tables on disk for the tests, and short ways to look at them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
from deltalake import DeltaTable, Schema, write_deltalake

from millpond.engine.authorship import Author
from millpond.engine.delta import describe
from millpond.engine.delta.table import Storage, fields, open_table
from millpond.engine.syntax.columns import column_type
from millpond.engine.syntax.cursor import Cursor
from millpond.engine.syntax.model import (
    DeltaType,
)
from millpond.engine.types import Field

ANN = Author(id="u-1", name="ann@example.com")


def delta_type(sql: str) -> DeltaType:
    return column_type(Cursor(sql))[0]


def field(name: str, sql_type: str, *, nullable: bool = True, **metadata: str) -> Field:
    return {"name": name, "type": delta_type(sql_type), "nullable": nullable, "metadata": metadata}


Make = Callable[..., Storage]


def table_maker(tmp_path: Path) -> Make:
    """Makes tables below a directory, with the given fields and rows; each row list is one file."""

    def make(*wanted: Field, rows: list[list[dict[str, Any]]] = [], **options: Any) -> Storage:  # noqa: B006
        storage = Storage(url=(tmp_path / f"t{len(list(tmp_path.iterdir()))}").as_uri())
        schema = Schema.from_json(json.dumps({"type": "struct", "fields": list(wanted)}))
        options.setdefault("raise_if_key_not_exists", False)
        table = DeltaTable.create(storage.url, schema, **options)
        for some in rows:
            write_deltalake(
                table, pa.Table.from_pylist(some, schema=pa.schema(table.schema().to_arrow())), mode="append"
            )
        return storage

    return make


def rows_of(storage: Storage) -> list[dict[str, Any]]:
    rows = pa.table(open_table(storage).scan().read_all()).to_pylist()
    return sorted(rows, key=lambda row: str(row.get("id")))


def names_of(storage: Storage) -> list[str]:
    return [one["name"] for one in fields(open_table(storage))]


def newest(storage: Storage) -> dict[str, Any]:
    return describe.history(storage, 1)[0]


def path_of(storage: Storage) -> Path:
    return Path(storage.url.removeprefix("file://"))
