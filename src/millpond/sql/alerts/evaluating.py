"""Asking what alerts ask: when schedules say so, and at most one evaluation of an alert at a time.

A due alert is claimed, and what is to be done is put into the queue of work, in one transaction; whoever takes it from
there may die and leave it to the next. What was found is written with the messages that follow from it in one
transaction, which finds the evaluation ended where somebody else was quicker, and then does nothing.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import pyarrow as pa
from sqlalchemy import Connection

from millpond.identity import acts, grants
from millpond.identity.domain import Principal
from millpond.kernel.clock import utc_now
from millpond.kernel.database import Database
from millpond.kernel.errors import FailedPrecondition, MillpondError, Unavailable
from millpond.kernel.ids import new_id
from millpond.kernel.logs import get_logger
from millpond.kernel.rounds import rounds
from millpond.kernel.work import Handler, Item, Worker, enqueue
from millpond.notifications.domain import Target
from millpond.notifications.outbox import put
from millpond.sql.alerts import store
from millpond.sql.alerts.conditions import MOST_BYTES, MOST_ROWS, judged
from millpond.sql.alerts.domain import (
    Alert,
    AlertDraft,
    AlertState,
    Evaluation,
    Told,
    Verdict,
    after,
    alert_grant_id,
    check_reads,
    fit,
    next_due,
)
from millpond.sql.alerts.messages import about, notice_of
from millpond.sql.domain import (
    STARTER_ID,
    Disposition,
    Format,
    Parameter,
    SavedQuery,
    Statement,
    StatementRequest,
    StatementState,
)
from millpond.sql.queries import QueryService
from millpond.sql.statements import StatementService

WORK = "alert"
_ATTEMPTS = 5
_AT_ONCE = 4
_ROUND_S = 1.0
_TIDY_S = 3600.0
_MOST_DUE = 100
"""Alerts that one round claims."""
_LONGEST_S = 600.0
"""Of a query; a warehouse may allow less."""
_LOST = timedelta(days=1)
_KEPT = timedelta(days=30)
_TOLD_BY_TASKS = (AlertState.TRIGGERED, AlertState.ERROR)
_NO_TASK = Told()
_CLIENT = "Millpond alerts"
_CHANGED = "The alert was changed while it was evaluated; what was found counts no more."
_FAILED = "The server failed on this; its log says more."
_NOT_WRITTEN = "What was found cannot be written; the server's log says more."
_GIVEN_UP = "The evaluation was begun, and nobody ended it."

log = get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class Question:
    """What an evaluation sends, and what that is called."""

    request: StatementRequest
    query_name: str


@dataclass(frozen=True, kw_only=True)
class Evaluator:
    """Evaluates alerts. Several servers on one PostgreSQL may do so at once."""

    database: Database
    statements: StatementService
    queries: QueryService
    principal_named: Callable[[str], Principal]
    base_url: str

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Follow schedules and do what waits while the block runs."""
        handler = Handler(run=self.run_item, attempts=_ATTEMPTS, threads=_AT_ONCE)
        worker = Worker(self.database, {WORK: handler})
        due = rounds(self.round, name="alerts", interval_s=_ROUND_S, log=log, failure="due alerts were not looked for")
        tidied = rounds(self.tidy, name="old-alerts", interval_s=_TIDY_S, log=log, failure="old alerts were kept")
        with due, tidied, worker.at_work():
            yield

    # -- when -----------------------------------------------------------------------------------------------------

    def round(self) -> None:
        """Claim what is due; what was missed while no server ran is made up for once."""
        now = utc_now()
        with self.database.read() as connection:
            if not store.is_any_due(connection, now):
                return
        with self.database.write() as connection:
            for alert in store.list_due(connection, now, limit=_MOST_DUE):
                store.write(connection, replace(alert, due_at=next_due(alert.draft, now)))
                self.begin(connection, alert, "schedule")

    def begin(self, connection: Connection, alert: Alert, cause: str) -> Evaluation:
        """Have an alert that is under lock evaluated; the evaluation that is under way, where there is one."""
        if (going := store.find_under_way(connection, alert.id)) is not None:
            return going
        evaluation = Evaluation(id=new_id(), alert_id=alert.id, cause=cause, run_as=alert.run_as, started_at=utc_now())
        store.add_evaluation(connection, evaluation)
        enqueue(connection, WORK, {"evaluation_id": evaluation.id})
        return evaluation

    def tidy(self) -> None:
        """Forget what was long ago."""
        now = utc_now()
        with self.database.write() as connection:
            store.give_up(connection, now - _LOST, now, _GIVEN_UP)
            store.forget_evaluations(connection, now - _KEPT)
            old = store.list_trashed(connection, now - _KEPT, limit=_MOST_DUE)
            store.remove(connection, old)
            grants.forget(connection, [alert_grant_id(each) for each in old])

    # -- asking ---------------------------------------------------------------------------------------------------

    def run_item(self, item: Item) -> None:
        """Evaluate; what a server's end or a stopped warehouse cut off is tried again. Harmless when done twice."""
        with self.database.read() as connection:
            evaluation = store.find_evaluation(connection, str(item.payload["evaluation_id"]))
            alert = None if evaluation is None else store.find(connection, evaluation.alert_id)
        if evaluation is None or alert is None or evaluation.ended_at is not None:
            return
        try:
            verdict = self._verdict(self.principal_named(evaluation.run_as), alert.draft)
        except Unavailable as error:
            if not item.is_last:
                raise
            verdict = Verdict(state=AlertState.ERROR, message=error.message)
        except MillpondError as error:
            verdict = Verdict(state=AlertState.ERROR, message=error.message)
        except Exception as error:  # the boundary of a work item
            log.error("an alert could not be evaluated", alert=alert.id, exc_info=error)
            verdict = Verdict(state=AlertState.ERROR, message=_FAILED)
        try:
            self.settle(evaluation, alert.draft, verdict)
        except Exception as error:  # the same boundary: an evaluation ends, whatever it found
            if not item.is_last:
                raise
            log.error("what an alert found cannot be written", alert=alert.id, exc_info=error)
            self.settle(evaluation, alert.draft, Verdict(state=AlertState.ERROR, message=_NOT_WRITTEN))

    def _verdict(self, principal: Principal, draft: AlertDraft) -> Verdict:
        question = self.question(principal, draft)
        statement = self.statements.submit(principal, question.request)
        try:
            ended = self.statements.ended(statement, _LONGEST_S)
            if not ended.state.is_final:
                raise FailedPrecondition(f"The query took longer than the {_LONGEST_S:g} s that an alert's may take.")
            if ended.failure is not None and ended.failure.code == "ABORTED":
                raise Unavailable(ended.failure.message)
            return self.judge(principal, draft, question, ended)
        finally:
            self.statements.close(principal, statement.id)  # its rows take nobody's room

    def question(self, principal: Principal, draft: AlertDraft, warehouse_id: str | None = None) -> Question:
        """What an alert asks, as a principal may. Raises NotFound, InvalidArgument, FailedPrecondition."""
        query = self.query_of(principal, draft)
        text = query.draft.text if query else draft.query_text
        check_reads(text)
        own = query.draft.warehouse_id if query else None
        request = StatementRequest(
            text=text,
            warehouse_id=warehouse_id or draft.warehouse_id or own or STARTER_ID,
            catalog=query.draft.catalog if query else None,
            schema=query.draft.schema if query else None,
            parameters=draft.parameters or _defaults(query),
            row_limit=MOST_ROWS,
            byte_limit=MOST_BYTES,
            disposition=Disposition.EXTERNAL_LINKS,
            format=Format.ARROW_STREAM,
            client=_CLIENT,
        )
        return Question(request=request, query_name=query.draft.name if query else draft.name)

    def query_of(self, principal: Principal, draft: AlertDraft) -> SavedQuery | None:
        """The saved query of an alert that has one. Raises NotFound, FailedPrecondition for one in the trash."""
        if draft.query_id is None:
            return None
        query = self.queries.get(principal, draft.query_id)
        if query.trashed:
            raise FailedPrecondition(f"Query '{query.draft.name}' is in the trash; restore it, or name another.")
        return query

    def judge(self, principal: Principal, draft: AlertDraft, question: Question, ended: Statement) -> Verdict:
        """What a statement's end means. Raises InvalidArgument for a result that cannot be judged."""
        if ended.state is not StatementState.SUCCEEDED or ended.manifest is None:
            told = ended.failure.message if ended.failure else f"The query is {ended.state}."
            return Verdict(state=AlertState.ERROR, message=told)
        chunks = range(len(ended.manifest.chunks))
        if not chunks:
            return Verdict(state=draft.condition.empty_state, message="The result has no rows.")
        table = pa.concat_tables([self.statements.chunk(principal, ended.id, index) for index in chunks])
        found = judged(draft.condition, table, truncated=ended.manifest.truncated)
        return replace(found, query_name=question.query_name)

    # -- what follows ---------------------------------------------------------------------------------------------

    def settle(
        self,
        evaluation: Evaluation,
        asked: AlertDraft,
        verdict: Verdict,
        told: Told = _NO_TASK,
        *,
        differs: bool = False,
    ) -> None:
        """Write what was found, and tell those who are to be told; `differs` where that was asked with other
        parameters, so that it is not the alert's own state."""
        verdict = fit(verdict)
        with self.database.write() as connection:
            alert = store.find(connection, evaluation.alert_id, lock=True)
            known = store.find_evaluation(connection, evaluation.id)
            if alert is None or (known is not None and known.ended_at is not None):
                return
            now = utc_now()
            ended = replace(evaluation, state=verdict.state, value=verdict.value, message=verdict.message, ended_at=now)
            if alert.draft.asked != asked.asked or alert.trashed:
                ended = replace(ended, state=AlertState.UNKNOWN, message=_CHANGED)
            else:
                targets = self._settled(connection, alert, verdict, told, now, differs=differs)
                ended = replace(ended, told=len(targets))
                self._tell(connection, alert, evaluation, verdict, targets)
            (store.add_evaluation if known is None else store.write_evaluation)(connection, ended)

    def _settled(
        self, connection: Connection, alert: Alert, verdict: Verdict, told: Told, now: datetime, *, differs: bool
    ) -> list[Target]:
        """Write the alert's own state; who is to be told."""
        silent = told.quiet or alert.draft.muted
        following, tells = after(alert, verdict.state, now, silent=silent)
        tells = tells and not differs
        if not differs:
            store.write(connection, following)
        if silent:
            return []
        own = alert.draft.subscriptions if tells else ()
        also = told.also if tells or verdict.state in _TOLD_BY_TASKS else ()
        return [*dict.fromkeys([*own, *also])]

    def _tell(
        self,
        connection: Connection,
        alert: Alert,
        evaluation: Evaluation,
        verdict: Verdict,
        targets: Sequence[Target],
    ) -> None:
        if not targets:
            return
        notice = notice_of(alert, verdict, base_url=self.base_url)
        put(connection, targets, notice, about(alert.id))
        acts.changed(
            connection, evaluation.run_as, "notify", "alert", alert.draft.name, object_id=alert.id,
            state=verdict.state.value, told=len(targets),
        )  # fmt: skip


def _defaults(query: SavedQuery | None) -> tuple[Parameter, ...]:
    """What a saved query says of its parameters, where nobody else does."""
    return tuple(_default(each) for each in query.draft.parameters) if query else ()


_TYPES: Mapping[str, str] = {"text_value": "STRING", "numeric_value": "DOUBLE", "date_value": "STRING",
                             "enum_value": "STRING"}  # fmt: skip


def _default(parameter: Mapping[str, Any]) -> Parameter:
    name = str(parameter.get("name", ""))
    for kind, sql_type in _TYPES.items():
        if (given := parameter.get(kind)) is not None:
            value = (given.get("values") or [None])[0] if kind == "enum_value" else given.get("value")
            value = given.get("date_value") if kind == "date_value" else value
            return Parameter(name=name, value=None if value is None else str(value), type=sql_type)
    return Parameter(name=name, value=None)
