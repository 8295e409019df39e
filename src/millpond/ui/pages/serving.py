"""Serving endpoints: state, what they serve, and a form to try them."""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from nicegui import ui

from millpond.catalog.names import ObjectName
from millpond.kernel.clock import epoch_ms
from millpond.kernel.errors import MillpondError
from millpond.serving.capture import CaptureState
from millpond.serving.domain import Config, Deployment, Endpoint, ServedEntity, Update
from millpond.serving.openapi import ModelInput
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
    badge,
    button,
    card,
    code_block,
    copy_button,
    el,
    empty_state,
    facts,
    filter_form,
    notice,
    page_header,
    tabs,
)
from millpond.ui.formats import duration_text
from millpond.ui.model_files import example_request
from millpond.ui.permissions import Permissions, draw_permissions, load_permissions, permissions_tab
from millpond.ui.visit import Page, Visit

_POLL_S = 2.0
_LONGEST_REQUEST = 1 << 20
_LONGEST_SHOWN = 100_000
_DEPLOYMENTS: dict[Deployment, tuple[str, Tone]] = {
    Deployment.CREATING: ("starting", "info"),
    Deployment.READY: ("ready", "good"),
    Deployment.RECOVERING: ("recovering", "warn"),
    Deployment.FAILED: ("failed", "bad"),
    Deployment.ABORTED: ("stopped", "plain"),
}
_CREATE = """from databricks.sdk import WorkspaceClient
from databricks.sdk.service.serving import EndpointCoreConfigInput, ServedEntityInput

w = WorkspaceClient()
w.serving_endpoints.create_and_wait(
    "churn-predictor",
    EndpointCoreConfigInput(served_entities=[
        ServedEntityInput(entity_name="main.default.churn_predictor", entity_version="1",
                          workload_size="Small", scale_to_zero_enabled=False),
    ]),
)"""


def state_of(endpoint: Endpoint) -> tuple[str, Tone]:
    """An endpoint's state in a word."""
    if endpoint.update is Update.IN_PROGRESS:
        return ("updating", "info") if endpoint.ready else ("starting", "info")
    if endpoint.update is Update.FAILED:
        return ("ready, update failed", "warn") if endpoint.ready else ("failed", "bad")
    return ("ready", "good") if endpoint.ready else ("not ready", "warn")


# The list


def _load_list(visit: Visit) -> Sequence[Endpoint]:
    wanted = visit.query.get("q", "").casefold()
    endpoints = visit.services.serving.list_endpoints(visit.principal)
    return [endpoint for endpoint in endpoints if wanted in endpoint.name.casefold()]


def _draw_list(visit: Visit, endpoints: Sequence[Endpoint]) -> None:
    page_header("Serving", symbol="cloud_queue", subtitle="Models behind a REST address.")
    asked = visit.query.get("q", "")
    with el("div", cls="mp-toolbar"):
        filter_form(label="Filter by name", value=asked)
    if not endpoints:
        if asked:
            empty_state(
                "No such endpoint", f"No endpoint that you may see has “{asked}” in its name.", symbol="search_off"
            )
        else:
            empty_state("No endpoints yet", "Serve a registered model:", symbol="cloud_queue", code=_CREATE)
        return
    rows: Rows = [
        [
            Cell(text=item.name, href=urls.endpoint_url(item.name), symbol="cloud_queue", note=item.description[:160]),
            Cell(badges=(state_of(item),)),
            Cell(text="\n".join(_served(item))),
            item.creator,
            Cell(time_ms=epoch_ms(item.updated_at)),
        ]
        for item in endpoints
    ]
    columns = (
        TableColumn(label="Endpoint"),
        TableColumn(label="State"),
        TableColumn(label="Serves", grow=True),
        TableColumn(label="Owner", short=True, optional=True),
        TableColumn(label="Changed", optional=True),
    )
    DataTable(label="Endpoints", columns=columns, rows=rows)


def _served(endpoint: Endpoint) -> list[str]:
    config = endpoint.active or endpoint.pending
    return [_model(entity) for entity in config.entities] if config else []


def _model(entity: ServedEntity) -> str:
    model = entity.model
    if model.is_spec:
        return f"{model.name} (features)"
    named = f" ({entity.reference.words})" if entity.reference else ""
    return f"{model.name} version {model.version}{named}"


# One endpoint


@dataclass(frozen=True, kw_only=True)
class _Data:
    endpoint: Endpoint
    inputs: ModelInput | None
    """None until the model's files are here."""
    permissions: Permissions | None
    capture: CaptureState | None
    """How the inference table is doing, where requests are kept."""

    @property
    def example(self) -> str | None:
        """A request body, as JSON text."""
        return example_request(self.inputs) if self.inputs else None


def _load(visit: Visit) -> _Data:
    endpoint = visit.services.serving.get_endpoint(visit.principal, visit.path["name"])
    inputs = visit.services.serving.describe_inputs(visit.principal, endpoint.name)
    permissions = load_permissions(visit, "serving-endpoints", endpoint.id)
    return _Data(
        endpoint=endpoint,
        inputs=next(iter(inputs.values()), None),
        permissions=permissions,
        capture=_capture(visit, endpoint),
    )


def _capture(visit: Visit, endpoint: Endpoint) -> CaptureState | None:
    kept = endpoint.active.capture if endpoint.active else None
    states = visit.services.serving.capture_states(endpoint)
    return states.get(kept.table_id) if kept is not None and kept.enabled else None


def _draw(visit: Visit, data: _Data) -> None:
    endpoint = data.endpoint
    page_header(
        endpoint.name,
        symbol="cloud_queue",
        crumbs=[Crumb(label="Serving", href=urls.SERVING)],
        subtitle=endpoint.description or None,
    )
    text, tone = state_of(endpoint)
    active = visit.query.get("tab", "overview")
    with el("div", cls="mp-row").style("margin-bottom: 14px"):
        badge(text, tone)
        el("code", _url(visit, endpoint))
        copy_button(_url(visit, endpoint), "Copy URL")
    tabs(
        [
            Tab(key="overview", label="Overview", href=visit.link(tab=None)),
            Tab(key="try", label="Try it", href=visit.link(tab="try")),
            Tab(key="code", label="Code", href=visit.link(tab="code")),
            permissions_tab(visit),
        ],
        active,
    )
    if data.permissions is not None:
        draw_permissions(visit, data.permissions)
        return
    {"try": _draw_try, "code": _draw_code}.get(active, _draw_overview)(visit, data)
    _follow(visit, endpoint)


def _url(visit: Visit, endpoint: Endpoint) -> str:
    return f"{visit.addresses.base_url}/serving-endpoints/{endpoint.name}/invocations"


def _follow(visit: Visit, endpoint: Endpoint) -> None:
    """Reload the page when a state changes that is going to change."""
    if endpoint.update is not Update.IN_PROGRESS and endpoint.ready:
        return
    before = _states(endpoint)

    async def look() -> None:
        outcome = await visit.act(lambda principal: visit.services.serving.get_endpoint(principal, endpoint.name))
        if outcome.value is not None and _states(outcome.value) != before:
            timer.deactivate()
            ui.navigate.reload()

    timer = ui.timer(_POLL_S, look)


def _states(endpoint: Endpoint) -> list[Any]:
    configs = [config for config in (endpoint.active, endpoint.pending) if config]
    return [endpoint.update, [(c.version, e.name, e.state.deployment) for c in configs for e in c.entities]]


def _draw_overview(visit: Visit, data: _Data) -> None:
    endpoint = data.endpoint
    with el("div", cls="mp-stack"):
        if endpoint.pending is not None:
            failed = endpoint.update is Update.FAILED
            _draw_config("The last update failed" if failed else "Coming up", endpoint.pending)
        if endpoint.active is not None:
            _draw_config("Serving now", endpoint.active)
        with card("About"):
            facts(
                [
                    ("Owner", endpoint.creator),
                    ("Created", Cell(time_ms=epoch_ms(endpoint.created_at))),
                    ("Changed", Cell(time_ms=epoch_ms(endpoint.updated_at))),
                    ("Inference table", _capture_cell(data.capture)),
                    *[(key, value) for key, value in sorted(endpoint.tags.items())],
                ]
            )


def _capture_cell(capture: CaptureState | None) -> Cell | None:
    """The table, and why it is not written to if it is not."""
    if capture is None:
        return None
    return Cell(
        text=capture.name,
        href=urls.object_url("table", ObjectName.of_full_name(capture.name)),
        note=capture.message or None,
        badges=(("failed", "bad"),) if capture.message else (),
    )


def _draw_config(title: str, config: Config) -> None:
    shares = {route.entity: route.percent for route in config.routes}
    with card(title), el("div", cls="mp-stack"):
        rows: Rows = [
            [
                Cell(text=entity.name),
                Cell(
                    text=_model(entity),
                    href=None if entity.model.is_spec else urls.model_url(entity.model.name, entity.model.version),
                ),
                f"{shares.get(entity.name, 0)} %",
                _size(entity),
                Cell(badges=(_DEPLOYMENTS[entity.state.deployment],)),
            ]
            for entity in config.entities
        ]
        columns = (
            TableColumn(label="Served entity"),
            TableColumn(label="Model", grow=True),
            TableColumn(label="Traffic", numeric=True),
            TableColumn(label="Concurrency", optional=True),
            TableColumn(label="State"),
        )
        DataTable(label=title, columns=columns, rows=rows)
        for entity in config.entities:
            _draw_entity_trouble(entity)


def _size(entity: ServedEntity) -> str:
    """How many requests at a time it is meant for."""
    asked = entity.concurrency
    least = 0 if entity.scale_to_zero else asked.minimum
    size = "" if entity.provisioned else f"{entity.workload_size.value}: "
    return f"{size}{least} to {asked.maximum}" if least < asked.maximum else f"{size}{asked.maximum}"


def _draw_entity_trouble(entity: ServedEntity) -> None:
    state = entity.state
    if entity.reference_note:
        notice(f"{entity.name}: {entity.reference_note}", "warn")
    failed = state.deployment is Deployment.FAILED
    if failed or state.deployment in {Deployment.RECOVERING, Deployment.ABORTED}:
        reason, traceback = split_traceback(state.message)
        notice(f"{entity.name}: {reason}", "bad" if failed else "warn", role="alert")
        if traceback:
            code_block(traceback[-_LONGEST_SHOWN:], title="Traceback").classes("mp-trace")
    if failed and state.build_log:
        code_block(state.build_log[-_LONGEST_SHOWN:], title=f"What {entity.name} said").classes("mp-trace")


def split_traceback(message: str) -> tuple[str, str]:
    """What went wrong in words, and Python's traceback where the message holds one.

    Without words before it, the traceback's last line says what went wrong.
    """
    reason, mark, rest = message.partition("Traceback (most recent call last)")
    traceback = (mark + rest).strip()
    reason = reason.strip() or (traceback.splitlines()[-1] if traceback else "It did not say why.")
    return reason, traceback


# Try it


def _draw_try(visit: Visit, data: _Data) -> None:
    endpoint = data.endpoint
    example = data.example or json.dumps({"dataframe_records": [{}]}, indent=2)
    if endpoint.active is None:
        notice("This endpoint does not answer yet.", "warn")
    with el("div", cls="mp-grid-cards"):
        with card("Request"), el("div", cls="mp-stack"):
            if data.inputs and data.inputs.fields:
                el("p", "Made from the model's input example and signature. Change it and send.", cls="mp-note")
            field = TextField(label="Request body, as JSON", value=example, lines=16)
            with el("div", cls="mp-row"):
                send = button("Send", kind="mp-primary", symbol="send")
                el("span", "POST as you, with your rights.", cls="mp-note")
        with card("Response"):
            answer = el("div", cls="mp-stack", role="status", aria_live="polite")
            with answer:
                el("p", "The answer appears here.", cls="mp-muted")

    async def act() -> None:
        send.props["disabled"] = True
        try:
            await _send(visit, endpoint, field.value, answer)
        finally:
            send.props["disabled"] = False

    send.on("click", act, args=[])


async def _send(visit: Visit, endpoint: Endpoint, text: str, answer: ui.element) -> None:
    problem = _problem(text)
    if problem:
        _show_answer(answer, 400, "", problem, None)
        return
    proven = await visit.act(lambda principal: principal)
    if proven.value is None:
        _show_answer(answer, 401, "", proven.error, None)
        return
    began = time.perf_counter()
    try:
        reply = await visit.services.serving.predictions.query(
            proven.value, endpoint.name, content_type="application/json", body=text.encode()
        )
    except MillpondError as error:
        _show_answer(answer, 400, "", error.message, (time.perf_counter() - began) * 1000)
        return
    _show_answer(
        answer, reply.status, reply.entity, reply.body.decode(errors="replace"), (time.perf_counter() - began) * 1000
    )


def _problem(text: str) -> str:
    if len(text) > _LONGEST_REQUEST:
        return f"The request is longer than {_LONGEST_REQUEST >> 20} MiB; send it with a client."
    try:
        json.loads(text)
    except ValueError as error:
        return f"The request is not JSON: {error}."
    return ""


def _show_answer(answer: ui.element, status: int, entity: str, body: str, took_ms: float | None) -> None:
    answer.clear()
    with answer:
        with el("div", cls="mp-row"):
            badge(str(status), "good" if status == 200 else "bad")
            if took_ms is not None:
                el("span", duration_text(took_ms), cls="mp-note")
            if entity:
                el("span", f"answered by {entity}", cls="mp-note")
        code_block(_pretty(body)[:_LONGEST_SHOWN], title="Body").classes("mp-trace")


def _pretty(body: str) -> str:
    try:
        return json.dumps(json.loads(body), indent=2, ensure_ascii=False)
    except ValueError:
        return body


# Code


_SHAPES = ("dataframe_records", "instances", "inputs")


def _draw_code(visit: Visit, data: _Data) -> None:
    endpoint = data.endpoint
    request = json.loads(data.example or '{"dataframe_records": [{}]}')
    shell = json.dumps(request, ensure_ascii=False).replace("'", "'\\''")
    with el("div", cls="mp-stack"):
        code_block(
            f'curl -s "{_url(visit, endpoint)}" \\\n  -H "Authorization: Bearer $DATABRICKS_TOKEN" \\\n'
            f"  -H 'Content-Type: application/json' \\\n  -d '{shell}'",
            title="curl",
        )
        arguments = "".join(f"    {shape}={request[shape]!r},\n" for shape in _SHAPES if shape in request)
        if arguments:
            code_block(
                "from databricks.sdk import WorkspaceClient\n\n"
                f"w = WorkspaceClient()\nanswer = w.serving_endpoints.query(\n    {endpoint.name!r},\n{arguments})\n"
                "print(answer.predictions)",
                title="Python, databricks-sdk",
            )


PAGES = (
    Page(path="/serving", section="serving", load=_load_list, draw=_draw_list, title=lambda _visit, _data: "Serving"),
    Page(
        path="/serving/{name}",
        section="serving",
        load=_load,
        draw=_draw,
        title=lambda _visit, data: data.endpoint.name,
    ),
)
