"""OpenLineage events out: each recorded act as a RunEvent, to a file as lines of JSON, and to an HTTP endpoint.

How far a place has come is in the database; each act gets there at least once, in order, from the first on that was
recorded after the place was set. What came in as OpenLineage does not go out again.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import orjson

from millpond.kernel.database import Database
from millpond.kernel.logs import get_logger
from millpond.kernel.settings import LineageSettings
from millpond.lineage import store
from millpond.lineage.domain import digest
from millpond.lineage.openlineage import OPERATION as TAKEN_IN

log = get_logger(__name__)
PRODUCER = "https://github.com/millpond/millpond"
_RUN_EVENT = "https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/RunEvent"
_COLUMN_FACET = "https://openlineage.io/spec/facets/1-2-0/ColumnLineageDatasetFacet.json"
_BATCH = 200
_TIMEOUT_S = 5.0
Send = Callable[[Sequence[Mapping[str, Any]]], None]


class Emitter:
    """Sends events to where settings say."""

    def __init__(self, database: Database, settings: LineageSettings) -> None:
        self._database = database
        self._namespace = settings.openlineage_namespace
        self._places: list[tuple[str, Send]] = []
        if settings.openlineage_file is not None:
            self._places.append((digest("file", str(settings.openlineage_file)), _to_file(settings.openlineage_file)))
        if settings.openlineage_url is not None:
            self._places.append((digest("url", settings.openlineage_url), _to_url(settings)))

    def run_once(self) -> None:
        """Send what waits. What cannot be sent now waits for the next round."""
        for place, send in self._places:
            try:
                while self._send(place, send):
                    pass
            except Exception as error:  # the boundary of a work item: an endpoint that is away is tried again
                log.warning("lineage was not sent", error=str(error)[:300])

    def _send(self, place: str, send: Send) -> bool:
        """Send one batch; whether there may be more."""
        with self._database.read() as connection:
            position = store.emitted(connection, place)
            rows = store.events_after(connection, position or 0, _BATCH) if position is not None else []
            columns = store.column_events_of(connection, [row.sequence for row in rows])
        if position is None:
            with self._database.write() as connection:
                store.put_emitted(connection, place, store.last_event(connection))
            return False
        if not rows:
            return False
        told = [row for row in rows if row.operation != TAKEN_IN]
        send([self._event(list(of_one), columns) for _, of_one in groupby(told, lambda row: row.observation)])
        with self._database.write() as connection:
            store.put_emitted(connection, place, rows[-1].sequence)
        return len(rows) == _BATCH

    def _event(self, rows: Sequence[Any], columns: Sequence[Any]) -> dict[str, Any]:
        first = rows[0]
        inputs = [self._dataset(row.source_name) for row in rows if row.source_name and row.source_id != row.target_id]
        outputs = []
        if first.target_name:
            fields = self._fields(rows, columns)
            facet = {"_producer": PRODUCER, "_schemaURL": _COLUMN_FACET, "fields": fields}
            outputs.append(self._dataset(first.target_name) | ({"facets": {"columnLineage": facet}} if fields else {}))
        return {
            "eventType": "COMPLETE",
            "eventTime": first.time.isoformat(),
            "run": {"runId": first.observation},
            "job": {"namespace": self._namespace, "name": f"{first.operation} {first.target_name or ''}".strip()},
            "inputs": inputs,
            "outputs": outputs,
            "producer": PRODUCER,
            "schemaURL": _RUN_EVENT,
        }

    def _fields(self, rows: Sequence[Any], columns: Sequence[Any]) -> dict[str, Any]:
        names = {row.sequence: row.source_name for row in rows}
        fields: dict[str, Any] = {}
        for each in columns:
            if each.event in names:
                source = self._dataset(names[each.event]) | {"field": each.source_column}
                fields.setdefault(each.target_column, {"inputFields": []})["inputFields"].append(source)
        return fields

    def _dataset(self, name: str) -> dict[str, Any]:
        return {"namespace": self._namespace, "name": name}


def _to_file(path: Path) -> Send:
    def send(events: Sequence[Mapping[str, Any]]) -> None:
        with path.open("ab") as file:
            file.write(b"".join(orjson.dumps(event) + b"\n" for event in events))

    return send


def _to_url(settings: LineageSettings) -> Send:
    headers = {"Authorization": f"Bearer {settings.openlineage_api_key}"} if settings.openlineage_api_key else {}

    def send(events: Sequence[Mapping[str, Any]]) -> None:
        import httpx

        with httpx.Client(headers=headers, timeout=_TIMEOUT_S) as client:
            for event in events:
                client.post(str(settings.openlineage_url), json=event).raise_for_status()

    return send
