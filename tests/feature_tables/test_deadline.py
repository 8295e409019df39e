"""A question that takes too long is stopped."""

import pytest

from millpond.engine.client import GatewayClient
from millpond.engine.sql_client import SqlClient
from millpond.home import Home
from millpond.identity.credentials import Signer, load_signing_key
from millpond.identity.service import IdentityService
from millpond.kernel.database import Database
from millpond.kernel.errors import DeadlineExceeded
from tests.servers import Server


def test_a_query_ends_at_its_deadline(server: Server) -> None:
    """As an error that says so; one that is in time has its answer."""
    home = Home(server.data_dir)
    database = Database(f"sqlite:///{server.data_dir / 'millpond.db'}")
    identity = IdentityService(database, Signer(load_signing_key(home.root)))
    client = SqlClient(GatewayClient(home.spark_socket, identity.mint))
    admin = identity.authenticate(server.token)
    endless = "SELECT count(*) FROM range(1000000000) a CROSS JOIN range(1000000000) b WHERE a.id + b.id = 7"
    with pytest.raises(DeadlineExceeded, match=r"within 0\.2 s"):
        client.rows(admin, endless, 1, timeout_s=0.2)
    assert client.rows(admin, "SELECT 1 AS one", 1, timeout_s=60).to_pylist() == [{"one": 1}]
    database.dispose()
