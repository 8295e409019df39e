"""Many feature tables cost as few queries as one."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import event

from millpond.catalog.domain import TableConstraint
from millpond.catalog.search import Wanted
from millpond.catalog.service import CatalogService
from millpond.feature_tables.service import FeatureTableService
from millpond.kernel.clock import utc_now
from millpond.kernel.database import Database
from millpond.kernel.ids import new_id
from millpond.kernel.settings import LineageSettings, S3Settings
from millpond.lineage.domain import Act, ColumnFlow, Known, Node, NodeKind, Observation
from millpond.lineage.room import LineageRoom, open_lineage
from millpond.lineage.service import record_in, table_node
from millpond.online.service import OnlineService
from millpond.online.stores import Backends
from millpond.tracking.lineage import ModelLineage
from tests.catalog.conftest import People, build_catalog, build_people, make_table

KEY = TableConstraint(name="pk", columns=("id",))
TABLES = 120
MANY = 150
"""Runs that use one table: more than are looked at."""


@pytest.fixture
def people(database: Database) -> People:
    return build_people(database)


@pytest.fixture
def catalog(database: Database, people: People, tmp_path: Path) -> CatalogService:
    """A schema of many tables with a key, of which every third is used by a run."""
    made = build_catalog(database, people, tmp_path)
    observed = []
    for number in range(TABLES):
        table = make_table(made, people.admin, f"main.default.t{number:03d}", constraints=[KEY])
        if number % 3 == 0:
            observed.append(_flow(table_node(table), _run(f"run-{number}")))
    observed += [_flow(table_node(table), _run(f"nightly-{number}")) for number in range(MANY)]  # of the last table
    with database.write() as connection:
        record_in(connection, observed)
    return made


@pytest.fixture
def lineage(database: Database, catalog: CatalogService, tmp_path: Path) -> LineageRoom:
    return open_lineage(database, catalog, LineageSettings(), tmp_path / "notes", lambda: lambda _note: None)


@pytest.fixture
def service(database: Database, catalog: CatalogService, lineage: LineageRoom, tmp_path: Path) -> FeatureTableService:
    online = OnlineService(database, catalog, Backends(tmp_path / "online", {}), S3Settings(), lambda: None)
    return FeatureTableService(catalog, lineage, ModelLineage(catalog), online)


@contextmanager
def counted(database: Database) -> Iterator[list[str]]:
    """The statements that the block sends."""
    told: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_rest: object) -> None:
        told.append(statement)

    event.listen(database.engine, "before_cursor_execute", note)
    try:
        yield told
    finally:
        event.remove(database.engine, "before_cursor_execute", note)


def test_a_page_of_many_tables_takes_as_many_queries_as_one_of_few(
    database: Database, service: FeatureTableService, lineage: LineageRoom, people: People
) -> None:
    lineage.lineage.on_kind(NodeKind.RUN, lambda _who, found: {node.id: node for node in found})
    with counted(database) as few:
        assert len(service.list(people.admin, Wanted(), max_results=3).items) == 3
    with counted(database) as many:
        page = service.list(people.admin, Wanted(), max_results=100)
    assert len(page.items) == 100
    assert [len(each.consumers.every) for each in page.items[:4]] == [1, 0, 0, 1]
    assert len(many) == len(few) < 15


def test_pages_of_unused_tables_hold_each_once(
    service: FeatureTableService, lineage: LineageRoom, people: People
) -> None:
    lineage.lineage.on_kind(NodeKind.RUN, lambda _who, found: {node.id: node for node in found})
    names, token = [], None
    while True:
        page = service.list(people.admin, Wanted(), unused=True, max_results=30, page_token=token)
        names += [each.table.name.name for each in page.items]
        token = page.next_page_token
        if token is None:
            break
    assert names == [f"t{number:03d}" for number in range(TABLES - 1) if number % 3]


def test_what_is_used_by_what_one_may_not_see_is_unused(service: FeatureTableService, people: People) -> None:
    """Nobody sees runs here, as no room has said who may."""
    page = service.list(people.admin, Wanted(text="t000"), unused=True)
    assert [(each.table.name.name, each.consumers.every) for each in page.items] == [("t000", ())]
    assert service.list(people.admin, Wanted(text=f"t{TABLES - 1}"), unused=True).items == ()  # not for certain


def test_endpoints_use_the_columns_that_they_are_said_to(
    database: Database, catalog: CatalogService, service: FeatureTableService, lineage: LineageRoom, people: People
) -> None:
    """At once, or by way of an online table, which is no use itself; what says no columns may use all that it has."""
    made = make_table(catalog, people.admin, "main.default.served", constraints=[KEY])
    table, online = table_node(made), Node(kind=NodeKind.ONLINE_TABLE, key="o", name="o")
    ends = [Node(kind=NodeKind.ENDPOINT, key=name, name=name) for name in ("direct", "named", "unnamed")]
    with database.write() as connection:
        record_in(connection, [
            _flow(table, online, "id", "name"), _flow(table, ends[0], "id"), _flow(online, ends[1], "NAME"),
            _flow(online, ends[2]),
        ])  # fmt: skip
    for kind in (NodeKind.ONLINE_TABLE, NodeKind.ENDPOINT):
        lineage.lineage.on_kind(kind, lambda _who, found: {node.id: node for node in found})
    [feature] = service.get(people.admin, made.name).features
    assert (feature.column.name, sorted(feature.consumers.endpoints)) == ("name", ["named", "unnamed"])
    [listed] = service.list(people.admin, Wanted(text="served")).items
    assert sorted(listed.consumers.endpoints) == ["direct", "named", "unnamed"]


def _flow(source: Node, target: Node, *columns: str) -> Observation:
    act = Act(actor="ada", time=utc_now(), operation="SERVE", known=Known.DECLARED)
    flows = tuple(ColumnFlow(source=source, source_column=name, target_column=name) for name in columns)
    return Observation(id=new_id(), act=act, sources=(source,), target=target, columns=flows)


def _run(name: str) -> Node:
    return Node(kind=NodeKind.RUN, key=name, name=name)
