"""Owners of views and functions, whose texts read tables with their owner's rights.

So nobody may put words into another's mouth: who replaces the text of another's becomes its owner, and a text is given
only to who has no more rights than the giver: to oneself or a group of one's own. Administrators give to anybody.
"""

from collections.abc import Mapping

from sqlalchemy import Connection

from millpond.catalog.domain import Function, Table
from millpond.identity import acts, grants
from millpond.identity.domain import Principal
from millpond.kernel.errors import PermissionDenied


def author_owns(connection: Connection, principal: Principal, item: Table | Function) -> Mapping[str, str]:
    """The change of a row's owner when the principal replaces the text."""
    if _speaks_for(principal, item.owner):
        return {}
    grants.rights_changed(connection)
    return {"owner": principal.name}


def check_giver(principal: Principal, item: Table | Function, owner: str | None) -> None:
    """Raises PermissionDenied for a new owner (None for no change) whose rights the principal does not have."""
    if owner is None or owner == item.owner or principal.is_admin or _speaks_for(principal, owner):
        return
    acts.denied(principal, "give away", item.securable.kind, str(item.name))
    raise PermissionDenied(
        f"'{item.name}' reads with the rights of its owner, so only an administrator can give it to '{owner[:80]}'; "
        "others to themselves or a group that they are in."
    )


def _speaks_for(principal: Principal, owner: str) -> bool:
    return owner == principal.name or owner in principal.groups
