"""Evaluations of alerts: claimed once, written once, told once, whoever dies or comes twice. On both databases."""

import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import func, insert, select, text

from millpond.identity.domain import SYSTEM
from millpond.kernel.clock import utc_now
from millpond.kernel.database import Database
from millpond.kernel.errors import Unavailable
from millpond.kernel.ids import new_id
from millpond.kernel.work import Item, items
from millpond.notifications.domain import Notice, Target
from millpond.notifications.store import deliveries
from millpond.sql.alerts import evaluating, store
from millpond.sql.alerts.domain import (
    Alert,
    AlertDraft,
    AlertState,
    Condition,
    Evaluation,
    Operand,
    Operator,
    Schedule,
    Told,
    Verdict,
    changed,
)
from millpond.sql.alerts.evaluating import Evaluator
from millpond.sql.alerts.messages import notice_of

MET = Verdict(state=AlertState.TRIGGERED, value="2")
OFTEN = Schedule(cron="* * * * * ?", timezone="UTC")


class Evaluators:
    """Those of two servers on one database; what is asked is answered by `answer`."""

    def __init__(self, database: Database) -> None:
        self.answer: Callable[[], Verdict] = lambda: MET
        nothing: Any = None
        self.both = [self._one(database, nothing) for _ in range(2)]
        self.database = database

    def _one(self, database: Database, nothing: Any) -> Evaluator:
        outer = self

        class Answered(Evaluator):
            def _verdict(self, *_asked: Any) -> Verdict:
                return outer.answer()

        return Answered(
            database=database, statements=nothing, queries=nothing, principal_named=lambda _name: SYSTEM, base_url=""
        )

    def at_once(self, work: Callable[[Evaluator], object]) -> None:
        """Both do something at the same time."""
        ready = threading.Barrier(2)

        def run(one: Evaluator) -> None:
            ready.wait()
            work(one)

        threads = [threading.Thread(target=run, args=(one,)) for one in self.both]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)

    def alert(self, **more: Any) -> Alert:
        condition = Condition(source=Operand(column="v"), operator=Operator.GREATER_THAN, threshold=1.0)
        given: dict[str, Any] = {"query_text": "SELECT 2 AS v", "subscriptions": (Target(address="a@b.c"),), **more}
        draft = AlertDraft(name="a", condition=condition, **given)
        now = utc_now()
        made = Alert(
            id=new_id(), owner="ann", run_as="ann", modified_by="ann", trashed=False, draft=draft,
            due_at=now - timedelta(hours=3) if draft.schedule else None, created_at=now, updated_at=now,
        )  # fmt: skip
        with self.database.write() as connection:
            store.add(connection, made)
        return made

    def known(self, alert: Alert) -> tuple[Alert, list[Evaluation]]:
        with self.database.read() as connection:
            found = store.find(connection, alert.id)
            assert found is not None
            return found, store.list_evaluations(connection, alert.id, before=None, limit=100)

    def queued(self) -> list[Item]:
        with self.database.read() as connection:
            rows = connection.execute(select(items).where(items.c.kind == "alert")).all()
        return [Item(id=row.id, kind="alert", payload=row.payload, attempt=1, is_last=False) for row in rows]

    def sent(self) -> int:
        with self.database.read() as connection:
            return int(connection.execute(select(func.count()).select_from(deliveries)).scalar_one())


@pytest.fixture
def two(database: Database) -> Evaluators:
    return Evaluators(database)


def test_what_is_kept_of_an_alert_is_what_was_written(two: Evaluators) -> None:
    made = two.alert(schedule=OFTEN, retrigger_s=5, details={"parent_path": "/x"})
    huge = replace(made, draft=replace(made.draft, condition=replace(made.draft.condition, threshold=1e20)))
    with two.database.write() as connection:
        store.write(connection, huge)
    assert two.known(made)[0] == huge


def test_two_servers_claim_what_is_due_once_and_make_up_for_what_was_missed_once(two: Evaluators) -> None:
    alert = two.alert(schedule=OFTEN)
    two.at_once(lambda one: one.round())
    found, evaluations = two.known(alert)
    assert (len(evaluations), len(two.queued())) == (1, 1)
    assert found.due_at is not None
    assert found.due_at > utc_now() - timedelta(seconds=5)
    with two.database.write() as connection:  # due again, while the first is under way
        store.write(connection, replace(found, due_at=utc_now()))
    two.at_once(lambda one: one.round())
    assert len(two.queued()) == 1


def test_an_evaluation_that_is_done_twice_is_written_and_told_once(two: Evaluators) -> None:
    alert = two.alert(schedule=OFTEN)
    two.both[0].round()
    [item] = two.queued()
    two.at_once(lambda one: one.run_item(item))
    two.both[1].run_item(item)
    found, [evaluation] = two.known(alert)
    assert (found.state, evaluation.state, evaluation.value, evaluation.told) == (MET.state, MET.state, "2", 1)
    assert two.sent() == 1


def test_what_was_cut_off_is_tried_again_and_at_last_an_error(two: Evaluators) -> None:
    def cut_off() -> Verdict:
        raise Unavailable("The server stopped.")

    two.answer = cut_off
    alert = two.alert(schedule=OFTEN)
    two.both[0].round()
    [item] = two.queued()
    with pytest.raises(Unavailable):
        two.both[0].run_item(item)
    assert two.known(alert)[1][0].ended_at is None
    two.both[1].run_item(replace(item, is_last=True))
    found, [evaluation] = two.known(alert)
    assert (found.state, evaluation.message, two.sent()) == (AlertState.ERROR, "The server stopped.", 1)


def test_what_was_found_for_another_question_counts_no_more(two: Evaluators) -> None:
    alert = two.alert(schedule=OFTEN)
    two.both[0].round()
    with two.database.write() as connection:
        store.write(connection, replace(alert, draft=replace(alert.draft, query_text="SELECT 3 AS v")))
    two.both[0].settle(two.known(alert)[1][0], alert.draft, MET)
    found, [evaluation] = two.known(alert)
    assert (found.state, evaluation.state, two.sent()) == (AlertState.UNKNOWN, AlertState.UNKNOWN, 0)
    assert "changed" in evaluation.message


def test_what_no_database_takes_of_a_result_is_replaced(two: Evaluators) -> None:
    two.answer = lambda: replace(MET, value="a\0b", columns=("v\0",), rows=(("\0", "x" * 3000, None),))
    alert = two.alert(schedule=OFTEN, body="{{QUERY_RESULT_ROWS}} {{QUERY_RESULT_COLS}}")
    two.both[0].round()
    [item] = two.queued()
    two.both[0].run_item(item)
    found, [evaluation] = two.known(alert)
    assert (found.state, evaluation.value, two.sent()) == (AlertState.TRIGGERED, "a\ufffdb", 1)


def test_an_evaluation_whose_end_cannot_be_written_is_an_error_at_last(
    two: Evaluators, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(_alert: Alert, verdict: Verdict, **_more: Any) -> Notice:
        if verdict.state is AlertState.TRIGGERED:
            raise ValueError("no")
        return notice_of(_alert, verdict, **_more)

    monkeypatch.setattr(evaluating, "notice_of", away)
    alert = two.alert(schedule=OFTEN)
    two.both[0].round()
    [item] = two.queued()
    with pytest.raises(ValueError, match="no"):
        two.both[0].run_item(item)
    assert two.known(alert)[1][0].ended_at is None
    two.both[0].run_item(replace(item, is_last=True))
    found, [evaluation] = two.known(alert)
    assert (found.state, evaluation.state, two.sent()) == (AlertState.ERROR, AlertState.ERROR, 1)
    assert "cannot be written" in evaluation.message


def asked_by_task(two: Evaluators, alert: Alert, verdict: Verdict = MET, *, differs: bool = False, **told: Any) -> int:
    """Settle what a job's task found; how many were told."""
    asked = Evaluation(id=new_id(), alert_id=alert.id, cause="job", run_as="ann", started_at=utc_now())
    two.both[0].settle(asked, two.known(alert)[0].draft, verdict, Told(**told), differs=differs)
    return two.known(alert)[1][0].told


def test_who_was_not_told_of_a_muted_alert_or_by_a_quiet_job_is_the_next_time(two: Evaluators) -> None:
    failed = Verdict(state=AlertState.ERROR, message="no")
    for verdict in (MET, failed):
        alert = two.alert()
        assert asked_by_task(two, alert, verdict, quiet=True) == 0
        assert two.known(alert)[0].state is verdict.state
        assert [asked_by_task(two, alert, verdict) for _ in range(2)] == [1, 0]
        muted = two.alert(muted=True)
        assert asked_by_task(two, muted, verdict, also=(Target(address="d@b.c"),)) == 0
        with two.database.write() as connection:
            found = two.known(muted)[0]
            store.write(connection, changed(found, replace(found.draft, muted=False)))
        assert [asked_by_task(two, muted, verdict) for _ in range(2)] == [1, 0]
    assert two.sent() == 4


def test_whom_a_task_tells_is_told_by_each_run_that_finds_it(two: Evaluators) -> None:
    also = (Target(address="a@b.c"), Target(address="d@b.c"))
    alert = two.alert()
    assert asked_by_task(two, alert) == 1
    fine = Verdict(state=AlertState.OK, value="0")
    assert [asked_by_task(two, alert, each, also=also) for each in (MET, MET, fine, MET)] == [2, 2, 0, 2]
    assert two.sent() == 7


def test_a_task_that_asks_with_other_parameters_leaves_the_alert_alone(two: Evaluators) -> None:
    alert = two.alert()
    assert asked_by_task(two, alert, Verdict(state=AlertState.OK)) == 0
    before, _ = two.known(alert)
    assert asked_by_task(two, alert, differs=True) == 0
    assert asked_by_task(two, alert, differs=True, also=(Target(address="d@b.c"),)) == 1
    after, evaluations = two.known(alert)
    assert after == before
    assert [each.state for each in evaluations[:2]] == [AlertState.TRIGGERED] * 2


def test_what_is_under_way_is_found_without_looking_at_what_ended(two: Evaluators) -> None:
    alert = two.alert(schedule=OFTEN)
    two.both[0].round()
    now = utc_now()
    ended = Evaluation(
        id="", alert_id=alert.id, cause="job", run_as="ann", state=MET.state, started_at=now, ended_at=now
    )
    rows = [{**vars(ended), "state": "OK", "id": new_id()} for _ in range(20_000)]
    with two.database.write() as connection:
        connection.execute(insert(store.evaluations), rows)
    with two.database.read() as connection:
        under_way = store.find_under_way(connection, alert.id)
        assert under_way is not None
        assert under_way.cause == "schedule"
        query = "SELECT * FROM sql_alert_evaluations WHERE alert_id = :alert AND ended_at IS NULL LIMIT 1"
        explain = "EXPLAIN QUERY PLAN " if two.database.is_sqlite else "EXPLAIN "
        plan = str(connection.execute(text(explain + query), {"alert": alert.id}).all())
    assert "ix_sql_alert_evaluations_under_way" in plan


def test_old_evaluations_go_and_lost_ones_end(two: Evaluators) -> None:
    alert = two.alert()
    for days in (40, 2):
        began = utc_now() - timedelta(days=days)
        lost = Evaluation(id=new_id(), alert_id=alert.id, cause="schedule", run_as="ann", started_at=began)
        with two.database.write() as connection:
            store.add_evaluation(connection, lost)
    with two.database.write() as connection:
        trashed = replace(alert, id=new_id(), trashed=True, updated_at=utc_now() - timedelta(days=31))
        store.add(connection, trashed)
    two.both[0].tidy()
    [left] = two.known(alert)[1]
    assert left.state is AlertState.ERROR
    with two.database.read() as connection:
        assert store.find(connection, trashed.id) is None
