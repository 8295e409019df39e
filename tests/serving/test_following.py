"""Endpoints whose served entities name their versions by an alias or a stage."""

import http.client
import itertools
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urlsplit

import pytest

from millpond.kernel.errors import InvalidArgument
from millpond.serving.domain import Config, Deployment, Update
from millpond.serving.following import course
from millpond.serving.references import Asked, Reference, ReferenceKind, read_asked
from tests.servers import wait_until
from tests.serving.harness import ServingServer
from tests.serving.test_domain import config, endpoint, entity
from tests.serving.test_endpoints import API, ROW, predict

CHAMPION = Reference(ReferenceKind.ALIAS, "champion")
PRODUCTION = Reference(ReferenceKind.STAGE, "Production")
HEAD = ("m", CHAMPION)
SLOW_S = 30
"""Enough for a machine that runs many tests at once; the long test keeps to the 5 s that are promised."""


# What is asked for


@pytest.mark.parametrize(
    ("name", "version", "expected"),
    [
        ("m", "1", Asked(model="m", version="1")),
        ("m", "", Asked(model="m", version="")),
        ("m", "@champion", Asked(model="m", version="", reference=CHAMPION)),
        ("m", "production", Asked(model="m", version="", reference=PRODUCTION)),
        ("models:/c.s.m@champion", "", Asked(model="c.s.m", version="", reference=CHAMPION)),
        ("models:/m/Production", "", Asked(model="m", version="", reference=PRODUCTION)),
        ("models:/m/3", "3", Asked(model="m", version="3")),
        ("m", "latest", Asked(model="m", version="latest")),  # no such version
    ],
)
def test_a_version_is_named_by_number_alias_or_stage(name: str, version: str, expected: Asked) -> None:
    assert read_asked(name, version) == expected


@pytest.mark.parametrize(
    "uri", ["models:/", "models:/m", "models:/m-0123", "models:/m@", "models:/a/b/c", "models:/m@a@b"]
)
def test_an_uri_that_names_no_version_is_refused(uri: str) -> None:
    with pytest.raises(InvalidArgument, match="is no model version"):
        read_asked(uri, "")


def test_an_uri_and_another_version_contradict_each_other() -> None:
    with pytest.raises(InvalidArgument, match="'3' and entity_version '4'"):
        read_asked("models:/m/3", "4")


# Where an endpoint has to go


def following(version: str) -> Any:
    found = entity("m", version=version)
    return replace(found, reference=CHAMPION)


def followed(number: int, version: str) -> Config:
    return replace(config(number, following(version)), followed=True)


def test_an_endpoint_that_is_where_its_references_point_stays() -> None:
    assert course(endpoint(config(1, following("1")), None, Update.NOT_UPDATING), {HEAD: "1"}) is None


def test_an_endpoint_goes_where_the_reference_points_now() -> None:
    found = course(endpoint(config(1, following("1")), None, Update.NOT_UPDATING), {HEAD: "2"})
    assert found is not None
    assert (found.versions, found.notes) == ({"m": "2"}, {"m": ""})


def test_while_an_update_is_under_way_nothing_else_is_begun() -> None:
    updating = endpoint(config(1, following("1")), config(2, following("2")), Update.IN_PROGRESS)
    assert course(updating, {HEAD: "3"}) is None


def test_a_version_that_failed_is_not_tried_again_and_again() -> None:
    failed = endpoint(config(1, following("1")), followed(2, "2"), Update.FAILED)
    assert course(failed, {HEAD: "2"}) is None
    assert course(failed, {HEAD: "3"}) is not None
    assert course(failed, {HEAD: "1"}) is not None, "what failed is not wanted any more, and need not be shown"


def test_a_first_version_that_failed_is_left_when_the_reference_moves() -> None:
    failed = endpoint(None, config(1, following("1")), Update.FAILED)
    assert course(failed, {HEAD: "1"}) is None
    assert course(failed, {HEAD: "2"}) is not None


def test_a_reference_that_is_gone_keeps_the_version_and_says_so_once() -> None:
    here = endpoint(config(1, following("1")), None, Update.NOT_UPDATING)
    found = course(here, {})
    assert found is not None
    assert found.versions == {"m": "1"}
    note = found.notes["m"]
    assert note == "No version has alias 'champion' any more; version 1 stays."
    told = endpoint(config(1, replace(following("1"), reference_note=note)), None, Update.NOT_UPDATING)
    assert course(told, {}) is None


# Through the server


@dataclass
class Load:
    """Clients that ask all the time, each over a connection of its own."""

    serving: ServingServer
    name: str
    answers: list[tuple[float, int, str, Any]] = field(default_factory=list)
    """When asked, status, version that answered, and its prediction."""

    def ask(self, stop: threading.Event) -> None:
        parts = urlsplit(self.serving.url)
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=60)
        headers = {"Authorization": f"Bearer {self.serving.token}", "Content-Type": "application/json"}
        body = json.dumps({"dataframe_records": [ROW]})
        while not stop.is_set():
            asked = time.monotonic()
            connection.request("POST", f"/serving-endpoints/{self.name}/invocations", body, headers)
            answer = connection.getresponse()
            told = json.loads(answer.read())
            version = answer.headers.get("served-model-version", "")
            self.answers.append((asked, answer.status, version, told.get("predictions", told)))
        connection.close()


@contextmanager
def load_on(serving: ServingServer, name: str, *, clients: int) -> Iterator[Load]:
    load, stop = Load(serving, name), threading.Event()
    threads = [threading.Thread(target=load.ask, args=(stop,)) for _ in range(clients)]
    for thread in threads:
        thread.start()
    try:
        yield load
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def customers(serving: ServingServer, model: str, *, at: str = "1") -> str:
    """A model with versions 1 and 2, which answer differently, and 3, which does not load."""
    serving.source.versions.update({(model, "1"): "churn", (model, "2"): "churn_swapped", (model, "3"): "broken"})
    serving.source.moved[model, CHAMPION] = at
    return model


def create_following(serving: ServingServer, name: str, model: str, version: str = "@champion") -> dict[str, Any]:
    config = {"served_entities": [{"entity_name": model, "entity_version": version, "name": "main"}]}
    created = serving.call("POST", API, {"name": name, "config": config})
    assert created.status == 200, created.body
    return serving.settled(name)


def serves(serving: ServingServer, name: str, version: str) -> bool:
    return predict(serving, name).headers["served-model-version"] == version


def follow(serving: ServingServer, name: str, model: str, *, for_s: float, every_s: float, within_s: float) -> None:
    """Move the alias again and again under load; no answer fails, none is mixed, and none is late to change."""
    create_following(serving, name, model)
    ends = time.monotonic() + for_s
    with load_on(serving, name, clients=4) as load:
        for version in itertools.cycle("21"):
            serving.source.moved[model, CHAMPION] = version
            moved = time.monotonic()
            wait_until(lambda wanted=version: load.answers and load.answers[-1][2] == wanted, timeout_s=within_s,
                       what=f"version {version} answering")  # fmt: skip
            if time.monotonic() > ends:
                break
            threading.Event().wait(max(0.0, moved + every_s - time.monotonic()))
    assert len(load.answers) > 50
    predicted = {"1": [1], "2": [0]}
    assert [each for each in load.answers if each[1] != 200 or each[3] != predicted[each[2]]] == []


def test_no_answer_fails_or_is_mixed_while_the_alias_moves_under_load(serving: ServingServer) -> None:
    follow(serving, "chasing", customers(serving, "prod.ml.chased"), for_s=5, every_s=1, within_s=SLOW_S)


@pytest.mark.long
def test_no_answer_fails_or_is_mixed_for_a_minute(serving: ServingServer) -> None:
    follow(serving, "chasing-long", customers(serving, "prod.ml.chased_long"), for_s=60, every_s=2, within_s=5)


def test_a_version_that_does_not_load_leaves_the_old_one_answering(serving: ServingServer) -> None:
    model = customers(serving, "prod.ml.risky")
    created = create_following(serving, "careful", model)
    (shown,) = created["config"]["served_entities"]
    assert (shown["entity_version"], shown["entity_reference"]) == ("1", "@champion")
    assert "Follows alias 'champion'." in shown["state"]["deployment_state_message"]

    serving.source.moved[model, CHAMPION] = "3"
    wait_until(lambda: serving.get("careful")["state"]["config_update"] == "UPDATE_FAILED", what="the failure")
    (failed,) = serving.get("careful")["pending_config"]["served_entities"]
    assert failed["entity_version"] == "3"
    assert "RuntimeError: the weights are missing" in failed["state"]["deployment_state_message"]
    assert predict(serving, "careful").json == {"predictions": [1]}

    serving.source.moved[model, CHAMPION] = "1"
    wait_until(lambda: "pending_config" not in serving.get("careful"), what="nothing being shown as failed")
    serving.source.moved[model, CHAMPION] = "2"
    wait_until(lambda: serves(serving, "careful", "2"), timeout_s=SLOW_S, what="the next good version")


def test_an_alias_that_is_removed_leaves_the_version(serving: ServingServer) -> None:
    model = customers(serving, "prod.ml.orphan")
    create_following(serving, "orphaned", model)
    del serving.source.moved[model, CHAMPION]

    def message() -> str:
        (shown,) = serving.get("orphaned")["config"]["served_entities"]
        return str(shown["state"]["deployment_state_message"])

    wait_until(lambda: "No version has alias 'champion' any more; version 1 stays." in message(), what="the note")
    assert predict(serving, "orphaned").json == {"predictions": [1]}
    serving.source.moved[model, CHAMPION] = "2"
    wait_until(lambda: serves(serving, "orphaned", "2"), timeout_s=SLOW_S, what="the alias being followed again")
    assert "any more" not in message()


def test_a_version_that_its_creator_may_not_read_any_more_is_not_served(serving: ServingServer) -> None:
    model = customers(serving, "prod.ml.lost")
    create_following(serving, "loyal", model)
    owner, serving.source.owner = serving.source.owner, "somebody@example.com"
    serving.source.hidden_from_admins = True
    try:
        serving.source.moved[model, CHAMPION] = "2"

        def told() -> bool:
            (shown,) = serving.get("loyal")["config"]["served_entities"]
            return "Version 1 stays: " in shown["state"]["deployment_state_message"]

        wait_until(told, what="the note")
        assert predict(serving, "loyal").json == {"predictions": [1]}
    finally:
        serving.source.owner, serving.source.hidden_from_admins = owner, False
    wait_until(lambda: serves(serving, "loyal", "2"), timeout_s=SLOW_S, what="the version that may be read again")


def test_an_update_goes_before_a_reference_that_is_being_followed(serving: ServingServer) -> None:
    model = customers(serving, "prod.ml.hasty")
    create_following(serving, "hasty", model)
    serving.source.moved[model, CHAMPION] = "2"
    wait_until(lambda: "pending_config" in serving.get("hasty") or serves(serving, "hasty", "2"), what="the move")
    fixed = {"served_entities": [{"entity_name": model, "entity_version": "1", "name": "main"}]}
    assert serving.call("PUT", f"{API}/hasty/config", fixed).status == 200
    (shown,) = serving.settled("hasty")["config"]["served_entities"]
    assert "entity_reference" not in shown
    assert serves(serving, "hasty", "1")


def test_what_was_read_can_be_written_back_and_goes_on_following(serving: ServingServer) -> None:
    model = customers(serving, "prod.ml.echoed")
    told = create_following(serving, "echoed", model)
    config = {key: told["config"][key] for key in ("served_entities", "traffic_config")}
    assert serving.call("PUT", f"{API}/echoed/config", config).status == 200
    serving.settled("echoed")
    serving.source.moved[model, CHAMPION] = "2"
    wait_until(lambda: serves(serving, "echoed", "2"), timeout_s=SLOW_S, what="the move")


def test_a_first_version_that_fails_is_left_behind(serving: ServingServer) -> None:
    model = customers(serving, "prod.ml.reborn", at="3")
    assert create_following(serving, "reborn", model)["state"]["config_update"] == "UPDATE_FAILED"
    serving.source.moved[model, CHAMPION] = "1"
    told = serving.ready("reborn")
    assert told["config"]["served_entities"][0]["state"]["deployment"] == Deployment.READY.value


def test_a_reference_that_names_nothing_is_not_found(serving: ServingServer) -> None:
    config = {"served_entities": [{"entity_name": "models:/prod.ml.nothing@champion"}]}
    refused = serving.call("POST", API, {"name": "void", "config": config})
    assert (refused.status, refused.json["error_code"]) == (404, "RESOURCE_DOES_NOT_EXIST")
    assert "No version of model 'prod.ml.nothing' has alias 'champion'." in refused.json["message"]
