"""One running gateway for the tests of this room."""

from collections.abc import Iterator

import pytest
from tests.engine.gateways import RunningGateway, running_gateway


@pytest.fixture(scope="session")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    """A gateway process on SQLite; a test makes catalogs and users of its own."""
    with running_gateway(tmp_path_factory.mktemp("gateway") / "data") as running:
        yield running
