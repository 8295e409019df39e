"""Looks at what triggers watch, where somebody else is at the same job or a log is odd."""

import json
import os
import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import write_deltalake
from sqlalchemy import text

from millpond.catalog.delta import newest_commit
from millpond.identity.domain import Principal
from millpond.jobs import store, watch_store
from millpond.jobs.domain import Job
from millpond.jobs.settings import checked
from millpond.jobs.watcher import Watcher
from millpond.jobs.watching import Watch
from millpond.kernel.clock import from_epoch_ms, utc_now
from millpond.kernel.database import Database
from millpond.kernel.errors import FailedPrecondition
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


COMMITS = [{"timestamp": 1_600_000_000_000}, {}, {"timestamp": 10**18}, {"timestamp": None}, None]


@pytest.mark.parametrize("commit", COMMITS, ids=str)
def test_a_commit_is_as_old_as_its_file_whatever_it_says(tmp_path: Path, commit: dict[str, Any] | None) -> None:
    write_deltalake(tmp_path, pa.table({"a": [1]}))
    file = tmp_path / "_delta_log" / f"{0:020d}.json"
    actions = [each for line in file.read_text().splitlines() if "commitInfo" not in (each := json.loads(line))]
    told = [] if commit is None else [{"commitInfo": commit}]
    file.write_text("".join(json.dumps(each) + "\n" for each in [*told, *actions]))
    os.utime(file, (1_700_000_000, 1_700_000_000))
    assert newest_commit(tmp_path.as_uri(), S3Settings()) == (0, from_epoch_ms(1_700_000_000_000))


def test_a_log_that_makes_no_sense_cannot_be_read(tmp_path: Path) -> None:
    write_deltalake(tmp_path, pa.table({"a": [1]}))
    (tmp_path / "_delta_log" / f"{1:020d}.json").write_text('{"add": 7}\n[')
    with pytest.raises(FailedPrecondition, match="cannot be read"):
        newest_commit(tmp_path.as_uri(), S3Settings())


def test_a_look_that_fails_oddly_ends_no_others(database: Database) -> None:
    watched(database, 1, files("/Volumes/a/b/c"))
    watched(database, 2, files("/Volumes/a/b/c"))
    watcher(database, nobody).round()
    for number in (1, 2):
        assert watch_of(database, number).error == "The look failed with AssertionError; the server's log says more."


def test_a_look_of_the_trigger_before_does_not_count_for_the_one_after(database: Database) -> None:
    watched(database, 1, files("/Volumes/a/b/c"))

    def meanwhile(_name: str) -> Principal:
        with database.write() as connection:
            settings = checked({"tasks": [TASK], "trigger": files("/Volumes/a/b/other")})
            store.change_job(connection, 1, settings=settings)
            watch_store.put_watch(connection, Watch(job_id=1), 1)
        raise FailedPrecondition("The directory before has too many files.")

    watcher(database, meanwhile).round()
    assert watch_of(database, 1) == Watch(job_id=1)
