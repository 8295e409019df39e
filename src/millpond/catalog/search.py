"""What somebody looks for, what is found, and how well it fits: for the catalog's objects, and for other rooms' too."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from millpond.catalog.names import check_text
from millpond.catalog.tags import CERTIFIED, DEPRECATED
from millpond.kernel.errors import InvalidArgument

KINDS = ("catalog", "schema", "table", "volume", "function", "model")
"""Of the catalog; other rooms have kinds besides."""
MAX_FOUND = 1000
"""Nobody looks further down a list."""
_MAX_WORDS = 8
_MAX_TEXT = 400

SCORES: Mapping[str, int] = {
    "name is": 100, "name begins": 60, "name holds": 40, "tags hold": 30, "columns hold": 20, "comment holds": 10,
    "owner holds": 8, "path holds": 5,
}  # fmt: skip
"""What a word is worth by the best place where it stands; each word must stand somewhere."""
MARKS: Mapping[str, int] = {CERTIFIED: 15, DEPRECATED: -50}
"""What a mark adds."""


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What somebody looks for; what is left empty does not matter. Raises InvalidArgument."""

    text: str = ""
    kinds: frozenset[str] = frozenset()
    tag: str = ""
    """A key, or `key=value`."""
    owner: str = ""
    certification: str = ""
    """certified or deprecated."""

    def __post_init__(self) -> None:
        for text in (self.text, self.tag, self.owner):
            if len(text) > 4 * _MAX_TEXT:
                raise InvalidArgument(f"A search has at most {4 * _MAX_TEXT} characters.")
            check_text(text, "The search")
        if self.certification not in {"", *MARKS}:
            raise InvalidArgument(f"An object is {' or '.join(MARKS)}, not '{self.certification[:40]}'.")

    @property
    def words(self) -> tuple[str, ...]:
        """The words, in lower case, each of which must be found."""
        return tuple(dict.fromkeys(self.text[:_MAX_TEXT].lower().split()))[:_MAX_WORDS]

    @property
    def tag_pair(self) -> tuple[str, str | None]:
        """Key and value of the tag; None for any value."""
        key, equals, value = self.tag.partition("=")
        return key.strip(), value.strip() if equals else None

    @property
    def is_empty(self) -> bool:
        """Whether it says nothing at all."""
        return not (self.words or self.tag or self.owner or self.certification)

    def takes(self, kind: str) -> bool:
        """Whether objects of a kind are looked for."""
        return not self.kinds or kind in self.kinds


@dataclass(frozen=True, kw_only=True)
class Found:
    """An object that was found."""

    kind: str
    full_name: str
    id: str
    """Of those that go by their id: experiments, saved queries."""
    owner: str
    comment: str
    updated_at: datetime | None
    tags: Mapping[str, str] = field(default_factory=dict)
    columns: tuple[str, ...] = ()
    """Those of a table for which it was found."""
    certification: str = ""
    score: int

    @property
    def rank(self) -> tuple[int, int, str, str]:
        """Sorts the best first; among equals the shortest name."""
        return -self.score, len(self.full_name), self.full_name, self.kind


def score(wanted: Wanted, name: str, *, tags: Mapping[str, str], comment: str, owner: str) -> int | None:
    """How well an object fits that is not the catalog's; None when it does not."""
    key, value = wanted.tag_pair
    if key and (key not in tags or value not in {None, tags[key]}):
        return None
    if wanted.certification or (wanted.owner and wanted.owner.lower() != owner.lower()):
        return None
    held = " ".join(f"{key}={value}" for key, value in tags.items()).lower()
    found = [_worth(word, name.lower(), held, comment.lower(), owner.lower()) for word in wanted.words]
    return sum(found) if all(found) else None


def _worth(word: str, name: str, tags: str, comment: str, owner: str) -> int:
    places = {
        "name is": name == word,
        "name begins": name.startswith(word),
        "name holds": word in name,
        "tags hold": word in tags,
        "comment holds": word in comment,
        "owner holds": word in owner,
    }
    return max((SCORES[place] for place, stands in places.items() if stands), default=0)


def matching_columns(words: Sequence[str], columns: Sequence[tuple[str, str]]) -> tuple[str, ...]:
    """Names of the columns (name and comment) that hold one of the words, at most twenty."""
    found = (name for name, comment in columns if any(word in f"{name} {comment}".lower() for word in words))
    return tuple(name for name, _ in zip(found, range(20), strict=False))
