"""What one can do with scopes, secrets and their ACLs. Each method is one unit of work, with its permission check.

Who is an administrator may do all; everybody else what an ACL of theirs, or of a group of theirs, permits. A scope in
which one may do nothing does not exist for one.
"""

import threading
from dataclasses import dataclass

from sqlalchemy import Connection

from millpond.identity import acts
from millpond.identity.access import WORKSPACE, Act, require, require_admin
from millpond.identity.domain import USERS, Principal
from millpond.identity.grantees import find_grantee, grantee_ids, grantee_names
from millpond.kernel.clock import utc_now
from millpond.kernel.database import Database
from millpond.kernel.errors import (
    AlreadyExists,
    DataLoss,
    FailedPrecondition,
    InvalidArgument,
    LimitExceeded,
    NotFound,
    PermissionDenied,
)
from millpond.kernel.ids import new_id
from millpond.secrets import store
from millpond.secrets.domain import (
    MAX_SCOPES,
    MAX_SECRETS,
    Acl,
    Permission,
    Scope,
    Secret,
    checked_name,
    checked_value,
)
from millpond.secrets.envelope import Key, Unreadable
from millpond.secrets.keyring import Keyring

_DATA_KEY = "data key"


@dataclass(frozen=True, kw_only=True)
class Rotation:
    """A change of the master key that has been done."""

    key_id: str
    previous_key_id: str
    scopes: int


class SecretsService:
    """Secrets, for users."""

    def __init__(self, database: Database, keyring: Keyring) -> None:
        self._database = database
        self._keyring = keyring
        self._first = threading.Lock()

    # Scopes

    def create_scope(self, principal: Principal, name: str, *, initial_manager: str | None = None) -> None:
        """Make a scope that the principal manages, or everybody where `initial_manager` is `users`.

        Raises InvalidArgument, AlreadyExists, LimitExceeded.
        """
        require(principal, Act.CREATE_IN, WORKSPACE)
        checked_name(name, "scope name")
        if initial_manager not in {None, USERS}:
            raise InvalidArgument(f"initial_manage_principal can only be '{USERS}'; give others an ACL afterwards.")
        scope_id, data_key = new_id(), Key.new()
        while True:
            master = self._master_key()
            wrapped = master.wrap(data_key, _DATA_KEY, scope_id)
            scope = Scope(id=scope_id, name=name, master_key_id=master.id, wrapped_key=wrapped)
            if self._add_scope(principal, scope, initial_manager):
                return  # else the master key was changed at the same moment

    def list_scopes(self, principal: Principal) -> tuple[Scope, ...]:
        """The scopes in which the principal may do something, by name."""
        with self._database.read() as connection:
            return store.list_scopes(connection, None if principal.is_admin else grantee_ids(connection, principal))

    def permission_on(self, principal: Principal, name: str) -> Permission:
        """The most that the principal may do in a scope. Raises NotFound."""
        with self._database.read() as connection:
            scope = _checked(connection, principal, name, Permission.READ)
            return max(_held(connection, principal, scope.id), key=tuple(Permission).index)

    def delete_scope(self, principal: Principal, name: str) -> None:
        """Delete a scope with all its secrets. Raises NotFound, PermissionDenied."""
        with self._database.write() as connection:
            scope = _locked(connection, principal, name, Permission.MANAGE)
            store.remove_scope(connection, scope.id)
            acts.changed(connection, principal.name, "delete", "secret scope", scope.name)

    # Secrets

    def put_secret(self, principal: Principal, scope_name: str, key: str, value: bytes) -> None:
        """Set the value under a key.

        Raises NotFound, PermissionDenied, InvalidArgument, LimitExceeded.
        """
        checked_name(key, "key")
        checked_value(value)
        with self._database.read() as connection:
            before = _checked(connection, principal, scope_name, Permission.WRITE)
        data_key = self._data_key(before)
        with self._database.write() as connection:
            scope = _locked(connection, principal, scope_name, Permission.WRITE)
            if scope.id != before.id:
                raise NotFound(f"Secret scope '{scope_name}' has just been deleted; another one has its name now.")
            found = store.find_secret(connection, scope.id, key)
            if found is None and store.count_secrets(connection, scope.id) >= MAX_SECRETS:
                raise LimitExceeded(f"Secret scope '{scope.name}' has {MAX_SECRETS} secrets; delete one first.")
            key, version = (found.key, found.version + 1) if found else (key, 1)
            sealed = data_key.seal(value, *_place(scope, key, version))
            store.write_secret(
                connection, scope.id, Secret(key=key, version=version, updated_at=utc_now(), sealed=sealed)
            )
            acts.changed(connection, principal.name, "put", "secret", f"{scope.name}/{key}", version=version)

    def get_secret(self, principal: Principal, scope_name: str, key: str) -> bytes:
        """The value under a key. Raises NotFound, PermissionDenied, DataLoss, MasterKeyUnavailable."""
        with self._database.read() as connection:
            scope = _checked(connection, principal, scope_name, Permission.READ)
            secret = store.find_secret(connection, scope.id, key)
        if secret is None:
            raise _no_secret(scope, key)
        try:
            value = self._data_key(scope).open(secret.sealed, *_place(scope, secret.key, secret.version))
        except Unreadable:
            raise DataLoss(
                f"Secret '{secret.key}' in scope '{scope.name}' does not open with its key: its record in the database "
                "was altered or is damaged. Put the secret again, or bring the database back from a backup."
            ) from None
        acts.reached("read", "secret", f"{scope.name}/{secret.key}")
        return value

    def require_secret(self, principal: Principal, scope_name: str, key: str) -> None:
        """Pass when the principal could read this secret. Raises NotFound, PermissionDenied."""
        with self._database.read() as connection:
            scope = _checked(connection, principal, scope_name, Permission.READ)
            if store.find_secret(connection, scope.id, key) is None:
                raise _no_secret(scope, key)

    def list_secrets(self, principal: Principal, scope_name: str) -> tuple[Secret, ...]:
        """The keys of a scope. Raises NotFound, PermissionDenied."""
        with self._database.read() as connection:
            scope = _checked(connection, principal, scope_name, Permission.READ)
            return store.list_secrets(connection, scope.id)

    def delete_secret(self, principal: Principal, scope_name: str, key: str) -> None:
        """Delete a secret. Raises NotFound, PermissionDenied."""
        with self._database.write() as connection:
            scope = _locked(connection, principal, scope_name, Permission.WRITE)
            if not store.remove_secret(connection, scope.id, key):
                raise _no_secret(scope, key)
            acts.changed(connection, principal.name, "delete", "secret", f"{scope.name}/{key}")

    # ACLs

    def put_acl(self, principal: Principal, scope_name: str, grantee: str, permission: Permission) -> None:
        """Give a user, service principal or group a permission, in place of the one that it has.

        Raises NotFound, PermissionDenied, and InvalidArgument when there is no such grantee.
        """
        with self._database.write() as connection:
            scope = _locked(connection, principal, scope_name, Permission.MANAGE)
            store.write_acl(connection, scope.id, _grantee(connection, grantee), permission)
            details = {"grantee": grantee, "permission": permission.value}
            acts.changed(connection, principal.name, "put acl", "secret scope", scope.name, **details)

    def get_acl(self, principal: Principal, scope_name: str, grantee: str) -> Acl:
        """What a grantee may do. Raises NotFound, PermissionDenied, InvalidArgument as `put_acl` does."""
        with self._database.read() as connection:
            scope = _checked(connection, principal, scope_name, Permission.MANAGE)
            grantee_id = _grantee(connection, grantee)
            found = store.permissions(connection, scope.id, [grantee_id])
            name = grantee_names(connection, [grantee_id]).get(grantee_id, grantee)
        if not found:
            raise NotFound(f"There is no ACL for '{grantee}' on secret scope '{scope.name}'.")
        return Acl(principal=name, permission=found[0])

    def list_acls(self, principal: Principal, scope_name: str) -> tuple[Acl, ...]:
        """Who may do what. Raises NotFound, PermissionDenied."""
        with self._database.read() as connection:
            scope = _checked(connection, principal, scope_name, Permission.MANAGE)
            found = store.list_acls(connection, scope.id)
            names = grantee_names(connection, tuple(found))
        return tuple(Acl(principal=names[each], permission=found[each]) for each in found if each in names)

    def delete_acl(self, principal: Principal, scope_name: str, grantee: str) -> None:
        """Take a grantee's permission away. Raises NotFound, PermissionDenied."""
        with self._database.write() as connection:
            scope = _locked(connection, principal, scope_name, Permission.MANAGE)
            grantee_id = find_grantee(connection, grantee)
            if grantee_id is None or not store.remove_acl(connection, scope.id, grantee_id):
                raise NotFound(f"There is no ACL for '{grantee[:255]}' on secret scope '{scope.name}'.")
            acts.changed(connection, principal.name, "delete acl", "secret scope", scope.name, grantee=grantee)

    # The master key

    def rotate_master_key(self, principal: Principal) -> Rotation:
        """Wrap every scope's data key with the configured master key, or with a new one where none is configured.

        All scopes change in one transaction; before and after it, the key that the database names is known. Raises
        FailedPrecondition when there is nothing to rotate, MasterKeyUnavailable when a key is not here.
        """
        require_admin(principal, "rotate the master key of secrets")
        with self._database.read() as connection:
            if store.find_master_key(connection) is None:
                raise FailedPrecondition("There is no secret scope yet, so there is no master key to rotate.")
        new = self._keyring.fresh()
        with self._database.write() as connection:
            old_id = store.lock_master_key(connection) or ""
            if old_id == new.id:
                raise FailedPrecondition(
                    "The configured master key is the one in use. Give a new one in secrets.key or secrets.key_command "
                    "and the old one in secrets.previous_key, start the server again, then rotate."
                )
            scopes = store.list_scopes(connection)
            for scope in scopes:
                wrapped = new.wrap(self._data_key(scope), _DATA_KEY, scope.id)
                store.rewrap(connection, scope.id, new.id, wrapped)
            store.use_master_key(connection, new.id)
            acts.changed(connection, principal.name, "rotate", "master key", new.id, previous=old_id)
        return Rotation(key_id=new.id, previous_key_id=old_id, scopes=len(scopes))

    def check_master_key(self) -> str | None:
        """The name of the master key in use; None before the first scope. Raises MasterKeyUnavailable."""
        with self._database.read() as connection:
            key_id = store.find_master_key(connection)
        return self._keyring.get(key_id).id if key_id else None

    def _master_key(self) -> Key:
        """The key that the database names; the first time, one that it will name."""
        with self._first:  # else scopes that are made at the same time would each make a key
            with self._database.read() as connection:
                key_id = store.find_master_key(connection)
            return self._keyring.get(key_id) if key_id else self._keyring.fresh()

    def _data_key(self, scope: Scope) -> Key:
        master = self._keyring.get(scope.master_key_id)
        try:
            return master.unwrap(scope.wrapped_key, _DATA_KEY, scope.id)
        except Unreadable:
            raise DataLoss(
                f"The key of secret scope '{scope.name}' does not open with master key {master.id}: its record in the "
                "database was altered or is damaged. Bring the database back from a backup."
            ) from None

    def _add_scope(self, principal: Principal, scope: Scope, initial_manager: str | None) -> bool:
        """Add the scope; False when another master key is in use than it is wrapped with."""
        with self._database.write() as connection:
            if store.lock_master_key(connection) not in {None, scope.master_key_id}:
                return False
            if store.find_scope(connection, scope.name) is not None:
                raise AlreadyExists(f"Secret scope '{scope.name}' exists already.")
            if store.count_scopes(connection) >= MAX_SCOPES:
                raise LimitExceeded(f"There are {MAX_SCOPES} secret scopes already; delete one first.")
            store.use_master_key(connection, scope.master_key_id)
            store.add_scope(connection, scope, created_by=principal.name, now=utc_now())
            manager = _grantee(connection, initial_manager or principal.name)
            store.write_acl(connection, scope.id, manager, Permission.MANAGE)
            acts.changed(connection, principal.name, "create", "secret scope", scope.name)
        return True


def _locked(connection: Connection, principal: Principal, name: str, wanted: Permission) -> Scope:
    return _checked(connection, principal, name, wanted, lock=True)


def _checked(
    connection: Connection, principal: Principal, name: str, wanted: Permission, *, lock: bool = False
) -> Scope:
    """The scope, if it exists and the principal may; asks the same questions whether it exists or not."""
    scope = store.find_scope(connection, name, lock=lock)
    held = _held(connection, principal, scope.id if scope else "")
    if scope is not None and any(permission.includes(wanted) for permission in held):
        return scope
    acts.denied(principal, wanted.value, "secret scope", name[:128])
    if scope is None or not held:
        raise NotFound(f"Secret scope '{name[:128]}' does not exist.")
    raise PermissionDenied(
        f"{principal.name} does not have {wanted.value} permission on secret scope '{scope.name}'; ask who manages it."
    )


def _held(connection: Connection, principal: Principal, scope_id: str) -> tuple[Permission, ...]:
    found = store.permissions(connection, scope_id, grantee_ids(connection, principal))
    return (Permission.MANAGE,) if principal.is_admin else found


def _grantee(connection: Connection, name: str) -> str:
    found = find_grantee(connection, name)
    if found is None:
        raise InvalidArgument(f"There is no user, service principal or group '{name[:255]}'.")
    return found


def _no_secret(scope: Scope, key: str) -> NotFound:
    return NotFound(f"Secret '{key[:128]}' does not exist in scope '{scope.name}'.")


def _place(scope: Scope, key: str, version: int) -> tuple[str | int, ...]:
    """Where a sealed value belongs."""
    return ("value", scope.id, key, version)
