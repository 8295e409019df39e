"""Puts the pages onto the server's application."""

from fastapi import FastAPI
from nicegui import app as pages_app
from nicegui import ui
from starlette.routing import Match, Mount
from starlette.types import Scope

from millpond.kernel.errors import NotFound
from millpond.kernel.http import join
from millpond.ui import assets, preferences, sign_in, single_sign_on
from millpond.ui.pages import (
    alert_form,
    alerts,
    audit,
    catalog,
    cluster,
    compute,
    connect,
    cost,
    experiments,
    features,
    home,
    job,
    job_edit,
    job_runs,
    job_tasks,
    jobs,
    models,
    parity,
    pipeline,
    pipelines,
    runs,
    search,
    secrets,
    serving,
    sql,
    tables,
    users,
    volumes,
    warehouses,
)
from millpond.ui.services import Services
from millpond.ui.shell import draw_error, frame
from millpond.ui.theme import FAVICON, QUASAR_COLOURS
from millpond.ui.visit import Page, add_page

_MODULES = (
    home, catalog, sql, warehouses, alert_form, alerts, tables, volumes, features, experiments, runs, models, parity,
    serving, users, audit, secrets, search, connect, jobs, job_edit, job, job_runs, job_tasks, pipelines, pipeline,
    compute, cluster, cost,
)  # fmt: skip


def install(app: FastAPI, services: Services) -> None:
    """Serve the pages, the sign-in page and their files; once in a process, and before what answers every path.

    NiceGUI keeps one application in a process: it is mounted so that it takes only addresses of pages.
    """
    own = assets.load_assets()
    federation, public_url = services.federation, services.public_url
    join(
        app,
        assets.router(own),
        sign_in.router(services.identity, own, public_url=public_url, federation=federation),
        single_sign_on.router(federation, own, public_url=public_url),
        preferences.router(services.preferences),
    )
    ui.add_head_html(own.head, shared=True)
    for module in _MODULES:
        for page in module.PAGES:
            add_page(page, services, frame, draw_error)
    add_page(_NO_PAGE, services, frame, draw_error)
    ui.run_with(
        app,
        title="Millpond",
        language="en-US",
        favicon=FAVICON,
        tailwind=False,
        binding_refresh_interval=None,
        reconnect_timeout=20,
        show_welcome_message=False,
    )
    pages_app.config.quasar_config["brand"].update(QUASAR_COLOURS)
    mounted = app.router.routes.pop()
    assert isinstance(mounted, Mount)
    app.router.routes.append(_Pages("/", app=mounted.app))


def _load_nothing(visit: object) -> None:
    raise NotFound("No page has this address.")


_NO_PAGE: Page[None] = Page(
    path="/{rest:path}", section="", load=_load_nothing, draw=lambda _visit, _data: None, title=lambda _visit, _data: ""
)

_PAGE_ROOTS = frozenset(
    {
        "",
        "catalog",
        "experiments",
        "features",
        "runs",
        "models",
        "parity",
        "serving",
        "sql",
        "jobs",
        "pipelines",
        "compute",
        "cost",
        "users",
        "audit",
        "secrets",
        "search",
        "connect",
        "_nicegui",
        "_nicegui_ws",
        "favicon.ico",
    }
)
_API_ROOTS = frozenset(
    {"api", "ajax-api", "ml", "oidc", "health", "metrics", "serving-endpoints", "graphql", "get-artifact",
     "model-versions", "static", "static-files", "v1", ".well-known", "Volumes"}
)  # fmt: skip


class _Pages(Mount):
    """Takes the addresses of pages, and any other that a browser shows and no API answers; all else passes on."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Whether this request is for a page."""
        if scope["type"] not in {"http", "websocket"}:
            return Match.NONE, {}
        root = scope["path"].lstrip("/").partition("/")[0]
        if root in _PAGE_ROOTS or (root not in _API_ROOTS and _wants_html(scope)):
            return super().matches(scope)
        return Match.NONE, {}


def _wants_html(scope: Scope) -> bool:
    if scope["type"] != "http" or scope["method"] not in {"GET", "HEAD"}:
        return False
    return any(name == b"accept" and b"text/html" in value for name, value in scope["headers"])
