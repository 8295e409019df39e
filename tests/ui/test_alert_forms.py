"""What the form of an alert shows of its condition, and what of it that changes."""

from typing import Any

import pytest

from millpond.kernel.errors import InvalidArgument
from millpond.notifications.domain import Target
from millpond.sql.alerts.domain import Aggregation, AlertState, Condition, Operand, Operator
from millpond.ui import alert_forms as forms


def saved(before: Condition, **more: Any) -> Condition:
    """What the form says that shows a condition, with some fields written anew."""
    kind, text, other = forms.threshold_of(before)
    shown: dict[str, Any] = {
        "column": before.source.column, "aggregation": before.source.aggregation or "", "operator": before.operator,
        "kind": kind, "threshold": text, "other": other or "", "empty_state": before.empty_state,
    }  # fmt: skip
    return forms.condition_of(before, **{**shown, **more})


@pytest.mark.parametrize(
    "threshold",
    [1234567.0, 0.1 + 0.2, 1e20, 5e-324, -1.0, 0.0, True, "red ", "1",
     Operand(column="limit", aggregation=Aggregation.MAX, display="Limit")],
)  # fmt: skip
def test_a_condition_comes_back_from_the_form_as_it_was(threshold: Any) -> None:
    source = Operand(column=" n", aggregation=Aggregation.SUM, display="Rows")
    before = Condition(
        source=source, operator=Operator.LESS_THAN, threshold=threshold, empty_state=AlertState.TRIGGERED
    )
    again = saved(before)
    assert again == before
    assert type(again.threshold) is type(threshold)
    assert saved(before, operator=Operator.IS_NULL).threshold is None
    assert saved(before, column="m", aggregation="").source == Operand(column="m")


def test_what_a_threshold_cannot_be_is_said() -> None:
    before = Condition(source=Operand(column="n"), operator=Operator.EQUAL, threshold=1.0)
    with pytest.raises(InvalidArgument, match="no number"):
        saved(before, threshold="much")
    with pytest.raises(InvalidArgument, match="true or false"):
        saved(before, kind=forms.TRUTH, threshold="1")


def test_who_is_told_keeps_the_order() -> None:
    ann, bob, hook = Target(address="ann"), Target(address="bob"), Target(destination_id="h")
    assert forms.in_order((hook, ann), [ann, hook]) == (hook, ann)
    assert forms.in_order((hook, ann), [bob, ann]) == (ann, bob)
