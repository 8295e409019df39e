"""Delta operations on real tables on disk, through delta-rs and commits of our own."""

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest
from deltalake import CommitProperties
from deltalake.exceptions import DeltaError
from tests.engine.delta_tables import ANN, Make, field, newest, path_of, rows_of

from millpond.engine.authorship import MARK
from millpond.engine.delta import alter, describe, maintain
from millpond.engine.delta import schema as plans
from millpond.engine.delta.table import Storage, commit, open_for_write, open_table
from millpond.engine.errors import AnalysisError, ExecutionError, SparkError, UnsupportedError
from millpond.engine.syntax.model import (
    AsOf,
    DropColumns,
)

# -- commits ------------------------------------------------------------------------------------------------------


def test_each_commit_names_its_author(make: Make) -> None:
    storage = make(field("id", "bigint"))
    alter.set_properties(storage, ANN, {"owner.team": "risk"})
    entry = newest(storage)
    assert (entry["userName"], entry["userId"]) == ("ann@example.com", "u-1")
    assert entry["operation"] == "SET TBLPROPERTIES"


def test_an_error_after_the_commit_landed_is_no_error(make: Make) -> None:
    storage = make(field("id", "bigint"))
    table = open_for_write(storage)

    def lands_and_fails(noted: CommitProperties) -> None:
        table.alter.set_table_properties({"a": "b"}, raise_if_not_exists=False, commit_properties=noted)
        raise DeltaError("the answer of the object store was lost")

    assert commit(table, ANN, lands_and_fails) is None
    assert open_table(storage).metadata().configuration == {"a": "b"}
    assert len(describe.history(storage)) == 2


def test_an_error_without_a_commit_is_an_error(make: Make) -> None:
    table = open_for_write(make(field("id", "bigint")))

    def fails(noted: CommitProperties) -> None:
        raise DeltaError("no space left on device")

    with pytest.raises(ExecutionError, match="no space left"):
        commit(table, ANN, fails)


def test_a_table_whose_directory_became_a_link_is_not_opened(make: Make) -> None:
    storage = make(field("id", "bigint"))
    place = path_of(storage)
    place.rename(place.with_name("elsewhere"))
    place.symlink_to(place.with_name("elsewhere"))
    for opens in (open_table, open_for_write):
        with pytest.raises(ExecutionError, match="is a symbolic link"):
            opens(storage)


def test_a_missing_table_and_an_unknown_feature_are_errors_that_say_so(make: Make, tmp_path: Path) -> None:
    with pytest.raises(AnalysisError, match="DELTA_TABLE_NOT_FOUND"):
        open_table(Storage(url=(tmp_path / "none").as_uri()))
    for feature in ("deletionVectors", "columnMapping", "typeWidening", "fooBar"):
        log = tmp_path / feature / "_delta_log"
        log.mkdir(parents=True)
        schema = json.dumps({"type": "struct", "fields": [field("a", "bigint")]})
        protocol = {
            "minReaderVersion": 3,
            "minWriterVersion": 7,
            "readerFeatures": [feature],
            "writerFeatures": [feature],
        }
        metadata = {
            "id": "x",
            "format": {"provider": "parquet", "options": {}},
            "schemaString": schema,
            "partitionColumns": [],
            "configuration": {},
            "createdTime": 1,
        }
        (log / f"{0:020d}.json").write_text(
            json.dumps({"protocol": protocol}) + "\n" + json.dumps({"metaData": metadata})
        )
        with pytest.raises(UnsupportedError, match=feature):
            open_for_write(Storage(url=(tmp_path / feature).as_uri()))


# -- maintenance --------------------------------------------------------------------------------------------------


def test_optimize_compacts_what_the_predicate_names(make: Make) -> None:
    rows = [[{"id": n, "p": n % 3}] for n in range(9)]
    storage = make(field("id", "bigint"), field("p", "int"), rows=rows, partition_by=["p"])
    metrics = maintain.optimize(storage, ANN, where="p >= 1 AND p <> 2", zorder_by=())
    assert (metrics["numFilesRemoved"], metrics["numFilesAdded"]) == (3, 1)
    assert newest(storage)["operation"] == "OPTIMIZE"
    assert newest(storage)["operationParameters"]["predicate"] == '["p >= 1 AND p <> 2"]'
    metrics = maintain.optimize(storage, ANN, where=None, zorder_by=())
    assert (metrics["numFilesRemoved"], metrics["numFilesAdded"]) == (6, 2)
    assert maintain.optimize(storage, ANN, where=None, zorder_by=())["numFilesAdded"] == 0
    assert len(rows_of(storage)) == 9


def test_optimize_orders_by_zorder_or_clustering_columns(make: Make) -> None:
    storage = make(field("id", "bigint"), field("p", "int"), rows=[[{"id": n, "p": 1}] for n in (3, 1, 2)])
    maintain.optimize(storage, ANN, where=None, zorder_by=("ID",))
    assert newest(storage)["operationParameters"]["zOrderBy"] == '["id"]'
    alter.cluster_by(storage, ANN, ("P",))
    assert describe.detail(storage).clustering_columns == ["p"]
    maintain.optimize(storage, ANN, where=None, zorder_by=())
    assert newest(storage)["operationParameters"]["clusterBy"] == '["p"]'


@pytest.mark.parametrize(
    ("where", "zorder_by", "error_class"),
    [
        ("id = 1", (), "DELTA_NON_PARTITION_COLUMN_REFERENCE"),
        ("nope = 1", (), "UNRESOLVED_COLUMN.WITH_SUGGESTION"),
        ("p = 1 OR p = 2", (), "UNSUPPORTED_FEATURE"),
        ("p > (", (), "PARSE_SYNTAX_ERROR"),
        (None, ("p",), "DELTA_ZORDERING_ON_PARTITION_COLUMN"),
        (None, ("nope",), "DELTA_ZORDERING_COLUMN_DOES_NOT_EXIST"),
    ],
)
def test_optimize_refuses_what_it_cannot_do(
    make: Make, where: str | None, zorder_by: tuple[str, ...], error_class: str
) -> None:
    storage = make(field("id", "bigint"), field("p", "int"), partition_by=["p"])
    with pytest.raises(SparkError) as caught:
        maintain.optimize(storage, ANN, where=where, zorder_by=zorder_by)
    assert caught.value.error_class == error_class


def vacuum(storage: Storage, **options: Any) -> list[str]:
    asked = {"retain_hours": None, "dry_run": False, "lite": False, "check_retention": True, **options}
    return maintain.vacuum(storage, ANN, **asked)


def test_vacuum_keeps_what_the_retention_covers(make: Make) -> None:
    storage = make(field("id", "bigint"), rows=[[{"id": 1}], [{"id": 2}]])
    maintain.optimize(storage, ANN, where=None, zorder_by=())
    assert vacuum(storage) == []
    with pytest.raises(AnalysisError, match="DELTA_VACUUM_RETENTION_PERIOD_TOO_SHORT"):
        vacuum(storage, retain_hours=1)
    version = open_table(storage).version()
    assert len(vacuum(storage, retain_hours=0, check_retention=False, dry_run=True)) == 2
    assert open_table(storage).version() == version
    assert len(vacuum(storage, retain_hours=0, check_retention=False)) == 2
    assert len(list(path_of(storage).glob("*.parquet"))) == 1
    assert [one["operation"] for one in describe.history(storage, 2)] == ["VACUUM END", "VACUUM START"]


def test_full_vacuum_finds_files_of_no_commit_and_spares_young_and_hidden_ones(make: Make) -> None:
    storage = make(field("id", "bigint"), rows=[[{"id": 1}]])
    for name in ("orphan.parquet", "young.parquet", "_hidden.parquet"):
        (path_of(storage) / name).write_text("x")
    a_month_ago = time.time() - 30 * 86400
    for name in ("orphan.parquet", "_hidden.parquet"):
        os.utime(path_of(storage) / name, (a_month_ago, a_month_ago))
    assert vacuum(storage, lite=True) == []
    assert vacuum(storage) == ["orphan.parquet"]


def test_restore_brings_back_rows_and_schema(make: Make) -> None:
    storage = make(field("id", "bigint"), field("x", "int"), rows=[[{"id": 1, "x": 1}], [{"id": 2, "x": 2}]])
    alter.change(storage, ANN, lambda state: plans.plan_drop_columns(state, DropColumns(paths=(("x",),))))
    done = maintain.restore(storage, ANN, AsOf(version=1))
    assert (done.files, done.removed_files, done.restored_files) == (1, 1 + 0, 1)
    assert done.table_size == done.restored_size > 0
    assert rows_of(storage) == [{"id": 1, "x": 1}]
    with pytest.raises(AnalysisError, match="DELTA_CANNOT_RESTORE_TABLE_VERSION"):
        maintain.restore(storage, ANN, AsOf(version=99))
    with pytest.raises(AnalysisError, match="DELTA_CANNOT_RESTORE_TIMESTAMP_EARLIER"):
        maintain.restore(storage, ANN, AsOf(timestamp="1999-01-01"))
    with pytest.raises(AnalysisError, match="DELTA_CANNOT_RESTORE_TIMESTAMP_GREATER"):
        maintain.restore(storage, ANN, AsOf(timestamp="2999-01-01 10:00:00"))
    with pytest.raises(AnalysisError, match="DELTA_TIMESTAMP_INVALID"):
        maintain.restore(storage, ANN, AsOf(timestamp="yesterday"))


def test_restore_to_a_moment_takes_the_version_of_that_moment(make: Make) -> None:
    storage = make(field("id", "bigint"), rows=[[{"id": 1}], [{"id": 2}]])
    at = describe.history(storage)[0]["timestamp"]
    moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(at // 1000)) + f".{at % 1000:03d}+00:00"
    assert maintain.version_at(open_table(storage), AsOf(timestamp=moment)) == 2


def test_an_append_only_table_says_so_at_once(make: Make) -> None:
    storage = make(field("id", "bigint"), rows=[[{"id": 1}]], configuration={"delta.appendOnly": "true"})
    with pytest.raises(AnalysisError, match="DELTA_CANNOT_MODIFY_APPEND_ONLY"):
        maintain.truncate(storage, ANN)


def test_truncate_is_one_commit(make: Make) -> None:
    storage = make(field("id", "bigint"), rows=[[{"id": 1}], [{"id": 2}]])
    maintain.truncate(storage, ANN)
    assert rows_of(storage) == []
    assert newest(storage)["operation"] == "TRUNCATE"


# -- history and detail -------------------------------------------------------------------------------------------


def test_history_has_sparks_names_and_texts(make: Make) -> None:
    storage = make(field("id", "bigint"), rows=[[{"id": 1}, {"id": 2}]])
    write, create = describe.history(storage)
    assert (write["version"], write["operation"]) == (1, "WRITE")
    assert write["operationMetrics"]["numOutputRows"] == "2"
    assert write["operationMetrics"]["numFiles"] == "1"
    assert create["operation"] == "CREATE TABLE"
    assert describe.history(storage, 0) == []
    assert write[MARK] is None


def test_detail_counts_files_and_names_features(make: Make) -> None:
    storage = make(field("id", "bigint"), rows=[[{"id": 1}], [{"id": 2}]], configuration={"a": "b"}, description="d")
    found = describe.detail(storage)
    sizes = [file.stat().st_size for file in path_of(storage).glob("*.parquet")]
    assert (found.files, found.size_bytes) == (2, sum(sizes))
    assert (found.description, found.properties) == ("d", {"a": "b"})
    assert (found.reader_version, found.writer_version, found.features) == (1, 2, ["appendOnly", "invariants"])
