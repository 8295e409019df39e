"""When requests are refused rather than let wait: where more come than can be answered, not where some come at once.

Requests that wait for a moment are a burst, and as many as there were before belong to clients who each wait for their
answer before they ask again. Where they are late and become more and more, each answer is only later for it, and there
are no more of them. From then on, and where there are more than may wait anyhow, so many requests are taken at a time
as are answered within a few times what the model needs for one, until almost none has to be refused for a while.

How many that are is found by trying, as TCP does: a few more as long as answers are in time, a fifth less where not.
"""

import math

_WINDOW_S, _TRIAL_S = 0.5, 0.1
_GROWTH, _FEW, _RISES = 1.1, 4, 3
"""Requests become more and more that are so many times and so many more than in the window before, so often in turn."""
_CALM_S = 5.0
"""So long after the last window in which many were refused a burst may wait again."""
_MANY = 0.05
_SHORTEST_WAIT_S = 0.003
"""Other processes make as much of a difference."""
_STEP = 1.02
"""By which what the model needs for one moves towards the newest answer, and so stays at the median: a mean has what
others did on the machine."""
_MORE, _LESS, _FEWEST = 1.0, 0.8, 2.0


class Overload:
    """Watches one pool. Times are the loop's."""

    def __init__(self, patience: float) -> None:
        """`patience` is how many times the model's own time a request may wait; 0 for ever."""
        self.asking = 0
        """How many requests are being answered, or wait for it."""
        self._patience = patience
        self._window_from = self._trial_from = 0.0
        self._busy_s = self._took_s = 0.0
        self._answered = self._refused = self._most = self._tried = 0
        """In this window, or trial; and the most requests that there were at once."""
        self._before = self._rises = 0
        """The most in the last window, if they were late, and how often it has been more since."""
        self._busy_from = 0.0
        self._overloaded_until = -math.inf
        self._limit = math.inf
        """How many are taken at a time, once there are too many."""
        self._own_s = 0.0
        self._gap_s = 0.0

    def enter(self, now: float) -> None:
        """One more request is being answered."""
        self.asking += 1
        if self.asking == 1:
            self._busy_from = now

    def leave(self, began: float, now: float) -> None:
        """One less, which began then."""
        self.asking -= 1
        if not self.asking:
            self._busy_s += now - max(self._busy_from, self._window_from)
        self._tried += 1
        self._took_s += now - began

    def answered(self, model_s: float | None, now: float) -> None:
        """A request was answered, for which the model needed so long; None where it had others at the same time."""
        self._answered += 1
        if model_s is not None and now >= self._overloaded_until:  # else it was not the model alone that took so long
            self._own_s = model_s if not self._own_s else self._own_s * (_STEP if model_s > self._own_s else 1 / _STEP)

    def refused(self) -> None:
        """A request was refused though `refuses` would have taken it, as no more may wait."""
        self._refused += 1

    def refuses(self, ahead: int, most: int, now: float) -> float | None:
        """After how many seconds to come back, where so many requests are ahead of another one, and so many may be at
        most; None where it may be taken."""
        if not self._patience:
            return None
        self._most = max(self._most, ahead)
        if now - self._window_from >= _WINDOW_S:
            self._end_window(now)
        overloaded = now < self._overloaded_until
        if overloaded and now - self._trial_from >= _TRIAL_S:
            self._end_trial(now)
        if ahead < most and not (overloaded and ahead >= self._limit):
            return None
        self._refused += 1
        return ahead * self._gap_s

    @property
    def _in_time_s(self) -> float:
        return self._own_s + max(_SHORTEST_WAIT_S, self._patience * self._own_s)

    def _end_window(self, now: float) -> None:
        if self.asking:
            self._busy_s += now - max(self._busy_from, self._window_from)
        if self._answered:
            self._gap_s, self._busy_s = self._busy_s / self._answered, 0.0
        most = self._most if self._most * self._gap_s > self._in_time_s else 0
        rises = self._before > 0 and most >= self._before * _GROWTH + _FEW
        self._rises = self._rises + 1 if rises else 0
        many = self._refused > _MANY * (self._refused + self._answered) and self._answered > 0
        if self._rises >= _RISES or many:
            self._begin(now)
        self._before = most
        self._window_from = now
        self._answered = self._refused = self._most = 0

    def _begin(self, now: float) -> None:
        if now >= self._overloaded_until and self._gap_s:
            self._limit = max(_FEWEST, self._in_time_s / self._gap_s)
            self._trial_from, self._tried, self._took_s = now, 0, 0.0
        self._overloaded_until = now + _CALM_S

    def _end_trial(self, now: float) -> None:
        if self._tried:
            in_time = self._took_s / self._tried <= self._in_time_s
            self._limit = self._limit + _MORE if in_time else max(_FEWEST, self._limit * _LESS)
        self._trial_from, self._tried, self._took_s = now, 0, 0.0
