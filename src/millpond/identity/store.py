"""The tables of identity and all their SQL."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import (
    Boolean,
    Column,
    Connection,
    ForeignKey,
    LargeBinary,
    String,
    Table,
    delete,
    func,
    insert,
    or_,
    select,
    update,
)

from millpond.identity.domain import Account, PrincipalKind, Token
from millpond.kernel.database import BigId, UtcDateTime, metadata

principals = Table(
    "identity_principals",
    metadata,
    Column("id", BigId, primary_key=True, autoincrement=True),
    Column("kind", String(20), nullable=False),
    Column("name", String(255), nullable=False),
    Column("name_key", String(255), nullable=False, unique=True),  # the name in lower case
    Column("display_name", String(255), nullable=False),
    Column("is_admin", Boolean, nullable=False),
    Column("active", Boolean, nullable=False),
    Column("external_id", String(255)),
    Column("password_hash", String(255)),
    Column("created_at", UtcDateTime, nullable=False),
)

tokens = Table(
    "identity_tokens",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("principal_id", BigId, ForeignKey("identity_principals.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("secret_hash", LargeBinary(32), nullable=False, unique=True),
    Column("kind", String(20), nullable=False),  # personal | session | client_secret
    Column("comment", String(1000), nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("expires_at", UtcDateTime),
)


def account_of(row: Any) -> Account:
    """The account of a row of `principals`."""
    return Account(
        id=str(row.id),
        name=row.name,
        kind=PrincipalKind(row.kind),
        display_name=row.display_name,
        is_admin=row.is_admin,
        active=row.active,
        external_id=row.external_id,
        created_at=row.created_at,
    )


def token_of(row: Any) -> Token:
    """The token of a row of `tokens`."""
    return Token(
        id=row.id,
        principal_id=str(row.principal_id),
        comment=row.comment,
        created_at=row.created_at,
        expires_at=row.expires_at,
    )


def find_by_credential(connection: Connection, secret_hash: bytes, kinds: Sequence[str], now: datetime) -> Account | None:
    """The active account that holds an unexpired credential."""
    query = (
        select(principals)
        .join(tokens, tokens.c.principal_id == principals.c.id)
        .where(tokens.c.secret_hash == secret_hash, tokens.c.kind.in_(kinds), principals.c.active)
        .where(or_(tokens.c.expires_at.is_(None), tokens.c.expires_at > now))
    )
    row = connection.execute(query).first()
    return account_of(row) if row else None


def find_account(connection: Connection, principal_id: str) -> Account | None:
    """The account with an id."""
    if not principal_id.isdecimal() or len(principal_id) > 18:
        return None
    row = connection.execute(select(principals).where(principals.c.id == int(principal_id))).first()
    return account_of(row) if row else None


def find_account_by_name(connection: Connection, name: str) -> Account | None:
    """The account with a name, without regard to case."""
    row = connection.execute(select(principals).where(principals.c.name_key == name.casefold())).first()
    return account_of(row) if row else None


def find_password_hash(connection: Connection, principal_id: str) -> str | None:
    """The stored hash of a password."""
    query = select(principals.c.password_hash).where(principals.c.id == int(principal_id))
    value: str | None = connection.execute(query).scalar()
    return value


def set_password_hash(connection: Connection, principal_id: str, password_hash: str | None) -> None:
    """Replace the stored hash of a password."""
    connection.execute(
        update(principals).where(principals.c.id == int(principal_id)).values(password_hash=password_hash)
    )


def insert_account(
    connection: Connection,
    *,
    kind: PrincipalKind,
    name: str,
    display_name: str,
    is_admin: bool,
    active: bool,
    external_id: str | None,
    created_at: datetime,
) -> Account:
    """Add an account; the caller has checked that the name is free in this transaction."""
    values = {
        "kind": kind.value,
        "name": name,
        "name_key": name.casefold(),
        "display_name": display_name,
        "is_admin": is_admin,
        "active": active,
        "external_id": external_id,
        "created_at": created_at,
    }
    return account_of(connection.execute(insert(principals).values(values).returning(principals)).one())


def count_accounts(connection: Connection) -> int:
    """How many accounts there are."""
    return connection.execute(select(func.count()).select_from(principals)).scalar_one()


def insert_token(
    connection: Connection,
    *,
    token_id: str,
    principal_id: str,
    secret_hash: bytes,
    kind: str,
    comment: str,
    created_at: datetime,
    expires_at: datetime | None,
) -> Token:
    """Add a credential by its hash."""
    values = {
        "id": token_id,
        "principal_id": int(principal_id),
        "secret_hash": secret_hash,
        "kind": kind,
        "comment": comment,
        "created_at": created_at,
        "expires_at": expires_at,
    }
    return token_of(connection.execute(insert(tokens).values(values).returning(tokens)).one())


def list_tokens(connection: Connection, principal_id: str | None, kind: str) -> tuple[Token, ...]:
    """The credentials of one kind of a principal, or of all, oldest first."""
    query = select(tokens).where(tokens.c.kind == kind).order_by(tokens.c.id).limit(10_000)
    if principal_id is not None:
        query = query.where(tokens.c.principal_id == int(principal_id))
    return tuple(token_of(row) for row in connection.execute(query))


def delete_token(connection: Connection, token_id: str, principal_id: str | None) -> bool:
    """Remove a credential (of this principal, where given); whether there was one."""
    query = delete(tokens).where(tokens.c.id == token_id)
    if principal_id is not None:
        query = query.where(tokens.c.principal_id == int(principal_id))
    return connection.execute(query).rowcount == 1


def delete_credential(connection: Connection, secret_hash: bytes) -> None:
    """Remove the credential with this hash, if there is one."""
    connection.execute(delete(tokens).where(tokens.c.secret_hash == secret_hash))
