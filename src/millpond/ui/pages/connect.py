"""How clients reach this server, and one's own access tokens."""

from collections.abc import Sequence
from datetime import timedelta

from nicegui import ui

from millpond.identity.domain import IssuedToken, Token
from millpond.kernel.clock import epoch_ms
from millpond.ui.elements import (
    Tab,
    TextField,
    button,
    card,
    code_block,
    copy_button,
    el,
    notice,
    page_header,
    tabs,
    when,
)
from millpond.ui.services import Addresses
from millpond.ui.visit import Page, Visit

_LIFETIMES = {"30": "30 days", "90": "90 days", "365": "1 year", "": "no expiry"}


def _snippets(addresses: Addresses) -> dict[str, tuple[str, Sequence[tuple[str, str]]]]:
    base, spark = addresses.base_url, addresses.spark_remote
    return {
        "environment": (
            "Environment",
            [
                (
                    "Shell: all clients read these",
                    f"export DATABRICKS_HOST={base}\nexport DATABRICKS_TOKEN=<token>\n"
                    f"export MLFLOW_TRACKING_URI={base}\nexport MLFLOW_TRACKING_TOKEN=<token>\n"
                    f'export SPARK_REMOTE="{spark}"',
                ),
                ("On the server's own machine", 'eval "$(millpond env --data-dir DIR)"'),
            ],
        ),
        "mlflow": (
            "MLflow",
            [
                ("Install", "pip install mlflow"),
                (
                    "Python",
                    "import os\nimport mlflow\n\n"
                    f'os.environ["MLFLOW_TRACKING_TOKEN"] = "<token>"\nmlflow.set_tracking_uri("{base}")\n'
                    'mlflow.set_experiment("/Users/you/first")\n'
                    'with mlflow.start_run():\n    mlflow.log_metric("auc", 0.84)',
                ),
            ],
        ),
        "pyspark": (
            "PySpark",
            [
                ("Install", 'pip install "pyspark-client"'),
                (
                    "Python",
                    "from pyspark.sql import SparkSession\n\n"
                    f'spark = SparkSession.builder.remote("{spark}").getOrCreate()\n'
                    'spark.sql("SHOW CATALOGS").show()',
                ),
            ],
        ),
        "sdk": (
            "databricks-sdk",
            [
                ("Install", "pip install databricks-sdk"),
                (
                    "Python",
                    "from databricks.sdk import WorkspaceClient\n\n"
                    f'w = WorkspaceClient(host="{base}", token="<token>")\nprint(w.current_user.me().user_name)',
                ),
            ],
        ),
        "rest": (
            "REST",
            [
                (
                    "curl",
                    f'curl -s "{base}/api/2.1/unity-catalog/catalogs" \\\n'
                    '  -H "Authorization: Bearer $DATABRICKS_TOKEN"',
                ),
            ],
        ),
    }


def _load(visit: Visit) -> Sequence[Token]:
    return visit.services.identity.list_tokens(visit.principal)


def _draw(visit: Visit, tokens: Sequence[Token]) -> None:
    addresses = visit.addresses
    page_header(
        "Connect",
        symbol="cable",
        subtitle="The official clients work unchanged: they need this server's address and an access token of yours.",
    )
    with el("div", cls="mp-stack"):
        with card("Addresses"), el("div", cls="mp-stack"):
            for label, address in (("API, MLflow and SDK", addresses.base_url), ("Spark Connect", addresses.spark_url)):
                with el("div", cls="mp-row"):
                    el("span", label, cls="mp-muted").style("min-width: 150px")
                    el("code", address)
                    copy_button(address)
        with card():
            snippets = _snippets(addresses)
            active = visit.query.get("client", "environment")
            active = active if active in snippets else "environment"
            items = [
                Tab(key=key, label=label, href=visit.link(client=None if key == "environment" else key))
                for key, (label, _) in snippets.items()
            ]
            tabs(items, active, label="Client")
            with el("div", cls="mp-stack"):
                for title, code in snippets[active][1]:
                    code_block(code, title=title)
        _draw_tokens(visit, tokens)


def _draw_tokens(visit: Visit, tokens: Sequence[Token]) -> None:
    with el("section", cls="mp-card", id="tokens"):
        el("h2", "Access tokens")
        with el("div", cls="mp-stack"):
            el("p", "A token acts as you. It is shown once, when it is made.", cls="mp-muted")
            place = el("div")
            with place:
                _draw_token_form(visit, place)
            for token in tokens[-50:][::-1]:
                _draw_token(visit, token)


def _draw_token(visit: Visit, token: Token) -> None:
    async def revoke() -> None:
        outcome = await visit.act(lambda principal: visit.services.identity.revoke_token(principal, token.id))
        if outcome.notify_error().ok:
            ui.navigate.reload()

    label = token.comment or "without a name"
    with el("div", cls="mp-row mp-token"):
        el("span", label, cls="mp-list-name")
        with el("span", cls="mp-note"):
            el("span", "made ")
            when(epoch_ms(token.created_at))
        with el("span", cls="mp-note"):
            if token.expires_at:
                el("span", "expires ")
                when(epoch_ms(token.expires_at))
            else:
                el("span", "does not expire")
        button("Revoke", revoke, kind="mp-quiet mp-danger", symbol="delete", aria_label=f"Revoke the token {label}")


def _draw_token_form(visit: Visit, place: ui.element) -> None:
    chosen = {"days": "90"}
    with el("form", cls="mp-row").on("submit.prevent", lambda: make(), args=[]):
        name = TextField(label="What the token is for", placeholder="What it is for, as in: laptop", maxlength="200")
        name.element.style("width: 260px")
        lifetime = el("select", cls="mp-input", aria_label="Lifetime").style("width: 130px")
        with lifetime:
            for days, label in _LIFETIMES.items():
                el("option", label, value=days, selected=days == "90" or None)
        lifetime.on(
            "change", lambda event: chosen.update(days=str(event.args)), js_handler="(e) => emit(e.target.value)"
        )

        async def make() -> None:
            lifetime = timedelta(days=int(chosen["days"])) if chosen["days"].isdecimal() else None
            outcome = await visit.act(
                lambda principal: visit.services.identity.create_token(
                    principal, comment=name.value.strip()[:200], lifetime=lifetime
                )
            )
            issued = outcome.notify_error().value
            if issued is not None:
                _show_once(place, issued)

        with el("button", cls="mp-button mp-primary", type="submit"):
            el("span", "Create token")


def _show_once(place: ui.element, issued: IssuedToken) -> None:
    place.clear()
    with place, el("div", cls="mp-stack"):
        notice("Copy this token now. It is not shown again.", "good", role="status")
        code_block(issued.secret, title="New access token")


PAGES = (Page(path="/connect", section="connect", load=_load, draw=_draw, title=lambda _visit, _tokens: "Connect"),)
