"""Clusters, policies and instance pools: what there is, and a form for a new cluster or policy."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from millpond.compute.domain import Cluster, Policy, Pool, Source, State
from millpond.compute.families import FAMILIES
from millpond.compute.policies import PolicyDraft
from millpond.compute.pools import PoolStats
from millpond.compute.versions import VERSIONS
from millpond.jobs.workers.domain import Worker
from millpond.kernel.clock import epoch_ms
from millpond.ui import urls
from millpond.ui.elements import (
    Cell,
    DataTable,
    Rows,
    SelectField,
    Tab,
    TableColumn,
    TextField,
    Tone,
    card,
    el,
    empty_state,
    page_header,
    tabs,
)
from millpond.ui.formats import size_text
from millpond.ui.forms import form, labelled, reloading, submit
from millpond.ui.visit import Page, Visit

_POLICIES, _POOLS, _WORKERS = "policies", "pools", "workers"
_TONES: Mapping[State, Tone] = {State.RUNNING: "good", State.ERROR: "bad", State.TERMINATED: "plain"}
_CREATE = """from databricks.sdk import WorkspaceClient

w = WorkspaceClient()
cluster = w.clusters.create_and_wait(
    spark_version=w.clusters.select_spark_version(long_term_support=True),
    node_type_id=w.clusters.select_node_type(min_cores=1),
    num_workers=0,
    cluster_name="mine",
    autotermination_minutes=60,
)"""

_ADD_WORKER = """export MILLPOND_TOKEN=$(millpond workers add gpu-machines)
millpond worker --url http://SERVER:8484"""


@dataclass(frozen=True, kw_only=True)
class _Data:
    clusters: Sequence[Cluster] = ()
    policies: Sequence[Policy] = ()
    pools: Sequence[tuple[Pool, PoolStats]] = ()
    workers: Sequence[tuple[Worker, int]] = ()
    """With how many tasks each has."""
    freely: bool = False
    """Whether one may make clusters without a policy."""


def state_badge(cluster: Cluster) -> tuple[str, Tone]:
    """How a cluster stands."""
    return cluster.state.value.lower(), _TONES.get(cluster.state, "info")


def size_of(visit: Visit, cluster: Cluster) -> str:
    """Its cores and memory; empty where this machine has no such nodes."""
    nodes = {each.id: each for each in visit.services.compute.services.clusters.machine.node_types}
    driver, worker = (nodes.get(str(cluster.spec.get(name))) for name in ("driver_node_type_id", "node_type_id"))
    if driver is None or worker is None:
        return ""
    cores = driver.cores + cluster.workers * worker.cores
    memory = driver.memory_mb + cluster.workers * worker.memory_mb
    return f"{cores} core{'s' if cores > 1 else ''}, {size_text(memory << 20)}"


def _load(visit: Visit) -> _Data:
    services, who = visit.services.compute.services, visit.principal
    tab = visit.query.get("tab", "")
    policies = services.policies.list_all(who)
    if tab == _POLICIES:
        return _Data(policies=policies)
    if tab == _POOLS:
        return _Data(pools=[(pool, services.pools.stats(pool)) for pool in services.pools.list_all(who)])
    if tab == _WORKERS:
        return _Data(workers=visit.services.jobs.workers.list_all(who))
    clusters = [
        each for each in services.clusters.list_all(who) if each.source is not Source.JOB or not each.state.ended
    ]
    clusters.sort(key=lambda each: (each.state.ended, not each.pinned))
    return _Data(clusters=clusters, policies=policies, freely=services.policies.may_do_without(who))


def _draw(visit: Visit, data: _Data) -> None:
    page_header("Compute", symbol="memory", subtitle="Slices of this machine in which code runs.")
    items = [
        Tab(key="", label="Clusters", href=urls.COMPUTE),
        Tab(key=_POLICIES, label="Policies", href=f"{urls.COMPUTE}?tab={_POLICIES}"),
        Tab(key=_POOLS, label="Pools", href=f"{urls.COMPUTE}?tab={_POOLS}"),
    ]
    if visit.principal.is_admin:
        items.append(Tab(key=_WORKERS, label="Workers of jobs", href=f"{urls.COMPUTE}?tab={_WORKERS}"))
    tab = visit.query.get("tab", "")
    tabs(items, tab, label="Compute")
    with el("div", cls="mp-stack"):
        parts = {_POLICIES: _draw_policies, _POOLS: _draw_pools, _WORKERS: _draw_workers}
        parts.get(tab, _draw_clusters)(visit, data)


# Clusters


def _draw_clusters(visit: Visit, data: _Data) -> None:
    if data.freely or data.policies:
        _draw_new(visit, data)
    if not data.clusters:
        empty_state("No clusters yet", "Make one here, or from Python:", symbol="memory", code=_CREATE)
        return
    rows: Rows = [
        [
            Cell(text=each.name or each.id, href=urls.cluster_url(each.id), note=each.message[:160]),
            Cell(badges=(state_badge(each),)),
            size_of(visit, each),
            Cell(time_ms=epoch_ms(each.used_at)),
            each.creator,
        ]
        for each in data.clusters
    ]
    columns = (
        TableColumn(label="Cluster", grow=True),
        TableColumn(label="State"),
        TableColumn(label="Size"),
        TableColumn(label="Last used", optional=True),
        TableColumn(label="Owner", short=True, optional=True),
    )
    DataTable(label="Clusters", columns=columns, rows=rows)


def _draw_new(visit: Visit, data: _Data) -> None:
    services = visit.services.compute.services
    policies = [("", "none")] if data.freely else []
    policies += [(policy.id, policy.name) for policy in data.policies]
    nodes = [
        (each.id, f"{each.cores} cores, {each.memory_mb >> 10} GiB") for each in services.clusters.machine.node_types
    ]

    def make(who: Any) -> None:
        minutes = int(idle.value or 0) if (idle.value or "0").isdecimal() else -1
        asked = {
            "cluster_name": name.value, "spark_version": version.value, "node_type_id": node.value,
            "num_workers": int(workers.value) if workers.value.isdecimal() else -1,
            "autotermination_minutes": minutes, "apply_policy_default_values": True,
        }  # fmt: skip
        cluster = services.clusters.create(
            who, asked | ({"policy_id": policy.value} if policy.value else {}), source=Source.UI
        )
        services.libraries.install_of_policy(cluster)

    with card("New cluster"), form(reloading(visit, make), label="New cluster"):
        with labelled("Name"):
            name = TextField(label="Name", placeholder="mine")
        with labelled("Runtime"):
            version = SelectField(
                label="Runtime", choices=[(each.key, each.name.partition(" (")[0]) for each in VERSIONS.values()],
                value=next(iter(VERSIONS)),
            )  # fmt: skip
        with labelled("Node type"):
            node = SelectField(label="Node type", choices=nodes, value=nodes[0][0] if nodes else "")
        with labelled("Workers"):
            workers = TextField(label="Workers", value="0", inputmode="numeric")
        with labelled("Ends after idle minutes"):
            idle = TextField(label="Ends after idle minutes", value="60", inputmode="numeric")
        with labelled("Policy"):
            policy = SelectField(label="Policy", choices=policies, value=policies[0][0])
        submit("Create")


# Policies and pools


def _draw_policies(visit: Visit, data: _Data) -> None:
    if visit.principal.is_admin:
        _draw_new_policy(visit)
    if not data.policies:
        empty_state("No policies", "There is none that you may use.", symbol="policy")
        return
    rows: Rows = [
        [
            Cell(text=each.name, href=urls.cluster_policy_url(each.id), note=each.description[:160]),
            FAMILIES[each.family_id].name if each.family_id in FAMILIES else "",
            str(each.max_clusters or ""),
        ]
        for each in data.policies
    ]
    columns = (
        TableColumn(label="Policy", grow=True), TableColumn(label="Family"),
        TableColumn(label="Clusters of each user", numeric=True),
    )  # fmt: skip
    DataTable(label="Policies", columns=columns, rows=rows)


def _draw_new_policy(visit: Visit) -> None:
    policies = visit.services.compute.services.policies
    choices = [("", "none"), *((each.id, each.name) for each in FAMILIES.values())]

    def make(who: Any) -> None:
        policies.create(who, PolicyDraft(name=name.value, family_id=family.value))

    with card("New policy"), form(reloading(visit, make), label="New policy"):
        with labelled("Name"):
            name = TextField(label="Name")
        with labelled("Family"):
            family = SelectField(label="Family", choices=choices, value="")
        submit("Create")


def _draw_pools(_visit: Visit, data: _Data) -> None:
    if not data.pools:
        empty_state("No instance pools", "There is none that you may see.", symbol="pool")
        return
    rows: Rows = [
        [pool.name, pool.node_type_id, str(stats.idle), str(stats.used), str(pool.max_capacity or "any"), pool.creator]
        for pool, stats in data.pools
    ]
    columns = (
        TableColumn(label="Pool", grow=True), TableColumn(label="Node type"), TableColumn(label="Idle", numeric=True),
        TableColumn(label="Used", numeric=True), TableColumn(label="At most", numeric=True),
        TableColumn(label="Owner", short=True),
    )  # fmt: skip
    DataTable(label="Instance pools", columns=columns, rows=rows)


def _draw_workers(visit: Visit, data: _Data) -> None:
    if not data.workers:
        empty_state(
            "No workers", "Other machines run tasks of jobs once a worker is started there:", symbol="dns",
            code=_ADD_WORKER, code_title="Shell",
        )  # fmt: skip
        return
    rows: Rows = [
        [
            Cell(text=each.name, note=each.id),
            Cell(badges=(_worker_badge(visit, each),)),
            f"{running} of {each.slots}",
            Cell(time_ms=epoch_ms(each.seen_at)),
            each.address,
        ]
        for each, running in data.workers
    ]
    columns = (
        TableColumn(label="Worker", grow=True), TableColumn(label="State"), TableColumn(label="Tasks"),
        TableColumn(label="Last seen"), TableColumn(label="Address", optional=True),
    )  # fmt: skip
    DataTable(label="Workers of jobs", columns=columns, rows=rows)


def _worker_badge(visit: Visit, worker: Worker) -> tuple[str, Tone]:
    if not visit.services.jobs.workers.is_heard_of(worker):
        return "not heard of", "bad"
    return ("draining", "warn") if worker.draining else ("ready", "good")


PAGES = (Page(path="/compute", section="compute", load=_load, draw=_draw, title=lambda _visit, _data: "Compute"),)
