"""Declared features as objects of the catalog: kept as functions whose language is FEATURE, so under their grants.

A feature is a definition and no data: its values are computed from its source by whoever may read that.
"""

import json
from typing import Any

from millpond.catalog.domain import Function, ObjectName, SchemaName, Table
from millpond.catalog.service import CatalogService
from millpond.features.declared import Feature, from_json, to_json
from millpond.features.lookups import names_of
from millpond.features.planning import make_plan
from millpond.features.tables import FeatureTable
from millpond.identity.access import Act, require
from millpond.identity.domain import Principal
from millpond.kernel.errors import InvalidArgument, NotFound
from millpond.kernel.paging import Page

LANGUAGE = "FEATURE"


class DeclaredFeatures:
    """What one can do with declared features; each is given as the Databricks SDK's JSON has it."""

    def __init__(self, catalog: CatalogService) -> None:
        self._catalog = catalog

    def create(self, principal: Principal, told: dict[str, Any]) -> dict[str, Any]:
        """A new feature, of a source that its maker may read.

        Raises NotFound for the source or the schema, AlreadyExists, InvalidArgument, PermissionDenied.
        """
        feature = _read(told)
        name = ObjectName.of_full_name(feature.full_name)
        source = self._catalog.get_table(principal, ObjectName.of_full_name(feature.source.full_name))
        require(principal, Act.READ, source.securable)
        _check(feature, source)
        made = self._catalog.create_function(
            principal, name, definition=_definition(feature), comment=feature.description
        )
        return _shown(made)

    def get(self, principal: Principal, name: ObjectName) -> dict[str, Any]:
        """The feature of a name. Raises NotFound."""
        return _shown(self._found(principal, name))

    def list(
        self, principal: Principal, schema: SchemaName, *, max_results: int | None, page_token: str | None
    ) -> Page[dict[str, Any]]:
        """Those of a schema that the principal may see; a page may be short of them. Raises NotFound for the schema."""
        page = self._catalog.list_functions(principal, schema, max_results=max_results, page_token=page_token)
        items = tuple(_shown(each) for each in page.items if _is_feature(each))
        return Page(items=items, next_page_token=page.next_page_token)

    def describe(self, principal: Principal, name: ObjectName, description: str | None) -> dict[str, Any]:
        """The feature with another description: all else of it stays. Raises NotFound, PermissionDenied."""
        self._found(principal, name)
        return _shown(self._catalog.update_function(principal, name, comment=description))

    def delete(self, principal: Principal, name: ObjectName) -> None:
        """Remove a feature. Raises NotFound, PermissionDenied."""
        self._found(principal, name)
        self._catalog.drop_function(principal, name)

    def _found(self, principal: Principal, name: ObjectName) -> Function:
        function = self._catalog.get_function(principal, name)
        if not _is_feature(function):
            raise NotFound(f"Feature '{name}' does not exist.")
        return function


def _read(told: dict[str, Any]) -> Feature:
    try:
        return from_json(told)
    except ValueError as error:
        raise InvalidArgument(str(error)) from error
    except (TypeError, KeyError, AttributeError) as error:
        raise InvalidArgument(f"This is no feature as the SDK has it: {type(error).__name__} {error}.") from error


def _check(feature: Feature, source: Table) -> None:
    """Raises InvalidArgument when the source has not what the feature is of."""
    types = {column.name: column.type_text for column in source.columns}
    table = FeatureTable(name=feature.source.full_name, primary_keys=(), types=types, properties=source.properties)
    labels = [*names_of(feature.entity), str(feature.timeseries_column)]
    try:
        make_plan([feature], {table.name: table}, {}, labels)
    except ValueError as error:
        raise InvalidArgument(str(error)) from error


def _is_feature(function: Function) -> bool:
    return function.definition.get("external_language") == LANGUAGE


def _definition(feature: Feature) -> dict[str, Any]:
    return {
        "input_params": {"parameters": []},
        "data_type": "STRUCT",
        "full_data_type": "STRUCT",
        "routine_body": "EXTERNAL",
        "routine_definition": json.dumps(to_json(feature)),
        "external_language": LANGUAGE,
        "parameter_style": "S",
        "is_deterministic": False,
        "sql_data_access": "READS_SQL_DATA",
        "is_null_call": True,
        "security_type": "INVOKER",
        "specific_name": feature.output,
    }


def _shown(function: Function) -> dict[str, Any]:
    told = json.loads(function.definition["routine_definition"])
    described = {"description": function.comment} if function.comment else {}
    created = function.created_at.isoformat().replace("+00:00", "Z")
    return {
        **{key: value for key, value in told.items() if key != "description"},
        **described,
        "catalog_name": function.name.catalog,
        "schema_name": function.name.schema,
        "created_by": function.created_by,
        "created_at": created,
    }
