"""Work that waits in the database is done, tried again, and given up."""

import threading
from datetime import datetime

import pytest
from sqlalchemy import select, update

from millpond.kernel.clock import utc_now
from millpond.kernel.database import Database
from millpond.kernel.work import DONE, FAILED, QUEUED, Handler, Item, Worker, enqueue, items
from tests.servers import wait_until


def state_of(database: Database, item_id: str) -> tuple[str, int, str]:
    with database.read() as connection:
        row = connection.execute(select(items).where(items.c.id == item_id)).one()
    return row.state, row.attempts, row.error


def due_now(database: Database) -> None:
    with database.write() as connection:
        connection.execute(update(items).values(due_at=utc_now()))


def test_an_item_fails_is_tried_again_and_done(database: Database) -> None:
    seen: list[Item] = []

    def run(item: Item) -> None:
        seen.append(item)
        if item.attempt == 1:
            raise RuntimeError("not yet")

    worker = Worker(database, {"a": Handler(run=run, attempts=3, pause_s=600)})
    with database.write() as connection:
        item_id = enqueue(connection, "a", {"n": 1})
    assert worker.run_due("a")
    assert state_of(database, item_id) == (QUEUED, 1, "RuntimeError: not yet")
    assert not worker.run_due("a")  # it pauses
    due_now(database)
    assert worker.run_due("a")
    assert (state_of(database, item_id), [item.payload for item in seen]) == ((DONE, 2, ""), [{"n": 1}] * 2)


def test_an_item_is_given_up_after_its_attempts(database: Database) -> None:
    def run(item: Item) -> None:
        raise RuntimeError(f"last: {item.is_last}")

    worker = Worker(database, {"a": Handler(run=run, attempts=1)})
    with database.write() as connection:
        item_id = enqueue(connection, "a", {})
    assert worker.run_due("a")
    assert state_of(database, item_id) == (FAILED, 1, "RuntimeError: last: True")


def test_who_dies_leaves_the_item_to_the_next(database: Database) -> None:
    def die(_item: Item) -> None:
        raise KeyboardInterrupt  # as a process that is killed: nothing is written any more

    with database.write() as connection:
        item_id = enqueue(connection, "a", {})
        enqueue(connection, "b", {})
    worker = Worker(database, {"a": Handler(run=die)})
    with pytest.raises(KeyboardInterrupt):
        worker.run_due("a")
    assert not worker.run_due("a")  # leased
    due_now(database)
    assert Worker(database, {"a": Handler(run=lambda _item: None)}).run_due("a")
    assert state_of(database, item_id)[:2] == (DONE, 2)


def test_a_lease_that_is_renewed_lasts_while_the_item_is_done_and_no_longer(database: Database) -> None:
    seen: list[bool] = []

    def due_at() -> datetime:
        with database.read() as connection:
            return connection.execute(select(items.c.due_at)).scalar_one()

    def run(_item: Item) -> None:
        if not seen:
            first = due_at()
            wait_until(lambda: utc_now() > first, what="the end of the first lease")
            seen.append(other.run_due("a"))
            raise KeyboardInterrupt  # as a process that is killed

    worker, other = (Worker(database, {"a": Handler(run=run, lease_s=0.4)}) for _ in range(2))
    with database.write() as connection:
        enqueue(connection, "a", {})
    with pytest.raises(KeyboardInterrupt):
        worker.run_due("a")
    assert seen == [False]
    assert wait_until(lambda: other.run_due("a"), what="the end of the last lease")


def test_threads_wake_for_what_is_due_and_end_with_the_block(database: Database) -> None:
    together = threading.Barrier(2, timeout=30)

    def fail_once(item: Item) -> None:
        if item.attempt == 1:
            raise RuntimeError("not yet")

    handlers = {
        "a": Handler(run=lambda _item: together.wait(), threads=2),
        "b": Handler(run=fail_once, attempts=2, pause_s=0.2),
    }
    with database.write() as connection:
        before = [enqueue(connection, "a", {}) for _ in range(2)]
    with Worker(database, handlers).at_work():
        names = {thread.name for thread in threading.enumerate()}
        assert names >= {"work", "work-a", "work-b"}
        with database.write() as connection:
            later = [enqueue(connection, "a", {}) for _ in range(4)] + [enqueue(connection, "b", {})]
        for each in before + later:
            wait_until(lambda each=each: state_of(database, each)[0] == DONE, what="the end of the work")
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("work")]
