"""What a version gets that is asked in the place of a served one."""

from pathlib import Path

import pytest

from millpond.identity.domain import Principal, PrincipalKind
from millpond.kernel.database import Database
from millpond.serving import store
from millpond.serving.domain import Update
from millpond.serving.models import ModelCache
from millpond.serving.references import Asked
from millpond.serving.rehearsal import Rehearsals
from millpond.serving.resolving import Resolver
from millpond.serving.specs import Specs
from millpond.serving.variables import Variables
from tests.serving.harness import FolderModels
from tests.serving.test_domain import READY, config, endpoint, entity

VARIABLES = {"MILLPOND_NETWORK": "true", "REGION": "north"}


@pytest.mark.parametrize(
    ("is_admin", "managers_open", "kept"),
    [(False, False, {"REGION": "north"}), (True, False, VARIABLES), (False, True, VARIABLES)],
)
def test_the_network_of_the_served_one_is_for_who_may_give_it(
    database: Database, tmp_path: Path, is_admin: bool, managers_open: bool, kept: dict[str, str]
) -> None:
    """Who manages an endpoint may bring a model of their own, and it gets what others asked."""
    (tmp_path / "own").mkdir()
    source = FolderModels(tmp_path, owner="me")
    served = endpoint(None, config(1, entity("a", state=READY, environment=VARIABLES)), Update.IN_PROGRESS)
    with database.write() as connection:
        store.insert_endpoint(connection, served)
        assert store.promote(connection, served.id, 1)
    variables = Variables(None, None, managers_open_network=managers_open)  # type: ignore[arg-type]
    resolver = Resolver(source, Specs(ModelCache(tmp_path / "cache", source)), None)
    rehearsals = Rehearsals(database, None, resolver, None, variables)  # type: ignore[arg-type]
    me = Principal(id="1", name="me", kind=PrincipalKind.USER, is_admin=is_admin)
    candidate = rehearsals.candidate(me, served.name, Asked(model="own", version="1"))
    assert candidate.entity.environment == kept
