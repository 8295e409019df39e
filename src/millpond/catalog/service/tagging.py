"""Tags on objects of the catalog and their columns, and the policies that govern tags."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Connection

from millpond.catalog.domain import ObjectName, Table
from millpond.catalog.service.base import races
from millpond.catalog.service.granting import GRANTING_KINDS, Granting
from millpond.catalog.store import policies
from millpond.catalog.store import tags as store
from millpond.catalog.store.containers import catalog_of, schema_of
from millpond.catalog.store.reach import Reach
from millpond.catalog.store.rows import function_of, model_of, table_of, volume_of
from millpond.catalog.store.schema import catalogs, functions, models, schemas, tables, volumes
from millpond.catalog.tags import MAX_TAGS, TableTags, Tag, TagPolicy, check_policy, check_tag
from millpond.identity import acts, grants
from millpond.identity.access import Act, Securable, allows, require, require_admin
from millpond.identity.domain import Principal
from millpond.kernel.clock import utc_now
from millpond.kernel.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound
from millpond.kernel.ids import new_id
from millpond.kernel.paging import Page, cut_page, decode_token, page_size

TAGGABLE = ("catalog", "schema", "table", "column", "volume", "function", "model")
_ROWS: Mapping[str, tuple[Any, Any]] = {
    "catalog": (catalogs, catalog_of), "schema": (schemas, schema_of), "table": (tables, table_of),
    "volume": (volumes, volume_of), "function": (functions, function_of), "model": (models, model_of),
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class _Spot:
    """Where tags are: on a securable, or on a column of it."""

    kind: str
    name: str
    securable: Securable
    column: str = ""

    @property
    def object_id(self) -> str:
        return self.securable.ids[0]


class Tagging(Granting):
    """What one can do with tags. `kind` is one of TAGGABLE; a column's name is that of its table, a dot and its own."""

    def set_tags(
        self, principal: Principal, kind: str, name: str, values: Mapping[str, str], *, only_new: bool = False
    ) -> None:
        """Set tags, all or nothing.

        Raises NotFound, PermissionDenied, InvalidArgument; AlreadyExists for a tag that is there, with `only_new`.
        """
        with self.database.write() as connection:
            spot = self._spot(connection, principal, Act.TAG, kind, name)
            for key, value in values.items():
                governing = _assignable(connection, principal, key)
                check_tag(key, value, governing)
                _let_engines_look_again(connection, governing)
            there = {tag.key for tag in store.list_tags(connection, spot.object_id, spot.column)}
            if only_new and there & values.keys():
                raise AlreadyExists(f"Tag '{min(there & values.keys())}' of {spot.kind} '{spot.name}' already exists.")
            if len(there | values.keys()) > MAX_TAGS:
                raise InvalidArgument(f"{spot.kind.capitalize()} '{spot.name}' would have more than {MAX_TAGS} tags.")
            store.put(connection, spot.object_id, spot.column, values, now=utc_now(), by=principal.name)
            _noted(connection, principal, "tag", spot, [f"{key}={value}" for key, value in values.items()])

    def unset_tags(
        self, principal: Principal, kind: str, name: str, keys: Sequence[str], *, if_exist: bool = False
    ) -> None:
        """Remove tags, all or nothing. Raises NotFound, for a tag that is not there too, and PermissionDenied."""
        with self.database.write() as connection:
            spot = self._spot(connection, principal, Act.TAG, kind, name)
            for key in keys:
                _let_engines_look_again(connection, _assignable(connection, principal, key))
            removed = store.remove(connection, spot.object_id, spot.column, keys)
            missing = sorted(set(keys) - removed)
            if missing and not if_exist:
                raise NotFound(f"Tag '{missing[0][:80]}' of {spot.kind} '{spot.name}' does not exist.")
            _noted(connection, principal, "untag", spot, sorted(removed))

    def tags_on(self, principal: Principal, kind: str, name: str) -> tuple[Tag, ...]:
        """Tags of an object or column, by key. Raises NotFound, InvalidArgument."""
        with self.database.read() as connection:
            spot = self._spot(connection, principal, Act.SEE, kind, name)
            return tuple(store.list_tags(connection, spot.object_id, spot.column))

    def tags_of(self, table: Table) -> TableTags:
        """All tags that say something about a table and its columns, by one query and without a check of rights.

        A column that was dropped or renamed keeps its tags here, for who reads an earlier version of the table.
        """
        with self.database.read() as connection:
            return store.of_tables(connection, [table])[table.id]

    def governed_columns(self, table: Table) -> Mapping[str, str]:
        """The columns of a table that have governed tags, in lower case, each with such a tag. Asks for no rights."""
        with self.database.read() as connection:
            found = store.of_tables(connection, [table])[table.id].columns
            governed = store.governed_among(connection, {key for tags in found.values() for key in tags})
        return {column: min(governed & tags.keys()) for column, tags in found.items() if governed & tags.keys()}

    def keep_column_tags(self, principal: Principal, table: Table, old: str, new: str) -> None:
        """Let a column's tags be on its new name too; called before it is renamed, so that it never lacks them."""
        require(principal, Act.ALTER, table.securable)
        if any(column.name.lower() == new.lower() for column in table.columns):
            return  # such a rename will be refused
        with self.database.write() as connection:
            for tag in store.list_tags(connection, table.id, old.lower()):
                store.put(
                    connection, table.id, new.lower(), {tag.key: tag.value}, now=tag.updated_at, by=tag.updated_by
                )

    def tagged(self, principal: Principal, kind: str, catalog: str | None) -> Iterator[tuple[Any, str, str, str]]:
        """Every tag on objects of a kind in a catalog (None for all) that the principal may see: the object, the
        column's name in lower case or nothing, key and value."""
        table, convert = _ROWS[kind]
        with self.database.read() as connection:
            rows = store.tagged(connection, table, catalog, Reach(principal=principal, kind=kind))
        for row in rows:
            found = convert(row)
            if allows(principal, Act.SEE, found.securable):
                yield found, row.tag_column, row.tag_key, row.tag_value

    def _spot(self, connection: Connection, principal: Principal, act: Act, kind: str, name: str) -> _Spot:
        """Where the tags are to which the principal may do this."""
        if kind == "column":
            return self._column(connection, principal, act, name)
        if kind not in TAGGABLE or kind not in GRANTING_KINDS:
            raise InvalidArgument(f"A '{kind[:40]}' has no tags; only {', '.join(f'{each}s' for each in TAGGABLE)} do.")
        securable = self.finding(kind, name)(connection)[0]
        require(principal, act, securable)
        return _Spot(kind=kind, name=securable.name, securable=securable)

    def _column(self, connection: Connection, principal: Principal, act: Act, name: str) -> _Spot:
        parts = name.split(".", 3)
        if len(parts) < 4:
            raise InvalidArgument(f"'{name[:200]}' names no column; give catalog.schema.table.column.")
        table = self._table(connection, ObjectName(*parts[:3]))
        require(principal, act, table.securable)
        columns = {column.name.lower(): column.name for column in table.columns}
        if parts[3].lower() not in columns:
            raise NotFound(f"Column '{name[:600]}' does not exist.")
        key = parts[3].lower()
        return _Spot(kind="column", name=f"{table.name}.{columns[key]}", securable=table.securable, column=key)

    # Policies

    def create_tag_policy(
        self, principal: Principal, key: str, *, description: str = "", values: Sequence[str] = ()
    ) -> TagPolicy:
        """Make a key a governed one. For administrators. Raises AlreadyExists, InvalidArgument, PermissionDenied."""
        require_admin(principal, "create a tag policy")
        check_policy(key, description, tuple(values))
        now = utc_now()
        policy = TagPolicy(
            id=new_id(), key=key, description=description, values=tuple(values), created_at=now, updated_at=now
        )
        with races(f"Tag policy '{key}' already exists.", ""), self.database.write() as connection:
            store.add_policy(connection, policy)
            acts.changed(connection, principal.name, "create", "tag policy", key)
        return policy

    def get_tag_policy(self, principal: Principal, key: str) -> TagPolicy:
        """The policy of a key; all may read it. Raises NotFound."""
        with self.database.read() as connection:
            policy = governing_policy(connection, key)
        require(principal, Act.READ, policy.securable)
        return policy

    def list_tag_policies(
        self, principal: Principal, *, max_results: int | None = None, page_token: str | None = None
    ) -> Page[TagPolicy]:
        """All policies, by key."""
        size = page_size(max_results, default=1000)
        with self.database.read() as connection:
            return cut_page(
                store.list_policies(connection, decode_token(page_token), size + 1), size, lambda policy: policy.key
            )

    def update_tag_policy(
        self, principal: Principal, key: str, *, description: str | None = None, values: Sequence[str] | None = None
    ) -> TagPolicy:
        """The policy after a change of what is not None. Tags that are set stay as they are.

        Raises NotFound, PermissionDenied, InvalidArgument.
        """
        with self.database.write() as connection:
            policy = _own_policy(connection, principal, key)
            policy = replace(
                policy,
                description=policy.description if description is None else description,
                values=policy.values if values is None else tuple(values),
                updated_at=utc_now(),
            )
            check_policy(key, policy.description, policy.values)
            store.change_policy(connection, policy)
            acts.changed(connection, principal.name, "update", "tag policy", key)
        return policy

    def delete_tag_policy(self, principal: Principal, key: str) -> None:
        """Make a key an ordinary one; the tags stay.

        Raises NotFound, PermissionDenied, and FailedPrecondition while a policy asks for it: then anybody who may tag
        could lift that.
        """
        with self.database.write() as connection:
            policy = _own_policy(connection, principal, key)
            _refuse_in_use(connection, key)
            store.delete_policy(connection, key)
            grants.forget(connection, policy.securable.ids)
            acts.changed(connection, principal.name, "delete", "tag policy", key)

    def tag_policy_finding(self, policy_id: str) -> grants.Find:
        """How the policy with an id is found, for the service of grants."""

        def find(connection: Connection) -> grants.Chain:
            policy = store.find_policy_by_id(connection, policy_id)
            if policy is None:
                raise NotFound(f"Tag policy '{policy_id[:80]}' does not exist.")
            return (policy.securable,)

        return find

    def _found(self, connection: Connection, kind: str, name: str) -> grants.Chain:
        if kind == "tag policy":
            return (governing_policy(connection, name).securable,)
        return super()._found(connection, kind, name)


def _refuse_in_use(connection: Connection, key: str) -> None:
    user = policies.keys_in_use(connection).get(key)
    if user is not None:
        raise FailedPrecondition(
            f"Tag policy '{key}' cannot be deleted: policy '{user}' asks for the tag. Drop that first."
        )


def governing_policy(connection: Connection, key: str, *, lock: bool = False) -> TagPolicy:
    policy = None if "\0" in key else store.find_policy(connection, key, lock=lock)
    if policy is None:
        raise NotFound(f"Tag policy '{key[:80]}' does not exist.")
    return policy


def _own_policy(connection: Connection, principal: Principal, key: str) -> TagPolicy:
    """The policy, which the principal may change."""
    policy = governing_policy(connection, key, lock=True)
    require(principal, Act.MANAGE, policy.securable)
    if policy.is_system:
        raise FailedPrecondition(f"Tag policy '{key}' belongs to the server and stays as it is.")
    return policy


def _assignable(connection: Connection, principal: Principal, key: str) -> TagPolicy | None:
    """The policy that governs a key, which the principal may assign; None for an ordinary key."""
    policy = None if "\0" in key else store.find_policy(connection, key)
    if policy is not None:
        require(principal, Act.TAG, policy.securable)
    return policy


def _let_engines_look_again(connection: Connection, governing: TagPolicy | None) -> None:
    """A governed tag may bring a table under a policy, or out of it."""
    if governing is not None:
        grants.rights_changed(connection)


def _noted(connection: Connection, principal: Principal, act: str, spot: _Spot, told: Sequence[str]) -> None:
    if told:
        acts.changed(connection, principal.name, act, spot.kind, spot.name, tags=", ".join(told))
