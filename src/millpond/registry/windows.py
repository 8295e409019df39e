"""The check `window`: on which days and at which hours versions may move, and when nothing does.

```yaml
- window: {time_zone: Europe/Berlin, weekdays: [mon, tue, wed, thu], from: "09:00", until: "17:00",
           freezes: [{from: 2026-12-20, until: 2027-01-06}]}
```
"""

from collections.abc import Mapping
from datetime import date, datetime
from typing import Any
from zoneinfo import ZoneInfo

from millpond.kernel.clock import utc_now
from millpond.kernel.errors import InvalidArgument
from millpond.registry.checks import Looked, PlainCheck, Subject

WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


def closed_because(params: Mapping[str, Any], moment: datetime) -> str:
    """Why nothing moves at an (aware) moment; empty where it may. `until` is outside the hours, inside a freeze."""
    zone = _zone(params)
    there = moment.astimezone(zone)
    for freeze in params.get("freezes", ()):
        first, last = _day(freeze["from"]), _day(freeze["until"])
        if first <= there.date() <= last:
            return f"nothing moves from {first} until {last}"
    shown = f"{there:%a %H:%M} ({zone.key})"
    weekdays = params.get("weekdays", WEEKDAYS)
    if WEEKDAYS[there.weekday()] not in weekdays:
        return f"it is {shown}; versions move on {', '.join(weekdays)}"
    begin, end = _minute(params.get("from", "00:00")), _minute(params.get("until", "24:00"))
    if not begin <= there.hour * 60 + there.minute < end:
        return f"it is {shown}; versions move from {_clock(begin)} until {_clock(end)}"
    return ""


def _look(_subject: Subject, params: Mapping[str, Any]) -> Looked:
    closed = closed_because(params, utc_now())
    return not closed, closed or "within the window", {}


def _inspect(params: Mapping[str, Any]) -> None:
    """All values are read once, so that what is wrong is said when the policy is set."""
    _zone(params)
    wrong = [str(day) for day in params.get("weekdays", ()) if day not in WEEKDAYS]
    if wrong:
        raise InvalidArgument(f"Check 'window': '{wrong[0][:40]}' is no weekday; there are {', '.join(WEEKDAYS)}.")
    if _minute(params.get("from", "00:00")) >= _minute(params.get("until", "24:00")):
        raise InvalidArgument("Check 'window': 'from' is before 'until', on the same day.")
    for freeze in params.get("freezes", ()):
        if not isinstance(freeze, dict) or set(freeze) != {"from", "until"}:
            raise InvalidArgument("Check 'window': a freeze has the days 'from' and 'until'.")
        if _day(freeze["from"]) > _day(freeze["until"]):
            raise InvalidArgument("Check 'window': a freeze does not end before it begins.")


def _zone(params: Mapping[str, Any]) -> ZoneInfo:
    name = params.get("time_zone", "UTC")
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError) as error:  # by the form of the name
        raise InvalidArgument(f"Check 'window': there is no time zone '{name[:60]}', such as Europe/Berlin.") from error


def _day(value: Any) -> date:
    try:
        return value if isinstance(value, date) else date.fromisoformat(value)
    except (TypeError, ValueError) as error:
        raise InvalidArgument(f"Check 'window': '{str(value)[:40]}' is no day such as 2026-12-24.") from error


def _minute(value: Any) -> int:
    """Of the day. YAML reads 17:00 without quotes as a number in base 60, which is just that."""
    if isinstance(value, int) and 0 <= value <= 1440:
        return value
    hours, _, minutes = str(value).partition(":")
    if not (hours.isdecimal() and minutes.isdecimal() and int(hours) * 60 + int(minutes) <= 1440 and int(minutes) < 60):
        raise InvalidArgument(f"Check 'window': '{str(value)[:40]}' is no time of day such as 09:30.")
    return int(hours) * 60 + int(minutes)


def _clock(minute: int) -> str:
    return f"{minute // 60:02}:{minute % 60:02}"


WINDOW = PlainCheck(
    name="window",
    types={"time_zone": (str,), "weekdays": (list,), "from": (str, int), "until": (str, int), "freezes": (list,)},
    look=_look,
    inspect=_inspect,
)
