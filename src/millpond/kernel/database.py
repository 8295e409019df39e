"""The metadata database: SQLite (WAL) by default, PostgreSQL to scale; SQLAlchemy Core, short transactions.

`write()` gives one transaction that is committed when the block ends and rolled back when it raises. A write on SQLite
begins IMMEDIATE, so that read-then-write cannot lose updates; on PostgreSQL a read-then-write takes `FOR UPDATE` or is
one `UPDATE ... RETURNING`. No network, file or engine I/O belongs inside a write transaction. `read()` is for what only
reads: one snapshot on SQLite, on PostgreSQL what is committed when each statement begins.
"""

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    ColumnElement,
    Connection,
    Engine,
    MetaData,
    Text,
    bindparam,
    create_engine,
    event,
    exc,
    types,
)
from sqlalchemy.dialects import postgresql
from sqlalchemy.engine import Dialect, make_url
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

from millpond.kernel.errors import InvalidArgument

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)
"""Every room's tables; each name starts with its room (`catalog_tables`), because MLflow's tables live beside them."""

Json = types.JSON().with_variant(postgresql.JSONB(), "postgresql")
"""A JSON document: JSONB on PostgreSQL, text on SQLite."""

BigId = BigInteger().with_variant(types.Integer(), "sqlite")
"""A 64-bit number that the database may assign (SQLite assigns only to INTEGER PRIMARY KEY)."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_SQLITE_BUSY_TIMEOUT_MS = 30_000
_KEPT_CONNECTIONS = 20
_ROWS_TO_ANALYSE = 1000
_TRUSTED_S = 1.0
"""A connection to PostgreSQL that was used so lately is not asked whether it still stands."""


class UtcDateTime(types.TypeDecorator[datetime]):
    """An aware UTC datetime, stored as microseconds since 1970 so that both databases keep it exactly."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> int | None:
        """Microseconds for the database."""
        return None if value is None else (value - _EPOCH) // _MICROSECOND

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        """The datetime of a stored value."""
        return None if value is None else _EPOCH + int(value) * _MICROSECOND


class Database:
    """One engine, two ways in. `url` is `sqlite:///path` or `postgresql://user@host/name`."""

    def __init__(self, url: str) -> None:
        self.url = driver_url(url)
        self.is_sqlite = self.url.startswith("sqlite")
        self._tended_pages = 0
        self.engine: Engine = _sqlite_engine(self.url) if self.is_sqlite else _postgres_engine(self.url)
        self.reading: Engine = self.engine if self.is_sqlite else _without_transactions(self.engine)
        """The same connections, for what only reads."""

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A connection that only reads."""
        with self.reading.connect() as connection, connection.begin():
            yield connection

    @property
    def is_at_hand(self) -> bool:
        """Whether a short read waits for nothing: of SQLite, while there are connections."""
        return self.is_sqlite and self.engine.pool.checkedout() < _KEPT_CONNECTIONS  # type: ignore[attr-defined]

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction that may write, committed when the block ends."""
        with self.engine.connect() as connection:
            if self.is_sqlite:
                connection.execution_options(millpond_begin="BEGIN IMMEDIATE")
            with connection.begin():
                yield connection

    def tend(self) -> None:
        """Tell SQLite's planner of tables when the file has grown by a quarter; PostgreSQL sees to it by itself."""
        if not self.is_sqlite:
            return
        with self.write() as connection:
            pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
            if pages > 1.25 * self._tended_pages:
                connection.exec_driver_sql(f"PRAGMA analysis_limit = {_ROWS_TO_ANALYSE}")
                connection.exec_driver_sql("ANALYZE")
                self._tended_pages = pages

    def dispose(self) -> None:
        """Close every pooled connection."""
        self.engine.dispose()


def driver_url(url: str) -> str:
    """The URL with the driver that we install: psycopg 3 for every spelling of PostgreSQL."""
    parsed = make_url(url)
    if parsed.drivername in {"postgresql", "postgres", "postgresql+psycopg"}:
        parsed = parsed.set(drivername="postgresql+psycopg")
    elif parsed.drivername not in {"sqlite", "sqlite+pysqlite"}:
        raise InvalidArgument(
            f"Database '{parsed.drivername}' is not supported; use sqlite:///PATH or postgresql://..."
        )
    return parsed.render_as_string(hide_password=False)


def sqlite_path(url: str) -> Path | None:
    """The file of an SQLite URL, or None for PostgreSQL."""
    parsed = make_url(url)
    return Path(parsed.database) if parsed.drivername.startswith("sqlite") and parsed.database else None


def _sqlite_engine(url: str) -> Engine:
    engine = create_engine(url, connect_args={"check_same_thread": False}, pool_size=_KEPT_CONNECTIONS, max_overflow=40)

    @event.listens_for(engine, "connect")
    def _configure(dbapi_connection: Any, _record: Any) -> None:
        dbapi_connection.isolation_level = None  # transactions are begun by _begin, not guessed by the driver
        cursor = dbapi_connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout = {_SQLITE_BUSY_TIMEOUT_MS}")
        cursor.execute("PRAGMA journal_mode = WAL")
        cursor.execute("PRAGMA synchronous = FULL")  # acknowledged means on disk, also after a power cut
        cursor.execute("PRAGMA foreign_keys = ON")
        cursor.close()
        dbapi_connection.create_function("fold", 1, _fold, deterministic=True)

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        connection.exec_driver_sql(connection.get_execution_options().get("millpond_begin", "BEGIN"))

    return engine


class folded(FunctionElement[str]):
    """A text in lower case, as `str.lower` makes it; SQLite's own `lower` knows ASCII only."""

    inherit_cache = True
    type = types.Text()


@compiles(folded, "sqlite")
def _fold_on_sqlite(element: folded, compiler: Any, **options: Any) -> str:
    return f"fold({compiler.process(element.clauses, **options)})"


@compiles(folded, "postgresql")
def _fold_on_postgresql(element: folded, compiler: Any, **options: Any) -> str:
    return f"lower({compiler.process(element.clauses, **options)})"


class json_lists(FunctionElement[Any]):
    """All rows as one JSON list with a list of the given columns for each; None or empty where there is no row."""

    inherit_cache = True
    type = types.JSON()


@compiles(json_lists, "sqlite")
def _json_lists_on_sqlite(element: json_lists, compiler: Any, **options: Any) -> str:
    return f"json_group_array(json_array({compiler.process(element.clauses, **options)}))"


@compiles(json_lists, "postgresql")
def _json_lists_on_postgresql(element: json_lists, compiler: Any, **options: Any) -> str:
    return f"json_agg(json_build_array({compiler.process(element.clauses, **options)}))"


class _Among(FunctionElement[bool]):
    """Whether a column is one of the texts of a JSON array: one parameter for any number of ids."""

    inherit_cache = True
    type = Boolean()


@compiles(_Among, "sqlite")
def _among_on_sqlite(element: _Among, compiler: Any, **options: Any) -> str:
    column, ids = (compiler.process(each, **options) for each in element.clauses)
    return f"{column} IN (SELECT value FROM json_each({ids}))"  # noqa: S608 - both are SQLAlchemy's


@compiles(_Among, "postgresql")
def _among_on_postgresql(element: _Among, compiler: Any, **options: Any) -> str:
    column, ids = (compiler.process(each, **options) for each in element.clauses)
    return f"{column} IN (SELECT jsonb_array_elements_text(CAST({ids} AS JSONB)))"


def among(column: ColumnElement[Any], ids: Sequence[str]) -> ColumnElement[bool]:
    """Whether a column is one of many ids."""
    return _Among(column, bindparam(None, json.dumps(ids), type_=Text))


def _fold(text: str | None) -> str | None:
    return None if text is None else text.lower()


def _postgres_engine(url: str) -> Engine:
    # the connection used last has the most statements prepared
    engine = create_engine(url, pool_size=10, max_overflow=20, pool_use_lifo=True)

    @event.listens_for(engine, "checkin")
    def _note(_dbapi_connection: Any, record: Any) -> None:
        record.info["used_s"] = time.monotonic()

    @event.listens_for(engine, "checkout")
    def _ask(dbapi_connection: Any, record: Any, _proxy: Any) -> None:
        idle_s = time.monotonic() - record.info.get("used_s", time.monotonic())
        if idle_s > _TRUSTED_S and not _stands(engine, dbapi_connection):
            raise exc.InvalidatePoolError  # all of them are made anew, this one at once

    return engine


def _stands(engine: Engine, dbapi_connection: Any) -> bool:
    try:
        return engine.dialect.do_ping(dbapi_connection)
    except engine.dialect.loaded_dbapi.Error:
        return False


def _without_transactions(engine: Engine) -> Engine:
    """READ COMMITTED gives each statement a snapshot of its own anyway; BEGIN and COMMIT are two more round trips."""
    return engine.execution_options(isolation_level="AUTOCOMMIT")
