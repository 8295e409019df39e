"""Full refreshes: beside an attempt that still lives, and to other columns."""

import threading
from typing import Any

import pytest

from millpond.sdk.pipelines.writing import Flows
from tests.pipelines.pipelines import Pipeline

pytestmark = pytest.mark.timeout(300)

SOURCE = """
    CREATE TEMPORARY VIEW events AS SELECT {columns} FROM STREAM(numbers);
    CREATE STREAMING TABLE copied AS SELECT * FROM STREAM(events);
    CREATE STREAMING TABLE history;
    APPLY CHANGES INTO history FROM STREAM(events) KEYS (key) SEQUENCE BY id STORED AS SCD TYPE 2;
    CREATE STREAMING TABLE now;
    APPLY CHANGES INTO now FROM STREAM(events) KEYS (key) SEQUENCE BY id;
"""


@pytest.fixture
def numbers(pipeline: Pipeline) -> Pipeline:
    pipeline.sql("CREATE TABLE numbers (id BIGINT)")
    pipeline.sql("INSERT INTO numbers SELECT id FROM range(0, 10)")
    return pipeline.sql_file(SOURCE.format(columns="id, id % 5 AS key"))


def test_a_write_that_began_before_a_full_refresh_does_not_come_after_it(
    numbers: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers.updated()
    numbers.sql("INSERT INTO numbers SELECT id FROM range(10, 20)")
    begun, append = threading.Event(), Flows.append

    def late(self: Any, name: str, *given: Any) -> None:
        if name.endswith(".copied") and not begun.is_set():
            begun.set()
            process = numbers.process(full_refresh=True)
            process.communicate(timeout=120)
            assert process.returncode == 0
        append(self, name, *given)

    monkeypatch.setattr(Flows, "append", late)
    numbers.update()
    monkeypatch.undo()
    for count in (20, 30):
        numbers.updated()
        for name in ("copied", "history"):
            assert numbers.sql(f"SELECT count(id), count(DISTINCT id) FROM {name}") == [(count, count)], name
        assert sorted(numbers.sql("SELECT key, id FROM now")) == [(key, count - 5 + key) for key in range(5)]
        numbers.sql(f"INSERT INTO numbers SELECT id FROM range({count}, {count + 10})")


@pytest.mark.long
def test_a_full_refresh_gives_other_types_to_what_lies_beside_too(numbers: Pipeline) -> None:
    numbers.updated()
    numbers.sql_file(SOURCE.format(columns="timestamp_seconds(id) AS id, concat('k', id % 5) AS key"))
    assert "Refresh it in full" in str(numbers.update().error)
    numbers.updated(full_refresh=True)
    numbers.sql("INSERT INTO numbers VALUES (11)")
    numbers.updated()
    assert sorted(numbers.sql("SELECT key, unix_timestamp(id) FROM now")) == [
        ("k0", 5), ("k1", 11), ("k2", 7), ("k3", 8), ("k4", 9),
    ]  # fmt: skip
    assert numbers.sql("SELECT count(*), count(__END_AT) FROM history") == [(11, 6)]


@pytest.mark.long
def test_what_lies_beside_is_made_again(numbers: Pipeline) -> None:
    numbers.updated()
    for name in ("now", "history"):
        numbers.sql(f"DROP TABLE __changes_{name}")
    numbers.updated()
    numbers.sql("INSERT INTO numbers VALUES (4)")
    numbers.updated()
    assert sorted(numbers.sql("SELECT key, id FROM now")) == [(0, 5), (1, 6), (2, 7), (3, 8), (4, 9)]
    assert numbers.sql("SELECT count(*), count(__END_AT) FROM history") == [(10, 5)]


OWN = """
    import dlt

    @dlt.table(name="`größe'x`", table_properties={"pipelines.reset.allowed": False})
    def kept():
        return spark.sql("SELECT id, named_struct('erste Größe', 1, 'b', array(1.5)) AS `a b.c` FROM STREAM(numbers)")

    @dlt.table
    def later():
        return spark.readStream.option("startingVersion", 3).table("numbers").select("id")

    @dlt.table(spark_conf={"spark.sql.session.timeZone": "Asia/Tokyo"})
    def there():
        return spark.sql("SELECT current_timezone() AS zone")

    @dlt.table
    def here():
        return spark.sql("SELECT current_timezone() AS zone")
"""


@pytest.mark.long
def test_names_properties_versions_and_settings(numbers: Pipeline) -> None:
    zone = numbers.sql("SELECT current_timezone()")
    numbers.python(OWN)
    assert "streamed from version 3; its newest is 1" in str(numbers.update().error)
    for number in (100, 101):
        numbers.sql(f"INSERT INTO numbers VALUES ({number})")
    for _ in range(2):
        numbers.updated()
    version = numbers.sql("DESCRIBE HISTORY `größe'x`")[0][0]
    numbers.updated(full_refresh_selection=["`größe'x`"])
    assert numbers.sql("DESCRIBE HISTORY `größe'x`")[0][0] == version
    assert numbers.sql("SELECT id FROM later") == [(101,)]
    assert numbers.sql("SELECT count(*), max(`a b.c`.`erste Größe`) FROM `größe'x`") == [(12, 1)]
    assert (numbers.sql("SELECT zone FROM there"), numbers.sql("SELECT zone FROM here")) == ([("Asia/Tokyo",)], zone)
