"""Who may do what at once with a pipeline, and what is refused before it is kept; on both databases."""

from typing import Any

import pytest

from millpond.identity.domain import Principal, PrincipalKind
from millpond.kernel.database import Database
from millpond.kernel.errors import InvalidArgument, NotFound
from millpond.pipelines.service import PipelineService
from millpond.pipelines.settings import checked

ANN = Principal(id="1", name="ann@x.org", kind=PrincipalKind.USER, is_admin=False)
SETTINGS = {"name": "p", "catalog": "main", "schema": "s", "libraries": [{"file": {"path": "/Users/ann@x.org/a.py"}}]}


@pytest.fixture
def service(database: Database) -> PipelineService:
    def unused(*_: Any) -> Any:
        return None

    return PipelineService(database, unused, check_target=unused, principal_named=unused, moved=unused)


@pytest.mark.parametrize("value", ["a\0", "\ud800", {"a\0": 1}], ids=["nul", "half", "in a name"])
def test_what_no_database_takes_is_refused_by_its_name(value: Any) -> None:
    with pytest.raises(InvalidArgument, match="^clusters "):
        checked({**SETTINGS, "clusters": [{"custom": value}]})


def test_ids_that_are_none_are_not_found(service: PipelineService) -> None:
    made = service.create(ANN, SETTINGS)
    with pytest.raises(NotFound):
        service.get(ANN, "\0")
    with pytest.raises(NotFound):
        service.get_update(ANN, made.id, "\0")
