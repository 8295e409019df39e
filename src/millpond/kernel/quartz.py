"""Cron expressions as Quartz has them: when the next moment is that one names, in a time zone.

Six fields or seven: seconds, minutes, hours, day of the month, month, day of the week, year. Besides lists, ranges
(also across the end, `FRI-MON`), steps and names there are `L`, `L-3`, `LW`, `15W` for days of the month, `L`, `6L`
(the last Friday) and `6#3` (the third) for days of the week, which count from 1 for Sunday. One of the two is `?`.
Where clocks go forward, times that do not exist are left out; where they go back, a time that comes twice counts once,
the second time, as in Quartz, whose calendar takes such times for those of winter.
Source: "CronTrigger Tutorial" of Quartz 2.3, and its `CronExpression`.
"""

import calendar
import re
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import partial
from zoneinfo import ZoneInfo

from millpond.kernel.errors import InvalidArgument

_MONTHS = {"JAN": 1, "FEB": 2, "MAR": 3, "APR": 4, "MAY": 5, "JUN": 6, "JUL": 7, "AUG": 8, "SEP": 9, "OCT": 10,
           "NOV": 11, "DEC": 12}  # fmt: skip
_DAYS = {"SUN": 1, "MON": 2, "TUE": 3, "WED": 4, "THU": 5, "FRI": 6, "SAT": 7}
_LONGEST = 200
_SATURDAY, _SUNDAY = 5, 6
Days = Callable[[int, int], Sequence[int]]
"""From a year and a month to the days of it, in order."""


@dataclass(frozen=True, kw_only=True)
class _Field:
    name: str
    first: int
    last: int
    names: Mapping[str, int]


_SECOND = _Field(name="seconds", first=0, last=59, names={})
_MINUTE = _Field(name="minutes", first=0, last=59, names={})
_HOUR = _Field(name="hours", first=0, last=23, names={})
_DAY = _Field(name="day of the month", first=1, last=31, names={})
_MONTH = _Field(name="month", first=1, last=12, names=_MONTHS)
_WEEKDAY = _Field(name="day of the week", first=1, last=7, names=_DAYS)
_YEAR = _Field(name="year", first=1970, last=2099, names={})


@dataclass(frozen=True, kw_only=True)
class Quartz:
    """An expression that was read."""

    seconds: Sequence[int]
    minutes: Sequence[int]
    hours: Sequence[int]
    days: Days
    months: Sequence[int]
    years: Sequence[int]

    def next_after(self, moment: datetime, zone: ZoneInfo) -> datetime | None:
        """The first moment after one that it names, in UTC; None when there is none until 2099."""
        local = moment.astimezone(zone)
        later = local.replace(fold=1).utcoffset() or timedelta()
        again = max((local.replace(fold=0).utcoffset() or timedelta()) - later, timedelta())
        for wall in self._from(local.replace(tzinfo=None, microsecond=0) - again):
            found = wall.replace(tzinfo=zone, fold=1).astimezone(UTC)
            exists = found.astimezone(zone).replace(tzinfo=None) == wall
            if exists and found > moment:
                return found
        return None

    def _from(self, start: datetime) -> Iterator[datetime]:
        """The times on the clock from one on."""
        for day in self._days_from(start.date()):
            least = start.time() if day == start.date() else time()
            for moment in self._times_from(least):
                yield datetime.combine(day, moment)

    def _days_from(self, start: date) -> Iterator[date]:
        for year in self.years[bisect_left(self.years, start.year) :]:
            for month in self.months:
                if (year, month) >= (start.year, start.month):
                    found = (date(year, month, day) for day in self.days(year, month))
                    yield from (day for day in found if day >= start)

    def _times_from(self, least: time) -> Iterator[time]:
        for hour in self.hours[bisect_left(self.hours, least.hour) :]:
            for minute in self.minutes:
                if (hour, minute) >= (least.hour, least.minute):
                    found = (time(hour, minute, second) for second in self.seconds)
                    yield from (each for each in found if each >= least)


def parsed(expression: str) -> Quartz:
    """The expression. Raises InvalidArgument saying which field is wrong."""
    parts = expression.upper().split()
    if len(parts) not in (6, 7) or len(expression) > _LONGEST:
        raise InvalidArgument(
            f"'{expression[:_LONGEST]}' is no Quartz cron expression: it has seconds, minutes, hours, day of the "
            "month, month, day of the week, and perhaps a year, such as '0 30 6 * * ?'."
        )
    seconds, minutes, hours, day, month, weekday = parts[:6]
    if (day == "?") == (weekday == "?"):
        raise InvalidArgument(
            f"'{expression}' needs '?' for the day of the month or the day of the week, not for both."
        )
    return Quartz(
        seconds=_values(_SECOND, seconds),
        minutes=_values(_MINUTE, minutes),
        hours=_values(_HOUR, hours),
        days=_weekdays(weekday) if day == "?" else _month_days(day),
        months=_values(_MONTH, month),
        years=_values(_YEAR, parts[6] if len(parts) == 7 else "*"),
    )


def first_after(expression: str, moment: datetime, zone: ZoneInfo) -> datetime:
    """The first moment after one that an expression names. Raises InvalidArgument where there is none any more."""
    following = parsed(expression).next_after(moment, zone)
    if following is None:
        raise InvalidArgument("it names no moment that is yet to come.")
    return following


def zone_of(name: str) -> ZoneInfo:
    """The time zone with a name. Raises InvalidArgument."""
    try:
        return ZoneInfo(name)
    except (ValueError, OSError, KeyError) as error:  # ZoneInfoNotFoundError is a KeyError
        raise InvalidArgument(f"schedule.timezone_id: '{name[:60]}' is no time zone such as Europe/Berlin.") from error


# -- fields -----------------------------------------------------------------------------------------------------------


def _values(field: _Field, text: str) -> Sequence[int]:
    return sorted({value for part in text.split(",") for value in _part(field, part)})


def _part(field: _Field, text: str) -> Iterator[int]:
    """`*`, `5`, `5-10`, `FRI-MON`, and each of them with a step, as `0/15`."""
    found = re.fullmatch(r"(?:\*|(\w+)(?:-(\w+))?)?(?:/(\d{1,4}))?", text)
    if not text or found is None:
        raise _wrong(field, text)
    first, last, step = found.groups()
    if step is not None and not 1 <= int(step) <= field.last - field.first + 1:
        raise _wrong(field, text)
    low = field.first if first is None else _value(field, first)
    high = _value(field, last) if last else field.last if first is None or step else low
    if low > high and field is not _YEAR:  # across the end
        span = field.last - field.first + 1
        yield from ((each - field.first) % span + field.first for each in range(low, high + span + 1, int(step or 1)))
    elif low > high:
        raise _wrong(field, text)
    yield from range(low, high + 1, int(step or 1))


def _value(field: _Field, text: str) -> int:
    value = field.names.get(text, int(text) if text.isdecimal() else -1)
    if not field.first <= value <= field.last:
        raise _wrong(field, text)
    return value


def _wrong(field: _Field, text: str) -> InvalidArgument:
    names = f" or {', '.join(field.names)}" if field.names else ""
    return InvalidArgument(f"'{text[:40]}' is no {field.name}; it has {field.first} to {field.last}{names}.")


# -- days -------------------------------------------------------------------------------------------------------------


def _month_days(text: str) -> Days:
    if last := re.fullmatch(r"L(?:-(\d{1,2}))?(W?)", text):
        before = int(last[1] or 0)
        if before > 30:
            raise _wrong(_DAY, text)
        return partial(_last_day, before, bool(last[2]))
    if near := re.fullmatch(r"(\d{1,2})W", text):
        return partial(_nearest_workday, _value(_DAY, near[1]))
    return partial(_numbered, _values(_DAY, text))


def _weekdays(text: str) -> Days:
    if text == "L":
        text = "SAT"
    if last := re.fullmatch(r"(\w{1,3})L", text):
        return partial(_last_weekday, _python_weekday(_value(_WEEKDAY, last[1])))
    if nth := re.fullmatch(r"(\w{1,3})#([1-5])", text):
        return partial(_nth_weekday, _python_weekday(_value(_WEEKDAY, nth[1])), int(nth[2]))
    return partial(_on_weekdays, {_python_weekday(each) for each in _values(_WEEKDAY, text)})


def _python_weekday(number: int) -> int:
    """Quartz's 1 is Sunday, Python's 0 is Monday."""
    return (number - 2) % 7


def _length(year: int, month: int) -> int:
    return calendar.monthrange(year, month)[1]


def _numbered(days: Sequence[int], year: int, month: int) -> Sequence[int]:
    return days[: bisect_left(days, _length(year, month) + 1)]


def _last_day(before: int, workday: bool, year: int, month: int) -> Sequence[int]:
    day = _length(year, month) - before
    return () if day < 1 else _nearest_workday(day, year, month) if workday else (day,)


def _nearest_workday(day: int, year: int, month: int) -> Sequence[int]:
    """The day itself, or the Friday or Monday beside it; never in another month."""
    length = _length(year, month)
    if day > length:
        return ()
    weekday = calendar.weekday(year, month, day)
    if weekday == _SATURDAY:
        return (day - 1 if day > 1 else day + 2,)
    if weekday == _SUNDAY:
        return (day + 1 if day < length else day - 2,)
    return (day,)


def _on_weekdays(weekdays: set[int], year: int, month: int) -> Sequence[int]:
    first, length = calendar.monthrange(year, month)
    return [day for day in range(1, length + 1) if (first + day - 1) % 7 in weekdays]


def _last_weekday(weekday: int, year: int, month: int) -> Sequence[int]:
    return _on_weekdays({weekday}, year, month)[-1:]


def _nth_weekday(weekday: int, nth: int, year: int, month: int) -> Sequence[int]:
    return _on_weekdays({weekday}, year, month)[nth - 1 : nth]
