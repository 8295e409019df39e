"""Pure arithmetic of checks: metrics of predictions, slices, and whether a signature still takes what another took."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from millpond.kernel.errors import InvalidArgument


@dataclass(frozen=True)
class Metric:
    """How labels and predictions become one number."""

    of: Callable[[Sequence[Any], Sequence[Any]], float]
    higher_is_better: bool


def _accuracy(labels: Sequence[Any], predicted: Sequence[Any]) -> float:
    return sum(bool(label == guess) for label, guess in zip(labels, predicted, strict=True)) / len(labels)


def _precision(labels: Sequence[Any], predicted: Sequence[Any]) -> float:
    """Of the class 1 (or true)."""
    hits = [bool(label) for label, guess in zip(labels, predicted, strict=True) if guess]
    return sum(hits) / len(hits) if hits else 0.0


def _recall(labels: Sequence[Any], predicted: Sequence[Any]) -> float:
    """Of the class 1 (or true)."""
    return _precision(predicted, labels)


def _f1(labels: Sequence[Any], predicted: Sequence[Any]) -> float:
    precision, recall = _precision(labels, predicted), _recall(labels, predicted)
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def _mae(labels: Sequence[Any], predicted: Sequence[Any]) -> float:
    return math.fsum(abs(label - guess) for label, guess in zip(labels, predicted, strict=True)) / len(labels)


def _rmse(labels: Sequence[Any], predicted: Sequence[Any]) -> float:
    squares = ((label - guess) ** 2 for label, guess in zip(labels, predicted, strict=True))
    return math.sqrt(math.fsum(squares) / len(labels))


def _roc_auc(labels: Sequence[Any], predicted: Sequence[Any]) -> float:
    """By ranks, ties shared. Source: Hanley and McNeil 1982 (the Mann-Whitney statistic)."""
    order = sorted(range(len(predicted)), key=lambda i: predicted[i])
    ranks, start = [0.0] * len(predicted), 0
    while start < len(order):
        end = start
        while end < len(order) and predicted[order[end]] == predicted[order[start]]:
            end += 1
        for place in order[start:end]:
            ranks[place] = (start + end + 1) / 2
        start = end
    positive = sum(bool(label) for label in labels)
    negative = len(labels) - positive
    if not positive or not negative:
        raise InvalidArgument("roc_auc needs rows of both classes.")
    total = math.fsum(rank for rank, label in zip(ranks, labels, strict=True) if label)
    return (total - positive * (positive + 1) / 2) / (positive * negative)


METRICS: Mapping[str, Metric] = {
    "accuracy": Metric(_accuracy, higher_is_better=True),
    "precision": Metric(_precision, higher_is_better=True),
    "recall": Metric(_recall, higher_is_better=True),
    "f1": Metric(_f1, higher_is_better=True),
    "roc_auc": Metric(_roc_auc, higher_is_better=True),
    "mae": Metric(_mae, higher_is_better=False),
    "rmse": Metric(_rmse, higher_is_better=False),
}


def measure(name: str, labels: Sequence[Any], predicted: Sequence[Any]) -> float:
    """A metric of predictions. Raises InvalidArgument where they cannot be compared."""
    if not labels:
        raise InvalidArgument(f"{name} needs rows; there are none.")
    if len(labels) != len(predicted):
        raise InvalidArgument(f"The model gave {len(predicted)} predictions for {len(labels)} rows.")
    if any(label is None for label in labels):
        raise InvalidArgument("The label column has nulls; leave those rows out of the evaluation table.")
    try:
        value = float(METRICS[name].of(labels, predicted))
    except (TypeError, ValueError) as error:
        raise InvalidArgument(f"{name} cannot be computed from these predictions: {error}.") from error
    if math.isnan(value):
        raise InvalidArgument(f"{name} is not a number: some predictions are none.")
    return value


def column(rows: Any, name: str) -> list[Any]:
    """A column of an Arrow table. Raises InvalidArgument without it."""
    if name not in rows.column_names:
        known = ", ".join(rows.column_names[:20])
        raise InvalidArgument(f"The evaluation table has no column '{name}'; it has {known}.")
    values: list[Any] = rows.column(name).to_pylist()
    return values


def groups(columns: Sequence[Sequence[Any]]) -> dict[str, list[int]]:
    """The places of the rows of each combination of values, under a name."""
    found: dict[str, list[int]] = {}
    for place, values in enumerate(zip(*columns, strict=True)):
        found.setdefault("/".join(map(str, values)), []).append(place)
    return found


def incompatibilities(champion: Mapping[str, Any], own: Mapping[str, Any]) -> list[str]:
    """Why callers of the one could not call the other, or would misread its answers: none when they can."""
    ours, theirs = _fields(own.get("inputs")), _fields(champion.get("inputs"))
    problems = []
    for name, (kind, required) in ours.items():
        if name not in theirs:
            if required:
                problems.append(f"input '{name}' is new and required")
        elif theirs[name][0] != kind:
            problems.append(f"input '{name}' is {kind}, was {theirs[name][0]}")
    answered, before = _fields(own.get("outputs")), _fields(champion.get("outputs"))
    for name, (kind, _) in before.items():
        if answered.get(name, (None,))[0] != kind:
            problems.append(f"output '{name}' was {kind}, is {answered.get(name, ('gone',))[0]}")
    return problems


def _fields(text: Any) -> dict[str, tuple[str, bool]]:
    """Type, and whether it has to be given, of each field of a schema as MLmodel files have it."""
    entries = json.loads(text) if isinstance(text, str) else text or []
    found = {}
    for place, entry in enumerate(entries):
        kind = entry.get("type")
        shape = json.dumps(entry["tensor-spec"], sort_keys=True) if "tensor-spec" in entry else str(kind)
        found[str(entry.get("name", place))] = (shape, bool(entry.get("required", True)))
    return found
