"""Versions that are asked by their URI: nobody takes all the processes that there may be."""

import json
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote

import pytest

from millpond.serving.uri_pools import MOST_OF_ONE
from tests.servers import wait_until
from tests.serving.harness import Answer, ServingServer

pytestmark = pytest.mark.parametrize("serving", ["sqlite"], indirect=True)  # nothing here asks the database


def ask(serving: ServingServer, version: int, order: str, token: str) -> Answer:
    """What version so and so of the obedient model does."""
    uri = quote(f"models:/obedient/{version}", safe="")
    body = json.dumps({"dataframe_records": [{"do": order}]}).encode()
    return serving.call("POST", f"/api/millpond/scoring/invocations?model={uri}", body, token=token)


@contextmanager
def busy(serving: ServingServer, versions: range, token: str) -> Iterator[list[Future[Answer]]]:
    """Some versions answer, all at once, for a while."""
    with ThreadPoolExecutor(len(versions)) as threads:
        asked = [threads.submit(ask, serving, version, "hang:8", token) for version in versions]
        pools = serving.runtime.by_uri
        wait_until(lambda: sum(_is_at_work(each) for each in pools._begun.values()) == len(versions), timeout_s=60,
                   what="all of them at work")  # fmt: skip
        yield asked


def _is_at_work(begun: Any) -> bool:
    return any(worker.busy for worker in begun.pool.workers)


def test_a_user_has_a_share_and_takes_from_nobody_else(serving: ServingServer) -> None:
    serving.source.versions.update({("obedient", str(version)): "obedient" for version in range(1, 10)})
    ann = serving.user("ann@example.com")
    serving.source.owner = "ann@example.com"  # administrators read them anyway
    kept = ask(serving, 9, "pid", serving.token).json["predictions"]
    with busy(serving, range(1, 1 + MOST_OF_ONE), ann) as asked:
        refused = ask(serving, 5, "pid", ann)
        assert (refused.status, refused.json["error_code"]) == (429, "RESOURCE_EXHAUSTED")
        assert (
            f"{MOST_OF_ONE} models that you ask by their URI are busy, which is your share" in refused.json["message"]
        )
        assert int(refused.headers["retry-after"]) > 0
        assert ask(serving, 9, "pid", ann).json["predictions"] == kept, "what another one has begun may be asked"
        assert ask(serving, 8, "pid", serving.token).status == 200, "another one begins others"
        first = serving.runtime.by_uri._begun
        assert {each.asker for each in first.values()} == {"ann@example.com", serving.admin.name}
    assert [each.result().json for each in asked] == [{"predictions": ["late"]}] * MOST_OF_ONE
    before = ask(serving, 3, "pid", ann).json
    for version in (5, 6, 7):  # her own give way, one after the other
        assert ask(serving, version, "pid", ann).status == 200
    assert ask(serving, 9, "pid", serving.token).json["predictions"] == kept
    assert ask(serving, 3, "pid", ann).json != before
