"""GRANT, REVOKE and SHOW GRANTS."""

import pyarrow as pa

from millpond.engine.commands.answer import nothing, texts
from millpond.engine.commands.containers import known
from millpond.engine.commands.context import CommandContext
from millpond.engine.syntax.model import Grant, Name, ShowGrants
from millpond.identity.grants import Change, unity_name
from millpond.identity.privileges import privilege_named

_COLUMNS = ["Principal", "ActionType", "ObjectType", "ObjectKey"]


def change(command: Grant, context: CommandContext) -> pa.Table:
    privileges = frozenset(map(privilege_named, command.privileges))
    granted, revoked = (frozenset(), privileges) if command.revoke else (privileges, frozenset())
    wish = Change(grantee=command.principal, add=granted, remove=revoked)
    kind, name = command.kind.lower(), full_name(context, command.kind, command.name)
    with known(command.kind, command.name):
        context.catalog.change_grants(context.principal, kind, name, [wish])
    return nothing()


def show(command: ShowGrants, context: CommandContext) -> pa.Table:
    """What was granted on the object and what it inherits, each with the object that it was granted on."""
    kind, name = command.kind.lower(), full_name(context, command.kind, command.name)
    with known(command.kind, command.name):
        found = context.catalog.grants_on(context.principal, kind, name, grantee=command.principal, inherited=True)
    rows = [
        (unity_name(each.grantee), granted.privilege.words,
         granted.on.kind.upper(), granted.on.name)
        for each in found
        for granted in each.granted
    ]  # fmt: skip
    return texts(_COLUMNS, rows)


def full_name(context: CommandContext, kind: str, name: Name) -> str:
    """The name of an object as services take it."""
    if kind in ("METASTORE", "CATALOG"):
        return name[0] if name else "metastore"
    return str(context.schema_name(name) if kind == "SCHEMA" else context.object_name(name))
