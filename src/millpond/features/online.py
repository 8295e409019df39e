"""Online stores from the user's side: made, changed, and given feature tables to serve.

Source of names and arguments: Databricks' public guide "Online Feature Stores".
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from millpond.features.connection import Connection

_API = "/api/2.0/feature-store"


@dataclass(frozen=True, kw_only=True)
class OnlineStore:
    """What `get_online_store` tells."""

    name: str
    capacity: str
    read_replica_count: int = 0
    usage_policy_id: str | None = None
    state: str
    creator: str
    creation_time: str


@dataclass(frozen=True, kw_only=True)
class PublishedTable:
    """What `publish_table` began; the rows follow."""

    online_table_name: str
    pipeline_id: str


class OnlineStores:
    """What one can do with online stores. The part of the client that has to do with them alone."""

    _connection: Connection

    def create_online_store(
        self,
        *,
        name: str,
        capacity: str,
        read_replica_count: int | None = None,
        usage_policy_id: str | None = None,
    ) -> OnlineStore:
        """A new online store; `capacity` is CU_1, CU_2, CU_4 or CU_8. Raises ValueError."""
        given = {"capacity": capacity, "read_replica_count": read_replica_count, "usage_policy_id": usage_policy_id}
        return _store(self._connection.post(f"{_API}/online-stores", {"name": name, **_only_given(given)}))

    def get_online_store(self, *, name: str) -> OnlineStore | None:
        """The online store, or None."""
        found = self._connection.get(_path("online-stores", name))
        return None if found is None else _store(found)

    def list_online_stores(self) -> list[OnlineStore]:
        """All online stores, by name."""
        found: list[OnlineStore] = []
        token = ""
        while True:
            page = self._connection.get(f"{_API}/online-stores?page_token={quote(token, safe='')}") or {}
            found += map(_store, page.get("online_stores", []))
            token = page.get("next_page_token") or ""
            if not token:
                return found

    def update_online_store(
        self,
        *,
        name: str,
        capacity: str | None = None,
        read_replica_count: int | None = None,
        usage_policy_id: str | None = None,
    ) -> OnlineStore:
        """The online store after a change of what is given. Raises ValueError."""
        values = {"capacity": capacity, "read_replica_count": read_replica_count, "usage_policy_id": usage_policy_id}
        given = _only_given(values)
        path = f"{_path('online-stores', name)}?update_mask={','.join(given)}"
        return _store(self._connection.patch(path, given))

    def delete_online_store(self, *, name: str) -> None:
        """Remove an online store that has no online tables."""
        self._connection.delete(_path("online-stores", name))

    def publish_table(
        self,
        *,
        online_store: OnlineStore | str,
        source_table_name: str,
        online_table_name: str,
        publish_mode: str = "TRIGGERED",
    ) -> PublishedTable:
        """Have an online table follow its feature table: now (TRIGGERED), all rows anew (SNAPSHOT), or from now on
        after each commit (CONTINUOUS). Returns when that is noted; the rows follow.

        Raises ValueError for a table that cannot be published.
        """
        spec = {
            "online_store": online_store if isinstance(online_store, str) else online_store.name,
            "online_table_name": self._connection.full_name(online_table_name),
            "publish_mode": publish_mode,
        }
        source = self._connection.full_name(source_table_name)
        made = self._connection.post(f"{_path('tables', source)}/publish", {"publish_spec": spec})
        return PublishedTable(online_table_name=made["online_table_name"], pipeline_id=made["pipeline_id"])

    def delete_online_table(self, *, name: str) -> None:
        """Remove an online table; its feature table stays."""
        self._connection.delete(_path("online-tables", self._connection.full_name(name)))


def _path(kind: str, name: str) -> str:
    return f"{_API}/{kind}/{quote(name, safe='')}"


def _only_given(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}


def _store(told: Mapping[str, Any]) -> OnlineStore:
    return OnlineStore(**{name: told[name] for name in OnlineStore.__dataclass_fields__ if name in told})
