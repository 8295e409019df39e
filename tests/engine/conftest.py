"""What the tests of this room share: one running gateway, a user who types commands, and tables."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.catalog.conftest import People
from tests.databases import BACKENDS, Databases
from tests.engine.delta_tables import Make, table_maker
from tests.engine.gateways import RunningGateway, running_gateway
from tests.engine.sql_room import Sql, open_room, signed_in

from millpond.catalog.service import CatalogService


@pytest.fixture(scope="session")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    """A gateway process on SQLite; a test makes catalogs and users of its own."""
    with running_gateway(tmp_path_factory.mktemp("gateway") / "data") as running:
        yield running


@pytest.fixture(scope="module", params=BACKENDS)
def room(
    request: pytest.FixtureRequest, databases: Databases, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[CatalogService, People]]:
    """A catalog for the tests of one module, on each kind of database."""
    with open_room(request.param, databases, tmp_path_factory.mktemp("data")) as opened:
        yield opened


@pytest.fixture
def sql(room: tuple[CatalogService, People]) -> Iterator[Sql]:
    """Alice, who types commands."""
    with signed_in(room) as made:
        yield made


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Makes tables of the test's own."""
    return table_maker(tmp_path)
