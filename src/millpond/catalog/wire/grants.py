"""The JSON of Unity Catalog's grants."""

from typing import Any

from pydantic import BaseModel, ConfigDict

from millpond.identity.grants import Assignment, Change, Granted, unity_name
from millpond.identity.privileges import Privilege, privilege_named


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
    return {"principal": unity_name(assignment.grantee), "privileges": privileges}


def effective_json(assignment: Assignment, kind: str) -> dict[str, Any]:
    """EffectivePrivilegeAssignment for a securable of a kind."""
    privileges = [_effective(granted, kind) for granted in assignment.granted]
    return {"principal": unity_name(assignment.grantee), "privileges": privileges}


def _name(privilege: Privilege, *, blanks: bool) -> str:
    return privilege.words if blanks else privilege.value


def _effective(granted: Granted, kind: str) -> dict[str, Any]:
    shown: dict[str, Any] = {"privilege": granted.privilege.value}
    if granted.on.kind == kind:
        return shown
    return shown | {"inherited_from_type": granted.on.kind.upper(), "inherited_from_name": granted.on.name}
