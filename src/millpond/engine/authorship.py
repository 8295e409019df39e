"""Who made a commit, written into the commit itself: so it is there when the commit is, and goes where the table goes.

delta-rs takes an author. Sail does not, but puts two texts of ours into the log as they are: `userMetadata` of a write,
and the condition of UPDATE, DELETE and MERGE, to which a note is added that is always true.
Read docs/decisions/0015-authors-of-commits.md for what a note is worth.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode

from millpond.identity.domain import Principal
from millpond.kernel.ids import new_id

MARK = "millpond.commit"
"""Key under which a commit has an id of its own."""
USER_METADATA_SETTING = "spark.databricks.delta.commitInfo.userMetadata"
_OPTIONS = frozenset({"usermetadata", "user_metadata"})
_CONDITIONS = {"UPDATE": "predicate", "DELETE": "predicate", "MERGE": "mergePredicate"}
_NOTED = re.compile(rf"(?:\( (?P<condition>.*) \) AND )?'(?P<note>{re.escape(MARK)}=[^']*)' IS NOT NULL\s*", re.DOTALL)


@dataclass(frozen=True, kw_only=True)
class Author:
    """Who commits."""

    id: str
    name: str

    @classmethod
    def of(cls, principal: Principal) -> "Author":
        return cls(id=principal.id, name=principal.name)


@dataclass(frozen=True, kw_only=True)
class Note:
    """What one commit says of itself."""

    author: Author
    user_metadata: str | None = None
    """The user's own `userMetadata`."""
    commit: str = field(default_factory=new_id)

    def __str__(self) -> str:
        """Text without quotes, backslashes and spaces, which stays as it is inside SQL."""
        pairs = {MARK: self.commit, "userId": self.author.id, "userName": self.author.name}
        if self.user_metadata is not None:
            pairs["userMetadata"] = self.user_metadata
        return urlencode(pairs, quote_via=quote, safe="@")

    def as_option(self, options: Mapping[str, str]) -> dict[str, str]:
        """The options of a write with this note in the place of the user's metadata."""
        return {**without_metadata(options), "userMetadata": str(self)}

    def beside(self, condition: tuple[int, int], keyword: str, also: str | None = None) -> list[tuple[int, int, str]]:
        """The edits that add this note to the condition at this place, or after `keyword` where there is none.

        `also` is a further condition.
        """
        start, end = condition
        note = f"'{self}' IS NOT NULL"
        if start == end:
            return [(end, end, f" {keyword} {note}" if also is None else f" {keyword} ({also}) AND {note}")]
        if also is None:
            return [(start, start, " ("), (end, end, f") AND {note}")]
        return [(start, start, " (("), (end, end, f") AND ({also})) AND {note}")]


def metadata_of(options: Mapping[str, str], setting: str | None) -> str | None:
    """The user's metadata for a commit: an option of the write, or else the session's setting."""
    return next((value for key, value in options.items() if key.lower() in _OPTIONS), setting)


def without_metadata(options: Mapping[str, str]) -> dict[str, str]:
    """Options without the user's metadata, however it is spelled."""
    return {key: value for key, value in options.items() if key.lower() not in _OPTIONS}


def unsigned(commit: Mapping[str, Any]) -> dict[str, Any]:
    """A commit's facts with the author by name, and the user's metadata and condition as they were given.

    A note is read only where the engine put it: `userMetadata` of a commit that delta-rs signed is the user's text.
    """
    key = _CONDITIONS.get(str(commit.get("operation")))
    if MARK in commit:
        return dict(commit)
    if key is not None:
        return _without_condition(commit, key)
    note = _note(commit.get("userMetadata"))
    return {**commit, **note} if note else dict(commit)


def _without_condition(commit: Mapping[str, Any], key: str) -> dict[str, Any]:
    parameters = dict(commit.get("operationParameters") or {})
    found = _NOTED.fullmatch(str(parameters.get(key) or ""))
    note = _note(found["note"]) if found else {}
    if found is None or not note:
        return dict(commit)
    parameters[key] = found["condition"]
    if found["condition"] is None:
        del parameters[key]
    return {**commit, **note, "operationParameters": parameters}


def _note(text: Any) -> dict[str, Any]:
    if not isinstance(text, str) or not text.startswith(f"{MARK}="):
        return {}
    found = dict(parse_qsl(text, keep_blank_values=True))
    return {key: found.get(key) for key in (MARK, "userId", "userName", "userMetadata")}
