"""Those to whom a room can give a right to something: accounts and groups, by id and by name, in its transaction."""

from collections.abc import Sequence

from sqlalchemy import Connection

from millpond.identity.domain import Principal
from millpond.identity.store import accounts, groups


def grantee_ids(connection: Connection, principal: Principal) -> frozenset[str]:
    """The ids under which a right counts for the principal: its own, and those of all its groups."""
    return groups.ids_above(connection, principal.id) | {principal.id}


def find_grantee(connection: Connection, name: str) -> str | None:
    """The id of the user, service principal (by application id) or group with a name."""
    account = accounts.find_by_name(connection, name)
    return account.id if account else None


def grantee_names(connection: Connection, ids: Sequence[str]) -> dict[str, str]:
    """The names behind ids; those of deleted accounts are left out."""
    return {account.id: account.name for account in accounts.find_many(connection, ids).values()}
