"""Principals, their groups and credentials, and the rules for their names."""

import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum

from millpond.identity.privileges import Privilege, implied
from millpond.kernel.errors import InvalidArgument

ADMINS = "admins"
"""The built-in group whose members, direct or through a group, are administrators."""
USERS = "users"
"""The built-in group of everybody; nobody can be added or removed."""
BUILT_IN_GROUPS = frozenset({ADMINS, USERS})

OPAQUE_PREFIX = "millpond-"
"""May stand before a short-lived token, which is then no JWT to clients that would exchange one of another issuer."""

WORKER = "millpond-worker"
"""Entitlement of accounts of workers, which run tasks of jobs on other machines."""
WORKER_PATHS = ("/api/millpond/worker",)
"""All that credentials of such an account are good for."""

_RESERVED_NAMES = frozenset({"system", "system user", ".", ".."})
"""`System user` owns what exists from the start: whoever had the name would own it too."""
_MAX_NAME = 255
_HIDDEN_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})  # control, invisible, surrogate, unassigned


class PrincipalKind(Enum):
    """People sign in; service principals are programs; groups only hold others and rights."""

    USER = "user"
    SERVICE_PRINCIPAL = "service_principal"
    GROUP = "group"

    @property
    def words(self) -> str:
        """The kind in a message."""
        return self.value.replace("_", " ")


class Grants:
    """All that a principal and its groups were granted, as it was at one moment. Immutable; equal only to itself."""

    __slots__ = ("_by_id", "_ids")

    def __init__(self, rows: Iterable[tuple[str, str, Privilege]] = ()) -> None:
        """`rows` are the kind and the id of a securable, and a privilege on it."""
        by_id: dict[str, frozenset[Privilege]] = {}
        ids: dict[tuple[str, Privilege], set[str]] = {}
        for kind, securable_id, privilege in rows:
            held = implied(kind, privilege)
            by_id[securable_id] = by_id.get(securable_id, _NOTHING) | held
            for each in held:
                ids.setdefault((kind, each), set()).add(securable_id)
        self._by_id = by_id
        self._ids = {key: tuple(sorted(found)) for key, found in ids.items()}

    @property
    def count(self) -> int:
        """On how many securables there are any."""
        return len(self._by_id)

    def on(self, ids: Iterable[str]) -> frozenset[Privilege]:
        """What is held on any of these securables: an object and its containers."""
        by_id = self._by_id
        return _NOTHING.union(*(by_id[each] for each in ids if each in by_id))

    def ids(self, kind: str, privilege: Privilege) -> tuple[str, ...]:
        """The ids of the securables of a kind on which a privilege is held directly, in order."""
        return self._ids.get((kind, privilege), ())


_NOTHING: frozenset[Privilege] = frozenset()
NO_GRANTS = Grants()


@dataclass(frozen=True, kw_only=True)
class Work:
    """What a credential was lent for: an attempt at a task of a job's run."""

    job_id: int | None
    """None for a run without a job."""
    run_id: int
    task_run_id: int


@dataclass(frozen=True, kw_only=True)
class Principal:
    """Whoever is asking, as each service method's first argument."""

    id: str
    name: str
    """User name (an e-mail address, as a rule), or a service principal's application id."""
    kind: PrincipalKind
    is_admin: bool
    groups: frozenset[str] = frozenset()
    """Names of all its groups, direct or through another group."""
    grants: Grants = field(default=NO_GRANTS, repr=False)
    """What it and its groups were granted, `users` among them; empty for administrators, who may do all."""
    epoch: int = field(default=0, compare=False)
    """Of all rights, when it was authenticated; another one after each change of rights, owners and guards."""
    paths: tuple[str, ...] | None = None
    """The URL paths that its credential is good for, with all below them; None is good for every path."""

    work: Work | None = field(default=None, compare=False)
    """What it works for, as its credential says, which nobody can make for themselves. Changes no right."""

    @property
    def is_worker(self) -> bool:
        """Whether it may take tasks, and do nothing else."""
        return self.paths == WORKER_PATHS

    def may_call(self, path: str) -> bool:
        """Whether its credential is good for a URL path."""
        if self.paths is None:
            return True
        above = any(path == root or path.startswith(root + "/") for root in self.paths)
        return above and ".." not in path.split("/")


@dataclass(frozen=True, kw_only=True)
class Profile:
    """What a directory records about a principal and Millpond only keeps."""

    given_name: str | None = None
    family_name: str | None = None
    emails: tuple[str, ...] = ()
    entitlements: tuple[str, ...] = ()
    roles: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Account:
    """A user, service principal or group, as the database has it."""

    id: str
    name: str
    kind: PrincipalKind
    display_name: str
    active: bool
    external_id: str | None
    profile: Profile
    created_at: datetime

    @property
    def is_built_in(self) -> bool:
        """Whether this is a group that always exists."""
        return self.kind is PrincipalKind.GROUP and self.name in BUILT_IN_GROUPS


@dataclass(frozen=True, kw_only=True)
class Related:
    """A member of a group, or a group of a member."""

    id: str
    name: str
    display_name: str
    kind: PrincipalKind


@dataclass(frozen=True, kw_only=True)
class Entry:
    """An account with its direct groups and, for a group, its direct members."""

    account: Account
    groups: tuple[Related, ...] = ()
    members: tuple[Related, ...] = ()
    reduced: bool = False
    """Only names and id may be shown: the asker is neither an administrator nor this account."""


@dataclass(frozen=True, kw_only=True)
class Draft:
    """What an account shall be; the ids are those of principals."""

    name: str
    display_name: str
    active: bool = True
    external_id: str | None = None
    profile: Profile = Profile()
    member_ids: frozenset[str] = frozenset()
    group_ids: frozenset[str] | None = None
    """The direct groups; None leaves them as they are."""
    password: str | None = None
    """A new password; None leaves the old one."""


@dataclass(frozen=True, kw_only=True)
class Token:
    """A credential without its secret."""

    id: str
    principal_id: str
    created_by: str
    """Name of whoever made it: its holder, or an administrator on behalf of a service principal."""
    comment: str
    created_at: datetime
    expires_at: datetime | None


@dataclass(frozen=True, kw_only=True)
class IssuedToken:
    """A credential just made; the only time that its secret is seen."""

    token: Token
    secret: str


SYSTEM = Principal(id="0", name="system", kind=PrincipalKind.SERVICE_PRINCIPAL, is_admin=True)
"""The server itself, for its own background work. It has no credential, so nobody can sign in as it."""


def name_key(name: str) -> str:
    """The form in which names are compared: without regard to case, width and composition of characters."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())


def checked_name(name: str, kind: PrincipalKind) -> str:
    """The name of a new principal.

    Raises InvalidArgument for one that is empty, too long, reserved, or looks like what it is not.
    """
    text = checked_text(name, f"name of a {kind.words}")
    if not text or text != text.strip() or len(name_key(text)) > _MAX_NAME:
        raise InvalidArgument(
            f"A {kind.words}'s name has 1 to {_MAX_NAME} characters and no space at its ends; this is {name[:80]!r}."
        )
    if name_key(text) in _RESERVED_NAMES:
        raise InvalidArgument(f"The name '{text}' is reserved; choose another.")
    if kind is not PrincipalKind.GROUP and ("/" in text or "\\" in text):
        raise InvalidArgument(f"The name '{text}' has a slash; it will name folders, so leave slashes out.")
    return text


def checked_text(value: str, what: str, limit: int = _MAX_NAME) -> str:
    """A text to store.

    Raises InvalidArgument when it is too long or has control, invisible or unassigned characters.
    """
    if len(value) > limit:
        raise InvalidArgument(f"The {what} has {len(value)} characters; at most {limit} are allowed.")
    if any(unicodedata.category(character) in _HIDDEN_CATEGORIES for character in value):
        raise InvalidArgument(f"The {what} has control or invisible characters; remove them.")
    return value
