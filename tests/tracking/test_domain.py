"""Names and places: the pure rules."""

import pytest

from millpond.identity.domain import Principal, PrincipalKind
from millpond.kernel.errors import InvalidArgument, PermissionDenied
from millpond.tracking.domain import (
    canonical_model_name,
    check_experiment_name,
    check_model_source,
    is_three_level,
    parse_artifact_path,
)

ANN = Principal(id="1", name="ann@example.org", kind=PrincipalKind.USER, is_admin=False)
ROOT = Principal(id="2", name="root", kind=PrincipalKind.USER, is_admin=True)


@pytest.mark.parametrize(
    "name", ["/Users/ann@example.org/x", "/users/ANN@example.org/x", "Users/bob/x", "/Shared/x", "/Users", "x"]
)
def test_an_experiment_may_have_this_name(name: str) -> None:
    check_experiment_name(ANN, name)


@pytest.mark.parametrize("name", ["/Users/bob/x", "/USERS/bob/x", "/Users/bob/", "/Users//x"])
def test_another_users_folder_is_refused(name: str) -> None:
    with pytest.raises(PermissionDenied):
        check_experiment_name(ANN, name)
    check_experiment_name(ROOT, name)


@pytest.mark.parametrize(
    ("path", "kind", "item"),
    [
        ("7/abc/artifacts/x.txt", "run", "abc"),
        ("7/models/m-1/artifacts/MLmodel", "logged model", "m-1"),
        ("7/traces/tr-1/artifacts/traces.json", "trace", "tr-1"),
        ("7", "", ""),
        ("7/models", "", ""),
        ("7/abc/", "run", "abc"),
    ],
)
def test_an_artifact_path_names_what_it_belongs_to(path: str, kind: str, item: str) -> None:
    place = parse_artifact_path(path)
    assert (place.experiment_id, place.kind, place.item_id) == ("7", kind, item)


@pytest.mark.parametrize(
    "path",
    ["", "/", "..", "../7/x", "7/../8/x", "7/./x", "7//x", "/7/x", "07/x", "-7/x", "x/y", "7/a\\b", "7/a\0b", "7/a\nb",
     "7/%2F/x", "7/" + "x" * 256, "٧/x", "9" * 30],
)  # fmt: skip
def test_other_artifact_paths_are_refused(path: str) -> None:
    with pytest.raises(InvalidArgument):
        parse_artifact_path(path)


@pytest.mark.parametrize("name", ["a", "a.b", "a.b.c.d", "a..c", ".b.c", ""])
def test_only_three_full_levels_are_the_catalogs(name: str) -> None:
    assert not is_three_level(name)
    assert canonical_model_name(name) == name


def test_the_catalogs_names_are_folded() -> None:
    assert canonical_model_name("Prod.ML.Größe") == "prod.ml.größe"
    with pytest.raises(InvalidArgument):
        canonical_model_name("a.b.c/d")


@pytest.mark.parametrize("source", ["mlflow-artifacts:/1/r/artifacts/m", "runs:/r/m", "models:/m-1", "dummy-source",
                                    "http://host/api/2.0/mlflow-artifacts/artifacts/1/r/m"])  # fmt: skip
def test_a_model_comes_from_our_artifacts(source: str) -> None:
    check_model_source(source)


@pytest.mark.parametrize("source", ["file:///etc", "/etc", "s3://b/k", "dbfs:/x", "http://169.254.169.254/", "", "x"])
def test_and_from_nowhere_else(source: str) -> None:
    with pytest.raises(InvalidArgument):
        check_model_source(source)
