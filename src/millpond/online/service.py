"""What one can do with online stores and online tables.

An online table has a name of three levels and no grants of its own: it is seen, read and published by who may see and
read its source. A store is seen and used by everybody signed in.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from millpond.catalog.delta import storage_options
from millpond.catalog.domain import ObjectName, Table
from millpond.catalog.service import CatalogService
from millpond.identity import acts
from millpond.identity.access import WORKSPACE, Act, Securable, require, require_admin
from millpond.identity.domain import Principal
from millpond.kernel.clock import utc_now
from millpond.kernel.database import Database
from millpond.kernel.errors import AlreadyExists, Conflict, FailedPrecondition, InvalidArgument, NotFound
from millpond.kernel.ids import new_id
from millpond.kernel.paging import Page, cut_page, decode_token, encode_token, page_size
from millpond.kernel.settings import S3Settings
from millpond.lineage.service import record_in
from millpond.online import store
from millpond.online.delta_log import News, news
from millpond.online.lineage import publication
from millpond.online.stores import Backends
from millpond.online.tables import (
    Mode,
    OnlineStore,
    OnlineTable,
    State,
    StoreKind,
    check_capacity,
    check_store_name,
    guarded_text,
    wanted_of,
)

_MOST_REPLICAS = 100


@dataclass(frozen=True, kw_only=True)
class Seen:
    """An online table with its source, for somebody who may see both."""

    table: OnlineTable
    source: Table


class OnlineService:
    """Each method is one act, checked and noted."""

    def __init__(
        self, database: Database, catalog: CatalogService, backends: Backends, s3: S3Settings, tell: Callable[[], None]
    ) -> None:
        """`tell` lets who publishes and who reads know that an online table was published or deleted."""
        self._database = database
        self._catalog = catalog
        self._backends = backends
        self._s3 = s3
        self._tell = tell

    # -- stores -------------------------------------------------------------------------------------------------

    def create_store(
        self,
        principal: Principal,
        name: str,
        capacity: str,
        *,
        read_replica_count: int = 0,
        usage_policy_id: str = "",
    ) -> OnlineStore:
        """A new store: where the settings say for its name, else embedded.

        Raises AlreadyExists, InvalidArgument, PermissionDenied for one that the settings name, to who is no
        administrator.
        """
        kind = self._backends.kind_of(check_store_name(name))
        if kind is not StoreKind.EMBEDDED:
            require_admin(principal, f"create an online store in {kind}")
        require(principal, Act.CREATE_IN, WORKSPACE)
        made = OnlineStore(
            name=name, kind=kind, capacity=check_capacity(capacity), usage_policy_id=usage_policy_id,
            read_replica_count=_check_replicas(read_replica_count), creator=principal.name, created_at=utc_now(),
        )  # fmt: skip
        taken = f"Online store '{name}' already exists."
        with _unique(taken), self._database.write() as connection:
            if store.find_store(connection, name) is not None:
                raise AlreadyExists(taken)
            store.insert_store(connection, made)
            acts.changed(connection, principal.name, "create", "online store", name, store_kind=kind.value)
        return made

    def get_store(self, principal: Principal, name: str) -> OnlineStore:
        """Raises NotFound."""
        with self._database.read() as connection:
            found = _store(connection, name)
        require(principal, Act.SEE, found.securable)
        return found

    def list_stores(
        self, _principal: Principal, *, max_results: int | None = None, page_token: str | None = None
    ) -> Page[OnlineStore]:
        """All stores by name, as everybody signed in sees them."""
        size = page_size(max_results)
        with self._database.read() as connection:
            found = store.list_stores(connection, decode_token(page_token), size + 1)
        return cut_page(found, size, lambda each: each.name)

    def update_store(
        self,
        principal: Principal,
        name: str,
        *,
        capacity: str | None = None,
        read_replica_count: int | None = None,
        usage_policy_id: str | None = None,
    ) -> OnlineStore:
        """The store after a change of what is not None. Raises NotFound, InvalidArgument, PermissionDenied."""
        given = {
            "capacity": None if capacity is None else check_capacity(capacity),
            "read_replica_count": None if read_replica_count is None else _check_replicas(read_replica_count),
            "usage_policy_id": usage_policy_id,
        }
        values = {key: value for key, value in given.items() if value is not None}
        with self._database.write() as connection:
            require(principal, Act.MANAGE, _store(connection, name, lock=True).securable)
            if values:
                store.update_store(connection, name, **values)
                acts.changed(connection, principal.name, "update", "online store", name, columns=",".join(values))
            return _store(connection, name)

    def delete_store(self, principal: Principal, name: str) -> None:
        """Remove a store. Raises NotFound, PermissionDenied, FailedPrecondition when something is published in it."""
        with self._database.write() as connection:
            require(principal, Act.MANAGE, _store(connection, name, lock=True).securable)
            if store.list_tables(connection, None, 1, store=name):
                raise FailedPrecondition(f"Online store '{name}' still has online tables; delete them first.")
            store.delete_store(connection, name)
            acts.changed(connection, principal.name, "delete", "online store", name)

    # -- tables -------------------------------------------------------------------------------------------------

    def publish(
        self, principal: Principal, source_name: ObjectName, *, name: ObjectName, store_name: str, mode: Mode
    ) -> OnlineTable:
        """The online table, which follows its source once more from now on; a new one when there is none of its name.

        Raises NotFound, PermissionDenied, FailedPrecondition for a source that cannot be published, AlreadyExists when
        the name is that of something else.
        """
        source = self._catalog.get_table(principal, source_name)
        require(principal, Act.READ, source.securable)
        wanted_of(source)
        if self._catalog.guards_for(principal, source):
            raise FailedPrecondition(guarded_text(source))
        require(principal, Act.CREATE_TABLE, self._catalog.get_schema(principal, name.schema_name).securable)
        if self._catalog.look_up_table(name) is not None:
            raise AlreadyExists(f"'{name}' is a table; an online table needs a name of its own.")
        with _unique(f"Online table '{name}' already exists."), self._database.write() as connection:
            target = _store(connection, store_name, lock=True)
            known = store.find_table(connection, str(name), lock=True)
            if known is None:
                made = _new_table(principal, source, str(name), target, mode)
                store.insert_table(connection, made)
            else:
                made = _same(known, source, store_name)
                store.ask_again(connection, known, mode)
            record_in(connection, [publication(principal, source, made)])
            told = {"source": str(source.name), "store": store_name, "mode": mode.value}
            acts.changed(connection, principal.name, "publish", "online table", str(name), **told)
            made = _table(connection, str(name))
        self._tell()
        return made

    def delete_table(self, principal: Principal, name: ObjectName) -> None:
        """Remove an online table; its rows go soon. For its maker, and who owns the source.

        Raises NotFound, PermissionDenied.
        """
        found = self._find(principal, str(name))
        owners = (found.table.creator, *(found.source.securable.owners if found.source else ()))
        # public: who comes so far sees it
        require(principal, Act.MANAGE, Securable(kind="online table", name=str(name), owners=owners, public=True))
        with self._database.write() as connection:
            if _table(connection, str(name), lock=True).id != found.table.id:
                raise Conflict(f"Online table '{name}' was made anew meanwhile.")
            store.remove_table(connection, found.table)
            acts.changed(connection, principal.name, "delete", "online table", str(name))
        self._tell()

    def get_table(self, principal: Principal, name: ObjectName) -> Seen:
        """Raises NotFound, also when its source was dropped."""
        found = self._find(principal, str(name))
        if found.source is None:
            raise NotFound(f"The source of online table '{name}' was dropped; bring it back, or delete this one.")
        return Seen(table=found.table, source=found.source)

    def list_tables(
        self,
        principal: Principal,
        *,
        source: ObjectName | None = None,
        max_results: int | None = None,
        page_token: str | None = None,
    ) -> Page[Seen]:
        """Online tables by name whose sources the principal may see: of all tables, or of one.

        A page may be shorter than asked. Raises NotFound for the source.
        """
        source_id = None if source is None else self._catalog.get_table(principal, source).id
        size = page_size(max_results)
        with self._database.read() as connection:
            found = store.list_tables(connection, decode_token(page_token), size + 1, source_id=source_id)
        sources = self._catalog.find_tables_by_id(principal, {each.source_id for each in found[:size]})
        seen = [Seen(table=each, source=sources[each.source_id]) for each in found[:size] if each.source_id in sources]
        token = encode_token(found[size - 1].name) if len(found) > size else None
        return Page(items=tuple(seen), next_page_token=token)

    def online_of(self, sources: Sequence[Table]) -> Mapping[str, Sequence[OnlineTable]]:
        """The online tables of tables that the caller may see, by the tables' ids; the same query for any number."""
        found: dict[str, list[OnlineTable]] = {}
        with self._database.read() as connection:
            for each in store.tables_of_sources(connection, [source.id for source in sources]):
                found.setdefault(each.source_id, []).append(each)
        return found

    def news(self, seen: Seen) -> News:
        """What its source has that is not online yet. Reads the source's log."""
        location = seen.source.storage_location
        return news(location, storage_options(location, self._s3), seen.table.version)

    def _find(self, principal: Principal, name: str) -> "_Found":
        with self._database.read() as connection:
            table = _table(connection, name)
        source = self._catalog.find_tables_by_id(principal, [table.source_id]).get(table.source_id)
        if source is None and not (principal.is_admin or principal.name == table.creator):
            acts.denied(principal, Act.SEE.value, "online table", name)
            raise _no_table(name)
        return _Found(table=table, source=source)


@dataclass(frozen=True, kw_only=True)
class _Found:
    table: OnlineTable
    source: Table | None


@contextmanager
def _unique(taken: str) -> Iterator[None]:
    """Say so when somebody else was faster with a name."""
    try:
        yield
    except IntegrityError as error:
        raise AlreadyExists(taken) from error


def _store(connection: Connection, name: str, *, lock: bool = False) -> OnlineStore:
    found = store.find_store(connection, name, lock=lock)
    if found is None:
        raise NotFound(f"Online store '{name[:80]}' does not exist.")
    return found


def _table(connection: Connection, name: str, *, lock: bool = False) -> OnlineTable:
    found = store.find_table(connection, name, lock=lock)
    if found is None:
        raise _no_table(name)
    return found


def _no_table(name: str) -> NotFound:
    return NotFound(f"Online table '{name}' does not exist.")


def _same(known: OnlineTable, source: Table, store_name: str) -> OnlineTable:
    """An online table, if it is what is published again."""
    if known.source_id != source.id:
        raise AlreadyExists(f"Online table '{known.name}' is published from another table.")
    if known.store != store_name:
        raise InvalidArgument(
            f"Online table '{known.name}' is in online store '{known.store}'; delete it to publish it elsewhere."
        )
    return known


def _new_table(principal: Principal, source: Table, name: str, target: OnlineStore, mode: Mode) -> OnlineTable:
    return OnlineTable(
        id=new_id(), name=name, source_id=source.id, store=target.name, kind=target.kind, mode=mode,
        creator=principal.name, created_at=utc_now(), state=State.PENDING, error="", version=None, committed_at=None,
        published_at=None, asked=1, answered=0, anew=False, failures=0, removed=False,
    )  # fmt: skip


def _check_replicas(count: int) -> int:
    if not 0 <= count <= _MOST_REPLICAS:
        raise InvalidArgument(f"read_replica_count is {count}; give 0 to {_MOST_REPLICAS}.")
    return count
