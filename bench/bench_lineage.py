"""What lineage costs: on the path of a query and of a write, how fast notes are read, and how fast it answers.

The peer of a query and of a write is the same call in a process that notes nothing.
"""

import asyncio
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import orjson
from tests.catalog.conftest import build_catalog, build_people, make_table
from tests.lineage.observations import table as node

from bench.report import heading, line, median, row
from millpond.catalog.domain import SchemaName, Table
from millpond.catalog.service import CatalogService
from millpond.engine import proto
from millpond.engine.lineage import capture
from millpond.engine.lineage.reading import note_reader
from millpond.engine.needs import Needs
from millpond.engine.sessions import Session
from millpond.identity.domain import Principal
from millpond.journal.spools import SpoolReader
from millpond.kernel.clock import utc_now
from millpond.kernel.database import Database
from millpond.kernel.migrations import ensure_schema
from millpond.lineage.domain import Act, ColumnFlow, Known, Observation
from millpond.lineage.impact import Impact
from millpond.lineage.service import LineageService

CALLS, ROUNDS = 2000, 9
TABLES, FAN_OUT, COLUMNS = 2000, 3, 10


def main() -> None:
    """Each figure in turn."""
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        database = Database(f"sqlite:///{root}/millpond.db")
        ensure_schema(database)
        people = build_people(database)
        catalog = build_catalog(database, people, root)
        catalog.create_schema(people.admin, catalog="main", name="bench")
        tables = [make_table(catalog, people.admin, f"main.bench.t{number}") for number in range(3)]
        _path(root, people.admin, tables)
        _notes(root, catalog, people.admin, tables)
        _graph(database, catalog, people.admin)
        database.dispose()


@contextmanager
def _noting(directory: Path) -> Iterator[None]:
    capture.open_spool(directory)
    yield
    capture.close_spool()


def _path(root: Path, who: Principal, tables: list[Table]) -> None:
    heading(f"On the path of a query and of a write (median of {ROUNDS} x {CALLS})")
    session = Session(id=str(uuid.uuid4()), principal=who)
    needs, plan = _needs(tables), _plan(tables)

    async def rounds(work: Callable[[], Any]) -> tuple[list[float], list[float]]:
        with_it, without = [], []
        for _ in range(ROUNDS):
            with _noting(root / "spool"):
                with_it.append(_each_us(work))
            without.append(_each_us(work))
        return with_it, without

    reading = asyncio.run(rounds(lambda: capture.read(session, needs)))
    row("a query of three tables with and without", median(reading[0]), median(reading[1]), "us")
    target = tables[0]
    writing = asyncio.run(rounds(lambda: capture.wrote(session, "INSERT", plan, needs, target=target)))
    row("a write out of three tables with and without", median(writing[0]), median(writing[1]), "us")
    line("what lineage adds to a write", median(writing[0]) - median(writing[1]), "us", goal="goal < 1000 us")


def _needs(tables: list[Table]) -> Needs:
    needs = Needs()
    for each in tables:
        needs.tables[each.storage_location] = needs.direct[each.id] = each
    return needs


def _plan(tables: list[Table]) -> Any:
    relation = proto.relations.Relation()
    relation.with_relations.root.sql.query = (
        "SELECT t0.id, upper(t1.name) AS name FROM t0 JOIN t1 ON t0.id = t1.id WHERE t0.id IN (SELECT id FROM t2)"
    )
    for number, each in enumerate(tables):
        reference = relation.with_relations.references.add()
        reference.subquery_alias.alias = f"t{number}"
        reference.subquery_alias.input.read.data_source.format = "delta"
        reference.subquery_alias.input.read.data_source.paths.append(each.storage_location)
    return relation


def _each_us(work: Callable[[], Any]) -> float:
    began = time.perf_counter()
    for _ in range(CALLS):
        work()
    return (time.perf_counter() - began) / CALLS * 1e6


def _notes(root: Path, catalog: CatalogService, who: Principal, tables: list[Table]) -> None:
    heading("In the background")
    session = Session(id=str(uuid.uuid4()), principal=who)
    with _noting(root / "notes"):
        for _ in range(300):
            capture.wrote(session, "INSERT", _plan(tables), _needs(tables), target=tables[0])
    notes = list(next(SpoolReader(root / "notes").pieces(10 << 20)).lines)
    read = note_reader(catalog)
    began = time.perf_counter()
    observations = [read(orjson.loads(each)) for each in notes]
    line(f"columns of {len(observations)} joins read", len(observations) / (time.perf_counter() - began), "/s")
    lineage = LineageService(catalog.database, catalog)
    began = time.perf_counter()
    lineage.record([replace(each, id=str(uuid.uuid4())) for each in observations])
    line("and recorded", len(observations) / (time.perf_counter() - began), "/s")


def _graph(database: Database, catalog: CatalogService, who: Principal) -> None:
    heading(
        f"Answers over {TABLES} tables, {TABLES * FAN_OUT} edges, {TABLES * FAN_OUT * COLUMNS} column edges (SQLite)"
    )
    lineage = LineageService(database, catalog)
    made = [node(f"bench-{number}") for number in range(TABLES)]
    act = Act(actor="ada", time=utc_now(), operation="INSERT", known=Known.OBSERVED)
    for start in range(0, TABLES, 100):
        lineage.record([_observation(made, number, act) for number in range(start, min(start + 100, TABLES))])
    root = lineage.table_node(who, catalog.list_tables(who, SchemaName("main", "bench")).items[0].name)
    # ids stand for tables that are not in the catalog: whoever asks sees them all, as the cost is the graph's
    lineage.on_kind(root.kind, lambda _who, found: {each.id: each for each in found})
    with database.read() as connection:
        middle = lineage.see(who, connection, [made[TABLES // 2].id])[made[TABLES // 2].id]
    line("graph of five steps each way", _once_ms(lambda: lineage.graph(who, middle, steps=5)), "ms")
    line("impact of a column", _once_ms(lambda: Impact(database, lineage).of(who, middle, "c0")), "ms")


def _observation(made: list[Any], number: int, act: Act) -> Observation:
    sources = tuple(made[(number * FAN_OUT + step) // (FAN_OUT + 1)] for step in range(FAN_OUT))
    flows = tuple(
        ColumnFlow(source=source, source_column=f"c{column}", target_column=f"c{column}")
        for source in sources
        for column in range(COLUMNS)
    )
    return Observation(id=str(uuid.uuid4()), act=act, sources=sources, target=made[number], columns=flows)


def _once_ms(work: Callable[[], Any]) -> float:
    work()
    began = time.perf_counter()
    work()
    return (time.perf_counter() - began) * 1e3


if __name__ == "__main__":
    main()
