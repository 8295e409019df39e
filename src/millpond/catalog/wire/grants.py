"""The JSON of Unity Catalog's grants, and of our explanations of access."""

from typing import Any

from pydantic import BaseModel, ConfigDict

from millpond.identity.access import Securable
from millpond.identity.domain import USERS
from millpond.identity.grants import ACCOUNT_USERS, Assignment, Change, Explanation, Granted, Lack, Reason
from millpond.identity.privileges import Privilege, privilege_named

_TYPES = {"model": "FUNCTION"}
"""What the Databricks API calls a kind, where it is not the kind's name: it has models as functions."""


class PermissionsChange(BaseModel):
    """What one principal gets and loses."""

    model_config = ConfigDict(extra="ignore")
    principal: str
    add: list[str] | None = None
    remove: list[str] | None = None

    @property
    def change(self) -> Change:
        """The change. Raises InvalidArgument for a privilege that there is not."""
        add, remove = (frozenset(map(privilege_named, names or ())) for names in (self.add, self.remove))
        return Change(grantee=self.principal, add=add, remove=remove)


class UpdatePermissions(BaseModel):
    """PATCH /permissions/{securable_type}/{full_name}."""

    changes: list[PermissionsChange] = []


def assignment_json(assignment: Assignment, *, blanks: bool) -> dict[str, Any]:
    """PrivilegeAssignment."""
    privileges = [_name(granted.privilege, blanks=blanks) for granted in assignment.granted]
    return {"principal": principal_name(assignment.grantee), "privileges": privileges}


def effective_json(assignment: Assignment, kind: str) -> dict[str, Any]:
    """EffectivePrivilegeAssignment for a securable of a kind."""
    privileges = [_effective(granted, kind) for granted in assignment.granted]
    return {"principal": principal_name(assignment.grantee), "privileges": privileges}


def principal_name(name: str) -> str:
    """A grantee as Unity Catalog names it."""
    return ACCOUNT_USERS if name == USERS else name


def explanation_json(told: Explanation) -> dict[str, Any]:
    """Whether, by what, and what is missing."""
    return {
        "principal": told.principal,
        "privilege": told.privilege.value,
        **_place(told.securable),
        "allowed": told.allowed,
        "reasons": [_reason(reason) for reason in told.reasons],
        "missing": [_lack(lack) for lack in told.lacks],
    }


def _name(privilege: Privilege, *, blanks: bool) -> str:
    return privilege.words if blanks else privilege.value


def _effective(granted: Granted, kind: str) -> dict[str, Any]:
    shown: dict[str, Any] = {"privilege": granted.privilege.value}
    if granted.on.kind == kind:
        return shown
    inherited = _TYPES.get(granted.on.kind, granted.on.kind.upper())
    return shown | {"inherited_from_type": inherited, "inherited_from_name": granted.on.name}


def _reason(reason: Reason) -> dict[str, Any]:
    shown = {"by": reason.by, "principal": principal_name(reason.grantee), **_place(reason.on)}
    return shown | ({"privilege": reason.privilege.value} if reason.privilege else {})


def _lack(lack: Lack) -> dict[str, Any]:
    return {"privilege": lack.privilege.value, "grantable_on": [_place(place) for place in lack.on]}


def _place(securable: Securable) -> dict[str, str]:
    return {"securable_type": securable.kind, "name": securable.name}
