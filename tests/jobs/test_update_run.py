"""What an update tells reaches the server, whatever happens on the way."""

import json
from http.client import BadStatusLine
from io import BytesIO
from typing import Any

from millpond.jobs.update_run import Telling
from millpond.kernel.redaction import Redactor
from millpond.sdk.dbutils.api import Api


class Broken(Api):
    """A server that breaks off once while it answers."""

    def __init__(self) -> None:
        self.calls = 0
        self.taken: list[int] = []

    def open(self, *_: Any, data: Any = None, **__: Any) -> Any:
        self.calls += 1
        if self.calls == 1:
            raise BadStatusLine("")
        self.taken += [each["sequence"] for each in json.loads(data)["events"]]
        return BytesIO()


def test_events_are_sent_again_when_an_answer_broke_off() -> None:
    api = Broken()
    told = Telling(api, Redactor([]))
    told.emit({"message": "one"})
    told.emit({"message": "two"})
    told.close()
    assert api.taken == [1, 2]
