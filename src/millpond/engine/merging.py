"""DataFrame.mergeInto as the MERGE statement that it stands for.

Sail carries out both, but only a statement's condition stands in the commit, where its author is noted; and a statement
can name a target that has only a place. So there is one way to merge.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from millpond.catalog.names import quote, split_name
from millpond.engine import proto
from millpond.engine.errors import AnalysisError, ExecutionError
from millpond.engine.expression_text import ExpressionText
from millpond.engine.splicing import plan_ids

_SOURCE = "__millpond_source"
_KEEPS_NAMES = frozenset({
    "filter", "limit", "offset", "sort", "deduplicate", "hint", "repartition", "repartition_by_expression", "sample",
    "tail", "project", "drop", "with_columns", "with_columns_renamed", "fill_na", "drop_na", "replace",
})  # fmt: skip
"""Relations whose columns may still be asked for by the name of what they come from."""


@dataclass(frozen=True, kw_only=True)
class Merge:
    """A MERGE statement."""

    relation: Any
    """The text, with the DataFrame as the relation that it reads."""
    text: str
    functions: Mapping[str, bytes]
    """Commands that register the user's functions in the text, by name."""


def merge_of(command: Any) -> Merge:
    """The statement for a merge_into_table_command whose expressions were checked."""
    actions = [(action.merge_action, kind) for field, kind in _KINDS.items() for action in getattr(command, field)]
    if not actions:
        raise ExecutionError(
            "NO_MERGE_ACTION_SPECIFIED",
            "df.mergeInto needs to be followed by at least one of whenMatched/whenNotMatched/whenNotMatchedBySource.",
            sql_state="42K0E",
        )
    target = split_name(command.target_table_name)
    source = command.source_table_plan
    alias = _name_of(source) or _SOURCE
    write = ExpressionText(alias=alias, plan_ids=_plan_ids(source))
    evolution = "WITH SCHEMA EVOLUTION " if command.with_schema_evolution else ""
    clauses = [f"WHEN {kind}{_and(action, write)} THEN {_act(action, kind, target, write)}" for action, kind in actions]
    text = (
        f"MERGE {evolution}INTO {'.'.join(map(quote, target))} USING {quote(_SOURCE)} AS {quote(alias)} "
        f"ON {write(command.merge_condition)} {' '.join(clauses)}"
    )
    return Merge(relation=reading(source, _SOURCE, text), text=text, functions=write.functions)


_KINDS = {
    "match_actions": "MATCHED",
    "not_matched_actions": "NOT MATCHED",
    "not_matched_by_source_actions": "NOT MATCHED BY SOURCE",
}


def reading(rows: Any, name: str, text: str) -> Any:
    """A SQL text that reads a relation under a name."""
    relation = proto.relations.Relation()
    relation.with_relations.root.sql.query = text
    relation.with_relations.root.common.plan_id = next(plan_ids)
    reference = relation.with_relations.references.add()
    reference.common.plan_id = next(plan_ids)
    reference.subquery_alias.alias = name
    reference.subquery_alias.input.CopyFrom(rows)
    return relation


def _and(action: Any, write: ExpressionText) -> str:
    return f" AND {write(action.condition)}" if action.HasField("condition") else ""


def _act(action: Any, kind: str, target: tuple[str, ...], write: ExpressionText) -> str:
    name = type(action).ActionType.Name(action.action_type).removeprefix("ACTION_TYPE_")
    wording = _ACTIONS.get((kind, name))
    assigned = [(_column(each.key, target), write(each.value)) for each in action.assignments]
    if wording is None or (name in {"UPDATE", "INSERT"} and not assigned):
        what = name.replace("_STAR", " *") + (" of no columns" if wording is not None else "")
        raise AnalysisError("INVALID_MERGE_ACTION", f"WHEN {kind} cannot be followed by {what}.", sql_state="42K0E")
    return wording(assigned)


def _column(key: Any, target: tuple[str, ...]) -> str:
    """The target's column that is assigned to, which may be qualified by the target's name."""
    is_text = key.WhichOneof("expr_type") == "expression_string"
    parts = split_name(key.expression_string.expression if is_text else key.unresolved_attribute.unparsed_identifier)
    lowered = [part.lower() for part in target]
    for length in range(len(parts) - 1, 0, -1):
        if [part.lower() for part in parts[:length]] == lowered[-length:]:
            parts = parts[length:]
            break
    return ".".join(map(quote, parts))


_Assigned = list[tuple[str, str]]


def _update(assigned: _Assigned) -> str:
    return "UPDATE SET " + ", ".join(f"{column} = {value}" for column, value in assigned)


def _insert(assigned: _Assigned) -> str:
    columns, values = (", ".join(each) for each in zip(*assigned, strict=True))
    return f"INSERT ({columns}) VALUES ({values})"  # noqa: S608 - it is the user's own statement


_ACTIONS: dict[tuple[str, str], Callable[[_Assigned], str]] = {
    ("MATCHED", "UPDATE"): _update,
    ("MATCHED", "UPDATE_STAR"): lambda _: "UPDATE SET *",
    ("MATCHED", "DELETE"): lambda _: "DELETE",
    ("NOT MATCHED", "INSERT"): _insert,
    ("NOT MATCHED", "INSERT_STAR"): lambda _: "INSERT *",
    ("NOT MATCHED BY SOURCE", "UPDATE"): _update,
    ("NOT MATCHED BY SOURCE", "DELETE"): lambda _: "DELETE",
}


def _name_of(relation: Any) -> str | None:
    """The name by which a DataFrame's columns may be asked for: its alias, or that of the table that it reads."""
    kind = relation.WhichOneof("rel_type")
    while kind in _KEEPS_NAMES:
        relation = getattr(relation, kind).input
        kind = relation.WhichOneof("rel_type")
    if kind == "subquery_alias":
        return str(relation.subquery_alias.alias)
    if kind == "read" and relation.read.WhichOneof("read_type") == "named_table":
        return split_name(relation.read.named_table.unparsed_identifier)[-1]
    return None


def _plan_ids(relation: Any) -> frozenset[int]:
    """The ids of a relation and all below it."""
    found = set()
    waiting = [relation]
    while waiting:
        message = waiting.pop()
        if message.DESCRIPTOR.full_name == "spark.connect.RelationCommon" and message.HasField("plan_id"):
            found.add(int(message.plan_id))
        for field, value in message.ListFields():
            if field.message_type is None or field.message_type.GetOptions().map_entry:
                continue
            waiting.extend(value if field.is_repeated else (value,))
    return frozenset(found)
