"""Scopes, secrets and who may read them, and the rules for their names and sizes."""

import re
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum

from millpond.kernel.errors import InvalidArgument

MAX_SCOPES = 1000
MAX_SECRETS = 1000
MAX_VALUE_BYTES = 128 << 10
"""Limits of the Databricks secrets API: scopes of a workspace, secrets of a scope, bytes of a value."""
NAME_PATTERN = r"[A-Za-z0-9_.@-]{1,128}"
"""Names of scopes and keys. Source: the Databricks secrets API; they are compared without regard to case."""


class Permission(Enum):
    """What one may do in a scope; each includes the ones before it."""

    READ = "READ"
    WRITE = "WRITE"
    MANAGE = "MANAGE"

    def includes(self, other: "Permission") -> bool:
        """Whether who has this may do what needs the other."""
        order = tuple(Permission)
        return order.index(self) >= order.index(other)


@dataclass(frozen=True, kw_only=True)
class Scope:
    """A named set of secrets with one data key."""

    id: str
    name: str
    master_key_id: str
    """Names the master key that its data key is wrapped with."""
    wrapped_key: bytes = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class Secret:
    """A secret as the database keeps it."""

    key: str
    version: int
    """Counts the values that the key has had; bound into the encryption."""
    updated_at: datetime
    sealed: bytes = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class Acl:
    """What a user, service principal or group may do in a scope."""

    principal: str
    permission: Permission


def name_key(name: str) -> str:
    """The form in which names are compared; PostgreSQL takes no NUL, and no name has one."""
    return name.lower().replace("\0", " ")


def checked_name(name: str, what: str) -> str:
    """The name of a new scope or key. Raises InvalidArgument."""
    if not re.fullmatch(NAME_PATTERN, name):
        raise InvalidArgument(
            f"The {what} '{name[:80]}' is not valid: use 1 to 128 letters, digits, dashes, underscores, periods and @."
        )
    return name


def checked_value(value: bytes) -> bytes:
    """The value of a secret. Raises InvalidArgument when it is too large."""
    if len(value) > MAX_VALUE_BYTES:
        raise InvalidArgument(f"The secret has {len(value)} bytes; at most {MAX_VALUE_BYTES} are allowed.")
    return value
