"""A real gateway process for the tests: its own data directory, database, users and tokens; no HTTP server."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from millpond.home import Home
from millpond.identity.credentials import Signer, load_signing_key
from millpond.identity.custody import CustodyService
from millpond.identity.directory import DirectoryService
from millpond.identity.domain import Draft, Principal, PrincipalKind
from millpond.identity.service import IdentityService
from millpond.kernel.database import Database
from millpond.kernel.migrations import ensure_schema
from millpond.kernel.process import Child, ChildSpec, spawn

ADMIN = "admin@example.com"
_SECRET_DIGITS = "0123456789abcdef"


@dataclass
class RunningGateway:
    """A gateway process and what tests need to reach it."""

    home: Home
    database: Database
    identity: IdentityService
    admin_token: str
    child: Child
    port: int
    env: dict[str, str]
    tokens: dict[str, str] = field(default_factory=dict)

    def remote(self, user: str = ADMIN) -> str:
        """The connection string of a user, who is made when there is none."""
        return f"sc://localhost:{self.port}/;token={self.token(user)}"

    def token(self, user: str = ADMIN) -> str:
        """An access token of a user."""
        if user not in self.tokens:
            self.tokens[user] = self._new_user(user)
        return self.tokens[user]

    def principal(self, user: str = ADMIN) -> Principal:
        """The user as the services know them."""
        return self.identity.authenticate(self.token(user))

    def spark(self, user: str = ADMIN) -> Any:
        """A new session of a user through PySpark, also the active one, which parses the types of functions.

        A session of another test that was not stopped would stay the active one, after its server has ended.
        """
        from pyspark.sql import SparkSession
        from pyspark.sql.connect.session import SparkSession as ConnectSession

        session = SparkSession.builder.remote(self.remote(user)).create()
        ConnectSession._active_session.session = session
        return session

    def restart(self) -> None:
        """End the process and start another on the same data and port."""
        self.child.terminate(grace_s=20)
        self.child, _ = _start(self.home, self.env, self.port)

    def _new_user(self, name: str) -> str:
        admin = self.identity.authenticate(self.admin_token)
        DirectoryService(self.database).create(admin, PrincipalKind.USER, Draft(name=name, display_name=name))
        return CustodyService(self.database).create_token_for(admin, name, kind=PrincipalKind.USER)[1]


@contextmanager
def running_gateway(root: Path, **env: str) -> Iterator[RunningGateway]:
    """A gateway on a fresh data directory; its process ends with the block."""
    home = Home(root)
    home.prepare()
    database = Database(f"sqlite:///{root / 'millpond.db'}")
    ensure_schema(database)
    identity = IdentityService(database, Signer(load_signing_key(root)))
    secret = "dapi" + (_SECRET_DIGITS * 4)
    identity.bootstrap(ADMIN, password="first-password-1", secret=secret)
    child, port = _start(home, env, 0)
    gateway = RunningGateway(
        home=home,
        database=database,
        identity=identity,
        admin_token=secret,
        child=child,
        port=port,
        env=env,
        tokens={ADMIN: secret},
    )
    try:
        yield gateway
    finally:
        gateway.child.terminate(grace_s=20)
        database.dispose()


def _start(home: Home, env: dict[str, str], port: int) -> tuple[Child, int]:
    metrics = home.run / "metrics"
    metrics.mkdir(parents=True, exist_ok=True)
    variables = {
        "MILLPOND_DATA_DIR": str(home.root),
        "MILLPOND_SPARK_PORT": str(port),
        "PROMETHEUS_MULTIPROC_DIR": str(metrics),
        "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
        **env,
    }
    child = spawn(ChildSpec(module="millpond.gateway_process", env=variables, log_path=home.logs / "gateway.log"))
    return child, int(child.wait_ready(60)["port"])
