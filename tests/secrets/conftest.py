"""The secrets room over a real database, with a few people."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlalchemy import delete, update

from millpond.identity.domain import Draft, Principal, PrincipalKind
from millpond.kernel.database import Database
from millpond.kernel.settings import SecretsSettings
from millpond.secrets import store
from millpond.secrets.keyring import Keyring
from millpond.secrets.service import SecretsService
from tests.databases import BACKENDS, Databases
from tests.identity.conftest import Identity, build_identity

VALUE = b"correct-horse-battery-staple-42"


@dataclass(frozen=True, kw_only=True)
class Vault:
    """Secrets, and who may ask for them."""

    database: Database
    identity: Identity
    keys: Path
    service: SecretsService
    admin: Principal
    ann: Principal
    eve: Principal

    def reopened(self, **settings: str) -> SecretsService:
        """The same secrets as a server that starts now sees them, with other settings of the master key."""
        return SecretsService(self.database, Keyring(self.keys, SecretsSettings(**settings)))

    def again(self, principal: Principal) -> Principal:
        """The principal as the next request has it, in the groups that it is in now."""
        return self.identity.service.active_principal(principal.name)

    def group(self, name: str, *members: str) -> str:
        """A new group with these members; its id."""
        draft = Draft(name=name, display_name=name, member_ids=frozenset(members))
        return self.identity.directory.create(self.admin, PrincipalKind.GROUP, draft).account.id


@pytest.fixture(scope="module", params=BACKENDS)
def people(
    request: pytest.FixtureRequest, databases: Databases, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Identity]:
    """An administrator and two users, in one database of each kind for the tests of a module."""
    with databases.new(request.param, tmp_path_factory.mktemp("secrets")) as database:
        identity = build_identity(database)
        for name in ("ann@example.com", "eve@example.com"):
            identity.user(name)
        yield identity


@pytest.fixture
def vault(people: Identity, tmp_path: Path) -> Vault:
    """An empty vault, an administrator, and two users without rights."""
    with people.database.write() as connection:
        connection.execute(delete(store.scopes))
        connection.execute(update(store.master_key).values(key_id=None))
    keys = tmp_path / "keys"
    return Vault(
        database=people.database,
        identity=people,
        keys=keys,
        service=SecretsService(people.database, Keyring(keys, SecretsSettings())),
        admin=people.admin,
        ann=people.service.active_principal("ann@example.com"),
        eve=people.service.active_principal("eve@example.com"),
    )


@pytest.fixture
def filled(vault: Vault) -> Vault:
    """Ann has a scope `app` with the secret `token`."""
    vault.service.create_scope(vault.ann, "app")
    vault.service.put_secret(vault.ann, "app", "token", VALUE)
    return vault


Doing = Callable[[SecretsService, Principal], object]
