"""Rate limits: whose calls are counted together, and when one more is let through."""

import pytest

from millpond.identity.domain import Principal, PrincipalKind
from millpond.kernel.errors import InvalidArgument, ResourceExhausted
from millpond.serving.limits import Calls, LimitKey, RateLimit, RateLimiter, applying, check_limits

ADA = Principal(id="1", name="ada", kind=PrincipalKind.USER, is_admin=False, groups=frozenset({"science", "users"}))
BOB = Principal(id="2", name="bob", kind=PrincipalKind.USER, is_admin=False)
BOT = Principal(id="3", name="app-id", kind=PrincipalKind.SERVICE_PRINCIPAL, is_admin=False)
ALL = RateLimit(key=LimitKey.ENDPOINT, calls=100)
EACH = RateLimit(key=LimitKey.USER, calls=2)


def admitted(limiter: RateLimiter, limits: list[RateLimit], who: Principal, at_s: float) -> int:
    """0 when the call is let through, else the seconds after which to come back."""
    try:
        limiter.admit("e", limits, who, at_s)
    except ResourceExhausted as error:
        return error.retry_after_s
    return 0


def test_calls_of_a_minute_are_counted_and_the_next_is_told_when_to_come_back() -> None:
    limiter = RateLimiter()
    assert [admitted(limiter, [EACH], ADA, at) for at in (600.0, 601.0)] == [0, 0]
    wait = admitted(limiter, [EACH], ADA, 602.0)
    assert wait == 88, "in the next minute, when half of this one is long ago"
    assert admitted(limiter, [EACH], ADA, 602.0 + wait) == 0
    assert admitted(limiter, [EACH], BOB, 602.0) == 0, "each user by itself"


def test_a_minute_slides() -> None:
    limiter = RateLimiter()
    ten = [RateLimit(key=LimitKey.ENDPOINT, calls=10)]
    assert not any(admitted(limiter, ten, ADA, 659.0) for _ in range(10))
    assert admitted(limiter, ten, ADA, 661.0) > 0, "not ten again just because the clock shows another minute"
    assert admitted(limiter, ten, ADA, 700.0) == 0
    assert admitted(limiter, ten, ADA, 10_000.0) == 0


def test_what_one_limit_refuses_no_other_counts() -> None:
    limiter = RateLimiter()
    limits = [RateLimit(key=LimitKey.ENDPOINT, calls=3), RateLimit(key=LimitKey.USER, calls=1)]
    assert admitted(limiter, limits, ADA, 600) == 0
    assert all(admitted(limiter, limits, ADA, 600) for _ in range(5))
    assert [admitted(limiter, limits, who, 600) for who in (BOB, BOT)] == [0, 0]


def test_no_call_passes_a_limit_of_none() -> None:
    assert admitted(RateLimiter(), [RateLimit(key=LimitKey.ENDPOINT, calls=0)], ADA, 630.0) > 30


def test_the_limit_that_knows_who_asks_best_counts() -> None:
    own = RateLimit(key=LimitKey.USER, calls=5, principal="ada")
    group = RateLimit(key=LimitKey.USER_GROUP, calls=9, principal="science")
    program = RateLimit(key=LimitKey.SERVICE_PRINCIPAL, calls=7, principal="app-id")
    limits = [ALL, EACH, own, group, program]
    assert applying(limits, ADA) == [ALL, own]
    assert applying([ALL, EACH, group], ADA) == [ALL, group]
    assert applying(limits, BOB) == [ALL, EACH]
    assert applying(limits, BOT) == [ALL, program]


def test_a_group_shares_its_limit() -> None:
    limiter, group = RateLimiter(), [RateLimit(key=LimitKey.USER_GROUP, calls=1, principal="science")]
    other = Principal(id="4", name="eve", kind=PrincipalKind.USER, is_admin=False, groups=frozenset({"science"}))
    assert admitted(limiter, group, ADA, 600) == 0
    assert admitted(limiter, group, other, 600) > 0


def test_calls_that_other_servers_let_through_count_too() -> None:
    limiter, other = RateLimiter(), RateLimiter()
    five = [RateLimit(key=LimitKey.ENDPOINT, calls=5)]
    assert not any(admitted(other, five, ADA, at) for at in (590.0, 591.0, 600.0, 601.0))
    assert admitted(limiter, five, BOB, 603.0) == 0
    limiter.learn(other.counted(10), 10)
    assert limiter.counted(10) == {("e", "endpoint", ""): Calls(minute=10, now=1)}, "what it has counted itself"
    assert admitted(limiter, five, BOB, 604.0) > 0, "almost two of the minute before, two, one of its own, and this one"
    assert admitted(limiter, five, BOB, 650.0) == 0
    assert admitted(limiter, five, BOB, 661.0) == 0
    assert admitted(limiter, five, BOB, 661.0) > 0, "theirs of the minute before count in their share"
    limiter.learn({}, 11)
    assert admitted(limiter, five, BOB, 661.0) == 0


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        ([RateLimit(key=LimitKey.USER, calls=-1)], "fewer than none"),
        ([EACH, EACH], "two limits for the same"),
        ([RateLimit(key=LimitKey.USER_GROUP, calls=1)], "names it as its principal"),
        ([RateLimit(key=LimitKey.ENDPOINT, calls=1, principal="ada")], "has no principal"),
        ([RateLimit(key=LimitKey.USER, calls=1, principal=str(n)) for n in range(21)], "at most 20"),
    ],
)
def test_wrong_limits_are_refused(limits: list[RateLimit], said: str) -> None:
    with pytest.raises(InvalidArgument, match=said):
        check_limits(limits)
