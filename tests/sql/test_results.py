"""Results on disk: cut into chunks, limited, bounded for each user and all, gone with their time."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest

from millpond.kernel.errors import InvalidArgument, NotFound, ResourceExhausted
from millpond.sql.domain import Disposition, Format, Manifest, Statement, StatementState
from millpond.sql.results import CHUNK_BYTES, Limits, ResultStore, ResultWriter, Room

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def statement(number: int, principal: str = "7") -> Statement:
    return Statement(
        id=f"statement-{number}",
        principal_id=principal,
        principal_name="ann",
        warehouse_id="starter",
        session_id=None,
        text="SELECT 1",
        kind="SELECT",
        client="",
        tags={},
        disposition=Disposition.EXTERNAL_LINKS,
        format=Format.ARROW_STREAM,
        state=StatementState.RUNNING,
        submitted_at=NOW,
    )


def batch(rows: int, width: int = 1000) -> pa.RecordBatch:
    """About rows times width bytes."""
    return pa.RecordBatch.from_pydict({"n": list(range(rows)), "text": ["x" * width] * rows})


def store(tmp_path: Path, limit_bytes: int = 1 << 30) -> ResultStore:
    made = ResultStore(tmp_path / "results", Room(limit_bytes))
    made.open([])
    return made


def write(results: ResultStore, one: Statement, rows: int, limits: Limits | None = None) -> tuple[Manifest, list[str]]:
    """Write a result and keep it, as the runtime does."""
    writer = ResultWriter(results, one, limits or Limits())
    writer.add(batch(rows))
    manifest = writer.finish(batch(0).schema)
    for gone in writer.evicted:
        results.remove(gone)
    at = NOW + timedelta(seconds=int(one.id.rpartition("-")[2]))
    results.room.keep(replace(one, state=StatementState.SUCCEEDED, manifest=manifest, ended_at=at))
    return manifest, writer.evicted


def test_a_large_result_is_cut_into_chunks_in_order(tmp_path: Path) -> None:
    results = store(tmp_path)
    manifest, _ = write(results, statement(1), 30_000)
    assert len(manifest.chunks) > 2
    assert all(chunk.size_bytes < 1.5 * CHUNK_BYTES for chunk in manifest.chunks)
    tables = [results.read("statement-1", index) for index in range(len(manifest.chunks))]
    assert pa.concat_tables(tables).column("n").to_pylist() == list(range(30_000))
    with pytest.raises(NotFound):
        results.read("statement-1", len(tables))


def test_a_result_without_rows_still_has_its_columns(tmp_path: Path) -> None:
    results = store(tmp_path)
    manifest, _ = write(results, statement(1), 0)
    assert (manifest.rows, len(manifest.chunks), manifest.truncated) == (0, 1, False)
    assert results.read("statement-1", 0).column_names == ["n", "text"]


@pytest.mark.parametrize(
    ("limits", "rows"),
    [(Limits(rows=10), 10), (Limits(rows=100), 100), (Limits(size_bytes=5_120), 5), (Limits(size_bytes=1), 0)],
)
def test_a_result_is_cut_at_its_limits(tmp_path: Path, limits: Limits, rows: int) -> None:
    manifest, _ = write(store(tmp_path), statement(1), 100, limits)
    assert (manifest.rows, manifest.truncated) == (rows, rows < 100)


def test_an_inline_result_has_a_bound_of_its_own(tmp_path: Path) -> None:
    writer = ResultWriter(store(tmp_path), statement(1), Limits(inline=True))
    with pytest.raises(InvalidArgument, match="EXTERNAL_LINKS"):
        writer.add(batch(30_000))


def test_a_users_oldest_results_make_room_for_the_newest_and_nobody_elses_do(tmp_path: Path) -> None:
    results = store(tmp_path, limit_bytes=4 * 1_000_000)  # a user may have a quarter
    write(results, statement(1, "other"), 400)
    write(results, statement(2), 400)
    write(results, statement(3), 400)
    _, evicted = write(results, statement(4), 400)
    assert evicted == ["statement-2"]
    assert {path.name for path in results.root.iterdir()} == {"statement-1", "statement-3", "statement-4"}


def test_a_result_that_finds_no_room_is_refused(tmp_path: Path) -> None:
    results = store(tmp_path, limit_bytes=4 * 1_000_000)
    with pytest.raises(ResourceExhausted, match="RESULTS_LIMIT_BYTES"):
        write(results, statement(1), 2_000)


def test_what_the_database_does_not_know_is_removed_at_the_start(tmp_path: Path) -> None:
    results = store(tmp_path)
    known, _ = write(results, statement(1), 10)
    write(results, statement(2), 10)
    kept = replace(statement(1), state=StatementState.SUCCEEDED, manifest=known, ended_at=NOW)
    again = ResultStore(results.root, Room(1 << 30))
    again.open([kept])
    assert [path.name for path in again.root.iterdir()] == ["statement-1"]
    assert again.room.older_than(NOW + timedelta(seconds=1)) == ["statement-1"]
    assert again.room.older_than(NOW) == []
