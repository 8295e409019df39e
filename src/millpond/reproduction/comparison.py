"""Two runs' values compared: pure functions."""

import math
import struct
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from millpond.reproduction.domain import Finding, Outcome

Point = tuple[int, float]
"""Step and value."""
_VOLATILE = frozenset(
    {"run_id", "model_id", "model_uuid", "utc_time_created", "artifact_path", "model_size_bytes", "source_run_id"}
)
"""Keys of MLmodel files that say which run and when."""
_SHOWN = 6
_MOST_STEPS = 1_000_000


def compare_metrics(
    first: Mapping[str, Sequence[Point]], second: Mapping[str, Sequence[Point]], tolerance: float
) -> list[Finding]:
    """A finding for each metric. Points are in the order in which they were logged."""
    names = sorted({*first, *second})
    return [_metric(name, first.get(name), second.get(name), tolerance) for name in names]


def _metric(name: str, first: Sequence[Point] | None, second: Sequence[Point] | None, tolerance: float) -> Finding:
    if first is None or second is None:
        return _one_sided(name, first is None)
    widest = 0.0
    for (step, one), (other_step, other) in zip(first, second, strict=False):
        if step != other_step:
            return _differs(name, step, f"the next step is {step}, then {other_step}")
        if not same_bits(one, other):
            apart = relative(one, other)
            if not apart <= tolerance:
                return _differs(name, step, f"first at step {step}: {one!r}, then {other!r} ({apart:.3g} apart)")
            widest = max(widest, apart)
    if len(first) != len(second):
        step = max(first, second, key=len)[min(len(first), len(second))][0]
        return _differs(name, step, f"{len(first)} values, then {len(second)}")
    if widest:
        return Finding(name=name, outcome=Outcome.WITHIN, message=f"at most {widest:.3g} apart")
    return Finding(name=name, outcome=Outcome.IDENTICAL, message=f"{len(first)} values" if len(first) > 1 else "")


def _differs(name: str, step: int, message: str) -> Finding:
    return Finding(name=name, outcome=Outcome.DIFFERENT, message=message, step=step)


def _one_sided(name: str, only_second: bool) -> Finding:
    return Finding(
        name=name, outcome=Outcome.MISSING, message=f"only the {'second' if only_second else 'first'} run has it"
    )


def compare_texts(first: Mapping[str, str], second: Mapping[str, str]) -> list[Finding]:
    """A finding for each param."""
    found = []
    for name in sorted({*first, *second}):
        if name not in first or name not in second:
            found.append(_one_sided(name, name not in first))
        elif first[name] == second[name]:
            found.append(Finding(name=name, outcome=Outcome.IDENTICAL))
        else:
            message = f"{first[name][:80]!r}, then {second[name][:80]!r}"
            found.append(Finding(name=name, outcome=Outcome.DIFFERENT, message=message))
    return found


def same_bits(one: float, other: float) -> bool:
    """Whether two doubles are the same to the bit; any two that are not a number count as the same."""
    return struct.pack("<d", one) == struct.pack("<d", other) or (math.isnan(one) and math.isnan(other))


def relative(one: float, other: float) -> float:
    """How far two numbers are apart, relative to the larger."""
    if math.isnan(one) or math.isnan(other) or math.isinf(one) or math.isinf(other):
        return 0.0 if one == other else math.inf
    return abs(one - other) / (max(abs(one), abs(other)) or 1.0)


def compare_documents(name: str, first: Any, second: Any, tolerance: float) -> Finding:
    """Two JSON or YAML documents, but for what says which run and when; numbers within the tolerance are equal."""
    walk = _Walk(tolerance)
    place = walk.first_difference(first, second, "")
    if place is not None:
        return Finding(name=name, outcome=Outcome.DIFFERENT, message=f"differs at {place or 'the top'}")
    if walk.reordered:
        message = f"the same texts in another order at {', '.join(walk.reordered[:3])}"
        return Finding(name=name, outcome=Outcome.WITHIN, message=message)
    if walk.widest:
        return Finding(name=name, outcome=Outcome.WITHIN, message=f"at most {walk.widest:.3g} apart")
    return Finding(name=name, outcome=Outcome.IDENTICAL, message="but for ids and times")


class _Walk:
    """Through two documents at once, for so many steps: an alias of YAML can make a small one endless."""

    def __init__(self, tolerance: float) -> None:
        self._tolerance = tolerance
        self._left = _MOST_STEPS
        self.widest = 0.0
        """How far numbers that count as equal are apart at most."""
        self.reordered: list[str] = []
        """Lists of texts whose order alone differs, as that of a set does without PYTHONHASHSEED."""

    def first_difference(self, one: Any, other: Any, place: str) -> str | None:
        """Where they differ first. Raises ValueError after too many steps."""
        self._left -= 1
        if self._left < 0:
            raise ValueError("the documents are too large")
        if isinstance(one, Mapping) and isinstance(other, Mapping):
            keys = sorted({*one, *other} - _VOLATILE, key=str)
            return self._first((f"{place}.{key}", one.get(key), other.get(key)) for key in keys)
        if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
            if one != other and _are_the_same_texts(one, other):
                self.reordered.append(place)
                return None
            pairs = enumerate(zip(one, other, strict=True))
            return self._first((f"{place}[{at}]", left, right) for at, (left, right) in pairs)
        if isinstance(one, float) and isinstance(other, float):
            return self._number(one, other, place)
        return None if one == other else place

    def _first(self, parts: Iterable[tuple[str, Any, Any]]) -> str | None:
        found = (self.first_difference(one, other, place) for place, one, other in parts)
        return next((place for place in found if place is not None), None)

    def _number(self, one: float, other: float, place: str) -> str | None:
        apart = 0.0 if same_bits(one, other) else relative(one, other)
        if not apart <= self._tolerance:
            return place
        self.widest = max(self.widest, apart)
        return None


def _are_the_same_texts(one: list[Any], other: list[Any]) -> bool:
    return all(isinstance(each, str) for each in (*one, *other)) and sorted(one) == sorted(other)


def first_line(one: str, other: str) -> int | None:
    """The number of the first line in which two texts differ; None where they are the same."""
    left, right = one.splitlines(), other.splitlines()
    for number, (a, b) in enumerate(zip(left, right, strict=False), start=1):
        if a != b:
            return number
    return None if len(left) == len(right) else min(len(left), len(right)) + 1


def compare_packages(
    first: Sequence[Mapping[str, Any]], second: Sequence[Mapping[str, Any]], ignored: frozenset[str]
) -> list[str]:
    """What is otherwise in the environment that was built."""
    now = {each["name"]: each for each in second}
    notes = []
    for each in first:
        found = now.get(each["name"])
        if each["name"] in ignored:
            continue
        if found is None:
            notes.append(f"package {each['name']} {each['version']} is not in the environment that was built")
        elif found["version"] != each["version"]:
            notes.append(f"package {each['name']}: {each['version']}, then {found['version']}")
        elif "digest" in each and found.get("digest") != each["digest"]:
            notes.append(f"package {each['name']} {each['version']}: its files are others than those that the run had")
    return notes[:_SHOWN] + ([f"and {len(notes) - _SHOWN} more packages"] if len(notes) > _SHOWN else [])
