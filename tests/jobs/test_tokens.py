"""Tokens of tasks are good while somebody holds the task, and say which it is."""

import uuid
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from millpond.identity.credentials import Signer
from millpond.identity.domain import Principal, Work
from millpond.identity.service import IdentityService, begin_loan
from millpond.jobs import leases, store
from millpond.jobs.domain import Place, Result, Run, TaskRun
from millpond.jobs.launching import lender
from millpond.jobs.runtime import Runtime
from millpond.jobs.task_files import Ended
from millpond.kernel.clock import utc_now
from millpond.kernel.database import Database
from millpond.kernel.errors import Unauthenticated
from tests.jobs.servers_of import launcher_in, runtime_of
from tests.jobs.test_workers import waiting

PATH = "/api/2.0/fs/files"
EMPTIED = Ended(result=Result.SUCCESS)


class World:
    """A task of Ann's that somebody holds."""

    def __init__(self, database: Database, runtime: Runtime) -> None:
        self.database = database
        self.runtime = runtime
        self.identity = IdentityService(database, Signer(b"k" * 32))
        self.identity.bootstrap("ann", password="a password", secret="dapi" + "1" * 64)
        self.ann: Principal = self.identity.active_principal("ann")
        self.run_id = waiting(database, run_as="ann")
        runtime.moved(self.run_id)

    def claim(self, lease: str | None = None) -> TaskRun:
        with self.database.write() as connection:
            past = utc_now() - timedelta(seconds=1)
            lease = lease or str(uuid.uuid4())
            task = leases.claim(connection, past, lease, past, places=[Place.ANYWHERE], server="here")
        assert task is not None
        return task

    def run(self) -> Run:
        with self.database.read() as connection:
            run = store.find_run(connection, self.run_id)
        assert run is not None
        return run

    def lend(self, task: TaskRun) -> str:
        return lender(self.identity)(self.ann, 60, self.run(), task)

    def is_good(self, token: str) -> bool:
        try:
            self.identity.authenticate(token, path=PATH)
        except Unauthenticated:
            return False
        return True


@pytest.fixture
def world(database: Database, tmp_path: Path) -> World:
    return World(database, runtime_of(database, launcher_in(tmp_path)))


def test_a_tasks_token_says_which_task_it_is_and_may_be_asked_for_twice(world: World) -> None:
    task = world.claim()
    tokens = [world.lend(task) for _ in range(2)]
    works = {world.identity.authenticate(token, path=PATH).work for token in tokens}
    assert works == {Work(job_id=None, run_id=world.run_id, task_run_id=task.id)}
    assert world.identity.active_principal("ann").work is None


@pytest.mark.parametrize(
    "ends",
    [
        lambda world, task: world.runtime.settle(task, EMPTIED),
        lambda world, task: world.runtime.give_back(task),
        lambda world, _: world.runtime.round(),
    ],
    ids=["ended", "given back", "found lost after a kill"],
)
def test_it_ends_with_the_hold_on_the_task(world: World, ends: Callable[[World, TaskRun], object]) -> None:
    task = world.claim()
    token = world.lend(task)
    assert world.is_good(token)
    ends(world, task)
    assert not world.is_good(token)
    assert not world.is_good(world.lend(task))


def test_whoever_takes_the_task_next_has_a_token_of_their_own(world: World) -> None:
    first = world.claim()
    before = world.lend(first)
    world.runtime.give_back(first)
    second = world.claim()
    assert second.id == first.id
    after = world.lend(second)
    assert not world.runtime.settle(first, EMPTIED)
    assert (world.is_good(before), world.is_good(after)) == (False, True)


def test_whoever_makes_up_a_lease_chooses_no_loan(world: World) -> None:
    """Neither another's, which it would end, nor the one before, whose token would be good again."""
    others = str(uuid.uuid4())
    with world.database.write() as connection:
        begin_loan(connection, world.ann.id, others, by="another")
    kept = world.identity.borrowed(world.ann, 60, paths=[PATH], loan=others)
    first = world.claim(others)
    before = world.lend(first)
    world.runtime.give_back(first)
    assert world.is_good(kept)
    again = world.lend(world.claim(others))
    assert [world.is_good(token) for token in (before, again)] == [False, True]
