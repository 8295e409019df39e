"""AUTO CDC against a plain computation of what must come of events, whatever their order and batches."""

import random
from typing import Any

import pytest

from tests.pipelines.pipelines import Pipeline

pytestmark = pytest.mark.timeout(300)

Entry = tuple[int, int, str, str, str]
"""Key, sequence, operation, city, note."""
SOURCE = """
    CREATE STREAMING TABLE now;
    CREATE FLOW f AS AUTO CDC INTO now FROM STREAM(events) KEYS (id) APPLY AS DELETE WHEN op = 'D'
      SEQUENCE BY seq COLUMNS * EXCEPT (op, seq) STORED AS SCD TYPE 1;
"""
PYTHON = """
    import dlt
    from pyspark.sql.functions import col, expr

    dlt.create_streaming_table("history")
    dlt.apply_changes(
        target="history", source="events", keys=["id"], sequence_by=col("seq"), apply_as_deletes=expr("op = 'D'"),
        except_column_list=["op", "seq"], stored_as_scd_type=2,
    )
    dlt.create_streaming_table("tracked")
    dlt.create_auto_cdc_flow(
        target="tracked", source="events", keys=["id"], sequence_by="seq", apply_as_deletes="op = 'D'",
        column_list=["id", "city", "note"], stored_as_scd_type="2", track_history_column_list=["city"],
    )
"""


def events_of(chance: random.Random) -> list[Entry]:
    """Events in any order: each key has its own sequence, with deletes, also before the first upsert."""
    found = []
    for key in range(6):
        for seq in chance.sample(range(100), chance.randint(3, 12)):
            operation = "D" if chance.random() < 0.3 else "U"
            found.append((key, seq, operation, chance.choice("AB"), f"n{chance.randint(0, 9)}"))
    chance.shuffle(found)
    return found


def expected_now(events: list[Entry]) -> list[tuple[Any, ...]]:
    last = {key: entry for key, *_ in events for entry in [max(each for each in events if each[0] == key)]}
    return sorted((key, city, note) for key, _, operation, city, note in last.values() if operation != "D")


def expected_history(events: list[Entry], *, by_city: bool) -> list[tuple[Any, ...]]:
    rows: list[list[Any]] = []
    for key in {entry[0] for entry in events}:
        current: list[Any] | None = None
        for _, seq, operation, city, note in sorted(each for each in events if each[0] == key):
            if operation == "U" and by_city and current is not None and current[1] == city:
                current[2] = note
                continue
            if current is not None:
                current[4] = seq
            current = [key, city, note, seq, None] if operation == "U" else None
            if current is not None:
                rows.append(current)
    return sorted(map(tuple, rows), key=lambda row: (row[0], row[3]))


@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.long), pytest.param(3, marks=pytest.mark.long)])
def test_whatever_the_order_and_the_batches_it_is_the_same(pipeline: Pipeline, seed: int) -> None:
    chance = random.Random(seed)
    pipeline.sql("CREATE TABLE events (id BIGINT, seq BIGINT, op STRING, city STRING, note STRING)")
    pipeline.sql_file(SOURCE).python(PYTHON)
    waiting, come = events_of(chance), []
    while waiting:
        batch = [waiting.pop() for _ in range(min(len(waiting), chance.randint(5, 25)))]
        come += batch
        pipeline.sql(f"INSERT INTO events VALUES {', '.join(map(str, batch))}")
        pipeline.updated()
        assert sorted(pipeline.sql("SELECT id, city, note FROM now")) == expected_now(come)
        for name, by_city in (("history", False), ("tracked", True)):
            rows = pipeline.sql(f"SELECT id, city, note, __START_AT, __END_AT FROM {name}")
            assert sorted(rows, key=lambda row: (row[0], row[3])) == expected_history(come, by_city=by_city), name
    pipeline.sql("DROP TABLE now")
    pipeline.updated()
    assert sorted(pipeline.sql("SELECT id, city, note FROM now")) == expected_now(come)
    pipeline.updated(full_refresh=True)
    assert sorted(pipeline.sql("SELECT id, city, note FROM now")) == expected_now(come)
    assert len(pipeline.sql("SELECT id FROM history")) == len(expected_history(come, by_city=False))


def test_events_without_a_sequence_are_refused(pipeline: Pipeline) -> None:
    pipeline.sql("CREATE TABLE events (id BIGINT, seq BIGINT, op STRING, city STRING, note STRING)")
    pipeline.sql("INSERT INTO events VALUES (1, NULL, 'U', 'A', 'n')")
    found = pipeline.sql_file(SOURCE).update().error
    assert "1 events" in str(found)
    assert "have no sequence" in str(found)
    assert pipeline.tables() == {"events", "now", "__changes_now"}
    assert pipeline.sql("SELECT * FROM now") == []
