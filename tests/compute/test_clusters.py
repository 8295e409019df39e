"""Clusters as rows, without a server that carries them out."""

import threading
from concurrent.futures import ThreadPoolExecutor

from millpond.compute.clusters import ClusterService
from millpond.compute.domain import Source
from millpond.compute.machine import Machine
from millpond.compute.policies import PolicyService
from millpond.compute.pools import PoolService
from millpond.identity.domain import Principal, PrincipalKind
from millpond.kernel.database import Database

MACHINE = Machine(cores=4, memory_mb=16 << 10)
ANN = Principal(id="1", name="ann", kind=PrincipalKind.USER, is_admin=True)
SPEC = {
    "spark_version": "1.0.x-scala2.12", "node_type_id": "local.1c2g", "num_workers": 0, "spark_env_vars": {"A": "b"},
}  # fmt: skip


def test_two_at_once_with_one_token_get_one_cluster(database: Database) -> None:
    both = threading.Barrier(2)
    clusters = ClusterService(
        database, server="s", machine=MACHINE, policies=PolicyService(database, lambda *_: True),
        pools=PoolService(database, MACHINE, lambda _: True, lambda _: (0, 0), lambda: None),
        check_secrets=lambda *_: both.wait(30) and None, kind_of=lambda _: None, wake=lambda: None,
    )  # fmt: skip
    with ThreadPoolExecutor(2) as pool:
        made = [pool.submit(clusters.create, ANN, SPEC, source=Source.JOB, run_id=1, token="run:1:k") for _ in "ab"]
    first, second = (each.result() for each in made)
    assert first.id == second.id
    assert [each.id for each in clusters.list_all(ANN)] == [first.id]
