"""What a replay finds: feature by feature, how often the two paths gave the same, and where they did not."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from decimal import Decimal
from enum import StrEnum
from typing import Any

from millpond.kernel.errors import FailedPrecondition

MOST_SHOWN = 20
"""Mismatches of a feature that a report keeps, with key and values."""
MOST_KEPT = 200
"""The same of all features."""
_MOST_TEXT = 200
_NAMED = 5


class State(StrEnum):
    """How far a check has come."""

    QUEUED = "queued"
    RUNNING = "running"
    PASSED = "passed"
    FAILED = "failed"
    ERROR = "error"
    """It could not be carried out; the report says why."""


ENDED = frozenset({State.PASSED, State.FAILED, State.ERROR})


@dataclass(frozen=True, kw_only=True)
class Source:
    """A feature table on both sides."""

    table: str
    table_id: str
    version: int
    """That is online, and with which it was compared."""
    online_table: str
    store: str
    store_kind: str
    newest_version: int
    versions_behind: int
    lag_s: float
    """The age of the oldest commit that is not online: freshness, and no mismatch."""

    @property
    def offline_text(self) -> str:
        """Where offline values are from."""
        return f"{self.table}@{self.version}"

    @property
    def online_text(self) -> str:
        """Where online values are from."""
        return f"{self.online_table} in {self.store} ({self.store_kind}), version {self.version}"


@dataclass(frozen=True, kw_only=True)
class Mismatch:
    """One value that is another one online."""

    key: Mapping[str, Any]
    """The columns of the request that decide."""
    offline: Any
    online: Any
    types: str = ""
    """Where the values are of different types: which."""


@dataclass(frozen=True, kw_only=True)
class Feature:
    """One column that the spec makes, on both sides."""

    name: str
    offline: str
    """Where it is from."""
    online: str
    tolerance: float
    compared: int
    equal: int
    found: int
    """How many values there were on either side: the others are equal as both are missing."""
    missing_online: int
    missing_offline: int
    superseded: int
    """Not compared: a newer row has come since the time of the request, and online is only the newest."""
    largest_difference: float | None
    """Of numbers."""
    mismatches: tuple[Mismatch, ...]

    @property
    def differing(self) -> int:
        """How many values are not the same."""
        return self.compared - self.equal


@dataclass(frozen=True, kw_only=True)
class Report:
    """What a replay found."""

    rows: int
    keys: str
    """Where the rows are from."""
    keys_table_id: str
    """Empty where they are of the feature tables themselves."""
    sources: tuple[Source, ...]
    features: tuple[Feature, ...]
    max_mismatches: int

    @property
    def differing(self) -> int:
        """How many values are not the same, of all features."""
        return sum(feature.differing for feature in self.features)

    @property
    def passes(self) -> bool:
        """Whether something was compared, and no more differs than may."""
        return self.differing <= self.max_mismatches and any(feature.compared for feature in self.features)

    @property
    def message(self) -> str:
        """What was found, in a sentence without any value."""
        compared = sum(feature.compared for feature in self.features)
        if not compared:
            return "nothing could be compared: every request has been superseded by newer values"
        bad = [feature for feature in self.features if feature.differing]
        if not bad:
            return f"{compared} values of {len(self.features)} features are the same offline and online"
        told = [
            f"{each.name} differs in {each.differing} of {each.compared} values ({each.offline} against {each.online})"
            for each in bad[:_NAMED]
        ]
        more = [f"{len(bad) - _NAMED} more features differ"] if len(bad) > _NAMED else []
        return "; ".join([*told, *more])

    def to_dict(self) -> dict[str, Any]:
        """Itself as JSON has it."""
        return asdict(self)


class Unreplayable(FailedPrecondition):
    """Keys could not be replayed, for a reason that may name values of some tables."""

    def __init__(self, problem: str, table_ids: Sequence[str]) -> None:
        super().__init__("keys could not be replayed; the report tells why to who may read all of its tables")
        self.problem = problem
        self.table_ids = table_ids

    def to_dict(self) -> dict[str, Any]:
        """A report of it as JSON."""
        return {"problem": self.problem, "sources": [{"table_id": each} for each in self.table_ids], "features": []}


def same(offline: Any, online: Any, tolerance: float) -> bool:
    """Whether a model would see the same: of one type and equal, fractions within a tolerance; NaN is NaN."""
    if type(offline) is not type(online):
        return False
    if isinstance(offline, float):
        both_nan = math.isnan(offline) and math.isnan(online)
        return both_nan or math.isclose(offline, online, rel_tol=tolerance, abs_tol=tolerance)
    if isinstance(offline, Mapping):
        return offline.keys() == online.keys() and all(same(offline[key], online[key], tolerance) for key in offline)
    if isinstance(offline, list | tuple):
        pairs = zip(offline, online, strict=False)
        return len(offline) == len(online) and all(same(one, other, tolerance) for one, other in pairs)
    return bool(offline == online)


def distance(offline: Any, online: Any) -> float | None:
    """How far two numbers are apart; None for what are no finite numbers."""
    if not all(isinstance(each, int | float | Decimal) and not isinstance(each, bool) for each in (offline, online)):
        return None
    found = abs(float(offline) - float(online))
    return found if math.isfinite(found) else None


def compare(
    name: str,
    offline: Sequence[Any],
    online: Sequence[Any],
    keys: Sequence[Mapping[str, Any]],
    *,
    left_out: frozenset[int],
    tolerance: float,
    places: tuple[str, str],
) -> Feature:
    """A feature on both sides, row by row; `left_out` are the rows that say nothing of it, `places` the two sources."""
    kept = [number for number in range(len(offline)) if number not in left_out]
    bad = [number for number in kept if not same(offline[number], online[number], tolerance)]
    distances = [far for number in kept if (far := distance(offline[number], online[number])) is not None]
    return Feature(
        name=name,
        offline=places[0],
        online=places[1],
        tolerance=tolerance,
        compared=len(kept),
        equal=len(kept) - len(bad),
        found=sum(offline[number] is not None or online[number] is not None for number in kept),
        missing_online=sum(online[number] is None for number in bad),
        missing_offline=sum(offline[number] is None for number in bad),
        superseded=len(left_out),
        largest_difference=max(distances, default=None),
        mismatches=tuple(_mismatch(keys[number], offline[number], online[number]) for number in bad[:MOST_SHOWN]),
    )


def shown(value: Any) -> Any:
    """A value as reports keep it: JSON's own kinds as they are, others as texts, none of them long."""
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    text = value if isinstance(value, str) else value.isoformat() if isinstance(value, date) else str(value)
    return text if len(text) <= _MOST_TEXT else text[:_MOST_TEXT] + "..."


def _mismatch(key: Mapping[str, Any], offline: Any, online: Any) -> Mismatch:
    kinds = [type(each).__name__ for each in (offline, online)]
    differ = kinds[0] != kinds[1] and None not in (offline, online)
    return Mismatch(
        key={name: shown(value) for name, value in key.items()},
        offline=shown(offline),
        online=shown(online),
        types=" and ".join(kinds) if differ else "",
    )
