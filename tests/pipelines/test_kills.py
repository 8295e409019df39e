"""An update ends at any write, and by kill -9 at any moment; then another: no row is there twice, none is lost."""

import json
import random
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
from pyspark.sql.connect.readwriter import DataFrameWriter

from tests.pipelines.pipelines import Pipeline

pytestmark = pytest.mark.timeout(600)

SOURCE = """
    CREATE STREAMING TABLE copied (CONSTRAINT kept EXPECT (id >= 0) ON VIOLATION DROP ROW) AS
    SELECT id, id % 7 AS key FROM STREAM(numbers);
    CREATE STREAMING TABLE again AS SELECT id FROM STREAM(copied);
    CREATE STREAMING TABLE history;
    APPLY CHANGES INTO history FROM STREAM(copied) KEYS (key) SEQUENCE BY id STORED AS SCD TYPE 2;
    CREATE STREAMING TABLE now;
    APPLY CHANGES INTO now FROM STREAM(copied) KEYS (key) APPLY AS DELETE WHEN id % 7 = 3 SEQUENCE BY id;
"""
_BATCH = 10


class _Ended(BaseException):
    """In place of the end of the process, which nobody sees and after which nothing is written."""


@contextmanager
def ending(at: int, *, after: bool) -> Iterator[Callable[[], bool]]:
    """Writes end before or after a number of them; what is given tells whether they have."""
    save, count, lock = DataFrameWriter.saveAsTable, 0, threading.Lock()

    def counted(self: Any, *given: Any, **options: Any) -> None:
        nonlocal count
        with lock:
            count += 1
            if count > at or (count == at and not after):
                raise _Ended
            save(self, *given, **options)
            if count == at:
                raise _Ended

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(DataFrameWriter, "saveAsTable", counted)
        with suppress(_Ended):
            yield lambda: count >= at


def add(pipeline: Pipeline, first: int) -> int:
    """More numbers from one on; the next one."""
    pipeline.sql(f"INSERT INTO numbers SELECT id FROM range({first}, {first + _BATCH})")
    return first + _BATCH


def check(pipeline: Pipeline, count: int) -> None:
    """All tables are as if nothing had ended, and nothing else is left."""
    assert not [name for name in pipeline.tables() if "staged" in name]
    for name in ("copied", "again", "history"):
        assert pipeline.sql(f"SELECT count(id), count(DISTINCT id) FROM {name}") == [(count, count)], name
    last = {number % 7: number for number in range(count) if number % 7 != 3}
    assert sorted(pipeline.sql("SELECT key, id FROM now")) == sorted(last.items())
    rows = pipeline.sql("SELECT id, __START_AT, __END_AT FROM history")
    assert sorted(rows) == [(each, each, each + 7 if each + 7 < count else None) for each in range(count)]


@pytest.mark.long
@pytest.mark.parametrize("after", [False, True])
def test_ended_at_any_write_another_update_makes_all_good(pipeline: Pipeline, after: bool) -> None:
    pipeline.sql("CREATE TABLE numbers (id BIGINT)")
    pipeline.sql_file(SOURCE)
    first, at, has_ended = add(pipeline, 0), 0, True
    while has_ended:
        at += 1
        with ending(at, after=after) as asked:
            pipeline.update()
        has_ended = asked()
        first = add(pipeline, first)
    assert at > 8
    pipeline.updated()
    check(pipeline, first)
    at = 0
    has_ended = True
    while has_ended:
        at += 1
        with ending(at, after=after) as asked:
            pipeline.update(full_refresh=True)
        has_ended = asked()
        pipeline.updated()
        check(pipeline, first)
    assert at > 8


def wait_for_rows(process: "subprocess.Popen[str]") -> None:
    """Until a flow has told that it has written some."""
    assert process.stdout is not None
    for line in process.stdout:
        told = json.loads(line)["details"].get("flow_progress", {})
        if told.get("metrics", {}).get("num_output_rows"):
            return
    raise AssertionError(process.stderr.read() if process.stderr else "")


@pytest.mark.parametrize("kills", [2, pytest.param(12, marks=pytest.mark.long)])
def test_killed_at_any_moment_all_rows_are_there_once(pipeline: Pipeline, kills: int) -> None:
    pipeline.sql("CREATE TABLE numbers (id BIGINT)")
    pipeline.sql_file(SOURCE)
    chance, first = random.Random(kills), 0
    for _ in range(kills):
        first = add(pipeline, first)
        process = pipeline.process(continuous=True, configuration={"pipelines.trigger.interval": "100 milliseconds"})
        wait_for_rows(process)
        first = add(pipeline, first)
        threading.Event().wait(chance.uniform(0.0, 1.5))
        process.send_signal(signal.SIGKILL)
        process.communicate()
    pipeline.updated()
    check(pipeline, first)
