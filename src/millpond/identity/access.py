"""The one place of permission rules. Every service calls `require` next to each act.

An administrator may do all; the owner of an object, or of one of its containers, may do all to it (a group that owns
it stands for its members); everybody signed in may see what is public to the workspace; others may do what a privilege
lets them that was granted on the object or one of its containers, to them, one of their groups or everybody. Which
privilege lets do what is data, in `privileges.py`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from millpond.identity import acts
from millpond.identity.domain import SYSTEM, Principal
from millpond.identity.privileges import CONTENT_ACTS, Act, Privilege, levels, ways, ways_to_exercise
from millpond.kernel.errors import NotFound, PermissionDenied

__all__ = [
    "METASTORE",
    "WORKSPACE",
    "Act",
    "Securable",
    "admits",
    "allows",
    "chosen_runner",
    "exercises",
    "is_owner",
    "is_public",
    "missing",
    "require",
    "require_admin",
]


@dataclass(frozen=True, kw_only=True)
class Securable:
    """An object under permission: its kind and name for messages, and who owns it and its containers."""

    kind: str
    """As users call it: catalog, schema, table, volume, function, model, experiment, endpoint."""
    name: str
    owners: tuple[str, ...]
    """Names of the owners: its own first, then those of its containers outward."""
    ids: tuple[str, ...] = ()
    """Under which it and its containers have grants, its own first; none for what cannot have grants of its own.

    An id is unique among all kinds: where it is a name or number, the kind stands before it."""
    public: bool = False
    """Seen and read by everybody signed in (the default experiment)."""
    open_to_all: bool = False
    """Everybody signed in may also create in it (the workspace itself, the default experiment)."""
    kept_by_server: bool = False
    """Its contents are the server's own to write (the catalog `system`): nobody else may, no administrator either."""


def is_owner(principal: Principal, securable: Securable) -> bool:
    """Whether the principal or one of its groups owns the object or one of its containers."""
    return principal.name in securable.owners or not principal.groups.isdisjoint(securable.owners)


def allows(principal: Principal, act: Act, securable: Securable) -> bool:
    """Whether the principal may do this; for lists and questions. What is then done asks `require` or `admits`."""
    if securable.kept_by_server and act in CONTENT_ACTS:
        return principal.id == SYSTEM.id
    if principal.is_admin or is_owner(principal, securable):
        return True
    if act in {Act.SEE, Act.READ, Act.USE} and (securable.public or securable.open_to_all):
        return True
    if act is Act.CREATE_IN and securable.open_to_all:
        return True
    held = principal.grants.on(securable.ids)
    return any(way <= held for way in ways(securable.kind, act))


def exercises(principal: Principal, privilege: Privilege, securable: Securable) -> bool:
    """Whether the principal has a privilege on an object, and all besides that makes it good for something."""
    if principal.is_admin or is_owner(principal, securable) or is_public(privilege, securable):
        return True
    held = principal.grants.on(securable.ids)
    return any(way <= held for way in ways_to_exercise(securable.kind, privilege))


def is_public(privilege: Privilege, securable: Securable) -> bool:
    """Whether everybody has a permission level on an object without a grant."""
    return securable.public and privilege in levels(securable.kind)[:1]


def missing(principal: Principal, act: Act, securable: Securable) -> frozenset[Privilege]:
    """The fewest privileges that the principal lacks to do this; none where no privilege lets anybody do it."""
    held = principal.grants.on(securable.ids)
    return min((way - held for way in ways(securable.kind, act)), key=len, default=frozenset())


def admits(principal: Principal, act: Act, securable: Securable) -> bool:
    """Whether the principal may do this, which is about to be done, or refused: the audit is told."""
    if allows(principal, act, securable):
        acts.reached(act.value, securable.kind, securable.name)
        return True
    acts.denied(principal, act.value, securable.kind, securable.name)
    return False


def require(principal: Principal, act: Act, securable: Securable) -> None:
    """Pass, or raise: NotFound for what the principal may not even see, else PermissionDenied."""
    if admits(principal, act, securable):
        return
    if securable is not METASTORE and not allows(principal, Act.SEE, securable):
        raise NotFound(f"{securable.kind.capitalize()} '{securable.name}' does not exist.")
    if securable.kept_by_server:
        raise PermissionDenied(f"{securable.kind.capitalize()} '{securable.name}' is kept by the server; only read it.")
    lacks = " and ".join(sorted(privilege.words for privilege in missing(principal, act, securable)))
    needs = f" without {lacks}" if lacks else ""
    raise PermissionDenied(
        f"{principal.name} may not {act.value} {securable.kind} '{securable.name}'{needs}; ask its owner or an "
        "administrator."
    )


WORKSPACE = Securable(kind="workspace", name="workspace", owners=(), open_to_all=True)
"""Where experiments, workspace models and endpoints are made."""

METASTORE = Securable(kind="metastore", name="metastore", owners=(), ids=("metastore",))
"""Where catalogs are made. Everybody signed in knows that it is there."""


def require_admin(principal: Principal, what: str) -> None:
    """Pass for an administrator, else raise PermissionDenied naming what was asked."""
    if not principal.is_admin:
        acts.denied(principal, what, "workspace", "workspace")
        raise PermissionDenied(f"Only an administrator may {what}; you are signed in as {principal.name}.")


def chosen_runner(
    principal: Principal, run_as: Mapping[str, str] | None, unless: str, *, what: str,
    named: Callable[[str], Principal],
) -> str:  # fmt: skip
    """The name of whom `what` of a principal runs as, by a `run_as` as the APIs of jobs and pipelines write it.

    Somebody else than oneself and who it is already (`unless`), only an administrator may choose. Raises
    PermissionDenied, and what `named` raises for who is not there.
    """
    asked = run_as or {}
    name = asked.get("service_principal_name") or asked.get("user_name") or unless
    if name not in (principal.name, unless):
        if not principal.is_admin:
            acts.denied(principal, "run as", "user", name)
            raise PermissionDenied(f"Only an administrator may let a {what} run as {name[:80]}.")
        named(name)
    return name
