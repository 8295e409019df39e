"""The tables. One id sequence and one name space for users, service principals and groups, because SCIM members and
owners of objects name any of them without saying which."""

from sqlalchemy import BigInteger, Boolean, Column, ForeignKey, LargeBinary, String, Table, Text

from millpond.kernel.database import BigId, Json, UtcDateTime, metadata

principals = Table(
    "identity_principals",
    metadata,
    Column("id", BigId, primary_key=True, autoincrement=True),
    Column("kind", String(20), nullable=False),
    Column("name", String(255), nullable=False),
    Column("name_key", String(255), nullable=False, unique=True),
    Column("display_name", String(255), nullable=False),
    Column("display_key", Text, nullable=False),
    Column("active", Boolean, nullable=False),
    Column("external_id", String(255)),
    Column("password_hash", String(255)),
    Column("profile", Json, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    sqlite_autoincrement=True,  # an id is never used twice: a signed token of a deleted user must not become another's
)

memberships = Table(
    "identity_memberships",
    metadata,
    Column("group_id", BigId, ForeignKey("identity_principals.id", ondelete="CASCADE"), primary_key=True),
    Column("member_id", BigId, ForeignKey("identity_principals.id", ondelete="CASCADE"), primary_key=True, index=True),
)

tokens = Table(
    "identity_tokens",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("principal_id", BigId, ForeignKey("identity_principals.id", ondelete="CASCADE"), nullable=False, index=True),
    # a session opened with a token ends with it
    Column("parent_id", String(36), ForeignKey("identity_tokens.id", ondelete="CASCADE"), index=True),
    Column("created_by", String(255), nullable=False),
    Column("secret_hash", LargeBinary(32), nullable=False, unique=True),
    Column("kind", String(20), nullable=False),  # personal | session | client_secret | lent
    Column("comment", String(1000), nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("expires_at", UtcDateTime),
)

logins = Table(
    "identity_logins",
    metadata,
    Column("issuer", String(500), primary_key=True),
    Column("subject", String(255), primary_key=True),
    Column("principal_id", BigId, ForeignKey("identity_principals.id", ondelete="CASCADE"), nullable=False, index=True),
)

workspace = Table("identity_workspace", metadata, Column("workspace_id", BigInteger, primary_key=True))


def row_id(principal_id: str) -> int | None:
    """The number of an id as the outside writes it; None when it cannot be one."""
    valid = principal_id.isascii() and principal_id.isdecimal() and len(principal_id) <= 18
    return int(principal_id) if valid else None
