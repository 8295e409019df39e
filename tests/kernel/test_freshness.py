"""The mark by which a process knows that the database has changed."""

import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import text

from millpond.kernel.database import Database
from millpond.kernel.freshness import Kept, snapshot_mark
from tests.databases import BACKENDS, Databases

_WATCHER = """
import sys

from millpond.kernel.database import Database
from millpond.kernel.freshness import change_mark

mark = change_mark(sys.argv[1])
for _ in sys.stdin:
    print(mark().hex(), flush=True)
"""


def test_a_mark_sees_each_commit_and_keeps_its_process_in_possession_of_the_index(tmp_path: Path) -> None:
    path = tmp_path / "millpond.db"
    command = [sys.executable, "-c", _WATCHER, f"sqlite:///{path}"]
    with (
        closing(sqlite3.connect(path, isolation_level=None)) as other,
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as watcher,
    ):
        other.execute("PRAGMA journal_mode = wal")
        other.execute("CREATE TABLE counts (n INTEGER)")
        before = _mark(watcher)
        other.execute("INSERT INTO counts VALUES (1)")
        after = _mark(watcher)
        assert after != before
        assert _mark(watcher) == after
        # without it the next process to open the database cuts the index short, under the hands of all others
        assert _holds(watcher.pid, path.with_name("millpond.db-shm"))
        watcher.communicate()


def _holds(pid: int, file: Path) -> bool:
    """Whether a process has a lock on a file."""
    locks = [line.split() for line in Path("/proc/locks").read_text().splitlines()]
    return any(lock[4] == str(pid) and lock[5].endswith(f":{file.stat().st_ino}") for lock in locks if len(lock) == 8)


def _mark(watcher: "subprocess.Popen[str]") -> str:
    assert watcher.stdin is not None
    assert watcher.stdout is not None
    watcher.stdin.write("\n")
    watcher.stdin.flush()
    return watcher.stdout.readline().strip()


@pytest.mark.parametrize("kind", BACKENDS)
def test_a_mark_is_another_after_a_commit_and_the_same_after_none(
    kind: str, databases: Databases, tmp_path: Path
) -> None:
    with databases.new(kind, tmp_path) as database:
        mark = snapshot_mark(database)
        count = text("UPDATE identity_grants_epoch SET epoch = epoch + 1")
        with database.write() as connection:
            connection.execute(count)
            during = mark()
        after = mark()
        assert after != during, "what was committed is seen from now on"
        with database.read() as connection:
            connection.execute(text("SELECT 1"))
        if mark() != after:  # others share PostgreSQL's counter of transactions
            assert kind == "postgresql"
        with database.write() as connection:
            connection.execute(count)
        assert mark() != after


def test_a_mark_is_unknown_where_the_database_cannot_say(databases: Databases, tmp_path: Path) -> None:
    with databases.new("postgresql", tmp_path) as database:
        mark, other = snapshot_mark(database), Database(database.url)
        with database.read() as connection:
            own = connection.execute(text("SELECT pg_backend_pid()")).scalar_one()
        with other.write() as connection:
            connection.execute(text("SELECT pg_terminate_backend(:pid, 5000)"), {"pid": own})
        assert mark() is None
        assert mark(), "by a new connection"
        other.dispose()


def test_values_are_kept_for_a_mark_and_forgotten_with_it() -> None:
    marks = [b"1"]
    kept: Kept[str, int] = Kept(lambda: marks[0])
    assert [kept.get("a", lambda: 1), kept.get("a", lambda: 2)] == [1, 1]
    older = kept.now()
    marks[0] = b"2"
    assert kept.get("a", lambda: 3) == 3
    assert older is not None
    older["b"] = 4  # whoever found it had read the mark before
    assert kept.get("b", lambda: 5) == 5
