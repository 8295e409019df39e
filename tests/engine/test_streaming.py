"""The parts of streaming that need no gateway."""

import json
import os
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake
from pyarrow import parquet

from millpond.catalog.storage.local import LocalTree
from millpond.engine.authorship import Author
from millpond.engine.delta.append import write_rows
from millpond.engine.delta.table import CommitConflict, Once, Storage, commit, open_table
from millpond.engine.errors import SparkError
from millpond.engine.streaming.added import lay_out, rows_in
from millpond.engine.streaming.checkpoint import Checkpoint
from millpond.engine.streaming.log import AddedFile, TableLog
from millpond.engine.streaming.offsets import Offset, parse_offset
from millpond.engine.streaming.plans import aggregates
from millpond.engine.streaming.requests import interval_s
from millpond.kernel.errors import InvalidArgument

AUTHOR = Author(id="1", name="ada")
ROWS = pa.table({"a": [1, 2]})


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("5 seconds", 5), ("0 seconds", 0), ("1 minute", 60), ("500 milliseconds", 0.5), ("interval 2 hours", 7200),
        ("1 minute 30 seconds", 90), ("10s", 10), ("250 ms", 0.25), ("1 Second", 1),
    ],
)  # fmt: skip
def test_intervals_are_read_as_spark_reads_them(text: str, seconds: float) -> None:
    assert interval_s(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "soon", "5", "-1 seconds", "5 parsecs", "seconds 5"])
def test_what_is_no_interval_is_refused(text: str) -> None:
    with pytest.raises(SparkError, match="INVALID_INTERVAL_FORMAT"):
        interval_s(text)


def test_offsets_are_deltas_own() -> None:
    offset = Offset(version=7, index=2, snapshot=True)
    text = offset.to_json("t")
    assert json.loads(text) == {
        "sourceVersion": 1, "reservoirId": "t", "reservoirVersion": 7, "index": 2, "isStartingVersion": True,
    }  # fmt: skip
    assert parse_offset(text, "t") == offset
    assert Offset(version=7, index=2) < Offset(version=8)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("-", "UNREADABLE"), ("[]", "UNREADABLE"), ("{}", "UNREADABLE"),
        (Offset(version=1).to_json("other"), "DIFFERENT_DELTA_TABLE"),
        (Offset(version=-1).to_json("t"), "UNREADABLE"),
        (Offset(version=1).to_json("t").replace('"sourceVersion":1', '"sourceVersion":9'), "UNREADABLE"),
    ],
)  # fmt: skip
def test_what_a_checkpoint_says_is_checked(text: str, error: str) -> None:
    with pytest.raises(SparkError, match=error):
        parse_offset(text, "t")


def test_a_checkpoint_remembers_and_forgets(tmp_path: Path) -> None:
    checkpoint = Checkpoint(LocalTree(tmp_path, shown="/Volumes/c/s/v"), ("q",), "/Volumes/c/s/v/q", "file:///q")
    query_id = checkpoint.query_id()
    assert checkpoint.query_id() == query_id
    position = checkpoint.position([lambda: "first"])
    assert (position.batch_id, position.start, position.end) == (0, ("first",), None)
    assert checkpoint.position([lambda: "another"]).start == ("first",), "where it began stays"
    for number in range(102):
        checkpoint.plan(number, [f"end {number}"])
        checkpoint.commit(number)
    position = checkpoint.position([lambda: "first"])
    assert (position.batch_id, position.start, position.end) == (102, ("end 101",), None)
    checkpoint.plan(102, ["end 102"])
    position = checkpoint.position([lambda: "first"])
    assert (position.batch_id, position.start, position.end) == (102, ("end 101",), ("end 102",))
    with pytest.raises(SparkError, match="CONCURRENT_STREAM_LOG_UPDATE"):
        checkpoint.plan(102, ["end of a twin"])
    with pytest.raises(SparkError, match="1 sources in the checkpoint offsets"):
        checkpoint.position([lambda: "first", lambda: "second"])
    assert len(list((tmp_path / "q" / "offsets").iterdir())) == 101
    (tmp_path / "q" / "metadata").write_text('{"id": "../../elsewhere"}')
    with pytest.raises(SparkError, match="is no file of a streaming query's checkpoint"):
        checkpoint.query_id()


def test_a_batch_is_committed_once_and_a_twin_conflicts(tmp_path: Path) -> None:
    storage = Storage(url=tmp_path.as_uri())
    write_deltalake(tmp_path, ROWS)
    once = Once(application="query", version=0)
    twin = open_table(storage)  # it has found no such batch, and is about to write it
    for _ in range(2):
        write_rows(storage, AUTHOR, ROWS.to_batches(), overwrite=False, options={}, once=once)
    assert DeltaTable(tmp_path).version() == 1
    with pytest.raises(CommitConflict):
        commit(
            twin, AUTHOR, lambda noted: write_deltalake(twin, ROWS, mode="append", commit_properties=noted), once=once
        )
    write_rows(storage, AUTHOR, ROWS.to_batches(), overwrite=False, options={}, once=Once(application="q", version=0))
    assert DeltaTable(tmp_path).to_pyarrow_table().num_rows == 6


def test_a_log_tells_what_commits_did(tmp_path: Path) -> None:
    write_deltalake(tmp_path, pa.table({"a": [1, 2], "p": ["x/y", None]}), partition_by=["p"])
    table = DeltaTable(tmp_path)
    table.delete("a = 1")
    table.optimize.compact()
    log = TableLog(Storage(url=tmp_path.as_uri()), LocalTree(tmp_path, shown="t"), "t")
    first, second = log.commit(0), log.commit(1)
    assert first is not None and second is not None  # noqa: PT018 - one fact
    assert sorted((file.partition_values["p"] or "", file.rows) for file in first.added) == [("", 1), ("x/y", 1)]
    assert first.fields is not None
    assert all((tmp_path / file.path).exists() for file in first.added)
    assert (second.added, second.removed is not None) == ((), True)
    assert log.commit(2) is None
    assert {file.path for file in log.snapshot(1)} < {file.path for file in log.snapshot(0)}
    assert log.snapshot(0)[0].partition_values.keys() == {"p"}


@pytest.mark.parametrize(
    "path",
    [
        "../key",
        "a/../../key",
        "..%2Fkey",
        "%2e%2e/key",
        "/etc/passwd",
        "%2Fetc/passwd",
        "a//b",
        "./a",
        "a%00",
        "file:///etc/passwd",
    ],
)
def test_a_log_that_names_files_outside_of_its_table_is_refused(tmp_path: Path, path: str) -> None:
    write_deltalake(tmp_path, ROWS)
    add = {"path": path, "partitionValues": {}, "size": 1, "modificationTime": 1, "dataChange": True}
    (tmp_path / "_delta_log" / f"{1:020d}.json").write_text(json.dumps({"add": add}))
    log = TableLog(Storage(url=tmp_path.as_uri()), LocalTree(tmp_path, shown="t"), "t")
    for read in (log.commit, log.snapshot):
        with pytest.raises(SparkError, match="files outside of the table"):
            read(1)


def test_only_files_of_the_table_itself_are_laid_out(tmp_path: Path) -> None:
    table, outside = tmp_path / "table", tmp_path / "key"
    write_deltalake(table, ROWS)
    outside.write_text("secret")
    (table / "link").symlink_to(outside)
    (table / "directory").symlink_to(tmp_path)
    os.mkfifo(table / "fifo")
    log = TableLog(Storage(url=table.as_uri()), LocalTree(table, shown="t"), "t")
    commit = log.commit(0)
    assert commit is not None
    lay_out(tmp_path / "laid", commit.added, log.shape(), log)
    assert DeltaTable(tmp_path / "laid").to_pyarrow_table() == ROWS
    assert (tmp_path / "laid" / "000000.parquet").stat().st_nlink == 2
    for number, name in enumerate(["link", "directory/key", "fifo"]):
        file = AddedFile(path=name, partition_values={}, size_bytes=1, modified_ms=1, rows=None)
        with pytest.raises(InvalidArgument):
            lay_out(tmp_path / f"laid {number}", (file,), log.shape(), log)
        assert os.listdir(tmp_path / f"laid {number}") == ["_delta_log"]


def test_rows_are_counted_in_plain_files_only(tmp_path: Path) -> None:
    parquet.write_table(ROWS, tmp_path / "000000.parquet")
    assert rows_in(tmp_path, 0) == 2
    os.mkfifo(tmp_path / "000001.parquet")
    (tmp_path / "000002.parquet").symlink_to(tmp_path / "000000.parquet")
    for number in (1, 2):
        with pytest.raises(InvalidArgument):
            rows_in(tmp_path, number)


def test_functions_of_many_rows_are_known_and_others_are_not_taken_for_them() -> None:
    assert {"sum", "count", "max", "collect_list", "approx_count_distinct"} <= aggregates()
    assert not {"upper", "coalesce", "greatest", "aggregate", "array_max", "date_trunc", "if", "window"} & aggregates()
