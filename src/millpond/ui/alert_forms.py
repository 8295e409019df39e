"""What the form of an alert shows of its condition, and what of it that changes. Pure."""

from collections.abc import Sequence

from millpond.kernel.errors import InvalidArgument
from millpond.notifications.domain import Target
from millpond.sql.alerts.domain import Aggregation, AlertState, Condition, Operand, Operator, Value

NUMBER, TEXT, TRUTH, COLUMN = "number", "text", "true or false", "column"
KINDS = (NUMBER, TEXT, TRUTH, COLUMN)
"""Of thresholds."""


def threshold_of(condition: Condition) -> tuple[str, str, Aggregation | None]:
    """What kind it is, its text, and of a column what counts."""
    threshold = condition.threshold
    if isinstance(threshold, Operand):
        return COLUMN, threshold.column, threshold.aggregation
    kind = TRUTH if isinstance(threshold, bool) else TEXT if isinstance(threshold, str) else NUMBER
    return kind, condition.threshold_text, None


def condition_of(
    before: Condition,
    *,
    column: str,
    aggregation: str,
    operator: Operator,
    kind: str,
    threshold: str,
    other: str,
    empty_state: AlertState,
) -> Condition:
    """The condition that the fields say; what they do not show stays. Raises InvalidArgument."""
    found: Operand | Value | None = None
    if operator.compares and kind == COLUMN:
        found = _operand(before.threshold, threshold, other)
    elif operator.compares:
        found = _value(kind, threshold)
    source = _operand(before.source, column, aggregation)
    return Condition(source=source, operator=operator, threshold=found, empty_state=empty_state)


def in_order(before: Sequence[Target], chosen: Sequence[Target]) -> tuple[Target, ...]:
    """Who is chosen, those of before in their order: another order would be another alert."""
    return tuple(dict.fromkeys([*(each for each in before if each in chosen), *chosen]))


def _operand(before: object, column: str, aggregation: str) -> Operand:
    was = before if isinstance(before, Operand) and before.column.strip() == column.strip() else None
    return Operand(
        column=was.column if was else column.strip(),
        aggregation=Aggregation(aggregation) if aggregation else None,
        display=was.display if was else "",
    )


def _value(kind: str, text: str) -> Value:
    if kind == TEXT:
        return text
    text = text.strip()
    if kind == TRUTH:
        if text.lower() not in ("true", "false"):
            raise InvalidArgument(f"The threshold is true or false, not '{text[:40]}'.")
        return text.lower() == "true"
    try:
        return float(text)
    except ValueError as error:
        raise InvalidArgument(f"The threshold '{text[:40]}' is no number; say what else it is.") from error
