"""How many processes a served entity has: decided from what is asked of it, by pure functions.

A process answers REPLICA_CONCURRENCY requests at a time. The number of requests that are answered or wait, as a mean
over time, says how many processes are needed: at once where more are, and after a while where fewer are, so that it
does not swing with each burst.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from millpond.serving.domain import Concurrency

REPLICA_CONCURRENCY = 4
"""The smallest workload size of Databricks, of which all others are multiples."""
LOOK_S = 0.5
"""Between two looks at the load."""
_FULL = 0.8
"""So much of the threads may be busy before there is another process."""
_LOOKS_TO_GROW = 2


@dataclass(frozen=True, kw_only=True)
class Scale:
    """Between how many processes a pool moves."""

    minimum: int
    """At least 1: also of a pool that may have none, from its first request on."""
    maximum: int
    idle_s: float | None = None
    """After so long without a request no process is left; None where one always is."""
    calm_s: float = 60.0
    """So long the load must have been lower before there are fewer."""

    @property
    def moves(self) -> bool:
        """Whether anything is to be decided."""
        return self.minimum < self.maximum or self.idle_s is not None

    def bound(self, replicas: int) -> int:
        """The number nearest to one asked for."""
        return max(self.minimum, min(replicas, self.maximum))


def scale_of(concurrency: Concurrency, *, idle_s: float | None, calm_s: float) -> Scale:
    """The processes for a range of concurrency."""
    return Scale(
        minimum=max(1, math.ceil(concurrency.minimum / REPLICA_CONCURRENCY)),
        maximum=max(1, math.ceil(concurrency.maximum / REPLICA_CONCURRENCY)),
        idle_s=idle_s,
        calm_s=calm_s,
    )


def together(scales: Sequence[Scale]) -> Scale:
    """The processes for several entities that share them, as they serve one version."""
    idle = [scale.idle_s for scale in scales]
    return Scale(
        minimum=sum(scale.minimum for scale in scales),
        maximum=sum(scale.maximum for scale in scales),
        idle_s=None if None in idle else max(each for each in idle if each is not None),
        calm_s=max(scale.calm_s for scale in scales),
    )


@dataclass(frozen=True)
class Look:
    """What was asked of a pool since the look before."""

    at: float
    concurrency: float
    """Requests that were answered or waited, as a mean over that time."""


def wanted(scale: Scale, looks: Sequence[Look], *, replicas: int, idle_for_s: float) -> int:
    """How many processes there should be, from the looks of the last `calm_s`, oldest first."""
    if scale.idle_s is not None and idle_for_s >= scale.idle_s:
        return 0
    if not looks or replicas == 0:  # the next request brings it back
        return replicas
    lately = looks[-_LOOKS_TO_GROW:]
    needed_now = _needed(sum(look.concurrency for look in lately) / len(lately))
    needed_before = max(_needed(look.concurrency) for look in looks)
    if needed_now > replicas:
        return scale.bound(needed_now)
    calm = looks[-1].at - looks[0].at >= scale.calm_s - 2 * LOOK_S
    return scale.bound(min(replicas, needed_before) if calm else replicas)


def recent(looks: Sequence[Look], scale: Scale) -> list[Look]:
    """The looks that still count."""
    return [look for look in looks if looks[-1].at - look.at <= scale.calm_s]


def _needed(concurrency: float) -> int:
    return math.ceil(concurrency / (REPLICA_CONCURRENCY * _FULL))


class Meter:
    """How many requests there are, and how many there were as a mean since the last look."""

    def __init__(self, now: float) -> None:
        self.requests = 0
        self._area = 0.0
        self._looked = self._changed = self._used = now

    def change(self, by: int, now: float) -> None:
        """Some came or went."""
        self._area += self.requests * (now - self._changed)
        self._changed = self._used = now
        self.requests += by

    def look(self, now: float) -> Look:
        """The mean since the last look."""
        area = self._area + self.requests * (now - self._changed)
        passed = now - self._looked
        self._looked = self._changed = now
        self._area = 0.0
        return Look(now, area / passed if passed > 0 else float(self.requests))

    def idle_for_s(self, now: float) -> float:
        """For how long there has been none; 0 while there is one."""
        return 0.0 if self.requests else now - self._used
