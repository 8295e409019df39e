"""An online store in PostgreSQL: two tables of its own, in any database.

A read is one statement, so it sees one moment.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice

import anyio.to_thread
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from millpond.kernel.database import Database
from millpond.kernel.errors import Unavailable
from millpond.online.backends.port import Change
from millpond.online.domain import Published, decoded

_AT_ONCE = 10_000
_LOCK = 0x6D706F6E  # "mpon": one process at a time makes the tables
_TABLES = (
    """CREATE TABLE IF NOT EXISTS millpond_online_tables (table_id text PRIMARY KEY, generation bigint NOT NULL,
       state bytea NOT NULL)""",
    """CREATE TABLE IF NOT EXISTS millpond_online_rows (table_id text NOT NULL, generation bigint NOT NULL,
       key bytea NOT NULL, value bytea NOT NULL, PRIMARY KEY (table_id, generation, key))""",
)
_PUBLISHED = text("SELECT state FROM millpond_online_tables WHERE table_id = :table")
_PUBLISH = text("""
    INSERT INTO millpond_online_tables VALUES (:table, :generation, :state)
    ON CONFLICT (table_id) DO UPDATE SET generation = excluded.generation, state = excluded.state
""")
_PUT = text("""
    INSERT INTO millpond_online_rows
    SELECT CAST(:table AS text), CAST(:generation AS bigint), *
    FROM unnest(CAST(:keys AS bytea[]), CAST(:rows AS bytea[]))
    ON CONFLICT (table_id, generation, key) DO UPDATE SET value = excluded.value
""")
_TAKE = text("""
    DELETE FROM millpond_online_rows
    WHERE table_id = :table AND generation = :generation AND key = ANY(CAST(:keys AS bytea[]))
""")
_READ = text("""
    SELECT t.state, r.key, r.value FROM millpond_online_tables t
    LEFT JOIN millpond_online_rows r
           ON r.table_id = t.table_id AND r.generation = t.generation AND r.key = ANY(CAST(:keys AS bytea[]))
    WHERE t.table_id = :table
""")
_DROP_ROWS = text("""
    DELETE FROM millpond_online_rows
    WHERE table_id = :table AND (CAST(:generation AS bigint) IS NULL OR generation = :generation)
""")
_DROP_STATE = text("DELETE FROM millpond_online_tables WHERE table_id = :table")


class PostgresBackend:
    """Online tables in a database; `url` as `postgresql://user:password@host/name`."""

    def __init__(self, url: str) -> None:
        self._database = Database(url)
        self._made = False

    def published(self, table: str) -> Published | None:
        """What was published last."""
        with self._transaction() as connection:
            state = connection.execute(_PUBLISHED, {"table": table}).scalar()
        return None if state is None else decoded(bytes(state))

    def write(self, table: str, generation: int, changes: Iterable[Change]) -> int:
        """Set and take away rows, a portion in each transaction."""
        rest, written = iter(changes), 0
        while portion := list(islice(rest, _AT_ONCE)):
            kept = {key: row for key, row in portion if row is not None}
            gone = [key for key, row in portion if row is None]
            place = {"table": table, "generation": generation}
            with self._transaction() as connection:
                connection.execute(_PUT, place | {"keys": list(kept), "rows": list(kept.values())})
                connection.execute(_TAKE, place | {"keys": gone})
            written += len(portion)
        return written

    def publish(self, table: str, state: Published) -> None:
        """Note the state."""
        values = {"table": table, "generation": state.generation, "state": state.encoded()}
        with self._transaction() as connection:
            connection.execute(_PUBLISH, values)

    def drop(self, table: str, generation: int | None = None) -> None:
        """Take away a generation's rows, or all of a table with its mark."""
        with self._transaction() as connection:
            if generation is None:
                connection.execute(_DROP_STATE, {"table": table})
            connection.execute(_DROP_ROWS, {"table": table, "generation": generation})

    def read(self, table: str, keys: Sequence[bytes]) -> tuple[Published | None, list[bytes | None]]:
        """One statement for all keys."""
        with self._transaction() as connection:
            found = connection.execute(_READ, {"table": table, "keys": list(keys)}).all()
        if not found:
            return None, [None] * len(keys)
        rows = {bytes(key): bytes(value) for _state, key, value in found if key is not None}
        return decoded(bytes(found[0].state)), [rows.get(key) for key in keys]

    async def read_async(self, table: str, keys: Sequence[bytes]) -> tuple[Published | None, list[bytes | None]]:
        """A thread waits."""
        return await anyio.to_thread.run_sync(self.read, table, keys)

    async def aclose(self) -> None:
        """Nothing is an event loop's."""

    def close(self) -> None:
        """Close the connections."""
        self._database.dispose()

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        try:
            self._make()
            with self._database.write() as connection:
                yield connection
        except DBAPIError as error:
            raise Unavailable(
                f"The online store in PostgreSQL does not answer: {type(error.orig).__name__}."
            ) from error

    def _make(self) -> None:
        if self._made:
            return
        with self._database.write() as connection:
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
            for statement in _TABLES:
                connection.execute(text(statement))
        self._made = True
