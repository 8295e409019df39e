"""What every part of the catalog's service stands on: the database, roots, owners, pages, and errors of races."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any, Protocol, TypeVar

from sqlalchemy import Connection
from sqlalchemy import Table as SqlTable
from sqlalchemy.exc import IntegrityError

from millpond.catalog import locations
from millpond.catalog.domain import MAIN, Catalog, ObjectName, Schema, SchemaName
from millpond.catalog.names import check_text
from millpond.catalog.storage import Storages
from millpond.catalog.store import containers, objects
from millpond.catalog.store.reach import EVERYTHING, Reach
from millpond.identity import acts, grants
from millpond.identity.access import Act, Securable, allows, require
from millpond.identity.domain import Principal
from millpond.identity.grants import GrantService
from millpond.kernel.clock import utc_now
from millpond.kernel.database import Database
from millpond.kernel.errors import AlreadyExists, InvalidArgument, NotFound
from millpond.kernel.ids import new_id
from millpond.kernel.paging import Page, decode_token, encode_token, page_size

PURGE_AFTER = timedelta(days=7)
"""Files of a dropped managed table stay this long, for readers still on them and for an administrator's second thought.

Source: Unity Catalog keeps them seven days too."""
MAX_TEXT_LENGTH = 65_536
_MAX_SCANNED_PAGES = 10


class ModelHooks(Protocol):
    """What the tracking room does when models go or move with their schema, in the catalog's transaction."""

    def deleted(self, connection: Connection, names: Sequence[ObjectName]) -> None:
        """These models were removed with their schema or catalog."""

    def renamed(self, connection: Connection, names: Sequence[tuple[ObjectName, ObjectName]]) -> None:
        """The full names of these models changed (old, new), because a schema or catalog was renamed."""

    def uses(self, connection: Connection, location: str) -> bool:
        """Whether files at a location are a model's, so that they must stay."""


class _Ownable(Protocol):
    @property
    def securable(self) -> Securable: ...


class _InSchema(_Ownable, Protocol):
    @property
    def name(self) -> ObjectName: ...


T = TypeVar("T", bound=_Ownable)
Inner = TypeVar("Inner", bound=_InSchema)


class Base:
    """State shared by the parts of `CatalogService`."""

    def __init__(
        self,
        database: Database,
        *,
        storages: Storages,
        storage_root: str,
        private_locations: Sequence[str],
        find_owner: Callable[[str], str | None],
        purge_after: timedelta = PURGE_AFTER,
    ) -> None:
        """`private_locations` (the data directory) are refused as paths; `find_owner` gives a principal's name."""
        self.database = database
        self.grants = GrantService(database)
        self.storages = storages
        self.storage_root = locations.canonical(storage_root)
        self._private = tuple(locations.canonical(item) for item in private_locations)
        self._find_owner = find_owner
        self._purge_after = purge_after
        self._model_hooks: ModelHooks | None = None
        self._check_new_table: Callable[[Principal], None] = lambda _principal: None

    @cached_property
    def metastore_id(self) -> str:
        """The id of this installation's one metastore: that of its first catalog, which is never dropped."""
        with self.database.read() as connection:
            return self._catalog(connection, MAIN).id

    def on_models(self, hooks: ModelHooks) -> None:
        """Let the tracking room follow models that are dropped or renamed with their containers."""
        self._model_hooks = hooks

    def on_new_tables(self, check: Callable[[Principal], None]) -> None:
        """Ask this before somebody makes a managed table; it raises where they may not have more."""
        self._check_new_table = check

    def _catalog(self, connection: Connection, name: str, *, lock: bool = False) -> Catalog:
        catalog = containers.find_catalog(connection, name, lock=lock)
        if catalog is None:
            raise NotFound(f"Catalog '{name}' does not exist.")
        return catalog

    def _schema(self, connection: Connection, name: SchemaName, *, lock: bool = False) -> Schema:
        schema = containers.find_schema(connection, name, lock=lock)
        if schema is None:
            raise NotFound(f"Schema '{name}' does not exist.")
        return schema

    def _list_in_schema(
        self,
        principal: Principal,
        schema: SchemaName,
        kind: str,
        table: SqlTable,
        convert: Callable[[Any], Inner],
        *,
        max_results: int | None,
        page_token: str | None,
    ) -> Page[Inner]:
        """A page of a schema's objects of one kind that the principal may see, by name."""
        with self.database.read() as connection:
            parent = self._schema(connection, schema)
            require(principal, Act.SEE, parent.securable)
            reach = _reach_in(principal, kind, parent)
            return visible_page(
                principal,
                lambda after, limit: [
                    convert(row) for row in objects.list_rows(connection, table, parent.id, after, limit, reach)
                ],
                lambda item: item.name.name,
                max_results=max_results,
                page_token=page_token,
            )

    def _schema_for(self, connection: Connection, principal: Principal, name: ObjectName, act: Act) -> Schema:
        """The schema of an object, in which the principal may act."""
        schema = self._schema(connection, name.schema_name)
        require(principal, act, schema.securable)
        return schema

    def _updated(
        self, connection: Connection, principal: Principal, kind: str, name: object, values: Mapping[str, Any]
    ) -> None:
        """Note a change of columns of an object; another owner changes who may reach what. Raises PermissionDenied."""
        acts.changed(connection, principal.name, "update", kind, str(name), **_described_change(values))
        if "owner" in values:
            grants.require_whole(principal, kind, str(name))
            grants.rights_changed(connection)

    def _new_owner(self, owner: str) -> str:
        """The exact name of a principal that exists."""
        found = self._find_owner(check_text(owner, "The owner"))
        if found is None:
            raise InvalidArgument(f"Principal '{owner}' does not exist; the owner must be a user or service principal.")
        return found

    def _root_for(self, connection: Connection, schema: Schema) -> str:
        """Where managed data of a schema goes: its own root, its catalog's, or the server's."""
        if schema.storage_root:
            return schema.storage_root
        return self._catalog(connection, schema.name.catalog).storage_root or self.storage_root

    def _is_private(self, location: str) -> bool:
        """Whether it is, holds or lies in a place that only this server may touch."""
        return any(locations.overlap(location, private) for private in (*self._private, self.storage_root))


def new_values(principal: Principal, name: str, comment: str | None) -> dict[str, Any]:
    """The columns of a new object that belongs to the principal."""
    now = utc_now()
    return {
        "id": new_id(), "name": name, "owner": principal.name, "comment": clean_comment(comment),
        "created_at": now, "created_by": principal.name, "updated_at": now, "updated_by": principal.name,
    }  # fmt: skip


def touched(principal: Principal, values: Mapping[str, Any]) -> dict[str, Any]:
    """Changed columns with who changed them and when."""
    return {**values, "updated_at": utc_now(), "updated_by": principal.name}


def _described_change(values: Mapping[str, Any]) -> dict[str, str]:
    """A change for the audit: which columns, and the new owner or name where that is what changed."""
    told = {key: str(values[key]) for key in ("name", "owner") if key in values}
    return {"columns": ",".join(sorted(values)), **{f"new_{key}": value for key, value in told.items()}}


def clean_comment(comment: str | None) -> str | None:
    """A comment that both databases can keep."""
    if comment is not None and len(comment) > MAX_TEXT_LENGTH:
        raise InvalidArgument(f"The comment has {len(comment)} characters; at most {MAX_TEXT_LENGTH}.")
    return None if comment is None else check_text(comment, "The comment")


def clean_properties(properties: Mapping[str, str] | None) -> dict[str, str]:
    """Properties that both databases can keep."""
    clean = dict(properties or {})
    if sum(len(str(key)) + len(str(value)) for key, value in clean.items()) > 16 * MAX_TEXT_LENGTH:
        raise InvalidArgument("The properties are larger than 1 MiB.")
    for key, value in clean.items():
        if not isinstance(key, str) or not isinstance(value, str):
            raise InvalidArgument(f"Property {key!r} is not text; keys and values of properties are strings.")
        check_text(key, "A property's key")
        check_text(value, f"Property '{key}'")
    return clean


def _reach_in(principal: Principal, kind: str, schema: Schema) -> Reach:
    """The principal's reach among a schema's objects of a kind; all of them when a container gives it already."""
    container = schema.securable
    anything = Securable(kind=kind, name=container.name, owners=container.owners, ids=container.ids)
    if allows(principal, Act.SEE, anything):
        return EVERYTHING
    return Reach(principal=principal, kind=kind, within=principal.grants.on(container.ids))


@contextmanager
def races(taken: str, gone: str) -> Iterator[None]:
    """Say who won: AlreadyExists(`taken`) when a name was taken meanwhile, NotFound(`gone`) when a container went."""
    try:
        yield
    except IntegrityError as error:
        code = getattr(error.orig, "sqlstate", None)
        if code == "23505" or "UNIQUE constraint" in str(error.orig):
            raise AlreadyExists(taken) from error
        if code == "23503" or "FOREIGN KEY constraint" in str(error.orig):
            raise NotFound(gone) from error
        raise


def visible_page(
    principal: Principal,
    fetch: Callable[[str | None, int], Sequence[T]],
    key: Callable[[T], str],
    *,
    max_results: int | None,
    page_token: str | None,
) -> Page[T]:
    """A page of what the principal may see; shorter than asked, with a token, after many that it may not."""
    size = page_size(max_results)
    after = decode_token(page_token)
    if after is not None:
        check_text(after, "The page token")
    found: list[T] = []
    for _ in range(_MAX_SCANNED_PAGES):
        batch = fetch(after, size + 1)
        for item in batch:
            if len(found) == size:
                return Page(items=tuple(found), next_page_token=encode_token(after or ""))
            after = key(item)
            if allows(principal, Act.SEE, item.securable):
                found.append(item)
        if len(batch) <= size:
            return Page(items=tuple(found))
    return Page(items=tuple(found), next_page_token=encode_token(after or ""))


def due(after: timedelta) -> datetime:
    """The time from now."""
    return utc_now() + after
