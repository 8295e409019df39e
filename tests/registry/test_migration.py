"""A server that is upgraded begins its history with what is where."""

from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest
from sqlalchemy import text

from millpond.kernel import migrations
from millpond.kernel.database import Database
from millpond.kernel.migrations import ensure_schema
from millpond.registry import store
from millpond.tracking.mlflow_schema import ensure_mlflow_schema
from millpond.tracking.watch import Target, TargetKind
from tests.databases import BACKENDS, Databases

_MODEL = "INSERT INTO registered_models (name, workspace) VALUES ('m', 'default')"
_VERSION = (
    "INSERT INTO model_versions (name, version, current_stage, workspace, status) "
    "VALUES ('m', {}, '{}', 'default', 'READY')"
)
_ALIAS = "INSERT INTO registered_model_aliases (name, alias, version, workspace) VALUES ('m', 'champion', 2, 'default')"
_ENDPOINT = (
    "INSERT INTO serving_endpoints (id, name, creator, description, tags, route_optimized, created_at, updated_at, "
    "last_version, active_version, config_update) VALUES ('e', 'end', 'a', '', '[]', {}, 0, 0, 1, 1, 'NOT_UPDATING')"
)
_CONFIG = "INSERT INTO serving_configs (endpoint_id, version, routes, created_at) VALUES ('e', 1, '[]', 0)"
_ENTITY = (
    "INSERT INTO serving_entities (endpoint_id, version, name, position, model_name, model_version, model_source, "
    "workload_size, scale_to_zero, environment, creator, created_at, state, state_message, build_log) "
    "VALUES ('e', 1, 'm', 0, 'm', '2', 's', 'Small', {}, '{{}}', 'a', 0, 'READY', '', '')"
)


def _before(database: Database) -> None:
    """The schema as it was before there was a record."""
    with mock.patch.object(migrations, "head", return_value="0012"):
        ensure_schema(database)
    ensure_mlflow_schema(database)


@pytest.fixture(params=BACKENDS)
def older(request: pytest.FixtureRequest, postgres_url: str, tmp_path: Path) -> Iterator[Database]:
    """A database of an older server."""
    with Databases(tmp_path, postgres_url, _before) as made, made.new(request.param, tmp_path) as database:
        yield database


def test_what_is_where_is_the_first_entry(older: Database) -> None:
    no = "0" if older.is_sqlite else "false"
    with older.write() as connection:
        for statement in (
            _MODEL, *(_VERSION.format(*each) for each in ((1, "None"), (2, "Production"), (3, "Archived"))), _ALIAS,
            _ENDPOINT.format(no), _CONFIG, _ENTITY.format(no),
        ):  # fmt: skip
            connection.execute(text(statement))
    ensure_schema(older)
    with older.write() as connection:
        found = store.latest_moves(connection, "registered model/m", None)
        (served,) = store.list_served(connection, "registered model/m", found[0].at.replace(year=2999))
        noted = store.add_activity(
            connection, key="k", model="k", version=None, kind=found[0].type, actor="a",
            target=Target(TargetKind.ALIAS, "a"),
        )  # fmt: skip
    assert [(move.target, move.version) for move in found] == [("champion", 2), ("Archived", 3), ("Production", 2)]
    assert (served.endpoint, served.version, noted.sequence) == ("end", 2, 4)
