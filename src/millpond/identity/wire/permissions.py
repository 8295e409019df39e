"""The JSON of the workspace permissions API, `/api/2.0/permissions`."""

from typing import Any

from pydantic import BaseModel, ConfigDict

from millpond.identity.domain import PrincipalKind
from millpond.identity.grants import Change
from millpond.identity.permissions import Entry, Permissions
from millpond.identity.privileges import Privilege, privilege_named
from millpond.kernel.errors import InvalidArgument

_NAMES = {
    PrincipalKind.USER: "user_name",
    PrincipalKind.GROUP: "group_name",
    PrincipalKind.SERVICE_PRINCIPAL: "service_principal_name",
}
_DESCRIPTIONS = {
    Privilege.CAN_VIEW: "Can view",
    Privilege.CAN_READ: "Can read",
    Privilege.CAN_QUERY: "Can query",
    Privilege.CAN_USE: "Can use it",
    Privilege.CAN_RUN: "Can view and run",
    Privilege.CAN_ATTACH_TO: "Can run code on it",
    Privilege.CAN_RESTART: "Can run code on it, start and end it",
    Privilege.CAN_MONITOR: "Can run statements and see those of others",
    Privilege.CAN_MANAGE_RUN: "Can view, run, cancel and repair",
    Privilege.CAN_EDIT: "Can read and change what is in it",
    Privilege.CAN_MANAGE_STAGING_VERSIONS: "Can edit, and move versions between stages other than production",
    Privilege.CAN_MANAGE_PRODUCTION_VERSIONS: "Can edit, and move versions between all stages",
    Privilege.CAN_MANAGE: "Can do everything, change permissions and delete",
    Privilege.IS_OWNER: "Owns it",
}


class AccessControl(BaseModel):
    """AccessControlRequest: one of the names, and the level."""

    model_config = ConfigDict(extra="ignore")
    user_name: str | None = None
    group_name: str | None = None
    service_principal_name: str | None = None
    permission_level: str | None = None

    @property
    def change(self) -> Change:
        """The wish. Raises InvalidArgument unless one principal and a level are named."""
        named = [(kind, name) for kind, field in _NAMES.items() if (name := getattr(self, field))]
        if len(named) != 1 or not self.permission_level:
            raise InvalidArgument(
                "Each entry of access_control_list names one of user_name, group_name or service_principal_name, and a "
                "permission_level."
            )
        kind, name = named[0]
        return Change(grantee=name, kind=kind, add=frozenset({privilege_named(self.permission_level)}))


class PermissionsInput(BaseModel):
    """The body of PUT and PATCH."""

    access_control_list: list[AccessControl] = []


def permissions_json(found: Permissions) -> dict[str, Any]:
    """ObjectPermissions."""
    root = f"/{found.type.path}/"
    return {
        "object_id": root + found.object_id,
        "object_type": found.type.name,
        "access_control_list": [_entry(entry, root) for entry in found.entries],
    }


def levels_json(levels: tuple[Privilege, ...]) -> dict[str, Any]:
    """GetPermissionLevelsResponse."""
    return {
        "permission_levels": [
            {"permission_level": level.value, "description": _DESCRIPTIONS[level]} for level in levels
        ]
    }


def _entry(entry: Entry, root: str) -> dict[str, Any]:
    shown = [
        {"permission_level": level.value, "inherited": inherited}
        | ({"inherited_from_object": [root]} if inherited else {})
        for level, inherited in entry.levels
    ]
    return {_NAMES[entry.kind]: entry.grantee, "display_name": entry.display_name, "all_permissions": shown}
