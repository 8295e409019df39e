"""Feature specs that have a name: kept in the catalog as functions, so under its grants."""

import json
from urllib.parse import quote

from millpond.features.connection import Connection
from millpond.features.spec import FeatureSpec, read_spec

LANGUAGE = "FEATURE_SPEC"
_PATH = "/api/2.1/unity-catalog/functions"


def save(connection: Connection, name: str, spec: FeatureSpec) -> None:
    """Keep a spec. Raises ValueError when the name is taken."""
    catalog, schema, own = connection.full_name(name).split(".")
    info = {
        "name": own,
        "catalog_name": catalog,
        "schema_name": schema,
        "input_params": {"parameters": []},
        "data_type": "STRUCT",
        "full_data_type": "STRUCT",
        "routine_body": "EXTERNAL",
        "routine_definition": spec.to_yaml(),
        "external_language": LANGUAGE,
        "parameter_style": "S",
        "is_deterministic": False,
        "sql_data_access": "READS_SQL_DATA",
        "is_null_call": True,
        "security_type": "DEFINER",
        "specific_name": own,
        "properties": json.dumps({"language": LANGUAGE}),
    }
    connection.post(_PATH, {"function_info": info})


def load(connection: Connection, name: str) -> FeatureSpec:
    """The spec of a name. Raises ValueError when there is none."""
    full = connection.full_name(name)
    info = connection.get(f"{_PATH}/{quote(full, safe='')}")
    if info is None or info.get("external_language") != LANGUAGE:
        raise ValueError(f"Feature spec '{full}' does not exist, or you may not see it.")
    return read_spec(info["routine_definition"])


def delete(connection: Connection, name: str) -> None:
    """Remove it."""
    connection.delete(f"{_PATH}/{quote(connection.full_name(name), safe='')}")
