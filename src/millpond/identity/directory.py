"""Users, service principals and groups: read by all who are signed in, changed by administrators."""

import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from millpond.identity import acts
from millpond.identity.access import require_admin
from millpond.identity.credentials import hash_password
from millpond.identity.domain import (
    USERS,
    Account,
    Draft,
    Entry,
    Principal,
    PrincipalKind,
    Profile,
    checked_name,
    checked_text,
)
from millpond.identity.filters import Filter, SortKey
from millpond.identity.store import accounts, groups, tokens
from millpond.kernel.clock import utc_now
from millpond.kernel.database import Database
from millpond.kernel.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound

MAX_PAGE = 1000

Renamed: TypeAlias = Callable[[Connection, str, str], None]
"""Told of a group's old and new name, inside the transaction that renames it."""


@dataclass(frozen=True, kw_only=True)
class Listing:
    """One page of a list, and how many there are in all."""

    total: int
    start_index: int
    entries: tuple[Entry, ...]


class DirectoryService:
    """What an administrator, or a company's directory by SCIM, does to accounts and groups.

    Each change reads, edits and writes in one transaction under one lock, so that two administrators who add members
    to a group at the same time both succeed, and the last administrator cannot be lost between them.
    """

    def __init__(self, database: Database, *, group_renamed: Sequence[Renamed] = ()) -> None:
        self._database = database
        self._group_renamed = tuple(group_renamed)

    def workspace_id(self) -> int:
        """The number of this workspace; it never changes."""
        with self._database.read() as connection:
            return accounts.workspace_id(connection)

    def exists(self, name: str) -> bool:
        """Whether a user, service principal or group has this name, so that it may own objects."""
        return self.find_principal(name) is not None

    def find_principal(self, name: str) -> Account | None:
        """The user, service principal or group with this name, without regard to case."""
        with self._database.read() as connection:
            return accounts.find_by_name(connection, name)

    def members_below(self, name: str) -> frozenset[str]:
        """The names of all users and service principals in a group, directly or not; none where there is no such."""
        with self._database.read() as connection:
            found = accounts.find_by_name(connection, name)
            if found is None or found.kind is not PrincipalKind.GROUP:
                return frozenset()
            if found.name == USERS:
                return frozenset(each.name for each in groups.everybody(connection))
            return groups.names_below(connection, found.id)

    def is_entitled(self, principal: Principal, entitlement: str) -> bool:
        """Whether somebody or one of their groups has an entitlement, as their directory says."""
        with self._database.read() as connection:
            found = (accounts.find_by_name(connection, name) for name in (principal.name, *sorted(principal.groups)))
            return any(account is not None and entitlement in account.profile.entitlements for account in found)

    def find_exact_name(self, name: str) -> str | None:
        """The name as its owner spells it, for a name in any case; None when nobody has it."""
        account = self.find_principal(name)
        return account.name if account else None

    def get(self, principal: Principal, kind: PrincipalKind | None, account_id: str) -> Entry:
        """The account with this id.

        Raises NotFound.
        """
        with self._database.read() as connection:
            return _shown_to(principal, _entry(connection, _found(connection, kind, account_id)))

    def list(
        self,
        principal: Principal,
        kind: PrincipalKind,
        *,
        wanted: Filter | None = None,
        sort: SortKey | None = None,
        start_index: int = 1,
        count: int = 100,
        with_members: bool = True,
    ) -> Listing:
        """One page of the accounts of a kind; `start_index` begins with 1, `count` 0 only counts."""
        start, limit = max(start_index, 1), min(max(count, 0), MAX_PAGE)
        with self._database.read() as connection:
            total, found = accounts.page(connection, kind, wanted, sort, offset=start - 1, limit=limit)
            entries = _entries(connection, found, with_members=with_members and principal.is_admin)
        return Listing(total=total, start_index=start, entries=tuple(_shown_to(principal, entry) for entry in entries))

    def create(self, principal: Principal, kind: PrincipalKind, draft: Draft) -> Entry:
        """Add an account.

        Raises PermissionDenied, AlreadyExists, and InvalidArgument for a name or member that will not do.
        """
        require_admin(principal, f"create a {kind.words}")
        draft = _checked(kind, draft)
        password_hash = hash_password(draft.password) if draft.password is not None else None
        with self._database.write() as connection:
            groups.lock(connection)
            account = _added(connection, kind, draft)
            if password_hash is not None:
                accounts.set_password_hash(connection, account.id, password_hash)
            _set_members(connection, account, draft.member_ids)
            _set_groups(connection, account, draft.group_ids)
            acts.changed(connection, principal.name, "create", kind.words, account.name)
            return _entry(connection, account)

    def update(
        self, principal: Principal, kind: PrincipalKind, account_id: str, edit: Callable[[Entry], Draft]
    ) -> Entry:
        """Replace an account by what `edit` makes of it.

        Raises PermissionDenied, NotFound, InvalidArgument, AlreadyExists for a group's new name that is taken, and
        FailedPrecondition when no administrator would be left.
        """
        require_admin(principal, f"change a {kind.words}")
        with self._database.read() as connection:
            password = edit(_entry(connection, _found(connection, kind, account_id))).password
        password_hash = hash_password(password) if password is not None else None  # slow, so before the transaction
        with self._database.write() as connection:
            groups.lock(connection)
            entry = _entry(connection, _found(connection, kind, account_id))
            draft = _checked(kind, edit(entry), old=entry.account)
            self._apply(connection, principal, entry.account, draft, password_hash)
            acts.changed(connection, principal.name, "change", kind.words, draft.name, active=draft.active)
            return _entry(connection, _found(connection, kind, account_id))

    def delete(self, principal: Principal, kind: PrincipalKind, account_id: str) -> None:
        """Remove an account with its credentials and memberships; what it owns stays under its name.

        Raises PermissionDenied, NotFound, and FailedPrecondition for oneself, the last administrator or a built-in
        group.
        """
        require_admin(principal, f"delete a {kind.words}")
        with self._database.write() as connection:
            groups.lock(connection)
            account = _found(connection, kind, account_id)
            if account.id == principal.id:
                raise FailedPrecondition("You cannot delete yourself; ask another administrator.")
            if account.is_built_in:
                raise FailedPrecondition(f"The group '{account.name}' always exists and cannot be deleted.")
            accounts.remove(connection, account.id)
            _keep_an_administrator(connection)
            acts.changed(connection, principal.name, "delete", kind.words, account.name)

    def _apply(
        self, connection: Connection, principal: Principal, account: Account, draft: Draft, password_hash: str | None
    ) -> None:
        if account.id == principal.id and not draft.active:
            raise FailedPrecondition("You cannot deactivate yourself; ask another administrator.")
        try:
            accounts.change(connection, account.id, draft)
        except IntegrityError as error:
            raise AlreadyExists(f"The name '{draft.name}' is taken.") from error
        if password_hash is not None:
            accounts.set_password_hash(connection, account.id, password_hash)
            tokens.remove_sessions(connection, account.id)
        if account.kind is PrincipalKind.GROUP:
            _set_members(connection, account, draft.member_ids)
            if draft.name != account.name:
                for tell in self._group_renamed:
                    tell(connection, account.name, draft.name)
        _set_groups(connection, account, draft.group_ids)
        _keep_an_administrator(connection)


def _found(connection: Connection, kind: PrincipalKind | None, account_id: str) -> Account:
    account = accounts.find(connection, account_id, kind)
    if account is None:
        words = kind.words.capitalize() if kind else "Principal"
        raise NotFound(f"{words} with id '{account_id[:40]}' does not exist.")
    return account


def _added(connection: Connection, kind: PrincipalKind, draft: Draft) -> Account:
    taken = accounts.find_by_name(connection, draft.name)
    if taken is not None:
        raise AlreadyExists(f"The name '{draft.name}' is taken by a {taken.kind.words}.")
    try:
        return accounts.add(connection, kind, draft, utc_now())
    except IntegrityError as error:  # another process, which did not wait for our lock
        raise AlreadyExists(f"The name '{draft.name}' is taken.") from error


def _entry(connection: Connection, account: Account) -> Entry:
    return _entries(connection, [account], with_members=True)[0]


def _entries(connection: Connection, found: Sequence[Account], *, with_members: bool) -> list[Entry]:
    ids = [account.id for account in found]
    groups_of = groups.groups_of(connection, ids)
    group_ids = [account.id for account in found if account.kind is PrincipalKind.GROUP]
    members_of = groups.members_of(connection, group_ids) if with_members and group_ids else {}
    entries = []
    for account in found:
        is_everybody = account.is_built_in and account.name == USERS
        members = groups.everybody(connection) if with_members and is_everybody else members_of.get(account.id, ())
        entries.append(Entry(account=account, groups=groups_of.get(account.id, ()), members=members))
    if any(account.kind is not PrincipalKind.GROUP for account in found):
        users = groups.group_named(connection, USERS)
        entries = [
            entry if entry.account.kind is PrincipalKind.GROUP else replace(entry, groups=(*entry.groups, users))
            for entry in entries
        ]
    return entries


def _shown_to(principal: Principal, entry: Entry) -> Entry:
    """The whole entry for administrators and for oneself; names and id for others.

    Source: the Databricks SCIM documentation: who is no administrator reads display names and ids.
    """
    if principal.is_admin or principal.id == entry.account.id:
        return entry
    bare = replace(entry.account, external_id=None, profile=Profile())
    return Entry(account=bare, reduced=True)


def _checked(kind: PrincipalKind, draft: Draft, old: Account | None = None) -> Draft:
    name = old.name if old is not None and old.name == draft.name else checked_name(draft.name, kind)
    if old is not None and old.is_built_in and name != old.name:
        raise InvalidArgument(f"The group '{old.name}' is built in and keeps its name.")
    if kind is PrincipalKind.SERVICE_PRINCIPAL and old is None:
        name = _checked_application_id(name)
    if kind is not PrincipalKind.USER and draft.password is not None:
        raise InvalidArgument(f"A {kind.words} has no password.")
    display_name = name if kind is PrincipalKind.GROUP else checked_text(draft.display_name or name, "display name")
    if draft.external_id is not None:
        checked_text(draft.external_id, "external id")
    return replace(draft, name=name, display_name=display_name, profile=_checked_profile(draft.profile))


def _checked_application_id(text: str) -> str:
    try:
        return str(uuid.UUID(text))
    except ValueError as error:
        raise InvalidArgument(
            f"An application id is a UUID, or is left out to get one; this is '{text[:80]}'."
        ) from error


def _checked_profile(profile: Profile) -> Profile:
    for text in (profile.given_name, profile.family_name, *profile.emails, *profile.entitlements, *profile.roles):
        if text is not None:
            checked_text(text, "profile")
    if max(len(profile.emails), len(profile.entitlements), len(profile.roles)) > 100:
        raise InvalidArgument("An account has at most 100 e-mail addresses, entitlements and roles each.")
    return profile


def _set_members(connection: Connection, group: Account, wanted: frozenset[str]) -> None:
    """Make the direct members of a group these, and no others."""
    if group.kind is not PrincipalKind.GROUP:
        return
    if group.is_built_in and group.name == USERS:
        present = {member.id for member in groups.everybody(connection)}
        if not wanted <= present or (wanted and wanted != present):
            raise InvalidArgument("Everybody is in the group 'users'; nobody can be added to it or removed.")
        return
    present = {member.id for member in groups.members_of(connection, [group.id]).get(group.id, ())}
    new = wanted - present
    _require_members(connection, group, new)
    groups.join(connection, group.id, sorted(new))
    groups.leave(connection, group.id, present - wanted)


def _require_members(connection: Connection, group: Account, new: frozenset[str]) -> None:
    found = accounts.find_many(connection, sorted(new))
    missing = sorted(new - found.keys())
    if missing:
        raise InvalidArgument(f"There is no user, service principal or group with id '{missing[0][:40]}'.")
    for account in found.values():
        if account.is_built_in:
            raise InvalidArgument(f"The group '{account.name}' is built in and cannot be a member of another.")
        if account.kind is PrincipalKind.GROUP and groups.contains(connection, account.id, group.id):
            raise InvalidArgument(f"The group '{group.name}' would be a member of itself through '{account.name}'.")


def _set_groups(connection: Connection, account: Account, wanted: frozenset[str] | None) -> None:
    """Make the direct groups of an account these (and `users`); None leaves them."""
    if wanted is None:
        return
    present = {group.id for group in groups.groups_of(connection, [account.id]).get(account.id, ())}
    wanted = wanted - {groups.group_named(connection, USERS).id}
    for group_id in sorted(wanted - present):
        group = accounts.find(connection, group_id, PrincipalKind.GROUP)
        if group is None:
            raise InvalidArgument(f"There is no group with id '{group_id[:40]}'.")
        _require_members(connection, group, frozenset({account.id}))
        groups.join(connection, group.id, [account.id])
    for group_id in present - wanted:
        groups.leave(connection, group_id, [account.id])


def _keep_an_administrator(connection: Connection) -> None:
    if not groups.has_administrator(connection):
        raise FailedPrecondition("This would leave no administrator; make somebody else one first.")
