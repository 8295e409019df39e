"""Tasks over a quota of running tasks wait, and nobody else's do."""

from datetime import timedelta
from typing import Any

import pytest

from millpond.billing.domain import Holder, Measure
from millpond.billing.metering import Meter
from millpond.identity.domain import Principal, PrincipalKind
from millpond.jobs import leases, store
from millpond.jobs.costs import TaskCosts
from millpond.jobs.domain import Place, Result, State, TaskRun
from millpond.kernel.clock import utc_now
from millpond.kernel.database import Database
from millpond.kernel.errors import LimitExceeded, NotFound
from tests.billing.free import quotas_of
from tests.jobs.servers_of import runtime_of
from tests.jobs.test_workers import waiting

ROOT = Principal(id="1", name="root", kind=PrincipalKind.USER, is_admin=True)


def principal_named(name: str) -> Principal:
    if name == "gone":
        raise NotFound("There is no such user.")
    return Principal(id=name, name=name, kind=PrincipalKind.USER, is_admin=False)


def test_tasks_over_a_quota_wait_and_those_of_others_do_not(database: Database) -> None:
    quotas = quotas_of(database)
    costs = TaskCosts(database, Meter(database), quotas, principal_named)
    runtime = runtime_of(database, costs=costs)
    of_a = [waiting(database) for _ in range(4)]
    others = [waiting(database, run_as="b"), waiting(database, run_as="gone")]
    runtime.moved(*of_a, *others)
    with database.write() as connection:  # as `for_each_task` is, which would wait for its own iterations
        store.add_tasks(connection, [TaskRun(id=1, run_id=of_a[0], key="each", state=State.RUNNING)])
    quota = quotas.create(ROOT, holder=Holder.USER, name="a", measure=Measure.TASKS, limit=2, period=None)

    def claimed() -> Any:
        now = utc_now()
        with costs.turn() as full, database.write() as connection:
            return leases.claim(
                connection, now, str(store.new_number()), now + timedelta(seconds=20), places=[Place.ANYWHERE], but=full
            )

    held = [claimed() for _ in range(4)]
    assert [task.run_id for task in held] == [*of_a[:2], *others]
    assert claimed() is None
    costs.check("a", {})
    with pytest.raises(LimitExceeded, match="running_tasks of user a: 2 of 2 are used, and 1 more"):
        costs.check("a", {}, more=1)
    with database.write() as connection:
        leases.write_held(connection, held[0].id, held[0].lease, state=State.ENDED, result=Result.SUCCESS)
    assert claimed().run_id == of_a[2]
    assert claimed() is None
    quotas.remove(ROOT, quota.id)
    assert claimed().run_id == of_a[3]
