"""The JSON of the Databricks feature store API, and of our own routes.

Source: databricks-sdk 0.162, `databricks/sdk/service/ml.py` (OnlineStore, PublishSpec, PublishTableResponse).
"""

from datetime import datetime
from typing import Any

import msgspec
from pydantic import BaseModel, Field

from millpond.kernel.clock import rfc3339, utc_now
from millpond.kernel.errors import InvalidArgument
from millpond.online.delta_log import News
from millpond.online.domain import to_json
from millpond.online.reading import Rows
from millpond.online.service import Seen
from millpond.online.tables import Mode, OnlineStore


class StoreInput(BaseModel):
    """OnlineStore, as it is made."""

    name: str
    capacity: str
    read_replica_count: int = 0
    usage_policy_id: str = Field(default="", max_length=255, pattern=r"^[^\x00]*$")


class StoreChange(BaseModel):
    """OnlineStore, as it is changed."""

    capacity: str | None = None
    read_replica_count: int | None = None
    usage_policy_id: str | None = Field(default=None, max_length=255, pattern=r"^[^\x00]*$")


class PublishSpec(BaseModel):
    """What to publish where. Policies of budgets and tags of pipelines have nothing here to be put on."""

    online_store: str
    online_table_name: str
    publish_mode: Mode = Mode.TRIGGERED


class PublishInput(BaseModel):
    """PublishTableRequest."""

    publish_spec: PublishSpec


class ReadInput(msgspec.Struct, frozen=True):
    """Keys of rows, each by the names of the key's columns."""

    keys: list[dict[str, Any]]
    columns: list[str] | None = None


def read_input(body: bytes) -> ReadInput:
    """Raises InvalidArgument for what is no such JSON."""
    try:
        return msgspec.json.decode(body, type=ReadInput)
    except msgspec.DecodeError as error:
        raise InvalidArgument(f'The body is not {{"keys": [{{...}}], "columns": [...]}}: {error}') from error


def store_json(store: OnlineStore) -> dict[str, Any]:
    """OnlineStore."""
    return {
        "name": store.name,
        "capacity": store.capacity,
        "read_replica_count": store.read_replica_count,
        "usage_policy_id": store.usage_policy_id or None,
        "creation_time": rfc3339(store.created_at),
        "creator": store.creator,
        "state": "AVAILABLE",
        "kind": store.kind.value,
    }


def table_json(seen: Seen, news: News | None = None) -> dict[str, Any]:
    """An online table, with how far behind its source it is where `news` says so."""
    table = seen.table
    return {
        "name": table.name,
        "id": table.id,
        "source_table_name": str(seen.source.name),
        "online_store": table.store,
        "store_kind": table.kind.value,
        "publish_mode": table.mode.value,
        "creator": table.creator,
        "creation_time": rfc3339(table.created_at),
        "state": table.state.value,
        "error": table.error or None,
        "is_pending": table.asked > table.answered,
        "published_version": table.version,
        "published_version_committed_at": _time(table.committed_at),
        "published_at": _time(table.published_at),
        **({} if news is None else freshness(news)),
    }


def freshness(news: News) -> dict[str, Any]:
    """How far an online table is behind."""
    lag_s = 0.0 if news.since is None else max(0.0, (utc_now() - news.since).total_seconds())
    return {"source_version": news.version, "versions_behind": news.behind, "lag_s": round(lag_s, 3)}


def rows_json(found: Rows) -> bytes:
    """What a read found."""
    return to_json({"rows": found.rows, "version": found.version, "committed_ms": found.committed_ms})


def _time(moment: datetime | None) -> str | None:
    return None if moment is None else rfc3339(moment)
