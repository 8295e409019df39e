"""Home: what is here, what changed last, and first steps while there is little."""

from collections.abc import Sequence
from dataclasses import dataclass

from millpond.catalog.domain import Table, TableType
from millpond.kernel.clock import epoch_ms
from millpond.kernel.errors import Unavailable
from millpond.serving.domain import Endpoint
from millpond.ui import urls
from millpond.ui.elements import Tone, badge, button_link, card, code_block, el, icon, link, page_header, when
from millpond.ui.pages.serving import state_of
from millpond.ui.tracking import RegisteredModel, Run
from millpond.ui.visit import Page, Visit

_RECENT = 6


@dataclass(frozen=True, kw_only=True)
class _Item:
    name: str
    href: str
    symbol: str
    changed_ms: int | None
    badge: tuple[str, Tone] | None = None


@dataclass(frozen=True, kw_only=True)
class _Data:
    tables: Sequence[_Item]
    runs: Sequence[_Item]
    models: Sequence[_Item]
    endpoints: Sequence[_Item]
    loading: bool
    """MLflow is not loaded yet, so runs and models are not known."""


def _load(visit: Visit) -> _Data:
    services, who = visit.services, visit.principal
    runs: Sequence[Run] = ()
    models: Sequence[RegisteredModel] = ()
    loading = False
    try:
        runs = services.tracking.recent_runs(who, limit=_RECENT)
        models = services.tracking.list_models(who, limit=_RECENT).items
    except Unavailable:
        loading = True
    endpoints = sorted(services.serving.list_endpoints(who), key=lambda item: item.updated_at, reverse=True)[:_RECENT]
    return _Data(
        tables=[_table(item) for item in services.catalog.recent_tables(who, limit=_RECENT)],
        runs=[_run(item) for item in runs],
        models=[_model(item) for item in models],
        endpoints=[_endpoint(item) for item in endpoints],
        loading=loading,
    )


def _table(item: Table) -> _Item:
    symbol = "table_view" if item.table_type is TableType.VIEW else "table"
    return _Item(
        name=str(item.name),
        href=urls.object_url("table", item.name),
        symbol=symbol,
        changed_ms=epoch_ms(item.updated_at),
    )


def _run(run: Run) -> _Item:
    href = urls.mlflow_run_url(run.experiment_id, run.id)
    failed: tuple[str, Tone] | None = ("failed", "bad") if run.status == "FAILED" else None
    return _Item(name=run.name, href=href, symbol="play_circle", changed_ms=run.started_ms, badge=failed)


def _model(model: RegisteredModel) -> _Item:
    newest: tuple[str, Tone] | None = (f"version {model.latest}", "plain") if model.latest else None
    return _Item(
        name=model.name,
        href=urls.model_url(model.name),
        symbol="deployed_code",
        changed_ms=model.updated_ms,
        badge=newest,
    )


def _endpoint(endpoint: Endpoint) -> _Item:
    return _Item(
        name=endpoint.name,
        href=urls.endpoint_url(endpoint.name),
        symbol="cloud_queue",
        changed_ms=epoch_ms(endpoint.updated_at),
        badge=state_of(endpoint),
    )


def _draw(visit: Visit, data: _Data) -> None:
    name = visit.principal.name.split("@")[0]
    actions = page_header(f"Welcome, {name}")
    with actions:
        button_link("Connect a client", "/connect", kind="mp-primary", symbol="cable")
    with el("div", cls="mp-stack"):
        if not (data.runs or data.models or data.tables or data.endpoints or data.loading):
            _draw_first_steps(visit)
        with el("div", cls="mp-grid-cards"):
            _draw_recent("Tables", "table", urls.CATALOG, data.tables, "Nothing written yet.")
            waiting = "MLflow is starting; reload in a moment." if data.loading else ""
            _draw_recent("Runs", "science", urls.EXPERIMENTS, data.runs, waiting or "No run logged yet.")
            _draw_recent("Models", "deployed_code", urls.MODELS, data.models, waiting or "No model registered yet.")
            _draw_recent(
                "Endpoints",
                "cloud_queue",
                urls.SERVING,
                data.endpoints,
                "Nothing served yet.",
            )


def _draw_recent(title: str, symbol: str, href: str, items: Sequence[_Item], empty: str) -> None:
    with card(cls="mp-recent"):
        with el("div", cls="mp-card-head"):
            el("h2", title)
            link("Show all", href, aria_label=f"Show all {title.lower()}")
        if not items:
            with el("div", cls="mp-row mp-muted"):
                icon(symbol)
                el("span", empty)
        with el("div", cls="mp-list"):
            for item in items:
                with el("a", href=item.href, title=item.name):
                    icon(item.symbol)
                    el("span", item.name, cls="mp-list-name")
                    if item.badge:
                        badge(*item.badge)
                    if item.changed_ms:
                        when(item.changed_ms)


def _draw_first_steps(visit: Visit) -> None:
    addresses = visit.addresses
    with card("First steps"), el("div", cls="mp-stack"):
        el("p", "From a raw file to a served prediction, with the clients that you know:", cls="mp-muted")
        code_block("millpond demo", title="The whole churn story, run for you")
        code_block(
            "from pyspark.sql import SparkSession\n\n"
            f'spark = SparkSession.builder.remote("{addresses.spark_remote}").getOrCreate()\n'
            'spark.createDataFrame([(1, "a"), (2, "b")], "id long, name string") \\\n'
            '     .write.saveAsTable("main.default.first")',
            title="A first table, with PySpark",
        )
        code_block(
            f'import mlflow\n\nmlflow.set_tracking_uri("{addresses.base_url}")\nwith mlflow.start_run():\n'
            '    mlflow.log_metric("auc", 0.84)',
            title="A first run, with MLflow",
        )


PAGES = (Page(path="/", section="home", load=_load, draw=_draw, title=lambda _visit, _data: "Home"),)
