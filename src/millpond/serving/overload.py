"""When requests are refused rather than let wait: where more come than can be answered, not where some come at once.

A queue that is there for a moment takes up a burst, and one that stays as long as it is belongs to clients who each
wait for their answer before they ask again. One that stays and grows only makes each answer late, and no more of them;
so it is kept as short as a few times what the model needs for an answer.
"""

import math

_BURST_S = 1.0
"""A queue that was never empty for so long stays."""
_MARK_S = 0.5
_GROWTH, _FEW = 1.25, 8
"""A queue grows that is so many times, and so many requests, longer than it was one or two marks ago."""
_CALM_S = 5.0
"""So long after the last refusal a burst may wait again."""
_SHORTEST_WAIT_S = 0.05
_WEIGHT = 0.1
"""Of the newest answer in the means."""


class Overload:
    """Watches one queue. Times are the loop's."""

    def __init__(self, patience: float) -> None:
        """`patience` is how many times the model's own time a request may wait in a queue that stays; 0 for ever."""
        self._patience = patience
        self._waits_since: float | None = None
        self._marks = ((0.0, 0), (0.0, 0))
        """When the queue had which length: one and two marks ago."""
        self._overloaded_until = -math.inf
        self._answer_s = 0.0
        self._gap_s = 0.0
        self._last_at: float | None = None

    def queued(self, waiting: int, now: float) -> None:
        """So many requests wait now."""
        if not waiting:
            self._waits_since = None
        elif self._waits_since is None:
            self._waits_since = now
            self._marks = ((now, waiting), (now, waiting))
        elif now - self._marks[0][0] >= _MARK_S:
            self._marks = ((now, waiting), self._marks[0])

    def answered(self, model_s: float, now: float) -> None:
        """A request was answered, for which the model took so long."""
        if self._last_at is not None and self._waits_since is not None:  # else nobody asked meanwhile
            self._gap_s = _mean(self._gap_s, now - self._last_at)
        self._answer_s = _mean(self._answer_s, model_s)
        self._last_at = now

    def refuses(self, waiting: int, now: float) -> float | None:
        """After how many seconds to come back, where another request would wait for too long; None where it may."""
        stays = self._waits_since is not None and now - self._waits_since > _BURST_S
        grows = waiting >= self._marks[1][1] * _GROWTH + _FEW
        if not self._patience or not ((stays and grows) or now < self._overloaded_until):
            return None
        wait_s = waiting * self._gap_s
        if wait_s <= max(_SHORTEST_WAIT_S, self._patience * self._answer_s):
            return None
        self._overloaded_until = now + _CALM_S
        return wait_s


def _mean(before: float, newest: float) -> float:
    return newest if not before else before + _WEIGHT * (newest - before)
