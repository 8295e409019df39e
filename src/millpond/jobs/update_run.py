"""Runs an update of a pipeline, and tells the server what it does as it goes. It runs in tasks."""

import json
import threading
import time
import traceback
from collections import deque
from collections.abc import Mapping
from http.client import HTTPException
from typing import Any

from millpond.kernel.redaction import Redactor
from millpond.sdk.dbutils.api import Api

PATH = "/api/millpond/pipelines/updates/events"
MOST_AT_ONCE = 200
LARGEST_BYTES = 32 << 10
"""Of an event; what is larger loses its details."""
_FLUSH_S = 0.3
_PATIENCE_S = 60.0
"""For a server that does not answer, once the update has ended."""
_LONGEST_TRACE = 8000


def run_update(spec: Mapping[str, Any], api: Api, redactor: Redactor) -> dict[str, Any]:
    """Run it to its end; how it ended, as `result.json` says it."""
    from millpond.sdk.pipelines.run import PipelineFailed, run

    told = Telling(api, redactor)
    try:
        run(dict(spec), told.emit)
    except PipelineFailed as error:
        return {"ok": False, "message": str(error), "error": _trace(error)}
    finally:
        told.close()
    return {"ok": True}


class Telling:
    """Sends events in their order, each once, in the background."""

    def __init__(self, api: Api, redactor: Redactor) -> None:
        self._api = api
        self._redactor = redactor
        self._waiting: deque[dict[str, Any]] = deque()
        self._sequence = 0
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._send_all, name="pipeline-events", daemon=True)
        self._thread.start()

    def emit(self, event: Mapping[str, Any]) -> None:
        """Tell an event, soon."""
        told = self._bounded(self._clean(json.loads(json.dumps(event, default=str))))
        with self._lock:
            self._sequence += 1
            self._waiting.append({**told, "sequence": self._sequence})

    def close(self) -> None:
        """Return when all is told, or the server does not take it any more."""
        self._ended.set()
        self._thread.join()

    def _send_all(self) -> None:
        until = None
        while True:
            ended = self._ended.wait(_FLUSH_S)
            answered = self._send()
            if not ended:
                continue
            until = until or time.monotonic() + _PATIENCE_S
            if not self._waiting or time.monotonic() > until:
                return
            if not answered:
                time.sleep(_FLUSH_S)

    def _send(self) -> bool:
        """Send what waits; whether the server answered. Where somebody else has the task, nobody is told."""
        while some := list(self._waiting)[:MOST_AT_ONCE]:
            body = json.dumps({"events": some}).encode()
            try:
                self._api.open("POST", PATH, data=body, headers={"Content-Type": "application/json"}).close()
            except (PermissionError, FileNotFoundError):
                self._waiting.clear()
                return True
            except (OSError, RuntimeError, HTTPException) as error:
                print(f"The server did not take events of the update: {error}")
                return False
            for _ in some:
                self._waiting.popleft()
        return True

    def _clean(self, value: Any) -> Any:
        """Without secrets, wherever they stand."""
        if isinstance(value, str):
            return self._redactor.clean(value)
        if isinstance(value, dict):
            return {self._redactor.clean(str(key)): self._clean(item) for key, item in value.items()}
        return [self._clean(item) for item in value] if isinstance(value, list) else value

    def _bounded(self, event: dict[str, Any]) -> dict[str, Any]:
        if len(json.dumps(event)) <= LARGEST_BYTES:
            return event
        names = ("event_type", "level", "origin", "maturity_level")
        kept: dict[str, Any] = {name: event[name] for name in names if name in event}
        cut = [name for name in ("details", "error") if name in event]
        return {**kept, "message": str(event.get("message", ""))[: LARGEST_BYTES // 4], "truncated": cut}


def _trace(error: BaseException) -> str:
    return "".join(traceback.format_exception(error))[-_LONGEST_TRACE:]
