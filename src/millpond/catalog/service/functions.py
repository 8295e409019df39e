"""Functions: what their callers see of them. They run in the engine."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection

from millpond.catalog.domain import Function, ObjectName, SchemaName
from millpond.catalog.names import check_text
from millpond.catalog.service.base import clean_comment, clean_properties, new_values, races, touched
from millpond.catalog.service.ownership import author_owns, check_giver
from millpond.catalog.service.usage import refuse_in_use
from millpond.catalog.service.volumes import Volumes
from millpond.catalog.store import objects
from millpond.catalog.store.rows import function_of
from millpond.catalog.store.schema import functions
from millpond.identity import acts
from millpond.identity.access import Act, require
from millpond.identity.domain import Principal
from millpond.kernel.errors import InvalidArgument, NotFound
from millpond.kernel.paging import Page

_MAX_DEFINITION_LENGTH = 1 << 20


class Functions(Volumes):
    """What one can do with functions."""

    def create_function(
        self,
        principal: Principal,
        name: ObjectName,
        *,
        definition: Mapping[str, Any],
        comment: str | None = None,
        properties: Mapping[str, str] | None = None,
    ) -> Function:
        """A new function. Raises NotFound for the schema, AlreadyExists, InvalidArgument, PermissionDenied."""
        _check_definition(definition)
        values = new_values(principal, name.name, comment)
        values |= {"definition": dict(definition), "properties": clean_properties(properties)}
        taken, gone = f"Function '{name}' already exists.", f"Schema '{name.schema_name}' does not exist."
        with races(taken, gone), self.database.write() as connection:
            schema = self._schema_for(connection, principal, name, Act.CREATE_FUNCTION)
            objects.insert_row(connection, functions, values | {"schema_id": schema.id})
            acts.changed(connection, principal.name, "create", "function", str(name))
            return self._function(connection, name)

    def replace_function(
        self, principal: Principal, name: ObjectName, *, definition: Mapping[str, Any], comment: str | None = None
    ) -> Function:
        """The function with another definition, whose author owns it now.

        Raises NotFound, InvalidArgument, PermissionDenied, and FailedPrecondition for another signature while row
        filters or masks are made of it.
        """
        _check_definition(definition)
        values = {"definition": dict(definition), "comment": clean_comment(comment)}
        with self.database.write() as connection:
            function = self._function(connection, name, lock=True)
            require(principal, Act.MANAGE, function.securable)
            if _signature(function.definition) != _signature(definition):
                refuse_in_use(connection, {function.id}, "given another signature")
            values |= author_owns(connection, principal, function)
            objects.update_row(connection, functions, function.id, touched(principal, values))
            acts.changed(connection, principal.name, "replace", "function", str(name))
            return self._function(connection, name)

    def look_up_function(self, name: ObjectName) -> Function | None:
        """The function with a name, for who then asks for rights on it; None when there is none."""
        with self.database.read() as connection:
            row = objects.find_row(connection, functions, name)
        return None if row is None else function_of(row)

    def get_function(self, principal: Principal, name: ObjectName) -> Function:
        """The function with a name. Raises NotFound."""
        with self.database.read() as connection:
            function = self._function(connection, name)
        require(principal, Act.SEE, function.securable)
        return function

    def get_function_by_id(self, principal: Principal, function_id: str) -> Function:
        """The function with an id. Raises NotFound."""
        with self.database.read() as connection:
            row = objects.find_row_by_id(connection, functions, function_id)
        if row is None:
            raise NotFound(f"Function '{function_id}' does not exist.")
        function = function_of(row)
        require(principal, Act.SEE, replace(function.securable, name=function_id))
        return function

    def list_functions(
        self,
        principal: Principal,
        schema: SchemaName,
        *,
        max_results: int | None = None,
        page_token: str | None = None,
    ) -> Page[Function]:
        """Functions of a schema that the principal may see, by name. Raises NotFound for the schema."""
        return self._list_in_schema(
            principal, schema, "function", functions, function_of, max_results=max_results, page_token=page_token
        )

    def update_function(
        self, principal: Principal, name: ObjectName, *, owner: str | None = None, comment: str | None = None
    ) -> Function:
        """The function after a change of what is not None; its body has the rights of its owner.

        Raises NotFound, InvalidArgument, PermissionDenied.
        """
        values = self._changes(comment=comment, owner=owner, properties=None)
        with self.database.write() as connection:
            function = self._function(connection, name, lock=True)
            require(principal, Act.MANAGE, function.securable)
            check_giver(principal, function, owner)
            objects.update_row(connection, functions, function.id, touched(principal, values))
            self._updated(connection, principal, "function", name, values)
            return self._function(connection, name)

    def drop_function(self, principal: Principal, name: ObjectName) -> None:
        """Remove a function. Raises NotFound, PermissionDenied, FailedPrecondition for one that is in use."""
        with self.database.write() as connection:
            function = self._function(connection, name, lock=True)
            require(principal, Act.MANAGE, function.securable)
            refuse_in_use(connection, {function.id}, "dropped")
            self._delete(connection, functions, function.id)
            acts.changed(connection, principal.name, "drop", "function", str(name))

    def _function(self, connection: Connection, name: ObjectName, *, lock: bool = False) -> Function:
        row = objects.find_row(connection, functions, name, lock=lock)
        if row is None:
            raise NotFound(f"Function '{name}' does not exist.")
        return function_of(row)


def _signature(definition: Mapping[str, Any]) -> tuple[Any, ...]:
    given = (definition.get("input_params") or {}).get("parameters") or []
    return definition.get("full_data_type"), [item.get("type_text") for item in given]


def _check_definition(value: Any) -> int:
    """The length of all text in it. Raises InvalidArgument for what the databases cannot keep."""
    length = 0
    if isinstance(value, str):
        length = len(check_text(value, "The function's definition"))
    elif isinstance(value, Mapping):
        length = sum(_check_definition(key) + _check_definition(item) for key, item in value.items())
    elif isinstance(value, list | tuple):
        length = sum(_check_definition(item) for item in value)
    if length > _MAX_DEFINITION_LENGTH:
        raise InvalidArgument(f"The function's definition has {length} characters; at most {_MAX_DEFINITION_LENGTH}.")
    return length
