"""Online tables are what their Delta tables say, whatever happened to either in between."""

import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import deltalake
import pyarrow as pa
import pytest

from millpond.online.backends.port import Backend
from millpond.online.domain import Wanted
from millpond.online.publishing import publish
from millpond.online.source import Source

START = datetime(2026, 1, 1, tzinfo=UTC)
NOW = datetime(2026, 6, 1, tzinfo=UTC)
ENTITIES = Wanted(keys=("id",))
SERIES = Wanted(keys=("id",), time="ts")


class Table:
    """A Delta table that is published as `t`."""

    def __init__(self, path: Path, wanted: Wanted) -> None:
        self.source = Source(location=str(path))
        self.wanted = wanted

    def write(self, rows: list[dict[str, Any]], mode: Any = "append", **options: Any) -> None:
        """Commit rows."""
        schema = pa.schema([("id", pa.int64()), ("ts", pa.timestamp("us", "UTC")), ("v", pa.string())])
        deltalake.write_deltalake(self.source.location, pa.Table.from_pylist(rows, schema), mode=mode, **options)

    def merge(self, rows: list[dict[str, Any]]) -> None:
        """Upsert rows by id and time."""
        table = deltalake.DeltaTable(self.source.location)
        given = pa.Table.from_pylist(rows, schema=pa.schema(table.schema().to_arrow()))
        on = "s.id = t.id and s.ts = t.ts"
        merged = table.merge(given, on, source_alias="s", target_alias="t")
        merged.when_matched_update_all().when_not_matched_insert_all().execute()

    def delete(self, condition: str) -> None:
        """Delete rows."""
        deltalake.DeltaTable(self.source.location).delete(condition)

    def truth(self) -> dict[int, Any]:
        """By id the newest row, worked out in plain Python."""
        found: dict[int, Any] = {}
        for row in deltalake.DeltaTable(self.source.location).to_pyarrow_table().to_pylist():
            best = found.get(row["id"])
            if row["id"] is not None and (best is None or _order(row) > _order(best)):
                found[row["id"]] = row
        return {key: row["v"] for key, row in found.items()}

    def online(self, backend: Backend, ids: range = range(60)) -> dict[int, Any]:
        """By id what is online."""
        state, _ = backend.read("t", [])
        assert state is not None
        _, rows = backend.read("t", [state.shape.key({"id": number}) for number in ids])
        values = {number: state.shape.values(row, NOW) for number, row in zip(ids, rows, strict=True) if row}
        return {number: row["v"] for number, row in values.items() if row is not None}

    def publish(self, backend: Backend) -> Any:
        """One round, after which both agree."""
        outcome = publish(self.source, self.wanted, backend, "t")
        assert self.online(backend) == self.truth()
        return outcome


def _order(row: dict[str, Any]) -> tuple[Any, ...]:
    return row["ts"], row["v"] is not None, row["v"] or ""


def row(number: int | None, day: int = 0, value: str | None = "a") -> dict[str, Any]:
    """A row of the table."""
    return {"id": number, "ts": START + timedelta(days=day), "v": value}


@pytest.fixture
def entities(tmp_path: Path) -> Table:
    """One row for each key."""
    return Table(tmp_path / "entities", ENTITIES)


@pytest.fixture
def series(tmp_path: Path) -> Table:
    """Rows of several times for each key."""
    return Table(tmp_path / "series", SERIES)


def test_the_first_round_writes_all(entities: Table, backend: Backend) -> None:
    entities.write([row(1), row(2, value=None), row(None)])
    outcome = entities.publish(backend)
    assert (outcome.version, outcome.changed, outcome.anew) == (0, 2, True)
    again = entities.publish(backend)
    assert (again.changed, again.anew) == (0, False)


def test_later_rounds_write_what_changed(entities: Table, backend: Backend) -> None:
    entities.write([row(number) for number in range(50)])
    entities.publish(backend)
    entities.write([row(50, value="new")])
    assert entities.publish(backend).changed == 1
    entities.merge([row(3, value="b"), row(51)])
    assert entities.publish(backend).changed == 2
    entities.delete("id in (4, 5)")
    assert entities.publish(backend).changed == 2
    deltalake.DeltaTable(entities.source.location).optimize.compact()
    outcome = entities.publish(backend)
    assert (outcome.changed, outcome.anew) == (0, False)


def test_of_several_times_the_newest_counts(series: Table, backend: Backend) -> None:
    series.write([row(1, 1, "a"), row(1, 3, "c"), row(2, 1, "a")])
    series.publish(backend)
    series.write([row(1, 2, "late"), row(2, 2, "b"), row(3, 1, "a")])
    assert series.publish(backend).changed == 2, "late data changes nothing"
    series.delete("id = 1 and v = 'c'")
    series.publish(backend)
    assert series.online(backend)[1] == "late"
    series.write([row(2, 2, "z"), row(2, 2, None)])
    series.publish(backend)
    assert series.online(backend)[2] == "z", "as the point-in-time join takes it"
    series.delete("id = 3")
    series.publish(backend)
    assert 3 not in series.online(backend)


@pytest.mark.parametrize("seed", range(3))
def test_whatever_is_done_both_agree(series: Table, backend: Backend, seed: int) -> None:
    chance = random.Random(seed)

    def some() -> list[dict[str, Any]]:
        pairs = {(chance.randrange(20), chance.randrange(6)) for _ in range(8)}
        return [row(number, day, chance.choice("abc")) for number, day in sorted(pairs)]

    series.write(some())
    acts: list[Callable[[], None]] = [
        lambda: series.write(some()),
        lambda: series.merge([row(20 + chance.randrange(5), 1)]),
        lambda: series.delete(f"id % 7 = {chance.randrange(7)}"),
        lambda: series.write(some(), mode="overwrite"),
        lambda: deltalake.DeltaTable(series.source.location).optimize.compact() and None,
    ]
    for _ in range(12):
        for _ in range(chance.randrange(1, 4)):
            chance.choice(acts)()
        series.publish(backend)


def test_a_log_that_no_longer_reaches_back_is_published_anew(entities: Table, backend: Backend) -> None:
    entities.write([row(1), row(2)])
    entities.publish(backend)
    entities.write([row(2, value="b"), row(3)], mode="overwrite")
    entities.write([row(4)])
    table = deltalake.DeltaTable(entities.source.location)
    table.vacuum(retention_hours=0, enforce_retention_duration=False, dry_run=False)
    assert entities.publish(backend).anew


def test_partitioned_tables_are_followed_too(entities: Table, backend: Backend) -> None:
    entities.write([row(1, value="a"), row(2, value="b"), row(3, value="b")], partition_by=["v"])
    entities.publish(backend)
    entities.write([row(4, value="c")])
    entities.merge([row(3, value="c")])
    entities.delete("v = 'a'")
    outcome = entities.publish(backend)
    assert (outcome.changed, outcome.anew) == (3, False)


def test_columns_may_come(entities: Table, backend: Backend) -> None:
    entities.write([row(1)])
    entities.publish(backend)
    more = pa.Table.from_pylist([{"id": 2, "ts": START, "v": "x", "n": 5}])
    deltalake.write_deltalake(entities.source.location, more, mode="append", schema_mode="merge")
    assert entities.publish(backend).anew
    state, rows = backend.read("t", [])
    assert state is not None
    _, rows = backend.read("t", [state.shape.key({"id": 2}), state.shape.key({"id": 1})])
    assert [state.shape.values(each, NOW)["n"] for each in rows if each] == [5, None]  # type: ignore[index]


def test_every_type_comes_back_as_it_was(tmp_path: Path, backend: Backend) -> None:
    values = {
        "k": "ключ", "d": NOW.date(), "i": -(2**40), "s": 7, "f": 0.1, "b": True, "t": NOW, "n": Decimal("12.50"),
        "bytes": b"\x00\xff", "list": [1, 2], "none": None,
    }  # fmt: skip
    schema = pa.schema(
        [("k", pa.string()), ("d", pa.date32()), ("i", pa.int64()), ("s", pa.int16()), ("f", pa.float64()),
         ("b", pa.bool_()), ("t", pa.timestamp("us", "UTC")), ("n", pa.decimal128(10, 2)), ("bytes", pa.binary()),
         ("list", pa.list_(pa.int64())), ("none", pa.string())]
    )  # fmt: skip
    deltalake.write_deltalake(str(tmp_path / "types"), pa.Table.from_pylist([values], schema))
    publish(Source(location=str(tmp_path / "types")), Wanted(keys=("k", "d")), backend, "t")
    state, _ = backend.read("t", [])
    assert state is not None
    _, rows = backend.read("t", [state.shape.key({"k": "ключ", "d": "2026-06-01"})])
    assert rows[0] is not None
    assert state.shape.values(rows[0], NOW) == {name: v for name, v in values.items() if name not in {"k", "d"}}


def test_rows_end_with_their_time_to_live(tmp_path: Path, backend: Backend) -> None:
    table = Table(tmp_path / "ttl", Wanted(keys=("id",), time="ts", ttl_s=86_400.0))
    table.write([row(1, 0), row(2, 5)])
    publish(table.source, table.wanted, backend, "t")
    state, _ = backend.read("t", [])
    assert state is not None
    _, rows = backend.read("t", [state.shape.key({"id": number}) for number in (1, 2)])
    at = START + timedelta(days=5, hours=1)
    assert [state.shape.values(each, at) is not None for each in rows if each] == [False, True]
