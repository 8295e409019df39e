"""Quartz cron expressions, against examples of its tutorial and an oracle that looks at each minute."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from millpond.kernel.errors import InvalidArgument
from millpond.kernel.quartz import parsed

BERLIN, NEW_YORK, UTC_ZONE = ZoneInfo("Europe/Berlin"), ZoneInfo("America/New_York"), ZoneInfo("UTC")
LORD_HOWE = ZoneInfo("Australia/Lord_Howe")
"""Its clocks move by half an hour."""


def fires(expression: str, start: str, zone: ZoneInfo = UTC_ZONE, count: int = 3) -> list[str]:
    """The next moments after a local time, as their local times with the offset from UTC."""
    moment, found = datetime.fromisoformat(start).replace(tzinfo=zone).astimezone(UTC), []
    for _ in range(count):
        following = parsed(expression).next_after(moment, zone)
        if following is None:
            break
        moment = following
        found.append(moment.astimezone(zone).strftime("%Y-%m-%d %H:%M:%S%z")[2:-2])
    return found


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("0 0 12 * * ?", ["26-01-01 12:00:00+00", "26-01-02 12:00:00+00", "26-01-03 12:00:00+00"]),
        ("0 15 10 ? * MON-FRI", ["26-01-01 10:15:00+00", "26-01-02 10:15:00+00", "26-01-05 10:15:00+00"]),
        ("0 0/5 14,18 * * ?", ["26-01-01 14:00:00+00", "26-01-01 14:05:00+00", "26-01-01 14:10:00+00"]),
        ("0 10,44 14 ? 3 WED", ["26-03-04 14:10:00+00", "26-03-04 14:44:00+00", "26-03-11 14:10:00+00"]),
        ("0 15 10 L * ?", ["26-01-31 10:15:00+00", "26-02-28 10:15:00+00", "26-03-31 10:15:00+00"]),
        ("0 15 10 L-2 * ?", ["26-01-29 10:15:00+00", "26-02-26 10:15:00+00", "26-03-29 10:15:00+00"]),
        ("0 0 0 LW * ?", ["26-01-30 00:00:00+00", "26-02-27 00:00:00+00", "26-03-31 00:00:00+00"]),
        ("0 0 0 1W * ?", ["26-02-02 00:00:00+00", "26-03-02 00:00:00+00", "26-04-01 00:00:00+00"]),
        ("0 0 0 31W * ?", ["26-01-30 00:00:00+00", "26-03-31 00:00:00+00", "26-05-29 00:00:00+00"]),
        ("0 15 10 ? * 6L", ["26-01-30 10:15:00+00", "26-02-27 10:15:00+00", "26-03-27 10:15:00+00"]),
        ("0 15 10 ? * FRI#3", ["26-01-16 10:15:00+00", "26-02-20 10:15:00+00", "26-03-20 10:15:00+00"]),
        ("0 0 0 ? * 2#5", ["26-03-30 00:00:00+00", "26-06-29 00:00:00+00", "26-08-31 00:00:00+00"]),
        ("0 0 0 ? * FRI-MON", ["26-01-02 00:00:00+00", "26-01-03 00:00:00+00", "26-01-04 00:00:00+00"]),
        ("0 0 22-2 * * ?", ["26-01-01 01:00:00+00", "26-01-01 02:00:00+00", "26-01-01 22:00:00+00"]),
        ("*/20 59 23 31 dec ? 2026", ["26-12-31 23:59:00+00", "26-12-31 23:59:20+00", "26-12-31 23:59:40+00"]),
        ("0 11 11 11 11 ?", ["26-11-11 11:11:00+00", "27-11-11 11:11:00+00", "28-11-11 11:11:00+00"]),
        ("0 0 0 29 2 ?", ["28-02-29 00:00:00+00", "32-02-29 00:00:00+00", "36-02-29 00:00:00+00"]),
        ("0 0 0 30 2 ?", []),
        ("0 0 0 ? * L 2026/2", ["26-01-03 00:00:00+00", "26-01-10 00:00:00+00", "26-01-17 00:00:00+00"]),
    ],
)
def test_examples(expression: str, expected: list[str]) -> None:
    assert fires(expression, "2026-01-01 00:00:00") == expected


@pytest.mark.parametrize(
    ("zone", "expression", "start", "expected"),
    [
        # forward at 2:00: half past two does not exist on 29 March
        (BERLIN, "0 30 2 * * ?", "2026-03-28 00:00", ["26-03-28 02:30:00+01", "26-03-30 02:30:00+02"]),
        (BERLIN, "0 0 * * * ?", "2026-03-29 00:30", ["26-03-29 01:00:00+01", "26-03-29 03:00:00+02"]),
        # back at 3:00: half past two comes twice on 25 October, and counts the second time
        (BERLIN, "0 30 2 * * ?", "2026-10-25 00:00", ["26-10-25 02:30:00+01", "26-10-26 02:30:00+01"]),
        (BERLIN, "0 0 * * * ?", "2026-10-25 00:30", ["26-10-25 01:00:00+02", "26-10-25 02:00:00+01"]),
        (NEW_YORK, "0 30 1 ? * *", "2026-11-01 00:00", ["26-11-01 01:30:00-05", "26-11-02 01:30:00-05"]),
        (NEW_YORK, "0 0/30 1 1 11 ? 2026", "2026-11-01 01:10", ["26-11-01 01:00:00-05", "26-11-01 01:30:00-05"]),
        (LORD_HOWE, "0 45 1 * * ?", "2026-04-05 00:00", ["26-04-05 01:45:00+10", "26-04-06 01:45:00+10"]),
    ],
)
def test_clocks_that_go_forward_and_back(zone: ZoneInfo, expression: str, start: str, expected: list[str]) -> None:
    assert fires(expression, start, zone, count=2) == expected


SMALL = st.one_of(
    st.just("*"),
    st.tuples(st.integers(0, 23), st.integers(0, 23)).map(lambda pair: f"{pair[0]}-{pair[1]}"),
    st.lists(st.integers(0, 23), min_size=1, max_size=3).map(lambda hours: ",".join(map(str, hours))),
    st.tuples(st.integers(0, 23), st.integers(1, 24)).map(lambda pair: f"{pair[0]}/{pair[1]}"),
)
DAYS = st.one_of(
    st.lists(st.integers(1, 31), min_size=1, max_size=3).map(lambda days: (",".join(map(str, days)), "?")),
    st.lists(st.integers(1, 7), min_size=1, max_size=3).map(lambda days: ("?", ",".join(map(str, days)))),
    st.just(("*", "?")),
)


def _named(text: str, first: int, last: int) -> set[int]:
    """The numbers of a field of the kinds above."""
    if text == "*":
        return set(range(first, last + 1))
    if "/" in text:
        low, step = map(int, text.split("/"))
        return set(range(low, last + 1, step))
    if "-" in text:
        low, high = map(int, text.split("-"))
        return {*range(low, high + 1)} if low <= high else {*range(low, last + 1), *range(first, high + 1)}
    return set(map(int, text.split(",")))


@given(
    hours=SMALL,
    minute=st.integers(0, 59),
    days=DAYS,
    zone=st.sampled_from([BERLIN, NEW_YORK, UTC_ZONE, LORD_HOWE]),
    start=st.datetimes(datetime(2026, 1, 1), datetime(2027, 12, 1)),
)
@example(hours="2", minute=15, days=("*", "?"), zone=BERLIN, start=datetime(2026, 10, 25, 0, 20))
@example(hours="*", minute=0, days=("*", "?"), zone=LORD_HOWE, start=datetime(2026, 10, 3, 15, 10))
def test_the_next_moment_is_the_first_minute_whose_clock_it_names(
    hours: str, minute: int, days: tuple[str, str], zone: ZoneInfo, start: datetime
) -> None:
    day, weekday = days
    moment = start.replace(tzinfo=UTC)
    found = parsed(f"0 {minute} {hours} {day} * {weekday}").next_after(moment, zone)
    each = moment.replace(second=0, microsecond=0)
    for _ in range(3 * 24 * 60):
        each += timedelta(minutes=1)
        clock = each.astimezone(zone)
        comes_again = (each + timedelta(hours=2)).astimezone(zone).utcoffset() != clock.utcoffset() and any(
            (each + timedelta(minutes=shift)).astimezone(zone).replace(tzinfo=None) == clock.replace(tzinfo=None)
            for shift in (30, 60)
        )
        named = (
            clock.minute == minute
            and clock.hour in _named(hours, 0, 23)
            and (day == "?" or clock.day in _named(day, 1, 31))
            and (weekday == "?" or clock.isoweekday() % 7 + 1 in _named(weekday, 1, 7))
        )
        if named and not comes_again:
            assert found == each
            return
    assert found is None or found > each


@pytest.mark.parametrize(
    ("expression", "told"),
    [
        ("0 0 12 * *", "seconds, minutes"),
        ("0 0 12 * * *", r"needs '\?'"),
        ("0 0 12 ? * ?", "not for both"),
        ("60 0 12 * * ?", "'60' is no seconds"),
        ("0 0 24 * * ?", "'24' is no hours"),
        ("0 0 12 0 * ?", "'0' is no day of the month"),
        ("0 0 12 ? * 8", "'8' is no day of the week"),
        ("0 0 12 ? * MO", "'MO' is no day of the week"),
        ("0 0 12 * 13 ?", "'13' is no month"),
        ("0 0/0 12 * * ?", "'0/0' is no minutes"),
        ("0 0/70 12 * * ?", "is no minutes"),
        ("0 0 12 L,5 * ?", "'L' is no day of the month"),
        ("0 0 12 ? * 6#6", "'6#6' is no day of the week"),
        ("0 0 12 * * ? 1969", "'1969' is no year"),
        ("0 0 12 * * ? 2030-2026", "is no year"),
        ("0 , 12 * * ?", "'' is no minutes"),
        ("0 ² 12 * * ?", "is no minutes"),
        ("0 0 12 L-31 * ?", "is no day"),
    ],
)
def test_what_is_wrong_is_said_with_its_field(expression: str, told: str) -> None:
    with pytest.raises(InvalidArgument, match=told):
        parsed(expression)
