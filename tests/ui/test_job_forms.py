"""What the form of a job shows of its settings, and what of them it changes."""

from typing import Any

import pytest

from millpond.jobs.settings import checked
from millpond.kernel.errors import InvalidArgument
from millpond.ui import job_forms as forms

SHOWN: list[tuple[str, dict[str, Any]]] = [
    ("notebook", {"notebook_task": {"notebook_path": "/Users/a/n", "base_parameters": {"a": "1", "b": "x = y"}}}),
    ("script", {"spark_python_task": {"python_file": "/Volumes/a/b/c/s.py", "parameters": ["--day", "a b"]}}),
    ("wheel", {"python_wheel_task": {"package_name": "p", "entry_point": "main"}}),
    ("query", {"sql_task": {"query": {"query_id": "q"}, "warehouse_id": "starter", "parameters": {"day": "x"}}}),
    ("file", {"sql_task": {"file": {"path": "/Users/a/f.sql"}, "warehouse_id": "starter"}}),
    ("alert", {"sql_task": {"alert": {"alert_id": "a"}, "warehouse_id": "starter"}}),
    ("alert_task", {"alert_task": {"alert_id": "a", "parameters": {"day": "x"}}}),
    ("dbt", {"dbt_task": {"project_directory": "/Volumes/a/b/c/p", "commands": ["dbt deps", "dbt run"]}}),
    ("job", {"run_job_task": {"job_id": 17, "job_parameters": {"a": "1"}}}),
    ("condition", {"condition_task": {"left": "1", "op": "EQUAL_TO", "right": "{{job.parameters.a}}"}}),
]


@pytest.mark.parametrize(("key", "body"), SHOWN)
def test_what_a_task_does_comes_back_from_the_form_as_it_was(key: str, body: dict[str, Any]) -> None:
    does = forms.does_of({"task_key": "t", **body})
    assert does is not None
    assert does.key == key
    texts = {each.path: forms.text_of(each, body, does) for each in does.fields}
    assert {does.kind: forms.body_of(does, texts)} == body
    checked({"tasks": [{"task_key": "t", **body}]})


@pytest.mark.parametrize(
    "body",
    [
        {"notebook_task": {"notebook_path": "n", "source": "GIT"}},
        {"sql_task": {"alert": {"alert_id": "a", "pause_subscriptions": True}, "warehouse_id": "w"}},
        {"mlflow_project_task": {"uri": "/x"}},
        {"spark_python_task": {"python_file": "s.py", "parameters": ["--name", ""]}},
        {"spark_python_task": {"python_file": "s.py", "parameters": ["two\nlines"]}},
        {"notebook_task": {"notebook_path": "n", "base_parameters": {"cfg": "a=1\nb=2"}}},
        {"notebook_task": {"notebook_path": "n", "base_parameters": {"cfg": "a\nb"}}},
        {"notebook_task": {"notebook_path": "n", "base_parameters": {"pad": "  x"}}},
    ],
)
def test_what_the_form_cannot_hold_is_written_as_yaml(body: dict[str, Any]) -> None:
    assert forms.does_of({"task_key": "t", **body}) is None
    assert forms.from_yaml(forms.as_yaml(body)) == body


@pytest.mark.parametrize("pairs", [[("a", "x\ny=z")], [("a", " x")], [(" a", "x")], [("a=b", "x")], [("a", 1)]])
def test_names_and_values_that_lines_cannot_hold_are_not_shown(pairs: list[tuple[str, Any]]) -> None:
    assert forms.shown_pairs(pairs) is None
    assert forms.shown_pairs([("a", "x = y"), ("b", "")]) == "a = x = y\nb = "


def test_zero_is_a_value_and_nothing_is_none() -> None:
    settings: dict[str, Any] = {"timeout_seconds": 5, "tags": {"a": "b"}, "queue": True}
    for name, value in (("timeout_seconds", 0), ("tags", {}), ("queue", False)):
        forms.put(settings, name, value)
    assert settings == {"timeout_seconds": 0}


@pytest.mark.parametrize(
    ("settings", "start"),
    [
        ({"schedule": {"quartz_cron_expression": "0 0 6 * * ?", "timezone_id": "UTC"}}, forms.CRON),
        ({"trigger": {"periodic": {"interval": 2, "unit": "HOURS"}, "pause_status": "PAUSED"}}, forms.EVERY),
        ({"trigger": {"file_arrival": {"url": "/Volumes/a/b/c/"}}}, forms.AS_IT_IS),
        ({"continuous": {"pause_status": "UNPAUSED"}}, forms.ALWAYS),
        ({}, forms.BY_HAND),
    ],
)
def test_what_starts_a_job_stays_as_it_was_or_is_paused(settings: dict[str, Any], start: str) -> None:
    assert forms.starts_of(settings) == start
    texts = {"cron": "0 0 6 * * ?", "zone": "UTC", "interval": "2", "unit": "HOURS"}
    paused = any(part.get("pause_status") == "PAUSED" for part in settings.values())
    same = dict(settings)
    forms.with_start(same, start, texts, paused=paused)
    assert same == settings
    forms.with_start(same, start, texts, paused=not paused)
    assert all((part["pause_status"] == "PAUSED") is not paused for part in same.values())


def test_only_what_is_told_of_an_event_changes() -> None:
    settings: dict[str, Any] = {"email_notifications": {"on_failure": ["a@b.c"], "no_alert_for_skipped_runs": True}}
    forms.with_told(settings, "on_failure", [], ["d"])
    assert settings == {
        "email_notifications": {"no_alert_for_skipped_runs": True},
        "webhook_notifications": {"on_failure": [{"id": "d"}]},
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: [", "line 1"),
        ("a: &a [1]\nb: [*a, *a]", "alias"),
        ("- 1", "names and values"),
        ("1: 2", "names and values"),
        ("", "names and values"),
        ("[" * 2000, "cannot be read"),
        ("x" * 500_001, "more than"),
        ("a: !!python/object/apply:os.system ['id']", "cannot be read"),
    ],
)
def test_yaml_that_cannot_be_taken_says_why(text: str, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        forms.from_yaml(text)


def test_json_is_taken_too_and_texts_are_read() -> None:
    assert forms.from_yaml('{"name": "x", "tasks": []}') == {"name": "x", "tasks": []}
    assert forms.pairs("a = 1\n\n b=x = y ", "Tags") == [("a", "1"), ("b", "x = y")]
    assert forms.names("a, b;c") == ["a", "b", "c"]
    with pytest.raises(InvalidArgument, match="Tags: 'a'"):
        forms.pairs("a", "Tags")
    with pytest.raises(InvalidArgument, match="no whole number"):
        forms.whole("1.5", "Retries")
