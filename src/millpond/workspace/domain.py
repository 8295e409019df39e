"""Paths of the workspace, what is at them, and who may do what there."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from millpond.identity.access import Securable
from millpond.kernel.errors import InvalidArgument
from millpond.workspace.notebooks import Language

MOST_BYTES = 10 << 20
"""Of a notebook or file. Source: the limit of Databricks' import; what is larger belongs in a volume."""
MOST_IN_DIRECTORY = 10_000
_MOST_PATH_BYTES = 2000
"""What an index of PostgreSQL takes."""
_MOST_PARTS = 60
USERS, SHARED = "Users", "Shared"


class ObjectType(StrEnum):
    """What an object is, as the Workspace API calls it."""

    DIRECTORY = "DIRECTORY"
    NOTEBOOK = "NOTEBOOK"
    FILE = "FILE"

    @property
    def kind(self) -> str:
        """The kind of its securables."""
        return self.value.lower()


class Kept(StrEnum):
    """How the contents are kept."""

    RAW = "RAW"
    """A file's bytes; a directory has none."""
    SOURCE = "SOURCE"
    JUPYTER = "JUPYTER"


@dataclass(frozen=True, kw_only=True)
class Path:
    """A place in the tree; the root has no parts."""

    parts: tuple[str, ...]

    def __str__(self) -> str:
        return "/" + "/".join(self.parts)

    @property
    def name(self) -> str:
        """The last part; empty for the root."""
        return self.parts[-1] if self.parts else ""

    @property
    def parent(self) -> "Path":
        """The directory that it is in; the root's is the root."""
        return Path(parts=self.parts[:-1])

    @property
    def lineage(self) -> tuple["Path", ...]:
        """From the root to itself."""
        return tuple(Path(parts=self.parts[:end]) for end in range(len(self.parts) + 1))

    @property
    def home_of(self) -> str | None:
        """In whose home it lies, if in one."""
        return self.parts[1] if len(self.parts) > 1 and self.parts[0] == USERS else None

    @property
    def is_given(self) -> bool:
        """Whether it is there without being made: the root, `/Users` and `/Shared`."""
        return self in GIVEN

    def named(self, name: str) -> "Path":
        """Another object beside it."""
        return Path(parts=(*self.parts[:-1], name))


GIVEN = (Path(parts=()), Path(parts=(USERS,)), Path(parts=(SHARED,)))


def path_of(text: str) -> Path:
    """A path as users write it, with or without `/Workspace`. Raises InvalidArgument."""
    if not text.startswith("/"):
        raise InvalidArgument(
            f"'{text[:80]}' is no path in the workspace; it starts with '/', as /Users/NAME/notebook."
        )
    parts = tuple(part for part in text.split("/") if part)
    parts = parts[1:] if parts[:1] == ("Workspace",) else parts
    if any(part in (".", "..") or not part.isprintable() for part in parts):
        raise InvalidArgument(
            f"'{text[:80]!a}' is no path in the workspace: '.', '..' and control characters are none."
        )
    if len(parts) > _MOST_PARTS or len(text.encode()) > _MOST_PATH_BYTES:
        raise InvalidArgument(f"A path has at most {_MOST_PARTS} parts and {_MOST_PATH_BYTES} bytes.")
    return Path(parts=parts)


@dataclass(frozen=True, kw_only=True)
class Object:
    """What is at a path."""

    id: int
    path: Path
    type: ObjectType
    owner: str
    """Empty for what is the server's: the root, `/Users` and `/Shared`."""
    language: Language | None = None
    kept: Kept = Kept.RAW
    size_bytes: int = 0
    created_at: datetime
    modified_at: datetime

    @property
    def grant_id(self) -> str:
        """Under which it has grants."""
        return f"{self.type.kind}:{self.id}"


def securable_of(chain: Sequence[Object]) -> Securable:
    """The last of a chain of objects from the root, under permission. Whoever owns or holds something on a directory
    has it on all below; what is in `/Shared` is read and run by everybody, and changed by whom its maker lets."""
    found = chain[-1]
    inward = [each for each in reversed(chain) if each.owner]
    return Securable(
        kind=found.type.kind,
        name=str(found.path),
        owners=tuple(each.owner for each in inward),
        ids=tuple(each.grant_id for each in reversed(chain)),
        public=found.path.is_given or found.path.parts[0] == SHARED,
        open_to_all=found.path.parts == (SHARED,),
    )


def let_in_by(chain: Sequence[Object]) -> str:
    """Who says what is in the outermost directory of somebody that an object lies in: its owner lets others in. In
    `/Shared`, where everybody may create something, that is the maker of what lies there directly."""
    return next((each.owner for each in chain if each.owner), "")
