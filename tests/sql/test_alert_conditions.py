"""What results mean under conditions, who is told when, and in which words."""

import tracemalloc
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from millpond.kernel.errors import InvalidArgument
from millpond.notifications.domain import Target
from millpond.sql.alerts.conditions import judged
from millpond.sql.alerts.domain import (
    Aggregation,
    Alert,
    AlertDraft,
    AlertState,
    Condition,
    Operand,
    Operator,
    Schedule,
    Verdict,
    after,
    changed,
    checked_alert,
    fit,
)
from millpond.sql.alerts.masks import masked
from millpond.sql.alerts.messages import notice_of
from millpond.sql.alerts.wire import OptionsInput

OK, TRIGGERED, UNKNOWN, ERROR = AlertState.OK, AlertState.TRIGGERED, AlertState.UNKNOWN, AlertState.ERROR
NOW = datetime(2026, 5, 1, tzinfo=UTC)
NAN = float("nan")
O = Operator  # noqa: E741 - a table is read by its lines


def condition(operator: Operator, threshold: Any = None, *, of: Aggregation | None = None) -> Condition:
    return Condition(source=Operand(column="v", aggregation=of), operator=operator, threshold=threshold)


def state(values: list[Any], *asked: Any, kind: pa.DataType | None = None, **more: Any) -> AlertState:
    table = pa.table({"v": pa.array(values, type=kind)})
    return judged(condition(*asked, **more), table, truncated=False).state


@pytest.mark.parametrize(
    ("value", "operator", "threshold", "expected"),
    [
        (11, O.GREATER_THAN, 10.0, TRIGGERED),
        (10, O.GREATER_THAN, 10.0, OK),
        (10, O.GREATER_THAN_OR_EQUAL, 10.0, TRIGGERED),
        (2**63 - 1, O.EQUAL, float(2**63), OK),
        (Decimal("0.1"), O.LESS_THAN, 0.2, TRIGGERED),
        (Decimal("0.3"), O.LESS_THAN_OR_EQUAL, 0.2, OK),
        (Decimal("0.10"), O.EQUAL, 0.1, TRIGGERED),
        (Decimal("0.10"), O.LESS_THAN, 0.1, OK),
        (Decimal("12345678901234567890123456789"), O.GREATER_THAN, 12345678901234567890123456788.0, OK),
        (Decimal("1"), O.LESS_THAN, NAN, TRIGGERED),
        (10, O.EQUAL, "10", TRIGGERED),
        ("12", O.GREATER_THAN, 9.0, TRIGGERED),
        ("12", O.GREATER_THAN, "9", OK),
        ("red", O.NOT_EQUAL, "green", TRIGGERED),
        (True, O.EQUAL, True, TRIGGERED),
        (False, O.EQUAL, "true", OK),
        (NAN, O.GREATER_THAN, 5.0, TRIGGERED),
        (date(2026, 1, 2), O.LESS_THAN, "2026-01-03", TRIGGERED),
        (datetime(2026, 1, 2, 3, tzinfo=UTC), O.GREATER_THAN, "2026-01-02T02:00:00+00:00", TRIGGERED),
        (datetime(2026, 1, 2, 3), O.GREATER_THAN, "2026-01-02 04:00", OK),
        (None, O.IS_NULL, None, TRIGGERED),
        (3, O.IS_NULL, None, OK),
        (3, O.IS_NOT_NULL, None, TRIGGERED),
        (None, O.GREATER_THAN, 1.0, UNKNOWN),
    ],
)
def test_a_value_compares_as_its_type_says(
    value: Any, operator: Operator, threshold: Any, expected: AlertState
) -> None:
    assert state([value], operator, threshold) is expected


@pytest.mark.parametrize(
    ("aggregation", "expected"),
    [
        (Aggregation.SUM, "8"),
        (Aggregation.COUNT, "3"),
        (Aggregation.COUNT_DISTINCT, "2"),
        (Aggregation.AVG, "2.66666666666667"),
        (Aggregation.MEDIAN, "2"),
        (Aggregation.MIN, "2"),
        (Aggregation.MAX, "4"),
        (Aggregation.STDDEV, "1.15470053837925"),
        (None, "2"),
    ],
)
def test_of_a_column_its_first_row_counts_or_an_aggregate_without_nulls(
    aggregation: Aggregation | None, expected: str
) -> None:
    for values in ([2, 2, 4, None], [Decimal(2), Decimal(2), Decimal(4), None]):
        table = pa.table({"V": values})
        found = judged(condition(O.GREATER_THAN, 0.0, of=aggregation), table, truncated=False)
        assert (found.value, found.state) == (expected, TRIGGERED)


def test_a_threshold_may_be_a_column_and_an_empty_result_is_what_the_condition_says() -> None:
    limit = Operand(column="limit", aggregation=Aggregation.MAX)
    over = Condition(source=Operand(column="v"), operator=O.GREATER_THAN, threshold=limit, empty_state=OK)
    assert judged(over, pa.table({"v": [5, 0], "limit": [1, 4]}), truncated=False).state is TRIGGERED
    empty = pa.table({"v": pa.array([], pa.int64()), "limit": pa.array([], pa.int64())})
    assert judged(over, empty, truncated=False).state is OK


@pytest.mark.parametrize(
    ("values", "asked", "message"),
    [
        (["x"], condition(O.GREATER_THAN, 1.0), "cannot be compared with 1"),
        ([1], condition(O.GREATER_THAN, "much"), "cannot be compared with much"),
        ([[1]], condition(O.EQUAL, 1.0), "type list"),
        (["x"], condition(O.EQUAL, 1.0, of=Aggregation.AVG), "cannot be computed"),
        ([1], Condition(source=Operand(column="w"), operator=O.IS_NULL), "no column 'w'; it has v"),
    ],
)
def test_what_cannot_be_said_is_an_error_with_its_reason(values: list[Any], asked: Condition, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        judged(asked, pa.table({"v": values}), truncated=False)


def test_an_aggregate_of_a_part_of_the_rows_is_none() -> None:
    table = pa.table({"v": [1, 2]})
    with pytest.raises(InvalidArgument, match="aggregate in the query"):
        judged(condition(O.EQUAL, 3.0, of=Aggregation.SUM), table, truncated=True)
    assert judged(condition(O.EQUAL, 1.0), table, truncated=True).state is TRIGGERED
    with pytest.raises(InvalidArgument, match="first row"):
        judged(condition(O.EQUAL, 1.0), table.slice(0, 0), truncated=True)


@pytest.mark.parametrize(
    ("given", "expected"),
    [(0, 0.0), (1, 1.0), (1.5, 1.5), (True, True), (False, False), ("yes", "yes"), ("1", "1"), ("true", "true")],
)
def test_a_threshold_of_the_older_api_is_of_the_type_that_is_given(given: Any, expected: Any) -> None:
    found = OptionsInput.model_validate({"column": "v", "op": "==", "value": given}).condition().threshold
    assert (found, type(found)) == (expected, type(expected))


# -- who is told, when ------------------------------------------------------------------------------------------------


def draft(**more: Any) -> AlertDraft:
    given = {"name": "a", "condition": condition(O.GREATER_THAN, 1.0), "query_text": "SELECT 1 AS v", **more}
    return AlertDraft(**given)


def alert(**more: Any) -> Alert:
    return Alert(
        id="i", owner="ann", run_as="ann", modified_by="ann", trashed=False, draft=draft(**more), created_at=NOW,
        updated_at=NOW,
    )  # fmt: skip


def told(one: Alert, *states: AlertState) -> list[bool]:
    """Whether somebody is told, after evaluations a minute apart."""
    found = []
    for minute, each in enumerate(states):
        one, tells = after(one, each, NOW + timedelta(minutes=minute))
        found.append(tells)
    return found


def test_a_message_goes_out_once_for_each_time_that_it_comes_to_be_triggered() -> None:
    assert told(alert(), OK, TRIGGERED, TRIGGERED, OK, TRIGGERED) == [False, True, False, False, True]
    assert told(alert(notify_on_ok=True), OK, TRIGGERED, OK, OK) == [False, True, True, False]
    assert told(alert(retrigger_s=120), *[TRIGGERED] * 5) == [True, False, True, False, True]
    assert told(alert(retrigger_s=1), *[TRIGGERED] * 3) == [True, True, True]


def test_what_cannot_be_evaluated_is_told_once_and_triggers_nothing_anew() -> None:
    assert told(alert(), TRIGGERED, ERROR, ERROR, TRIGGERED, UNKNOWN, TRIGGERED) == [True, True, *[False] * 4]


def test_another_question_begins_anew_and_another_name_does_not() -> None:
    known, _ = after(alert(), TRIGGERED, NOW)
    assert changed(known, draft(name="b")).settled is TRIGGERED
    assert changed(known, draft(query_text="SELECT 2 AS v")).state is UNKNOWN
    hourly = changed(known, draft(schedule=Schedule(cron="0 0 * * * ?", timezone="UTC")))
    assert hourly.due_at is not None
    assert changed(hourly, draft(schedule=Schedule(cron="0 0 * * * ?", timezone="UTC", paused=True))).due_at is None


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"name": " "}, "display_name"),
        ({"query_id": "q"}, "either a saved query"),
        ({"query_text": ""}, "either a saved query"),
        ({"query_text": "DELETE FROM t"}, "reads"),
        ({"query_text": "WITH x AS (SELECT 1) INSERT INTO t SELECT * FROM x"}, "reads"),
        ({"condition": condition(O.GREATER_THAN)}, "needs a threshold"),
        ({"condition": condition(O.EQUAL, NAN)}, "finite"),
        ({"schedule": Schedule(cron="often", timezone="UTC")}, "no Quartz cron"),
        ({"schedule": Schedule(cron="0 0 * * * ?", timezone="Mars")}, "no time zone"),
        ({"schedule": Schedule(cron="0/30 * * * * ?", timezone="UTC")}, "at most once a minute"),
        ({"retrigger_s": -1}, "retrigger"),
        ({"subscriptions": (Target(address="a@b.c"),) * 101}, "100 subscriptions"),
        ({"body": "x" * 10_001}, "body 10,000"),
    ],
)
def test_what_is_wrong_with_an_alert_is_said(more: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        checked_alert(draft(**more))


# -- words ------------------------------------------------------------------------------------------------------------

FOUND = Verdict(
    state=TRIGGERED, value="12", columns=("day", "v"), rows=(("mon", "12"), ("{{ALERT_NAME}}", None)),
    query_name="late",
)  # fmt: skip


def test_a_message_says_what_was_found_in_its_own_words_or_the_alerts() -> None:
    plain = notice_of(alert(), FOUND, base_url="http://x")
    assert plain.subject == "Alert a is triggered"
    assert "Condition: v > 1\nValue: 12" in plain.text
    own = alert(
        subject="{{ALERT_STATUS}}: {{ALERT_COLUMN}} {{ALERT_CONDITION}} {{ALERT_THRESHOLD}}",
        body="<b>{{ QUERY_NAME }}</b> &amp; {{QUERY_RESULT_VALUE}}<br>{{QUERY_RESULT_TABLE}}<p>{{ALERT_URL}} {{NONE}}",
    )
    told = notice_of(own, FOUND, base_url="http://x")
    assert told.subject == "TRIGGERED: v > 1"
    table = "day            | v\nmon            | 12\n{{ALERT_NAME}} | NULL"
    assert told.text == f"late & 12\n{table}\nhttp://x/sql/alerts/i {{{{NONE}}}}"
    assert told.body["alert"]["value"] == "12"
    down = alert(subject="@ALERT_NAME is @ALERT_STATUS, <b> a@b.c", template_format="MARKDOWN")
    assert notice_of(down, FOUND, base_url="").subject == "a is TRIGGERED, <b> a@b.c"


def test_a_template_that_names_a_table_often_takes_little_memory() -> None:
    large = fit(Verdict(state=TRIGGERED, columns=("a", "b"), rows=(("x" * 100_000, "y" * 100_000),) * 10))
    own = alert(body="{{QUERY_RESULT_ROWS}}" * 476)
    tracemalloc.start()
    text = notice_of(own, large, base_url="").text
    _, most_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert text.startswith("x" * 2000 + ", yyy")
    assert len(text) == 20_000
    assert most_bytes < 2**20


def test_a_mask_replaces_what_it_names_and_nothing_else() -> None:
    before = {"a": {"b": 1, "c": 2}, "d": 3, "id": "x"}
    known = {"a", "d"}
    assert masked(before, {"a": {"b": 9, "c": 8}}, "a.b", known) == {"a": {"b": 9, "c": 2}, "d": 3}
    assert masked(before, {}, "a.c,d", known) == {"a": {"b": 1}}
    assert masked(before, {"d": 4, "id": "y"}, "*", known) == {"d": 4}
    for mask in ("", "id", "a,e"):
        with pytest.raises(InvalidArgument, match="update_mask"):
            masked(before, {}, mask, known)
