"""Execution of commands: `execute(command, context)` is the whole entry point; one file per noun.

Each command checks rights next to its act, works on the Delta log first and lets the catalog follow, and answers with
the columns that Spark users know. Nothing here knows gRPC; the gateway calls `execute` in a thread.
"""

from collections.abc import Callable
from typing import Any

import pyarrow as pa

from millpond.engine.commands import (
    across,
    alter,
    containers,
    create,
    describe,
    functions,
    governed_tags,
    grants,
    maintain,
    policies,
    session,
    show,
    tables,
    tags,
)
from millpond.engine.commands.context import CommandContext, SessionState, reconcile_columns
from millpond.engine.syntax import governed_tags as governed_tag_model
from millpond.engine.syntax import model
from millpond.engine.syntax import policies as policy_model

__all__ = ["CommandContext", "SessionState", "execute", "reconcile_columns"]


def execute(command: model.Command, context: CommandContext) -> pa.Table:
    """Carry out a command and return its result, without columns if it has none.

    Raises: `SparkError` with Spark's error class; kernel errors from the catalog (PermissionDenied, InvalidArgument).
    """
    if isinstance(command, model.Drop):
        relation = command.kind in ("TABLE", "VIEW")
        return tables.drop(command, context) if relation else containers.drop(command, context)
    if isinstance(command, model.CommentOn):
        return _COMMENTS.get(command.kind, containers.comment_on)(command, context)
    return _HANDLERS[type(command)](command, context)


_COMMENTS: dict[str, Callable[[model.CommentOn, CommandContext], pa.Table]] = {
    "TABLE": alter.comment_on_table,
    "VIEW": alter.comment_on_table,
    "COLUMN": alter.comment_on_column,
}
_HANDLERS: dict[type[model.Command], Callable[[Any, CommandContext], pa.Table]] = {
    model.AlterObject: containers.alter,
    model.AlterTable: alter.alter_table,
    model.CloneTable: create.clone_table,
    model.ConvertToDelta: create.convert_to_delta,
    model.CreateCatalog: containers.create_catalog,
    model.CreateSchema: containers.create_schema,
    model.CreateTable: create.create_table,
    model.CreateVolume: containers.create_volume,
    model.DescribeDetail: describe.detail,
    model.DescribeFunction: functions.describe_function,
    model.DescribeHistory: describe.history,
    model.DescribeObject: describe.describe_object,
    model.DescribeTable: describe.describe_table,
    model.Grant: grants.change,
    model.Optimize: maintain.optimize,
    model.RestoreTable: maintain.restore,
    model.SetTags: tags.set_tags,
    model.Show: show.show,
    model.ShowAcross: across.show_across,
    model.ShowColumns: show.show_columns,
    model.ShowCreateTable: show.show_create_table,
    model.ShowCurrentSchema: session.show_current_schema,
    model.ShowDropped: tables.show_dropped,
    model.ShowGrants: grants.show,
    model.ShowPartitions: show.show_partitions,
    model.ShowTableProperties: show.show_properties,
    model.TruncateTable: maintain.truncate,
    model.UndropTable: tables.undrop,
    model.UnsetTags: tags.unset_tags,
    model.Use: session.use,
    model.UseCatalog: session.use_catalog,
    model.UseSchema: session.use_schema,
    model.Vacuum: maintain.vacuum,
    governed_tag_model.AlterGovernedTag: governed_tags.alter,
    governed_tag_model.CreateGovernedTag: governed_tags.create,
    governed_tag_model.DescribeGovernedTag: governed_tags.describe,
    governed_tag_model.DropGovernedTag: governed_tags.drop,
    governed_tag_model.ShowGovernedTags: governed_tags.show,
    policy_model.CreatePolicy: policies.create,
    policy_model.DescribePolicy: policies.describe,
    policy_model.DropPolicy: policies.drop,
    policy_model.ShowPolicies: policies.show,
}
