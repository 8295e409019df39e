"""CREATE FUNCTION: the engine says whether a body of SQL can be analysed, the catalog keeps it."""

from collections.abc import Sequence
from typing import Any

from millpond.catalog.domain import ObjectName
from millpond.catalog.service import CatalogService
from millpond.catalog.wire.types import type_name
from millpond.engine import proto, shaping, wire
from millpond.engine.binding import Binder
from millpond.engine.blocking import on_thread
from millpond.engine.dml import CreateFunction
from millpond.engine.errors import AnalysisError, quoted, schema_not_found, unsupported
from millpond.engine.python_routines import PythonFunction, check_python
from millpond.engine.queries import analyse
from millpond.engine.rewriting import References
from millpond.engine.routines import inlined
from millpond.engine.sessions import Session
from millpond.engine.splicing import plan_ids
from millpond.engine.sql_functions import TABLE_TYPE, Parameter, SqlFunction, check_body
from millpond.engine.syntax.functions import FunctionParameter
from millpond.engine.upstream import Upstream
from millpond.kernel.errors import AlreadyExists, NotFound


class FunctionMaker:
    """Makes functions of the catalog."""

    def __init__(self, catalog: CatalogService, upstream: Upstream) -> None:
        self._catalog = catalog
        self._upstream = upstream

    async def create(self, session: Session, statement: CreateFunction, binder: Binder) -> Any:
        """Keep the function, after the engine has said that its body can be analysed."""
        if statement.language == "PYTHON":
            self._keep_python(session, statement)
            return wire.string_table([], [])
        if statement.returns_table:
            await self._create_table_function(session, statement, binder)
            return wire.string_table([], [])
        function = _sql_function(session, statement)
        schema = await self._upstream.schema(session, await on_thread(_trial, binder, function), binder.needs)
        returns = function.returns or shaping.sql_type(shaping.fields_of_schema(schema)[0]["type"])
        definition = _definition(statement, function, returns, function.home)
        reads = bool(analyse(f"SELECT ({function.body}\n)").tables)
        definition["sql_data_access"] = "READS_SQL_DATA" if reads else "CONTAINS_SQL"
        self._keep(session, _name(session, statement), statement, definition)
        return wire.string_table([], [])

    async def _create_table_function(self, session: Session, statement: CreateFunction, binder: Binder) -> None:
        function = _sql_function(session, statement)
        schema = await self._upstream.schema(session, await on_thread(_trial, binder, function), binder.needs)
        found = shaping.fields_of_schema(schema)
        columns = _parameters(statement.columns) or tuple(
            Parameter(name=each["name"], type=shaping.sql_type(each["type"])) for each in found
        )
        if len(columns) != len(found):
            raise AnalysisError(
                "USER_DEFINED_FUNCTIONS.RETURN_COLUMN_COUNT_MISMATCH",
                f"The query of {function.name} gives {len(found)} columns, and RETURNS TABLE names {len(columns)}.",
                sql_state="42601",
            )
        definition = _definition(statement, function, TABLE_TYPE, function.home) | {
            "routine_definition": statement.query,
            "return_params": {"parameters": _described(columns, statement.columns or (None,) * len(columns))},
            "sql_data_access": "READS_SQL_DATA",
        }
        self._keep(session, _name(session, statement), statement, definition)

    def _keep_python(self, session: Session, statement: CreateFunction) -> None:
        """Its body is read, not run; what it does is seen when it is called."""
        function = _python_function(session, statement)
        definition = _definition(statement, function, function.returns, _home(session)) | {
            "routine_body": "EXTERNAL",
            "external_language": "PYTHON",
            "sql_data_access": "NO_SQL",
        }
        self._keep(session, _name(session, statement), statement, definition)

    def _keep(self, session: Session, name: ObjectName, statement: CreateFunction, definition: dict[str, Any]) -> None:
        there = self._catalog.look_up_function(name) is not None
        if there and statement.if_not_exists:
            return
        try:
            if there and statement.or_replace:
                self._catalog.replace_function(
                    session.principal, name, definition=definition, comment=statement.comment
                )
            else:
                self._catalog.create_function(session.principal, name, definition=definition, comment=statement.comment)
        except AlreadyExists as error:
            raise _routine_exists(name) from error
        except NotFound as error:
            raise schema_not_found((name.catalog, name.schema)) from error


def _sql_function(session: Session, statement: CreateFunction) -> SqlFunction:
    from millpond.engine.types import sql_text

    home = _home(session)
    function = SqlFunction(
        name=".".join((*home, *statement.name)[-3:]),
        parameters=_parameters(statement.parameters),
        returns=None if statement.returns is None else sql_text(statement.returns),
        is_query=statement.returns_table,
        body=f"({statement.query}\n)" if statement.returns_table else statement.query,
        home=home,
    )
    check_body(function)
    return function


def _python_function(session: Session, statement: CreateFunction) -> PythonFunction:
    from millpond.engine.types import sql_text

    if statement.returns is None:
        raise unsupported("A Python function without RETURNS; say what it gives.")
    function = PythonFunction(
        name=str(_name(session, statement)),
        parameters=_parameters(statement.parameters),
        returns=sql_text(statement.returns),
        body=statement.query,
    )
    check_python(function)
    return function


def _home(session: Session) -> tuple[str, str]:
    return session.current_catalog, session.current_schema


def _name(session: Session, statement: CreateFunction) -> ObjectName:
    return ObjectName(*((*_home(session), *statement.name)[-3:]))


def _parameters(given: Sequence[FunctionParameter]) -> tuple[Parameter, ...]:
    from millpond.engine.types import sql_text

    return tuple(Parameter(name=each.name, type=sql_text(each.type), default=each.default) for each in given)


def _trial(binder: Binder, function: SqlFunction) -> Any:
    """A query that calls the function with nothing."""
    found = References(set())
    text = inlined(binder, function, [(None, "NULL") for _ in function.parameters], found)
    made = proto.relations.Relation()
    made.with_relations.root.sql.query = text[1:-1] if function.is_query else f"SELECT {text}"
    made.with_relations.root.common.plan_id = next(plan_ids)
    made.with_relations.references.extend(found.relations)
    return made if found.relations else made.with_relations.root


def _definition(
    statement: CreateFunction, function: SqlFunction | PythonFunction, returns: str, home: tuple[str, str]
) -> dict[str, Any]:
    """The function as the REST API of Unity Catalog tells it."""
    return {
        "input_params": {"parameters": _described(function.parameters, statement.parameters)},
        "data_type": returns if statement.returns_table else type_name(returns),
        "full_data_type": returns,
        "routine_body": "SQL",
        "routine_definition": function.body,
        "parameter_style": "S",
        "is_deterministic": statement.deterministic,
        "is_null_call": True,
        "security_type": "DEFINER",
        "specific_name": statement.name[-1],
        "sql_path": ".".join(home),
    }


def _described(parameters: Sequence[Parameter], given: Sequence[FunctionParameter | None]) -> list[dict[str, Any]]:
    """Parameters, or columns of a table that is returned."""
    return [
        {
            "name": parameter.name,
            "type_text": parameter.type,
            "type_name": type_name(parameter.type),
            "position": at,
            "parameter_type": "PARAM",
            **({} if parameter.default is None else {"parameter_default": parameter.default}),
            **({} if said is None or said.comment is None else {"comment": said.comment}),
        }
        for at, (parameter, said) in enumerate(zip(parameters, given, strict=True))
    ]


def _routine_exists(name: ObjectName) -> AnalysisError:
    shown = quoted((name.catalog, name.schema, name.name))
    return AnalysisError(
        "ROUTINE_ALREADY_EXISTS",
        f"Cannot create the routine {shown} because a routine of that name already exists. Choose a different name, "
        "drop or replace the existing routine, or add the IF NOT EXISTS clause.",
        sql_state="42723",
        parameters={"routineName": shown},
    )
