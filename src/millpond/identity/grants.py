"""Granting and revoking, listing what was granted, and explaining why somebody may do something or not.

The objects belong to other rooms, so a caller says how to find one: a function from a connection to the securable and
its containers outward. It runs inside the transaction that changes the grants, and raises NotFound.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

from sqlalchemy import Connection

from millpond.identity import acts
from millpond.identity.access import METASTORE, Act, Securable, allows, exercises, is_public, require
from millpond.identity.domain import USERS, Account, Principal, PrincipalKind
from millpond.identity.privileges import (
    GRANTABLE,
    Privilege,
    check_grantable,
    implied,
    ways,
    ways_to_exercise,
)
from millpond.identity.snapshots import Snapshots
from millpond.identity.store import accounts
from millpond.identity.store import grants as store
from millpond.identity.store.groups import standing_of
from millpond.kernel.clock import utc_now
from millpond.kernel.database import Database
from millpond.kernel.errors import InvalidArgument, NotFound, PermissionDenied

ACCOUNT_USERS = "account users"
"""What Unity Catalog calls the group of everybody, which is `users` here."""

Chain = tuple[Securable, ...]
"""A securable and its containers outward."""
Find = Callable[[Connection], Chain]


@dataclass(frozen=True, kw_only=True)
class Change:
    """What one grantee gets and loses on a securable."""

    grantee: str
    kind: PrincipalKind | None = None
    """Which kind of principal the name must be one of; None for any."""
    add: frozenset[Privilege] = frozenset()
    remove: frozenset[Privilege] = frozenset()


@dataclass(frozen=True, kw_only=True)
class Granted:
    """A privilege and the securable that it was granted on: the one asked about, or a container of it."""

    privilege: Privilege
    on: Securable


@dataclass(frozen=True, kw_only=True)
class Assignment:
    """All that one grantee was granted."""

    grantee: str
    kind: PrincipalKind
    display_name: str
    granted: tuple[Granted, ...]


@dataclass(frozen=True, kw_only=True)
class Reason:
    """Something that lets somebody do it."""

    by: str
    """administrator, ownership, grant, or everybody for what is public."""
    grantee: str
    """The name through which it is theirs: their own, or that of a group."""
    on: Securable
    privilege: Privilege | None = None


@dataclass(frozen=True, kw_only=True)
class Lack:
    """A privilege that somebody would need, and where it could be granted."""

    privilege: Privilege
    on: tuple[Securable, ...]


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """Whether somebody has a privilege on an object, by what, or what is missing."""

    subject: Principal
    """About whom it is."""
    privilege: Privilege
    securable: Securable
    allowed: bool
    reasons: tuple[Reason, ...]
    lacks: tuple[Lack, ...]


class GrantService:
    """What one can do with grants, on objects of every room."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._snapshots = Snapshots()

    def granted(
        self, principal: Principal, find: Find, *, grantee: str | None = None, inherited: bool = False
    ) -> tuple[Assignment, ...]:
        """What was granted on a securable (and, `inherited`, on its containers), by grantee.

        Who may manage it sees all; others see what they, their groups and everybody have. Raises NotFound.
        """
        with self._database.read() as connection:
            chain = find(connection)
            require_visible(principal, chain[0])
            wanted = None if grantee is None else _find_grantee(connection, grantee).id
            rows = _applicable(connection, chain if inherited else chain[:1])
        if not allows(principal, Act.MANAGE, chain[0]):
            mine = {principal.name, *principal.groups}
            rows = [(row, on) for row, on in rows if row.grantee in mine]
        return _by_grantee([(row, on) for row, on in rows if wanted in {None, row.grantee_id}])

    def securable(self, principal: Principal, find: Find) -> Securable:
        """What is found, for who may see it. Raises NotFound."""
        with self._database.read() as connection:
            securable = find(connection)[0]
        require_visible(principal, securable)
        return securable

    def change(self, principal: Principal, find: Find, changes: Sequence[Change]) -> None:
        """Grant and revoke, all or nothing.

        Raises NotFound, PermissionDenied, InvalidArgument for a privilege that does not apply or an unknown grantee.
        """
        with self._database.write() as connection:
            securable = self._to_manage(connection, principal, find)
            for change in changes:
                _apply(connection, principal, securable, change)

    def replace(self, principal: Principal, find: Find, wanted: Sequence[Change]) -> None:
        """Let these grantees have what is added here on a securable, and nobody anything else. Raises as `change`."""
        with self._database.write() as connection:
            securable = self._to_manage(connection, principal, find)
            for row in store.on(connection, securable.ids[:1]):
                now_gone = Change(grantee=row.grantee, remove=frozenset({row.privilege}))
                _apply(connection, principal, securable, now_gone)
            for change in wanted:
                _apply(connection, principal, securable, change)

    def explain(self, principal: Principal, who: str, privilege: Privilege, find: Find) -> Explanation:
        """Why somebody has a privilege on a securable, or what is missing.

        For who may manage the securable, and about oneself. Raises NotFound, PermissionDenied, InvalidArgument.
        """
        with self._database.read() as connection:
            chain = find(connection)
            account = accounts.find_by_name(connection, who)
            if account is None or account.id != principal.id:
                require(principal, Act.MANAGE, chain[0])
            elif not principal.grants.on(chain[0].ids[:1]):
                require_visible(principal, chain[0])
            if account is None or account.kind is PrincipalKind.GROUP:
                raise NotFound(f"There is no user or service principal '{who[:80]}'.")
            if privilege not in _meaningful(chain[0].kind):
                check_grantable(chain[0].kind, privilege)
            subject = self._snapshots.principal(connection, standing_of(connection, account))
            rows = _applicable(connection, chain)
        return _explained(subject, privilege, chain, rows)

    def _to_manage(self, connection: Connection, principal: Principal, find: Find) -> Securable:
        store.lock(connection)
        securable = find(connection)[0]
        require(principal, Act.MANAGE, securable)
        require_whole(principal, securable.kind, securable.name)
        return securable


def require_whole(principal: Principal, kind: str, name: str) -> None:
    """Raise PermissionDenied where a token of some paths changes rights: in SQL, one path is all that it can say."""
    if principal.paths is not None:
        acts.denied(principal, Act.MANAGE.value, kind, name)
        raise PermissionDenied("This access token is one of users' code, and changes no rights; do that outside of it.")


def require_visible(principal: Principal, securable: Securable) -> None:
    """Raise NotFound for what the principal may not see; everybody knows of the metastore."""
    if securable is not METASTORE:
        require(principal, Act.SEE, securable)


def forget(connection: Connection, securable_ids: Sequence[str]) -> None:
    """These objects are gone, and so are all grants on them; part of the transaction that removes them."""
    granted = store.granted_among(connection, securable_ids)
    if granted:
        store.lock(connection)  # before the rows, as all who change grants do, so that none waits for another for ever
    for securable_id in granted:
        store.forget(connection, securable_id)


def rename(connection: Connection, old_id: str, new_id: str) -> None:
    """An object whose name is its id has another name; part of the transaction that renames it."""
    if store.granted_among(connection, [old_id]):
        store.lock(connection)
        store.rename(connection, old_id, new_id)


def rights_changed(connection: Connection) -> None:
    """Somebody else owns something now; part of that transaction. Whoever keeps what may be reached looks again."""
    store.lock(connection)


def give(connection: Connection, principal: Principal, securable: Securable, changes: Sequence[Change]) -> None:
    """Grant and revoke in the transaction that makes or changes an object, which the principal may manage.

    Raises PermissionDenied, InvalidArgument as `GrantService.change`.
    """
    if changes:
        require_whole(principal, securable.kind, securable.name)
        store.lock(connection)
    for change in changes:
        _apply(connection, principal, securable, change)


def unity_name(name: str) -> str:
    """A grantee as Unity Catalog names it."""
    return ACCOUNT_USERS if name == USERS else name


def _apply(connection: Connection, principal: Principal, securable: Securable, change: Change) -> None:
    for privilege in change.add | change.remove:
        check_grantable(securable.kind, privilege)
    grantee = _find_grantee(connection, change.grantee)
    if change.kind is not None and change.kind is not grantee.kind:
        raise InvalidArgument(f"'{grantee.name}' is a {grantee.kind.words}, not a {change.kind.words}.")
    removed = store.remove(
        connection, securable_id=securable.ids[0], grantee_id=grantee.id, privileges=change.remove - change.add
    )
    store.add(
        connection, kind=securable.kind, securable_id=securable.ids[0], grantee_id=grantee.id,
        privileges=change.add, by=principal.name, now=utc_now(),
    )  # fmt: skip
    for act, privileges in (("grant", change.add), ("revoke", removed)):
        if privileges:
            told = {"grantee": grantee.name, "privileges": ",".join(sorted(privileges))}
            acts.changed(connection, principal.name, act, securable.kind, securable.name, **told)


def _find_grantee(connection: Connection, name: str) -> Account:
    account = accounts.find_by_name(connection, USERS if name.strip().lower() == ACCOUNT_USERS else name)
    if account is None:
        raise InvalidArgument(
            f"Principal '{name[:80]}' does not exist; name a user, a service principal's application id or a group."
        )
    return account


def _meaningful(kind: str) -> frozenset[Privilege]:
    """What says something about a kind: what it can be granted, and what only its containers can, as USE SCHEMA."""
    return GRANTABLE[kind].union(*ways(kind, Act.SEE))


def _applicable(connection: Connection, chain: Chain) -> list[tuple[store.GrantRow, Securable]]:
    """The grants on a securable and its containers that mean something for it, each with what it was granted on."""
    places = {securable.ids[0]: securable for securable in chain if securable.ids}
    found = [(row, places[row.securable_id]) for row in store.on(connection, list(places))]
    meaning = _meaningful(chain[0].kind)
    return [(row, on) for row, on in found if on is chain[0] or row.privilege in meaning]


def _by_grantee(rows: Iterable[tuple[store.GrantRow, Securable]]) -> tuple[Assignment, ...]:
    assignments = []
    for _, group in groupby(rows, key=lambda pair: pair[0].grantee_id):
        pairs = list(group)
        first = pairs[0][0]
        granted = tuple(Granted(privilege=row.privilege, on=on) for row, on in pairs)
        assignments.append(
            Assignment(
                grantee=first.grantee, kind=first.grantee_kind, display_name=first.grantee_display_name, granted=granted
            )
        )
    return tuple(assignments)


def _explained(
    subject: Principal, privilege: Privilege, chain: Chain, rows: Sequence[tuple[store.GrantRow, Securable]]
) -> Explanation:
    securable = chain[0]
    needed = ways_to_exercise(securable.kind, privilege)[0]
    reasons = [*_standing(subject, privilege, chain)]
    for row, on in rows:
        gives = implied(on.kind, row.privilege) & needed
        if gives and row.grantee in {subject.name, *subject.groups}:
            reasons.append(Reason(by="grant", grantee=row.grantee, on=on, privilege=row.privilege))
    allowed = exercises(subject, privilege, securable)
    lacking = frozenset() if allowed else needed - subject.grants.on(securable.ids)
    lacks = tuple(
        Lack(privilege=each, on=tuple(place for place in chain if each in GRANTABLE[place.kind]))
        for each in sorted(lacking)
    )
    return Explanation(
        subject=subject, privilege=privilege, securable=securable, allowed=allowed, reasons=tuple(reasons),
        lacks=lacks,
    )  # fmt: skip


def _standing(subject: Principal, privilege: Privilege, chain: Chain) -> Iterable[Reason]:
    if subject.is_admin:
        yield Reason(by="administrator", grantee=subject.name, on=chain[0])
    if is_public(privilege, chain[0]):
        yield Reason(by="everybody", grantee=USERS, on=chain[0])
    for place in chain:
        owner = place.owners[0] if place.owners else None
        if owner is not None and owner in {subject.name, *subject.groups}:
            yield Reason(by="ownership", grantee=owner, on=place)
