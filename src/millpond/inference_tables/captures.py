"""What serving is given: makes inference tables, and keeps each request before it is answered."""

import asyncio
from collections.abc import Sequence

from sqlalchemy import Connection

from millpond.identity import acts
from millpond.identity.domain import Principal
from millpond.inference_tables import metrics, store
from millpond.inference_tables.domain import ACTIVE, FAILED, InferenceTable, payload_name
from millpond.inference_tables.making import TableMaker
from millpond.inference_tables.payload_log import PayloadLog
from millpond.inference_tables.segments import Record
from millpond.kernel.clock import utc_now
from millpond.kernel.database import Database
from millpond.kernel.errors import AlreadyExists, StorageFull
from millpond.kernel.ids import new_id
from millpond.kernel.settings import InferenceTableSettings
from millpond.lineage.domain import Act as Told
from millpond.lineage.domain import Entity, Known, Node, NodeKind, Observation
from millpond.lineage.service import record_in
from millpond.serving.capture import Answered, Asked, AutoCapture, CaptureState

_LARGE_BYTES = 256 << 10
"""Beyond that a thread writes, so that other requests need not wait; so it does while another one writes."""


class InferenceTables:
    """`serving.capture.Captures`."""

    def __init__(
        self, database: Database, log: PayloadLog, maker: TableMaker, settings: InferenceTableSettings
    ) -> None:
        self._database = database
        self._log = log
        self._maker = maker
        self._settings = settings

    # -- configurations -----------------------------------------------------------------------------------------

    def prepare(self, principal: Principal, endpoint: str, wanted: AutoCapture) -> AutoCapture:
        """The capture with its table, made with the principal's rights or found. Blocks.

        Raises NotFound and PermissionDenied for the schema, AlreadyExists for the table of another endpoint,
        InvalidArgument for a table that is none of ours.
        """
        name = payload_name(wanted.catalog, wanted.schema, wanted.prefix)
        payload = self._maker.payload(principal, name, endpoint)
        labels = self._maker.labels(principal, name)
        with self._database.write() as connection:
            known = store.of_payload(connection, payload.id)
            if known is None:
                known = _new(endpoint, payload.id, labels.id, str(payload.name), principal)
                store.add(connection, known)
            elif known.endpoint_id and known.endpoint != endpoint:
                raise _taken(known)
        return AutoCapture(
            catalog=name.catalog,
            schema=name.schema,
            prefix=wanted.prefix,
            enabled=True,
            table_id=known.id,
            labels_id=labels.id,
            writer=principal.name,
        )

    def attach(
        self, connection: Connection, principal: Principal, endpoint: tuple[str, str], kept: AutoCapture
    ) -> None:
        """An endpoint (id and name) writes there: told to lineage and the audit.

        Raises AlreadyExists where another has come between `prepare` and this.
        """
        (table,) = store.with_ids(connection, [kept.table_id])
        store.detach(connection, endpoint[0])  # it may have written elsewhere
        if not store.claim(connection, kept.table_id, endpoint):
            raise _taken(table)
        if kept.writer and (table.labels_id, table.writer) != (kept.labels_id, kept.writer):
            store.change(connection, table.id, labels_id=kept.labels_id, writer=kept.writer, error="")
        if table.endpoint_id != endpoint[0]:
            record_in(connection, [_flow(principal, endpoint, table)])
            acts.changed(connection, principal.name, "capture", "endpoint", endpoint[1], table=table.name)

    def detach(self, connection: Connection, endpoint_id: str) -> None:
        """An endpoint is gone. Its tables stay, and what waits still comes into them."""
        store.detach(connection, endpoint_id)

    def states(self, table_ids: Sequence[str]) -> dict[str, CaptureState]:
        """How some inference tables are doing. Blocks."""
        with self._database.read() as connection:
            found = store.with_ids(connection, table_ids)
        return {
            each.id: CaptureState(name=each.name, status=FAILED if each.error else ACTIVE, message=each.error)
            for each in found
        }

    # -- requests -----------------------------------------------------------------------------------------------

    def check_room(self, kept: AutoCapture) -> None:
        """Pass if a request can be kept. Raises StorageFull where settings want each of them kept."""
        if self._settings.when_full == "refuse" and self._is_full(kept.table_id):
            metrics.REFUSED.inc()
            raise StorageFull(
                f"The log of inference table {kept.catalog}.{kept.schema}.{kept.prefix}_payload is full, as the table "
                "cannot be written to; the endpoint's auto_capture_config says why. What is not kept is not answered."
            )

    async def record(self, kept: AutoCapture, asked: Asked, answered: Answered) -> None:
        """Keep a request and its answer: when this returns, it will be in the table. Raises StorageFull."""
        if self._settings.when_full == "drop" and self._is_full(kept.table_id):
            metrics.DROPPED.inc()
            return
        record = _record(asked, answered)
        try:
            if self._settings.durable or record.size_bytes > _LARGE_BYTES or self._log.is_busy:
                await asyncio.to_thread(self._log.append, kept.table_id, record)
            else:
                self._log.append(kept.table_id, record)
        except StorageFull:
            metrics.DROPPED.inc()
            if self._settings.when_full == "refuse":
                raise

    def _is_full(self, log_id: str) -> bool:
        return self._log.waiting_bytes(log_id) >= self._settings.limit_bytes


def _taken(table: InferenceTable) -> AlreadyExists:
    return AlreadyExists(
        f"'{table.name}' is the inference table of endpoint '{table.endpoint}'; choose another prefix."
    )


def _record(asked: Asked, answered: Answered) -> Record:
    """All that the row needs; short keys, as each request has them."""
    about: dict[str, object] = {
        "id": asked.id,
        "client": asked.client_id,
        "who": asked.requester,
        "type": asked.content_type,
        "at": asked.time_ms,
        "direct": asked.is_direct,
        "entity": answered.entity,
        "model": answered.model,
        "version": answered.version,
        "config": answered.config_version,
        "status": answered.status,
        "s": (answered.seconds, answered.queue_s, answered.features_s, answered.model_s),
    }
    return Record(about=about, request=asked.body, response=answered.body, features=answered.features)


def _new(endpoint: str, payload_id: str, labels_id: str, name: str, principal: Principal) -> InferenceTable:
    return InferenceTable(
        id=new_id(),
        endpoint_id="",
        endpoint=endpoint,
        payload_id=payload_id,
        labels_id=labels_id,
        name=name,
        writer=principal.name,
        error="",
        views="",
        created_at=utc_now(),
    )


def _flow(principal: Principal, endpoint: tuple[str, str], table: InferenceTable) -> Observation:
    return Observation(
        id=new_id(),
        act=Told(
            actor=principal.name,
            time=utc_now(),
            operation="INFERENCE TABLE",
            known=Known.DECLARED,
            entity=Entity(type="ENDPOINT", id=endpoint[0]),
        ),
        sources=(Node(kind=NodeKind.ENDPOINT, key=endpoint[0], name=endpoint[1]),),
        target=Node(kind=NodeKind.TABLE, key=table.payload_id, name=table.name),
    )
