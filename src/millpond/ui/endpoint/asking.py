"""Asking the endpoint: a form made from the model's signature, code that does the same, and what others asked."""

import json
import time
from collections.abc import Mapping, Sequence
from typing import Any

from nicegui import ui

from millpond.catalog.names import ObjectName
from millpond.kernel.errors import MillpondError
from millpond.serving.openapi import ModelInput
from millpond.ui import urls
from millpond.ui.elements import (
    Cell,
    DataTable,
    TableColumn,
    TextField,
    badge,
    button,
    card,
    code_block,
    el,
    empty_state,
    link,
    notice,
    skeleton,
)
from millpond.ui.endpoint.overview import LONGEST_SHOWN
from millpond.ui.endpoint.view import EndpointTab, View
from millpond.ui.formats import duration_text
from millpond.ui.forms import labelled
from millpond.ui.model_files import example_request
from millpond.ui.visit import Outcome, filling, later

_LONGEST_REQUEST = 1 << 20
_MOST_FIELDS = 40
_SHOWN = 50
_REQUESTS = (
    TableColumn(label="When"),
    TableColumn(label="Status", numeric=True),
    TableColumn(label="Answered by"),
    TableColumn(label="Inputs", grow=True),
    TableColumn(label="Predictions"),
    TableColumn(label="Took", numeric=True, optional=True),
    TableColumn(label="Asked by", short=True, optional=True),
)
Inputs = ModelInput | None
"""None until the model's files are here."""


def _load(view: View) -> Inputs:
    found = view.visit.services.serving.describe_inputs(view.visit.principal, view.endpoint.name)
    return next(iter(found.values()), None)


def _example(inputs: Inputs) -> str:
    """A request body, as JSON text."""
    return (example_request(inputs) if inputs else None) or json.dumps({"dataframe_records": [{}]}, indent=2)


# Try it


class _Form:
    """A field for each column of a row, which write the request's body."""

    def __init__(self, inputs: Inputs, body: TextField) -> None:
        self._body = body
        row = first_record(_example(inputs))
        known = [field for field in (inputs.fields if inputs else ()) if field.name in row]
        self._fields = {str(field.name): (field.type, row[str(field.name)]) for field in known[:_MOST_FIELDS]}
        self._texts: dict[str, TextField] = {}

    @property
    def is_possible(self) -> bool:
        """Whether the example is a row of named, plain values."""
        return bool(self._fields)

    def draw(self) -> None:
        """The fields; what is typed goes into the body."""
        with el("div", cls="mp-row mp-form mp-filters"):
            for name, (kind, value) in self._fields.items():
                with labelled(f"{name} ({kind})"):
                    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
                    field = TextField(label=f"Value of {name}", value=text)
                    field.element.on("change", self._write, args=[])
                    self._texts[name] = field

    def _write(self) -> None:
        row = {name: typed(field.value, self._fields[name][0]) for name, field in self._texts.items()}
        self._body.value = json.dumps({"dataframe_records": [row]}, indent=2, ensure_ascii=False)
        self._body.element.props["value"] = self._body.value
        self._body.element.update()


def first_record(example: str) -> Mapping[str, Any]:
    """The first row of a request whose rows have names; an empty one of another."""
    records = json.loads(example).get("dataframe_records")
    row = records[0] if isinstance(records, list) and records else {}
    plain = isinstance(row, dict) and all(not isinstance(value, dict | list) for value in row.values())
    return row if plain else {}


def typed(text: str, kind: str) -> Any:
    """What somebody typed, as a value of the signature's type; as it is where it is none, so that the model says so."""
    if kind in {"string", "datetime", "binary"}:
        return text
    try:
        return json.loads(text)
    except ValueError:
        return text


def _draw_try(view: View, inputs: Inputs) -> None:
    if view.endpoint.active is None:
        notice("This endpoint does not answer yet.", "warn")
    with el("div", cls="mp-grid-cards"):
        with card("Request"), el("div", cls="mp-stack"):
            place = el("div")
            body = TextField(label="Request body, as JSON", value=_example(inputs), lines=14)
            fields = _Form(inputs, body)
            if fields.is_possible:
                with place:
                    fields.draw()
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
            await _send(view, body.value, answer)
        finally:
            send.props["disabled"] = False

    send.on("click", act, args=[])


async def _send(view: View, text: str, answer: ui.element) -> None:
    problem = _problem(text)
    if problem:
        _show_answer(answer, 400, "", problem, None)
        return
    proven = await view.visit.act(lambda principal: principal)
    if proven.value is None:
        _show_answer(answer, 401, "", proven.error, None)
        return
    began = time.perf_counter()
    try:
        reply = await view.visit.services.serving.predictions.query(
            proven.value, view.endpoint.name, content_type="application/json", body=text.encode()
        )
    except MillpondError as error:
        _show_answer(answer, 400, "", error.message, (time.perf_counter() - began) * 1000)
        return
    took_ms = (time.perf_counter() - began) * 1000
    _show_answer(answer, reply.status, reply.entity, reply.body.decode(errors="replace"), took_ms)


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
        code_block(_pretty(body)[:LONGEST_SHOWN], title="Body").classes("mp-trace")


def _pretty(body: str) -> str:
    """Over lines, where that is quick."""
    if len(body) > LONGEST_SHOWN:
        return body
    try:
        return json.dumps(json.loads(body), indent=2, ensure_ascii=False)
    except (ValueError, RecursionError):
        return body


# Code


_SHAPES = ("dataframe_records", "instances", "inputs")


def _draw_code(view: View, inputs: Inputs) -> None:
    request = json.loads(_example(inputs))
    shell = json.dumps(request, ensure_ascii=False).replace("'", "'\\''")
    with el("div", cls="mp-stack"):
        code_block(
            f'curl -s "{view.url}" \\\n  -H "Authorization: Bearer $DATABRICKS_TOKEN" \\\n'
            f"  -H 'Content-Type: application/json' \\\n  -d '{shell}'",
            title="curl",
        )
        arguments = "".join(f"    {shape}={request[shape]!r},\n" for shape in _SHAPES if shape in request)
        if arguments:
            code_block(
                "from databricks.sdk import WorkspaceClient\n\n"
                "w = WorkspaceClient()\n"
                f"answer = w.serving_endpoints.query(\n    {view.endpoint.name!r},\n{arguments})\n"
                "print(answer.predictions)",
                title="Python, databricks-sdk",
            )
        code_block(_javascript(view.url, request), title="JavaScript, fetch")


def _javascript(url: str, request: Mapping[str, Any]) -> str:
    body = json.dumps(request, indent=2, ensure_ascii=False)
    return (
        f"const answer = await fetch({json.dumps(url)}, {{\n"
        '  method: "POST",\n'
        "  headers: {\n"
        "    Authorization: `Bearer ${process.env.DATABRICKS_TOKEN}`,\n"
        '    "Content-Type": "application/json",\n'
        "  },\n"
        f"  body: JSON.stringify({body}),\n"
        "});\n"
        "console.log((await answer.json()).predictions);"
    )


# What others asked


def _draw_requests(view: View, _nothing: None) -> None:
    visit, name = view.visit, view.endpoint.name
    kept = view.config.capture if view.config else None
    assert kept is not None, "the tab is shown"
    table = ObjectName(kept.catalog, kept.schema, f"{kept.prefix}_payload")
    with card("Newest requests"):
        with el("p", cls="mp-note"):
            el("span", "Of the inference table ")
            link(str(table), urls.object_url("table", table))
            el("span", ", where requests come within ten seconds.")
        place = el("div", cls="mp-stack")
        with place:
            skeleton()

    def draw(outcome: Outcome[Sequence[Mapping[str, Any]]]) -> None:
        if outcome.value is None:
            notice(outcome.error, "warn", role="alert")
        elif not outcome.value:
            empty_state("No requests yet", "Nobody has asked this endpoint since it keeps requests.", symbol="inbox")
        else:
            DataTable(label="Newest requests", columns=_REQUESTS, rows=[_request_row(each) for each in outcome.value])

    later(
        visit, lambda principal: visit.services.predictions.recent(principal, name, limit=_SHOWN), filling(place, draw)
    )


def _request_row(row: Mapping[str, Any]) -> list[Cell | str]:
    inputs, predictions = row["inputs"] or (), row["predictions"] or ()
    served = f"{row['served_entity_name']} (version {row['model_version']})"
    return [
        Cell(time_ms=row["timestamp_ms"]),
        str(row["status_code"]),
        served,
        Cell(text=_few(inputs), code=True, note=row["databricks_request_id"]),
        Cell(text=_few(predictions), code=True),
        duration_text(row["total_ms"]),
        row["requester"],
    ]


def _few(values: Sequence[str]) -> str:
    """The first of several rows, and how many there are."""
    if not values:
        return ""
    more = f" and {len(values) - 1} more" if len(values) > 1 else ""
    return f"{values[0][:200]}{more}"


TRY = EndpointTab(key="try", label="Try it", load=_load, draw=_draw_try, shown=lambda view: view.may_query)
CODE = EndpointTab(key="code", label="Code", load=_load, draw=_draw_code)
REQUESTS = EndpointTab(
    key="requests", label="Requests", load=lambda _view: None, draw=_draw_requests,
    shown=lambda view: view.keeps_requests,
)  # fmt: skip
