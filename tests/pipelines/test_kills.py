"""kill -9 of an update between and within its batches, then another: no row is there twice, none is lost."""

import json
import random
import signal
import subprocess
import threading

import pytest

from tests.pipelines.pipelines import Pipeline

pytestmark = pytest.mark.timeout(300)

SOURCE = """
    CREATE STREAMING TABLE copied (CONSTRAINT kept EXPECT (id >= 0) ON VIOLATION DROP ROW) AS
    SELECT id FROM STREAM(numbers);
    CREATE STREAMING TABLE again AS SELECT id FROM STREAM(copied);
    CREATE STREAMING TABLE last;
    APPLY CHANGES INTO last FROM STREAM(copied) KEYS (id) SEQUENCE BY id STORED AS SCD TYPE 2;
"""
_BATCH = 10


def batches(process: "subprocess.Popen[str]") -> int:
    """Wait until some rows were written; how many flows have said so by then."""
    assert process.stdout is not None
    for line in process.stdout:
        told = json.loads(line)["details"].get("flow_progress", {})
        if told.get("metrics", {}).get("num_output_rows"):
            return 1
    raise AssertionError(process.stderr.read() if process.stderr else "")


def test_killed_at_any_moment_all_rows_are_there_once(pipeline: Pipeline) -> None:
    pipeline.sql("CREATE TABLE numbers (id BIGINT)")
    pipeline.sql_file(SOURCE)
    chance, first = random.Random(5), 0
    for _ in range(4):
        pipeline.sql(f"INSERT INTO numbers SELECT id FROM range({first}, {first + _BATCH})")
        first += _BATCH
        process = pipeline.process(continuous=True, configuration={"pipelines.trigger.interval": "100 milliseconds"})
        assert batches(process)
        pipeline.sql(f"INSERT INTO numbers SELECT id FROM range({first}, {first + _BATCH})")
        first += _BATCH
        threading.Event().wait(chance.uniform(0.0, 1.5))
        process.send_signal(signal.SIGKILL)
        process.communicate()
    pipeline.updated()
    for name in ("copied", "again", "last"):
        assert pipeline.sql(f"SELECT count(id), count(DISTINCT id) FROM {name}") == [(first, first)], name
