"""Reading online tables: rows by their keys, within microseconds where the store is embedded.

Grants are those of the principal's snapshot. What else decides (the source's owner and guards, where rows are) is
looked up again when the epoch of rights is another one, and after a quarter of a second, should the source be gone.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

import anyio.to_thread

from millpond.billing.metering import Counts
from millpond.catalog.domain import ObjectName, Table
from millpond.catalog.service import CatalogService
from millpond.identity.access import Act, admits, allows, require
from millpond.identity.domain import SYSTEM, Principal
from millpond.kernel.clock import utc_now
from millpond.kernel.database import Database
from millpond.kernel.errors import FailedPrecondition, InvalidArgument, NotFound
from millpond.online import store
from millpond.online.backends.port import ServingBackend
from millpond.online.domain import Published
from millpond.online.stores import Backends
from millpond.online.tables import OnlineTable, State, guarded_text

MOST_KEYS = 1000
FEW_VALUES = 10_000
"""Read and written in less time than others notice to wait."""
_GOOD_FOR_S = 0.25
_MOST_KEPT = 10_000
_MOST_COPIES = 100

Keys = Mapping[str, Any]
Values = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Rows:
    """What was found."""

    rows: tuple[Values | None, ...]
    """In the order of the keys; None where there is no row, or its time to live is over."""
    version: int
    """Of the source, to which they belong."""
    committed_ms: int
    """When the source had that version."""
    online_table: str
    """Where they were found."""

    @property
    def count(self) -> int:
        """How many values there are."""
        return sum(map(len, filter(None, self.rows)))


@dataclass(frozen=True)
class _Standing:
    """What decides about a read, and for how long it is taken for true."""

    table: OnlineTable
    source: Table
    backend: ServingBackend
    epoch: int
    good_until: float

    def is_good(self, principal: Principal) -> bool:
        """Whether nothing can have changed that counts for a principal who was just authenticated."""
        return self.epoch == principal.epoch and time.monotonic() < self.good_until


class OnlineTables:
    """For this server's own use and for routes."""

    def __init__(
        self,
        database: Database,
        catalog: CatalogService,
        backends: Backends,
        *,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        self._database = database
        self._catalog = catalog
        self._backends = backends
        self._clock = clock
        self._known: dict[str, _Standing] = {}
        self._copies: dict[str, _Standing] = {}
        """By a source's name the one of its online tables in which it is read."""
        self.reads = Counts[tuple[str, str, str]]()
        """By an online table's id and name, and who made it."""
        self._shown: dict[str, Published] = {}
        """By an online table's id what its last read found; for as long as its standing is taken for true."""

    def rows(
        self,
        principal: Principal,
        name: str,
        keys: Sequence[Keys],
        *,
        columns: Sequence[str] | None = None,
    ) -> Rows:
        """The rows of some keys, all of one moment, with all columns but the keys or those that are named.

        Raises NotFound, PermissionDenied, InvalidArgument for keys and columns, FailedPrecondition when nothing is
        published yet or the source has a row filter or masks now, Unavailable when the store does not answer.
        """
        if len(keys) > MOST_KEYS:
            raise InvalidArgument(f"{len(keys)} keys are asked for at once; at most {MOST_KEYS}.")
        standing = self._standing(principal, name)
        self._check(principal, standing, _not_there(name))
        return self._rows(standing, keys, columns)

    def rows_of(
        self, principal: Principal, source: ObjectName, keys: Sequence[Keys], *, columns: Sequence[str]
    ) -> Rows:
        """The same by the name of the table that is published, for any number of keys.

        Of its online tables the one is read that is furthest, before others those that are ONLINE. Raises besides
        FailedPrecondition when it has none.
        """
        standing = self._copy(principal, source)
        self._check(principal, standing, NotFound(f"Table '{source}' does not exist."))
        return self._rows(standing, keys, columns)

    async def read(
        self, principal: Principal, name: str, keys: Sequence[Keys], *, columns: Sequence[str] | None = None
    ) -> Rows:
        """As `rows`, for an event loop, which does not wait meanwhile."""
        known = self._at_hand(self._known.get(name), principal, len(keys))
        if known is None or len(keys) > MOST_KEYS:
            return await anyio.to_thread.run_sync(partial(self.rows, principal, name, keys, columns=columns))
        self._check(principal, known, _not_there(name))
        return await self._rows_async(known, keys, columns)

    async def read_of(
        self, principal: Principal, source: ObjectName, keys: Sequence[Keys], *, columns: Sequence[str]
    ) -> Rows:
        """As `rows_of`, for an event loop, which does not wait meanwhile."""
        known = self._at_hand(self._copies.get(str(source)), principal, len(keys))
        if known is None:
            return await anyio.to_thread.run_sync(partial(self.rows_of, principal, source, keys, columns=columns))
        self._check(principal, known, NotFound(f"Table '{source}' does not exist."))
        return await self._rows_async(known, keys, columns)

    def forget(self) -> None:
        """Look up again at the next read: online tables have come or gone."""
        self._known.clear()
        self._copies.clear()
        self._shown.clear()

    async def aclose(self) -> None:
        """Let go of the connections of the event loop in which this runs."""
        await self._backends.aclose()

    def _check(self, principal: Principal, standing: _Standing, absent: NotFound) -> None:
        """Reading online is reading the source. Raises `absent` to who may not see that."""
        source = standing.source
        if not admits(principal, Act.READ, source.securable):
            if not allows(principal, Act.SEE, source.securable):
                raise absent
            require(principal, Act.READ, source.securable)
        if source.guards or self._catalog.guards_for(principal, source):
            raise FailedPrecondition(guarded_text(source))

    def _standing(self, principal: Principal, name: str) -> _Standing:
        known = self._known.get(name)
        if known is not None and known.is_good(principal):
            return known
        found = self._look_up(principal, name)
        if len(self._known) >= _MOST_KEPT:
            self.forget()
        self._known[name] = found
        self._shown.pop(found.table.id, None)
        return found

    def _copy(self, principal: Principal, source: ObjectName) -> _Standing:
        known = self._copies.get(str(source))
        if known is not None and known.is_good(principal):
            return known
        table = self._catalog.get_table(principal, source)
        require(principal, Act.READ, table.securable)
        with self._database.read() as connection:
            found = store.list_tables(connection, None, _MOST_COPIES, source_id=table.id)
        best = max(found, key=_furthest, default=None)
        if best is None or best.version is None:
            raise FailedPrecondition(_unpublished_text(source, best))
        self._copies[str(source)] = made = self._standing(principal, best.name)
        return made

    def _at_hand(self, known: _Standing | None, principal: Principal, count: int) -> _Standing | None:
        """What is known, if nothing but the rows has to be asked for, and they are no work for a thread."""
        if known is None or not known.is_good(principal) or known.source.policed:
            return None
        shown = self._shown.get(known.table.id)
        return known if shown is not None and count * len(shown.shape.fields) <= FEW_VALUES else None

    def _rows(self, standing: _Standing, keys: Sequence[Keys], columns: Sequence[str] | None) -> Rows:
        return self._made(standing, *self._read(standing, keys), columns)

    async def _rows_async(self, standing: _Standing, keys: Sequence[Keys], columns: Sequence[str] | None) -> Rows:
        return self._made(standing, *await self._read_async(standing, keys), columns)

    def _made(
        self,
        standing: _Standing,
        published: Published,
        found: Sequence[bytes | None],
        columns: Sequence[str] | None,
    ) -> Rows:
        self.reads.add((standing.table.id, standing.table.name, standing.table.creator))
        now, shape = self._clock(), published.shape
        rows = [None if row is None else shape.values(row, now) for row in found]
        if columns is not None:
            rows = _only(rows, columns, published)
        return Rows(
            rows=tuple(rows),
            version=published.version,
            committed_ms=published.committed_ms,
            online_table=standing.table.name,
        )

    def _read(self, standing: _Standing, keys: Sequence[Keys]) -> tuple[Published, list[bytes | None]]:
        """Keys are encoded as the published shape has them; should it change in between, once more."""
        table, backend = standing.table, standing.backend
        published = self._shown.get(table.id) or backend.published(table.id)
        while published is not None:
            shape = published.shape
            now, found = backend.read(table.id, [shape.key(each) for each in keys])
            if now is not None and now.shape.keys == shape.keys:
                self._shown[table.id] = now
                return now, found
            published = now
        raise _nothing_published(table)

    async def _read_async(self, standing: _Standing, keys: Sequence[Keys]) -> tuple[Published, list[bytes | None]]:
        """The same on the event loop."""
        table, backend = standing.table, standing.backend
        published = self._shown.get(table.id) or (await backend.read_async(table.id, []))[0]
        while published is not None:
            shape = published.shape
            now, found = await backend.read_async(table.id, [shape.key(each) for each in keys])
            if now is not None and now.shape.keys == shape.keys:
                self._shown[table.id] = now
                return now, found
            published = now
        raise _nothing_published(table)

    def _look_up(self, principal: Principal, name: str) -> _Standing:
        good_until = time.monotonic() + _GOOD_FOR_S
        with self._database.read() as connection:
            table = store.find_table(connection, name)
        source = None if table is None else self._catalog.find_tables_by_id(SYSTEM, [table.source_id])
        if table is None or not source:
            self._known.pop(name, None)
            raise _not_there(name)
        backend = self._backends.of(table.kind, table.store)
        return _Standing(table, source[table.source_id], backend, principal.epoch, good_until)


def _nothing_published(table: OnlineTable) -> FailedPrecondition:
    told = f": {table.error}" if table.error else "."
    return FailedPrecondition(f"Online table '{table.name}' has nothing published yet{told}")


def _furthest(table: OnlineTable) -> tuple[bool, int, datetime]:
    """What failed now and then is still read, but after what is well."""
    return table.state is State.ONLINE, -1 if table.version is None else table.version, table.created_at


def _unpublished_text(source: ObjectName, table: OnlineTable | None) -> str:
    if table is None:
        return f"Table '{source}' is not published into an online store; publish_table does it."
    told = f": {table.error}" if table.error else "; it is being published."
    return f"Table '{source}' has no rows in online table '{table.name}' yet{told}"


def _not_there(name: str) -> NotFound:
    return NotFound(f"Online table '{name[:800]}' does not exist.")


def _only(rows: Sequence[Values | None], columns: Sequence[str], published: Published) -> list[Values | None]:
    known = {field.name for field in published.shape.fields}
    if missing := [name for name in columns if name not in known]:
        raise InvalidArgument(f"The online table has no column {', '.join(map(repr, missing[:5]))}.")
    return [None if row is None else {name: row[name] for name in columns} for row in rows]
