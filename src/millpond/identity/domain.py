"""Principals, and what they are told apart by."""

from dataclasses import dataclass
from datetime import datetime
from enum import Enum


class PrincipalKind(Enum):
    """People sign in; service principals are programs."""

    USER = "user"
    SERVICE_PRINCIPAL = "service_principal"


@dataclass(frozen=True, kw_only=True)
class Principal:
    """Whoever is asking, as each service method's first argument."""

    id: str
    name: str
    """User name (an e-mail address, as a rule), or a service principal's application id."""
    kind: PrincipalKind
    is_admin: bool


@dataclass(frozen=True, kw_only=True)
class Account:
    """A principal with all that an administrator sees of it."""

    id: str
    name: str
    kind: PrincipalKind
    display_name: str
    is_admin: bool
    active: bool
    external_id: str | None
    created_at: datetime

    @property
    def principal(self) -> Principal:
        """This account as the one who asks."""
        return Principal(id=self.id, name=self.name, kind=self.kind, is_admin=self.is_admin)


@dataclass(frozen=True, kw_only=True)
class Token:
    """A personal access token without its secret."""

    id: str
    principal_id: str
    comment: str
    created_at: datetime
    expires_at: datetime | None


@dataclass(frozen=True, kw_only=True)
class IssuedToken:
    """A token just made; the only time that its secret is seen."""

    token: Token
    secret: str


SYSTEM = Principal(id="0", name="system", kind=PrincipalKind.SERVICE_PRINCIPAL, is_admin=True)
"""The server itself, for its own background work. It has no credential, so nobody can sign in as it."""
