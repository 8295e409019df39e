"""What was kept comes into the tables, once."""

import asyncio
import os
import shutil
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from deltalake import DeltaTable, Field
from deltalake.schema import MapType
from pyarrow.parquet import ColumnChunkMetaData, ParquetFile

from millpond.catalog.domain import ObjectName, SchemaName
from millpond.inference_tables import store
from millpond.inference_tables.domain import LABELS_SUFFIX, InferenceTable
from millpond.inference_tables.payload_log import PayloadLog
from millpond.inference_tables.segments import Record
from millpond.kernel.errors import AlreadyExists, InvalidArgument, NotFound, PermissionDenied, StorageFull
from millpond.serving.capture import AutoCapture
from tests.inference_tables.conftest import ADMIN, Captured, answered, asked, wanted
from tests.servers import wait_until


def test_requests_come_into_the_table_once_also_after_a_kill_between_the_commit_and_the_deletion(
    captured: Captured, tmp_path: Path
) -> None:
    log = captured.log(full_bytes=300)
    captures = captured.captures(log)
    kept = captures.prepare(captured.admin, "churn", wanted())
    for number in range(5):
        asyncio.run(captures.record(kept, asked(number), answered()))
    asyncio.run(captures.record(kept, asked(5), answered(b"{}", status=429)))
    log.seal(kept.table_id)
    shutil.copytree(captured.data_dir / "payloads", tmp_path / "killed")
    captured.committer(log).run_once()
    ids = [f"id-{number}" for number in range(6)]
    assert sorted(each["databricks_request_id"] for each in captured.rows(kept)) == ids
    assert log.waiting_bytes(kept.table_id) == 0

    shutil.copytree(tmp_path / "killed", captured.data_dir / "payloads", dirs_exist_ok=True)
    again = captured.log()
    asyncio.run(captured.captures(again).record(kept, asked(6), answered()))
    captured.committer(again).run_once()
    assert sorted(each["databricks_request_id"] for each in captured.rows(kept)) == [*ids, "id-6"]
    assert again.waiting_bytes(kept.table_id) == 0


@pytest.mark.parametrize("captured", ["postgresql"], indirect=True)
def test_several_servers_write_to_one_table(captured: Captured, tmp_path: Path) -> None:
    kept = captured.captures(captured.log()).prepare(captured.admin, "churn", wanted())

    def serve(server: int) -> None:
        log = PayloadLog(tmp_path / f"server-{server}")
        captures, committer = captured.captures(log), captured.committer(log)
        for number in range(5):
            asyncio.run(captures.record(kept, asked(10 * server + number), answered()))
            wait_until(lambda: committer.run_once() or not log.waiting_bytes(kept.table_id), what="the commit")

    with ThreadPoolExecutor() as servers:
        list(servers.map(serve, range(3)))
    ids = [f"id-{10 * server + number}" for server in range(3) for number in range(5)]
    assert sorted(each["databricks_request_id"] for each in captured.rows(kept)) == sorted(ids)


@pytest.mark.parametrize("captured", ["sqlite"], indirect=True)
def test_a_large_payload_that_is_being_written_keeps_no_other_request_waiting(captured: Captured) -> None:
    log = captured.log()
    captures = captured.captures(log)
    kept = captures.prepare(captured.admin, "churn", wanted())
    begun, go_on = threading.Event(), threading.Event()

    def write_for_long() -> bool:
        with log._lock:
            begun.set()
            return go_on.wait(10)

    async def record() -> bool:
        writing = asyncio.create_task(asyncio.to_thread(write_for_long))
        await asyncio.to_thread(begun.wait, 10)
        recording = asyncio.create_task(captures.record(kept, asked(), answered()))
        await asyncio.wait([recording], timeout=0)
        go_on.set()
        await recording
        return await writing

    assert asyncio.run(record()), "the loop went on meanwhile"
    assert log.waiting_bytes(kept.table_id) > 0


@pytest.mark.parametrize("captured", ["sqlite"], indirect=True)
def test_payloads_of_any_size(captured: Captured) -> None:
    log = captured.log()
    captures = captured.captures(log)
    kept = captures.prepare(captured.admin, "churn", wanted())
    large, larger = b'{"inputs": "' + b"x" * (16 << 20) + b'"}', b'{"predictions": ["' + b"y" * (20 << 20) + b'"]}'
    asyncio.run(captures.record(kept, asked(body=large), answered(larger)))
    captured.committer(log).run_once()
    rows = captured.rows(kept)
    assert [(len(each["request"]), each["response_bytes"]) for each in rows] == [(len(large), len(larger))]
    assert rows[0]["response"].encode() == larger


def test_each_label_is_there_once_and_the_last_one_counts(captured: Captured) -> None:
    log = captured.log()
    kept = captured.captures(log).prepare(captured.admin, "churn", wanted())
    committer = captured.committer(log)
    for at, labels in ((1, b'[["a",0,"1"],["b",0,"1"],["b",0,"2"]]'), (2, b'[["a",0,"3"],["a",1,"4"]]')):
        log.append(kept.table_id + LABELS_SUFFIX, Record(about={"at": at, "who": ADMIN}, request=labels))
        committer.run_once()
    found = {
        (each["databricks_request_id"], each["row_index"]): each["label"] for each in captured.rows(kept, "_labels")
    }
    assert found == {("a", 0): "3", ("a", 1): "4", ("b", 0): "2"}
    assert len(captured.rows(kept, "_labels")) == 3


def test_two_logs_that_come_into_one_table_are_counted_each_by_itself(captured: Captured) -> None:
    """A payload table that was dropped and made anew has the labels of the old one beside it."""
    log = captured.log()
    captures, committer = captured.captures(log), captured.committer(log)
    for label in ("a", "b"):
        kept = captures.prepare(captured.admin, "churn", wanted())
        request = f'[["{label}",0,"1"]]'.encode()
        log.append(kept.table_id + LABELS_SUFFIX, Record(about={"at": 1, "who": ADMIN}, request=request))
        committer.run_once()
        captured.catalog.drop_table(captured.admin, ObjectName("main", "default", "churn_payload"))
    assert {each["databricks_request_id"] for each in captured.rows(kept, "_labels")} == {"a", "b"}


@pytest.mark.parametrize("captured", ["sqlite"], indirect=True)
def test_columns_that_users_add_stay_empty(captured: Captured) -> None:
    log = captured.log()
    captures = captured.captures(log)
    kept = captures.prepare(captured.admin, "churn", wanted())
    added = [Field("note", "string"), Field("tags", MapType("string", "string", value_contains_null=True))]
    for suffix in ("", "_labels"):
        DeltaTable(captured.table(kept, suffix).storage_location).alter.add_columns(added)
    asyncio.run(captures.record(kept, asked(), answered()))
    about = {"at": 1, "who": ADMIN}
    log.append(kept.table_id + LABELS_SUFFIX, Record(about=about, request=b'[["a",0,"1"]]'))
    captured.committer(log).run_once()
    for suffix in ("", "_labels"):
        (row,) = captured.rows(kept, suffix)
        assert (row["note"], row["tags"]) == (None, None)


def test_a_table_that_is_gone_keeps_its_rows_waiting_and_nobody_elses(captured: Captured) -> None:
    log = captured.log()
    captures = captured.captures(log, limit_bytes=1)
    kept, other = (captures.prepare(captured.admin, name, wanted(name)) for name in ("churn", "other"))
    captured.catalog.drop_table(captured.admin, ObjectName("main", "default", "churn_payload"))
    for each in (kept, other):
        captures.check_room(each)
        asyncio.run(captures.record(each, asked(), answered()))
    captured.committer(log).run_once()
    assert len(captured.rows(other)) == 1
    state = captures.states([kept.table_id])[kept.table_id]
    assert (state.status, "UNDROP TABLE" in state.message) == ("FAILED", True)
    with pytest.raises(StorageFull, match=r"main\.default\.churn_payload is full"):
        captures.check_room(kept)
    dropping = captured.captures(log, limit_bytes=1, when_full="drop")
    dropping.check_room(kept)
    waiting = log.waiting_bytes(kept.table_id)
    asyncio.run(dropping.record(kept, asked(), answered()))
    assert log.waiting_bytes(kept.table_id) == waiting > 0

    captured.catalog.undrop_table(captured.admin, ObjectName("main", "default", "churn_payload"))
    captured.committer(log).run_once()
    assert len(captured.rows(kept)) == 1
    assert captures.states([kept.table_id])[kept.table_id].status == "ACTIVE"


@pytest.mark.parametrize("captured", ["sqlite"], indirect=True)
def test_who_turned_it_on_and_may_not_write_there_any_more_writes_no_more(captured: Captured) -> None:
    user = captured.user("ann@example.com")
    captured.catalog.update_schema(captured.admin, SchemaName("main", "default"), owner=user.name)
    log = captured.log()
    captures = captured.captures(log)
    kept = captures.prepare(user, "churn", wanted())
    assert captured.table(kept).owner == user.name
    captured.catalog.update_schema(captured.admin, SchemaName("main", "default"), owner=ADMIN)
    captured.catalog.update_table(captured.admin, captured.table(kept).name, owner=ADMIN)
    asyncio.run(captures.record(kept, asked(), answered()))
    captured.committer(log).run_once()
    state = captures.states([kept.table_id])[kept.table_id]
    assert (state.status, state.message.partition(":")[0]) == ("FAILED", "NotFound")
    assert captured.rows(kept) == []


@pytest.mark.parametrize("captured", ["sqlite"], indirect=True)
def test_what_was_only_prepared_changes_nothing_of_a_table(captured: Captured) -> None:
    """As before an update that is refused, or that another endpoint's was faster than."""
    user = captured.user("ann@example.com")
    captures = captured.captures(captured.log())
    kept = captures.prepare(captured.admin, "churn", wanted())
    raced = captures.prepare(captured.admin, "another", wanted())
    with captured.database.write() as connection:
        captures.attach(connection, captured.admin, ("e1", "churn"), kept)
    captured.catalog.update_schema(captured.admin, SchemaName("main", "default"), owner=user.name)
    prepared = captures.prepare(user, "churn", wanted())

    def table() -> InferenceTable:
        with captured.database.read() as connection:
            (found,) = store.with_ids(connection, [kept.table_id])
        return found

    assert (table().writer, table().endpoint) == (ADMIN, "churn")
    with (
        captured.database.write() as connection,
        pytest.raises(AlreadyExists, match="inference table of endpoint 'churn'"),
    ):
        captures.attach(connection, captured.admin, ("e2", "another"), raced)
    assert table().endpoint_id == "e1"
    with captured.database.write() as connection:
        captures.attach(connection, user, ("e1", "churn"), prepared)
    assert table().writer == user.name
    with captured.database.write() as connection:
        captures.attach(connection, captured.admin, ("e1", "churn"), prepared)  # an update that leaves it as it is
    assert table().writer == user.name


def test_tables_of_others_are_not_taken(captured: Captured) -> None:
    captures = captured.captures(captured.log())
    stranger = captured.user("eve@example.com")
    kept = captures.prepare(captured.admin, "churn", wanted())
    assert captures.prepare(captured.admin, "churn", wanted()) == kept, "as after a create that was cut off"
    with captured.database.write() as connection:
        captures.attach(connection, captured.admin, ("e1", "churn"), kept)
    with pytest.raises(AlreadyExists, match="inference table of endpoint 'churn'"):
        captures.prepare(captured.admin, "another", wanted())
    with pytest.raises(NotFound):
        captures.prepare(stranger, "another", wanted())
    with pytest.raises(PermissionDenied, match="without CREATE TABLE"):
        captures.prepare(stranger, "another", wanted("new"))
    staged = captured.catalog.stage_table(captured.admin, ObjectName("main", "default", "mine_payload"))
    columns = captured.table(kept).columns[:3]
    captured.catalog.register_table(captured.admin, staged, columns, captured.table(kept).table_type)
    with pytest.raises(InvalidArgument, match="no inference table: it has no column 'timestamp_ms' of type bigint"):
        captures.prepare(captured.admin, "churn", wanted("mine"))
    with captured.database.write() as connection:
        captures.detach(connection, "e1")
    assert captures.prepare(captured.admin, "another", wanted()).table_id == kept.table_id, "its endpoint is gone"


@pytest.mark.parametrize("captured", ["sqlite"], indirect=True)
def test_small_files_are_put_together(captured: Captured) -> None:
    log = captured.log()
    captures = captured.captures(log)
    kept = captures.prepare(captured.admin, "churn", wanted())
    committer = captured.committer(log, compact_every=4)
    for number in range(4):
        asyncio.run(captures.record(kept, asked(number), answered()))
        committer.run_once()
        committer.compact()
    assert len(DeltaTable(captured.table(kept).storage_location).file_uris()) == 1
    assert len(captured.rows(kept)) == 4


@pytest.mark.parametrize("captured", ["sqlite"], indirect=True)
def test_bodies_are_not_searched_for_equal_ones_and_rows_are_still_found_by_the_rest(captured: Captured) -> None:
    log = captured.log()
    captures = captured.captures(log)
    kept = captures.prepare(captured.admin, "churn", wanted())
    committer = captured.committer(log, compact_every=2)
    for number in range(2):
        asyncio.run(captures.record(kept, asked(number), answered()))
        committer.run_once()
        (column,) = _columns(captured, kept, "databricks_request_id")[-1:]
        assert (column.statistics.min, "RLE_DICTIONARY" in column.encodings) == (f"id-{number}", True)
    bodies = [body for name in ("request", "inputs.list.element") for body in _columns(captured, kept, name)]
    assert {(each.compression, each.is_stats_set, each.encodings) for each in bodies} == {
        ("LZ4", False, ("PLAIN", "RLE"))
    }
    committer.compact()
    assert [each.compression for each in _columns(captured, kept, "request")] == ["ZSTD"]


def _columns(captured: Captured, kept: AutoCapture, name: str) -> list[ColumnChunkMetaData]:
    """What Parquet says of a column in each file of the table, the newest last."""
    files = DeltaTable(captured.table(kept).storage_location).file_uris()
    groups = [ParquetFile(each).metadata.row_group(0) for each in sorted(files, key=os.path.getmtime)]
    columns = [group.column(number) for group in groups for number in range(group.num_columns)]
    return [each for each in columns if each.path_in_schema == name]


KILLS = 60 if "MILLPOND_TEST_ALL" in os.environ else 6


@pytest.mark.parametrize("captured", ["sqlite"], indirect=True)
def test_after_kills_at_any_point_each_request_that_was_answered_is_there_once(captured: Captured) -> None:
    kept = captured.captures(captured.log()).prepare(captured.admin, "churn", wanted())
    arguments = [str(captured.data_dir), captured.database.url, kept.table_id, str(KILLS)]
    done = subprocess.run(
        [sys.executable, "-m", "tests.inference_tables.killed", *arguments], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    answered_ids = done.stdout.split()
    captured.committer(captured.log()).run_once()
    found = [each["databricks_request_id"] for each in captured.rows(kept)]
    assert len(found) == len(set(found)), "some are there twice"
    assert set(answered_ids) <= set(found), "some are missing"
    assert len(answered_ids) > KILLS
