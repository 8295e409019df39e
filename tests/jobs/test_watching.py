"""When what a trigger watches starts a run: the rules, without files or tables."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from millpond.jobs.settings import checked
from millpond.jobs.triggers import Trigger, When, trigger_of
from millpond.jobs.watching import (
    MOST_PENDING,
    Watch,
    after_look,
    described,
    is_of_scope,
    news_for_run,
    ripe_at,
    with_update,
)
from millpond.kernel.errors import InvalidArgument, NotImplementedHere

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
FILES = Trigger(kind=When.FILES, body={"url": "/Volumes/a/b/c"}, paused=False)
TABLES = Trigger(kind=When.TABLES, body={"table_names": ["A.b.c", "a.b.d"]}, paused=False)


def seconds(number: int) -> timedelta:
    return timedelta(seconds=number)


def patient(trigger: Trigger, **waits: int) -> Trigger:
    return replace(trigger, body={**trigger.body, **waits})


def test_only_new_files_count_and_those_that_went_may_come_again() -> None:
    watch = after_look(Watch(job_id=1, known={"a": ""}), When.FILES, {"a": ""}, NOON)
    assert ripe_at(FILES, watch) is None
    watch = after_look(watch, When.FILES, {"a": "", "b": "", "c": ""}, NOON)
    watch = after_look(watch, When.FILES, {"a": "", "b": "", "c": "", "d": ""}, NOON + seconds(5))
    assert (watch.pending, ripe_at(FILES, watch)) == ({"arrived": "3"}, NOON + seconds(5))
    told, rest = news_for_run(FILES, watch)
    assert (told, rest) == ({"file_arrival.location": "/Volumes/a/b/c"}, {})
    watch = after_look(replace(watch, pending=rest), When.FILES, {"a": ""}, NOON + seconds(6))
    assert (watch.known, ripe_at(FILES, watch)) == ({"a": ""}, None)
    assert ripe_at(FILES, after_look(watch, When.FILES, {"a": "", "b": ""}, NOON)) == NOON


def test_a_run_waits_for_quiet_and_for_the_pause_after_the_one_before() -> None:
    """The example of the documentation: at 5 s and at 115 s something changes, and the run starts at 175 s."""
    trigger = patient(FILES, min_time_between_triggers_seconds=120, wait_after_last_change_seconds=60)
    watch = after_look(Watch(job_id=1, fired_at=NOON), When.FILES, {"a": ""}, NOON + seconds(5))
    assert ripe_at(trigger, watch) == NOON + seconds(120)
    watch = after_look(watch, When.FILES, {"a": "", "b": ""}, NOON + seconds(115))
    assert ripe_at(trigger, watch) == NOON + seconds(175)


def test_tables_count_by_version_one_or_all_of_them() -> None:
    versions = {"a.b.c": "3 2026-01-01T10:00:00Z", "a.b.d": "0 2026-01-01T10:00:00Z"}
    watch = Watch(job_id=1, known=versions)
    assert after_look(watch, When.TABLES, versions, NOON) == watch
    watch = after_look(watch, When.TABLES, {**versions, "a.b.c": "4 2026-01-01T11:00:00Z"}, NOON)
    both = patient(TABLES)
    both = replace(both, body={**both.body, "condition": "ALL_UPDATED"})
    assert (ripe_at(TABLES, watch), ripe_at(both, watch)) == (NOON, None)
    told, _ = news_for_run(TABLES, watch)
    assert told == {
        "table_update.updated_tables": '["A.b.c"]',
        "table_update.A.b.c.version": "4",
        "table_update.A.b.c.commit_timestamp": "2026-01-01T11:00:00Z",
    }
    watch = after_look(watch, When.TABLES, {"a.b.c": "4 2026-01-01T11:00:00Z", "a.b.d": "1 x"}, NOON)
    assert ripe_at(both, watch) == NOON


def test_of_many_updates_of_models_a_run_is_told_nine_in_order() -> None:
    trigger = Trigger(kind=When.MODELS, body={"condition": "MODEL_VERSION_READY"}, paused=False)
    pending = {str(number): {"full_name": "a.b.m", "version": number} for number in range(12, 0, -1)}
    told, rest = news_for_run(trigger, Watch(job_id=1, pending=pending, changed_at=NOON))
    assert [each["version"] for each in json.loads(told["model.updates"])] == [*range(1, 10)]
    assert sorted(map(int, rest)) == [10, 11, 12]


def test_of_updates_of_models_that_no_run_was_told_of_the_newest_stay() -> None:
    trigger, watch = Trigger(kind=When.MODELS, body={"condition": "MODEL_CREATED"}, paused=False), Watch(job_id=1)
    for number in range(MOST_PENDING + 3):
        watch = with_update(watch, number, {"full_name": f"a.b.m{number}"}, NOON)
    assert (min(map(int, watch.pending)), len(watch.pending)) == (3, MOST_PENDING)
    assert described(trigger, watch) == f"{MOST_PENDING} updates of models; 3 older ones were dropped."
    watch = with_update(replace(watch, pending={}), MOST_PENDING, {"full_name": "a.b.c"}, NOON)
    assert described(trigger, watch) == "1 updates of models."


@pytest.mark.parametrize(
    ("body", "condition", "model", "alias", "expected"),
    [
        ({"securable_name": "a.b.m"}, "MODEL_VERSION_READY", "A.b.m", "", True),
        ({"securable_name": "a.b.m"}, "MODEL_VERSION_READY", "a.b.m2", "", False),
        ({"securable_name": "a.b"}, "MODEL_VERSION_READY", "a.b.m", "", True),
        ({"securable_name": "a.b"}, "MODEL_VERSION_READY", "a.bc.m", "", False),
        ({}, "MODEL_VERSION_READY", "x.y.z", "", True),
        ({}, "MODEL_CREATED", "x.y.z", "", False),
        ({"aliases": ["champion"]}, "MODEL_VERSION_READY", "x.y.z", "other", False),
    ],
)
def test_scopes_of_models(body: dict[str, Any], condition: str, model: str, alias: str, expected: bool) -> None:
    trigger = Trigger(kind=When.MODELS, body={"condition": "MODEL_VERSION_READY", **body}, paused=False)
    assert is_of_scope(trigger, condition, model, alias) is expected


TASKS = [{"task_key": "a", "condition_task": {"op": "EQUAL_TO", "left": "1", "right": "1"}}]
CRON = {"quartz_cron_expression": "0 0 6 * * ?", "timezone_id": "Europe/Berlin"}


@pytest.mark.parametrize(
    ("settings", "error", "told"),
    [
        ({"schedule": CRON | {"timezone_id": "Europe/Atlantis"}}, InvalidArgument, "schedule.timezone_id: 'Europe/Atl"),
        ({"schedule": CRON | {"timezone_id": "../etc/passwd"}}, InvalidArgument, "schedule.timezone_id"),
        ({"schedule": CRON | {"quartz_cron_expression": "* * *"}}, InvalidArgument, "schedule.quartz_cron_expression"),
        ({"schedule": CRON | {"quartz_cron_expression": "0 0 6 * * ? 1999"}}, InvalidArgument, "yet to come"),
        ({"schedule": CRON | {"sql_condition": {"a": 1}}}, NotImplementedHere, "schedule has sql_condition"),
        ({"schedule": CRON, "continuous": {"pause_status": "PAUSED"}}, InvalidArgument, "schedule and continuous"),
        ({"continuous": {"maintenance_window": {"a": 1}}}, NotImplementedHere, "maintenance_window"),
        ({"continuous": {"task_retry_mode": "ON_FAILURE"}}, NotImplementedHere, "max_retries"),
        ({"continuous": {"pause_status": "PAUSED"}, "max_concurrent_runs": 2}, InvalidArgument, "continuous job is 1"),
        ({"trigger": {"pause_status": "PAUSED"}}, InvalidArgument, "exactly one of file_arrival, model, periodic"),
        ({"trigger": {"job_completion": {"a": 1}}}, NotImplementedHere, "job_completion"),
        ({"trigger": {"file_arrival": {"url": "s3://b/p/"}}}, NotImplementedHere, "s3://b/p/"),
        ({"trigger": {"file_arrival": {"url": "/Volumes/a/b"}}}, InvalidArgument, "names no volume"),
        (
            {"trigger": {"file_arrival": {"url": "/Volumes/a/b/c", "min_time_between_triggers_seconds": 5}}},
            InvalidArgument, "min_time_between_triggers_seconds is less than 60",
        ),
        ({"trigger": {"table_update": {"table_names": ["t"]}}}, InvalidArgument, "'t' is not catalog.schema.table"),
        ({"trigger": {"table_update": {"table_names": []}}}, InvalidArgument, "table_names"),
        (
            {"trigger": {"model": {"condition": "MODEL_CREATED", "securable_name": "a.b.c"}}},
            InvalidArgument, "watches a schema",
        ),
        (
            {"trigger": {"model": {"condition": "MODEL_CREATED", "aliases": ["a"]}}},
            InvalidArgument, "MODEL_ALIAS_SET",
        ),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_trigger_is_said_when_the_job_is_made(
    settings: dict[str, Any], error: type[Exception], told: str
) -> None:
    with pytest.raises(error, match=told):
        checked({"tasks": TASKS, **settings})


def test_a_trigger_is_read_from_settings() -> None:
    assert trigger_of(checked({"tasks": TASKS})) is None
    paused = trigger_of(checked({"tasks": TASKS, "schedule": CRON | {"pause_status": "PAUSED"}}))
    assert paused is not None
    assert (paused.kind, paused.paused) == (When.CRON, True)
