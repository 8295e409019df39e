"""Names of catalog objects: what is allowed, and how they are written.

Source: Unity Catalog, "Names": at most 255 characters; no period, space, forward slash or control character; stored in
lower case. We also fold to Unicode's NFC, so that one name is not two.
"""

import unicodedata
from dataclasses import dataclass
from functools import lru_cache

from millpond.kernel.errors import InvalidArgument

MAX_NAME_LENGTH = 255
_FORBIDDEN = frozenset("./ ")
INFORMATION_SCHEMA = "information_schema"
RESERVED_SCHEMAS = frozenset({INFORMATION_SCHEMA})
RESERVED_CATALOGS = frozenset({"__databricks_internal", "spark_catalog", "hive_metastore", "samples"})


@dataclass(frozen=True)
class SchemaName:
    """A two-level name, checked and folded when made."""

    catalog: str
    schema: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "catalog", fold_name(self.catalog, "catalog"))
        object.__setattr__(self, "schema", fold_name(self.schema, "schema"))

    def __str__(self) -> str:
        return f"{self.catalog}.{self.schema}"

    @classmethod
    def parse(cls, text: str) -> "SchemaName":
        """The name written as `catalog.schema`, each part plain or in backticks."""
        return cls(*_exactly(2, split_name(text), text, "catalog.schema"))

    @classmethod
    def of_full_name(cls, text: str) -> "SchemaName":
        """The name of a REST path: parts as they are, without quoting."""
        return cls(*_exactly(2, text.split("."), text, "catalog.schema"))


@dataclass(frozen=True)
class ObjectName:
    """A three-level name of a table, volume, function or model, checked and folded when made."""

    catalog: str
    schema: str
    name: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "catalog", fold_name(self.catalog, "catalog"))
        object.__setattr__(self, "schema", fold_name(self.schema, "schema"))
        object.__setattr__(self, "name", fold_name(self.name, "object"))

    def __str__(self) -> str:
        return f"{self.catalog}.{self.schema}.{self.name}"

    @property
    def schema_name(self) -> SchemaName:
        """The schema that holds the object."""
        return SchemaName(self.catalog, self.schema)

    @property
    def quoted(self) -> str:
        """The name as SQL that means it whatever characters it holds."""
        return ".".join(quote(part) for part in (self.catalog, self.schema, self.name))

    @classmethod
    def parse(cls, text: str) -> "ObjectName":
        """The name written as `catalog.schema.name`, each part plain or in backticks."""
        return cls(*_exactly(3, split_name(text), text, "catalog.schema.name"))

    @classmethod
    def of_full_name(cls, text: str) -> "ObjectName":
        """The name of a REST path: parts as they are, without quoting."""
        return cls(*_exactly(3, text.split("."), text, "catalog.schema.name"))


def fold_name(raw: str, kind: str) -> str:
    """One part of a name as it is stored.

    Raises InvalidArgument that says what is wrong with it.
    """
    if not isinstance(raw, str) or not raw:
        raise InvalidArgument(f"The {kind} name is empty; give one to {MAX_NAME_LENGTH} characters.")
    return _folded(raw, kind)


@lru_cache(maxsize=4096)
def _folded(raw: str, kind: str) -> str:
    check_text(raw, f"The {kind} name")
    name = unicodedata.normalize("NFC", unicodedata.normalize("NFC", raw).lower())
    if len(name) > MAX_NAME_LENGTH:
        raise InvalidArgument(f"The {kind} name '{name[:40]}…' has {len(name)} characters; at most {MAX_NAME_LENGTH}.")
    bad = next((c for c in name if c in _FORBIDDEN or ord(c) < 0x20 or ord(c) == 0x7F), None)
    if bad is not None:
        raise InvalidArgument(
            f"The {kind} name {raw[:80]!r} holds {bad!r}; periods, spaces, forward slashes and control characters "
            "are not allowed in names."
        )
    return name


def check_text(value: str, what: str) -> str:
    """The text, which both databases can store: no NUL and no half of a surrogate pair.

    Raises InvalidArgument.
    """
    if "\x00" in value or any(0xD800 <= ord(c) <= 0xDFFF for c in value):
        raise InvalidArgument(f"{what} holds a character that is not text (NUL, or half of a surrogate pair).")
    return value


def split_name(text: str) -> tuple[str, ...]:
    """The parts of a dotted name; a part in backticks may hold anything, with a backtick doubled.

    Raises InvalidArgument when a quote is not closed or something follows one.
    """
    parts: list[str] = []
    at = 0
    while True:
        part, at = _quoted_part(text, at) if text[at : at + 1] == "`" else _plain_part(text, at)
        parts.append(part)
        if at == len(text):
            return tuple(parts)
        if text[at] != ".":
            raise InvalidArgument(
                f"The name {text[:200]!r} has {text[at]!r} after a closing backtick; expected a period."
            )
        at += 1


def quote(part: str) -> str:
    """One part in backticks."""
    return "`" + part.replace("`", "``") + "`"


def text_literal(value: str) -> str:
    """A text in quotes, as SQL writes it."""
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _plain_part(text: str, at: int) -> tuple[str, int]:
    end = text.find(".", at)
    end = len(text) if end < 0 else end
    return text[at:end], end


def _quoted_part(text: str, at: int) -> tuple[str, int]:
    out: list[str] = []
    at += 1
    while True:
        end = text.find("`", at)
        if end < 0:
            raise InvalidArgument(f"The name {text[:200]!r} has a backtick that is not closed.")
        out.append(text[at:end])
        if text[end + 1 : end + 2] != "`":
            return "".join(out), end + 1
        out.append("`")
        at = end + 2


def _exactly(count: int, parts: tuple[str, ...] | list[str], text: str, form: str) -> tuple[str, ...]:
    if len(parts) != count:
        raise InvalidArgument(f"The name {text[:200]!r} has {len(parts)} part(s); it must be {form}.")
    return tuple(parts)
