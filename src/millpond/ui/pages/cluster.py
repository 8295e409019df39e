"""A cluster: how it stands, what happened to it, its libraries and what it uses. And a cluster policy, to be edited."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from nicegui import ui

from millpond.compute.clusters import EventsAsked
from millpond.compute.domain import Cluster, Event, Library, Policy, State
from millpond.compute.monitor import Usage
from millpond.compute.policies import PolicyDraft
from millpond.identity.access import Act, allows
from millpond.identity.domain import Principal
from millpond.kernel.clock import epoch_ms
from millpond.ui import urls
from millpond.ui.elements import (
    Cell,
    Crumb,
    DataTable,
    Rows,
    Tab,
    TableColumn,
    TextField,
    Tone,
    button,
    code_block,
    el,
    empty_state,
    facts,
    move_on,
    notice,
    page_header,
    tabs,
)
from millpond.ui.formats import size_text
from millpond.ui.forms import ask_first, form, labelled, reloading, submit
from millpond.ui.pages.compute import size_of, state_badge
from millpond.ui.permissions import Permissions, draw_permissions, load_permissions, permissions_tab
from millpond.ui.visit import Page, Visit

_CRUMBS = [Crumb(label="Compute", href=urls.COMPUTE)]
_POLL_S = 1.0
_SHOWN_EVENTS = 200
_LIBRARY_TONES: dict[str, Tone] = {"INSTALLED": "good", "FAILED": "bad"}


@dataclass(frozen=True, kw_only=True)
class _Data:
    cluster: Cluster
    events: Sequence[Event] = ()
    libraries: Sequence[Library] = ()
    looks: Sequence[Usage] = ()
    permissions: Permissions | None = None


def _load(visit: Visit) -> _Data:
    room, who, cluster_id = visit.services.compute, visit.principal, visit.path["cluster"]
    services = room.services
    found = _Data(
        cluster=services.clusters.get(who, cluster_id), permissions=load_permissions(visit, "clusters", cluster_id)
    )
    match visit.query.get("tab", ""):
        case "events":
            events, _ = services.clusters.events(who, cluster_id, EventsAsked(limit=_SHOWN_EVENTS))
            return replace(found, events=events)
        case "libraries":
            return replace(found, libraries=services.libraries.of_cluster(who, cluster_id))
        case _:
            return replace(found, looks=room.runtime.looks(cluster_id))


def _draw(visit: Visit, data: _Data) -> None:
    cluster = data.cluster
    title = cluster.name or cluster.id
    with page_header(title, symbol="memory", crumbs=_CRUMBS, kind=state_badge(cluster)[0]):
        _draw_switches(visit, cluster)
    names = (("", "Details"), ("events", "Events"), ("libraries", "Libraries"), ("json", "JSON"))
    items = [Tab(key=key, label=label, href=visit.link(tab=key or None)) for key, label in names]
    tab = visit.query.get("tab", "")
    tabs([*items, permissions_tab(visit)], tab, label="Cluster")
    with el("div", cls="mp-stack"):
        if data.permissions is not None:
            draw_permissions(visit, data.permissions)
        elif tab == "events":
            _draw_events(data.events)
        elif tab == "libraries":
            _draw_libraries(visit, data)
        elif tab == "json":
            code_block(json.dumps(dict(cluster.spec), indent=2), title="Attributes")
        else:
            _draw_details(visit, data)
    if not cluster.state.ended:
        _follow(visit, cluster)


def _draw_switches(visit: Visit, cluster: Cluster) -> None:
    clusters, who = visit.services.compute.services.clusters, visit.principal
    if allows(who, Act.RESTART, cluster.securable):
        if cluster.state.ended:
            start = reloading(visit, lambda me: clusters.start(me, cluster.id))
            button("Start", start, symbol="play_arrow", kind="mp-primary")
        else:
            if cluster.state is State.RUNNING:
                button("Restart", reloading(visit, lambda me: clusters.restart(me, cluster.id)), symbol="refresh")
            button("Stop", reloading(visit, lambda me: clusters.terminate(me, cluster.id)), symbol="stop")
    if allows(who, Act.MANAGE, cluster.securable):
        delete = reloading(visit, lambda me: clusters.remove(me, cluster.id), then=urls.COMPUTE)
        ask_first("Delete", "End it, and delete it for good?", delete)


def _follow(visit: Visit, cluster: Cluster) -> None:
    """Load the page again when the cluster has moved on."""
    clusters = visit.services.compute.services.clusters

    async def look() -> None:
        found = (await visit.act(lambda me: clusters.get(me, cluster.id))).value
        if found is None or (found.state, found.message) != (cluster.state, cluster.message):
            timer.deactivate()
            move_on()

    timer = ui.timer(_POLL_S, look)


def _draw_details(visit: Visit, data: _Data) -> None:
    cluster, spec = data.cluster, data.cluster.spec
    if cluster.message:
        notice(cluster.message, "info" if not cluster.state.ended else "warn")
    least, most = cluster.bounds
    workers = str(cluster.workers) if least == most else f"{cluster.workers} ({least} to {most})"
    minutes = int(spec.get("autotermination_minutes") or 0)
    used = data.looks[-1] if data.looks else None
    facts(
        [
            ("Id", Cell(text=cluster.id, code=True)),
            ("Owner", cluster.creator),
            ("Size", size_of(visit, cluster)),
            ("Workers", workers),
            ("Runtime", Cell(text=str(spec.get("spark_version", "")), code=True)),
            ("Ends after", f"{minutes} idle minutes" if minutes else "never by itself"),
            ("Last used", Cell(time_ms=epoch_ms(cluster.used_at))),
            *([("Uses now", _usage_text(used))] if used else []),
        ]
    )
    if data.looks:
        _draw_usage(visit, data)


def _usage_text(used: Usage) -> str:
    return f"{used.used_cores:.2f} cores, {size_text(used.memory_mb << 20)}, {used.processes} processes"


def _draw_usage(visit: Visit, data: _Data) -> None:
    """Cores and memory over the last minutes, as two lines."""
    times = [each.at.strftime("%H:%M:%S") for each in data.looks]
    for label, values in (
        ("Cores used", [round(each.used_cores, 2) for each in data.looks]),
        ("Memory used, MiB", [each.memory_mb for each in data.looks]),
    ):
        options: dict[str, Any] = {
            "title": {"text": label, "textStyle": {"fontSize": 12}},
            "grid": {"left": 50, "right": 16, "top": 36, "bottom": 24},
            "xAxis": {"type": "category", "data": times},
            "yAxis": {"type": "value", "min": 0},
            "series": [{"type": "line", "showSymbol": False, "data": values, "areaStyle": {"opacity": 0.1}}],
            "animation": False,
        }
        ui.echart(options).classes("mp-chart").props(f'role=img aria-label="{label}"').style("height: 160px")


def _draw_events(events: Sequence[Event]) -> None:
    if not events:
        empty_state("Nothing yet", "Nothing has happened to it.", symbol="history")
        return
    rows: Rows = [
        [Cell(time_ms=epoch_ms(each.at)), each.type.replace("_", " ").lower(), _event_text(each)] for each in events
    ]
    columns = (TableColumn(label="When"), TableColumn(label="What"), TableColumn(label="Details", grow=True))
    DataTable(label="Events", columns=columns, rows=rows)


def _event_text(event: Event) -> str:
    details = dict(event.details)
    if "reason" in details:
        parameters = details["reason"].get("parameters") or {}
        return ": ".join([str(details["reason"].get("code", "")), *map(str, parameters.values())])
    shown = {name: value for name, value in details.items() if "attributes" not in name and value != ""}
    return ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in shown.items())[:300]


def _draw_libraries(visit: Visit, data: _Data) -> None:
    libraries, cluster = visit.services.compute.services.libraries, data.cluster
    rows: Rows = [
        [
            Cell(text=next(iter(_texts(each))), code=True, note=" ".join(each.messages)[:300]),
            Cell(badges=((each.status.lower().replace("_", " "), _LIBRARY_TONES.get(each.status, "info")),)),
        ]
        for each in data.libraries
    ]
    if rows:
        DataTable(
            label="Libraries", columns=(TableColumn(label="Library", grow=True), TableColumn(label="State")), rows=rows
        )
    else:
        empty_state("No libraries", "It has what its runtime has.", symbol="extension")
    if not allows(visit.principal, Act.MANAGE, cluster.securable):
        return

    def install(me: Principal) -> None:
        libraries.install(me, cluster.id, [{"pypi": {"package": package.value}}])

    with form(reloading(visit, install), label="Install"):
        with labelled("Package"):
            package = TextField(label="Package", placeholder="polars==1.30")
        submit("Install")


def _texts(library: Library) -> Sequence[str]:
    return [value["package"] if isinstance(value, dict) else str(value) for value in library.library.values()]


# A policy


@dataclass(frozen=True, kw_only=True)
class _Policy:
    policy: Policy
    permissions: Permissions | None


def _load_policy(visit: Visit) -> _Policy:
    policy = visit.services.compute.services.policies.get(visit.principal, visit.path["policy"])
    return _Policy(policy=policy, permissions=load_permissions(visit, "cluster-policies", policy.id))


def _draw_policy(visit: Visit, data: _Policy) -> None:
    policy, policies = data.policy, visit.services.compute.services.policies
    crumbs = [*_CRUMBS, Crumb(label="Policies", href=f"{urls.COMPUTE}?tab=policies")]
    with page_header(policy.name, symbol="policy", crumbs=crumbs, subtitle=policy.description):
        if visit.principal.is_admin:
            act = reloading(visit, lambda me: policies.delete(me, policy.id), then=f"{urls.COMPUTE}?tab=policies")
            ask_first("Delete", "Delete this policy?", act)
    rules = Tab(key="", label="Rules", href=visit.link(tab=None))
    tabs([rules, permissions_tab(visit)], visit.query.get("tab", ""), label="Policy")
    if data.permissions is not None:
        draw_permissions(visit, data.permissions)
        return
    with el("div", cls="mp-stack"):
        if not visit.principal.is_admin:
            code_block(_pretty(policy.definition), title="Rules")
            return
        what = "Overrides of the family's rules" if policy.family_id else "Rules"
        text = policy.overrides if policy.family_id else policy.definition

        def save(me: Principal) -> None:
            draft = PolicyDraft(
                name=policy.name, description=policy.description, max_clusters=policy.max_clusters,
                libraries=policy.libraries, family_id=policy.family_id,
                **({"overrides": field.value} if policy.family_id else {"definition": field.value}),
            )  # fmt: skip
            policies.edit(me, policy.id, draft)

        with form(reloading(visit, save), label="Rules", cls="mp-stack"):
            field = TextField(label=what, value=_pretty(text or "{}"), lines=18)
            with el("div", cls="mp-row"):
                submit("Save")
        if policy.family_id:
            code_block(_pretty(policy.definition), title="With the family's rules")


def _pretty(definition: str) -> str:
    return json.dumps(json.loads(definition), indent=2)


PAGES = (
    Page(
        path="/compute/policies/{policy}", section="compute", load=_load_policy, draw=_draw_policy,
        title=lambda _visit, data: data.policy.name,
    ),
    Page(
        path="/compute/{cluster}", section="compute", load=_load, draw=_draw,
        title=lambda _visit, data: data.cluster.name or data.cluster.id,
    ),
)  # fmt: skip
