"""Tags: keys with values on objects of the catalog and on columns, and the policies that govern some of the keys.

Source: Databricks, "Apply tags to Unity Catalog securable objects", constraints; "Governed tags".
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from millpond.catalog.names import check_text
from millpond.identity.access import Securable
from millpond.kernel.errors import InvalidArgument

MAX_TAGS = 50
"""On one object or column."""
MAX_KEY_LENGTH = 255
MAX_VALUE_LENGTH = 1000
MAX_POLICIES = 1000
MAX_POLICY_VALUES = 500

CERTIFICATION = "system.certification_status"
"""The system tag that says whether an object is `certified` or `deprecated`."""
CERTIFIED = "certified"
DEPRECATED = "deprecated"

_NOT_IN_KEYS = frozenset(".,-=/:")
_NOT_IN_GOVERNED_KEYS = frozenset("*./<>%&?\\=")


@dataclass(frozen=True, kw_only=True)
class Tag:
    """One tag of an object or column. A tag without a value has the empty one."""

    key: str
    value: str
    updated_at: datetime
    updated_by: str


@dataclass(frozen=True, kw_only=True)
class TableTags:
    """The tags of a table and its columns, and what its schema and catalog pass on to it (not to its columns)."""

    own: Mapping[str, str] = field(default_factory=dict)
    inherited: Mapping[str, str] = field(default_factory=dict)
    columns: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """By the name in lower case. Columns that only earlier versions of the table have are among them."""


@dataclass(frozen=True, kw_only=True)
class TagPolicy:
    """What makes a key a governed one: the values that it may have, and who may assign it."""

    id: str
    key: str
    description: str
    values: tuple[str, ...]
    """None: the tag has no value."""
    created_at: datetime
    updated_at: datetime

    @property
    def is_system(self) -> bool:
        """Whether it came with the server, and stays as it is."""
        return self.key.startswith("system.")

    @property
    def securable(self) -> Securable:
        """This policy under permission. Everybody may read it; ASSIGN lets one set the tag."""
        return Securable(kind="tag policy", name=self.key, owners=(), ids=(f"tag policy {self.id}",), public=True)


def check_tag(key: str, value: str, policy: TagPolicy | None) -> None:
    """Raise InvalidArgument for a key or value that a tag cannot have; `policy` is the one that governs the key."""
    if policy is None:
        _check_key(key, _NOT_IN_KEYS)
    check_text(value, f"The value of tag '{key}'")
    if len(value) > MAX_VALUE_LENGTH or value != value.strip():
        raise InvalidArgument(
            f"The value of tag '{key}' has {len(value)} characters; at most {MAX_VALUE_LENGTH}, without spaces around."
        )
    if policy is not None and value not in (policy.values or ("",)):
        allowed = ", ".join(f"'{each}'" for each in policy.values) or "no value"
        raise InvalidArgument(f"Tag '{key}' is governed and takes {allowed}, not '{value[:80]}'.")


def check_policy(key: str, description: str, values: tuple[str, ...]) -> None:
    """Raise InvalidArgument for what a policy cannot be."""
    _check_key(key, _NOT_IN_GOVERNED_KEYS)
    check_text(description, "The description")
    if len(values) > MAX_POLICY_VALUES or len(set(values)) != len(values):
        raise InvalidArgument(f"Tag policy '{key}' has at most {MAX_POLICY_VALUES} values, each once.")
    for value in values:
        if not value or len(value) > MAX_VALUE_LENGTH or value != value.strip():
            raise InvalidArgument(f"A value of tag policy '{key}' has 1 to {MAX_VALUE_LENGTH} characters, trimmed.")
        check_text(value, f"A value of tag policy '{key}'")


def _check_key(key: str, refused: frozenset[str]) -> None:
    check_text(key, "The tag key")
    if not 0 < len(key) <= MAX_KEY_LENGTH or key != key.strip():
        raise InvalidArgument(f"A tag key has 1 to {MAX_KEY_LENGTH} characters, without spaces around it.")
    bad = next((each for each in key if each in refused or ord(each) < 0x20), None)
    if bad is not None:
        raise InvalidArgument(f"The tag key '{key[:80]}' holds {bad!r}; keys cannot hold {' '.join(sorted(refused))}.")
