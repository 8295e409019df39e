"""SET TAG, UNSET TAG, and the tags in ALTER."""

import pyarrow as pa

from millpond.engine.commands.answer import nothing
from millpond.engine.commands.containers import known
from millpond.engine.commands.context import CommandContext, find_table
from millpond.engine.commands.grants import full_name
from millpond.engine.errors import column_not_found
from millpond.engine.syntax.model import Name, SetTags, UnsetTags


def set_tags(command: SetTags, context: CommandContext) -> pa.Table:
    name = _full_name(context, command.kind, command.name)
    with known(command.kind, command.name):
        context.catalog.set_tags(context.principal, command.kind.lower(), name, command.tags)
    return nothing()


def unset_tags(command: UnsetTags, context: CommandContext) -> pa.Table:
    name = _full_name(context, command.kind, command.name)
    with known(command.kind, command.name):
        context.catalog.unset_tags(context.principal, command.kind.lower(), name, command.keys, if_exist=True)
    return nothing()


def _full_name(context: CommandContext, kind: str, name: Name) -> str:
    if kind != "COLUMN":
        return full_name(context, kind, name)
    table = find_table(context, name[:-1])
    columns = tuple(column.name for column in table.columns)
    if name[-1].lower() not in {column.lower() for column in columns}:
        raise column_not_found(name[-1], columns)
    return f"{table.name}.{name[-1]}"
