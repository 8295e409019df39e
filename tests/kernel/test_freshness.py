"""The mark by which a process knows that the database has changed."""

import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

_WATCHER = """
import sys

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
