"""The tables of secrets and all their SQL."""

from collections.abc import Collection
from datetime import datetime
from typing import Any

from sqlalchemy import (
    Column,
    Connection,
    ForeignKey,
    Integer,
    LargeBinary,
    String,
    Table,
    delete,
    func,
    insert,
    select,
    update,
)

from millpond.kernel.database import BigId, UtcDateTime, metadata
from millpond.secrets.domain import MAX_SCOPES, MAX_SECRETS, Permission, Scope, Secret, name_key

master_key = Table(
    "secrets_master_key",  # one row, which the migration makes: the lock of everything that wraps keys
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("key_id", String(64)),
)

scopes = Table(
    "secrets_scopes",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("name", String(128), nullable=False),
    Column("name_key", String(128), nullable=False, unique=True),
    Column("master_key_id", String(64), nullable=False),
    Column("wrapped_key", LargeBinary, nullable=False),
    Column("created_by", String(255), nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
)

secrets = Table(
    "secrets_secrets",
    metadata,
    Column("scope_id", String(36), ForeignKey("secrets_scopes.id", ondelete="CASCADE"), primary_key=True),
    Column("name_key", String(128), primary_key=True),
    Column("key", String(128), nullable=False),
    Column("version", Integer, nullable=False),
    Column("sealed", LargeBinary, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
)

acls = Table(
    "secrets_acls",
    metadata,
    Column("scope_id", String(36), ForeignKey("secrets_scopes.id", ondelete="CASCADE"), primary_key=True),
    Column(
        "principal_id",
        BigId,
        ForeignKey("identity_principals.id", ondelete="CASCADE"),
        primary_key=True,
        autoincrement=False,
        index=True,
    ),
    Column("permission", String(10), nullable=False),
)


# The master key


def find_master_key(connection: Connection) -> str | None:
    """The name of the master key in use; None before the first scope."""
    found: str | None = connection.execute(select(master_key.c.key_id)).scalar_one()
    return found


def lock_master_key(connection: Connection) -> str | None:
    """The same, and nobody else makes a scope or rotates until this transaction ends."""
    found: str | None = connection.execute(select(master_key.c.key_id).with_for_update()).scalar_one()
    return found


def use_master_key(connection: Connection, key_id: str) -> None:
    """Name the master key in use; the caller holds the lock."""
    connection.execute(update(master_key).values(key_id=key_id))


def rewrap(connection: Connection, scope_id: str, key_id: str, wrapped_key: bytes) -> None:
    """Replace a scope's wrapped data key; the caller holds the lock."""
    statement = update(scopes).where(scopes.c.id == scope_id)
    connection.execute(statement.values(master_key_id=key_id, wrapped_key=wrapped_key))


# Scopes


def find_scope(connection: Connection, name: str, *, lock: bool = False) -> Scope | None:
    """The scope with a name; with `lock`, its secrets and ACLs stay as they are until this transaction ends."""
    query = select(scopes).where(scopes.c.name_key == name_key(name))
    row = connection.execute(query.with_for_update() if lock else query).first()
    return _scope(row) if row else None


def list_scopes(connection: Connection, grantees: Collection[str] | None = None) -> tuple[Scope, ...]:
    """The scopes in which one of the grantees has a permission (all of them for None), by name."""
    query = select(scopes).order_by(scopes.c.name_key).limit(MAX_SCOPES)
    if grantees is not None:
        seen = select(acls.c.scope_id).where(acls.c.principal_id.in_(sorted(map(int, grantees))))
        query = query.where(scopes.c.id.in_(seen))
    return tuple(_scope(row) for row in connection.execute(query))


def count_scopes(connection: Connection) -> int:
    """How many scopes there are."""
    return connection.execute(select(func.count()).select_from(scopes)).scalar_one()


def add_scope(connection: Connection, scope: Scope, *, created_by: str, now: datetime) -> None:
    """Add a scope; the caller has locked the master key and found its name free."""
    values = {
        "id": scope.id,
        "name": scope.name,
        "name_key": name_key(scope.name),
        "master_key_id": scope.master_key_id,
        "wrapped_key": scope.wrapped_key,
        "created_by": created_by,
        "created_at": now,
    }
    connection.execute(insert(scopes).values(values))


def remove_scope(connection: Connection, scope_id: str) -> None:
    """Remove a scope with its secrets and ACLs."""
    connection.execute(delete(scopes).where(scopes.c.id == scope_id))


def _scope(row: Any) -> Scope:
    return Scope(id=row.id, name=row.name, master_key_id=row.master_key_id, wrapped_key=bytes(row.wrapped_key))


# Secrets


def find_secret(connection: Connection, scope_id: str, key: str) -> Secret | None:
    """The secret under a key."""
    query = select(secrets).where(secrets.c.scope_id == scope_id, secrets.c.name_key == name_key(key))
    row = connection.execute(query).first()
    return _secret(row) if row else None


def list_secrets(connection: Connection, scope_id: str) -> tuple[Secret, ...]:
    """The secrets of a scope, by key."""
    query = select(secrets).where(secrets.c.scope_id == scope_id).order_by(secrets.c.name_key).limit(MAX_SECRETS)
    return tuple(_secret(row) for row in connection.execute(query))


def count_secrets(connection: Connection, scope_id: str) -> int:
    """How many secrets a scope has."""
    return connection.execute(select(func.count()).where(secrets.c.scope_id == scope_id)).scalar_one()


def write_secret(connection: Connection, scope_id: str, secret: Secret) -> None:
    """Add a secret (version 1) or replace the one under its key; the caller has locked the scope."""
    values = {
        "key": secret.key,
        "version": secret.version,
        "sealed": secret.sealed,
        "updated_at": secret.updated_at,
    }
    which = {"scope_id": scope_id, "name_key": name_key(secret.key)}
    if secret.version == 1:
        connection.execute(insert(secrets).values(values | which))
    else:
        connection.execute(update(secrets).filter_by(**which).values(values))


def remove_secret(connection: Connection, scope_id: str, key: str) -> bool:
    """Remove a secret; whether there was one."""
    which = (secrets.c.scope_id == scope_id, secrets.c.name_key == name_key(key))
    return connection.execute(delete(secrets).where(*which)).rowcount == 1


def _secret(row: Any) -> Secret:
    return Secret(key=row.key, version=row.version, updated_at=row.updated_at, sealed=bytes(row.sealed))


# ACLs


def permissions(connection: Connection, scope_id: str, grantees: Collection[str]) -> tuple[Permission, ...]:
    """What each of the grantees that has one is permitted."""
    which = acls.c.principal_id.in_(sorted(map(int, grantees)))
    query = select(acls.c.permission).where(acls.c.scope_id == scope_id, which)
    return tuple(Permission(value) for value in connection.execute(query).scalars())


def list_acls(connection: Connection, scope_id: str) -> dict[str, Permission]:
    """The permissions of a scope by the grantee's id."""
    query = select(acls).where(acls.c.scope_id == scope_id).order_by(acls.c.principal_id)
    return {str(row.principal_id): Permission(row.permission) for row in connection.execute(query)}


def write_acl(connection: Connection, scope_id: str, principal_id: str, permission: Permission) -> None:
    """Give a permission in place of the one that there was; the caller has locked the scope."""
    remove_acl(connection, scope_id, principal_id)
    values = {"scope_id": scope_id, "principal_id": int(principal_id), "permission": permission.value}
    connection.execute(insert(acls).values(values))


def remove_acl(connection: Connection, scope_id: str, principal_id: str) -> bool:
    """Take a permission away; whether there was one."""
    which = (acls.c.scope_id == scope_id, acls.c.principal_id == int(principal_id))
    return connection.execute(delete(acls).where(*which)).rowcount == 1
