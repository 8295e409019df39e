"""When requests are refused rather than let wait: where more come than can be answered, not where some come at once.

A queue that is there for a moment takes up a burst, and one that stays as long as it is belongs to clients who each
wait for their answer before they ask again. One that stays and grows only makes each answer late, and no more of them;
from then on no request is taken that would wait for longer than a few times what the model needs for it, until almost
none has to be refused for a while.
"""

import math

_BURST_S = 1.0
"""A queue that was never empty for so long stays."""
_WINDOW_S = 0.5
_GROWTH, _FEW = 1.25, 8
"""A queue grows that is so many times, and so many requests, longer than it was one or two windows ago."""
_CALM_S = 5.0
"""So long after the last window in which many were refused a burst may wait again."""
_MANY = 0.05
_SHORTEST_WAIT_S = 0.003
"""Other processes make as much of a difference."""
_WEIGHT = 0.1
"""Of the newest answer in the mean."""


class Overload:
    """Watches one pool. Times are the loop's."""

    def __init__(self, patience: float) -> None:
        """`patience` is how many times the model's own time a request may wait in a queue that stays; 0 for ever."""
        self._patience = patience
        self._waiting = 0
        self._waits_since: float | None = None
        self._marks = (0, 0)
        """How long the queue was at the end of the last window, and of the one before."""
        self._window_from = 0.0
        self._answered = self._refused = 0
        """In this window."""
        self._overloaded_until = -math.inf
        self._own_s = 0.0
        self._gap_s = 0.0

    def queued(self, waiting: int, now: float) -> None:
        """So many requests wait for a process now."""
        self._waiting = waiting
        if not waiting:
            self._waits_since = None
        elif self._waits_since is None:
            self._waits_since = now
            self._marks = (waiting, waiting)
            if now >= self._overloaded_until:
                self._begin_window(now)

    def answered(self, model_s: float | None, now: float) -> None:
        """A request was answered, for which the model needed so long; None where it had others at the same time."""
        if model_s is not None:
            self._own_s = model_s if not self._own_s else self._own_s + _WEIGHT * (model_s - self._own_s)
        self._answered += 1
        if now - self._window_from >= _WINDOW_S:
            self._end_window(now)

    def refuses(self, ahead: int, now: float) -> float | None:
        """After how many seconds to come back, where so many requests are ahead of another one; None where it may be
        taken."""
        if not self._patience or not (now < self._overloaded_until or self._builds_up(now)):
            return None
        late_s = ahead * self._gap_s
        if late_s <= self._own_s + max(_SHORTEST_WAIT_S, self._patience * self._own_s):
            return None
        self._refused += 1
        self._overloaded_until = max(self._overloaded_until, now + _WINDOW_S)
        return late_s

    def _builds_up(self, now: float) -> bool:
        stays = self._waits_since is not None and now - self._waits_since > _BURST_S
        return stays and self._waiting >= self._marks[1] * _GROWTH + _FEW

    def _end_window(self, now: float) -> None:
        many = self._refused > _MANY * (self._refused + self._answered)
        if many or self._waits_since is not None:  # else it was idle now and then
            self._gap_s = (now - self._window_from) / self._answered
        if many:
            self._overloaded_until = now + _CALM_S
        self._marks = (self._waiting, self._marks[0])
        self._begin_window(now)

    def _begin_window(self, now: float) -> None:
        self._window_from = now
        self._answered = self._refused = 0
