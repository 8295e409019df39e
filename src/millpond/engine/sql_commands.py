"""A SQL command's text with what it brings along, as the relation that newer clients send."""

from typing import Any

from millpond.engine import proto


def sql_input(command: Any) -> Any:
    """The relation of a SQL command; older clients give the text by itself."""
    if command.HasField("input"):
        return command.input
    source = proto.relations.Relation()
    source.sql.query = command.sql
    for key, value in command.args.items():
        source.sql.args[key].CopyFrom(value)
    for key, value in command.named_arguments.items():
        source.sql.named_arguments[key].CopyFrom(value)
    source.sql.pos_args.extend(command.pos_args)
    source.sql.pos_arguments.extend(command.pos_arguments)
    return source


def with_query(source: Any, text: str) -> Any:
    """A copy of the relation, with its parameters and references, for another text."""
    relation = proto.relations.Relation()
    relation.CopyFrom(source)
    root = relation.with_relations.root if relation.WhichOneof("rel_type") == "with_relations" else relation
    root.sql.query = text
    return relation
