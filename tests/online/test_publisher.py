"""Who publishes what and when: leases, failures, removal; on both databases, without a server."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import deltalake
import pyarrow as pa
import pytest
from sqlalchemy import update

from millpond.catalog.domain import Column, ObjectName, TableConstraint, TableType
from millpond.catalog.service import CatalogService
from millpond.identity.domain import SYSTEM
from millpond.kernel.database import Database
from millpond.kernel.errors import Conflict, FailedPrecondition, NotFound
from millpond.kernel.settings import OnlineStoreSettings, S3Settings
from millpond.online import store
from millpond.online.backends.port import Change
from millpond.online.publisher import Fenced, Publisher
from millpond.online.reading import OnlineTables
from millpond.online.service import OnlineService
from millpond.online.stores import Backends
from millpond.online.tables import Mode, OnlineTable, State, StoreKind
from tests.catalog.conftest import build_catalog, build_people

SOURCE, NAME = ObjectName("main", "default", "t"), ObjectName("main", "default", "t_online")


@dataclass
class Room:
    """A table `t`, an embedded store, and as many publishers as a test wants."""

    database: Database
    catalog: CatalogService
    backends: Backends
    service: OnlineService
    location: str

    def publisher(self, owner: str) -> Publisher:
        return Publisher(self.database, self.catalog, self.backends, S3Settings(), owner=owner)

    def publish(self, mode: Mode = Mode.TRIGGERED) -> OnlineTable:
        return self.service.publish(SYSTEM, SOURCE, name=NAME, store_name="s", mode=mode)

    def write(self, **values: int) -> None:
        """Rows of the table, by id."""
        rows = [{"id": int(name[1:]), "v": value} for name, value in values.items()]
        schema = pa.schema([pa.field("id", pa.int64(), nullable=False), ("v", pa.int64())])
        deltalake.write_deltalake(self.location, pa.Table.from_pylist(rows, schema), mode="append")

    def state(self) -> OnlineTable:
        return self.service.get_table(SYSTEM, NAME).table

    def value(self, number: int) -> Any:
        """What is online of an id."""
        tables = OnlineTables(self.database, self.catalog, self.backends)
        (row,) = tables.rows(SYSTEM, str(NAME), [{"id": number}]).rows
        return row and row["v"]

    def set(self, **values: Any) -> None:
        """Change the online table's row, as time or a dead process would have."""
        with self.database.write() as connection:
            connection.execute(update(store.tables).values(values))


@pytest.fixture
def room(database: Database, tmp_path: Path) -> Iterator[Room]:
    people = build_people(database)
    catalog = build_catalog(database, people, tmp_path)
    staged = catalog.stage_table(SYSTEM, SOURCE)
    columns = [
        Column(name=name, type_text="bigint", type_json='"long"', nullable=name != "id", position=position)
        for position, name in enumerate(("id", "v"))
    ]
    Path(staged.storage_location.removeprefix("file://")).mkdir(parents=True)
    key = TableConstraint(name="pk", columns=("ID",))
    catalog.register_table(SYSTEM, staged, columns, TableType.MANAGED, constraints=[key])
    backends = Backends(tmp_path / "online", {})
    service = OnlineService(database, catalog, backends, S3Settings(), lambda: None)
    service.create_store(SYSTEM, "s", "CU_1")
    room = Room(database, catalog, backends, service, staged.storage_location)
    room.write(i1=1)
    yield room
    backends.close()


def test_a_table_is_published_once_for_each_time_it_was_asked(room: Room) -> None:
    room.publish()
    publisher = room.publisher("a")
    assert publisher.run_once()
    assert not publisher.run_once()
    assert (room.state().state, room.state().version, room.value(1)) == (State.ONLINE, 0, 1)
    room.write(i2=2)
    assert not publisher.run_once(), "nobody asked"
    room.publish()
    assert publisher.run_once()
    assert room.value(2) == 2


def test_a_continuous_table_is_looked_after_without_being_asked(room: Room) -> None:
    room.publish(Mode.CONTINUOUS)
    publisher = room.publisher("a")
    publisher.run_once()
    assert not publisher.run_once()
    room.write(i2=2)
    assert publisher.run_once()
    assert (room.value(2), room.state().version) == (2, 1)
    other = room.publisher("b")
    room.write(i3=3)
    assert other.run_once(), "one that has just come finds what happened before"
    assert not publisher.run_once()


def test_two_publishers_are_never_at_work_on_one_table(room: Room) -> None:
    table = room.publish()
    with room.database.write() as connection:
        leased = store.lease(connection, table, "dead.0")
    assert leased is not None
    assert not room.publisher("b").run_once(), "it is leased"
    past = datetime.now(UTC) - timedelta(seconds=1)
    room.set(due_at=past)
    assert not room.publisher("b").run_once(), "it still is"
    room.set(leased_until=past)
    assert room.publisher("b").run_once()
    with room.database.write() as connection:
        assert not store.renew(connection, leased, "dead.0")
        store.failed(connection, leased, "dead.0", "too late")
    assert (room.state().state, room.state().error) == (State.ONLINE, "")


def test_nothing_is_written_after_a_lease(room: Room) -> None:
    backend = room.backends.of(StoreKind.EMBEDDED, "s")
    holds = threading.Event()
    holds.set()
    fenced = Fenced(backend, holds.is_set)

    def changes() -> Iterator[Change]:
        for number in range(20_000):
            if number == 12_000:
                holds.clear()
            yield number.to_bytes(4, "big"), b"x"

    with pytest.raises(Conflict):
        fenced.write("x", 1, changes())
    acts: list[Callable[[], Any]] = [
        lambda: fenced.write("x", 1, []),
        lambda: fenced.drop("x"),
        lambda: fenced.publish("x", None),  # type: ignore[arg-type]
    ]
    for act in acts:
        with pytest.raises(Conflict):
            act()


def test_a_failure_is_told_and_tried_again(room: Room) -> None:
    room.publish()
    publisher = room.publisher("a")
    publisher.run_once()
    room.write(i2=2)
    log = Path(room.location.removeprefix("file://")) / "_delta_log"
    log.rename(log.with_name("gone"))
    room.publish()
    assert publisher.run_once()
    failed = room.state()
    assert (failed.state, failed.failures) == (State.FAILED, 1)
    assert failed.error == "TableNotFoundError; the server's log says more."
    assert room.location.removeprefix("file://") not in failed.error
    assert room.value(1) == 1, "what was published is still read"
    assert not publisher.run_once(), "not at once"
    log.with_name("gone").rename(log)
    room.set(due_at=datetime.now(UTC) - timedelta(seconds=1))
    assert publisher.run_once()
    assert (room.state().state, room.state().failures, room.value(2)) == (State.ONLINE, 0, 2)


def test_a_removed_table_goes_with_its_rows(room: Room, tmp_path: Path) -> None:
    table = room.publish()
    publisher = room.publisher("a")
    publisher.run_once()
    assert room.value(1) == 1
    room.service.delete_table(SYSTEM, NAME)
    with pytest.raises(NotFound):
        room.state()
    assert (tmp_path / "online" / table.id).exists()
    assert publisher.run_once()
    assert not (tmp_path / "online" / table.id).exists()
    assert not publisher.run_once()
    with room.database.read() as connection:
        assert not store.has_work(connection)


def test_a_table_whose_source_was_dropped_answers_nobody_and_can_be_deleted(room: Room) -> None:
    room.publish(Mode.CONTINUOUS)
    publisher = room.publisher("a")
    publisher.run_once()
    room.catalog.drop_table(SYSTEM, SOURCE)
    with pytest.raises(NotFound):
        room.value(1)
    assert publisher.run_once()
    with pytest.raises(NotFound, match="was dropped"):
        room.state()
    room.service.delete_table(SYSTEM, NAME)
    room.set(due_at=datetime.now(UTC) - timedelta(seconds=1))
    assert publisher.run_once()


def test_nothing_is_read_before_the_first_round(room: Room) -> None:
    room.publish()
    with pytest.raises(FailedPrecondition, match="nothing published yet"):
        room.value(1)


def test_a_store_that_the_settings_name_no_more_is_not_taken_for_an_embedded_one(tmp_path: Path) -> None:
    named = Backends(tmp_path, {"fast": OnlineStoreSettings(url="rediss://host/0")})
    assert named.kind_of("fast") is StoreKind.REDIS
    with pytest.raises(FailedPrecondition, match="'fast' is kept in redis"):
        Backends(tmp_path, {}).of(StoreKind.REDIS, "fast")


def test_a_password_may_be_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("p@ss/word\n")
    settings = OnlineStoreSettings(url="postgresql://mill@db/features", password_file=tmp_path / "secret")
    assert settings.full_url == "postgresql://mill:p%40ss%2Fword@db/features"
    assert "p@ss" not in repr(settings)


def test_many_who_make_one_store_or_table_at_once_make_one(room: Room) -> None:
    with ThreadPoolExecutor(4) as pool:
        made = [pool.submit(room.service.create_store, SYSTEM, "one", "CU_1") for _ in range(4)]
        errors = [each.exception() for each in made]
        published = [pool.submit(room.publish) for _ in range(4)]
        ids = {each.result().id for each in published}
    assert sorted(type(error).__name__ for error in errors) == ["AlreadyExists"] * 3 + ["NoneType"]
    assert len(ids) == 1
