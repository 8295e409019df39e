"""The one place of permission rules. Every service calls `require` next to each act.

Today's rule is small: an administrator may do all; the owner of an object, or of one of its containers, may do all to
it (a group that owns it stands for its members); everybody signed in may see what is public to the workspace and make
top-level objects of their own.
"""

from dataclasses import dataclass
from enum import Enum

from millpond.identity import acts
from millpond.identity.domain import Principal
from millpond.kernel.errors import NotFound, PermissionDenied


class Act(Enum):
    """What somebody wants to do to an object."""

    SEE = "see"
    """Know that it exists and read its description."""
    READ = "read"
    """Read its contents: rows, files, metrics, a model's artifacts."""
    WRITE = "write"
    """Change its contents."""
    CREATE_IN = "create in"
    """Make an object inside it."""
    USE = "use"
    """Call it: query an endpoint, run a function."""
    MANAGE = "manage"
    """Change its definition, owner or rights, or delete it."""


@dataclass(frozen=True, kw_only=True)
class Securable:
    """An object under permission: its kind and name for messages, and who owns it and its containers."""

    kind: str
    """As users call it: catalog, schema, table, volume, function, model, experiment, endpoint."""
    name: str
    owners: tuple[str, ...]
    """Names of the owners: its own first, then those of its containers outward."""
    public: bool = False
    """Seen and read by everybody signed in (`main`, `system`, the default experiment)."""
    open_to_all: bool = False
    """Everybody signed in may also create in it (the workspace itself, the default experiment)."""


def allows(principal: Principal, act: Act, securable: Securable) -> bool:
    """Whether the principal may do this."""
    if principal.is_admin or principal.name in securable.owners or not principal.groups.isdisjoint(securable.owners):
        return True
    if act in {Act.SEE, Act.READ, Act.USE}:
        return securable.public or securable.open_to_all
    return act is Act.CREATE_IN and securable.open_to_all


def require(principal: Principal, act: Act, securable: Securable) -> None:
    """Pass, or raise: NotFound for what the principal may not even see, else PermissionDenied."""
    if allows(principal, act, securable):
        return
    acts.denied(principal, act.value, securable.kind, securable.name)
    if not allows(principal, Act.SEE, securable):
        raise NotFound(f"{securable.kind.capitalize()} '{securable.name}' does not exist.")
    raise PermissionDenied(
        f"{principal.name} may not {act.value} {securable.kind} '{securable.name}'; ask its owner or an administrator."
    )


WORKSPACE = Securable(kind="workspace", name="workspace", owners=(), open_to_all=True)
"""Where catalogs, experiments and endpoints are made."""


def require_admin(principal: Principal, what: str) -> None:
    """Pass for an administrator, else raise PermissionDenied naming what was asked."""
    if not principal.is_admin:
        acts.denied(principal, what, "workspace", "workspace")
        raise PermissionDenied(f"Only an administrator may {what}; you are signed in as {principal.name}.")
