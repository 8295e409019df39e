"""What Spark Connect's users ran, for the query history: who, when, which text, how it went.

Only what runs is told: not the plan of a query that waits for its action, nor what the server itself asks for others.
Source of the field numbers: `spark/connect/base.proto` and `expressions.proto`, by the descriptors of PySpark.
"""

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from millpond.engine import proto
from millpond.engine.own_client import OWN_CLIENT
from millpond.engine.sessions import Session
from millpond.engine.wire import as_spark_error
from millpond.journal import calls
from millpond.kernel.errors import MillpondError

_MAX_TEXT = 100_000
_MAX_ERROR = 4_000
_LOOKED_THROUGH = 8
"""Relations above the SQL text: show_string, limit, with_relations."""


@dataclass(slots=True, kw_only=True)
class Executed:
    """One execution, ended."""

    principal_id: str
    principal_name: str
    session: str
    client: str
    text: str
    """SQL, or what a DataFrame plan reached."""
    began_us: int
    ended_us: int
    rows: int
    size_bytes: int
    error: str = ""
    sql_state: str = ""
    cancelled: bool = False
    spent_ms: int | None = None
    """Processor time, where it was alone on its engine."""


Observe = Callable[[Executed], None]


@dataclass(slots=True)
class Watched:
    """An execution under way; who forwards its answer says what passes."""

    rows: int = 0
    size_bytes: int = 0
    spent_ms: int | None = None

    def passed(self, message: bytes) -> None:
        """One serialised response."""
        self.rows += rows_in(message)
        self.size_bytes += len(message)


def text_of(plan: Any) -> str:
    """The SQL in a plan, as its user wrote it; empty for a DataFrame's. Asked before the plan is bound."""
    if plan.WhichOneof("op_type") == "command":
        command = plan.command
        if command.WhichOneof("command_type") != "sql_command":
            return ""
        if command.sql_command.sql:
            return str(command.sql_command.sql)[:_MAX_TEXT]
        return text_in(command.sql_command.input)
    return text_in(plan.root)


def text_in(relation: Any) -> str:
    """The SQL of a relation that is no more than SQL to be shown, cut off or given parameters."""
    for _ in range(_LOOKED_THROUGH):
        kind = relation.WhichOneof("rel_type")
        if kind == "sql":
            return str(relation.sql.query)[:_MAX_TEXT]
        inner = _INSIDE.get(kind or "")
        if inner is None:
            return ""
        relation = getattr(getattr(relation, kind), inner)
    return ""


_INSIDE = {"show_string": "input", "limit": "input", "with_relations": "root", "html_string": "input", "tail": "input"}


@contextmanager
def watching(
    observe: Observe | None, session: Session, text: str, client: str, *, begins: bool = False
) -> Iterator[Watched]:
    """Tell of one execution when it has ended; failures pass through. What only `begins` is told if it fails."""
    watched, began = Watched(), _now_us()
    if observe is None or client == OWN_CLIENT:
        yield watched
        return
    failure: BaseException | None = None
    try:
        yield watched
    except BaseException as error:
        failure = error
        raise
    finally:
        call = calls.current()
        if failure is not None or not (begins or (call is not None and call.silent)):
            observe(_executed(session, text, client, watched, began, failure))


def _executed(
    session: Session, text: str, client: str, watched: Watched, began: int, failure: BaseException | None
) -> Executed:
    spark = as_spark_error(failure) if isinstance(failure, MillpondError) else None
    cancelled = isinstance(failure, asyncio.CancelledError)
    unknown = "" if failure is None or cancelled else "The gateway failed; its log says more."
    return Executed(
        principal_id=session.principal.id,
        principal_name=session.principal.name,
        session=session.id,
        client=client,
        text=session.written.get(text, text) or _dataframe(),
        began_us=began,
        ended_us=_now_us(),
        rows=watched.rows,
        size_bytes=watched.size_bytes,
        error=(spark.message if spark else unknown)[:_MAX_ERROR],
        sql_state=spark.sql_state if spark else "",
        cancelled=cancelled,
        spent_ms=watched.spent_ms,
    )


def _dataframe() -> str:
    """What a DataFrame's plan reached, as far as the current call knows."""
    call = calls.current()
    objects = [] if call is None else [f"{act} {kind} {name}" for act, kind, name in call.objects if act != "see"]
    return "-- DataFrame" + (": " + ", ".join(objects) if objects else "")


def rows_in(message: bytes) -> int:
    """The rows that a serialised response carries; only its few first bytes are looked at, not the rows."""
    batch = _field(message, 0, len(message), _ARROW_BATCH)
    if batch is None:
        return 0
    rows = _field(message, *batch, _ROW_COUNT)
    return rows[0] if rows is not None else 0


_RESPONSE = proto.base.ExecutePlanResponse.DESCRIPTOR
_ARROW_BATCH = _RESPONSE.fields_by_name["arrow_batch"].number
_ROW_COUNT = _RESPONSE.fields_by_name["arrow_batch"].message_type.fields_by_name["row_count"].number
_VARINT, _LENGTH = 0, 2


def _field(data: bytes, at: int, end: int, wanted: int) -> tuple[int, int] | None:
    """Where a field of a message begins and ends; a number's value twice. None when it is not there."""
    while at < end:
        tag, at = _varint(data, at)
        number, kind = tag >> 3, tag & 7
        if kind == _VARINT:
            value, at = _varint(data, at)
            if number == wanted:
                return value, value
        elif kind == _LENGTH:
            size, at = _varint(data, at)
            if number == wanted:
                return at, min(at + size, end)  # a length may lie
            at += size
        else:
            return None
    return None


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(data):
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            break
        shift += 7
    return value, at


def _now_us() -> int:
    return time.time_ns() // 1000
