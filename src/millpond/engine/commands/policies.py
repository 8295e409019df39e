"""CREATE, DROP, DESCRIBE and SHOW of policies."""

from collections.abc import Sequence

import pyarrow as pa

from millpond.catalog.policies import MatchColumn, Policy, PolicyArgument, PolicyType, Terms
from millpond.engine.commands import guards
from millpond.engine.commands.answer import nothing, texts
from millpond.engine.commands.containers import known
from millpond.engine.commands.context import CommandContext
from millpond.engine.commands.describe import java_date
from millpond.engine.commands.grants import full_name
from millpond.engine.errors import AnalysisError
from millpond.engine.syntax.policies import CreatePolicy, DescribePolicy, DropPolicy, On, ShowPolicies
from millpond.identity.grants import unity_name
from millpond.kernel.errors import AlreadyExists

_COLUMNS = ("Policy Name", "Policy Type", "Catalog", "Schema", "Table", "Comment")


def create(command: CreatePolicy, context: CommandContext) -> pa.Table:
    on = command.on
    function = guards.usable_function(context, command.function)
    terms = Terms(
        name=command.policy,
        type=PolicyType.COLUMN_MASK if command.masks else PolicyType.ROW_FILTER,
        function=function.name,
        to=command.to,
        exempt=command.exempt,
        comment=command.comment,
        when=command.when,
        columns=tuple(MatchColumn(condition=condition, alias=alias) for condition, alias in command.columns),
        on_column=command.on_column,
        using=tuple(PolicyArgument(alias=alias, constant=constant) for alias, constant in command.using),
    )
    try:
        with known(on.kind, on.name):
            context.catalog.create_policy(
                context.principal,
                on.kind.lower(),
                full_name(context, on.kind, on.name),
                terms,
                or_replace=command.or_replace,
            )
    except AlreadyExists as error:
        raise AnalysisError("POLICY_ALREADY_EXISTS", error.message, sql_state="42710") from error
    return nothing()


def drop(command: DropPolicy, context: CommandContext) -> pa.Table:
    found = _find(context, command.on, command.policy)
    if found is not None:
        context.catalog.delete_policy(context.principal, found.on.kind, found.on.name, found.terms.name)
    elif not command.if_exists:
        raise _not_found(command.on, command.policy)
    return nothing()


def show(command: ShowPolicies, context: CommandContext) -> pa.Table:
    return texts(_COLUMNS, [_row(each) for each in _listed(context, command.on, inherited=command.effective)])


def describe(command: DescribePolicy, context: CommandContext) -> pa.Table:
    """What is set, as pairs; the parts of what it does stand below its type."""
    found = _find(context, command.on, command.policy)
    if found is None:
        raise _not_found(command.on, command.policy)
    return texts(["info_name", "info_value"], [pair for pair in _pairs(found) if pair[1]])


def _listed(context: CommandContext, on: On, *, inherited: bool = False) -> Sequence[Policy]:
    with known(on.kind, on.name):
        name = full_name(context, on.kind, on.name)
        return context.catalog.list_policies(context.principal, on.kind.lower(), name, inherited=inherited)


def _find(context: CommandContext, on: On, name: str) -> Policy | None:
    return next((each for each in _listed(context, on) if each.terms.name == name.lower()), None)


def _not_found(on: On, name: str) -> AnalysisError:
    return AnalysisError(
        "POLICY_NOT_FOUND", f"The policy {name} on {on.kind} {'.'.join(on.name)} does not exist.", sql_state="42704"
    )


def _row(policy: Policy) -> tuple[str | None, ...]:
    catalog, schema, table = (*policy.on.name.split("."), None, None)[:3]
    return policy.terms.name, _type(policy), catalog, schema, table, policy.terms.comment


def _type(policy: Policy) -> str:
    return policy.terms.type.removeprefix("POLICY_TYPE_")


def _pairs(policy: Policy) -> list[tuple[str, str]]:
    terms = policy.terms
    matches = (f"{each.condition} AS {each.alias}" if each.alias else each.condition for each in terms.columns)
    return [
        ("Name", terms.name),
        ("On Securable Type", policy.on.kind.upper()),
        ("On Securable", policy.on.name),
        ("To Principals", ", ".join(map(unity_name, terms.to))),
        ("Except Principals", ", ".join(map(unity_name, terms.exempt))),
        ("For Securable Type", "TABLE"),
        ("When Condition", terms.when),
        ("Match Columns", ", ".join(matches)),
        ("Governed Tags", ", ".join(sorted(f"{key}:{value}" if value else key for key, value in terms.tags))),
        ("Policy Type", _type(policy)),
        ("  Function Name", str(terms.function)),
        ("  On Column", terms.on_column),
        ("  Using Columns", ", ".join(each.alias or each.constant or "" for each in terms.using)),
        ("Comment", terms.comment or ""),
        ("Created By", policy.created_by),
        ("Created At", java_date(policy.created_at)),
        ("Updated By", policy.updated_by),
        ("Updated At", java_date(policy.updated_at)),
    ]
