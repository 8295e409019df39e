"""Search over everything, by HTTP and by the command, on both databases."""

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from databricks.sdk import WorkspaceClient
from databricks.sdk.errors import InvalidParameterValue
from databricks.sdk.service.catalog import EntityTagAssignment, VolumeType
from databricks.sdk.service.sql import CreateQueryRequestQuery

from tests.servers import Server, run_cli


@dataclass(frozen=True)
class World:
    """Things of one user, all with a word of their own in them, and a stranger."""

    word: str
    owner: WorkspaceClient
    stranger: WorkspaceClient
    server: Server

    def found(self, w: WorkspaceClient | None = None, **query: Any) -> list[tuple[str, str]]:
        answer = (w or self.owner).api_client.do("GET", "/api/millpond/search", query=query)
        return [(each["type"], each["name"]) for each in answer["results"]]


@pytest.fixture(scope="module")
def world(any_server: Server) -> Iterator[World]:
    def user(name: str) -> WorkspaceClient:
        token = any_server.new_user(f"{name}-{uuid.uuid4().hex[:6]}@search")
        return WorkspaceClient(host=any_server.url, token=token, auth_type="pat", config_file="/nowhere")

    word = f"w{uuid.uuid4().hex[:8]}"
    made = World(word, user("owner"), user("stranger"), any_server)
    w = made.owner
    w.catalogs.create(f"{word}_lake", comment="A lake")
    for number in range(3):
        w.volumes.create(f"{word}_lake", "default", f"files{number}", VolumeType.MANAGED)
    w.entity_tag_assignments.create(
        EntityTagAssignment(
            entity_type="volumes", entity_name=f"{word}_lake.default.files1", tag_key="team", tag_value=word
        )
    )
    w.experiments.create_experiment(f"/{word}/trial")
    w.model_registry.create_model(f"{word}-model", description="guesses")
    asked = w.queries.create(query=CreateQueryRequestQuery(display_name="daily", query_text=f"SELECT '{word}'"))
    operand = {"column": {"name": "n"}}
    alert = {"display_name": f"late {word}", "query_id": asked.id, "condition": {"op": "IS_NULL", "operand": operand}}
    w.api_client.do("POST", "/api/2.0/sql/alerts", body={"alert": alert})
    job = w.jobs.create(name=f"{word} weekly", tags={"cost": "low"}).job_id
    yield made
    w.jobs.delete(job)
    w.catalogs.delete(f"{word}_lake", force=True)


def test_every_room_is_searched(world: World) -> None:
    """The better the place of the word, the earlier."""
    word = world.word
    found = world.found(q=word)
    assert found[:2] == [("catalog", f"{word}_lake"), ("registered model", f"{word}-model")]
    assert set(found) == {
        ("catalog", f"{word}_lake"), ("schema", f"{word}_lake.default"), ("experiment", f"/{word}/trial"),
        ("registered model", f"{word}-model"), ("query", "daily"),
        ("alert", f"late {word}"), ("job", f"{word} weekly"),
        *(("volume", f"{word}_lake.default.files{number}") for number in range(3)),
    }  # fmt: skip
    assert world.found(q=f"{word} guesses") == [("registered model", f"{word}-model")]
    assert world.found(tag=f"team={word}") == [("volume", f"{word}_lake.default.files1")]
    assert world.found(q=f"{word} low") == world.found(q=word, tag="cost=low") == [("job", f"{word} weekly")]
    assert world.found(q=word, type="experiment,query") == [("experiment", f"/{word}/trial"), ("query", "daily")]


def test_pages_come_one_after_the_other(world: World) -> None:
    answer = world.owner.api_client.do("GET", "/api/millpond/search", query={"q": world.word, "limit": 3})
    seen = [each["name"] for each in answer["results"]]
    while token := answer.get("next_page_token"):
        query = {"q": world.word, "limit": 3, "page_token": token}
        answer = world.owner.api_client.do("GET", "/api/millpond/search", query=query)
        seen += [each["name"] for each in answer["results"]]
    assert seen == [name for _, name in world.found(q=world.word)]


def test_a_stranger_finds_nothing_and_hears_no_count(world: World) -> None:
    answer = world.stranger.api_client.do("GET", "/api/millpond/search", query={"q": world.word})
    assert answer == {"results": []}
    assert world.found(world.stranger, tag=f"team={world.word}") == []


def test_nonsense_is_refused(world: World) -> None:
    for query in ({"type": "planet"}, {"limit": 101}, {"certified": "maybe"}, {"page_token": "!"}, {"q": "a\0"}):
        with pytest.raises(InvalidParameterValue):
            world.found(**({"q": "x"} | query))
    assert world.found() == []


def test_the_command_prints_what_is_found(world: World) -> None:
    where = ("--data-dir", str(world.server.data_dir))
    done = run_cli("search", world.word, "guesses", *where)
    assert done.stdout.split() == ["registered", "model", f"{world.word}-model", "guesses"]
    assert run_cli("search", world.word, "--certified", *where).stderr == "Nothing found.\n"
