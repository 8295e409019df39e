"""Requests out of an inference table: which they are is asked first, their bodies come page by page."""

import base64
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from millpond.catalog.domain import Table
from millpond.engine.sql_client import SqlClient
from millpond.identity.domain import Principal
from millpond.replay.domain import Asked, Recorded

_PAGE_REQUESTS = 200
_PAGE_BYTES = 16 << 20
_TIMEOUT_S = 300.0
_ID = re.compile(r"[0-9a-f-]{36}")
"""Whoever may write to the table may have put other ids into it."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a request is in the table."""

    id: str
    time_ms: int
    size_bytes: int


class RecordedRequests:
    """Reads as whoever asks, through the gateway."""

    def __init__(self, sql: SqlClient) -> None:
        self._sql = sql

    def places(self, principal: Principal, table: Table, asked: Asked, before_ms: int) -> Sequence[Place]:
        """The newest requests of those that are asked for, newest first."""
        end_ms = min(asked.end_ms or before_ms, before_ms)
        conditions = [_between(asked.start_ms or 0, end_ms)]
        if asked.served_entity is not None:
            conditions.append(f"served_entity_name = '{asked.served_entity}'")
        query = (
            "SELECT databricks_request_id AS id, timestamp_ms, request_bytes + response_bytes AS size_bytes "  # noqa: S608
            f"FROM {table.name.quoted} WHERE {' AND '.join(conditions)} ORDER BY timestamp_ms DESC, id"
        )
        rows = self._sql.rows(principal, query, asked.requests, timeout_s=_TIMEOUT_S).to_pylist()
        return [
            Place(id=row["id"], time_ms=row["timestamp_ms"], size_bytes=row["size_bytes"] or 0)
            for row in rows
            if _ID.fullmatch(row["id"] or "")
        ]

    def read(self, principal: Principal, table: Table, page: Sequence[Place]) -> Sequence[Recorded]:
        """The requests of a page."""
        ids = ", ".join(f"'{place.id}'" for place in page)
        times = [place.time_ms for place in page]
        query = (
            "SELECT databricks_request_id AS id, status_code, model_version, model_ms, request, response, "  # noqa: S608
            "request_metadata['content_type'] AS type, request_metadata['request_encoding'] AS encoding "
            f"FROM {table.name.quoted} WHERE {_between(min(times), max(times))} AND databricks_request_id IN ({ids})"
        )
        found = self._sql.rows(principal, query, len(page), timeout_s=_TIMEOUT_S).to_pylist()
        return [_recorded(row) for row in found]


def pages(places: Sequence[Place]) -> Iterator[Sequence[Place]]:
    """Together as many as memory should hold at once; one that is larger is a page of its own."""
    page: list[Place] = []
    for place in places:
        if page and (
            len(page) == _PAGE_REQUESTS or sum(each.size_bytes for each in page) + place.size_bytes > _PAGE_BYTES
        ):
            yield page
            page = []
        page.append(place)
    if page:
        yield page


def _between(start_ms: int, end_ms: int) -> str:
    """By the day, too, which is the table's partition."""
    days = [datetime.fromtimestamp(each / 1000, UTC).date().isoformat() for each in (start_ms, end_ms)]
    return f"date BETWEEN DATE '{days[0]}' AND DATE '{days[1]}' AND timestamp_ms BETWEEN {start_ms} AND {end_ms}"


def _recorded(row: Mapping[str, Any]) -> Recorded:
    request: str = row["request"] or ""
    return Recorded(
        id=row["id"],
        content_type=row["type"] or "",
        request=base64.b64decode(request) if row["encoding"] == "base64" else request.encode(),
        status=row["status_code"],
        response=(row["response"] or "").encode(),
        version=row["model_version"] or "",
        model_ms=row["model_ms"] or 0.0,
    )
