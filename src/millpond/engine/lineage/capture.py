"""Notes on the way of a statement: what was written out of what. One line of a spool each, before the answer.

A note of a write is there when the write is acknowledged, and outlives this process. Reads are put together and noted
once a second; the last second of them goes with the process. What the notes mean is found out by whoever drains them.
"""

import asyncio
import time
from base64 import b64encode
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import orjson

from millpond.catalog.domain import Table
from millpond.engine.needs import Needs
from millpond.engine.own_client import OWN_CLIENT, STATEMENT_TAG
from millpond.engine.sessions import Session
from millpond.identity.domain import Principal, Work
from millpond.journal import calls
from millpond.journal.domain import now_us
from millpond.journal.spool import Spool
from millpond.kernel.errors import StorageFull
from millpond.kernel.ids import new_id
from millpond.kernel.logs import get_logger

log = get_logger(__name__)
ENTITY_SETTING = "spark.millpond.entity"
"""A session says by it what it runs for: `RUN:id`, `NOTEBOOK:path`. Which job it is only its credential says."""
_LEAN_BYTES = 32_768
"""Larger plans are noted without the rows and functions in them."""
_MOST_BYTES = 2 << 20
"""Of a plan still larger than this, only the tables are noted."""
_READS_EVERY_S = 1.0
_statement: ContextVar[str] = ContextVar("millpond_statement", default="")
_spools: list[Spool] = []
"""The spool of this process, once it has one; a process that has none notes nothing."""


def open_spool(directory: Path) -> None:
    """Let this process note lineage below a directory. Once, when it starts."""
    close_spool()
    _spools.append(Spool(directory))


def close_spool() -> None:
    """End this process's spool."""
    flush_reads()
    while _spools:
        _spools.pop().close()


def asked(request: Any) -> None:
    """A plan is about to be carried out: by which name its statement is known, if it is the server's own SQL."""
    tag = next((tag for tag in request.tags if tag.startswith(STATEMENT_TAG)), "") if request.tags else ""
    _statement.set(tag.removeprefix(STATEMENT_TAG) if request.client_type == OWN_CLIENT else "")


# -- writes and views ---------------------------------------------------------------------------------------------


def wrote(
    session: Session,
    operation: str,
    plan: Any,
    needs: Needs,
    *,
    target: Table | str | None,
    columns: Sequence[str] = (),
    constants: Sequence[str] = (),
    by_position: bool = False,
    replaces: bool = False,
) -> None:
    """A statement has landed. `target` is a table or a location; None wrote nothing.

    `plan` is the bound relation whose rows were written, or the command that changed the target.
    """
    if target is None or not _spools:
        return
    note = _head(session.principal, session.setting(ENTITY_SETTING), operation) | {
        "plan": _encoded(_lean(plan)),
        "type": plan.DESCRIPTOR.name,
        "sources": {place: _described(table) for place, table in needs.tables.items()},
        "views": {str(number): _described(table) for number, table in needs.views.items()},
        "checkpoints": {name: b64encode(stored).decode() for name, stored in needs.checkpoints.items()},
        "models": list(needs.models.values()),
        "names": {place: name for place, name in needs.names.items() if place not in needs.tables},
        "made": needs.made,
        "target": {"location": target} if isinstance(target, str) else _described(target),
        "columns": columns,
        "constants": constants,
        "by_position": by_position,
        "replaces": replaces,
    }
    _append(note)


def copied(principal: Principal, entity: str | None, operation: str, source: Table | str, target: Table) -> None:
    """A table was copied as it is; `entity` is the session's setting."""
    described = {"location": source} if isinstance(source, str) else _described(source)
    _append(_head(principal, entity, operation) | {"copy_of": described, "target": _described(target)})


def _head(principal: Principal, entity: str | None, operation: str) -> dict[str, Any]:
    call = calls.current()
    return {
        "id": new_id(),
        "time_us": now_us(),
        "operation": operation,
        "actor": principal.name,
        "session": call.session if call else "",
        "statement": _statement.get() or (call.request if call else ""),
        "agent": call.agent if call else "",
        "entity": entity or "",
        "work": _told(principal.work),
    }


def _told(work: Work | None) -> dict[str, Any] | None:
    return vars(work) if work else None


def _described(table: Table) -> dict[str, Any]:
    return {
        "id": table.id,
        "name": str(table.name),
        "location": table.storage_location,
        "columns": [column.name for column in table.columns],
    }


def _encoded(plan: Any) -> str:
    data = plan.SerializeToString()
    return b64encode(data).decode() if len(data) <= _MOST_BYTES else ""


def _lean(plan: Any) -> Any:
    """The plan, if it is large without what tells nothing about names: rows of the client's and pickled functions."""
    if plan.ByteSize() <= _LEAN_BYTES:
        return plan
    lean = type(plan)()
    lean.CopyFrom(plan)
    _thin(lean)
    return lean


def _thin(message: Any) -> None:
    kind = message.DESCRIPTOR.full_name
    if kind == "spark.connect.LocalRelation":
        _without_rows(message)
    elif kind in {"spark.connect.PythonUDF", "spark.connect.PythonUDTF"}:
        message.ClearField("command")
    elif kind != "spark.connect.DataType":
        for field, value in message.ListFields():
            if field.message_type is not None and not field.message_type.GetOptions().map_entry:
                for item in value if field.is_repeated else (value,):
                    _thin(item)


def _without_rows(local: Any) -> None:
    import pyarrow as pa

    if not local.data:
        return
    with pa.ipc.open_stream(local.data) as reader:
        schema = reader.schema
    sink = pa.BufferOutputStream()
    pa.ipc.new_stream(sink, schema).close()
    local.data = sink.getvalue().to_pybytes()


def _append(note: Mapping[str, Any]) -> None:
    if not _spools:
        return
    try:
        _spools[0].append(orjson.dumps(note) + b"\n")
    except (StorageFull, orjson.JSONEncodeError) as error:
        # what was written is written: the statement must not fail for it
        log.error("lineage was not noted", operation=note["operation"], error=str(error))


# -- reads --------------------------------------------------------------------------------------------------------

_reads: dict[tuple[str, str, str, str, str, Work | None], dict[str, Any]] = {}
"""Actor, session, table, client, entity and work, with how often and when; until they are noted."""


def read(session: Session, needs: Needs) -> None:
    """A query has been answered. Called on the event loop."""
    if not needs.direct or not _spools:
        return
    call = calls.current()
    if not _reads:
        asyncio.get_running_loop().call_later(_READS_EVERY_S, flush_reads)
    statement = _statement.get() or (call.request if call else "")
    agent, entity = call.agent if call else "", session.setting(ENTITY_SETTING) or ""
    now = time.time_ns() // 1000
    who = session.principal
    for table in needs.direct.values():
        known = _reads.setdefault((who.name, session.id, table.id, agent, entity, who.work), {"count": 0})
        known["count"] += 1
        known["time_us"], known["table"], known["statement"] = now, table, statement


def read_at(session: Session, process: str, table: Table, version: int) -> None:
    """A process that captures its runs reads a table at a version. Noted once for each session."""
    key = (table.id, version)
    if key in session.read_at or not _spools:
        return
    session.read_at.add(key)
    told = {"id": table.id, "name": str(table.name), "version": version}
    _append({"operation": "READ AT", "time_us": now_us(), "process": process, "read_at": told})


def flush_reads() -> None:
    """Note the reads that were put together."""
    notes = [
        {
            "id": new_id(),
            "time_us": found["time_us"],
            "operation": "READ",
            "actor": actor,
            "session": session,
            "statement": found["statement"],
            "agent": agent,
            "entity": entity,
            "work": _told(work),
            "count": found["count"],
            "read": {"id": table_id, "name": str(found["table"].name)},
        }
        for (actor, session, table_id, agent, entity, work), found in _reads.items()
    ]
    _reads.clear()
    for note in notes:
        _append(note)
