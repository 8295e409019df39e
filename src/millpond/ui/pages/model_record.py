"""The record of a model, as a tab of its page: what is live, requests, gates, comments and all that was done."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from millpond.kernel.clock import epoch_ms
from millpond.parity.store import Check
from millpond.registry.domain import Activity, Live, Record, Request, target_of
from millpond.registry.gate_runs import GateRun
from millpond.registry.policies import Policy
from millpond.tracking.watch import Target
from millpond.ui.elements import (
    Cell,
    DataTable,
    Rows,
    SelectField,
    Tab,
    TableColumn,
    TextField,
    Tone,
    button,
    card,
    code_block,
    el,
    pager,
    when,
)
from millpond.ui.forms import ask_first, form, reloading, submit
from millpond.ui.parity import draw_parity
from millpond.ui.visit import Visit

TAB = "record"
_STATES: dict[str, Tone] = {"passed": "good", "failed": "bad", "refused": "bad", "error": "warn"}
_WORDS = {
    "APPLIED_TRANSITION": "moved",
    "SYSTEM_TRANSITION": "moved as a consequence",
    "REQUESTED_TRANSITION": "asked for a move",
    "APPROVED_REQUEST": "approved a move",
    "REJECTED_REQUEST": "rejected a move",
    "CANCELLED_REQUEST": "took a request back",
    "NEW_COMMENT": "commented",
    "ALIAS_SET": "set an alias",
    "ALIAS_REMOVED": "removed an alias",
}


@dataclass(frozen=True, kw_only=True)
class RecordData:
    """What the tab shows."""

    record: Record
    requests: Sequence[Request]
    policies: Sequence[Policy]
    runs: Sequence[GateRun]
    parity: Sequence[Check]
    activities: Sequence[Activity]
    next_page_token: str | None


def record_tab(visit: Visit) -> Tab:
    """The tab itself."""
    return Tab(key=TAB, label="Record", href=visit.link(tab=TAB, q=None, page=None))


def load_record(visit: Visit, name: str) -> RecordData | None:
    """What the tab needs, when it is the open one. Raises NotFound."""
    if visit.query.get("tab") != TAB:
        return None
    room, who = visit.services.registry, visit.principal
    page = room.service.activities(who, name, max_results=50, page_token=visit.query.get("page"))
    return RecordData(
        record=room.service.history(who, name, max_results=1),
        requests=room.service.list_requests(who, name),
        policies=room.gates.in_force(who, name),
        runs=room.gates.list_runs(who, name)[:20],
        parity=visit.services.parity.list_of_model(who, name),
        activities=page.items,
        next_page_token=page.next_page_token,
    )


def draw_record(visit: Visit, name: str, versions: Sequence[str], data: RecordData) -> None:
    """The tab's content."""
    with el("div", cls="mp-stack"):
        with card("Live now"):
            _draw_live(visit, name, data.record.live)
        with card("Requests"):
            _draw_requests(visit, name, versions, data.requests)
        with card("Gates"):
            _draw_gates(data)
        with card("Feature parity"):
            draw_parity(visit, name, versions, data.parity)
        with card("Activity"):
            _draw_comment_form(visit, name, versions)
            _draw_activities(visit, data)


def _draw_live(visit: Visit, name: str, live: Sequence[Live]) -> None:
    if not live:
        el("p", "No alias points to a version, and none is in Staging or Production.", cls="mp-muted")
    for each in live:
        move = each.move
        with el("div", cls="mp-row"):
            el("strong", _shown(move.target_kind, move.target))
            el("span", f"version {move.version}, moved by {move.actor}")
            when(epoch_ms(move.at))
            el("span", _grounds(each), cls="mp-muted")
            target = target_of(move.target_kind, move.target)
            ask_first(
                "Roll back",
                f"Bring back the version that was {target} before?",
                reloading(visit, _rolling_back(visit, name, target)),
                symbol="undo",
                what=str(target),
            )


def _rolling_back(visit: Visit, name: str, target: Target) -> Any:
    return lambda principal: visit.services.registry.service.rollback(principal, name, target)


def _grounds(live: Live) -> str:
    evidence, said = live.move.evidence, []
    if evidence.get("approved_by"):
        said.append(f"approved by {', '.join(evidence['approved_by'])}")
    if evidence.get("overridden"):
        said.append(f"past its gates: {live.move.comment}")
    elif evidence.get("gates"):
        said.append(f"{sum(len(gate['findings']) for gate in evidence['gates'])} checks passed")
    if live.served_by:
        said.append(f"served by {', '.join(served.endpoint for served in live.served_by)}")
    return "; ".join(said)


def _shown(kind: str, name: str) -> str:
    return f"@{name}" if kind == "alias" else name


def _draw_requests(visit: Visit, name: str, versions: Sequence[str], requests: Sequence[Request]) -> None:
    service = visit.services.registry.service
    for request in requests:
        version, target = str(request.version), request.target
        what = f"version {version} to {target}"
        with el("div", cls="mp-row"):
            el("span", f"{request.creator} asks to move {what}")
            when(epoch_ms(request.created_at))
            el("span", request.comment, cls="mp-muted")
            approve = _deciding(service.approve_request, name, version, target)
            reject = _deciding(service.reject_request, name, version, target)
            button("Approve", reloading(visit, approve), symbol="check", aria_label=f"Approve {what}")
            button("Reject", reloading(visit, reject), kind="mp-quiet", symbol="close", aria_label=f"Reject {what}")
    if not requests:
        el("p", "Nobody asks for a move.", cls="mp-muted")
    if versions:
        _draw_request_form(visit, name, versions)


def _deciding(decide: Any, name: str, version: str, target: Target) -> Any:
    return lambda principal: decide(principal, name, version, target)


def _draw_request_form(visit: Visit, name: str, versions: Sequence[str]) -> None:
    def ask(principal: Any) -> Any:
        goal = where.value.strip()
        is_stage = goal.lower() in {"staging", "production", "archived", "none"}
        target = target_of("stage" if is_stage else "alias", goal.removeprefix("@"))
        service = visit.services.registry.service
        return service.create_request(principal, name, version.value, target, comment=why.value)

    with form(reloading(visit, ask), label="Ask for a move"):
        version = _version_field("Version to move", versions)
        where = TextField(label="Alias or stage", placeholder="Production or @champion")
        why = TextField(label="Why it should move", placeholder="Why")
        submit("Ask for a move")


def _version_field(label: str, versions: Sequence[str]) -> SelectField:
    choices = [(version, f"Version {version}") for version in versions]
    return SelectField(label=label, choices=choices, value=versions[0])


def _draw_gates(data: RecordData) -> None:
    if not data.policies:
        el("p", "No policy guards this model. Set one with: millpond registry policy NAME --set FILE", cls="mp-muted")
    for policy in data.policies:
        code_block(policy.body, title=f"Policy of {policy.scope}, version {policy.version} by {policy.author}")
    if not data.runs:
        return
    rows: Rows = [
        [
            Cell(text=f"Version {run.version}"),
            str(run.target),
            Cell(badges=((run.state, _STATES.get(run.state, "info")),)),
            Cell(text="; ".join(f"{each.check}: {each.message}" for each in run.findings)[:600]),
            Cell(time_ms=epoch_ms(run.created_at)),
        ]
        for run in data.runs
    ]
    columns = (
        TableColumn(label="Version"),
        TableColumn(label="To"),
        TableColumn(label="Outcome"),
        TableColumn(label="Found", grow=True),
        TableColumn(label="When"),
    )
    DataTable(label="Gate runs", columns=columns, rows=rows)


def _draw_comment_form(visit: Visit, name: str, versions: Sequence[str]) -> None:
    if not versions:
        return

    def say(principal: Any) -> Any:
        return visit.services.registry.service.create_comment(principal, name, version.value, text.value)

    with form(reloading(visit, say), label="Comment"):
        version = _version_field("Version to comment on", versions)
        text = TextField(label="Comment on the version", placeholder="What you found")
        submit("Comment")


def _draw_activities(visit: Visit, data: RecordData) -> None:
    rows: Rows = [
        [
            Cell(time_ms=epoch_ms(each.at)),
            each.actor,
            Cell(text=_WORDS.get(each.type.value, each.type.value)),
            Cell(text="" if each.version is None else f"Version {each.version}"),
            _shown(each.target_kind, each.target) if each.target else "",
            Cell(text=(each.comment or each.system_comment)[:600]),
        ]
        for each in data.activities
    ]
    columns = (
        TableColumn(label="When"),
        TableColumn(label="Who", short=True),
        TableColumn(label="Did"),
        TableColumn(label="Version"),
        TableColumn(label="To"),
        TableColumn(label="Said", grow=True),
    )
    if rows:
        DataTable(label="Activity", columns=columns, rows=rows)
    else:
        el("p", "Nothing has been done to this model since its record began.", cls="mp-muted")
    token = data.next_page_token
    pager(next_href=token and visit.link(page=token), first_href=visit.query.get("page") and visit.link(page=None))
