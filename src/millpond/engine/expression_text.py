"""Column expressions of Spark Connect as SQL text, for statements that the engine takes only as text."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from millpond.catalog.names import quote, split_name
from millpond.engine import proto
from millpond.engine.errors import AnalysisError, unsupported
from millpond.engine.literals import literal_text, type_text

_INFIX = {
    "==": "=", "=": "=", "!=": "!=", "<>": "!=", "<=>": "<=>", "<": "<", "<=": "<=", ">": ">", ">=": ">=",
    "and": "AND", "or": "OR", "+": "+", "-": "-", "*": "*", "/": "/", "%": "%",
}  # fmt: skip
"""Functions that read better between their arguments; any other is called by its name in backticks."""


@dataclass
class ExpressionText:
    """Writes the expressions of one statement."""

    alias: str
    """Name of the source, for columns that a DataFrame is asked for (`source.id`)."""
    plan_ids: frozenset[int]
    """Of the source and of what it is made from."""
    functions: dict[str, bytes] = field(default_factory=dict)
    """The user's functions in what was written: commands that register them, by name."""

    def __call__(self, expression: Any) -> str:
        """The expression's text. Raises AnalysisError, UnsupportedError."""
        kind = expression.WhichOneof("expr_type")
        write = _WRITERS.get(kind)
        if write is None:
            raise unsupported(f"An expression of kind {kind} here; compute it as a column of the DataFrame first.")
        return write(self, getattr(expression, kind))

    def column(self, attribute: Any) -> str:
        parts = split_name(attribute.unparsed_identifier)
        if attribute.HasField("plan_id"):
            if attribute.plan_id not in self.plan_ids:
                raise AnalysisError(
                    "CANNOT_RESOLVE_DATAFRAME_COLUMN",
                    f"Cannot resolve dataframe column {quote(parts[-1])}. It is probably because of illegal references "
                    "like `df1.select(df2.col('a'))`; name a column of the target as col('table.column').",
                    sql_state="42704",
                    parameters={"name": quote(parts[-1])},
                )
            parts = (self.alias, *parts)
        return ".".join(map(quote, parts))

    def _text(self, message: Any) -> str:
        return f"({message.expression}\n)"  # the text may end with a comment

    def _function(self, call: Any) -> str:
        if call.function_name == "struct":  # the one function with a grammar of its own
            return f"struct({', '.join(map(self._field, call.arguments))})"
        arguments = list(map(self, call.arguments))
        infix = _INFIX.get(call.function_name.lower())
        if infix is not None and len(arguments) == 2:
            return f"({arguments[0]} {infix} {arguments[1]})"
        distinct = "DISTINCT " if getattr(call, "is_distinct", False) else ""
        return f"{quote(call.function_name)}({distinct}{', '.join(arguments)})"

    def _field(self, argument: Any) -> str:
        """An argument of struct(), whose alias names the field."""
        named = argument.alias.name if argument.WhichOneof("expr_type") == "alias" else []
        return self(argument) + "".join(f" AS {quote(name)}" for name in named)

    def _user_function(self, function: Any) -> str:
        command = proto.commands.Command()
        registered = command.register_function
        registered.CopyFrom(function)
        registered.ClearField("arguments")
        registered.function_name = "f"
        digest = hashlib.sha256(registered.SerializeToString(deterministic=True)).hexdigest()
        name = registered.function_name = f"__millpond_{digest[:24]}"
        self.functions[name] = proto.base.Plan(command=command).command.SerializeToString()
        return f"{quote(name)}({', '.join(map(self, function.arguments))})"

    def _cast(self, cast: Any) -> str:
        wanted = cast.type_str if cast.WhichOneof("cast_to_type") == "type_str" else type_text(cast.type)
        function = "TRY_CAST" if cast.eval_mode == type(cast).EVAL_MODE_TRY else "CAST"
        return f"{function}({self(cast.expr)} AS {wanted})"

    def _item(self, item: Any) -> str:
        return f"{self(item.child)}[{self(item.extraction)}]"

    def _lambda(self, function: Any) -> str:
        names = [_variable(self, argument) for argument in function.arguments]
        return f"({', '.join(names)}) -> {self(function.function)}"


def _variable(_writer: ExpressionText, variable: Any) -> str:
    return ".".join(map(quote, variable.name_parts))


_WRITERS: dict[str | None, Callable[[ExpressionText, Any], str]] = {
    "literal": lambda _writer, literal: literal_text(literal),
    "unresolved_attribute": lambda writer, attribute: writer.column(attribute),
    "expression_string": ExpressionText._text,
    "unresolved_function": ExpressionText._function,
    "call_function": ExpressionText._function,
    "common_inline_user_defined_function": ExpressionText._user_function,
    "alias": lambda writer, alias: writer(alias.expr),
    "cast": ExpressionText._cast,
    "unresolved_extract_value": ExpressionText._item,
    "lambda_function": ExpressionText._lambda,
    "unresolved_named_lambda_variable": _variable,
}
