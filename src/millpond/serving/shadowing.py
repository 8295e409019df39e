"""Copies of requests for served entities that are only looked at: their answers go nowhere, how they differ is counted.

A copy is made when the answer is known, and only where no request waits for the shadow's processes: under load copies
are dropped, and no answer comes later for them.
"""

import asyncio
import math
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from millpond.kernel.errors import InvalidArgument, MillpondError
from millpond.serving import metrics
from millpond.serving.domain import Config, Shadow
from millpond.serving.worker_process import Answer

MAX_COPIES = 32
"""So many are under way for one endpoint."""
_TOLERANCE = 1e-9
COMPARED_BYTES = 1 << 20
"""Larger answers are the same only byte by byte; of one in parts so much is held to be compared."""


def check_shadows(shadows: Sequence[Shadow], config: Config | None) -> tuple[Shadow, ...]:
    """The shadows of an endpoint. Raises InvalidArgument for one that it does not serve."""
    names = [shadow.entity for shadow in shadows]
    served = {entity.name for entity in config.entities} if config else set()
    for shadow in shadows:
        if shadow.entity not in served:
            raise InvalidArgument(f"No served entity is named '{shadow.entity[:80]}'; add it, with 0 % of the traffic.")
        if not 0 < shadow.percent <= 100:
            raise InvalidArgument(f"A shadow gets 1 to 100 % of the requests, not {shadow.percent}.")
    if len(set(names)) < len(names):
        raise InvalidArgument("A served entity is named twice.")
    return tuple(shadows)


@dataclass
class Tally:
    """What became of the copies for one served entity, since this server started or the shadow was set."""

    same: int = 0
    different: int = 0
    failed: int = 0
    dropped: int = 0
    largest_difference: float = 0.0
    """Between two numbers at the same place of two answers."""

    def count(self, outcome: str) -> None:
        """One more."""
        setattr(self, outcome, getattr(self, outcome) + 1)


class ShadowReports:
    """How the answers of shadows compare, by endpoint id and entity."""

    def __init__(self) -> None:
        self._tallies: dict[tuple[str, str], Tally] = {}
        self._under_way: dict[str, int] = {}

    def tally(self, endpoint_id: str, entity: str) -> Tally:
        """What became of the copies."""
        return self._tallies.setdefault((endpoint_id, entity), Tally())

    def forget(self, endpoint_id: str) -> None:
        """Begin to count anew."""
        self._tallies = {key: tally for key, tally in self._tallies.items() if key[0] != endpoint_id}

    def begin(self, endpoint_id: str, waiting: int) -> bool:
        """Whether there is room for another copy, where so many requests wait already; `end` makes it again."""
        if waiting or self._under_way.get(endpoint_id, 0) >= MAX_COPIES:
            return False
        self._under_way[endpoint_id] = self._under_way.get(endpoint_id, 0) + 1
        return True

    def end(self, endpoint_id: str) -> None:
        """A copy is done with."""
        self._under_way[endpoint_id] -= 1
        if not self._under_way[endpoint_id]:
            del self._under_way[endpoint_id]

    def drop(self, endpoint_id: str, names: tuple[str, str]) -> None:
        """A copy is not made; `names` are those of the endpoint and the served entity."""
        self._count(endpoint_id, names, "dropped")

    async def compare(
        self, endpoint_id: str, names: tuple[str, str], given: Answer, ask: Callable[[], Awaitable[Answer]]
    ) -> None:
        """Ask the shadow, and count how its answer differs from the one that was given."""
        try:
            answer = await ask()
            found = await asyncio.to_thread(compared, given, answer)
        except MillpondError:  # the shadow's own trouble: its state tells
            self._count(endpoint_id, names, "failed")
            return
        tally = self.tally(endpoint_id, names[1])
        tally.largest_difference = max(tally.largest_difference, found or 0.0)
        outcome = "failed" if answer.status != given.status else "same" if found == 0 else "different"
        self._count(endpoint_id, names, outcome)

    def _count(self, endpoint_id: str, names: tuple[str, str], outcome: str) -> None:
        self.tally(endpoint_id, names[1]).count(outcome)
        metrics.SHADOWS.labels(*names, outcome).inc()


def compared(one: Answer, other: Answer) -> float | None:
    """The largest difference of two numbers at one place; 0 for answers that say the same, None for others.

    Numbers that differ by less than one part in 10⁹ are the same.
    """
    if one.body == other.body:
        return 0.0
    if max(len(one.body), len(other.body)) > COMPARED_BYTES:
        return None
    try:
        found = _difference(orjson.loads(one.body), orjson.loads(other.body))
    except (orjson.JSONDecodeError, RecursionError):
        return None
    return found if found is None or math.isfinite(found) else None


def _difference(one: Any, other: Any) -> float | None:
    if _is_number(one) and _is_number(other):
        return 0.0 if math.isclose(one, other, rel_tol=_TOLERANCE, abs_tol=_TOLERANCE) else abs(one - other)
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        return _largest([_difference(*pair) for pair in zip(one, other, strict=True)])
    if isinstance(one, dict) and isinstance(other, dict) and one.keys() == other.keys():
        return _largest([_difference(one[key], other[key]) for key in one])
    return 0.0 if type(one) is type(other) and one == other else None


def _largest(found: Sequence[float | None]) -> float | None:
    if any(each is None for each in found):
        return None
    return max((each for each in found if each is not None), default=0.0)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
