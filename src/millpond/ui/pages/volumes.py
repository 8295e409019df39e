"""Volumes with their files, and functions."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from nicegui.element import Element

from millpond.catalog.domain import Function, ObjectName, Volume
from millpond.catalog.storage import Entry, Listing
from millpond.identity.access import Act, allows
from millpond.kernel.clock import epoch_ms
from millpond.ui import urls
from millpond.ui.catalog_tree import Path, load_tree
from millpond.ui.elements import (
    Cell,
    Crumb,
    DataTable,
    Rows,
    Tab,
    TableColumn,
    code_block,
    el,
    empty_state,
    facts,
    link,
    page_header,
    pager,
    tabs,
)
from millpond.ui.formats import size_text
from millpond.ui.pages.catalog import beside_tree
from millpond.ui.permissions import Permissions, draw_permissions, load_permissions, permissions_tab
from millpond.ui.tags import Tags, draw_tags, load_tags
from millpond.ui.visit import Page, Visit


class _Upload(Element, component="../components/upload.js"):
    """Sends files to the Files API without this page in between."""

    def __init__(self, *, target: str, names: Sequence[str]) -> None:
        super().__init__()
        self.props["target"] = target
        self.props["names"] = list(names)


@dataclass(frozen=True, kw_only=True)
class _Volume:
    tree: list[dict[str, object]]
    volume: Volume
    directory: str
    entries: Listing
    may_write: bool
    may_manage: bool
    tags: Tags
    permissions: Permissions | None


def _load_volume(visit: Visit) -> _Volume:
    who, service = visit.principal, visit.services.catalog
    name = ObjectName(visit.path["catalog"], visit.path["schema"], visit.path["name"])
    volume = service.get_volume(who, name)
    directory = visit.query.get("path", "").strip("/")
    path = f"/Volumes/{name.catalog}/{name.schema}/{name.name}/{directory}".rstrip("/")
    entries = visit.services.files.list_directory(who, path, page_token=visit.query.get("page"), limit=500)
    where = Path(catalog=name.catalog, schema=name.schema, kind="volume", name=name.name)
    return _Volume(
        tree=load_tree(visit.services, who, where),
        volume=volume,
        directory=directory,
        entries=entries,
        may_write=allows(who, Act.WRITE, volume.securable),
        may_manage=allows(who, Act.MANAGE, volume.securable),
        tags=load_tags(visit, "volume", volume.securable),
        permissions=load_permissions(visit, "volume", str(volume.name)),
    )


def _draw_volume(visit: Visit, data: _Volume) -> None:
    volume = data.volume
    with beside_tree(visit, data.tree):
        page_header(
            volume.name.name, symbol="folder", crumbs=_crumbs(volume.name), kind="Volume", subtitle=volume.comment
        )
        draw_tags(visit, data.tags)
        active = visit.query.get("tab", "files")
        tabs(
            [
                Tab(key="files", label="Files", href=visit.link(tab=None)),
                Tab(key="details", label="Details", href=visit.link(tab="details")),
                permissions_tab(visit),
            ],
            active,
        )
        if data.permissions is not None:
            update = visit.services.catalog.update_volume
            draw_permissions(visit, data.permissions, give=lambda who, owner: update(who, volume.name, owner=owner))
        elif active == "details":
            _draw_volume_details(data)
        else:
            _draw_files(visit, data)


def _draw_files(visit: Visit, data: _Volume) -> None:
    name, directory = data.volume.name, data.directory
    with el("div", cls="mp-stack"):
        _draw_way(name, directory)
        if data.may_write:
            target = urls.files_api_url(name, f"{directory}/" if directory else "")
            _Upload(target=target, names=[entry.name for entry in data.entries.entries])
        if not data.entries.entries:
            path = f"/Volumes/{name.catalog}/{name.schema}/{name.name}"
            empty_state(
                "No files here",
                "Files of any kind live here, readable by path from Spark and by the Files API.",
                symbol="upload_file",
                code=f'WorkspaceClient().files.upload("{path}/data.csv", open("data.csv", "rb"), overwrite=True)',
                code_title="databricks-sdk",
            )
            return
        rows: Rows = [_file_row(name, directory, entry) for entry in data.entries.entries]
        columns = (
            TableColumn(label="Name", grow=True),
            TableColumn(label="Size", numeric=True),
            TableColumn(label="Changed"),
        )
        DataTable(label="Files", columns=columns, rows=rows)
        token = data.entries.next_token
        pager(next_href=token and visit.link(page=token), first_href=visit.query.get("page") and visit.link(page=None))


def _file_row(volume: ObjectName, directory: str, entry: Entry) -> list[Cell | str]:
    inner = f"{directory}/{entry.name}" if directory else entry.name
    changed = Cell(time_ms=epoch_ms(entry.modified_at)) if entry.modified_at else ""
    if entry.is_directory:
        return [Cell(text=entry.name, href=urls.files_url(volume, inner), symbol="folder"), "", changed]
    download = Cell(text=entry.name, href=urls.files_api_url(volume, inner), symbol="draft", title="Download")
    return [download, size_text(entry.size_bytes or 0), changed]


def _draw_way(name: ObjectName, directory: str) -> None:
    with el("nav", cls="mp-crumbs", aria_label="Directory"), el("ol"):
        with el("li"):
            link(name.name, urls.files_url(name, ""))
        for parent in [*reversed(PurePosixPath(directory).parents), PurePosixPath(directory)]:
            if str(parent) != ".":
                with el("li"):
                    link(parent.name, urls.files_url(name, str(parent)))


def _draw_volume_details(data: _Volume) -> None:
    volume = data.volume
    facts(
        [
            ("Path", Cell(text=f"/Volumes/{str(volume.name).replace('.', '/')}", code=True)),
            ("Owner", volume.owner),
            ("Type", volume.volume_type.value.capitalize()),
            ("Created", Cell(time_ms=epoch_ms(volume.created_at))),
            ("Created by", volume.created_by),
            ("Changed", Cell(time_ms=epoch_ms(volume.updated_at))),
            ("Location", Cell(text=volume.storage_location, code=True) if data.may_manage else None),
        ]
    )


# Functions


@dataclass(frozen=True, kw_only=True)
class _Function:
    tree: list[dict[str, object]]
    function: Function
    tags: Tags
    permissions: Permissions | None


def _load_function(visit: Visit) -> _Function:
    name = ObjectName(visit.path["catalog"], visit.path["schema"], visit.path["name"])
    function = visit.services.catalog.get_function(visit.principal, name)
    where = Path(catalog=name.catalog, schema=name.schema, kind="function", name=name.name)
    permissions = load_permissions(visit, "function", str(name))
    tree = load_tree(visit.services, visit.principal, where)
    tags = load_tags(visit, "function", function.securable)
    return _Function(tree=tree, function=function, tags=tags, permissions=permissions)


def _draw_function(visit: Visit, data: _Function) -> None:
    function = data.function
    with beside_tree(visit, data.tree):
        page_header(
            function.name.name,
            symbol="function",
            crumbs=_crumbs(function.name),
            kind="Function",
            subtitle=function.comment,
        )
        draw_tags(visit, data.tags)
        definition = Tab(key="definition", label="Definition", href=visit.link(tab=None))
        tabs([definition, permissions_tab(visit)], visit.query.get("tab", "definition"), label="Function")
        if data.permissions is None:
            _draw_definition(function)
            return
        update = visit.services.catalog.update_function
        draw_permissions(visit, data.permissions, give=lambda who, owner: update(who, function.name, owner=owner))


def _draw_definition(function: Function) -> None:
    definition = function.definition
    parameters = (definition.get("input_params") or {}).get("parameters") or []
    signature = ", ".join(f"{item.get('name')} {item.get('type_text', '')}".strip() for item in parameters)
    returns = definition.get("full_data_type") or definition.get("data_type") or ""
    with el("div", cls="mp-stack"):
        code_block(f"{function.name}({signature})\nRETURNS {returns}", title="Signature")
        body = definition.get("routine_definition")
        if body:
            code_block(str(body), title=str(definition.get("routine_body", "Body")).capitalize())
        facts(
            [
                ("Owner", function.owner),
                ("Created", Cell(time_ms=epoch_ms(function.created_at))),
                ("Created by", function.created_by),
            ]
        )


def _crumbs(name: ObjectName) -> list[Crumb]:
    return [
        Crumb(label="Catalog", href=urls.CATALOG),
        Crumb(label=name.catalog, href=urls.catalog_url(name.catalog)),
        Crumb(label=name.schema, href=urls.schema_url(name.schema_name)),
    ]


PAGES = (
    Page(
        path="/catalog/{catalog}/{schema}/volumes/{name}",
        section="catalog",
        load=_load_volume,
        draw=_draw_volume,
        title=lambda _visit, data: str(data.volume.name),
    ),
    Page(
        path="/catalog/{catalog}/{schema}/functions/{name}",
        section="catalog",
        load=_load_function,
        draw=_draw_function,
        title=lambda _visit, data: str(data.function.name),
    ),
)
