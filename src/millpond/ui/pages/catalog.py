"""Catalogs and schemas: the tree, and the pages of its branches."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from millpond.catalog.domain import Catalog, Function, Model, Schema, SchemaName, Table, TableType, Volume
from millpond.kernel.clock import epoch_ms
from millpond.kernel.paging import Page as Listing
from millpond.ui import urls
from millpond.ui.catalog_tree import CatalogTree, Path, load_tree
from millpond.ui.elements import (
    Cell,
    Crumb,
    DataTable,
    Rows,
    Tab,
    TableColumn,
    button,
    el,
    empty_state,
    facts,
    page_header,
    pager,
    tabs,
)
from millpond.ui.permissions import Permissions, draw_permissions, load_permissions, permissions_tab
from millpond.ui.policies import Policies, draw_policies, load_policies, policies_tab
from millpond.ui.tags import Tags, draw_tags, load_tags
from millpond.ui.visit import Page, Visit

_NEW_CATALOG = """spark.sql("CREATE CATALOG prod_catalog")
spark.sql("CREATE SCHEMA prod_catalog.silver")
df.write.saveAsTable("prod_catalog.silver.customers")"""


@contextmanager
def beside_tree(visit: Visit, tree: list[dict[str, object]]) -> Iterator[None]:
    """The tree on the left, and the page's own part as a context."""
    with el("div", cls="mp-split"):
        with el("aside", cls="mp-split-side", aria_label="Catalog browser"):
            with button("Browse the catalog", kind="mp-browse", symbol="account_tree", data_toggle="mp-tree",
                        aria_expanded="false", aria_controls="mp-tree"):  # fmt: skip
                pass
            with el("div", cls="mp-tree-frame", id="mp-tree"):
                CatalogTree(visit, tree)
        with el("div", cls="mp-split-main"):
            yield


# All catalogs


@dataclass(frozen=True, kw_only=True)
class _Root:
    tree: list[dict[str, object]]
    catalogs: Listing[Catalog]


def _load_root(visit: Visit) -> _Root:
    catalogs = visit.services.catalog.list_catalogs(
        visit.principal, max_results=100, page_token=visit.query.get("page")
    )
    return _Root(tree=load_tree(visit.services, visit.principal, Path()), catalogs=catalogs)


def _draw_root(visit: Visit, data: _Root) -> None:
    page_header(
        "Catalog", symbol="account_tree", subtitle="Tables, files, functions and models, by catalog and schema."
    )
    with beside_tree(visit, data.tree):
        rows: Rows = [
            [
                Cell(text=item.name, href=urls.catalog_url(item.name), symbol="database"),
                item.comment or "",
                item.owner,
                Cell(time_ms=epoch_ms(item.updated_at)),
            ]
            for item in data.catalogs.items
        ]
        columns = (
            TableColumn(label="Catalog"),
            TableColumn(label="Comment", grow=True),
            TableColumn(label="Owner", short=True, optional=True),
            TableColumn(label="Changed", optional=True),
        )
        DataTable(label="Catalogs", columns=columns, rows=rows)
        token = data.catalogs.next_page_token
        pager(next_href=token and visit.link(page=token), first_href=visit.query.get("page") and visit.link(page=None))
        if all(item.name in {"main", "system"} for item in data.catalogs.items):
            with el("div", cls="mp-stack"):
                empty_state(
                    "Make a catalog of your own",
                    "A catalog holds schemas, and schemas hold tables. Connect PySpark and run:",
                    symbol="add_circle",
                    code=_NEW_CATALOG,
                    code_title="PySpark",
                ).style("margin-top: 20px")


# One catalog


@dataclass(frozen=True, kw_only=True)
class _Catalog:
    tree: list[dict[str, object]]
    catalog: Catalog
    schemas: Listing[Schema]
    tags: Tags
    permissions: Permissions | None
    policies: Policies | None


def _load_catalog(visit: Visit) -> _Catalog:
    service, who = visit.services.catalog, visit.principal
    catalog = service.get_catalog(who, visit.path["catalog"])
    schemas = service.list_schemas(who, catalog.name, max_results=100, page_token=visit.query.get("page"))
    return _Catalog(
        tree=load_tree(visit.services, who, Path(catalog=catalog.name)),
        catalog=catalog,
        schemas=schemas,
        tags=load_tags(visit, "catalog", catalog.securable),
        permissions=load_permissions(visit, "catalog", catalog.name),
        policies=load_policies(visit, catalog.securable),
    )


def _draw_catalog(visit: Visit, data: _Catalog) -> None:
    catalog = data.catalog
    crumbs = [Crumb(label="Catalog", href=urls.CATALOG)]
    with beside_tree(visit, data.tree):
        page_header(catalog.name, symbol="database", crumbs=crumbs, kind="Catalog", subtitle=catalog.comment)
        draw_tags(visit, data.tags)
        active = visit.query.get("tab", "schemas")
        tabs(
            [
                Tab(key="schemas", label="Schemas", href=visit.link(tab=None, page=None)),
                Tab(key="details", label="Details", href=visit.link(tab="details", page=None)),
                *policies_tab(visit, catalog.securable),
                permissions_tab(visit),
            ],
            active,
        )
        if data.policies is not None:
            draw_policies(visit, data.policies)
            return
        if data.permissions is not None:
            update = visit.services.catalog.update_catalog
            draw_permissions(visit, data.permissions, give=lambda who, owner: update(who, catalog.name, owner=owner))
            return
        if active == "details":
            draw_details(catalog)
            return
        if not data.schemas.items:
            empty_state(
                "No schemas yet",
                "A schema holds tables, volumes, functions and models.",
                symbol="schema",
                code=f'spark.sql("CREATE SCHEMA {catalog.name}.silver")',
                code_title="PySpark",
            )
            return
        rows: Rows = [
            [
                Cell(text=item.name.schema, href=urls.schema_url(item.name), symbol="schema"),
                item.comment or "",
                item.owner,
                Cell(time_ms=epoch_ms(item.updated_at)),
            ]
            for item in data.schemas.items
        ]
        columns = (
            TableColumn(label="Schema"),
            TableColumn(label="Comment", grow=True),
            TableColumn(label="Owner", short=True, optional=True),
            TableColumn(label="Changed", optional=True),
        )
        DataTable(label="Schemas", columns=columns, rows=rows)
        token = data.schemas.next_page_token
        pager(next_href=token and visit.link(page=token), first_href=visit.query.get("page") and visit.link(page=None))


def draw_details(item: Catalog | Schema) -> None:
    """Who made it, when, and its properties."""
    facts(
        [
            ("Owner", item.owner),
            ("Created", Cell(time_ms=epoch_ms(item.created_at))),
            ("Created by", item.created_by),
            ("Changed", Cell(time_ms=epoch_ms(item.updated_at))),
            ("Changed by", item.updated_by),
            *[(f"Property {key}", Cell(text=value, code=True)) for key, value in item.properties.items()],
        ]
    )


# One schema

_KINDS = (("tables", "Tables", "table"), ("volumes", "Volumes", "volume"), ("functions", "Functions", "function"),
          ("models", "Models", "model"))  # fmt: skip
_EMPTY = {
    "tables": ("No tables here yet", "Write a DataFrame:", 'df.write.saveAsTable("{schema}.customers")', "PySpark"),
    "volumes": ("No volumes here yet", "A volume is a directory for files of any kind:",
                'spark.sql("CREATE VOLUME {schema}.raw_files")', "PySpark"),
    "functions": ("No functions here yet", "A SQL function can be used in every query:",
                  'spark.sql("CREATE FUNCTION {schema}.add_tax(x DOUBLE) RETURNS DOUBLE RETURN x * 1.19")', "PySpark"),
    "models": ("No models here yet", "Register a model of a run:",
               'mlflow.register_model(f"runs:/{{run_id}}/model", "{schema}.churn_predictor")', "Python"),
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class _Line:
    name: str
    href: str
    symbol: str
    kind: str
    comment: str
    owner: str
    updated_ms: int


@dataclass(frozen=True, kw_only=True)
class _Schema:
    tree: list[dict[str, object]]
    schema: Schema
    kind: str
    lines: Listing[_Line]
    tags: Tags | None
    """None for the information schema, which has none."""
    permissions: Permissions | None
    policies: Policies | None


def _load_schema(visit: Visit) -> _Schema:
    who = visit.principal
    schema = visit.services.catalog.get_schema(who, SchemaName(visit.path["catalog"], visit.path["schema"]))
    kind = visit.query.get("tab", "tables")
    path = Path(catalog=schema.name.catalog, schema=schema.name.schema)
    lines = _lines(visit, schema.name, kind) if kind in _EMPTY else Listing[_Line](items=())
    permissions = load_permissions(visit, "schema", str(schema.name))
    tree = load_tree(visit.services, who, path)
    tags = None if schema.securable.public else load_tags(visit, "schema", schema.securable)
    policies = load_policies(visit, schema.securable)
    return _Schema(
        tree=tree, schema=schema, kind=kind, lines=lines, tags=tags, permissions=permissions, policies=policies
    )


def _lines(visit: Visit, schema: SchemaName, kind: str) -> Listing[_Line]:
    service = visit.services.catalog
    listings: dict[str, Callable[..., Listing[Any]]] = {
        "tables": service.list_tables,
        "volumes": service.list_volumes,
        "functions": service.list_functions,
        "models": service.list_models,
    }
    symbols = {"tables": "table", "volumes": "folder", "functions": "function", "models": "deployed_code"}

    def line(item: Table | Volume | Function | Model) -> _Line:
        special = item.table_type if isinstance(item, Table) and item.table_type is not TableType.MANAGED else None
        return _Line(
            name=item.name.name,
            href=urls.object_url(kind.removesuffix("s"), item.name),
            symbol="table_view" if special is TableType.VIEW else symbols[kind],
            kind=special.value.lower() if special else "",
            comment=item.comment or "",
            owner=item.owner,
            updated_ms=epoch_ms(item.updated_at),
        )

    return listings[kind](visit.principal, schema, max_results=100, page_token=visit.query.get("page")).map(line)


def _draw_schema(visit: Visit, data: _Schema) -> None:
    schema = data.schema
    crumbs = [
        Crumb(label="Catalog", href=urls.CATALOG),
        Crumb(label=schema.name.catalog, href=urls.catalog_url(schema.name.catalog)),
    ]
    with beside_tree(visit, data.tree):
        page_header(schema.name.schema, symbol="schema", crumbs=crumbs, kind="Schema", subtitle=schema.comment)
        if data.tags is not None:
            draw_tags(visit, data.tags)
        items = [Tab(key=key, label=label, href=visit.link(tab=key, page=None)) for key, label, _ in _KINDS]
        details = Tab(key="details", label="Details", href=visit.link(tab="details", page=None))
        tabs([*items, details, *policies_tab(visit, schema.securable), permissions_tab(visit)], data.kind)
        if data.policies is not None:
            draw_policies(visit, data.policies)
        elif data.permissions is not None:
            update = visit.services.catalog.update_schema
            draw_permissions(visit, data.permissions, give=lambda who, owner: update(who, schema.name, owner=owner))
        elif data.kind == "details":
            draw_details(schema)
        else:
            _draw_lines(visit, data)


def _draw_lines(visit: Visit, data: _Schema) -> None:
    if not data.lines.items and not visit.query.get("page"):
        title, text, code, language = _EMPTY.get(data.kind, _EMPTY["tables"])
        code = code.format(schema=data.schema.name)
        empty_state(title, text, symbol="inventory_2", code=code, code_title=language)
        return
    rows: Rows = [
        [
            Cell(
                text=line.name, href=line.href, symbol=line.symbol, badges=((line.kind, "plain"),) if line.kind else ()
            ),
            line.comment,
            line.owner,
            Cell(time_ms=line.updated_ms),
        ]
        for line in data.lines.items
    ]
    columns = (
        TableColumn(label="Name"),
        TableColumn(label="Comment", grow=True),
        TableColumn(label="Owner", short=True, optional=True),
        TableColumn(label="Changed", optional=True),
    )
    DataTable(label=data.kind.capitalize(), columns=columns, rows=rows)
    token = data.lines.next_page_token
    pager(next_href=token and visit.link(page=token), first_href=visit.query.get("page") and visit.link(page=None))


PAGES = (
    Page(path="/catalog", section="catalog", load=_load_root, draw=_draw_root, title=lambda _visit, _data: "Catalog"),
    Page(
        path="/catalog/{catalog}",
        section="catalog",
        load=_load_catalog,
        draw=_draw_catalog,
        title=lambda _visit, data: data.catalog.name,
    ),
    Page(
        path="/catalog/{catalog}/{schema}",
        section="catalog",
        load=_load_schema,
        draw=_draw_schema,
        title=lambda _visit, data: str(data.schema.name),
    ),
)
