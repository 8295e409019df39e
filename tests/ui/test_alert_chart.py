"""The line of what an alert found."""

from datetime import UTC, datetime, timedelta

from millpond.sql.alerts.domain import AlertState, Condition, Evaluation, Operand, Operator
from millpond.ui.alert_chart import alert_options

OVER = Condition(source=Operand(column="n"), operator=Operator.GREATER_THAN, threshold=10.0)
NOW = datetime(2026, 5, 1, tzinfo=UTC)


def found(minute: int, value: str, state: AlertState | None = AlertState.OK) -> Evaluation:
    return Evaluation(
        id=str(minute), alert_id="a", cause="schedule", run_as="ann", state=state, value=value,
        started_at=NOW + timedelta(minutes=minute),
    )  # fmt: skip


def test_numbers_are_drawn_from_the_oldest_on_with_the_threshold() -> None:
    newest_first = [
        found(4, "12", AlertState.TRIGGERED),
        found(3, "red"),
        found(2, "NULL"),
        found(1, "9"),
        found(0, "nan"),
    ]
    options = alert_options(OVER, newest_first, ("a", "b", "c"))
    assert options is not None
    [series] = options["series"]
    assert [point["value"][1] for point in series["data"]] == [9.0, 12.0]
    assert series["data"][1]["itemStyle"]["color"] != "a"
    assert series["markLine"]["data"] == [{"yAxis": 10.0}]


def test_one_number_is_no_line() -> None:
    assert alert_options(OVER, [found(1, "9"), found(0, "", None)], ("a", "b", "c")) is None
