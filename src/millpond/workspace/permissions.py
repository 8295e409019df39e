"""Directories, notebooks and files as objects with permission levels."""

from functools import partial

from sqlalchemy import Connection

from millpond.identity.access import Securable
from millpond.identity.permissions import ObjectType as PermissionType
from millpond.kernel.errors import NotFound
from millpond.workspace import store
from millpond.workspace.domain import ObjectType, securable_of

_PATHS = {ObjectType.DIRECTORY: "directories", ObjectType.NOTEBOOK: "notebooks", ObjectType.FILE: "files"}


def permission_types() -> tuple[PermissionType, ...]:
    """The types of this room, by the ids of their objects."""
    return tuple(
        PermissionType(path=path, name=kind.kind, kind=kind.kind, find=partial(_find, kind))
        for kind, path in _PATHS.items()
    )


def _find(kind: ObjectType, connection: Connection, object_id: str) -> Securable:
    is_id = object_id.isascii() and object_id.isdecimal() and len(object_id) < 18
    chain = store.chain_to(connection, int(object_id)) if is_id else []
    if not chain or chain[-1].type is not kind:
        raise NotFound(f"{kind.kind.capitalize()} '{object_id[:40]}' does not exist.")
    return securable_of(chain)
