"""Permission levels of workspace objects: experiments, models, endpoints, and whatever other rooms register.

A level is a privilege like any other; each holds those below it. The owner of an object and the administrators have
the highest one without a grant, and are listed with it.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

from sqlalchemy import Connection

from millpond.identity import acts
from millpond.identity.access import Act, Securable, allows, require
from millpond.identity.domain import ADMINS, Account, Principal, PrincipalKind
from millpond.identity.grants import Change, Find, GrantService, require_visible, rights_changed
from millpond.identity.privileges import Privilege, levels
from millpond.identity.store import accounts
from millpond.kernel.database import Database
from millpond.kernel.errors import InvalidArgument, NotFound


@dataclass(frozen=True, kw_only=True)
class ObjectType:
    """A type of objects that have permission levels."""

    path: str
    """In addresses and object ids: `experiments`."""
    name: str
    """As `object_type` names it: `mlflowExperiment`."""
    kind: str
    """The kind of its securables."""
    find: Callable[[Connection, str], Securable] = field(repr=False)
    """The object with an id, without a check of rights. Raises NotFound, InvalidArgument."""
    give: Callable[[Connection, str, str], None] | None = field(default=None, repr=False)
    """Makes a user the owner of the object with an id, where IS_OWNER is a level that can be set."""

    @property
    def levels(self) -> tuple[Privilege, ...]:
        """The levels that its objects have, the weakest first."""
        return (*levels(self.kind), *((Privilege.IS_OWNER,) if self.give else ()))

    def finding(self, object_id: str) -> Find:
        """How the object with an id is found, for the service of grants."""
        return lambda connection: (self.find(connection, object_id),)


@dataclass(frozen=True, kw_only=True)
class Entry:
    """Levels of one principal on an object, and whether they come from the root of the object's type."""

    grantee: str
    kind: PrincipalKind
    display_name: str
    levels: tuple[tuple[Privilege, bool], ...]


@dataclass(frozen=True, kw_only=True)
class Permissions:
    """Who has which level on an object."""

    type: ObjectType
    object_id: str
    entries: tuple[Entry, ...]


class PermissionService:
    """What one can do with permission levels."""

    def __init__(self, database: Database, types: Iterable[ObjectType]) -> None:
        self._database = database
        self._grants = GrantService(database)
        self._types = {each.path: each for each in types}

    def get(self, principal: Principal, path: str, object_id: str) -> Permissions:
        """Who has which level; to whom does not manage the object, only what concerns them. Raises NotFound."""
        kind = self._type(path)
        direct = self._grants.granted(principal, kind.finding(object_id))
        entries = {
            each.grantee: Entry(
                grantee=each.grantee,
                kind=each.kind,
                display_name=each.display_name,
                levels=tuple((granted.privilege, False) for granted in each.granted),
            )
            for each in direct
        }
        with self._database.read() as connection:
            securable = kind.find(connection, object_id)
            if allows(principal, Act.MANAGE, securable):
                _add(entries, accounts.find_by_name(connection, ADMINS), levels(kind.kind)[-1], inherited=True)
            if securable.owners and allows(principal, Act.SEE, securable):
                _add(entries, accounts.find_by_name(connection, securable.owners[0]), kind.levels[-1], inherited=False)
        return Permissions(type=kind, object_id=object_id, entries=tuple(entries.values()))

    def change(
        self, principal: Principal, path: str, object_id: str, wanted: Sequence[Change], *, only: bool
    ) -> Permissions:
        """Give each grantee one level in place of the one before; with `only`, take those of all others.

        Raises NotFound, PermissionDenied, InvalidArgument.
        """
        kind = self._type(path)
        every = frozenset(levels(kind.kind))
        owners = [change for change in wanted if Privilege.IS_OWNER in change.add]
        changes = [replace(change, remove=every) for change in wanted if change not in owners]
        apply = self._grants.replace if only else self._grants.change
        apply(principal, kind.finding(object_id), changes)
        if owners:
            self._give(principal, kind, object_id, owners)
        return self._seen_after(principal, kind, object_id)

    def _give(self, principal: Principal, kind: ObjectType, object_id: str, owners: Sequence[Change]) -> None:
        """Make somebody the owner."""
        if kind.give is None or len(owners) > 1:
            raise InvalidArgument(f"IS_OWNER is for one user of an object, and not for all types; {kind.path} here.")
        with self._database.write() as connection:
            securable = kind.find(connection, object_id)
            require(principal, Act.MANAGE, securable)
            account = accounts.find_by_name(connection, owners[0].grantee)
            if account is None or account.kind is PrincipalKind.GROUP:
                raise InvalidArgument(f"'{owners[0].grantee[:80]}' is no user or service principal, which an owner is.")
            kind.give(connection, object_id, account.name)
            rights_changed(connection)
            acts.changed(connection, principal.name, "give", securable.kind, securable.name, new_owner=account.name)

    def _seen_after(self, principal: Principal, kind: ObjectType, object_id: str) -> Permissions:
        """What is left to be seen by who may have given all away."""
        try:
            return self.get(principal, kind.path, object_id)
        except NotFound:
            return Permissions(type=kind, object_id=object_id, entries=())

    def levels(self, principal: Principal, path: str, object_id: str) -> tuple[Privilege, ...]:
        """The levels that the object can have, the weakest first. Raises NotFound."""
        kind = self._type(path)
        with self._database.read() as connection:
            require_visible(principal, kind.find(connection, object_id))
        return kind.levels

    def _type(self, path: str) -> ObjectType:
        if path not in self._types:
            known = ", ".join(sorted(self._types))
            raise InvalidArgument(f"Objects of type '{path[:60]}' have no permissions here; known are {known}.")
        return self._types[path]


def _add(entries: dict[str, Entry], account: Account | None, level: Privilege, *, inherited: bool) -> None:
    if account is None:
        return
    new = Entry(grantee=account.name, kind=account.kind, display_name=account.display_name, levels=())
    entry = entries.get(account.name, new)
    if (level, inherited) not in entry.levels:
        entries[account.name] = replace(entry, levels=(*entry.levels, (level, inherited)))
