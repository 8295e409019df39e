"""A server holds its own task for as long as it is at it, whatever else is slow."""

import threading
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from millpond.jobs import runtime as runtimes
from millpond.jobs.domain import Result, TaskRun
from millpond.jobs.launching import Launcher
from millpond.jobs.runtime import Runtime
from millpond.jobs.task_files import Ended
from millpond.kernel.database import Database
from tests.jobs.servers_of import launcher_in, runtime_of
from tests.jobs.test_workers import task_of, waiting
from tests.servers import wait_until

DONE = Ended(result=Result.SUCCESS)


class World:
    """A task that waits for a server whose telling takes long."""

    def __init__(self, database: Database, place: Path) -> None:
        self.database = database
        self.launcher: Launcher = launcher_in(place)
        self.runtime: Runtime = runtime_of(database, self.launcher)
        self.run_id = waiting(database)
        self.runtime.moved(self.run_id)

    def task(self) -> TaskRun:
        return task_of(self.database, self.run_id)

    def renewed(self) -> None:
        """Wait until its lease is renewed."""
        before = self.until()
        wait_until(lambda: self.until() > before, timeout_s=10, what="another lease")

    def until(self) -> datetime:
        found = self.task().leased_until
        assert found is not None
        return found


@pytest.fixture
def world(database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr(runtimes, "_RENEW_S", 0.01)
    return World(database, tmp_path)


def test_a_task_is_held_until_all_is_told_that_it_left(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(world.launcher, "run", lambda *_, **__: DONE)
    monkeypatch.setattr(world.runtime._outputs, "tell", lambda *_, last=False: last and world.renewed())
    world.runtime._take_one()
    assert world.task().result is Result.SUCCESS


def test_a_task_is_held_while_others_cannot_be_told_what_it_prints(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, over = threading.Event(), threading.Event()

    def tell(*_: Any, last: bool = False) -> None:
        begun.set()
        assert last or over.wait(30)

    def run(*_: Any, **__: Any) -> Ended:
        try:
            assert begun.wait(30)
            world.renewed()
        finally:
            over.set()
        return DONE

    monkeypatch.setattr(world.launcher, "run", run)
    monkeypatch.setattr(world.runtime._outputs, "tell", tell)
    world.runtime._take_one()
    assert world.task().result is Result.SUCCESS


def test_who_has_lost_a_task_leaves_its_files_to_whoever_has_it(world: World) -> None:
    task = world.task()
    world.launcher.files.fresh(task.id)
    assert not world.runtime.settle(task, DONE)
    assert world.launcher.files.directory(task.id).is_dir()
