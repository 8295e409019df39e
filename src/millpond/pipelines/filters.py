"""What lists are narrowed by, as the Pipelines API writes it.

Source: the references of `list_pipelines` and `list_pipeline_events`.
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime

from millpond.kernel.errors import InvalidArgument
from millpond.pipelines.domain import Level

_LEVEL = re.compile(r"level\s*=\s*'(\w+)'", re.IGNORECASE)
_LEVELS = re.compile(r"level\s+in\s*\(([^()]*)\)", re.IGNORECASE)
_ID = re.compile(r"id\s*=\s*'([^'\x00]*)'", re.IGNORECASE)
_TIME = re.compile(r"timestamp\s*(<=|>=|<|>|=)\s*'([^']*)'", re.IGNORECASE)
_UPDATE = re.compile(r"update_id\s*=\s*'([^'\x00]*)'", re.IGNORECASE)
_NAME = re.compile(r"name\s+like\s+'([^'\x00]*)'", re.IGNORECASE)
_NOTEBOOK = re.compile(r"notebook\s*=\s*'([^']*)'", re.IGNORECASE)
_OPEN_ESCAPE = re.compile(r"(?<!\\)(?:\\\\)*\\$")
_LONGEST = 4096


@dataclass(frozen=True, kw_only=True)
class WantedEvents:
    """Which events."""

    levels: frozenset[Level] = frozenset()
    """None for all."""
    id: str | None = None
    update_id: str | None = None
    times: tuple[tuple[str, datetime], ...] = ()
    """Comparisons, each with a moment."""


@dataclass(frozen=True, kw_only=True)
class WantedPipelines:
    """Which pipelines."""

    like: str | None = None
    """A pattern of SQL's LIKE for the name."""
    notebook: str | None = None
    """A path among the libraries."""


def events_like(text: str | None) -> WantedEvents:
    """What a filter of events means. Raises InvalidArgument."""
    levels: frozenset[Level] = frozenset()
    id_: str | None = None
    update_id: str | None = None
    times: list[tuple[str, datetime]] = []
    for part in _parts(text):
        if found := _LEVEL.fullmatch(part):
            levels = frozenset({_level(found[1])})
        elif found := _LEVELS.fullmatch(part):
            levels = frozenset(_level(each.strip().strip("'")) for each in found[1].split(","))
        elif found := _ID.fullmatch(part):
            id_ = found[1]
        elif found := _UPDATE.fullmatch(part):
            update_id = found[1]
        elif found := _TIME.fullmatch(part):
            times.append((found[1], _moment(found[2])))
        else:
            told = "level = '...', level in ('...'), timestamp > '...', update_id = '...' and id = '...', joined by AND"
            raise InvalidArgument(f"filter: '{part[:80]}' is none of {told}.")
    return WantedEvents(levels=levels, id=id_, update_id=update_id, times=tuple(times))


def pipelines_like(text: str | None) -> WantedPipelines:
    """What a filter of pipelines means. Raises InvalidArgument."""
    asked = (text or "").strip()[:_LONGEST]
    if not asked:
        return WantedPipelines()
    if found := _NAME.fullmatch(asked):
        if _OPEN_ESCAPE.search(found[1]):
            raise InvalidArgument("filter: the pattern ends with a backslash, which has nothing to stand before.")
        return WantedPipelines(like=found[1])
    if found := _NOTEBOOK.fullmatch(asked):
        return WantedPipelines(notebook=found[1])
    raise InvalidArgument(f"filter: '{asked[:80]}' is neither name LIKE '...' nor notebook = '...'.")


def is_ascending(order_by: list[str] | None, fields: tuple[str, ...], default: str) -> tuple[str, bool]:
    """The field by which a list is ordered, and whether upward. Raises InvalidArgument."""
    words = (order_by or [default])[0].lower().split()
    if len(order_by or ()) > 1 or not words or words[0] not in fields or words[1:] not in ([], ["asc"], ["desc"]):
        raise InvalidArgument(f"order_by is one of {', '.join(fields)}, with asc or desc behind it.")
    return words[0], words[1:] != ["desc"]


def _parts(text: str | None) -> list[str]:
    asked = (text or "").strip()
    if len(asked) > _LONGEST:
        raise InvalidArgument(f"filter has more than {_LONGEST:,} characters.")
    return [each.strip() for each in re.split(r"\s+and\s+", asked, flags=re.IGNORECASE)] if asked else []


def _level(name: str) -> Level:
    try:
        return Level(name.upper())
    except ValueError as error:
        raise InvalidArgument(f"filter: '{name[:40]}' is no level; there are {', '.join(Level)}.") from error


def _moment(text: str) -> datetime:
    try:
        found = datetime.fromisoformat(text)
    except ValueError as error:
        raise InvalidArgument(f"filter: '{text[:40]}' is no time; write 2026-01-31T12:00:00Z.") from error
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)
