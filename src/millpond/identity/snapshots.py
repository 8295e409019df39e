"""From an account to the principal who asks, with the snapshot of its grants.

A snapshot is good for as long as the grants' epoch stands, which the query that authenticates reads along; so a check
of rights costs no query, and a grant or its revocation counts from the next request on, in every process.
"""

from collections import OrderedDict
from threading import Lock

from sqlalchemy import Connection

from millpond.identity.domain import ADMINS, NO_GRANTS, USERS, WORKER, WORKER_PATHS, Grants, Principal
from millpond.identity.store import grants
from millpond.identity.store.groups import Standing

_KEPT = 500


class Snapshots:
    """Snapshots by whose they are and their epoch; the least used are forgotten."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[frozenset[str], int], Grants] = OrderedDict()
        self._lock = Lock()

    def principal(self, connection: Connection, standing: Standing) -> Principal:
        """The account as the one who asks; an administrator when `admins` is among its groups."""
        account = standing.account
        names = frozenset({USERS, *standing.groups.values()})
        is_admin = ADMINS in names
        found = NO_GRANTS if is_admin else self._grants(connection, standing)
        return Principal(
            id=account.id,
            name=account.name,
            kind=account.kind,
            is_admin=is_admin,
            groups=names,
            grants=found,
            epoch=standing.epoch,
            paths=WORKER_PATHS if WORKER in account.profile.entitlements else None,
        )

    def _grants(self, connection: Connection, standing: Standing) -> Grants:
        key = (frozenset({standing.account.id, *standing.groups}), standing.epoch)
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        found = Grants(grants.held(connection, key[0]))
        with self._lock:
            found = self._kept.setdefault(key, found)
            while len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        return found
