"""How often an endpoint may be asked, in all and by whom.

Calls are counted in this process, over a minute that slides: what came in the calendar minute before counts in the
share of it that is less than a minute ago.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from millpond.identity.domain import Principal, PrincipalKind
from millpond.kernel.errors import InvalidArgument, ResourceExhausted

MAX_LIMITS = 20
_PERIOD_S = 60.0
_MOST_KEPT = 10_000


class LimitKey(StrEnum):
    """Whose calls are counted together. Source: databricks-sdk, AiGatewayRateLimitKey."""

    ENDPOINT = "endpoint"
    USER = "user"
    SERVICE_PRINCIPAL = "service_principal"
    USER_GROUP = "user_group"


@dataclass(frozen=True, kw_only=True)
class RateLimit:
    """So many calls a minute; 0 lets nobody through."""

    key: LimitKey
    calls: int
    principal: str = ""
    """Of whom; empty for all of the endpoint's calls, and for each user by itself."""

    def concerns(self, who: Principal) -> bool:
        """Whether a principal's calls count, apart from what others say about it."""
        if self.key is LimitKey.USER_GROUP:
            return self.principal in who.groups
        if self.key is LimitKey.SERVICE_PRINCIPAL:
            return who.kind is PrincipalKind.SERVICE_PRINCIPAL and self.principal in {"", who.name}
        return self.key is LimitKey.ENDPOINT or self.principal in {"", who.name}

    def counted_as(self, who: Principal) -> str:
        """Calls under one name count together."""
        return self.principal or ("" if self.key is LimitKey.ENDPOINT else who.name)


def check_limits(limits: Sequence[RateLimit]) -> tuple[RateLimit, ...]:
    """The limits of an endpoint. Raises InvalidArgument naming what is wrong."""
    if len(limits) > MAX_LIMITS:
        raise InvalidArgument(f"rate_limits: at most {MAX_LIMITS} are kept for an endpoint, not {len(limits)}.")
    for limit in limits:
        if limit.calls < 0:
            raise InvalidArgument(f"rate_limits: {limit.calls} calls are fewer than none.")
        if limit.key is LimitKey.ENDPOINT and limit.principal:
            raise InvalidArgument("rate_limits: a limit for the endpoint has no principal.")
        if limit.key is LimitKey.USER_GROUP and not limit.principal:
            raise InvalidArgument("rate_limits: a limit for a user_group names it as its principal.")
    if len({(limit.key, limit.principal) for limit in limits}) < len(limits):
        raise InvalidArgument("rate_limits has two limits for the same.")
    return tuple(limits)


def applying(limits: Sequence[RateLimit], who: Principal) -> list[RateLimit]:
    """The limits that count for a principal: one that names it goes before one for its groups, and that before all's.

    Source: Databricks, "Configure AI Gateway on model serving endpoints": custom limits override the default.
    """
    endpoint = [limit for limit in limits if limit.key is LimitKey.ENDPOINT]
    own = [limit for limit in limits if limit.key is not LimitKey.ENDPOINT and limit.concerns(who)]
    by_rank = (
        [limit for limit in own if limit.principal == who.name and limit.key is not LimitKey.USER_GROUP],
        [limit for limit in own if limit.key is LimitKey.USER_GROUP],
        own,
    )
    return endpoint + next((found for found in by_rank if found), [])


@dataclass
class _Window:
    """Calls in the present minute and in the one before it."""

    minute: int
    now: int = 0
    before: int = 0

    def move_to(self, minute: int) -> None:
        """Let time pass."""
        if minute != self.minute:
            self.before = self.now if minute == self.minute + 1 else 0
            self.now, self.minute = 0, minute


class RateLimiter:
    """Counts calls. Not thread-safe."""

    def __init__(self) -> None:
        self._windows: dict[tuple[str, str, str], _Window] = {}

    def admit(self, endpoint_id: str, limits: Sequence[RateLimit], who: Principal, now_s: float) -> None:
        """Count a call. Raises ResourceExhausted, with when to come back, and counts nothing then."""
        minute, passed = int(now_s // _PERIOD_S), (now_s % _PERIOD_S) / _PERIOD_S
        found = [(limit, self._window(endpoint_id, limit, who, minute)) for limit in applying(limits, who)]
        for limit, window in found:
            if window.before * (1 - passed) + window.now + 1 > limit.calls:
                raise _refusal(limit, window, passed)
        for _, window in found:
            window.now += 1

    def _window(self, endpoint_id: str, limit: RateLimit, who: Principal, minute: int) -> _Window:
        key = (endpoint_id, limit.key.value, limit.counted_as(who))
        window = self._windows.get(key)
        if window is None:
            if len(self._windows) >= _MOST_KEPT:
                self._forget(minute)
            window = self._windows[key] = _Window(minute)
        window.move_to(minute)
        return window

    def _forget(self, minute: int) -> None:
        """Drop what does not count any more; all, where nothing else makes room."""
        recent = {key: window for key, window in self._windows.items() if window.minute >= minute - 1}
        self._windows = recent if len(recent) < _MOST_KEPT else {}


def _refusal(limit: RateLimit, window: _Window, passed: float) -> ResourceExhausted:
    """With the seconds until a call passes, if no other comes."""
    room = limit.calls - 1
    if room < 0:
        wait = 1.0
    elif window.now <= room:  # as soon as enough of the minute before is long ago
        wait = (1 - passed) - (room - window.now) / window.before
    else:
        wait = (1 - passed) + (1 - room / window.now)
    whose = {LimitKey.ENDPOINT: "this endpoint"}.get(limit.key, f"{limit.key.value} {limit.principal}".strip())
    return ResourceExhausted(
        f"The rate limit of {limit.calls} calls per minute for {whose} is reached; try again later.",
        retry_after_s=max(1, round(wait * _PERIOD_S + 0.5)),
    )
