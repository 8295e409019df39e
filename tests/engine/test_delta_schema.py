"""Schema changes, properties and constraints of real Delta tables, also against other writers and kill -9."""

import subprocess
import sys
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake
from deltalake.exceptions import DeltaError
from tests.engine.delta_tables import ANN, Make, delta_type, field, names_of, newest, path_of, rows_of

from millpond.engine.authorship import Author
from millpond.engine.delta import alter
from millpond.engine.delta import schema as plans
from millpond.engine.delta.log import commit_metadata, put_if_absent
from millpond.engine.delta.table import CommitConflict, Storage, fields, open_for_write, open_table
from millpond.engine.errors import AnalysisError, ExecutionError, SparkError, UnsupportedError
from millpond.engine.syntax.expressions import canonical
from millpond.engine.syntax.model import (
    AddColumns,
    AlterColumn,
    ColumnSpec,
    DropColumns,
    RenameColumn,
)

# -- schema changes -----------------------------------------------------------------------------------------------


def test_added_columns_keep_their_place_type_and_comment(make: Make) -> None:
    storage = make(field("id", "bigint"), field("s", "struct<a:int>"), rows=[[{"id": 1, "s": {"a": 5}}]])
    action = AddColumns(
        columns=(
            ColumnSpec(path=("first",), type="date", first=True),
            ColumnSpec(path=("mid",), type="string", comment="in between", after="ID"),
            ColumnSpec(path=("s", "b"), type="double"),
        )
    )
    alter.change(storage, ANN, lambda state: plans.plan_add_columns(state, action))
    assert names_of(storage) == ["first", "id", "mid", "s"]
    assert fields(open_table(storage))[2]["metadata"] == {"comment": "in between"}
    assert rows_of(storage) == [{"first": None, "id": 1, "mid": None, "s": {"a": 5, "b": None}}]
    entry = newest(storage)
    assert (entry["operation"], entry["userName"], entry["readVersion"]) == ("ADD COLUMNS", "ann@example.com", 1)


@pytest.mark.parametrize(
    ("column", "error_class"),
    [
        (ColumnSpec(path=("ID",), type="string"), "FIELD_ALREADY_EXISTS"),
        (ColumnSpec(path=("x",), type="string", nullable=False), "DELTA_ADD_COLUMN_NOT_NULL"),
        (ColumnSpec(path=("x",), type="string", after="nope"), "UNRESOLVED_COLUMN.WITH_SUGGESTION"),
        (ColumnSpec(path=("id", "x"), type="string"), "UNRESOLVED_COLUMN.WITH_SUGGESTION"),
        (
            ColumnSpec(path=("x",), type="string", default="1"),
            "WRONG_COLUMN_DEFAULTS_FOR_DELTA_ALTER_TABLE_ADD_COLUMN_NOT_SUPPORTED",
        ),
    ],
)
def test_a_column_that_cannot_be_added_is_refused(make: Make, column: ColumnSpec, error_class: str) -> None:
    storage = make(field("id", "bigint"), rows=[[{"id": 1}]])
    with pytest.raises(AnalysisError) as caught:
        alter.change(storage, ANN, lambda state: plans.plan_add_columns(state, AddColumns(columns=(column,))))
    assert caught.value.error_class == error_class
    assert open_table(storage).version() == 1


def test_renaming_a_column_keeps_rows_partitions_properties_and_constraints(make: Make) -> None:
    storage = make(
        field("id", "bigint", nullable=False, comment="key"),
        field("day", "date"),
        field("tags", "array<struct<k:string,v:map<string,decimal(10,2)>>>"),
        field("d", "int", CURRENT_DEFAULT="7"),
        rows=[
            [{"id": 1, "day": None, "tags": [{"k": "x", "v": []}], "d": 1}],
            [{"id": 2, "day": None, "tags": None, "d": 2}],
        ],
        partition_by=["day"],
        configuration={"team": "risk"},
        description="facts",
    )
    alter.add_check(storage, ANN, "positive", "id > 0")
    before = rows_of(storage)
    for old, new in (("tags", "näme `x`-y"), ("DAY", "at")):
        action = RenameColumn(path=(old,), new_name=new)
        alter.change(storage, ANN, lambda state, action=action: plans.plan_rename_column(state, action))
    assert names_of(storage) == ["id", "at", "näme `x`-y", "d"]
    assert rows_of(storage) == [
        {"id": row["id"], "at": row["day"], "näme `x`-y": row["tags"], "d": row["d"]} for row in before
    ]
    table = open_table(storage)
    assert table.metadata().partition_columns == ["at"]
    assert table.metadata().configuration == {"team": "risk", "delta.constraints.positive": "id > 0"}
    assert table.metadata().description == "facts"
    first, *_, last = fields(table)
    assert (first["nullable"], first["metadata"], last["metadata"]) == (
        False,
        {"comment": "key"},
        {"CURRENT_DEFAULT": "7"},
    )
    assert table.protocol().min_reader_version == 1
    assert table.protocol().min_writer_version <= 4
    entry = newest(storage)
    assert entry["operation"] == "RENAME COLUMN"
    assert entry["operationParameters"] == {"oldColumnPath": "DAY", "newColumnPath": "at"}


def test_a_field_inside_a_struct_can_be_renamed_and_dropped(make: Make) -> None:
    storage = make(
        field("id", "bigint"),
        field("s", "struct<a:int COMMENT 'x',b:struct<c:string,d:string NOT NULL>>"),
        rows=[[{"id": 1, "s": {"a": 1, "b": {"c": "c", "d": "d"}}}, {"id": 2, "s": None}]],
    )
    action = RenameColumn(path=("s", "b", "c"), new_name="z")
    alter.change(storage, ANN, lambda state: plans.plan_rename_column(state, action))
    assert rows_of(storage) == [{"id": 1, "s": {"a": 1, "b": {"z": "c", "d": "d"}}}, {"id": 2, "s": None}]
    kept = fields(open_table(storage))[1]["type"]["fields"]
    assert kept[0]["metadata"] == {"comment": "x"}
    assert kept[1]["type"]["fields"][1]["nullable"] is False
    drop = DropColumns(paths=(("s", "a"), ("s", "b", "d")))
    alter.change(storage, ANN, lambda state: plans.plan_drop_columns(state, drop))
    assert rows_of(storage) == [{"id": 1, "s": {"b": {"z": "c"}}}, {"id": 2, "s": None}]


def test_a_dropped_column_does_not_come_back_with_its_old_values(make: Make) -> None:
    storage = make(field("id", "bigint"), field("secret", "string"), rows=[[{"id": 1, "secret": "old"}]])
    drop = DropColumns(paths=(("secret",), ("nope",)), if_exists=True)
    alter.change(storage, ANN, lambda state: plans.plan_drop_columns(state, drop))
    add = AddColumns(columns=(ColumnSpec(path=("secret",), type="string"),))
    alter.change(storage, ANN, lambda state: plans.plan_add_columns(state, add))
    assert rows_of(storage) == [{"id": 1, "secret": None}]


@pytest.mark.parametrize(
    ("column", "error_class"),
    [
        ("id", "DELTA_CONSTRAINT_DEPENDENT_COLUMN_CHANGE"),
        ("base", "DELTA_GENERATED_COLUMNS_DEPENDENT_COLUMN_CHANGE"),
        ("part", "DELTA_UNSUPPORTED_DROP_PARTITION_COLUMN"),
        ("nope", "UNRESOLVED_COLUMN.WITH_SUGGESTION"),
    ],
)
def test_columns_that_others_need_cannot_be_dropped(make: Make, column: str, error_class: str) -> None:
    storage = make(
        field("id", "bigint"),
        field("base", "int"),
        field("part", "int"),
        {**field("gen", "int"), "metadata": {"delta.generationExpression": "base + 1"}},
        partition_by=["part"],
    )
    alter.add_check(storage, ANN, "c", "ID > 0")
    with pytest.raises(AnalysisError) as caught:
        alter.change(storage, ANN, lambda state: plans.plan_drop_columns(state, DropColumns(paths=((column,),))))
    assert caught.value.error_class == error_class


def test_the_last_column_cannot_be_dropped(make: Make) -> None:
    storage = make(field("id", "bigint"), field("x", "int"))
    drop = DropColumns(paths=(("id",), ("x",)))
    with pytest.raises(AnalysisError, match="DELTA_DROP_COLUMN_ON_SINGLE_FIELD_SCHEMA"):
        alter.change(storage, ANN, lambda state: plans.plan_drop_columns(state, drop))


@pytest.mark.parametrize(
    ("old", "new", "value", "expected"),
    [
        ("int", "bigint", 5, 5),
        ("tinyint", "int", 5, 5),
        ("float", "double", 0.5, 0.5),
        ("int", "double", 5, 5.0),
        ("decimal(10,2)", "decimal(12,3)", 1, 1),
    ],
)
def test_a_type_widens(make: Make, old: str, new: str, value: Any, expected: Any) -> None:
    storage = make(field("id", "bigint"), field("x", old, comment="c"), rows=[[{"id": 1, "x": value}]])
    action = AlterColumn(path=("x",), type=delta_type(new))
    alter.change(storage, ANN, lambda state: plans.plan_alter_column(state, action))
    assert rows_of(storage) == [{"id": 1, "x": expected}]
    assert fields(open_table(storage))[1] == field("x", new, comment="c")


@pytest.mark.parametrize(
    ("old", "new"), [("bigint", "int"), ("string", "int"), ("decimal(10,2)", "decimal(10,3)"), ("int", "string")]
)
def test_a_type_does_not_narrow(make: Make, old: str, new: str) -> None:
    storage = make(field("x", old))
    action = AlterColumn(path=("x",), type=delta_type(new))
    with pytest.raises(AnalysisError, match="DELTA_UNSUPPORTED_ALTER_TABLE_CHANGE_COL_OP"):
        alter.change(storage, ANN, lambda state: plans.plan_alter_column(state, action))


def test_not_null_needs_rows_without_null_and_is_kept_by_writers(make: Make) -> None:
    storage = make(field("id", "bigint"), field("x", "int"), rows=[[{"id": 1, "x": None}]])
    for column in ("id", "x"):
        action = AlterColumn(path=(column,), set_not_null=True)
        if column == "x":
            with pytest.raises(ExecutionError, match="DELTA_NOT_NULL_COLUMN_VIOLATION"):
                alter.change(storage, ANN, lambda state, action=action: plans.plan_alter_column(state, action))
        else:
            alter.change(storage, ANN, lambda state, action=action: plans.plan_alter_column(state, action))
    with pytest.raises(DeltaError):
        write_deltalake(
            open_table(storage),
            pa.table({"id": pa.array([None], pa.int64()), "x": pa.array([1], pa.int32())}),
            mode="append",
        )
    drop = AlterColumn(path=("id",), drop_not_null=True)
    alter.change(storage, ANN, lambda state: plans.plan_alter_column(state, drop))
    write_deltalake(
        open_table(storage),
        pa.table({"id": pa.array([None], pa.int64()), "x": pa.array([1], pa.int32())}),
        mode="append",
    )


def test_comments_defaults_and_order_change_in_the_log_only(make: Make) -> None:
    storage = make(field("a", "int"), field("b", "int"), rows=[[{"a": 1, "b": 2}]])
    files = set(path_of(storage).glob("*.parquet"))
    for action in (
        AlterColumn(path=("a",), comment="the a"),
        AlterColumn(path=("b",), default="1 + 1"),
        AlterColumn(path=("b",), first=True),
    ):
        alter.change(storage, ANN, lambda state, action=action: plans.plan_alter_column(state, action))
    assert fields(open_table(storage)) == [
        field("b", "int", CURRENT_DEFAULT="1 + 1"),
        field("a", "int", comment="the a"),
    ]
    alter.change(storage, ANN, lambda state: plans.plan_column_comment(state, ("a",), None))
    assert fields(open_table(storage))[1] == field("a", "int")
    assert rows_of(storage) == [{"b": 2, "a": 1}]
    assert set(path_of(storage).glob("*.parquet")) == files


def test_an_append_during_a_rewrite_is_not_lost(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = make(field("id", "bigint"), field("x", "int"), rows=[[{"id": 1, "x": 1}]])
    interrupted = []
    real = alter.rewrite

    def appended_meanwhile(table: DeltaTable, author: Author, plan: plans.SchemaPlan) -> None:
        if not interrupted:
            interrupted.append(True)
            other = open_table(storage)
            write_deltalake(other, pa.table({"id": [2], "x": pa.array([2], pa.int32())}), mode="append")
        real(table, author, plan)

    monkeypatch.setattr(alter, "rewrite", appended_meanwhile)
    action = RenameColumn(path=("x",), new_name="y")
    alter.change(storage, ANN, lambda state: plans.plan_rename_column(state, action))
    assert rows_of(storage) == [{"id": 1, "y": 1}, {"id": 2, "y": 2}]


def test_two_metadata_commits_of_one_version_conflict(make: Make) -> None:
    storage = make(field("id", "bigint"))
    table = open_for_write(storage)
    plan = plans.plan_column_comment(alter.state_of(table), ("id",), "x")
    commit_metadata(table, storage, ANN, plan)
    with pytest.raises(CommitConflict):
        commit_metadata(table, storage, ANN, plan)
    assert not list((path_of(storage) / "_delta_log").glob(".*"))


class FakeBucket(BaseHTTPRequestHandler):
    """An object store that knows conditional PUT and nothing else."""

    objects: ClassVar[dict[str, bytes]] = {}

    def do_PUT(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        taken = self.headers.get("If-None-Match") == "*" and self.path in self.objects
        if not taken:
            self.objects[self.path] = body
        self.send_response(412 if taken else 200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        pass


def test_a_log_entry_on_s3_is_put_only_if_absent() -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), FakeBucket) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        options = {
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{server.server_port}",
            "AWS_REGION": "us-east-1",
        }
        storage = Storage(url="s3://lake/tables/t", options=options)
        put_if_absent(storage, 7, "first")
        with pytest.raises(CommitConflict):
            put_if_absent(storage, 7, "second")
        server.shutdown()
    [(path, body)] = FakeBucket.objects.items()
    assert path == "/lake/tables/t/_delta_log/00000000000000000007.json"
    assert b"first" in body
    assert b"second" not in body


def test_a_generated_column_that_the_writer_cannot_compute_stops_a_rewrite(make: Make) -> None:
    storage = make(
        field("Id", "bigint"),
        field("x", "int"),
        {**field("g", "bigint"), "metadata": {"delta.generationExpression": "`Id` + 1"}},
    )
    action = RenameColumn(path=("x",), new_name="y")
    with pytest.raises(UnsupportedError, match="generated column g reads Id"):
        alter.change(storage, ANN, lambda state: plans.plan_rename_column(state, action))


def test_concurrent_alterations_and_appends_all_take_effect(make: Make) -> None:
    storage = make(field("id", "bigint"), field("x", "int"), rows=[[{"id": 0, "x": 0}]])
    failures: list[BaseException] = []

    def comment(number: int) -> None:
        def plan(state: plans.TableState) -> plans.SchemaPlan:
            column = AddColumns(columns=(ColumnSpec(path=(f"c{number}",), type="integer"),))
            return plans.plan_add_columns(state, column)

        alter.change(storage, ANN, plan)

    def append(number: int) -> None:
        row = pa.table({"id": [number], "x": pa.array([number], pa.int32())})
        write_deltalake(open_table(storage), row, mode="append", schema_mode="merge")

    def guarded(work: Callable[[int], None], number: int) -> None:
        try:
            work(number)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=guarded, args=(comment, n)) for n in range(4)]
    threads += [threading.Thread(target=guarded, args=(append, n)) for n in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [str(one) for one in failures if "Metadata changed" not in str(one)] == []
    assert set(names_of(storage)) == {"id", "x", "c0", "c1", "c2", "c3"}
    assert len(rows_of(storage)) == 5 - len(failures)


ALTERING = """
import sys
from millpond.engine.delta import alter, schema
from millpond.engine.authorship import Author
from millpond.engine.delta.table import Storage
from millpond.engine.syntax.model import AlterColumn, RenameColumn
storage, author = Storage(url=sys.argv[1]), Author(id="1", name="ann")
print("ready", flush=True)
for turn in range(1000):
    old, new = ("x", "y") if turn % 2 == 0 else ("y", "x")
    if sys.argv[2] != "x":
        old, new = new, old
    rename = RenameColumn(path=(old,), new_name=new)
    alter.change(storage, author, lambda state: schema.plan_rename_column(state, rename))
    note = AlterColumn(path=("id",), comment=str(turn))
    alter.change(storage, author, lambda state: schema.plan_alter_column(state, note))
"""


@pytest.mark.long
def test_a_killed_alteration_leaves_a_whole_table(make: Make) -> None:
    wanted = [{"id": n, "x": n} for n in range(2000)]
    storage = make(field("id", "bigint"), field("x", "int"), rows=[wanted[:1000], wanted[1000:]])
    versions = []
    for delay_ms in (0, 3, 11, 29, 53, 97):
        column = names_of(storage)[1]
        command = [sys.executable, "-c", ALTERING, storage.url, column]
        process = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        started = open_table(storage).version()
        deadline = time.monotonic() + 60
        while open_table(storage).version() < started + 2 and time.monotonic() < deadline:
            pass
        threading.Event().wait(delay_ms / 1000)  # not a wait for anything: it spreads the kills over the work
        process.kill()
        process.communicate()
        found = rows_of(storage)
        name = names_of(storage)[1]
        assert sorted((row["id"], row[name]) for row in found) == [(n, n) for n in range(2000)]
        versions.append(open_table(storage).version())
    assert versions == sorted(set(versions))
    alter.set_properties(storage, ANN, {"still": "writable"})


# -- properties and constraints -----------------------------------------------------------------------------------


def test_properties_are_set_and_unset(make: Make) -> None:
    storage = make(field("id", "bigint"))
    alter.set_properties(
        storage, ANN, {"a": "1", "delta.appendOnly": "true", "comment": "c", "delta.minWriterVersion": "4"}
    )
    table = open_table(storage)
    assert table.metadata().configuration == {"a": "1", "delta.appendOnly": "true"}
    assert table.metadata().description == "c"
    with pytest.raises(AnalysisError, match="UNSET_NONEXISTENT_PROPERTIES"):
        alter.unset_properties(storage, ANN, ["a", "nope"], if_exists=False)
    alter.unset_properties(storage, ANN, ["a", "nope"], if_exists=True)
    assert open_table(storage).metadata().configuration == {"delta.appendOnly": "true"}
    assert newest(storage)["operation"] == "UNSET TBLPROPERTIES"


@pytest.mark.parametrize(
    ("key", "value", "error_class"),
    [
        ("delta.enableDeletionVectors", "true", "DELTA_UNSUPPORTED_FEATURES_FOR_WRITE"),
        ("delta.enableChangeDataFeed", "true", "DELTA_UNSUPPORTED_FEATURES_FOR_WRITE"),
        ("delta.columnMapping.mode", "name", "DELTA_UNSUPPORTED_FEATURES_FOR_WRITE"),
        ("delta.minReaderVersion", "2", "DELTA_UNSUPPORTED_FEATURES_FOR_WRITE"),
        ("delta.feature.deletionVectors", "supported", "DELTA_UNSUPPORTED_FEATURES_FOR_WRITE"),
        ("delta.appendOnly", "maybe", "DELTA_INVALID_PROPERTY_VALUE"),
        ("delta.logRetentionDuration", "soon", "DELTA_INVALID_PROPERTY_VALUE"),
        ("delta.fooBar", "1", "DELTA_UNKNOWN_CONFIGURATION"),
    ],
)
def test_properties_that_would_break_the_table_are_refused(make: Make, key: str, value: str, error_class: str) -> None:
    storage = make(field("id", "bigint"))
    with pytest.raises(SparkError) as caught:
        alter.set_properties(storage, ANN, {key: value})
    assert caught.value.error_class == error_class
    assert open_table(storage).protocol().min_writer_version == 2


@pytest.mark.parametrize(
    ("written", "stored"),
    [
        ("ID > 0", "id > 0"),
        ("`null` IS NOT NULL", "`null` IS NOT NULL"),
        ('name <> "x"', "name <> 'x'"),
        ("length(NAME) < 5 -- short", "length(name) < 5"),
        ("`A b` + id>1", "`a b` + id>1"),
    ],
)
def test_a_stored_expression_means_the_same_to_every_reader(written: str, stored: str) -> None:
    assert canonical(written, ["id", "null", "name", "a b"]) == stored


def test_check_constraints_come_and_go(make: Make) -> None:
    storage = make(field("id", "bigint"), rows=[[{"id": 1}]])
    with pytest.raises(ExecutionError, match="DELTA_NEW_CHECK_CONSTRAINT_VIOLATION"):
        alter.add_check(storage, ANN, "big", "id > 5")
    with pytest.raises(AnalysisError, match="UNRESOLVED_COLUMN"):
        alter.add_check(storage, ANN, "c", "nope > 5")
    with pytest.raises(AnalysisError, match="DELTA_INVALID_CHECK_CONSTRAINT"):
        alter.add_check(storage, ANN, "c", "id > > 5")
    alter.add_check(storage, ANN, "positive", "id > 0")
    with pytest.raises(AnalysisError, match="DELTA_CONSTRAINT_ALREADY_EXISTS"):
        alter.add_check(storage, ANN, "POSITIVE", "id > 1")
    capital = RenameColumn(path=("id",), new_name="Id")
    with pytest.raises(AnalysisError, match="DELTA_CONSTRAINT_DEPENDENT_COLUMN_CHANGE"):
        alter.change(storage, ANN, lambda state: plans.plan_rename_column(state, capital))
    with pytest.raises(DeltaError):
        write_deltalake(open_table(storage), pa.table({"id": [-1]}), mode="append")
    assert alter.drop_check(storage, ANN, "Positive", if_exists=False)
    assert not alter.drop_check(storage, ANN, "positive", if_exists=True)
    with pytest.raises(AnalysisError, match="DELTA_CONSTRAINT_DOES_NOT_EXIST"):
        alter.drop_check(storage, ANN, "positive", if_exists=False)
