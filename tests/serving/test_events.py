"""What happened to endpoints is kept, within bounds."""

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DatabaseError

from millpond.kernel.database import Database
from millpond.serving import store
from millpond.serving.domain import Update
from millpond.serving.events import EventLog
from millpond.serving.worker_process import LoadFailed
from tests.serving.test_domain import A, config, endpoint


def test_events_wait_in_memory_until_they_are_written(database: Database) -> None:
    log = EventLog(database)
    with database.write() as connection:
        store.insert_endpoint(connection, endpoint(None, config(1, A), Update.IN_PROGRESS))
    log.note("1", "a", "started", "Replica 1 answers.")
    log.note("1", "a", "ended", "x" * 5000 + "why")
    with database.read() as connection:
        assert store.list_events(connection, "1", limit=10) == ()
    log.flush()
    log.flush()
    with database.read() as connection:
        newest, oldest = store.list_events(connection, "1", limit=10)
    assert (oldest.kind, oldest.message) == ("started", "Replica 1 answers.")
    assert (len(newest.message), newest.message[-4:]) == (2000, "xwhy")


def test_a_message_may_hold_what_no_database_takes(database: Database) -> None:
    log = EventLog(database)
    with database.write() as connection:
        store.insert_endpoint(connection, endpoint(None, config(1, A), Update.IN_PROGRESS))
    log.note("1", "a", "ended", "half \ud800 and zero \0.")
    log.flush()
    with database.read() as connection:
        (kept,) = store.list_events(connection, "1", limit=10)
    assert kept.message == "half ? and zero ."
    failure = LoadFailed("\ud800\0", build_log="\0\udfff")
    assert (failure.message, failure.build_log) == ("?", "?")


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_what_could_not_be_written_waits_on(database: Database) -> None:
    log = EventLog(database)
    with database.write() as connection:
        store.insert_endpoint(connection, endpoint(None, config(1, A), Update.IN_PROGRESS))
        connection.execute(text("ALTER TABLE serving_events RENAME TO away"))
    for message in ("first", "second"):
        log.note("1", "a", "started", message)
    with pytest.raises(DatabaseError):
        log.flush()
    with database.write() as connection:
        connection.execute(text("ALTER TABLE away RENAME TO serving_events"))
    log.flush()
    with database.read() as connection:
        kept = store.list_events(connection, "1", limit=10)
    assert [each.message for each in kept] == ["second", "first"]


def test_the_newest_are_kept_and_those_of_deleted_endpoints_are_not(database: Database) -> None:
    log = EventLog(database)
    with database.write() as connection:
        store.insert_endpoint(connection, endpoint(None, config(1, A), Update.IN_PROGRESS))
    for number in range(store.KEPT_EVENTS + 5):
        log.note("1", "a", "started", str(number))
    log.note("deleted", "a", "started", "late")
    log.flush()
    log.prune()
    with database.read() as connection:
        kept = store.list_events(connection, "1", limit=2000)
        assert store.list_events(connection, "deleted", limit=10) == ()
    assert len(kept) == store.KEPT_EVENTS
    assert kept[0].message == str(store.KEPT_EVENTS + 4)
