"""Recording, on both databases: each observation once, renewed edges, and notes of processes that died."""

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import pytest

from millpond.catalog.service import CatalogService
from millpond.journal.spool import Spool
from millpond.kernel.database import Database
from millpond.kernel.settings import LineageSettings
from millpond.lineage import store
from millpond.lineage.domain import Act, Direction, Entity, Known, Observation
from millpond.lineage.drain import LineageDrain
from millpond.lineage.emission import Emitter
from millpond.lineage.service import LineageService, record_in
from tests.catalog.conftest import build_catalog, build_people
from tests.lineage.observations import inserted, table


def record(database: Database, *observations: Observation) -> int:
    with database.write() as connection:
        return record_in(connection, observations)


def edges(database: Database, node: str, direction: Direction = Direction.UPSTREAM) -> list[tuple[str, int, str]]:
    with database.read() as connection:
        found = store.edges_at(connection, [table(node).id], direction, 100)
        names = {row.id: row.name for row in store.find_nodes(connection, [e.source_id for e in found]).values()}
    return [(names[edge.source_id], edge.count, edge.known.value) for edge in found]


def test_an_observation_counts_once_however_often_it_is_told(database: Database) -> None:
    first = inserted("first", "a", "b", columns=[("x", "y")])
    assert record(database, first, first) == 1
    assert record(database, first) == 0
    assert record(database, inserted("second", "a", "b")) == 1
    assert edges(database, "b") == [("a", 2, "observed")]
    with database.read() as connection:
        events = store.events_after(connection, 0, 10)
        columns = store.column_events_after(connection, 0, 10)
    assert [event.sequence for event in events] == [1, 2]
    assert [(each.source_column, each.target_column, each.source_name) for each in columns] == [("x", "y", "a")]


def test_what_is_declared_does_not_hide_what_was_observed(database: Database) -> None:
    act = Act(
        actor="eve", time=datetime.now(UTC), operation="X", known=Known.DECLARED, entity=Entity(type="JOB", id="j")
    )
    declared = Observation(id="d" * 36, act=act, sources=(table("a"),), target=table("b"))
    record(database, inserted("one", "a", "b"), declared)
    assert edges(database, "b") == [("a", 1, "observed")]


def test_what_is_defined_anew_has_only_its_new_edges(database: Database) -> None:
    record(database, inserted("one", "a", "v", columns=[("x", "x")], replaces=True))
    record(database, inserted("two", "c", "v", replaces=True))
    assert edges(database, "v") == [("c", 1, "observed")]
    record(database, inserted("three", "a", "v", replaces=True))
    assert edges(database, "v") == [("a", 2, "observed")]


@pytest.fixture
def catalog(database: Database, tmp_path: Path) -> CatalogService:
    return build_catalog(database, build_people(database), tmp_path)


def test_notes_of_a_process_that_died_are_read_and_torn_ones_passed_over(
    database: Database, catalog: CatalogService, tmp_path: Path
) -> None:
    """Whole lines count, also where the last one was cut off; then the file goes. A second reader adds nothing."""
    spool = Spool(tmp_path / "notes")
    told = [orjson.dumps({"from": name, "to": "t"}) + b"\n" for name in ("a", "b")]
    for line in (*told, b'{"from": "c", "to'):
        spool.append(line)

    def read(note: Any) -> Observation:
        return inserted(note["from"], note["from"], note["to"])

    drains = [LineageDrain(LineageService(database, catalog), tmp_path / "notes", lambda: read) for _ in range(2)]
    assert drains[0].run_once() == 2
    assert drains[1].run_once() == 0
    assert os.listdir(tmp_path / "notes")
    spool.close()
    assert drains[0].run_once() == 0
    assert os.listdir(tmp_path / "notes") == []
    assert {name for name, _, _ in edges(database, "t")} == {"a", "b"}


def test_an_endpoint_that_is_away_gets_everything_later(database: Database, tmp_path: Path) -> None:
    emitter = Emitter(database, LineageSettings(openlineage_file=tmp_path / "sub" / "events.jsonl"))
    emitter.run_once()
    record(database, inserted("one", "a", "b"))
    emitter.run_once()  # there is no such directory: it waits
    (tmp_path / "sub").mkdir()
    record(database, inserted("two", "b", "c"))
    emitter.run_once()
    lines = (tmp_path / "sub" / "events.jsonl").read_text().splitlines()
    assert [orjson.loads(line)["outputs"][0]["name"] for line in lines] == ["b", "c"]
