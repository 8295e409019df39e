"""Registered models and their versions."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from nicegui import ui

from millpond.catalog.domain import ObjectName
from millpond.feature_tables.domain import ModelFeatures
from millpond.identity.domain import Principal
from millpond.kernel.errors import MillpondError, NotFound
from millpond.kernel.paging import Page as Listing
from millpond.lineage.domain import SeenNode
from millpond.registry.evaluations import SeenEvaluation
from millpond.tracking.domain import is_three_level
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
    chip,
    code_block,
    copy_button,
    el,
    empty_state,
    facts,
    filter_form,
    notice,
    page_header,
    pager,
    tabs,
)
from millpond.ui.features import draw_model_features
from millpond.ui.lineage import Lineage, draw_lineage, lineage_tab, load_lineage
from millpond.ui.model_files import Field, ModelCard, read_card
from millpond.ui.pages.model_compare import (
    Comparison,
    compare_tab,
    draw_comparison,
    draw_evaluations,
    load_comparison,
    load_evaluations,
)
from millpond.ui.pages.model_record import RecordData, draw_record, load_record, record_tab
from millpond.ui.permissions import Give, Permissions, draw_permissions, load_permissions, permissions_tab
from millpond.ui.tags import Tags, draw_tags, load_tags
from millpond.ui.tracking import RegisteredModel, Run, Version
from millpond.ui.visit import Page, Visit

_STAGE_TONES: dict[str, Tone] = {"Production": "good", "Staging": "info", "Archived": "plain"}

_REGISTER = """import mlflow

with mlflow.start_run():
    mlflow.sklearn.log_model(model, name="model", input_example=X.head(2))

mlflow.register_model(f"runs:/{run_id}/model", "main.default.churn_predictor")"""


# The list


def _load_list(visit: Visit) -> Listing[RegisteredModel]:
    tracking = visit.services.tracking
    return tracking.list_models(visit.principal, text=visit.query.get("q", ""), page_token=visit.query.get("page"))


def _draw_list(visit: Visit, data: Listing[RegisteredModel]) -> None:
    page_header("Models", symbol="deployed_code", subtitle="Registered models with their versions, aliases and stages.")
    asked = visit.query.get("q", "")
    with el("div", cls="mp-toolbar"):
        filter_form(label="Filter by name", value=asked)
    if not data.items:
        if asked:
            empty_state("No such model", f"No model that you may see has “{asked}” in its name.", symbol="search_off")
        else:
            empty_state("No models yet", "Register the model of a run:", symbol="deployed_code", code=_REGISTER)
        return
    rows: Rows = [
        [
            Cell(text=item.name, href=urls.model_url(item.name), symbol="deployed_code", note=item.description[:200]),
            item.latest or "",
            Cell(badges=tuple((f"@{alias} → {version}", "accent") for alias, version in sorted(item.aliases.items()))),
            Cell(time_ms=item.updated_ms),
        ]
        for item in data.items
    ]
    columns = (
        TableColumn(label="Model", grow=True),
        TableColumn(label="Newest", numeric=True),
        TableColumn(label="Aliases"),
        TableColumn(label="Changed", optional=True),
    )
    DataTable(label="Models", columns=columns, rows=rows)
    pager(
        next_href=data.next_page_token and visit.link(page=data.next_page_token),
        first_href=visit.query.get("page") and visit.link(page=None),
    )


# One model


@dataclass(frozen=True, kw_only=True)
class _Data:
    model: RegisteredModel
    versions: Listing[Version]
    chosen: Version | None
    card: ModelCard | None
    card_problem: str
    run: Run | None
    tags: Tags | None
    """Of a model in the catalog."""
    permissions: Permissions | None
    lineage: Lineage | None
    record: RecordData | None
    comparison: Comparison | None
    evaluations: Sequence[SeenEvaluation]
    features: Sequence[ModelFeatures]


def _load(visit: Visit) -> _Data:
    tracking, who = visit.services.tracking, visit.principal
    model = tracking.get_model(who, visit.path["name"])
    record = load_record(visit, model.name)
    token = None if record else visit.query.get("page")
    versions = tracking.list_versions(who, model.name, page_token=token)
    chosen = _chosen(visit, model.name, versions.items)
    found: ModelCard | None = None
    problem = ""
    if chosen is not None:
        try:
            found = read_card(visit.services.model_files, who, model.name, chosen.version)
        except MillpondError as error:
            problem = error.message
    return _Data(
        model=model, versions=versions, chosen=chosen, card=found, card_problem=problem, run=_find_run(visit, chosen),
        tags=_tags(visit, model.name) if is_three_level(model.name) else None,
        permissions=load_permissions(visit, "model" if is_three_level(model.name) else "registered-models", model.name),
        lineage=load_lineage(visit, lambda p: _version_node(visit, p, model.name, chosen)),
        record=record,
        comparison=load_comparison(visit, model, versions.items),
        evaluations=load_evaluations(visit, model.name, chosen.version) if chosen else (),
        features=_features(visit, model.name, chosen),
    )  # fmt: skip


def _tags(visit: Visit, name: str) -> Tags:
    model = visit.services.catalog.get_model(visit.principal, ObjectName.of_full_name(name))
    return load_tags(visit, "model", model.securable)


def _version_node(visit: Visit, who: Principal, name: str, chosen: Version | None) -> SeenNode:
    if chosen is None:
        raise NotFound(f"Model '{name}' has no version yet.")
    node = visit.services.model_lineage.version_node(name, chosen.version)
    return visit.services.lineage.lineage.see_node(who, node)


def _features(visit: Visit, name: str, chosen: Version | None) -> Sequence[ModelFeatures]:
    if chosen is None:
        return ()
    try:
        return visit.services.feature_tables.service.of_model(visit.principal, name, chosen.version)
    except NotFound:  # a model of before rooms kept owners, of which lineage does not know who may see it
        return ()


def _chosen(visit: Visit, name: str, versions: Sequence[Version]) -> Version | None:
    asked = visit.query.get("version")
    if not asked:
        return versions[0] if versions else None
    listed = next((version for version in versions if version.version == asked), None)
    return listed or visit.services.tracking.get_version(visit.principal, name, asked)


def _find_run(visit: Visit, version: Version | None) -> Run | None:
    if version is None or not version.run_id:
        return None
    try:
        return visit.services.tracking.get_run(visit.principal, version.run_id)
    except NotFound:  # deleted, or in an experiment that this person may not see
        return None


def _draw(visit: Visit, data: _Data) -> None:
    model = data.model
    crumbs = [Crumb(label="Models", href=urls.MODELS)]
    page_header(model.name, symbol="deployed_code", crumbs=crumbs)
    if data.tags is not None:
        draw_tags(visit, data.tags)
    versions = Tab(key="versions", label="Versions", href=visit.link(tab=None, page=None))
    every = [versions, compare_tab(visit), record_tab(visit), lineage_tab(visit), permissions_tab(visit)]
    tabs(every, visit.query.get("tab", "versions"), label="Model")
    if data.record is not None:
        draw_record(visit, model.name, [version.version for version in data.versions.items], data.record)
        return
    if data.comparison is not None:
        draw_comparison(data.comparison)
        return
    if data.permissions is not None:
        draw_permissions(visit, data.permissions, give=_giver(visit, model.name))
        return
    if data.lineage is not None:
        draw_lineage(visit, data.lineage)
        return
    with el("div", cls="mp-stack"):
        _draw_description(
            visit,
            model.description,
            what="model",
            save=lambda p, text: visit.services.tracking.describe_model(p, model.name, text),
        )
        _draw_tags(model.tags)
        if not data.versions.items:
            empty_state("No versions yet", "Register the model of a run:", symbol="layers", code=_register(model.name))
            return
        _draw_versions(visit, data)
        if data.chosen is not None:
            _draw_version(visit, data, data.chosen)


def _giver(visit: Visit, name: str) -> Give | None:
    """How the catalog's models get another owner; those of the workspace keep theirs."""
    if not is_three_level(name):
        return None
    full_name = ObjectName.of_full_name(name)
    return lambda principal, owner: visit.services.models.update(principal, full_name, owner=owner)


def _register(name: str) -> str:
    return f'mlflow.register_model(f"runs:/{{run_id}}/model", "{name}")'


def _draw_tags(tags: Any) -> None:
    shown = [(key, value) for key, value in sorted(tags.items()) if not key.startswith("mlflow.")]
    if shown:
        with el("div", cls="mp-row"):
            for key, value in shown:
                badge(f"{key}: {value}" if value else key)


def _draw_description(visit: Visit, text: str, *, what: str, save: Any) -> None:
    """The text, and a form to change it that opens in its place."""
    place = el("div")

    def show() -> None:
        place.clear()
        with place, el("div", cls="mp-row"):
            el("p", text or f"No description of this {what} yet.", cls="mp-pre" if text else "mp-muted").style(
                "flex: 1"
            )
            button("Edit", edit, kind="mp-quiet", symbol="edit", aria_label=f"Edit the description of this {what}")

    def edit() -> None:
        place.clear()
        with place, el("div", cls="mp-stack"):
            field = TextField(label=f"Description of this {what}", value=text, lines=4)

            async def keep() -> None:
                outcome = await visit.act(lambda principal: save(principal, field.value))
                if outcome.notify_error().ok:
                    ui.navigate.reload()

            with el("div", cls="mp-row"):
                button("Save", keep, kind="mp-primary")
                button("Cancel", show)

    show()


def _draw_versions(visit: Visit, data: _Data) -> None:
    rows: Rows = [
        [
            Cell(
                text=f"Version {version.version}",
                href=visit.link(version=version.version),
                badges=(("shown below", "plain"),) if data.chosen and version.version == data.chosen.version else (),
            ),
            Cell(badges=tuple((f"@{alias}", "accent") for alias in data.model.aliases_of(version.version))),
            Cell(
                badges=((version.stage, _STAGE_TONES.get(version.stage, "plain")),) if version.stage != "None" else ()
            ),
            Cell(text=version.description[:160]),
            version.user,
            Cell(time_ms=version.created_ms),
        ]
        for version in data.versions.items
    ]
    columns = (
        TableColumn(label="Version"),
        TableColumn(label="Aliases"),
        TableColumn(label="Stage"),
        TableColumn(label="Description", grow=True),
        TableColumn(label="Who", short=True, optional=True),
        TableColumn(label="Created"),
    )
    with el("div"):
        DataTable(label="Versions", columns=columns, rows=rows)
        token = data.versions.next_page_token
        pager(next_href=token and visit.link(page=token), first_href=visit.query.get("page") and visit.link(page=None))


# One version


def _draw_version(visit: Visit, data: _Data, version: Version) -> None:
    name = data.model.name
    with el("section", cls="mp-stack", aria_label=f"Version {version.version}"):
        with el("div", cls="mp-title-row"):
            el("h2", f"Version {version.version}")
            with el("div", cls="mp-actions"):
                copy_button(f"models:/{name}/{version.version}", "Copy model URI")
        if version.status not in {"READY", ""}:
            notice(f"This version is {version.status.lower().replace('_', ' ')}.", "warn")
        _draw_description(
            visit,
            version.description,
            what="version",
            save=lambda p, text: visit.services.tracking.describe_version(p, name, version.version, text),
        )
        with el("div", cls="mp-grid-cards"):
            with card("About"):
                _draw_facts(data, version)
            with card("Aliases"):
                _draw_aliases(visit, data.model, version)
        if data.features:
            with card("Features"):
                draw_model_features(data.features)
        if data.evaluations:
            with card("Evaluations"):
                draw_evaluations(data.evaluations)
        _draw_card(data)
        code_block(_load_code(data.model, version), title="Use it")


def _draw_facts(data: _Data, version: Version) -> None:
    run = data.run
    source = Cell(text=run.name, href=urls.mlflow_run_url(run.experiment_id, run.id)) if run else None
    found = data.card
    facts(
        [
            ("Made by", version.user),
            ("Created", Cell(time_ms=version.created_ms) if version.created_ms else None),
            ("Stage", version.stage),
            ("From run", source or version.run_id),
            ("Trained on", Cell(text=", ".join(name for name, _ in run.inputs)) if run and run.inputs else None),
            ("Flavors", ", ".join(found.flavors) if found else None),
            ("MLflow", found.mlflow_version if found else None),
            *[(key, value) for key, value in sorted(version.tags.items()) if not key.startswith("mlflow.")],
        ]
    )


def _draw_aliases(visit: Visit, model: RegisteredModel, version: Version) -> None:
    tracking, name = visit.services.tracking, model.name
    aliases = model.aliases_of(version.version)

    def remover(alias: str) -> Any:
        async def remove() -> None:
            outcome = await visit.act(lambda principal: tracking.remove_alias(principal, name, alias))
            if outcome.notify_error().ok:
                ui.navigate.reload()

        return remove

    with el("div", cls="mp-stack"):
        if aliases:
            with el("div", cls="mp-row"):
                for alias in aliases:
                    chip(f"@{alias}", remover(alias), f"Remove alias {alias}")
        else:
            el("p", "No alias points to this version.", cls="mp-muted")
        _draw_alias_form(visit, name, version)


def _draw_alias_form(visit: Visit, name: str, version: Version) -> None:
    with el("form", cls="mp-row").on("submit.prevent", lambda: keep(), args=[]):
        field = TextField(label=f"Alias for version {version.version}", placeholder="production")
        field.element.style("width: 200px")

        async def keep() -> None:
            alias = field.value.strip().removeprefix("@")
            outcome = await visit.act(
                lambda principal: visit.services.tracking.set_alias(principal, name, alias, version.version)
            )
            if outcome.notify_error().ok:
                ui.navigate.reload()

        button("Point alias here", keep, symbol="label")
    el("p", "An alias leaves the version that it pointed to before.", cls="mp-note")


def _draw_card(data: _Data) -> None:
    if data.card is None:
        notice(f"The model's files could not be read: {data.card_problem}", "warn")
        return
    parts = (("Inputs", data.card.inputs), ("Outputs", data.card.outputs), ("Parameters", data.card.params))
    shown = [(title, fields) for title, fields in parts if fields]
    if not shown:
        notice("This version has no signature; log it with input_example=... so that requests can be checked.", "info")
        return
    with el("div", cls="mp-grid-cards"):
        for title, fields in shown:
            with card(title):
                _draw_fields(title, fields)


def _draw_fields(title: str, fields: Sequence[Field]) -> None:
    rows: Rows = [
        [
            Cell(text=field.name or "–", code=True),
            Cell(text=field.type, code=True),
            Cell(badges=() if field.required else (("optional", "plain"),)),
        ]
        for field in fields[:200]
    ]
    columns = (TableColumn(label="Name", grow=True), TableColumn(label="Type"), TableColumn(label=""))
    DataTable(label=title, columns=columns, rows=rows)


def _load_code(model: RegisteredModel, version: Version) -> str:
    aliases = model.aliases_of(version.version)
    reference = f"{model.name}@{aliases[0]}" if aliases else f"{model.name}/{version.version}"
    return f'model = mlflow.pyfunc.load_model("models:/{reference}")\nmodel.predict(df)'


PAGES = (
    Page(path="/models", section="models", load=_load_list, draw=_draw_list, title=lambda _visit, _data: "Models"),
    Page(
        path="/models/{name:path}",
        section="models",
        load=_load,
        draw=_draw,
        title=lambda _visit, data: data.model.name,
    ),
)
