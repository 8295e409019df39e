"""Files of users that are odd keep nothing of others' waiting."""

import json
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from millpond.identity.domain import SYSTEM
from millpond.kernel.database import Database
from millpond.kernel.errors import InvalidArgument
from millpond.serving import store
from millpond.serving.domain import ModelVersion, Update
from millpond.serving.following import Follower
from millpond.serving.models import ModelCache
from millpond.serving.openapi import read_model_input
from millpond.serving.ports import Named
from millpond.serving.registry import RegistryModels
from millpond.serving.resolving import Resolver
from millpond.serving.specs import Specs
from millpond.serving.variables import Variables
from tests.serving.test_domain import config, endpoint, entity
from tests.serving.test_following import CHAMPION


class Source:
    """Models, of which the one called `odd` has files that nobody foresaw."""

    def heads(self, asked: Collection[Named]) -> Mapping[Named, str]:
        return dict.fromkeys(asked, "2")

    def find_referenced(self, _principal: Any, name: str, _reference: Any) -> ModelVersion:
        if name == "odd":
            raise RecursionError
        return ModelVersion(name=name, version="2", source=f"{name}/2")

    def find_spec(self, _principal: Any, _model: ModelVersion) -> None:
        return None


def test_one_endpoint_that_cannot_be_followed_keeps_no_other(database: Database, tmp_path: Path) -> None:
    with database.write() as connection:
        for name in ("odd", "plain"):
            served = replace(entity(name), reference=CHAMPION)
            made = endpoint(None, config(1, served), Update.NOT_UPDATING)
            store.insert_endpoint(connection, replace(made, id=name, name=name))
    source: Any = Source()
    nobody: Any = None  # there is nothing to refer to
    resolver = Resolver(source, Specs(ModelCache(tmp_path, source)), None)
    follower = Follower(
        database=database, source=source, resolver=resolver, find_principal=lambda _name: SYSTEM,
        variables=Variables(nobody, lambda _name: SYSTEM),
        deployed=lambda *_args: None,
    )  # fmt: skip
    assert follower.look() == ["plain"]


def test_what_is_nested_too_deeply_counts_as_absent(tmp_path: Path) -> None:
    deep = "[" * 100_000 + "]" * 100_000
    (tmp_path / "MLmodel").write_text(json.dumps({"signature": {"inputs": deep}}))
    (tmp_path / "serving_input_example.json").write_text(deep)
    found = read_model_input(tmp_path)
    assert (found.fields, found.example) == ((), None)
    (tmp_path / "MLmodel").write_text("signature: " + "[" * 3_000 + "]" * 3_000)
    assert read_model_input(tmp_path).fields == ()


class Files:
    """Of a version whose feature spec is no text."""

    def read(self, *_args: Any, **_options: Any) -> bytes:
        return b"\xff\xfe"


def test_a_feature_spec_that_is_no_text_is_told() -> None:
    files: Any = Files()
    models = RegistryModels(files, files, lambda _asked: {}, lambda *_asked: None)
    with pytest.raises(InvalidArgument, match="no text in UTF-8"):
        models.find_spec(SYSTEM, ModelVersion(name="m", version="1", source="x"))
