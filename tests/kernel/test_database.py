"""Transactions that neither lose an update nor leave half of one; migrations that several processes may start."""

import multiprocessing
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Column, MetaData, Table, func, insert, select, text, update

import millpond.app  # noqa: F401 - imports every room, so that every table is in the metadata
from millpond.kernel.database import BigId, Database, UtcDateTime, metadata
from millpond.kernel.errors import FailedPrecondition, InvalidArgument
from millpond.kernel.migrations import VERSION_TABLE, current, ensure_schema, head

_counters = Table("counters", MetaData(), Column("value", BigId, nullable=False), Column("at", UtcDateTime))


def test_concurrent_increments_are_all_kept(database: Database) -> None:
    """Read-then-write in `write()` loses none of 200 increments from eight threads."""
    _counters.create(database.engine)
    with database.write() as connection:
        connection.execute(insert(_counters).values(value=0))

    def increment(_: int) -> None:
        with database.write() as connection:
            value = connection.execute(select(_counters.c.value).with_for_update()).scalar_one()
            connection.execute(update(_counters).values(value=value + 1))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(increment, range(200)))
    with database.read() as connection:
        assert connection.execute(select(_counters.c.value)).scalar_one() == 200


def test_a_block_that_raises_leaves_nothing(database: Database) -> None:
    """The rows of a transaction that fails are not there afterwards."""
    _counters.create(database.engine)

    def fail() -> None:
        with database.write() as connection:
            connection.execute(insert(_counters).values(value=1))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    with database.read() as connection:
        assert connection.execute(select(func.count()).select_from(_counters)).scalar_one() == 0


def test_the_planner_of_sqlite_is_told_of_tables_that_have_grown(database: Database) -> None:
    keys = Table("keys", MetaData(), Column("value", BigId, index=True))
    keys.create(database.engine)
    with database.write() as connection:
        connection.execute(insert(keys), [{"value": number} for number in range(5000)])
    database.tend()
    if database.is_sqlite:
        with database.read() as connection:
            known = "SELECT stat FROM sqlite_stat1 WHERE tbl = 'keys'"
            rows = int(connection.execute(text(known)).scalar_one().split()[0])
        assert 4000 < rows < 6000


def test_a_connection_that_postgresql_has_ended_is_made_anew(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a restart of PostgreSQL; only what was used a moment ago is not asked."""
    if database.is_sqlite:
        return
    monkeypatch.setattr("millpond.kernel.database._TRUSTED_S", 0.0)
    theirs = Database(database.url)
    for _ in range(2):
        with database.read() as one, database.write() as other:
            ours = [each.execute(text("SELECT pg_backend_pid()")).scalar_one() for each in (one, other)]
        with theirs.write() as connection:
            connection.execute(text("SELECT pg_terminate_backend(pid, 5000) FROM unnest(:ours) AS pid"), {"ours": ours})
    with database.read() as connection:
        assert connection.execute(text("SELECT 1")).scalar_one() == 1
    theirs.dispose()


def test_a_read_on_postgresql_begins_no_transaction(database: Database) -> None:
    """BEGIN and COMMIT would be half of what a small read costs; on SQLite they make it one snapshot."""
    with database.read() as connection:
        for _ in range(2):
            connection.execute(text("SELECT 1"))
        dbapi = connection.connection.dbapi_connection
        assert dbapi is not None
        began = dbapi.in_transaction if database.is_sqlite else dbapi.info.transaction_status != 0
    assert began == database.is_sqlite


def test_datetimes_come_back_exactly(database: Database) -> None:
    """Microseconds and the zone survive both databases."""
    _counters.create(database.engine)
    moment = datetime(2026, 11, 21, 1, 2, 3, 456789, tzinfo=UTC)
    with database.write() as connection:
        connection.execute(insert(_counters).values(value=1, at=moment))
    with database.read() as connection:
        assert connection.execute(select(_counters.c.at)).scalar_one() == moment


def test_migrations_make_what_the_rooms_declare(database: Database) -> None:
    """The migrated schema has no difference from the tables in the code."""
    with database.read() as connection:
        options = {"include_name": lambda name, kind, _: kind != "table" or name in metadata.tables}
        context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE, **options})
        assert compare_metadata(context, metadata) == []


def _migrate(url: str) -> None:
    ensure_schema(Database(url))


def test_processes_that_start_together_migrate_once(tmp_path: Path) -> None:
    """Four processes find an empty database at once; all of them end at the newest revision."""
    url = f"sqlite:///{tmp_path / 'millpond.db'}"
    context = multiprocessing.get_context("spawn")
    starts = [context.Process(target=_migrate, args=(url,)) for _ in range(4)]
    for process in starts:
        process.start()
    for process in starts:
        process.join()
    assert [process.exitcode for process in starts] == [0, 0, 0, 0]
    assert current(Database(url)) == head()


def test_a_newer_database_is_refused(database: Database) -> None:
    """An older Millpond does not touch what a newer one wrote."""
    with database.write() as connection:
        connection.execute(text(f"UPDATE {VERSION_TABLE} SET version_num = '9999'"))
    with pytest.raises(FailedPrecondition, match="newer than this Millpond"):
        ensure_schema(database)


def test_an_unknown_kind_of_database_is_named() -> None:
    """MySQL is refused in words, not with a missing driver."""
    with pytest.raises(InvalidArgument, match="'mysql' is not supported"):
        Database("mysql://root@localhost/x")
