"""CREATE, ALTER, DROP, DESCRIBE and SHOW of governed tags: the tag policies of the REST API."""

import json

import pyarrow as pa

from millpond.catalog.tags import TagPolicy
from millpond.engine.commands.answer import nothing, texts
from millpond.engine.commands.context import CommandContext
from millpond.engine.commands.show import every, like
from millpond.engine.syntax.governed_tags import (
    AlterGovernedTag,
    CreateGovernedTag,
    DescribeGovernedTag,
    DropGovernedTag,
    ShowGovernedTags,
)
from millpond.kernel.clock import rfc3339
from millpond.kernel.paging import MAX_PAGE_SIZE

_COLUMNS = ("Tag Key", "Id", "Description", "Values", "Create Time", "Update Time")


def create(command: CreateGovernedTag, context: CommandContext) -> pa.Table:
    context.catalog.create_tag_policy(
        context.principal, command.key, description=command.description, values=command.values
    )
    return nothing()


def alter(command: AlterGovernedTag, context: CommandContext) -> pa.Table:
    context.catalog.update_tag_policy(
        context.principal, command.key, description=command.description, values=command.values
    )
    return nothing()


def drop(command: DropGovernedTag, context: CommandContext) -> pa.Table:
    context.catalog.delete_tag_policy(context.principal, command.key)
    return nothing()


def describe(command: DescribeGovernedTag, context: CommandContext) -> pa.Table:
    found = _row(context.catalog.get_tag_policy(context.principal, command.key))
    if command.as_json:
        names = (name.lower().replace(" ", "_") for name in _COLUMNS)
        return texts(["json_metadata"], [(json.dumps(dict(zip(names, found, strict=True))),)])
    return texts(["info_name", "info_value"], [pair for pair in zip(_COLUMNS, found, strict=True) if pair[1]])


def show(command: ShowGovernedTags, context: CommandContext) -> pa.Table:
    found = every(
        lambda token: context.catalog.list_tag_policies(context.principal, max_results=MAX_PAGE_SIZE, page_token=token)
    )
    return texts(_COLUMNS, [_row(policy) for policy in found if like(command.pattern, policy.key)])


def _row(policy: TagPolicy) -> tuple[str | None, ...]:
    times = (None, None) if policy.is_system else (rfc3339(policy.created_at), rfc3339(policy.updated_at))
    return policy.key, policy.id, policy.description or None, ", ".join(policy.values) or None, *times
