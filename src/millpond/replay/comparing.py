"""How answers differ, added up one request after the other in bounded memory."""

import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from millpond.replay.domain import Answered, Recorded
from millpond.serving.sketch import Sketch

_OK = 200
_MOST_LABELS = 20
_MOST_ERRORS = 5
_MOST_EXAMPLES = 10
_LONGEST_SHOWN = 200
_SHARES = {"p50": 0.5, "p90": 0.9, "p99": 0.99}
_BOUNDS = tuple(step * 10.0**decade for decade in range(-9, 7) for step in (1, 2, 5))


@dataclass
class Comparison:
    """The differences so far."""

    tolerance: float
    requests: int = 0
    rows: int = 0
    different: int = 0
    """Rows."""
    other_shape: int = 0
    """Requests whose answers have another number of rows, each counted as one row that differs."""
    outcomes: Counter[str] = field(default_factory=Counter)
    """Requests by what became of them: compared, fails, works again, fails as before, not replayable."""
    versions: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    labels: Counter[tuple[str, str]] | None = field(default_factory=Counter)
    """Rows that are one label, by the old and the new one; None of more than can be shown."""
    apart: Sketch = field(default_factory=Sketch)
    """How far numbers are apart, those that are the same included."""
    sum_difference: float = 0.0
    sum_apart: float = 0.0
    largest: float = 0.0
    not_numbers: int = 0
    """Places where one of two answers has a number and the other none, or NaN."""
    old_s: Sketch = field(default_factory=Sketch)
    new_s: Sketch = field(default_factory=Sketch)
    examples: list[dict[str, Any]] = field(default_factory=list)

    def add(self, recorded: Recorded, answered: Answered) -> None:
        """One more request."""
        self.requests += 1
        self.versions[recorded.version] += 1
        fails, failed = answered.status != _OK, recorded.status != _OK
        if fails and not failed:
            self._note_error(answered.body)
        if fails or failed:
            word = ("fails as before" if failed else "fails") if fails else "works again"
            self.outcomes[word] += 1
            return
        self.outcomes["compared"] += 1
        self.old_s.add(recorded.model_ms / 1000)
        self.new_s.add(answered.model_ms / 1000)
        self._compare(recorded, answered)

    def leave_out(self, recorded: Recorded) -> None:
        """One more request, to which no other answer can be compared."""
        self.requests += 1
        self.versions[recorded.version] += 1
        self.outcomes["not replayable"] += 1

    def _note_error(self, body: bytes) -> None:
        message = _message(body)
        if message in self.errors or len(self.errors) < _MOST_ERRORS:
            self.errors[message] += 1

    def _compare(self, recorded: Recorded, answered: Answered) -> None:
        old, new = rows_of(recorded.response), rows_of(answered.body)
        if len(old) != len(new):
            self.rows += 1
            self.different += 1
            self.other_shape += 1
            return
        for place, (one, other) in enumerate(zip(old, new, strict=True)):
            self.rows += 1
            distance = self._distance(one, other)
            self._count_label(one, other)
            if distance > 0:
                self.different += 1
                self._keep_example(recorded.id, place, one, other, distance)

    def _distance(self, one: Any, other: Any) -> float:
        """How far two rows are apart at the worst place: 0 where they are alike, infinite where they are no numbers.

        And where they are too large or too deep to be compared.
        """
        try:
            return max((self._leaf(*pair) for pair in leaves(one, other)), default=0.0)
        except (OverflowError, RecursionError):
            self.not_numbers += 1
            return math.inf

    def _leaf(self, one: Any, other: Any) -> float:
        if not (_is_number(one) and _is_number(other)):
            return 0.0 if type(one) is type(other) and one == other else math.inf
        if not (math.isfinite(one) and math.isfinite(other)):
            same = one == other or (math.isnan(one) and math.isnan(other))
            self.not_numbers += not same
            return 0.0 if same else math.inf
        apart = abs(other - one)
        self.apart.add(apart)
        self.sum_difference += other - one
        self.sum_apart += apart
        self.largest = max(self.largest, apart)
        return 0.0 if math.isclose(one, other, rel_tol=self.tolerance, abs_tol=self.tolerance) else apart

    def _count_label(self, one: Any, other: Any) -> None:
        if self.labels is None:
            return
        if not (_is_label(one) and _is_label(other)):
            self.labels = None
            return
        self.labels[_text(one), _text(other)] += 1
        if len({label for pair in self.labels for label in pair}) > _MOST_LABELS:
            self.labels = None

    def _keep_example(self, request_id: str, place: int, one: Any, other: Any, distance: float) -> None:
        told = {"request_id": request_id, "row": place, "old": _text(one), "new": _text(other), "apart": distance}
        self.examples = sorted([*self.examples, told], key=lambda each: -each["apart"])[:_MOST_EXAMPLES]

    def report(self) -> dict[str, Any]:
        """All of it, as JSON."""
        return {
            "requests": self.requests,
            "outcomes": dict(self.outcomes),
            "rows": self.rows,
            "different": self.different,
            "other_shape": self.other_shape,
            "tolerance": self.tolerance,
            "numbers": self._numbers(),
            "labels": self._labels(),
            "old_ms": _quantiles_ms(self.old_s),
            "new_ms": _quantiles_ms(self.new_s),
            "versions": dict(self.versions),
            "errors": [{"message": text, "requests": count} for text, count in self.errors.most_common()],
            "examples": [each | {"apart": _finite(each["apart"])} for each in self.examples],
        }

    def _numbers(self) -> dict[str, Any] | None:
        total = self.apart.total
        if not total:
            return None
        return {
            "count": total,
            "mean_difference": _finite(self.sum_difference / total),
            "mean_apart": _finite(self.sum_apart / total),
            "largest": _finite(self.largest),
            "quantiles": {name: self.apart.quantile(share) for name, share in _SHARES.items()},
            "histogram": self._histogram(),
        }

    def _histogram(self) -> list[list[Any]]:
        """How many are at most so far apart, and farther than the bound before."""
        above = [self.apart.total, *(self.apart.above(bound) for bound in _BOUNDS)]
        pairs = zip(_BOUNDS, above, above[1:], strict=False)
        bars: list[list[Any]] = [[f"{bound:g}", more - less] for bound, more, less in pairs]
        return [*bars, ["more", above[-1]]]

    def _labels(self) -> list[list[Any]] | None:
        if not self.labels:
            return None
        return [[old, new, count] for (old, new), count in sorted(self.labels.items())]


def rows_of(body: bytes) -> Sequence[Any]:
    """What an answer says for each row; the whole of what has none."""
    try:
        told = json.loads(body)
    except (ValueError, RecursionError):
        return [body.decode(errors="replace")]
    found = told.get("predictions", told.get("outputs", told)) if isinstance(told, dict) else told
    if isinstance(found, list):
        return found
    if isinstance(found, dict) and found and all(isinstance(each, list) for each in found.values()):
        lengths = {len(each) for each in found.values()}
        if len(lengths) == 1:
            return [dict(zip(found, row, strict=True)) for row in zip(*found.values(), strict=True)]
    return [found]


def leaves(one: Any, other: Any) -> Iterator[tuple[Any, Any]]:
    """The values at the same places of two rows; two rows of other shapes are one pair."""
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        for pair in zip(one, other, strict=True):
            yield from leaves(*pair)
    elif isinstance(one, dict) and isinstance(other, dict) and one.keys() == other.keys():
        for key, value in one.items():
            yield from leaves(value, other[key])
    else:
        yield one, other


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_label(value: Any) -> bool:
    return isinstance(value, str | int)


def _text(value: Any) -> str:
    try:
        return (value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))[:_LONGEST_SHOWN]
    except RecursionError:
        return "too deep to be shown"


def _message(body: bytes) -> str:
    try:
        told: Mapping[str, Any] = json.loads(body)
        return str(told["message"])[:500]
    except (ValueError, KeyError, TypeError, RecursionError):
        return body[:500].decode(errors="replace")


def _quantiles_ms(sketch: Sketch) -> dict[str, float | None]:
    found = {name: sketch.quantile(share) for name, share in _SHARES.items()}
    return {name: None if value is None else round(value * 1000, 3) for name, value in found.items()}


def _finite(value: float) -> float | None:
    """JSON has no infinity."""
    return value if math.isfinite(value) else None
