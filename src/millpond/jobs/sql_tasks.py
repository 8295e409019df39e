"""SQL as a task: statements on a warehouse, one after the other, as whoever the task runs as.

No process of ours runs there, but an attempt's statements begin at most once all the same: `began` is written before
the first and `result.json` after the last, as a task's process does it.
"""

import json
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sqlglot.dialects import Databricks
from sqlglot.errors import SqlglotError
from sqlglot.tokenizer_core import TokenType

from millpond.identity.domain import Principal
from millpond.jobs.code import LARGEST_TEXT, Code
from millpond.jobs.domain import Kind, Result, Run, TaskSpec
from millpond.jobs.notices import subscribers
from millpond.jobs.written import write_at_once
from millpond.kernel.errors import FailedPrecondition, InvalidArgument
from millpond.kernel.storable import storable
from millpond.sql.alerts.domain import AlertState, Told
from millpond.sql.domain import Parameter, Statement, StatementRequest, StatementState
from millpond.sql.formats import text_rows
from millpond.sql.room import SqlRoom
from millpond.sql.statements import StatementService

_LOOK_S = 0.1
_STOP_EVERY = 5
_MOST_ROWS = 1000
_MOST_STATEMENTS = 1000
_KEEP_S = 5.0
"""So often it is written which statements were sent, for whoever asks while they run."""
_NAME = re.compile(r":(\w+)")
_CLIENT = "Millpond jobs"
Stop = Callable[[], Result | None]


@dataclass(frozen=True, kw_only=True)
class SqlEnded:
    """How the statements ended; `result` None where nothing is known, as somebody else has the task."""

    result: Result | None
    message: str = ""


class SqlTasks:
    """Runs queries and files of SQL, and evaluates alerts."""

    def __init__(self, sql: SqlRoom, code: Code) -> None:
        self._statements = sql.statements
        self._queries = sql.queries
        self._alerts = sql.alerts
        self._code = code

    def run(
        self,
        principal: Principal,
        run: Run,
        spec: TaskSpec,
        order: Mapping[str, Any],
        directory: Path,
        *,
        timeout_s: float,
        stop: Stop,
    ) -> SqlEnded:
        """Run all statements to their end; the last one's rows are in `output.json`. Blocks. Raises MillpondError."""
        if spec.kind is Kind.ALERT or order.get("alert"):
            return self._evaluate(principal, spec, order, directory, timeout_s=timeout_s, stop=stop)
        text, kind = self._text(principal, run, spec, order, directory)
        statements = statements_of(text)
        given = {**(order.get("parameters") or {}), **run.parameters}
        if (why := stop()) is not Result.NONE:
            return SqlEnded(result=why)
        write_at_once(directory / "began", "")
        session = self._statements.open_session(principal, order["warehouse_id"]).id
        going = _Going(self._statements, principal, stop, time.monotonic() + timeout_s)

        def keep() -> None:
            write_at_once(directory / "output.json", json.dumps(self._output(principal, going, order, text, kind)))

        try:
            going.run_all([_request(one, order["warehouse_id"], session, given) for one in statements], keep)
        finally:
            self._statements.close_session(principal, session)
        if going.last.state is not StatementState.SUCCEEDED:
            return SqlEnded(result=going.why, message=_message(going.last))
        return _succeeded(directory)

    def _evaluate(
        self,
        principal: Principal,
        spec: TaskSpec,
        order: Mapping[str, Any],
        directory: Path,
        *,
        timeout_s: float,
        stop: Stop,
    ) -> SqlEnded:
        """Evaluate an alert, as whoever that runs as. What was cut off says nothing of the alert.

        Who is told stands in the settings, where it was checked: no parameter is put in there.
        """
        is_sql = spec.kind is Kind.SQL
        named = order["alert"] if is_sql else order
        asked = self._alerts.asked_by(
            principal, named["alert_id"], order.get("warehouse_id"), named.get("parameters") or {}
        )
        if (why := stop()) is not Result.NONE:
            return SqlEnded(result=why)
        write_at_once(directory / "began", "")
        going = _Going(self._statements, replace(asked.who, work=principal.work), stop, time.monotonic() + timeout_s)
        request = asked.question.request

        def keep(state: AlertState = AlertState.UNKNOWN) -> None:
            told = _ran(going, request.warehouse_id, request.text if asked.shows_text else "")
            ended = {"alert_state": state.value}
            output = {"sql_output": {"alert_output": {**told, **ended}}} if is_sql else {"alert_output": ended}
            write_at_once(directory / "output.json", json.dumps(output))

        going.run_all([request], keep)
        if going.was_cut_off:
            return SqlEnded(result=going.why, message=_message(going.last))
        alert = spec.body["alert"] if is_sql else spec.body
        told = Told(also=tuple(subscribers(alert)), quiet=bool(alert.get("pause_subscriptions")))
        verdict = self._alerts.concluded(asked, going.last, told)
        if verdict.state is AlertState.ERROR:
            return SqlEnded(result=Result.FAILED, message=verdict.message)
        keep(verdict.state)
        return _succeeded(directory)

    def _text(
        self, principal: Principal, run: Run, spec: TaskSpec, order: Mapping[str, Any], directory: Path
    ) -> tuple[str, str]:
        """The text, and what holds it: `query` or `file`."""
        if file := order.get("file"):
            return self._code.sql(principal, run, spec, file["path"], directory), "file"
        query = self._queries.get(principal, order["query"]["query_id"])
        if query.trashed:
            raise FailedPrecondition(f"Query '{query.draft.name}' is in the trash; restore it, or name another.")
        return query.draft.text, "query"

    def _output(
        self, principal: Principal, going: "_Going", order: Mapping[str, Any], text: str, kind: str
    ) -> dict[str, Any]:
        told = _ran(going, order["warehouse_id"], text)
        if kind == "file" and going.last.manifest is not None and going.last.manifest.chunks:
            table = self._statements.chunk(principal, going.last.id, 0)
            values = [[{"string_value": value} for value in row] for row in text_rows(table.slice(0, _MOST_ROWS))]
            told["query_result"] = {
                "columns": [{"name": name} for name in table.column_names],
                "rows": [{"values": row} for row in values],
                "truncated": going.last.manifest.truncated or going.last.manifest.rows > len(values),
            }
        return {"sql_output": {f"{kind}_output": told}}


class _Going:
    """Statements of one attempt."""

    def __init__(self, statements: StatementService, principal: Principal, stop: Stop, deadline: float) -> None:
        self._statements = statements
        self._principal = principal
        self._stop = stop
        self._deadline = deadline
        self.ids: list[str] = []
        self.why: Result | None = Result.FAILED
        """As what the attempt ends, where its last statement did not succeed."""

    @property
    def was_cut_off(self) -> bool:
        """Whether the task or the server ended before its last statement did."""
        failure = self.last.failure
        aborted = failure is not None and failure.code == "ABORTED"
        return aborted or self.last.state is StatementState.CANCELED or self.why is not Result.FAILED

    @property
    def last(self) -> Statement:
        """The statement that was sent last, as it is now."""
        return self._statements.get(self._principal, self.ids[-1])

    def run_all(self, requests: Iterable[StatementRequest], keep: Callable[[], None]) -> None:
        """Send statements up to the first that does not succeed; `keep` is called now and then, and at the end."""
        kept_at = time.monotonic()
        try:
            for request in requests:
                self.run(request)
                if self.last.state is not StatementState.SUCCEEDED:
                    return
                if time.monotonic() - kept_at > _KEEP_S:
                    keep()
                    kept_at = time.monotonic()
        finally:
            if self.ids:
                keep()

    def run(self, request: StatementRequest) -> None:
        """Send a statement, and wait for its end; it is cancelled where the attempt is to end."""
        self.ids.append(self._statements.submit(self._principal, request).id)
        looks, pause = 0, threading.Event()
        while not self.last.state.is_final:
            pause.wait(_LOOK_S)
            looks += 1
            if (why := self._to_end(looks)) is not Result.NONE:
                self.why = why
                self._statements.cancel(self._principal, self.ids[-1])

    def _to_end(self, looks: int) -> Result | None:
        if time.monotonic() > self._deadline:
            return Result.TIMED_OUT
        return self._stop() if looks % _STOP_EVERY == 0 else Result.NONE


def _ran(going: _Going, warehouse_id: str, text: str) -> dict[str, Any]:
    """What outputs of all kinds tell."""
    statements = [{"lookup_key": each} for each in going.ids]
    return {"warehouse_id": warehouse_id, "query_text": text, "sql_statements": statements}


def _succeeded(directory: Path) -> SqlEnded:
    write_at_once(directory / "result.json", json.dumps({"ok": True}))
    return SqlEnded(result=Result.SUCCESS)


def statements_of(text: str) -> list[str]:
    """The statements of a text, which semicolons divide. Raises InvalidArgument for a text without one, or too many."""
    if len(text) > LARGEST_TEXT:
        raise InvalidArgument(f"The SQL has more than {LARGEST_TEXT:,} characters; divide it among tasks.")
    try:
        ends = [token.start for token in Databricks().tokenize(text) if token.token_type is TokenType.SEMICOLON]
    except SqlglotError as error:
        raise InvalidArgument(f"The SQL cannot be read: {str(error)[:200]}") from error
    if len(ends) > _MOST_STATEMENTS:
        raise InvalidArgument(f"The SQL has more than {_MOST_STATEMENTS:,} statements; divide it among tasks.")
    found = [each for each in _cut(text, ends) if Databricks().tokenize(each)]
    if not found:
        raise InvalidArgument("There is no SQL statement to run.")
    return found


def _cut(text: str, ends: list[int]) -> Iterator[str]:
    begin = 0
    for end in (*ends, len(text)):
        yield text[begin:end].strip()
        begin = end + 1


def _request(text: str, warehouse_id: str, session: str, given: Mapping[str, str]) -> StatementRequest:
    """With those parameters that the text has."""
    spoken_of = set(_NAME.findall(text))
    named = tuple(Parameter(name=name, value=value) for name, value in given.items() if name in spoken_of)
    return StatementRequest(
        text=text, warehouse_id=warehouse_id, session_id=session, parameters=named, row_limit=_MOST_ROWS + 1,
        client=_CLIENT,
    )  # fmt: skip


def _message(statement: Statement) -> str:
    return str(storable(statement.failure.message)) if statement.failure else f"The statement is {statement.state}."
