"""Clusters as rows, without a server that carries them out."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from millpond.billing.domain import Holder, Measure
from millpond.billing.quotas import QuotaService
from millpond.compute.clusters import ClusterService, order_end
from millpond.compute.costs import ClusterQuotas
from millpond.compute.domain import Cluster, Source, State, Wanted, Why
from millpond.compute.job_clusters import JobClusters
from millpond.compute.machine import Machine
from millpond.compute.policies import PolicyDraft, PolicyService
from millpond.compute.pools import PoolService
from millpond.compute.slices import ClusterSlices
from millpond.compute.store import clusters as rows
from millpond.identity.domain import Principal, PrincipalKind
from millpond.kernel.database import Database
from millpond.kernel.errors import FailedPrecondition, LimitExceeded
from tests.billing.free import quotas_of

NOTHING: Any = None
MACHINE = Machine(cores=4, memory_mb=16 << 10)
ANN = Principal(id="1", name="ann", kind=PrincipalKind.USER, is_admin=True)
SPEC = {
    "spark_version": "1.0.x-scala2.12", "node_type_id": "local.1c2g", "num_workers": 0, "spark_env_vars": {"A": "b"},
}  # fmt: skip


def service(
    database: Database, meanwhile: Callable[[], object] = lambda: None, quotas: QuotaService | None = None,
    admitting: Callable[[], object] = lambda: None,
) -> ClusterService:  # fmt: skip
    """`meanwhile` is called while a request is judged, and `admitting` while quotas are asked, before its
    transaction."""

    def owner(_: str) -> Principal:
        admitting()
        return ANN

    return ClusterService(
        database, server="s", machine=MACHINE, policies=PolicyService(database, lambda *_: True),
        pools=PoolService(database, MACHINE, lambda _: True, lambda _: (0, 0), lambda: None),
        check_secrets=lambda *_: meanwhile() and None, kind_of=lambda _: None,
        quotas=ClusterQuotas(quotas or quotas_of(database), MACHINE, owner), wake=lambda: None,
    )  # fmt: skip


@pytest.mark.parametrize("limit", [None, 1])
def test_two_at_once_with_one_token_get_one_cluster(database: Database, limit: int | None) -> None:
    both, quotas = threading.Barrier(2), quotas_of(database)
    if limit is not None:
        quotas.create(ANN, holder=Holder.USER, name="ann", measure=Measure.CORES, limit=limit, period=None)
    clusters = service(database, lambda: both.wait(30), quotas=quotas)
    with ThreadPoolExecutor(2) as pool:
        made = [pool.submit(clusters.create, ANN, SPEC, source=Source.JOB, run_id=1, token="run:1:k") for _ in "ab"]
    first, second = (each.result() for each in made)
    assert first.id == second.id
    assert [each.id for each in clusters.list_all(ANN)] == [first.id]


def test_two_at_once_do_not_pass_the_limit_of_a_policy(database: Database) -> None:
    both = threading.Barrier(2)
    policy = PolicyService(database, lambda *_: True).create(ANN, PolicyDraft(name="one each", max_clusters=1))
    clusters = service(database, lambda: both.wait(30))
    with ThreadPoolExecutor(2) as pool:
        made = [pool.submit(clusters.create, ANN, SPEC | {"policy_id": policy.id}) for _ in "ab"]
    assert sorted(type(each.exception()).__name__ for each in made) == ["LimitExceeded", "NoneType"]
    assert len(clusters.list_all(ANN)) == 1


def test_who_edits_what_another_edited_meanwhile_is_told(database: Database) -> None:
    clusters = service(database)
    made = clusters.create(ANN, SPEC)
    clusters.terminate(ANN, made.id)
    with database.write() as connection:
        rows.change(connection, made.id, state=State.TERMINATED)
    slower = service(database, lambda: clusters.edit(ANN, made.id, {"cluster_name": "b"}, fields=["cluster_name"]))
    with pytest.raises(FailedPrecondition, match="at the same time"):
        slower.edit(ANN, made.id, {"custom_tags": {"a": "b"}}, fields=["custom_tags"])
    assert clusters.get(ANN, made.id).name == "b"


def test_what_a_look_found_idle_is_not_ended_when_somebody_starts_it_anew(database: Database) -> None:
    clusters = service(database)
    made = clusters.create(ANN, SPEC)
    with database.write() as connection:
        rows.move(connection, made, State.RUNNING)
    seen = clusters.get(ANN, made.id)
    clusters.restart(ANN, made.id)
    with database.write() as connection:
        assert not order_end(connection, seen, Why.INACTIVITY, inactivity_duration_min="10")
    assert clusters.get(ANN, made.id).state is State.RESTARTING
    clusters.terminate(ANN, made.id)
    assert clusters.get(ANN, made.id).state is State.TERMINATING


def test_a_session_finds_only_clusters_of_its_own_server(database: Database, tmp_path: Path) -> None:
    clusters = service(database)
    made = clusters.create(ANN, SPEC)
    with database.write() as connection:
        rows.move(connection, made, State.RUNNING)
    assert ClusterSlices(database, MACHINE, tmp_path, server="s").attach(ANN, made.id).memory_bytes > 0
    with pytest.raises(FailedPrecondition, match="another server"):
        ClusterSlices(database, MACHINE, tmp_path, server="t").attach(ANN, made.id)


def test_no_way_to_more_workers_passes_a_quota_of_cores(database: Database) -> None:
    quotas = quotas_of(database)
    quotas.create(ANN, holder=Holder.USER, name="ann", measure=Measure.CORES, limit=2, period=None)
    clusters = service(database, quotas=quotas)
    wide = {"autoscale": {"min_workers": 0, "max_workers": 3}}
    with pytest.raises(LimitExceeded, match="cluster_cores"):
        clusters.create(ANN, SPEC | {"num_workers": None} | wide)
    made = clusters.create(ANN, SPEC | {"num_workers": 1})
    with pytest.raises(LimitExceeded, match="2 of 2 are used"):
        clusters.create(ANN, SPEC)
    with database.write() as connection:
        rows.change(connection, made.id, state=State.RUNNING)
    for asked in ({"num_workers": 2}, {"autoscale": {"min_workers": 1, "max_workers": 2}}):
        with pytest.raises(LimitExceeded, match="1 more"):
            clusters.edit(ANN, made.id, asked, fields=list(asked))
        with pytest.raises(LimitExceeded, match="1 more"):
            clusters.resize(ANN, made.id, asked)
    clusters.edit(ANN, made.id, {"num_workers": 0}, fields=["num_workers"])
    assert clusters.create(ANN, SPEC).state is State.PENDING


def test_many_at_once_do_not_pass_a_quota_of_cores(database: Database) -> None:
    quotas = quotas_of(database)
    quotas.create(ANN, holder=Holder.USER, name="ann", measure=Measure.CORES, limit=2, period=None)
    together = threading.Barrier(8)
    clusters = service(database, lambda: together.wait(30), quotas=quotas)
    with ThreadPoolExecutor(8) as pool:
        made = [pool.submit(clusters.create, ANN, SPEC) for _ in range(8)]
    refused = [each.exception() for each in made if each.exception() is not None]
    assert [type(each) for each in refused] == [LimitExceeded] * 6
    assert len(clusters.list_all(ANN)) == 2
    calm, ended = service(database, quotas=quotas), clusters.list_all(ANN)[0]
    with database.write() as connection:
        rows.change(connection, ended.id, state=State.TERMINATED)
    calm.create(ANN, SPEC)
    with pytest.raises(LimitExceeded, match="2 of 2 are used"):
        calm.start(ANN, ended.id)


@pytest.mark.parametrize(
    ("state", "act"),
    [
        (State.TERMINATED, lambda clusters, made: clusters.start(ANN, made.id)),
        (State.RUNNING, lambda clusters, made: clusters.resize(ANN, made.id, {"num_workers": 1})),
        (State.RUNNING, lambda clusters, made: clusters.edit(ANN, made.id, SPEC | {"num_workers": 1})),
    ],
    ids=["start", "resize", "edit"],
)
def test_what_another_did_meanwhile_is_no_quota_that_is_used_up(
    database: Database, state: State, act: Callable[[ClusterService, Cluster], object]
) -> None:
    quotas = quotas_of(database)
    limit = 1 if state is State.TERMINATED else 2
    quotas.create(ANN, holder=Holder.USER, name="ann", measure=Measure.CORES, limit=limit, period=None)
    quicker = service(database, quotas=quotas)
    made = quicker.create(ANN, SPEC)
    with database.write() as connection:
        rows.change(connection, made.id, state=state)
    slower = service(database, quotas=quotas, admitting=lambda: act(quicker, made))
    with pytest.raises(FailedPrecondition, match="at the same time"):
        act(slower, made)


def test_two_tasks_that_start_one_cluster_at_once_both_get_it(database: Database) -> None:
    both, quotas = threading.Barrier(2), quotas_of(database)
    quotas.create(ANN, holder=Holder.USER, name="ann", measure=Measure.CORES, limit=1, period=None)
    made = service(database, quotas=quotas).create(ANN, SPEC)
    with database.write() as connection:
        rows.change(connection, made.id, state=State.TERMINATED)
    clusters = service(database, quotas=quotas, admitting=lambda: both.wait(30))
    jobs = JobClusters(database, clusters, NOTHING, NOTHING, "s")
    wanted = Wanted(existing_id=made.id)
    with ThreadPoolExecutor(2) as pool:
        tasks = [pool.submit(jobs.assign, ANN, wanted, run_id=1, task_id=task_id) for task_id in (2, 3)]
    assert sorted(each.result() for each in tasks) == [(made.id, False), (made.id, True)]
