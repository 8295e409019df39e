"""Credentials, kept by the hash of their secret."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Any

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    Connection,
    Select,
    bindparam,
    delete,
    func,
    insert,
    or_,
    select,
    true,
    update,
)

from millpond.identity.domain import Account, Token
from millpond.identity.store.accounts import account_of
from millpond.identity.store.grants import EPOCH
from millpond.identity.store.groups import Standing, above_all
from millpond.identity.store.tables import memberships, principals, tokens
from millpond.kernel.database import UtcDateTime
from millpond.kernel.ids import new_id

_MAX_LISTED = 10_000


class CredentialKind(Enum):
    """What a credential is for."""

    PERSONAL = "personal"
    SESSION = "session"
    CLIENT_SECRET = "client_secret"  # noqa: S105 - a kind, not a secret
    LENT = "lent"
    """What a signed token of users' code hangs on, so that it ends with the code. Nobody has its secret."""


@dataclass(frozen=True, kw_only=True)
class Held:
    """A valid credential, and the standing of the active account that holds it."""

    standing: Standing
    token: Token

    @property
    def account(self) -> Account:
        """Whose it is."""
        return self.standing.account


def token_of(row: Any) -> Token:
    """The token of a row of `tokens`."""
    return Token(
        id=row.id,
        principal_id=str(row.principal_id),
        created_by=row.created_by,
        comment=row.comment,
        created_at=row.created_at,
        expires_at=row.expires_at,
    )


def find_held(connection: Connection, secret_hash: bytes, kind: CredentialKind, now: datetime) -> Held | None:
    """The unexpired credential of a kind with this hash, if its holder is active."""
    values = {"secret_hash": secret_hash, "kind": kind.value, "now": now}
    return _held_of(connection.execute(_HELD_BY_HASH, values).all())


def find_held_by_id(connection: Connection, token_id: str, now: datetime) -> Held | None:
    """The unexpired credential with this id, if its holder is active."""
    return _held_of(connection.execute(_HELD_BY_ID, {"token_id": token_id, "now": now}).all())


def _held_of(rows: Sequence[Any]) -> Held | None:
    """What the rows say: one for each group of the holder, or a single one without a group."""
    if not rows:
        return None
    row = rows[0]
    token = Token(
        id=row.token_id,
        principal_id=str(row.id),
        created_by=row.token_created_by,
        comment=row.token_comment,
        created_at=row.token_created_at,
        expires_at=row.token_expires_at,
    )
    groups = {str(each.group_id): each.group_name for each in rows if each.group_id is not None}
    return Held(standing=Standing(account=account_of(row), groups=groups, epoch=row.epoch), token=token)


def add(
    connection: Connection,
    *,
    principal_id: str,
    created_by: str,
    secret_hash: bytes,
    kind: CredentialKind,
    comment: str,
    created_at: datetime,
    expires_at: datetime | None,
    parent_id: str | None = None,
    token_id: str | None = None,
) -> Token:
    """Add a credential, under a fresh id where none is given.

    Raises sqlalchemy's IntegrityError when its holder or parent has just been deleted.
    """
    values = {
        "id": token_id or new_id(),
        "principal_id": int(principal_id),
        "parent_id": parent_id,
        "created_by": created_by,
        "secret_hash": secret_hash,
        "kind": kind.value,
        "comment": comment,
        "created_at": created_at,
        "expires_at": expires_at,
    }
    return token_of(connection.execute(insert(tokens).values(values).returning(tokens)).one())


def count(connection: Connection, principal_id: str, kind: CredentialKind) -> int:
    """How many credentials of a kind a principal holds, expired ones included."""
    query = select(func.count()).where(tokens.c.principal_id == int(principal_id), tokens.c.kind == kind.value)
    return connection.execute(query).scalar_one()


def listed(
    connection: Connection,
    kind: CredentialKind,
    now: datetime,
    *,
    principal_id: str | None = None,
    created_by: str | None = None,
) -> tuple[Token, ...]:
    """The unexpired credentials of a kind (of one holder or maker, where given), oldest first."""
    query = select(tokens).where(tokens.c.kind == kind.value, _unexpired(now)).order_by(tokens.c.id).limit(_MAX_LISTED)
    if principal_id is not None:
        query = query.where(tokens.c.principal_id == int(principal_id))
    if created_by is not None:
        query = query.where(tokens.c.created_by == created_by)
    return tuple(token_of(row) for row in connection.execute(query))


def find(connection: Connection, token_id: str, kind: CredentialKind, principal_id: str | None = None) -> Token | None:
    """The credential with an id (of this holder, where given)."""
    row = connection.execute(select(tokens).where(*_which(token_id, kind, principal_id))).first()
    return token_of(row) if row else None


def hash_of(connection: Connection, token_id: str) -> bytes:
    """The hash of a credential's secret."""
    return bytes(connection.execute(select(tokens.c.secret_hash).where(tokens.c.id == token_id)).scalar_one())


def set_comment(connection: Connection, token_id: str, comment: str) -> None:
    """Replace the comment of a credential."""
    connection.execute(update(tokens).where(tokens.c.id == token_id).values(comment=comment))


def remove(connection: Connection, token_id: str, kind: CredentialKind, principal_id: str | None = None) -> bool:
    """Remove a credential (of this holder, where given) and the sessions opened with it; whether there was one."""
    return connection.execute(delete(tokens).where(*_which(token_id, kind, principal_id))).rowcount == 1


def remove_by_hash(connection: Connection, secret_hash: bytes) -> None:
    """Remove the credential with this hash, if there is one."""
    connection.execute(delete(tokens).where(tokens.c.secret_hash == secret_hash))


def remove_sessions(connection: Connection, principal_id: str) -> None:
    """End every browser session of a principal."""
    connection.execute(
        delete(tokens).where(tokens.c.principal_id == int(principal_id), tokens.c.kind == CredentialKind.SESSION.value)
    )


def remove_lent(connection: Connection, by: str) -> None:
    """End what a server has lent."""
    connection.execute(delete(tokens).where(tokens.c.kind == CredentialKind.LENT.value, tokens.c.comment == by))


def remove_expired(connection: Connection, before: datetime) -> int:
    """Remove credentials that expired before a moment; how many there were."""
    return connection.execute(delete(tokens).where(tokens.c.expires_at < before)).rowcount


def _unexpired(now: datetime | BindParameter[datetime]) -> ColumnElement[bool]:
    return or_(tokens.c.expires_at.is_(None), tokens.c.expires_at > now)


def _which(token_id: str, kind: CredentialKind, principal_id: str | None) -> list[ColumnElement[bool]]:
    clauses: list[ColumnElement[bool]] = [tokens.c.id == token_id.replace("\0", ""), tokens.c.kind == kind.value]
    if principal_id is not None:
        clauses.append(tokens.c.principal_id == int(principal_id))
    return clauses


def _held(*which: ColumnElement[bool]) -> Select[Any]:
    columns = [column.label(f"token_{column.name}") for column in tokens.c]
    now = bindparam("now", type_=UtcDateTime)
    found = select(*columns).where(*which, _unexpired(now)).cte("found")
    above = select(memberships.c.group_id).join(found, memberships.c.member_id == found.c.token_principal_id)
    every_above = above_all(above)
    group = principals.alias("its_group")
    return (
        select(
            principals,
            found,
            group.c.id.label("group_id"),
            group.c.name.label("group_name"),
            EPOCH.label("epoch"),
        )
        .join(found, found.c.token_principal_id == principals.c.id)
        .outerjoin(every_above, true())
        .outerjoin(group, group.c.id == every_above.c.group_id)
        .where(principals.c.active)
    )


# built once: every request runs one of them
_HELD_BY_HASH = _held(tokens.c.secret_hash == bindparam("secret_hash"), tokens.c.kind == bindparam("kind"))
_HELD_BY_ID = _held(tokens.c.id == bindparam("token_id"))
