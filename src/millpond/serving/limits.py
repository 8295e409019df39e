"""How often an endpoint may be asked, in all and by whom.

Calls are counted over a minute that slides: what came in the calendar minute before counts in the share of it that is
less than a minute ago. Each server counts in its own memory, and hears once a second what others have counted
(`shared_limits.py`).
"""

from collections.abc import Mapping, Sequence
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


Counted = tuple[str, str, str]
"""What is counted together: the endpoint's id, the limit's key, and whose calls they are."""


@dataclass(frozen=True, kw_only=True)
class Calls:
    """So many in a minute, counted from 1970, and in the one before it."""

    minute: int
    now: int = 0
    before: int = 0


@dataclass
class _Window:
    """The calls that this server has let through, and those of others as far as it has heard."""

    minute: int
    others: Calls
    now: int = 0
    before: int = 0

    def move_to(self, minute: int) -> None:
        """Let time pass."""
        if minute != self.minute:
            self.before = self.now if minute == self.minute + 1 else 0
            self.now, self.minute = 0, minute

    def together(self) -> tuple[int, int]:
        """All calls of the present minute and of the one before it."""
        others = self.others
        if others.minute == self.minute:
            return self.now + others.now, self.before + others.before
        return self.now, self.before + (others.now if others.minute == self.minute - 1 else 0)


class RateLimiter:
    """Counts calls, on one thread; another one may tell it what others count, and read what it has counted."""

    def __init__(self) -> None:
        self._windows: dict[Counted, _Window] = {}

    def admit(self, endpoint_id: str, limits: Sequence[RateLimit], who: Principal, now_s: float) -> None:
        """Count a call at a time since 1970. Raises ResourceExhausted, with when to come back; then none counts."""
        minute, passed = int(now_s // _PERIOD_S), (now_s % _PERIOD_S) / _PERIOD_S
        found = [(limit, self._window(endpoint_id, limit, who, minute)) for limit in applying(limits, who)]
        for limit, window in found:
            now, before = window.together()
            if before * (1 - passed) + now + 1 > limit.calls:
                raise _refusal(limit, now, before, passed)
        for _, window in found:
            window.now += 1

    def counted(self, minute: int) -> dict[Counted, Calls]:
        """What this server has let through in a minute and the one before it, of all for which it was asked then."""
        found = {}
        for key, window in list(self._windows.items()):
            if window.minute == minute:
                found[key] = Calls(minute=minute, now=window.now, before=window.before)
            elif window.minute == minute - 1:
                found[key] = Calls(minute=minute, before=window.now)
        return found

    def learn(self, others: Mapping[Counted, Calls], minute: int) -> None:
        """Hear what other servers have counted of what this one counts, too."""
        none = Calls(minute=minute)
        for key, window in list(self._windows.items()):
            window.others = others.get(key, none)

    def _window(self, endpoint_id: str, limit: RateLimit, who: Principal, minute: int) -> _Window:
        key = (endpoint_id, limit.key.value, limit.counted_as(who))
        window = self._windows.get(key)
        if window is None:
            if len(self._windows) >= _MOST_KEPT:
                self._forget(minute)
            window = self._windows[key] = _Window(minute, Calls(minute=minute))
        window.move_to(minute)
        return window

    def _forget(self, minute: int) -> None:
        """Drop what does not count any more; all, where nothing else makes room."""
        recent = {key: window for key, window in self._windows.items() if window.minute >= minute - 1}
        self._windows = recent if len(recent) < _MOST_KEPT else {}


def _refusal(limit: RateLimit, now: int, before: int, passed: float) -> ResourceExhausted:
    """With the seconds until a call passes, if no other comes."""
    room = limit.calls - 1
    if room < 0:
        wait = 1.0
    elif now <= room:  # as soon as enough of the minute before is long ago
        wait = (1 - passed) - (room - now) / before
    else:
        wait = (1 - passed) + (1 - room / now)
    whose = {LimitKey.ENDPOINT: "this endpoint"}.get(limit.key, f"{limit.key.value} {limit.principal}".strip())
    return ResourceExhausted(
        f"The rate limit of {limit.calls} calls per minute for {whose} is reached; try again later.",
        retry_after_s=max(1, round(wait * _PERIOD_S + 0.5)),
    )
