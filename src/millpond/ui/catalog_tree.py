"""The tree of the catalog: what is open at first, and what opens on demand."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from nicegui.element import Element

from millpond.catalog.domain import ObjectName, SchemaName, Table, TableType
from millpond.identity.domain import Principal
from millpond.ui import urls
from millpond.ui.services import Services
from millpond.ui.visit import Visit

_BRANCH = 200
"""So many children a branch shows; the page of the branch lists them all."""

Node = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Path:
    """Where in the tree a page is."""

    catalog: str | None = None
    schema: str | None = None
    kind: str | None = None
    name: str | None = None


def load_tree(services: Services, principal: Principal, path: Path) -> list[Node]:
    """The catalogs, with the branches on the path opened."""
    page = services.catalog.list_catalogs(principal, max_results=_BRANCH)
    nodes = [_catalog_node(item.name, current=path == Path(catalog=item.name)) for item in page.items]
    for node in nodes:
        if node["label"] == path.catalog:
            node.update(open=True, children=_schemas(services, principal, path))
    return [*nodes, *_more(page.next_page_token, urls.CATALOG)]


def _schemas(services: Services, principal: Principal, path: Path) -> list[Node]:
    assert path.catalog is not None
    page = services.catalog.list_schemas(principal, path.catalog, max_results=_BRANCH)
    nodes = [
        _schema_node(item.name, current=path == Path(catalog=path.catalog, schema=item.name.schema))
        for item in page.items
    ]
    for node in nodes:
        if node["label"] == path.schema:
            name = SchemaName(path.catalog, str(node["label"]))
            node.update(open=True, children=_objects(services, principal, name, path))
    return [*nodes, *_more(page.next_page_token, urls.catalog_url(path.catalog))]


def _objects(services: Services, principal: Principal, schema: SchemaName, path: Path) -> list[Node]:
    service = services.catalog
    found: list[Node] = []
    more: list[Node] = []
    listings = (
        ("table", "table", service.list_tables),
        ("volume", "folder", service.list_volumes),
        ("function", "function", service.list_functions),
        ("model", "deployed_code", service.list_models),
    )
    for kind, symbol, listing in listings:
        page = listing(principal, schema, max_results=_BRANCH)
        for item in page.items:
            view = isinstance(item, Table) and item.table_type is TableType.VIEW
            current = (kind, item.name.name) == (path.kind, path.name)
            found.append(_leaf(kind, item.name, "table_view" if view else symbol, current=current))
        more += _more(page.next_page_token, f"{urls.schema_url(schema)}?tab={kind}s")
    return found + more


def branch(services: Services, principal: Principal, node_id: str) -> list[Node]:
    """The children of a node, by the id that it was given here."""
    kind, _, rest = node_id.partition(":")
    if kind == "catalog":
        return _schemas(services, principal, Path(catalog=rest))
    name = SchemaName.of_full_name(rest)
    return _objects(services, principal, name, Path())


class CatalogTree(Element, component="components/catalog_tree.js"):
    """The tree on a page; branches load when somebody opens them."""

    def __init__(self, visit: Visit, nodes: Sequence[Node]) -> None:
        super().__init__()
        self.props["nodes"] = list(nodes)
        self._visit = visit
        self.on("expand", self._expand)

    async def _expand(self, event: Any) -> None:
        node_id = str(event.args)
        outcome = await self._visit.act(lambda principal: branch(self._visit.services, principal, node_id))
        outcome.notify_error()
        self.run_method("fill", node_id, outcome.value or [])


def _catalog_node(name: str, *, current: bool) -> Node:
    return _node(f"catalog:{name}", name, urls.catalog_url(name), "database", branch=True, current=current)


def _schema_node(name: SchemaName, *, current: bool) -> Node:
    return _node(f"schema:{name}", name.schema, urls.schema_url(name), "schema", branch=True, current=current)


def _leaf(kind: str, name: ObjectName, symbol: str, *, current: bool) -> Node:
    return _node(f"{kind}:{name}", name.name, urls.object_url(kind, name), symbol, branch=False, current=current)


def _more(token: str | None, href: str) -> list[Node]:
    if token is None:
        return []
    return [_node(f"more:{href}", "More…", href, "more_horiz", branch=False, current=False)]


def _node(node_id: str, label: str, href: str, symbol: str, *, branch: bool, current: bool) -> Node:
    return {
        "id": node_id, "label": label, "href": href, "symbol": symbol, "current": current,
        "branch": branch, "open": False, "children": None,
    }  # fmt: skip
