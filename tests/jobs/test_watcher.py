"""Looks at what triggers watch, where somebody else is at the same job or a log is odd."""

import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import text

from millpond.identity.domain import Principal
from millpond.jobs import store, watch_store
from millpond.jobs.domain import Job
from millpond.jobs.settings import checked
from millpond.jobs.watcher import Watcher
from millpond.jobs.watching import Watch
from millpond.kernel.clock import utc_now
from millpond.kernel.database import Database
from millpond.kernel.settings import S3Settings
from millpond.tracking.watch import Happening, RegistryEvent
from tests.databases import Databases
from tests.servers import wait_until

TASK = {"task_key": "a", "condition_task": {"op": "EQUAL_TO", "left": "1", "right": "1"}}
MODELS = {"model": {"condition": "MODEL_CREATED"}}
CREATED = RegistryEvent(what=Happening.MODEL_CREATED, model="a.b.c")


def files(url: str) -> dict[str, Any]:
    return {"file_arrival": {"url": url}}


def watched(database: Database, job_id: int, trigger: dict[str, Any]) -> None:
    """A job whose trigger is to be looked at."""
    settings = checked({"tasks": [TASK], "trigger": trigger})
    job = Job(id=job_id, name="j", creator="ada", run_as="ada", settings=settings, created_at=utc_now(),
              trigger_kind=next(iter(trigger)), next_fire_at=utc_now())  # fmt: skip
    with database.write() as connection:
        store.add_job(connection, job)
        watch_store.put_watch(connection, Watch(job_id=job_id), job_id)


def watch_of(database: Database, job_id: int) -> Watch:
    with database.read() as connection:
        found = watch_store.find_watch(connection, job_id)
    assert found is not None
    return found


def watcher(database: Database, principal_named: Callable[[str], Principal]) -> Watcher:
    nothing: Any = None  # looks that come that far need none of it
    return Watcher(
        database=database, files=nothing, catalog=nothing, s3=S3Settings(), principal_named=principal_named,
        moved=lambda *_: None, poll=timedelta(minutes=1),
    )  # fmt: skip


def nobody(name: str) -> Principal:
    raise AssertionError(name)


def test_a_model_and_a_look_do_not_lock_each_other_out(databases: Databases, tmp_path: Path) -> None:
    """Both lock the job, and then its watch."""
    with databases.new("postgresql", tmp_path) as database:
        watched(database, 1, MODELS)
        waiting = text("SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'")

        def told() -> None:
            with database.write() as connection:
                watcher(database, nobody).model_changed(connection, CREATED)

        def waits() -> bool:
            with database.read() as connection:
                return connection.execute(waiting).first() is not None

        thread = threading.Thread(target=told)
        with database.write() as connection:
            store.find_job(connection, 1, lock=True)
            thread.start()
            wait_until(waits, what="the model to wait for the job")
            watch_store.find_watch(connection, 1, lock=True)
        thread.join()
        assert len(watch_of(database, 1).pending) == 1
